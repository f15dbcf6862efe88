"""How much detail pictures have, and whether it is the right one: what a blur cannot pass."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

_NO_DETAIL = 1e-2  # norm of a band far above rounding errors and far below any picture's


def gradient_energy(rgb: Tensor) -> Tensor:
    """Mean squared difference between neighbouring pixels: [N, 3, H, W] -> [N]."""
    return sum((rgb.diff(dim=dim).square().mean((1, 2, 3)) for dim in (-1, -2)), torch.zeros(len(rgb)))


def laplacian_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Correlation of the finest Laplacian bands (undecimated) of pictures [N, 3, H, W]: [N]; 0 without any detail."""
    bands = [_finest_band(x).flatten(1) for x in (a, b)]
    bands = [band - band.mean(1, keepdim=True) for band in bands]
    norms = [band.norm(dim=1).clamp_min(_NO_DETAIL) for band in bands]
    return (bands[0] * bands[1]).sum(1) / (norms[0] * norms[1])


def _finest_band(rgb: Tensor) -> Tensor:
    taps = torch.tensor([1.0, 4, 6, 4, 1]) / 16
    kernel = (taps[:, None] * taps).expand(3, 1, 5, 5)
    return rgb - F.conv2d(F.pad(rgb, (2, 2, 2, 2), mode="reflect"), kernel, groups=3)


def matching_side(quality: float, curve: Mapping[int, float]) -> float:
    """The side at which the rising quality of thumbnails (dB by side) reaches `quality`, within the sides measured."""
    sides = sorted(curve)
    best = sides[0]
    for side in sides[1:]:
        if curve[side] > curve[best]:
            if quality <= curve[side]:
                rise = (quality - curve[best]) / (curve[side] - curve[best])
                return best + max(0.0, rise) * (side - best)
            best = side
    return float(best)
