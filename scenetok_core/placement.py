"""What a pipeline is about to use, told to whoever manages the memory of the device: one network per stage."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .autoencoders import Autoencoder

Place = Callable[[nn.Module, int], torch.device]  # (network, bytes to work with beside its weights) -> its device now


def stay(network: nn.Module, needed: int) -> torch.device:
    """The `Place` that leaves every network where it is."""
    return next(network.parameters()).device


def encode_frames(
    autoencoder: Autoencoder, frames: Tensor, place: Place, generator: torch.Generator | None = None
) -> Tensor:
    """Latents of frames, coded on the device where `place` brings the autoencoder; as `Autoencoder.encode`."""
    if autoencoder.network is not None:
        frames = frames.to(place(autoencoder.network, autoencoder.encode_bytes(frames)))
    return autoencoder.encode(frames, generator)


def decode_latents(autoencoder: Autoencoder, latents: Tensor, place: Place) -> Tensor:
    """Frames of latents, coded on the device where `place` brings the autoencoder; shapes as `Autoencoder.decode`."""
    if autoencoder.network is not None:
        latents = latents.to(place(autoencoder.network, autoencoder.decode_bytes(latents)))
    return autoencoder.decode(latents)
