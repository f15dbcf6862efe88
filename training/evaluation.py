"""The measuring that all protocols share: a model's renderings of cases, beside simple baselines."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from scenetok_core.baselines import nearest_view
from scenetok_core.camera import check_scale
from scenetok_core.configs import SceneTokConfig
from scenetok_core.depth import DepthHead
from scenetok_core.metrics import psnr
from scenetok_core.pictures.sheets import evenly_spread
from scenetok_core.pipeline import SceneTok
from scenetok_core.rae import Rae
from scenetok_core.subsets import keep_tokens, random_tokens
from scenetok_core.types import Cameras, SceneTokens, Views
from scenetok_core.uncertainty import render_uncertainty
from training.cases import Benchmark, Case, Fingerprint
from training.depth_evaluation import DepthEvaluation, HeadDepth, PointDepth
from training.drawn import DrawnScenes, Generator
from training.extras import Extras, LeftOut, auc_figures
from training.many_views import ManyViews
from training.measures.calibration import Calibration, calibration, prediction_error_factor, rank_correlation
from training.measures.flicker import flicker, second_difference
from training.memory import peak_memory_mib
from training.scores import GENERATED, OURS, Figures, Scores, means, summarise

_SCALES = (0.01, 100.0)
_NARROW_DEGREES = 8.0  # of the pose error; the AUC takes all offsets
_BYTES_PER_NUMBER = 2  # of stored tokens

_ORDERED = "its tokens are learnt and ordered: none can be left out or exchanged"

Model = SceneTok | Rae
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
    other_generator_views: tuple[int, ...] = (0, 3)  # other numbers of them, for generators that take them ...
    other_generator_cases: int = 16  # ... of which this is measured
    many_views: tuple[int, ...] = (8, 16, 32, 64)  # inputs along the walk ...
    many_views_cases: int = 16  # ... of which this is measured
    scene_scale: str | float = "auto"  # of encoded and of drawn scenes, as for `SceneTok.encode`

    def __post_init__(self) -> None:
        check_scale(self.scene_scale)


@dataclass
class Evaluation:
    """A model under measurement: scores, timings and checks over the cases seen so far."""

    model: Model
    benchmark: Benchmark
    settings: Settings = field(default_factory=Settings)
    generator: Generator | None = None  # draws scenes that the model renders
    depth_head: DepthHead | None = None  # a 3DRAE has point maps of its own
    scores: Scores = field(default_factory=Scores)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    differences: dict[str, float] = field(default_factory=dict)
    rows: list[tuple[str, Tensor]] = field(default_factory=list)  # of the contact sheet
    spreads: list[tuple[Tensor, Tensor]] = field(default_factory=list)  # predicted and found errors of pixels
    baselines: set[str] = field(default_factory=set)  # names of methods that know no model
    cases: int = 0
    targets: int = 0
    left_out: LeftOut = field(default_factory=LeftOut)
    _fingerprint: Fingerprint = field(default_factory=Fingerprint)

    def __post_init__(self) -> None:
        settings, model = self.settings, self.model
        self.samples = isinstance(model, SceneTok)
        self.methods = dict(zip(OURS, (1, None), strict=True)) if self.samples else {OURS[0]: 1}
        self.drawn = None
        if self.generator is not None:
            self.drawn = DrawnScenes(
                self.generator, model, self._render, settings.scene_scale, settings.generator_views,
                settings.other_generator_views, settings.spread_samples, settings.spread_targets, self.scores,
                rows=self.rows,
            )  # fmt: skip
        counts = tuple(count for count in settings.many_views if count <= model.config.context_views)
        self.many = ManyViews(self._encode, self._render, counts, self.scores)
        self.depth = self._depth_source()
        self._note_left_out()
        drawn = () if self.generator is None else (GENERATED,)
        self._extras = Extras((*self.methods, *drawn), model.config.image_size, model.device, self.left_out)

    def _depth_source(self) -> DepthEvaluation | None:
        if isinstance(self.model, Rae):
            return None if self.model.config.points is None else DepthEvaluation(PointDepth(self.model))
        return None if self.depth_head is None else DepthEvaluation(HeadDepth(self.depth_head))

    def _note_left_out(self) -> None:
        if self.depth is None:
            missing = "needs a depth head for this model" if self.samples else "was trained without point maps"
            self.left_out["depth"] = missing
        if self.generator is None:
            self.left_out["gFID"] = "needs a scene generator: --generator FILE"
        if self.settings.scene_scale != "auto":
            self.left_out["scale_F_max_difference"] = "needs --scene-scale auto: other scales keep the capture's unit"
        if not self.samples:
            self.left_out["samples, their spread, uncertainty"] = "a 3DRAE renders in one pass and draws nothing"
            self.left_out["token sweep, permutation"] = _ORDERED
        if len(self.many.counts) < 2:
            self.left_out["inputs_N_psnr"] = f"the model takes {self.model.config.context_views} views at most"

    def measure(self, case: Case) -> None:
        """Encode and render one case, score it beside the baselines."""
        index, truth, settings = self.cases, case.targets.rgb, self.settings
        self.cases, self.targets = self.cases + 1, self.targets + len(truth)
        self._fingerprint.update(case.inputs, case.targets)
        tokens, took = _timed(lambda: self._encode(case.inputs))
        self.seconds.setdefault("encode", []).append(took)
        ours = {}
        for method, steps in self.methods.items():
            ours[method], took = _timed(lambda steps=steps: self._render(tokens, case, steps))
            self.seconds.setdefault(method, []).append(took / len(truth))
        if self.drawn is not None:
            ours |= self.drawn.measure(
                case,
                others=index < settings.other_generator_cases,
                vary=index < settings.spread_cases,
                show=index < settings.sheet_cases,
            )
        for method, pictures in ours.items():
            self.scores.add_pictures(method, pictures, truth)
        baselines = self.scores.add_baselines(case)
        self.baselines |= set(baselines)
        swept = self._sweep(tokens, case, ours["posterior_mean"]) if self.samples else None
        self._follow(case, {**baselines, **ours})
        self._extras.add(self.scores, case, ours, baselines)
        depth_rows = self._measure_depth(tokens, case, index)
        if index < settings.sheet_cases:
            shown = {name: baselines[name] for name in ("nearest", "warp") if name in baselines}
            self._show(case, {**ours, **shown})
            if swept is not None:
                shares = " ".join(f"{share:.0%}" for share in settings.sweep)
                self.rows.append((f"mean from\n{shares}", swept))
            self.rows += depth_rows
        self._examine(index, tokens, case, ours["posterior_mean"])

    def _examine(self, index: int, tokens: SceneTokens, case: Case, mean: Tensor) -> None:
        """What is measured of the first cases only."""
        settings = self.settings
        if index < settings.invariance_cases:
            self._check_invariances(tokens, case, mean)
        if index < settings.spread_cases and self.samples:
            self._calibrate(tokens, case)
        if index < settings.path_cases and case.path is not None:
            self._flicker(tokens, case, case.path())
        if index < settings.elsewhere_cases and case.elsewhere is not None:
            self._render_elsewhere(tokens, case, case.elsewhere())
        if index < settings.many_views_cases and case.world is not None and len(self.many.counts) > 1:
            self.many.add(case)

    def _encode(self, inputs: Views) -> SceneTokens:
        return self.model.encode(inputs, scale=self.settings.scene_scale)

    def _render(self, tokens: SceneTokens, case: Case, steps: int | None = 1, cameras: Cameras | None = None) -> Tensor:
        noise = torch.Generator().manual_seed(case.seed)
        cameras = case.targets.cameras if cameras is None else cameras
        return self.model.render(tokens, cameras, steps=steps, generator=noise)

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
        search = case.offsets(case.targets.cameras)
        for method, made in pictures.items():
            wide, narrow = search.match(made[0]), search.match(made[0], within_degrees=_NARROW_DEGREES)
            self.scores.add(f"{method}_pose_error", torch.tensor([narrow.degrees]))
            self.scores.add(f"{method}_pose_offset", torch.tensor([wide.degrees]))
            self.scores.add(f"{method}_pose_moved", torch.tensor([wide.units]))

    def _check_invariances(self, tokens: SceneTokens, case: Case, expected: Tensor) -> None:
        if self.samples:
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
        assert isinstance(self.model, SceneTok), "others draw no samples"
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
        for method, steps in self.methods.items():
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
        pictures = {method: self._render(tokens, case, steps, path.cameras) for method, steps in self.methods.items()}
        pictures["nearest"] = nearest_view(case.inputs, path.cameras, case.radian_length)
        for method, made in pictures.items():
            self.scores.add(f"{method}_elsewhere_psnr", psnr(made, path.rgb))
        search = case.offsets(path.cameras)
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
        shape = config.compressor if isinstance(config, SceneTokConfig) else config
        tokens = shape.tokens * shape.token_dim
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
            **(self.drawn.figures() if self.drawn else {}),
            **self.many.figures(),
            "seconds_per_encode": statistics.median(self.seconds["encode"]),
            **{f"seconds_per_frame_{method}": statistics.median(self.seconds[method]) for method in self.methods},
            **({} if peak is None else {"peak_memory_mib": peak}),
            **({"sample_steps": config.sampling.steps} if isinstance(config, SceneTokConfig) else {}),
            "parameters": sum(parameter.numel() for parameter in self.model.networks.parameters()),
            "tokens_kib": tokens * _BYTES_PER_NUMBER / 1024,
            "left_out": "; ".join(f"{measure} ({reason})" for measure, reason in self.left_out.items()),
        }

    def own_figures(self) -> Figures:
        """`figures` without those that do not depend on the model."""
        names = {"protocol", "protocol_fingerprint", "scene_scale", "scenes", "targets", "left_out", "peak_memory_mib"}
        names |= set(self.benchmark.figures())
        shared = tuple(f"{method}_" for method in (*self.baselines, "truth"))
        return {k: v for k, v in self.figures().items() if k not in names and not k.startswith(shared)}

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
        figures = means(self.scores, ("spread_seen", "spread_unseen"))
        figures["uncertainty_binned_error"] = bins.binned_error
        correlation = self.left_out.attempt(
            "rank correlation of uncertainty", lambda: rank_correlation(*self._pixels())
        )
        if correlation is not None:
            figures["uncertainty_rank_correlation"] = correlation
        return figures

    def _elsewhere_figures(self) -> Figures:
        measures = ("elsewhere_psnr", "elsewhere_pose_error_degrees")
        figures = means(self.scores, (f"{method}_{name}" for name in measures for method in (*OURS, "nearest")))
        if not figures:
            self.left_out["another scene's path"] = "needs at least two rooms, and places on it that are free"
        return figures

    def _flicker_figures(self) -> Figures:
        figures = means(self.scores, ("truth_second_difference", *(f"{method}_flicker" for method in OURS)))
        if not figures:
            self.left_out["flicker"] = "needs targets that are consecutive frames, at least three"
        return figures


def evaluate(
    model: Model,
    benchmark: Benchmark,
    settings: Settings | None = None,
    generator: Generator | None = None,
    depth_head: DepthHead | None = None,
    progress: bool = False,
) -> Evaluation:
    """Measure a model, the scenes that a generator draws for it and a head's depth, on all cases of a benchmark."""
    evaluation = Evaluation(model, benchmark, settings or Settings(), generator, depth_head)
    measure_all([evaluation], benchmark, progress)
    return evaluation


def measure_all(evaluations: Sequence[Evaluation], benchmark: Benchmark, progress: bool = False) -> None:
    """Measure several models on all cases of a benchmark, each of which is made once."""
    for case in tqdm(benchmark.cases(), desc="evaluate", unit="scene", total=len(benchmark), disable=not progress):
        for evaluation in evaluations:
            evaluation.measure(case)


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
