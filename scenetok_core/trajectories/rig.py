"""What every path shares: the place it starts from, and the way between cameras and keys."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..types import Cameras
from ..views.selection import middle_view
from .framing import estimate_up, focus_point, look_at, one_scene
from .splines import Keys, matrix_from_quaternion, quaternion_from_matrix


class Rig(NamedTuple):
    """Where a path starts."""

    cameras: Cameras
    reference: int
    position: Tensor  # [3] float64
    rotation: Tensor  # [3, 3] float64, the reference camera's own
    pivot: Tensor  # [3] float64
    up: Tensor  # [3] float64
    device: torch.device  # of the caller's cameras; all else is on the CPU

    @property
    def aimed(self) -> Tensor:
        """The reference camera turned to look at the pivot, [3, 3]."""
        return look_at(self.position, self.pivot, self.up, self.rotation)

    @property
    def intrinsics(self) -> Tensor:
        """The reference camera's intrinsics [3, 3], float64."""
        return self.cameras.K[self.reference].double()

    @property
    def distance(self) -> Tensor:
        """From the reference camera to the pivot, scene units."""
        return (self.pivot - self.position).norm()

    def path(self, position: Tensor, rotation: Tensor) -> Cameras:
        """Cameras with the reference camera's intrinsics; [T, 3] and [T, 3, 3], either one may be broadcast."""
        frames = max(position.shape[0] if position.ndim == 2 else 1, rotation.shape[0] if rotation.ndim == 3 else 1)
        return self.zoomed(
            position.expand(frames, 3), rotation.expand(frames, 3, 3), self.intrinsics.expand(frames, 3, 3)
        )

    def zoomed(self, position: Tensor, rotation: Tensor, K: Tensor) -> Cameras:
        """Cameras with intrinsics of their own; [T, 3], [T, 3, 3] and [T, 3, 3]."""
        return posed(self.cameras, position, rotation, K).to(self.device)


def start_rig(cameras: Cameras, reference: int | None, focus_distance: float | None) -> Rig:
    """The reference camera (None = the middle view), the pivot before it and the world's up direction.

    Raises:
        ValueError: cameras of several scenes, an unknown reference view, or a focus distance that is not positive.
    """
    scene = one_scene(cameras)
    index = middle_view(scene) if reference is None else reference
    if not 0 <= index < len(scene):
        raise ValueError(f"reference view must be between 0 and {len(scene) - 1}, got {reference}")
    if focus_distance is not None and not (math.isfinite(focus_distance) and focus_distance > 0):
        raise ValueError(f"focus_distance must be a positive length in scene units, got {focus_distance}")
    position = scene.centers[index].double()
    rotation = matrix_from_quaternion(quaternion_from_matrix(scene.c2w[index, :3, :3]))
    pivot = focus_point(scene).double() if focus_distance is None else position + rotation[:, 2] * focus_distance
    return Rig(scene, index, position, rotation, pivot, estimate_up(scene).double(), cameras.c2w.device)


def posed(like: Cameras, position: Tensor, rotation: Tensor, K: Tensor) -> Cameras:
    """Cameras [T] at `position` [T, 3] with `rotation` [T, 3, 3] and `K` [T, 3, 3]; size, unit, device as of `like`."""
    c2w = torch.eye(4, dtype=torch.float64).repeat(len(position), 1, 1)
    c2w[:, :3, :3], c2w[:, :3, 3] = rotation, position
    device = like.c2w.device
    return like.replace(c2w=c2w.to(device), K=K.to(device), names=())


def to_keys(cameras: Cameras) -> Keys:
    """The cameras of one scene as keys. Raises `ValueError` for a batch of scenes."""
    scene = one_scene(cameras)
    return Keys(scene.centers.double(), quaternion_from_matrix(scene.c2w[:, :3, :3]), scene.K.double())


def from_keys(like: Cameras, keys: Keys) -> Cameras:
    """Keys as cameras; size, unit and device as of `like`."""
    return posed(like, keys.position, matrix_from_quaternion(keys.quaternion), keys.K)
