"""The measuring that all protocols share: a model's renderings of cases, beside simple baselines."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from scenetok_core.baselines import nearest_view, thumbnail
from scenetok_core.camera import check_scale
from scenetok_core.depth import DepthHead
from scenetok_core.generation import SceneGenerator
from scenetok_core.metrics import psnr
from scenetok_core.pipeline import SceneTok
from scenetok_core.sheets import evenly_spread
from scenetok_core.subsets import keep_tokens, random_tokens
from scenetok_core.types import Cameras, SceneTokens, Views
from scenetok_core.uncertainty import render_uncertainty
from training.cases import Benchmark, Case, Fingerprint
from training.depth_evaluation import DepthEvaluation
from training.extras import Extras, LeftOut, auc_figures
from training.measures.calibration import Calibration, calibration, prediction_error_factor, rank_correlation
from training.measures.flicker import flicker, second_difference
from training.measures.pose_search import OffsetSearch
from training.memory import peak_memory_mib
from training.scores import GENERATED, OURS, Figures, Scores, summarise

_SCALES = (0.01, 100.0)
_NARROW_DEGREES = 8.0  # of the pose error; the AUC takes all offsets
_BYTES_PER_NUMBER = 2  # of stored tokens

T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """How much is measured, beyond pictures of all cases.

    The first cases are taken, so that figures of the same number of cases compare.
    """

    sweep: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)  # shares of the tokens
    invariance_cases: int = 8
    spread_cases: int = 8  # of which uncertainty is calibrated
    spread_samples: int = 4
    spread_targets: int = 4  # evenly spread ones of each of these cases
    path_cases: int = 4  # of which flicker is measured
    elsewhere_cases: int = 16  # that are rendered along another scene's path
    sheet_cases: int = 6
    generator_views: int = 1  # first inputs that a scene generator is given
    scene_scale: str | float = "auto"  # of encoded and of drawn scenes, as for `SceneTok.encode`

    def __post_init__(self) -> None:
        check_scale(self.scene_scale)


@dataclass
class Evaluation:
    """A model under measurement: scores, timings and checks over the cases seen so far."""

    model: SceneTok
    benchmark: Benchmark
    settings: Settings = field(default_factory=Settings)
    generator: SceneGenerator | None = None  # draws scenes that the model renders
    depth_head: DepthHead | None = None
    scores: Scores = field(default_factory=Scores)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    differences: dict[str, float] = field(default_factory=dict)
    rows: list[tuple[str, Tensor]] = field(default_factory=list)  # of the contact sheet
    spreads: list[tuple[Tensor, Tensor]] = field(default_factory=list)  # predicted and found errors of pixels
    cases: int = 0
    targets: int = 0
    left_out: LeftOut = field(default_factory=LeftOut)
    _fingerprint: Fingerprint = field(default_factory=Fingerprint)

    def __post_init__(self) -> None:
        self.depth = self.depth_head and DepthEvaluation(self.depth_head)
        if self.depth is None:
            self.left_out["depth"] = "needs a depth head for this model"
        if self.generator is None:
            self.left_out["gFID"] = "needs a scene generator: --generator FILE"
        if self.settings.scene_scale != "auto":
            self.left_out["scale_F_max_difference"] = "needs --scene-scale auto: other scales keep the capture's unit"
        methods = OURS if self.generator is None else (*OURS, GENERATED)
        self._extras = Extras(methods, self.model.config.image_size, self.model.device, self.left_out)

    def measure(self, case: Case) -> None:
        """Encode and render one case, score it beside the baselines."""
        index, truth, settings = self.cases, case.targets.rgb, self.settings
        self.cases, self.targets = self.cases + 1, self.targets + len(truth)
        self._fingerprint.update(case.inputs, case.targets)
        tokens, took = _timed(lambda: self._encode(case.inputs))
        self.seconds.setdefault("encode", []).append(took)
        ours = {}
        for method, steps in zip(OURS, (1, None), strict=True):
            ours[method], took = _timed(lambda steps=steps: self._render(tokens, case, steps))
            self.seconds.setdefault(method, []).append(took / len(truth))
        if self.generator is not None:
            ours[GENERATED] = self._generate(self.generator, case)
        for method, pictures in ours.items():
            self.scores.add_pictures(method, pictures, truth)
        baselines = self.scores.add_baselines(case)
        swept = self._sweep(tokens, case, ours["posterior_mean"])
        self._follow(case, {**baselines, **ours})
        self._extras.add(self.scores, case, ours, baselines)
        depth_rows = self._measure_depth(tokens, case, index)
        if index < settings.sheet_cases:
            shown = {name: baselines[name] for name in ("nearest", "warp") if name in baselines}
            self._show(case, {**ours, **shown})
            shares = " ".join(f"{share:.0%}" for share in settings.sweep)
            self.rows += [(f"mean from\n{shares}", swept), *depth_rows]
        self._examine(index, tokens, case, ours["posterior_mean"])

    def _examine(self, index: int, tokens: SceneTokens, case: Case, mean: Tensor) -> None:
        """What is measured of the first cases only."""
        settings = self.settings
        if index < settings.invariance_cases:
            self._check_invariances(tokens, case, mean)
        if index < settings.spread_cases:
            self._calibrate(tokens, case)
        if index < settings.path_cases and case.path is not None:
            self._flicker(tokens, case, case.path())
        if index < settings.elsewhere_cases and case.elsewhere is not None:
            self._render_elsewhere(tokens, case, case.elsewhere())

    def _encode(self, inputs: Views) -> SceneTokens:
        return self.model.encode(inputs, scale=self.settings.scene_scale)

    def _draw(self, generator: SceneGenerator, views: Views, case: Case, seed: int) -> SceneTokens:
        """A scene for the path of the targets."""
        noise, scale = torch.Generator().manual_seed(seed), self.settings.scene_scale
        return generator.generate(views, case.targets.cameras, self.model, scale=scale, generator=noise)

    def _render(self, tokens: SceneTokens, case: Case, steps: int | None = 1, cameras: Cameras | None = None) -> Tensor:
        noise = torch.Generator().manual_seed(case.seed)
        cameras = case.targets.cameras if cameras is None else cameras
        return self.model.render(tokens, cameras, steps=steps, generator=noise)

    def _generate(self, generator: SceneGenerator, case: Case) -> Tensor:
        """Targets of a scene drawn from the first inputs; how it shows these is scored beside their own thumbnail."""
        views = case.inputs[list(range(min(self.settings.generator_views, len(case.inputs))))]
        tokens, took = _timed(lambda: self._draw(generator, views, case, case.seed))
        self.seconds.setdefault(GENERATED, []).append(took)
        again, small = self._render(tokens, case, None, views.cameras), thumbnail(views.rgb, 8)
        self.scores.add("conditioning_psnr", psnr(again, views.rgb))
        self.scores.add("conditioning_thumbnail_8_psnr", psnr(small, views.rgb))
        if self.cases <= self.settings.sheet_cases:
            self.rows.append((f"given, 8x8, drawn\n{case.name}", torch.cat([views.rgb, small, again])))
        if self.cases <= self.settings.spread_cases:
            self._vary(generator, views, case)
        return self._render(tokens, case, None)

    def _vary(self, generator: SceneGenerator, views: Views, case: Case) -> None:
        """Spread of several drawn scenes, each rendered as posterior mean from the same noise."""
        chosen = evenly_spread(torch.arange(len(case.targets)), self.settings.spread_targets).tolist()
        cameras, pictures = case.targets.cameras[chosen], []
        for index in range(self.settings.spread_samples):
            tokens = self._draw(generator, views, case, case.seed + index)
            pictures.append(self._render(tokens, case, cameras=cameras))
        spread = torch.stack(pictures).var(0).mean(1).sqrt()
        self.scores.add("generated_spread", spread.flatten())
        if case.seen_by is not None:
            seen = case.seen_by(len(views))[chosen]
            self.scores.add("generated_spread_seen", spread[seen])
            self.scores.add("generated_spread_unseen", spread[~seen])

    def _sweep(self, tokens: SceneTokens, case: Case, complete: Tensor) -> Tensor:
        """Score posterior means from some of the tokens; returns those of the first target, [shares, 3, H, W]."""
        pictures = []
        for share in self.settings.sweep:
            made = complete if share == 1 else self._render(_subset(tokens, share, case.seed), case)
            self.scores.add(f"tokens_{share:.0%}", psnr(made, case.targets.rgb))
            pictures.append(made[0])
        return torch.stack(pictures)

    def _follow(self, case: Case, pictures: Mapping[str, Tensor]) -> None:
        """How far the pose that a picture matches best is from the one asked for, for one target.

        Within the narrow range a flat picture scores about 9 degrees.
        """
        if case.world is None:
            return
        search = OffsetSearch.around(case.targets.cameras[[0]], case.world)
        for method, made in pictures.items():
            wide, narrow = search.match(made[0]), search.match(made[0], within_degrees=_NARROW_DEGREES)
            self.scores.add(f"{method}_pose_error", torch.tensor([narrow.degrees]))
            self.scores.add(f"{method}_pose_offset", torch.tensor([wide.degrees]))
            self.scores.add(f"{method}_pose_moved", torch.tensor([wide.units]))

    def _check_invariances(self, tokens: SceneTokens, case: Case, expected: Tensor) -> None:
        order = torch.randperm(len(tokens.tokens), generator=torch.Generator().manual_seed(case.seed))
        self._note("permutation", self._render(tokens.replace(tokens=tokens.tokens[order]), case) - expected)
        for factor in _SCALES if self.settings.scene_scale == "auto" else ():
            inputs, targets = (_scaled(cameras, factor) for cameras in (case.inputs.cameras, case.targets.cameras))
            scaled = self._encode(Views(case.inputs.rgb, inputs))
            self._note(f"scale_{factor:g}", self._render(scaled, case, cameras=targets) - expected)

    def _note(self, name: str, difference: Tensor) -> None:
        self.differences[name] = max(self.differences.get(name, 0.0), float(difference.abs().max()))

    def _calibrate(self, tokens: SceneTokens, case: Case) -> None:
        """Spread of samples and error of their mean, pixel by pixel."""
        samples = self.settings.spread_samples
        chosen = evenly_spread(torch.arange(len(case.targets)), self.settings.spread_targets)
        truth = case.targets[chosen]
        for share in self.settings.sweep:
            if share < 1:
                fewer = _subset(tokens, share, case.seed)
                _, spread = render_uncertainty(self.model, fewer, truth.cameras, samples, seed=case.seed)
                self.scores.add(f"spread_{share:.0%}", spread.flatten())
        mean, spread = render_uncertainty(self.model, tokens, truth.cameras, samples, seed=case.seed)
        self.scores.add(f"spread_{1:.0%}", spread.flatten())
        error = (mean - truth.rgb).square().mean(1).sqrt()
        self.spreads.append((spread.flatten() * prediction_error_factor(samples), error.flatten()))
        if case.seen_by is not None:
            seen = case.seen_by(len(case.inputs))[chosen]
            self.scores.add("spread_seen", spread[seen])
            self.scores.add("spread_unseen", spread[~seen])

    def _flicker(self, tokens: SceneTokens, case: Case, path: Views) -> None:
        self.scores.add("truth_second_difference", torch.tensor([second_difference(path.rgb)]))
        for method, steps in zip(OURS, (1, None), strict=True):
            frames = self._render(tokens, case, steps, path.cameras)
            self.scores.add(f"{method}_flicker", torch.tensor([flicker(frames, path.rgb)]))
        if self.depth is not None:
            self.depth.add_path(tokens, case, path)

    def _measure_depth(self, tokens: SceneTokens, case: Case, index: int) -> list[tuple[str, Tensor]]:
        """Rows for the contact sheet, none without a head."""
        if self.depth is None:
            return []
        settings = self.settings
        samples = settings.spread_samples if index < settings.spread_cases else 0
        return self.depth.add(tokens, case, samples=samples, targets=settings.spread_targets)

    def _render_elsewhere(self, tokens: SceneTokens, case: Case, path: Views | None) -> None:
        """Another scene's path in this one, beside the nearest inputs, which do not follow it."""
        if path is None or case.world is None:
            return
        pictures = {
            method: self._render(tokens, case, steps, path.cameras)
            for method, steps in zip(OURS, (1, None), strict=True)
        }
        pictures["nearest"] = nearest_view(case.inputs, path.cameras, case.radian_length)
        for method, made in pictures.items():
            self.scores.add(f"{method}_elsewhere_psnr", psnr(made, path.rgb))
        search = OffsetSearch.around(path.cameras[[0]], case.world)
        for method, made in pictures.items():
            found = search.match(made[0], within_degrees=_NARROW_DEGREES)
            self.scores.add(f"{method}_elsewhere_pose_error_degrees", torch.tensor([found.degrees]))

    def _show(self, case: Case, pictures: Mapping[str, Tensor]) -> None:
        self.rows += [(f"inputs, {case.name}", case.inputs.rgb), ("truth", case.targets.rgb)]
        for method, made in pictures.items():
            quality = float(psnr(made, case.targets.rgb).mean())
            self.rows.append((f"{method.replace('_', ' ')}\n{quality:.1f} dB", made))

    @property
    def calibration(self) -> Calibration | None:
        """All pixels whose uncertainty was measured, in bins of their spread; None for none."""
        return calibration(*self._pixels()) if self.spreads else None

    def _pixels(self) -> tuple[Tensor, Tensor]:
        spread, error = (torch.cat(parts) for parts in zip(*self.spreads, strict=True))
        return spread, error

    def figures(self) -> Figures:
        """Everything measured, as one flat table; complete `left_out` at the same time."""
        config, scores = self.model.config, self.scores
        tokens = config.compressor.tokens * config.compressor.token_dim
        peak = peak_memory_mib(self.model.device)
        return {
            "protocol": self.benchmark.name,
            "protocol_fingerprint": str(self._fingerprint),
            "model": config.name,
            "model_hash": self.model.hash,
            "scene_scale": self.settings.scene_scale,
            "scenes": self.cases,
            "targets": self.targets,
            **self.benchmark.figures(),
            **summarise(scores, config.image_size),
            **self._extras.figures(scores),
            **self._pose_figures(),
            **self._sweep_figures(),
            **{f"{name}_max_difference": value for name, value in self.differences.items()},
            **self._uncertainty_figures(),
            **self._flicker_figures(),
            **self._elsewhere_figures(),
            **(self.depth.figures(self.left_out) if self.depth else {}),
            **self._generator_figures(),
            "seconds_per_encode": statistics.median(self.seconds["encode"]),
            **{f"seconds_per_frame_{method}": statistics.median(self.seconds[method]) for method in OURS},
            **({} if peak is None else {"peak_memory_mib": peak}),
            "sample_steps": config.sampling.steps,
            "parameters": sum(parameter.numel() for parameter in self.model.networks.parameters()),
            "tokens_kib": tokens * _BYTES_PER_NUMBER / 1024,
            "left_out": "; ".join(f"{measure} ({reason})" for measure, reason in self.left_out.items()),
        }

    def _pose_figures(self) -> Figures:
        figures: Figures = {}
        methods = [name.removesuffix("_pose_error") for name in self.scores.values if name.endswith("_pose_error")]
        for method in methods:
            figures[f"{method}_pose_error_degrees"] = self.scores.mean(f"{method}_pose_error")
            figures |= auc_figures(self.scores, f"{method}_pose_offset", f"{method}_pose_auc")
            figures[f"{method}_pose_error_units"] = self.scores.mean(f"{method}_pose_moved")
        if not methods:
            self.left_out["pose offsets"] = "need a world whose truth can be rendered from anywhere"
        return figures

    def _sweep_figures(self) -> Figures:
        """PSNR and spread of samples by share of the tokens; with more tokens one should rise and the other fall."""
        figures: Figures = {}
        for measure, scores, rising in (("psnr", "tokens", True), ("spread", "spread", False)):
            means = {share: self.scores.mean(name) for share in sorted(self.settings.sweep)
                     if (name := f"{scores}_{share:.0%}") in self.scores.values}  # fmt: skip
            figures |= {f"tokens_{share * 100:.0f}_percent_{measure}": mean for share, mean in means.items()}
            if len(means) > 1:
                ordered = sorted(means.values(), reverse=not rising)
                figures[f"sweep_{measure}_{'rises' if rising else 'falls'}"] = list(means.values()) == ordered
        return figures

    def _uncertainty_figures(self) -> Figures:
        if (bins := self.calibration) is None:
            return {}
        figures = _means(self.scores, ("spread_seen", "spread_unseen"))
        figures["uncertainty_binned_error"] = bins.binned_error
        correlation = self.left_out.attempt(
            "rank correlation of uncertainty", lambda: rank_correlation(*self._pixels())
        )
        if correlation is not None:
            figures["uncertainty_rank_correlation"] = correlation
        return figures

    def _generator_figures(self) -> Figures:
        if self.generator is None:
            return {}
        return {
            "generator": self.generator.config.name,
            "generator_hash": self.generator.hash,
            "generator_views": self.settings.generator_views,
            "generator_steps": self.generator.config.sampling.steps,
            **_means(self.scores, ("conditioning_psnr", "conditioning_thumbnail_8_psnr")),
            **_means(self.scores, ("generated_spread", "generated_spread_seen", "generated_spread_unseen")),
            "seconds_per_generated_scene": statistics.median(self.seconds[GENERATED]),
        }

    def _elsewhere_figures(self) -> Figures:
        measures = ("elsewhere_psnr", "elsewhere_pose_error_degrees")
        figures = _means(self.scores, (f"{method}_{name}" for name in measures for method in (*OURS, "nearest")))
        if not figures:
            self.left_out["another scene's path"] = "needs at least two rooms, and places on it that are free"
        return figures

    def _flicker_figures(self) -> Figures:
        figures = _means(self.scores, ("truth_second_difference", *(f"{method}_flicker" for method in OURS)))
        if not figures:
            self.left_out["flicker"] = "needs targets that are consecutive frames, at least three"
        return figures


def evaluate(
    model: SceneTok,
    benchmark: Benchmark,
    settings: Settings | None = None,
    generator: SceneGenerator | None = None,
    depth_head: DepthHead | None = None,
    progress: bool = False,
) -> Evaluation:
    """Measure a model, the scenes that a generator draws for it and a head's depth, on all cases of a benchmark."""
    evaluation = Evaluation(model, benchmark, settings or Settings(), generator, depth_head)
    for case in tqdm(benchmark.cases(), desc="evaluate", unit="scene", total=len(benchmark), disable=not progress):
        evaluation.measure(case)
    return evaluation


def _means(scores: Scores, names: Iterable[str]) -> Figures:
    """Means of the values that were measured."""
    return {name: scores.mean(name) for name in names if any(len(values) for values in scores.values.get(name, []))}


def _subset(tokens: SceneTokens, share: float, seed: int) -> SceneTokens:
    """A random share of the tokens; smaller shares of one seed lie in larger ones."""
    count = max(1, round(share * len(tokens.tokens)))
    return keep_tokens(tokens, random_tokens(tokens, count, torch.Generator().manual_seed(seed)))


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    began = time.perf_counter()
    result = work()
    return result, time.perf_counter() - began


def _scaled(cameras: Cameras, factor: float) -> Cameras:
    """The same cameras measured in another unit."""
    c2w = cameras.c2w.clone()
    c2w[:, :3, 3] *= factor
    return cameras.replace(c2w=c2w)
