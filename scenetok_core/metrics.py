"""Picture quality measures on RGB in [0, 1]."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_WINDOW, _SIGMA = 11, 1.5


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB per picture: [..., 3, H, W] -> [...]; identical pictures give 100."""
    return -10 * (a.float() - b.float()).square().mean((-3, -2, -1)).clamp_min(1e-10).log10()


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity per picture (Wang et al. 2004, Gaussian window 11, sigma 1.5): [..., 3, H, W] -> [...].

    Raises:
        ValueError: different shapes, or a side below the 11 pixels of the window.
    """
    if a.shape != b.shape or min(a.shape[-2:]) < _WINDOW:
        raise ValueError(
            f"ssim compares pictures of one shape with sides of at least {_WINDOW} pixels, got {list(a.shape)} and "
            f"{list(b.shape)}"
        )
    lead = a.shape[:-3]
    x, y = (t.float().reshape(-1, 1, *t.shape[-2:]) for t in (a, b))
    taps = torch.arange(_WINDOW, device=x.device) - _WINDOW // 2
    kernel = torch.exp(-taps.square() / (2 * _SIGMA**2))
    kernel = kernel / kernel.sum()

    def blur(t: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(t, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))

    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    top = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    bottom = (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    return (top / bottom).mean((-3, -2, -1)).reshape(*lead, -1).mean(-1)
