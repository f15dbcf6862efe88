"""Scores of pictures against the truth, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from scenetok_core.baselines import mean_colour, nearest_view, thumbnail
from scenetok_core.metrics import psnr, ssim
from training.baselines import METRE, reproject, warp
from training.protocol import HeldOutScene

OURS = ("posterior_mean", "sample")
MINIMUM_MARGIN_DB = 2.0

_NO_DETAIL = 1e-2  # norm of a band far above rounding errors and far below any picture's
_THUMBNAILS = (8, 16)  # scored as methods of their own
_SMALLEST_SIDE, _LARGEST_SIDE = 2, 32  # of the thumbnails a rendering is compared with

Figures = dict[str, Any]  # numbers, booleans and words


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


@dataclass
class Scores:
    """Measures of many pictures by method: every value is kept, so that means are over pictures."""

    values: dict[str, list[Tensor]] = field(default_factory=dict)

    def add(self, name: str, values: Tensor) -> None:
        """Append the values [N] of some pictures."""
        self.values.setdefault(name, []).append(values)

    def add_pictures(self, method: str, pictures: Tensor, truth: Tensor) -> None:
        """Append all measures of `pictures` [N, 3, H, W] against `truth`."""
        self.add(f"{method}_psnr", psnr(pictures, truth))
        self.add(f"{method}_ssim", ssim(pictures, truth))
        self.add(f"{method}_gradients", gradient_energy(pictures))
        self.add(f"{method}_laplacian_correlation", laplacian_correlation(pictures, truth))

    def mean(self, name: str) -> float:
        """Mean of everything appended under a name."""
        return float(torch.cat(self.values[name]).double().mean())

    def add_baselines(self, scene: HeldOutScene, tolerance: float) -> dict[str, Tensor]:
        """Score every baseline on a scene; returns those that a contact sheet shows."""
        truth, cameras = scene.targets.rgb, scene.targets.cameras
        reprojection = reproject(cameras, scene.target_depth, scene.inputs.cameras, scene.input_depth)
        pictures = {
            "nearest": nearest_view(scene.inputs, cameras, METRE),
            "mean_colour": mean_colour(scene.inputs, len(truth)),
            **{f"thumbnail_{side}": thumbnail(truth, side) for side in _THUMBNAILS},
            "warp": warp(scene.inputs, cameras, reprojection, tolerance),
        }
        for method, made in pictures.items():
            self.add_pictures(method, made, truth)
        for side in thumbnail_sides(truth.shape[-1]):
            self.add(f"side_{side}", psnr(thumbnail(truth, side), truth))
        self.add("truth_gradients", gradient_energy(truth))
        return {method: pictures[method] for method in ("nearest", "warp")}


def thumbnail_sides(image_size: int) -> range:
    """Sides of the thumbnails that renderings are compared with."""
    return range(_SMALLEST_SIDE, min(_LARGEST_SIDE, image_size) + 1)


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


def summarise(scores: Scores, image_size: int) -> Figures:
    """All means, and what follows from them: gap closed, thumbnail that scores the same, margins over the baselines."""
    methods = [name.removesuffix("_ssim") for name in scores.values if name.endswith("_ssim")]
    figures: Figures = {}
    for method in methods:
        for measure in ("psnr", "ssim", "laplacian_correlation"):
            figures[f"{method}_{measure}"] = scores.mean(f"{method}_{measure}")
        figures[f"{method}_gradient_energy"] = scores.mean(f"{method}_gradients") / scores.mean("truth_gradients")
    curve = {side: scores.mean(f"side_{side}") for side in thumbnail_sides(image_size)}
    nearest, colour, warped = (scores.mean(f"{name}_psnr") for name in ("nearest", "mean_colour", "warp"))
    for method in (method for method in OURS if method in methods):
        quality = scores.mean(f"{method}_psnr")
        figures[f"{method}_gap_closed"] = (quality - nearest) / (warped - nearest)
        figures[f"{method}_thumbnail_side"] = matching_side(quality, curve)
    margins = {
        "nearest": scores.mean("posterior_mean_psnr") - nearest,
        "mean_colour": scores.mean("posterior_mean_psnr") - colour,
    }
    for name, margin in margins.items():
        figures[f"margin_over_{name}_db"] = margin
        figures[f"passed_{name}"] = margin >= MINIMUM_MARGIN_DB
    figures["passed_minimum"] = min(margins.values()) >= MINIMUM_MARGIN_DB
    return figures
