"""The loss of point maps and their confidence (VGGT, arXiv 2503.11651, section 3.4), and points from depth."""

from __future__ import annotations

import torch
from torch import Tensor

from scenetok_core.camera import ray_map
from scenetok_core.types import Cameras

_GRADIENT_SCALES = 3
_FARTHEST = 30.0  # points beyond this distance from the origin, in the scene's frame, are as good as unknown
_NEAREST = 1e-6


def points_of_depth(
    depth: Tensor,  # [B, T, H, W] along the camera's z axis, in the scene's frame; not positive where unknown
    cameras: Cameras,  # [B, T] in the scene's frame
) -> tuple[Tensor, Tensor]:
    """Points [B, T, 3, H, W] in the scene's frame, and where they are known [B, T, H, W]."""
    size = (depth.shape[-2], depth.shape[-1])
    origins, directions = ray_map(cameras.c2w, cameras.K, size)
    cosine = (directions * cameras.forward[..., None, None]).sum(-3)
    known = (depth > 0) & depth.isfinite()
    along = torch.where(known, depth, 0) / cosine
    points = origins + directions * along[..., None, :, :]
    return points, known & (points.norm(dim=-3) < _FARTHEST)


def point_loss(
    points: Tensor,  # [B, T, 3, H, W]
    confidence: Tensor,  # [B, T, H, W] > 0
    truth: Tensor,  # [B, T, 3, H, W]
    known: Tensor,  # [B, T, H, W] bool
    alpha: float,  # of the logarithm of the confidence
) -> Tensor:
    """Errors and their gradients, weighted by the confidence, which must not be small: [B]; 0 where nothing is known.

    Lengths are relative to the mean distance of a scene's known points from the origin, so all scenes count the same;
    the best confidence is then alpha over the relative error to expect.
    """
    mean_distance = _mean(truth.norm(dim=-3), known).clamp_min(_NEAREST)
    error = (points - truth) / mean_distance[:, None, None, None, None]
    total = _mean(confidence * error.norm(dim=-3) - alpha * confidence.log(), known)
    for scale in range(_GRADIENT_SCALES):
        step = 2**scale
        coarse, sure, there = error[..., ::step, ::step], confidence[..., ::step, ::step], known[..., ::step, ::step]
        for dim in (-1, -2):
            if coarse.shape[dim] < 2:
                continue
            both = there.narrow(dim, 1, there.shape[dim] - 1) & there.narrow(dim, 0, there.shape[dim] - 1)
            weight = sure.narrow(dim, 1, sure.shape[dim] - 1)
            total = total + _mean(weight * coarse.diff(dim=dim).abs().sum(-3), both) / _GRADIENT_SCALES
    return total


def points_and_logs(
    points: Tensor, confidence: Tensor, truth: Tensor, known: Tensor, alpha: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """As `point_loss`, with scalars to log: the loss, and the distance from the truth over that from the origin."""
    losses = point_loss(points, confidence, truth, known, alpha)
    error = (points - truth).norm(dim=2) / truth.norm(dim=2).clamp_min(_NEAREST)
    counted = known.flatten(1).any(1)  # scenes without depth have no loss; NaN where none has one
    return losses, {
        "loss_points": losses.detach()[counted].mean(),
        "error_points": error[known].detach().mean(),
    }


def _mean(values: Tensor, where: Tensor) -> Tensor:
    """Mean per scene [B] over the pixels that count."""
    kept = torch.where(where, values, 0).flatten(1).sum(1)
    return kept / where.flatten(1).sum(1).clamp_min(1)
