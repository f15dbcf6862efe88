"""Whether point maps agree with the cameras that they were asked for."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from scenetok_core.camera import ray_map
from scenetok_core.rae import PointMaps


def ray_degrees(maps: PointMaps) -> Tensor:
    """Mean angle [T] in degrees between the direction of a point and the ray through the centre of its pixel."""
    size = (maps.points.shape[-2], maps.points.shape[-1])
    origins, directions = ray_map(maps.cameras.c2w, maps.cameras.K, size)
    towards = F.normalize(maps.points - origins, dim=1)
    across = torch.linalg.cross(towards, directions, dim=1).norm(dim=1)
    along = (towards * directions).sum(1)
    return torch.rad2deg(torch.atan2(across, along)).mean((1, 2))
