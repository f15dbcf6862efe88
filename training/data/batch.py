"""What a training step takes from any source of posed videos."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scenetok_core.types import Cameras


@dataclass(frozen=True)
class Batch:
    """B scenes, each with V context views and T target frames, as pictures or as latents of the two autoencoders.

    Targets are whole groups of the target autoencoder (`LatentSpec.group_frames`). Cameras are in the units and axes of
    their data set, not yet relative to the reference view.
    """

    context: Tensor  # [B, V, 3, H, W] in [0, 1], or latents [B, V, C, h, w]
    target: Tensor  # [B, T, 3, H, W] in [0, 1], or latents [B, L, C, h, w]
    context_cameras: Cameras  # [B, V]
    target_cameras: Cameras  # [B, T]
    reference: Tensor  # [B] int64: the context view that becomes the scene's origin
    encoded: bool = False  # context and target are normalised latents
    names: tuple[str, ...] = ()  # B scenes

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same batch on another device."""
        tensors = ("context", "target", "reference")
        moved = {name: getattr(self, name).to(device, non_blocking=non_blocking) for name in tensors}
        cameras = {name: getattr(self, name).to(device) for name in ("context_cameras", "target_cameras")}
        return dataclasses.replace(self, **moved, **cameras)


@dataclass(frozen=True)
class SceneViews:
    """What a batch holds of one scene."""

    context: Tensor  # [V, 3, H, W] or [V, C, h, w]
    target: Tensor  # [T, 3, H, W] or [L, C, h, w]
    context_cameras: Cameras  # [V]
    target_cameras: Cameras  # [T]
    reference: int
    name: str


def collate(scenes: Sequence[SceneViews], *, encoded: bool) -> Batch:
    """The batch of some scenes with equal numbers of views."""
    return Batch(
        context=torch.stack([scene.context for scene in scenes]),
        target=torch.stack([scene.target for scene in scenes]),
        context_cameras=_stack([scene.context_cameras for scene in scenes]),
        target_cameras=_stack([scene.target_cameras for scene in scenes]),
        reference=torch.tensor([scene.reference for scene in scenes]),
        encoded=encoded,
        names=tuple(scene.name for scene in scenes),
    )


def _stack(cameras: Sequence[Cameras]) -> Cameras:
    sizes = {each.size for each in cameras}
    return Cameras(
        torch.stack([each.c2w for each in cameras]),
        torch.stack([each.K for each in cameras]),
        size=sizes.pop() if len(sizes) == 1 else None,
    )
