"""The measuring of depth beside scene-constant depth: errors, flicker along paths, and what a model knows of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from scenetok_core.depth import DepthHead, colour_depth, is_known
from scenetok_core.pictures.sheets import evenly_spread
from scenetok_core.rae import PointMaps, Rae
from scenetok_core.types import Cameras, SceneTokens, Views
from training.cases import Case
from training.extras import LeftOut
from training.measures.calibration import rank_correlation
from training.measures.depth import align_inverse, best_constant, depth_errors
from training.measures.flicker import flicker, second_difference
from training.measures.points import ray_degrees
from training.scores import OURS, Figures, Scores

LARGEST_ABS_REL = 0.12  # of the posterior mean that passes
_WITHOUT_UNIT = "posterior_mean_without_unit"  # of heads that know metres, not told that the unit is the metre
_SMALLEST = 1e-2  # of the smallest true depth: what is nearer, or behind the camera, counts as that in a logarithm


class DepthSource(Protocol):
    """What renders depth, and how sure it is of that."""

    name: str
    hash: str
    relative: bool  # whether its depth has no unit: inverse depth up to a factor and an offset
    methods: Mapping[str, int]  # sampling steps by the name under which these are measured

    def render(self, tokens: SceneTokens, cameras: Cameras, steps: int, seed: int) -> Tensor:
        """Depth [T, H, W] along the camera's z axis, in units of the cameras."""
        ...

    def spread(self, tokens: SceneTokens, cameras: Cameras, samples: int, seed: int) -> tuple[Tensor, Tensor]:
        """Depth and how far off it says it may be, [T, H, W] each."""
        ...

    def without_unit(self, tokens: SceneTokens) -> SceneTokens | None:
        """The scene without the knowledge that its unit is the metre; None where that changes nothing."""
        ...

    def add_scores(self, scores: Scores, tokens: SceneTokens, cameras: Cameras) -> None:
        """Append what else is measured."""
        ...


class HeadDepth:
    """The depth head of a SceneTok model."""

    def __init__(self, head: DepthHead) -> None:
        self.head, self.name, self.hash = head, head.config.name, head.hash
        self.relative = head.config.units == "relative"
        self.methods: Mapping[str, int] = dict(zip(OURS, (1, head.model.config.sampling.steps), strict=True))

    def render(self, tokens: SceneTokens, cameras: Cameras, steps: int, seed: int) -> Tensor:
        """As `DepthSource.render`."""
        return self.head.render(tokens, cameras, steps=steps, generator=torch.Generator().manual_seed(seed))[:, 0]

    def spread(self, tokens: SceneTokens, cameras: Cameras, samples: int, seed: int) -> tuple[Tensor, Tensor]:
        """Mean and deviation of samples."""
        mean, deviation = self.head.render_uncertainty(tokens, cameras, samples, seed=seed)
        return mean[:, 0], deviation[:, 0]

    def without_unit(self, tokens: SceneTokens) -> SceneTokens | None:
        """As `DepthSource.without_unit`; of heads with a size token."""
        unknown = tokens.replace(cameras=tokens.cameras.replace(unit="relative"))
        return unknown if self.head.config.size_token else None

    def add_scores(self, scores: Scores, tokens: SceneTokens, cameras: Cameras) -> None:
        """Nothing else."""


class PointDepth:
    """The point maps of a 3DRAE."""

    relative = False

    def __init__(self, model: Rae) -> None:
        self.model, self.name, self.hash = model, model.config.name, model.hash
        self.methods: Mapping[str, int] = {OURS[0]: 1}

    def render(self, tokens: SceneTokens, cameras: Cameras, steps: int, seed: int) -> Tensor:
        """As `DepthSource.render`; nothing is drawn."""
        return self._maps(tokens, cameras).depth

    def spread(self, tokens: SceneTokens, cameras: Cameras, samples: int, seed: int) -> tuple[Tensor, Tensor]:
        """Depth and a proportion of the error to expect, which is learnt relative to the mean distance of points."""
        maps = self._maps(tokens, cameras)
        return maps.depth, maps.depth.abs().mean() / maps.confidence

    def without_unit(self, tokens: SceneTokens) -> None:
        """Units do not matter."""

    def add_scores(self, scores: Scores, tokens: SceneTokens, cameras: Cameras) -> None:
        """How far the points lie off the rays of their pixels."""
        scores.add("point_ray_degrees", ray_degrees(self._maps(tokens, cameras)))

    def _maps(self, tokens: SceneTokens, cameras: Cameras) -> PointMaps:
        return self.model.point_maps(tokens, cameras)


@dataclass
class DepthEvaluation:
    """What renders depth under measurement, over the cases with true depth that it was shown.

    Depth of relative units is measured after an alignment of inverse depth with the truth, picture by picture.
    """

    source: DepthSource
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
        for method, steps in self.source.methods.items():
            depth = self._aligned(self.source.render(tokens, cameras, steps, case.seed), truth)
            error = self._score(method, depth, truth)
            label = f"depth, {method.replace('_', ' ')}\nAbsRel {error:.2f}"
            rows.append((label, colour_depth(depth[:, None], bounds)))
        unaware = self.source.without_unit(tokens)
        if unaware is not None:
            self._score(_WITHOUT_UNIT, self.source.render(unaware, cameras, 1, case.seed), truth)
        self.source.add_scores(self.scores, tokens, cameras)
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
        for method, steps in self.source.methods.items():
            depth = self._aligned(self.source.render(tokens, path.cameras, steps, case.seed), truth)
            logarithm = depth[:, always].clamp_min(_SMALLEST * float(truth[:, always].min())).log()
            self.scores.add(f"{method}_depth_flicker", torch.tensor([flicker(logarithm, wanted)]))

    def _aligned(self, depth: Tensor, truth: Tensor) -> Tensor:
        return align_inverse(depth, truth) if self.source.relative else depth

    def _score(self, method: str, depth: Tensor, truth: Tensor) -> float:
        errors = depth_errors(depth, truth)
        scaled = depth_errors(depth.flatten(0, 1)[None], truth.flatten(0, 1)[None], median_scaling=True)  # once a scene
        there = ~errors.abs_rel.isnan()
        self.scores.add(f"{method}_depth_abs_rel", errors.abs_rel[there])
        self.scores.add(f"{method}_depth_delta", errors.delta[there])
        self.scores.add(f"{method}_depth_abs_rel_scaled", scaled.abs_rel)
        self.scores.add(f"{method}_depth_delta_scaled", scaled.delta)
        return float(errors.abs_rel[there].mean())

    def _calibrate(self, tokens: SceneTokens, case: Case, samples: int, chosen: list[int]) -> None:
        """Relative deviation and relative error of depth: absolute ones both grow with depth."""
        assert case.depth is not None
        cameras = case.targets.cameras[chosen]
        truth = case.depth(cameras)
        mean, spread = self.source.spread(tokens, cameras, samples, case.seed)
        known = is_known(truth) & truth.isfinite()
        errors = (self._aligned(mean, truth) - truth).abs() / truth
        nearest = _SMALLEST * float(truth[known].min()) if bool(known.any()) else 1.0
        self.spreads.append(((spread / mean.clamp_min(nearest))[known], errors[known]))

    def figures(self, left_out: LeftOut) -> Figures:
        """Everything measured."""
        found: Figures = {"depth_head": self.source.name, "depth_head_hash": self.source.hash}
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
