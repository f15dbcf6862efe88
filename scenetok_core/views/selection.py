"""Which views to encode: sharp ones, spread far apart, around a middle view."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..camera import camera_extent, pose_distance
from ..types import Cameras, check_shape

_LUMINANCE = (0.2126, 0.7152, 0.0722)
_LAPLACIAN = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))
_DARKEST = 1e-3
# A view is blurred compared with this many views around it, which look at similar things.
_NEIGHBOURS = 8
# Even if up to this share of them is blurred too.
_SHARP_SHARE = 0.75
_LEAST_WEIGHT = 0.01
# Distances closer than this share count as equal, so that the unit of the capture cannot decide between two views.
_TIE = 1e-4


def sharpness(
    rgb: Tensor,  # [V, 3, H, W] in [0, 1], H and W at least 3
) -> Tensor:
    """Variance of the Laplacian of the luminance over its squared mean, [V]; higher is sharper.

    Dividing by the mean makes a picture and its brighter or darker copy equally sharp.

    Raises:
        ValueError: wrong shape or pictures smaller than 3 x 3.
    """
    check_shape("rgb", rgb, (None, 3, None, None))
    if rgb.ndim != 4 or min(rgb.shape[-2:]) < 3:
        raise ValueError(f"rgb must have shape [V, 3, H, W] with H, W >= 3, got {list(rgb.shape)}")
    # One picture at a time: a long capture of large photographs would not fit in memory a second time.
    return torch.stack([_sharpness(picture) for picture in rgb])


def _sharpness(picture: Tensor) -> Tensor:
    weights = torch.tensor(_LUMINANCE, device=picture.device)
    luminance = torch.einsum("chw,c->hw", picture.float(), weights)
    detail = F.conv2d(luminance[None, None], torch.tensor(_LAPLACIAN, device=picture.device)[None, None])
    return detail.var(correction=0) / luminance.mean().clamp(min=_DARKEST).square()


def _distances(cameras: Cameras) -> Tensor:
    """Pose distances [V, V], float64: one camera extent of translation counts as much as one radian of rotation."""
    if cameras.c2w.ndim != 3:
        raise ValueError(f"choosing views needs the cameras of one scene [V, 4, 4], got c2w {list(cameras.c2w.shape)}")
    c2w = cameras.c2w.detach().cpu().double()
    c2w[:, :3, 3] = (c2w[:, :3, 3] - c2w[:, :3, 3].mean(0)) / (camera_extent(cameras) or torch.inf)
    return pose_distance(c2w).sqrt().fill_diagonal_(0)


def _first_best(cost: Tensor) -> int:
    """The first index whose cost is the smallest up to rounding."""
    smallest = cost.min()
    return int((cost <= smallest + _TIE * smallest.abs()).nonzero()[0])


def _blur_weights(sharp: Tensor, distances: Tensor) -> Tensor:
    """Weights [V] in (0, 1]: below 1 where a view is less sharp than the views around it."""
    count = min(_NEIGHBOURS + 1, len(sharp))
    around = sharp[distances.topk(count, dim=1, largest=False).indices].quantile(_SHARP_SHARE, dim=1)
    return (sharp / around.clamp(min=torch.finfo(sharp.dtype).tiny)).clamp(_LEAST_WEIGHT, 1.0)


def middle_view(cameras: Cameras) -> int:
    """The view with the smallest sum of distances to all others (the first one on a tie): the choice of reference.

    Raises:
        ValueError: cameras of several scenes.
    """
    return _first_best(_distances(cameras).sum(dim=1))


def select_views(
    cameras: Cameras,  # V cameras of one scene
    count: int,
    sharpness: Tensor | None = None,  # [V] >= 0, see `sharpness`
    seed_view: int | None = None,
) -> list[int]:
    """Choose `count` views far apart from each other by farthest point sampling on pose distance.

    Translation is measured in camera extents, so the unit of the capture does not matter. With `sharpness`, a view
    that is less sharp than those around it counts as closer than it is, in proportion, and is taken only when nothing
    else is left to see from there.

    Args:
        cameras: the cameras to choose from.
        count: how many views to take; all of them when there are no more.
        sharpness: one number per view from `sharpness`; None = every view is equally good.
        seed_view: a view that must be taken; None = the (sharp) middle view.

    Returns:
        Indices in input order, the same on every call.

    Raises:
        ValueError: `count` < 1, a wrong number of sharpness values, or `seed_view` that does not exist.
    """
    total = len(cameras)
    if count < 1:
        raise ValueError(f"count must be at least 1 view, got {count}")
    if sharpness is not None and tuple(sharpness.shape) != (total,):
        raise ValueError(f"sharpness must hold one value per view ({total}), got shape {list(sharpness.shape)}")
    if seed_view is not None and not 0 <= seed_view < total:
        raise ValueError(f"seed_view must be between 0 and {total - 1}, got {seed_view}")
    if count >= total:
        return list(range(total))
    distances = _distances(cameras)
    weights = torch.ones(total, dtype=torch.float64)
    if sharpness is not None:
        weights = _blur_weights(sharpness.detach().cpu().double(), distances)
    chosen = [_first_best((distances.sum(dim=1) + _TIE) / weights) if seed_view is None else seed_view]
    nearest = distances[chosen[0]].clone()
    while len(chosen) < count:
        # The small constant lets sharpness decide between views that stand in one place.
        score = (nearest + _TIE) * weights
        score[chosen] = -1.0
        chosen.append(_first_best(-score))
        nearest = torch.minimum(nearest, distances[chosen[-1]])
    return sorted(chosen)
