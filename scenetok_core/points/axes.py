"""From the world of a capture to the axes of files that 3D programs open."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ..trajectories.framing import estimate_up, look_at
from ..types import Cameras

_FLIP = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))


def _upright(cameras: Cameras) -> Tensor:
    """Rotation to axes x right, y up, z backward of the first camera, were it held level."""
    up, first = estimate_up(cameras).double(), cameras.c2w[0].double()
    ahead = first[:3, 2] - (first[:3, 2] @ up) * up
    return _FLIP @ look_at(torch.zeros(3), ahead, up, first[:3, :3]).T


# From the world of the cameras to the file, by name: rotations [3, 3], float64.
AXES: Mapping[str, Callable[[Cameras], Tensor]] = {
    "upright": _upright,
    "flipped": lambda cameras: _FLIP,
    "input": lambda cameras: torch.eye(3, dtype=torch.float64),
}


def check_axes(axes: str) -> None:
    """Raise `ValueError` unless `axes` are some that `file_points` knows."""
    if axes not in AXES:
        raise ValueError(f"unknown axes {axes!r}; choose one of {', '.join(AXES)}")
