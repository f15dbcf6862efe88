"""Where the scenes of a run come from, and the form in which tasks take them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from scenetok_core.types import Cameras
from training.config import TrainConfig
from training.data.loader import Dataset
from training.data.rooms import Rooms


@dataclass(frozen=True, eq=False)
class Frames:
    """T posed frames of each of B scenes: as pictures of the model's size, or as latents of its autoencoder.

    Raises:
        ValueError: neither pictures nor latents.
    """

    cameras: Cameras  # c2w [B, T, 4, 4], K [B, T, 3, 3] of these pictures
    rgb: Tensor | None = None  # [B, T, 3, H, W] in [0, 1]
    latents: Tensor | None = None  # [B, L, C, h, w], normalised
    depth: Tensor | None = None  # [B, T, H, W] along the camera's z axis, in the cameras' units; 0 where unknown

    def __post_init__(self) -> None:
        if self.rgb is None and self.latents is None:
            raise ValueError("frames need pictures or latents, got neither")

    def to(self, device: torch.device | str) -> Frames:
        """The same frames on another device."""
        parts = (part if part is None else part.to(device) for part in (self.rgb, self.latents, self.depth))
        return Frames(self.cameras.to(device), *parts)


@dataclass(frozen=True, eq=False)
class Batch:
    """What a source of posed videos gives to a task; input views are sorted along the video."""

    context: Frames  # the input views
    target: Frames  # frames of the same scenes: whole groups of consecutive ones where the autoencoder takes groups

    def to(self, device: torch.device | str) -> Batch:
        """The same scenes on another device."""
        return Batch(self.context.to(device), self.target.to(device))


def _rooms(config: TrainConfig, device: torch.device) -> Dataset:
    return Rooms(config.data.rooms, device, compile=config.run.compile_rooms)


_SOURCES: Mapping[str, Callable[[TrainConfig, torch.device], Dataset]] = {"rooms": _rooms}  # by data.kind


def build_dataset(config: TrainConfig, device: torch.device) -> Dataset:
    """The source of scenes that `data.kind` names; it may make them on `device`."""
    return _SOURCES[config.data.kind](config, device)
