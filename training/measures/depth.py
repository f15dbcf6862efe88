"""Errors of depth maps, as published since Eigen et al. (2014)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_INLIER = 1.25


@dataclass(frozen=True)
class DepthErrors:
    """Errors of N depth maps; NaN where a map has no pixel with a true depth."""

    abs_rel: Tensor  # [N] mean of |depth - true depth| / true depth; 0 is best
    delta: Tensor  # [N] share of pixels within a factor of 1.25 of the truth, in [0, 1]; 1 is best


def depth_errors(depth: Tensor, truth: Tensor, median_scaling: bool = False) -> DepthErrors:
    """Compare depth maps with the truth.

    Args:
        depth: [N, H, W] along the camera's z axis, in the truth's unit. Depths that are not positive or not finite
            count as wrong (no inliers) and as 0 in the relative error.
        truth: [N, H, W]; pixels whose true depth is not positive or not finite are left out.
        median_scaling: first multiply every map so that its median, over the pixels with a true depth, is the truth's:
            for models that know depth up to a factor.

    Raises:
        ValueError: different shapes.
    """
    if depth.shape != truth.shape or depth.ndim != 3:
        raise ValueError(f"depth maps must both be [N, H, W], got {list(depth.shape)} and {list(truth.shape)}")
    pairs = [_errors(*maps, median_scaling) for maps in zip(depth.double(), truth.double(), strict=True)]
    abs_rel, delta = (torch.tensor(column, dtype=torch.float64) for column in zip(*pairs, strict=True))
    return DepthErrors(abs_rel, delta)


def _errors(depth: Tensor, truth: Tensor, median_scaling: bool) -> tuple[float, float]:
    known = truth.isfinite() & (truth > 0)
    depth, truth = depth[known], truth[known]
    depth = torch.where(depth.isfinite() & (depth > 0), depth, 0.0)
    if median_scaling and len(depth) and depth.median() > 0:
        depth = depth * (truth.median() / depth.median())
    ratio = torch.maximum(depth / truth, truth / depth)
    return float(((depth - truth).abs() / truth).mean()), float((ratio < _INLIER).double().mean())


def best_constant(truth: Tensor) -> Tensor:
    """The one depth with the least relative error for all pixels of `truth`, their median weighted by inverse depth.

    Args:
        truth: any shape; depths that are not positive or not finite do not count, but one must.
    """
    known = truth[truth.isfinite() & (truth > 0)].sort().values
    weights = (1 / known.double()).cumsum(0)
    return known[int(torch.searchsorted(weights, weights[-1] / 2))]


def align_inverse(depth: Tensor, truth: Tensor) -> Tensor:
    """Depth whose inverse fits the truth's best, map by map, after a factor and an offset (least squares).

    For models that know inverse depth up to these, as published for MiDaS (Ranftl et al. 2020).

    Args:
        depth: [N, H, W], positive.
        truth: [N, H, W]; pixels whose true depth is not positive or not finite do not count.

    Returns:
        [N, H, W]; inverse depth that falls below a thousandth of the truth's median is raised to that.
    """
    return torch.stack([_aligned(*maps) for maps in zip(depth, truth, strict=True)])


def _aligned(depth: Tensor, truth: Tensor) -> Tensor:
    known = truth.isfinite() & (truth > 0)
    if not bool(known.any()):
        return depth
    inverse, wanted = 1 / depth.double(), 1 / truth[known].double()
    given = inverse[known]
    spread = (given - given.mean()).square().mean()
    factor = ((given - given.mean()) * wanted).mean() / spread if spread > 0 else torch.zeros_like(spread)
    fitted = wanted.mean() + factor * (inverse - given.mean())
    return (1 / fitted.clamp_min(1e-3 * float(wanted.median()))).to(depth.dtype)
