"""How far a rendering is off its camera, in worlds that can be rendered from anywhere.

The truth is drawn at poses offset around the one asked for, and the offset whose picture matches best is taken. It
works on pictures of any size, where estimates from feature points need large ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scenetok_core.trajectories.splines import rotation_about
from scenetok_core.types import Cameras


@dataclass(frozen=True)
class OffsetGrid:
    """Offsets that are tried along one axis at a time, in rising order, 0 among them."""

    degrees: tuple[float, ...] = (*range(-30, -8, 5), *range(-8, 10, 2), *range(10, 35, 5))  # tilts and turns
    units: tuple[float, ...] = tuple(step / 10 for step in range(-5, 6))  # right, down and forward, in scene units

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Degrees and units, float32."""
        return torch.tensor(self.degrees, dtype=torch.float32), torch.tensor(self.units, dtype=torch.float32)


@dataclass(frozen=True)
class PoseOffset:
    """The offset at which a picture matches the truth best."""

    degrees: float  # norm of tilt and turn
    units: float  # norm of the movements, scene units


@dataclass(frozen=True)
class OffsetSearch:
    """The truth around one camera, with which pictures are compared."""

    grid: OffsetGrid
    truths: Tensor  # [2 * degrees + 3 * units, 3, H, W]

    @classmethod
    def around(
        cls, camera: Cameras, world: Callable[[Cameras], Tensor], grid: OffsetGrid | None = None
    ) -> OffsetSearch:
        """Draw the truth around `camera` (one view); `world` maps N cameras to pictures [N, 3, H, W]."""
        grid = grid or OffsetGrid()
        return cls(grid, world(offset_cameras(camera, grid)))

    def match(self, picture: Tensor, within_degrees: float | None = None) -> PoseOffset:
        """The offsets at which a picture [3, H, W] differs least (mean square), axis by axis; the first of equal ones.

        Args:
            picture: made for the camera in the middle.
            within_degrees: no larger rotations are considered; None: all.
        """
        differences = (self.truths - picture).square().mean((1, 2, 3))
        degrees, units = self.grid.tensors()
        turned = differences[: 2 * len(degrees)].view(2, -1)
        moved = differences[2 * len(degrees) :].view(3, -1)
        if within_degrees is not None:
            turned, degrees = turned[:, degrees.abs() <= within_degrees], degrees[degrees.abs() <= within_degrees]
        return PoseOffset(float(degrees[turned.argmin(1)].norm()), float(units[moved.argmin(1)].norm()))


def offset_cameras(camera: Cameras, grid: OffsetGrid) -> Cameras:
    """One camera [1, 4, 4] offset along every axis: tilts, turns, then right, down, forward; in the camera's frame."""
    degrees, units = grid.tensors()
    rotations = [rotation_about(axis, torch.deg2rad(degrees)).float() for axis in torch.eye(3)[:2]]
    moves = torch.eye(4).repeat(3 * len(units), 1, 1)
    moves[:, :3, 3] = (torch.eye(3)[:, None] * units[:, None]).flatten(0, 1)
    turned = camera.c2w.repeat(2 * len(degrees), 1, 1)
    turned[:, :3, :3] @= torch.cat(rotations)
    c2w = torch.cat([turned, camera.c2w @ moves])
    return camera.replace(c2w=c2w, K=camera.K.expand(len(c2w), 3, 3), names=())
