"""Flicker of videos along smooth camera paths."""

from __future__ import annotations

from torch import Tensor

_FEWEST = 3


def second_difference(frames: Tensor) -> float:
    """Mean of (x[t - 1] - 2 x[t] + x[t + 1])^2 over all values and inner frames of [T, ...]: 0 for a steady change.

    Raises:
        ValueError: fewer than three frames.
    """
    if len(frames) < _FEWEST:
        raise ValueError(f"flicker needs at least {_FEWEST} frames, got {len(frames)}")
    return float(frames.double().diff(n=2, dim=0).square().mean())


def flicker(frames: Tensor, truth: Tensor) -> float:
    """Second difference over time beyond that of the truth, in squared units of the values.

    The truth has one of its own: edges move, surfaces appear. So 0 is right, positive is flicker, and negative means
    that the frames change more smoothly than the truth, as blurred ones do. Judge it beside a measure of detail.

    Args:
        frames: [T, 3, H, W] pictures in [0, 1], or [T, H, W] depth, along a smooth path.
        truth: the same frames of the truth.

    Raises:
        ValueError: different shapes, or fewer than three frames.
    """
    if frames.shape != truth.shape:
        raise ValueError(f"frames and truth must have one shape, got {list(frames.shape)} and {list(truth.shape)}")
    return second_difference(frames) - second_difference(truth)
