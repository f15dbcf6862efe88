"""What a pipeline is about to use, told to whoever manages the memory of the device: one network per stage."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .autoencoders import Autoencoder

Place = Callable[[nn.Module, int], torch.device]  # (network, bytes to work with beside its weights) -> its device now
Room = Callable[[nn.Module], int]  # network -> bytes it may have to work with when others have left its device


@dataclass(frozen=True)
class Exhaustion:
    """How a pipeline learns that the memory of a device ran out, and whom it tells that it goes on with less at once.

    `relieve` is told what follows, after all that the failed attempt held was let go: it may log, and free caches.
    """

    errors: tuple[type[Exception], ...] = (torch.cuda.OutOfMemoryError,)
    relieve: Callable[[str], None] = warnings.warn


def no_memory(doing: str, error: Exception) -> Exception:
    """The error to raise when half of a pass does not fit either, with what to do about it."""
    return torch.cuda.OutOfMemoryError(
        f"out of memory while {doing}, with a smaller pass too ({error}): ask for fewer frames at once "
        "(views_per_pass), load the model in a smaller number format (dtype bf16), leave guidance off (1.0), or free "
        "memory of the device"
    )


class Stages:
    """A `Place` that asks another one only when a network's turn begins, or when it needs more than before."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._network: nn.Module | None = None
        self._needed = 0
        self._device = torch.device("cpu")

    def __call__(self, network: nn.Module, needed: int) -> torch.device:
        """As `Place`."""
        if network is not self._network or needed > self._needed:
            self._network = None  # none has its turn if this fails
            self._device = self._place(network, needed)
            self._network, self._needed = network, needed
        return self._device


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
    """Frames of latents, coded on the device where `place` brings the autoencoder; as `decode_unclamped`."""
    if autoencoder.network is not None:
        latents = latents.to(place(autoencoder.network, autoencoder.decode_bytes(latents)))
    return autoencoder.decode_unclamped(latents)


def fits_whole(autoencoder: Autoencoder, shape: tuple[int, ...], room: Room) -> bool:
    """Whether there is room to decode latents of `shape` [B, L, C, h, w] in one piece."""
    network = autoencoder.network
    return network is None or autoencoder.seamless.decode_bytes(torch.empty(shape, device="meta")) <= room(network)
