"""The measuring of a depth head beside scene-constant depth: errors, flicker along paths, and what it knows of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from scenetok_core.depth import DepthHead, colour_depth, is_known
from scenetok_core.sheets import evenly_spread
from scenetok_core.types import Cameras, SceneTokens, Views
from training.cases import Case
from training.extras import LeftOut
from training.measures.calibration import rank_correlation
from training.measures.depth import align_inverse, best_constant, depth_errors
from training.measures.flicker import flicker, second_difference
from training.scores import OURS, Figures, Scores

LARGEST_ABS_REL = 0.12  # of the posterior mean that passes
_WITHOUT_UNIT = "posterior_mean_without_unit"  # of heads that know metres, not told that the unit is the metre


@dataclass
class DepthEvaluation:
    """A head under measurement, over the cases with true depth that it was shown.

    Heads of relative units are measured after an alignment of inverse depth with the truth, picture by picture.
    """

    head: DepthHead
    scores: Scores = field(default_factory=Scores)
    spreads: list[tuple[Tensor, Tensor]] = field(default_factory=list)  # relative deviations and errors of pixels

    def add(self, tokens: SceneTokens, case: Case, *, samples: int = 0, targets: int = 0) -> list[tuple[str, Tensor]]:
        """Measure the targets of a case; with `samples`, the spread of these for some `targets` too.

        Returns:
            Labelled rows of pictures: the truth, the posterior mean and a sample.
        """
        if case.depth is None:
            return []
        cameras = case.targets.cameras
        truth = case.depth(cameras)
        known = is_known(truth) & truth.isfinite()
        if not bool(known.any()):
            return []
        bounds = (float(truth[known].min()), float(truth[known].max()))
        self._score("constant", best_constant(truth).expand_as(truth), truth)
        rows = [("depth", colour_depth(truth.where(known, bounds[1])[:, None], bounds))]
        for method, steps in self._methods():
            depth = self._aligned(self._render(tokens, case, cameras, steps), truth)
            error = self._score(method, depth, truth)
            label = f"depth, {method.replace('_', ' ')}\nAbsRel {error:.2f}"
            rows.append((label, colour_depth(depth[:, None], bounds)))
        if self.head.config.size_token:
            unaware = tokens.replace(cameras=tokens.cameras.replace(unit="relative"))
            self._score(_WITHOUT_UNIT, self._render(unaware, case, cameras, 1), truth)
        if samples:
            self._calibrate(tokens, case, samples, evenly_spread(torch.arange(len(cameras)), targets).tolist())
        return rows

    def add_path(self, tokens: SceneTokens, case: Case, path: Views) -> None:
        """Measure flicker of the logarithm of depth, which knows no unit, along a smooth path."""
        if case.depth is None:
            return
        truth = case.depth(path.cameras)
        always = (is_known(truth) & truth.isfinite()).all(0)
        if not bool(always.any()):
            return
        wanted = truth[:, always].log()
        self.scores.add("truth_depth_second_difference", torch.tensor([second_difference(wanted)]))
        for method, steps in self._methods():
            depth = self._aligned(self._render(tokens, case, path.cameras, steps), truth)
            self.scores.add(f"{method}_depth_flicker", torch.tensor([flicker(depth[:, always].log(), wanted)]))

    def _methods(self) -> Iterable[tuple[str, int]]:
        return zip(OURS, (1, self.head.model.config.sampling.steps), strict=True)

    def _render(self, tokens: SceneTokens, case: Case, cameras: Cameras, steps: int) -> Tensor:
        noise = torch.Generator().manual_seed(case.seed)
        return self.head.render(tokens, cameras, steps=steps, generator=noise)[:, 0]

    def _aligned(self, depth: Tensor, truth: Tensor) -> Tensor:
        return align_inverse(depth, truth) if self.head.config.units == "relative" else depth

    def _score(self, method: str, depth: Tensor, truth: Tensor) -> float:
        errors = depth_errors(depth, truth)
        there = ~errors.abs_rel.isnan()
        self.scores.add(f"{method}_depth_abs_rel", errors.abs_rel[there])
        self.scores.add(f"{method}_depth_delta", errors.delta[there])
        whole = depth_errors(depth.flatten(0, 1)[None], truth.flatten(0, 1)[None], median_scaling=True)
        self.scores.add(f"{method}_depth_abs_rel_scaled", whole.abs_rel)
        return float(errors.abs_rel[there].mean())

    def _calibrate(self, tokens: SceneTokens, case: Case, samples: int, chosen: list[int]) -> None:
        """Relative deviation of samples and relative error of their mean: absolute ones both grow with depth."""
        assert case.depth is not None
        cameras = case.targets.cameras[chosen]
        truth = case.depth(cameras)
        mean, spread = (part[:, 0] for part in self.head.render_uncertainty(tokens, cameras, samples, seed=case.seed))
        known = is_known(truth) & truth.isfinite()
        errors = (self._aligned(mean, truth) - truth).abs() / truth
        self.spreads.append(((spread / mean)[known], errors[known]))

    def figures(self, left_out: LeftOut) -> Figures:
        """Everything measured."""
        found: Figures = {"depth_head": self.head.config.name, "depth_head_hash": self.head.hash}
        if not self.scores.values:
            left_out["depth"] = "needs scenes whose true depth is known"
            return found
        found |= {name: self.scores.mean(name) for name in self.scores.values}
        found["passed_depth"] = found["posterior_mean_depth_abs_rel"] <= LARGEST_ABS_REL
        if self.spreads:
            spread, error = (torch.cat(parts) for parts in zip(*self.spreads, strict=True))
            correlation = left_out.attempt(
                "rank correlation of depth uncertainty", lambda: rank_correlation(spread, error)
            )
            if correlation is not None:
                found["depth_uncertainty_rank_correlation"] = correlation
        return found
