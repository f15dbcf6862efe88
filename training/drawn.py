"""The measuring of scenes that a generator draws: how they show what they were given, and what seeds leave open."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from scenetok_core.baselines import thumbnail
from scenetok_core.generation import SceneGenerator
from scenetok_core.latent_generation import LatentGenerator
from scenetok_core.metrics import psnr
from scenetok_core.pictures.sheets import evenly_spread
from scenetok_core.types import Cameras, SceneTokens, Views
from training.cases import Case
from training.measures.detail import gradient_energy
from training.scores import GENERATED, Figures, Scores, means

Generator = SceneGenerator | LatentGenerator
Render = Callable[[SceneTokens, Case, int | None, Cameras], Tensor]  # steps: 1 is the posterior mean, None the model's

_THUMBNAIL = 8
_CONDITION = "condition"
_FROM_NOTHING = "generated_0_views"  # no truth belongs to such a scene


@dataclass
class DrawnScenes:
    """A generator under measurement, over the cases that it was shown."""

    generator: Generator
    model: Any  # the model that the generator draws for, and that renders
    render: Render
    scale: str | float
    views: int  # first inputs that it is given
    other_views: tuple[int, ...]  # other numbers of them, on the first cases; those it does not take are left out
    samples: int  # drawn scenes of which the spread is measured ...
    targets: int  # ... at so many evenly spread targets
    scores: Scores
    other_cases: int = 0
    seconds: list[float] = field(default_factory=list)
    rows: list[tuple[str, Tensor]] = field(default_factory=list)  # of the contact sheet

    @property
    def counts(self) -> list[int]:
        """Numbers of views that are measured."""
        most = self.generator.config.cond_views - 1 if isinstance(self.generator, LatentGenerator) else None
        others = self.other_views if most is not None else ()
        return [self.views, *(count for count in others if count != self.views and count <= (most or 0))]

    def measure(self, case: Case, *, others: bool, vary: bool, show: bool) -> dict[str, Tensor]:
        """Targets of scenes drawn from the first inputs, by method; how these are shown is scored beside thumbnails.

        Of a 3DDiT, also of what it was given instead of what it drew.

        Args:
            case: to draw for.
            others: whether to measure the other numbers of views.
            vary: whether to draw several scenes each, for their spread.
            show: whether to add to the contact sheet.
        """
        pictures, self.other_cases = {}, self.other_cases + others
        for count in self.counts if others else self.counts[:1]:
            count = min(count, len(case.inputs))
            views = case.inputs[list(range(count))] if count else None
            method = GENERATED if count == min(self.views, len(case.inputs)) else f"{GENERATED}_{count}_views"
            began = time.perf_counter()
            tokens = self._draw(views, case, case.seed)
            if method == GENERATED:
                self.seconds.append(time.perf_counter() - began)
            if views is not None:
                self._score_given(tokens, views, case, method, show=show)
            if vary:
                self.vary(tokens, views, case, method)
            made = self.render(tokens, case, None, case.targets.cameras)
            if views is not None:
                pictures[method] = made
                if isinstance(self.generator, LatentGenerator):
                    given = self._condition(tokens, self.generator, views, case)
                    shown = self.render(given, case, None, case.targets.cameras)
                    pictures[method.replace(GENERATED, _CONDITION)] = shown
                continue
            self.scores.add(f"{_FROM_NOTHING}_gradients", gradient_energy(made))
            if show:
                self.rows.append((f"drawn from\nnothing, {case.name}", made))
        return pictures

    def _draw(self, views: Views | None, case: Case, seed: int) -> SceneTokens:
        """A scene for the path of the targets."""
        draw: Callable[..., SceneTokens] = self.generator.generate
        noise = torch.Generator().manual_seed(seed)
        return draw(views, case.targets.cameras, self.model, scale=self.scale, generator=noise)

    def _condition(self, drawn: SceneTokens, drawer: LatentGenerator, views: Views, case: Case) -> SceneTokens:
        """What the generator knows of a scene: the encoding of the given views and of all cameras."""
        prepared = drawer.prepare(views, case.targets.cameras, self.model, scale=self.scale)
        return drawn.replace(tokens=prepared.condition[0])

    def _score_given(self, tokens: SceneTokens, views: Views, case: Case, method: str, *, show: bool) -> None:
        again, small = self.render(tokens, case, None, views.cameras), thumbnail(views.rgb, _THUMBNAIL)
        name = method.replace(GENERATED, "conditioning")
        self.scores.add(f"{name}_psnr", psnr(again, views.rgb))
        self.scores.add(f"{name}_thumbnail_{_THUMBNAIL}_psnr", psnr(small, views.rgb))
        if show:
            self.rows.append((f"given, 8x8, drawn\n{case.name}", torch.cat([views.rgb, small, again])))

    def vary(self, first: SceneTokens, views: Views | None, case: Case, method: str = GENERATED) -> None:
        """Spread of several drawn scenes, `first` among them, each rendered as posterior mean from the same noise."""
        chosen = evenly_spread(torch.arange(len(case.targets)), self.targets).tolist()
        cameras, pictures = case.targets.cameras[chosen], []
        for index in range(self.samples):
            tokens = self._draw(views, case, case.seed + index) if index else first
            pictures.append(self.render(tokens, case, 1, cameras))
        spread = torch.stack(pictures).var(0).mean(1).sqrt()
        self.scores.add(f"{method}_spread", spread.flatten())
        if case.seen_by is not None and views is not None:
            seen = case.seen_by(len(views))[chosen]
            self.scores.add(f"{method}_spread_seen", spread[seen])
            self.scores.add(f"{method}_spread_unseen", spread[~seen])

    def figures(self) -> Figures:
        """Everything measured but the scores of pictures."""
        named = [GENERATED, *(f"{GENERATED}_{count}_views" for count in self.counts[1:])]
        given = [method.replace(GENERATED, "conditioning") for method in named]
        figures: Figures = {
            "generator": self.generator.config.name,
            "generator_hash": self.generator.hash,
            "generator_views": self.views,
            **({"generator_scenes_of_other_views": self.other_cases} if self.counts[1:] else {}),
            "generator_steps": self.generator.config.sampling.steps,
            **means(self.scores, (f"{name}_{what}" for name in given for what in ("psnr", "thumbnail_8_psnr"))),
            **means(
                self.scores,
                (f"{name}_{what}" for name in named for what in ("spread", "spread_seen", "spread_unseen")),
            ),
            "seconds_per_generated_scene": statistics.median(self.seconds),
        }
        if f"{_FROM_NOTHING}_gradients" in self.scores.values:
            energy = self.scores.mean(f"{_FROM_NOTHING}_gradients") / self.scores.mean("truth_gradients")
            figures[f"{_FROM_NOTHING}_gradient_energy"] = energy
        return figures
