"""Scores of pictures against the truth, and what follows from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from scenetok_core.baselines import mean_colour, nearest_view, thumbnail
from scenetok_core.metrics import psnr, ssim
from training.cases import Case
from training.measures.detail import gradient_energy, laplacian_correlation, matching_side

OURS = ("posterior_mean", "sample")
GENERATED = "generated"  # pictures of scenes that were drawn from a few inputs
MINIMUM_MARGIN_DB = 2.0

_THUMBNAILS = (8, 16)  # scored as methods of their own
_SMALLEST_SIDE, _LARGEST_SIDE = 2, 32  # of the thumbnails a rendering is compared with

Figures = dict[str, Any]  # numbers, booleans and words


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

    def add_baselines(self, case: Case) -> dict[str, Tensor]:
        """Score every baseline on a case, and the truth's thumbnails; returns the pictures by method."""
        truth, inputs = case.targets.rgb, case.inputs
        pictures = {
            "nearest": nearest_view(inputs, case.targets.cameras, case.radian_length),
            "mean_colour": mean_colour(inputs, len(truth)),
            **{f"thumbnail_{side}": thumbnail(truth, side) for side in _THUMBNAILS},
            **case.baselines,
        }
        for method, made in pictures.items():
            self.add_pictures(method, made, truth)
        for side in thumbnail_sides(truth.shape[-1]):
            self.add(f"side_{side}", psnr(thumbnail(truth, side), truth))
        self.add("truth_gradients", gradient_energy(truth))
        return pictures


def means(scores: Scores, names: Iterable[str]) -> Figures:
    """Means of the values that were measured."""
    return {name: scores.mean(name) for name in names if any(len(values) for values in scores.values.get(name, []))}


def thumbnail_sides(image_size: int) -> range:
    """Sides of the thumbnails that renderings are compared with."""
    return range(_SMALLEST_SIDE, min(_LARGEST_SIDE, image_size) + 1)


def summarise(scores: Scores, image_size: int) -> Figures:
    """All means, and what follows from them: gap closed, thumbnail that scores the same, margins over the baselines.

    The gap is that to the warp, and missing where there is none.
    """
    methods = [name.removesuffix("_ssim") for name in scores.values if name.endswith("_ssim")]
    figures: Figures = {}
    for method in methods:
        for measure in ("psnr", "ssim", "laplacian_correlation"):
            figures[f"{method}_{measure}"] = scores.mean(f"{method}_{measure}")
        figures[f"{method}_gradient_energy"] = scores.mean(f"{method}_gradients") / scores.mean("truth_gradients")
    curve = {side: scores.mean(f"side_{side}") for side in thumbnail_sides(image_size)}
    nearest, colour = (scores.mean(f"{name}_psnr") for name in ("nearest", "mean_colour"))
    for method in (method for method in OURS if method in methods):
        quality = scores.mean(f"{method}_psnr")
        if "warp" in methods:
            figures[f"{method}_gap_closed"] = (quality - nearest) / (scores.mean("warp_psnr") - nearest)
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
