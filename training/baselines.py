"""The baseline that knows the exact depth: inputs carried over into the target cameras.

Those that need pictures and cameras alone are `scenetok_core.baselines`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from scenetok_core.baselines import mean_colour, view_distance
from scenetok_core.camera import ray_map
from scenetok_core.types import Cameras, Views

METRE = 1.0  # as much as a radian, in the rooms' unit
_BEHIND = 1e-3


@dataclass(frozen=True)
class Reprojection:
    """Where the points that T target cameras see lie in the pictures of V input cameras."""

    grid: Tensor  # [T, V, H, W, 2] x, y in [-1, 1] across the input picture, as `grid_sample` takes them
    error: (
        Tensor  # [T, V, H, W] relative disagreement of the depths; infinite outside the picture and behind the camera
    )

    def visible(self, tolerance: float, views: int | None = None) -> Tensor:
        """Which target pixels some input sees, or some of the first `views` inputs: [T, H, W] bool."""
        return self.error[:, :views].amin(1) <= tolerance


def reproject(
    targets: Cameras,
    target_depth: Tensor,  # [T, H, W] along z, scene units
    inputs: Cameras,
    input_depth: Tensor,  # [V, H, W]
) -> Reprojection:
    """Project the surface points of the target pixels into every input.

    Input depths are interpolated as inverse depths, which is exact on planes; across an edge the interpolated depth
    belongs to neither side, so that pixels next to it count as unseen.
    """
    origins, directions = ray_map(targets.c2w, targets.K, (target_depth.shape[-2], target_depth.shape[-1]))
    along = (directions * targets.forward[..., None, None]).sum(1, keepdim=True)
    points = origins + directions * (target_depth[:, None] / along)  # [T, 3, H, W]
    w2c = torch.linalg.inv(inputs.c2w)
    local = torch.einsum("vij,tjhw->tvhwi", w2c[:, :3, :3], points) + w2c[:, None, None, :3, 3]
    z = local[..., 2:]
    pixels = torch.einsum("vij,tvhwj->tvhwi", inputs.K, local / z.clamp_min(_BEHIND))[..., :2]
    grid = pixels * 2 - 1
    seen = look_up(input_depth[:, None].reciprocal(), grid)[:, :, 0].reciprocal()
    z = z[..., 0]
    outside = (grid.abs() > 1).any(-1) | (z <= _BEHIND)
    return Reprojection(grid, ((seen - z).abs() / z.clamp_min(_BEHIND)).masked_fill(outside, torch.inf))


def look_up(
    pictures: Tensor,  # [V, C, H, W]
    grid: Tensor,  # [T, V, h, w, 2]
) -> Tensor:
    """Values of every picture at the places of `Reprojection.grid`, bilinear: [T, V, C, h, w]."""
    places = grid.transpose(0, 1).flatten(1, 2)  # [V, T * h, w, 2]
    values = F.grid_sample(pictures, places, padding_mode="border", align_corners=False)
    return values.unflatten(2, (len(grid), -1)).permute(2, 0, 1, 3, 4)


def warp(
    inputs: Views,
    targets: Cameras,
    reprojection: Reprojection,  # of the targets into these inputs
    tolerance: float,
) -> Tensor:
    """Every target pixel from the nearest input that sees it, the mean colour where none does: [T, 3, H, W].

    Among the inputs whose depths agree the nearest is taken, because their agreement differs by rounding errors only.
    """
    colours = look_up(inputs.rgb, reprojection.grid)  # [T, V, 3, H, W]
    seen = reprojection.error <= tolerance
    distance = view_distance(inputs, targets, METRE)[:, :, None, None].masked_fill(~seen, torch.inf)
    best = distance.argmin(1)[:, None, None].expand(-1, 1, 3, -1, -1)
    filled = mean_colour(inputs, len(colours))
    return torch.where(seen.any(1, keepdim=True), colours.gather(1, best)[:, 0], filled)
