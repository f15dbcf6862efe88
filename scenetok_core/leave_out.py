"""How well a model renders the views of a capture that it was not shown, beside simple baselines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from .baselines import mean_colour, nearest_view, thumbnail
from .camera import fit_views
from .families import SceneModel
from .metrics import psnr
from .pictures.sheets import contact_sheet, evenly_spread
from .sampling import Progress
from .types import Views

_THUMBNAILS = (8, 16)
_MOST_COLUMNS = 12


@dataclass(frozen=True, eq=False)
class LeaveOut:
    """Renderings of left-out views and what they are compared with."""

    inputs: Views  # the V views that were encoded
    truth: Views  # the T views between them
    renderings: Mapping[str, Tensor]  # [T, 3, H, W] by name: posterior mean and sample, or all that there is

    def scores(self) -> dict[str, float]:
        """Mean PSNR in dB of the renderings and the baselines, by name."""
        truth, count = self.truth.rgb, len(self.truth)
        pictures = {
            **self.renderings,
            "nearest input view": nearest_view(self.inputs, self.truth.cameras),
            "mean colour of the inputs": mean_colour(self.inputs, count),
            **{f"{side}x{side} thumbnail of the truth": thumbnail(truth, side) for side in _THUMBNAILS},
        }
        return {name: float(psnr(rgb, truth).mean()) for name, rgb in pictures.items()}

    def sheet(self) -> Image.Image:
        """A contact sheet: inputs, truth and renderings; of many pictures, evenly spread ones."""
        rendered = {name.replace(", ", "\n"): rgb for name, rgb in self.renderings.items()}
        rows = {"inputs": self.inputs.rgb, "truth": self.truth.rgb, **rendered}
        return contact_sheet([(label, evenly_spread(rgb, _MOST_COLUMNS)) for label, rgb in rows.items()])


def leave_out(
    model: SceneModel,
    views: Views,
    every: int,
    *,
    scale: str | float = "auto",
    seed: int = 0,
    progress: Progress | None = None,
) -> LeaveOut:
    """Encode every `every`-th view and render the views between the encoded ones.

    Args:
        model: encodes and renders. Of more inputs than it takes, the chosen ones alone count as inputs.
        views: the views of one scene in the order they were taken.
        every: 2 leaves out every other view.
        scale: scene scale, as for `SceneTok.encode`.
        seed: noise of the renderings.
        progress: called after every step of every rendering; may raise to cancel.

    Raises:
        ValueError: `every` below 2, too few views for one to lie between two inputs, or a scale that is none.
    """
    if every < 2:
        raise ValueError(f"every must be at least 2, or no view is left out; got {every}")
    kept = list(range(0, len(views), every))
    if len(kept) < 2:
        raise ValueError(
            f"every {every} of {len(views)} views leaves no view between two inputs; take a smaller number"
        )
    views = fit_views(views, model.picture_size(views.cameras.size))
    between = [i for i in range(kept[-1]) if i % every]
    scene = model.encode(views[kept], scale=scale)
    truth, ways = views[between], {"rendered": 1}
    if model.steps is not None:
        ways = {"posterior mean, 1 step": 1, f"sample, {model.steps} steps": model.steps}

    def render(count: int) -> Tensor:
        noise = torch.Generator().manual_seed(seed)
        return model.render(scene, truth.cameras, steps=count, generator=noise, progress=progress)

    renderings = {name: render(count) for name, count in ways.items()}
    return LeaveOut(views[kept][scene.meta["views_used"]], truth, renderings)
