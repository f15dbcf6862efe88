"""What a pipeline is about to use, told to whoever manages the memory of the device: one network per stage."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .autoencoders import Autoencoder

Place = Callable[[nn.Module, int], torch.device]  # (network, bytes to work with beside its weights) -> its device now
Room = Callable[[nn.Module], int]  # network -> bytes it may have to work with when others have left its device


def stay(network: nn.Module, needed: int) -> torch.device:
    """The `Place` that leaves every network where it is."""
    return next(network.parameters()).device


def free_memory(network: nn.Module) -> int:
    """The `Room` of what is free now on the device of `network`; 0 where the system does not tell."""
    device = next(network.parameters()).device
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "cpu" and "SC_AVPHYS_PAGES" in getattr(os, "sysconf_names", {}):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 0


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


def without_seams(autoencoder: Autoencoder, latents: Tensor, room: Room) -> Autoencoder:
    """The autoencoder that decodes these latents in one piece if there is room for that, else the given one."""
    network, whole = autoencoder.network, autoencoder.seamless
    return whole if network is None or whole.decode_bytes(latents) <= room(network) else autoencoder
