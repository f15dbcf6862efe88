"""Does a model know where it errs? Per-pixel spread of samples against the error of their mean."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.measures.availability import require_module


@dataclass(frozen=True)
class Calibration:
    """Pixels sorted by their spread and cut into B bins of (nearly) equal count."""

    spread: Tensor  # [B] root mean square of the predicted standard deviation
    error: Tensor  # [B] root mean square error
    count: Tensor  # [B] pixels

    @property
    def binned_error(self) -> float:
        """Mean over pixels of |spread - error| of their bin, in units of the values; 0 is calibrated.

        The uncertainty calibration error of Laves et al. (2020), on deviations instead of variances.
        """
        return float(((self.spread - self.error).abs() * self.count).sum() / self.count.sum())


def calibration(spread: Tensor, error: Tensor, bins: int = 10) -> Calibration:
    """Bin pixels by their predicted standard deviation.

    Args:
        spread: predicted standard deviation of every pixel, any shape.
        error: absolute (or root mean square) error of every pixel, same shape.
        bins: number of bins, at most the number of pixels.

    Raises:
        ValueError: different shapes, or fewer pixels than bins.
    """
    if spread.shape != error.shape or not 1 <= bins <= spread.numel():
        raise ValueError(
            f"calibration needs spread and error of one shape and at most as many bins as pixels, got "
            f"{list(spread.shape)}, {list(error.shape)} and {bins} bins"
        )
    order = spread.flatten().argsort(stable=True)
    parts = [(spread.flatten()[part].double(), error.flatten()[part].double()) for part in order.tensor_split(bins)]
    spreads, errors = (
        torch.stack([values.square().mean().sqrt() for values in column]) for column in zip(*parts, strict=True)
    )
    return Calibration(spreads, errors, torch.tensor([len(values) for values, _ in parts]))


def rank_correlation(spread: Tensor, error: Tensor) -> float:
    """Spearman's rank correlation of two sets of values of one shape, in [-1, 1]; 0 where either is constant.

    Raises:
        UnavailableError: scipy is not installed.
    """
    stats = require_module("scipy.stats")
    a, b = spread.flatten(), error.flatten()
    if bool((a == a[0]).all()) or bool((b == b[0]).all()):
        return 0.0
    return float(stats.spearmanr(a.cpu().numpy(), b.cpu().numpy()).statistic)


def prediction_error_factor(samples: int) -> float:
    """What the standard deviation of S samples is multiplied by to predict the error of their mean.

    A truth that is one more draw of the same distribution differs from the mean of S samples by sqrt(1 + 1 / S)
    standard deviations (root mean square).
    """
    return (1 + 1 / samples) ** 0.5
