"""Measure a checkpoint on held-out rooms: `python training/evaluate.py --config tiny --json FILE [--sheet PNG]`.

The figures stand beside those of simple baselines (`training/baselines.py`), on the cameras of a fixed protocol
(`training/protocol.py`).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

if not __package__:  # run as a script: sys.path[0] is this folder, the packages lie one above
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
from torch import Tensor
from tqdm import tqdm

from scenetok_core.files import replacing
from scenetok_core.metrics import psnr
from scenetok_core.pipeline import SceneTok
from scenetok_core.sheets import contact_sheet, save_image
from scenetok_core.splines import rotation_about
from scenetok_core.types import SceneTokens, Views
from training.data.rooms import Rooms
from training.protocol import PROTOCOLS, HeldOutScene, Protocol, fingerprint, held_out_scenes
from training.scores import OURS, Figures, Scores, summarise

DEFAULT_CHECKPOINT = Path(__file__).resolve().parents[1] / "checkpoints" / "scenetok-tiny.safetensors"

_SWEEP = (0.25, 0.5, 0.75, 1.0)  # shares of the tokens
_SCALES = (0.01, 100.0)
_CHECKED_SCENES = 8  # for the invariances
_SHEET_SCENES = 6
_POSE_STEP, _POSE_STEPS = 2.0, 4  # degrees between the poses a rendering is compared with, and poses to either side
_BYTES_PER_NUMBER = 2  # of stored tokens
_COLUMNS = {
    "PSNR dB": ("psnr", ".2f"),
    "SSIM": ("ssim", ".3f"),
    "gradient energy": ("gradient_energy", ".2f"),
    "finest band": ("laplacian_correlation", ".2f"),
    "gap closed": ("gap_closed", ".2f"),
    "as good as thumbnail of side": ("thumbnail_side", ".1f"),
    "pose error °": ("pose_error_degrees", ".1f"),
}

T = TypeVar("T")


@dataclass
class Evaluation:
    """A model under measurement: scores, timings and checks over the scenes seen so far."""

    model: SceneTok
    protocol: Protocol
    rooms: Rooms
    scores: Scores = field(default_factory=Scores)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    differences: dict[str, float] = field(default_factory=dict)
    rows: list[tuple[str, Tensor]] = field(default_factory=list)  # of the contact sheet
    scenes: list[HeldOutScene] = field(default_factory=list)

    def measure(self, scene: HeldOutScene) -> None:
        """Encode and render one scene, score it beside the baselines."""
        truth, index = scene.targets.rgb, len(self.scenes)
        self.scenes.append(scene)
        tokens, took = _timed(lambda: self.model.encode(scene.inputs))
        self.seconds.setdefault("encode", []).append(took)
        ours = {}
        for method, steps in zip(OURS, (1, None), strict=True):
            ours[method], took = _timed(lambda steps=steps: self._render(tokens, scene, steps))
            self.seconds.setdefault(method, []).append(took / len(truth))
            self.scores.add_pictures(method, ours[method], truth)
        shown = self.scores.add_baselines(scene, self.protocol.depth_tolerance)
        self._sweep(tokens, scene, ours["posterior_mean"])
        self._follow(scene, ours)
        if index < _CHECKED_SCENES:
            self._check_invariances(tokens, scene, ours["posterior_mean"])
        if index < _SHEET_SCENES:
            self.rows += [(f"inputs, seed {scene.seed}", scene.inputs.rgb), ("truth", truth)]
            for method, pictures in {**ours, **shown}.items():
                quality = float(psnr(pictures, truth).mean())
                self.rows.append((f"{method.replace('_', ' ')}\n{quality:.1f} dB", pictures))

    def _render(self, tokens: SceneTokens, scene: HeldOutScene, steps: int | None = 1) -> Tensor:
        noise = torch.Generator().manual_seed(scene.seed)
        return self.model.render(tokens, scene.targets.cameras, steps=steps, generator=noise)

    def _sweep(self, tokens: SceneTokens, scene: HeldOutScene, complete: Tensor) -> None:
        count = len(tokens.tokens)
        order = torch.randperm(count, generator=torch.Generator().manual_seed(scene.seed))
        for share in _SWEEP:
            kept = torch.zeros(count, dtype=torch.bool)
            kept[order[: max(1, round(share * count))]] = True
            made = complete if share == 1 else self._render(tokens.replace(mask=kept), scene)
            self.scores.add(f"tokens_{share:.0%}", psnr(made, scene.targets.rgb))

    def _follow(self, scene: HeldOutScene, ours: Mapping[str, Tensor]) -> None:
        """How far the pose that a rendering matches best is turned against the one asked for, for one target.

        A flat picture scores about 9 degrees.
        """
        degrees = torch.arange(-_POSE_STEPS, _POSE_STEPS + 1) * _POSE_STEP
        camera = scene.targets.cameras[[0]]
        rotations = [rotation_about(axis, torch.deg2rad(degrees)) for axis in torch.eye(3)[:2]]  # tilts and turns
        turned = camera.c2w.repeat(2 * len(degrees), 1, 1)
        turned[:, :3, :3] @= torch.cat(rotations).float()
        around = camera.replace(c2w=turned[None], K=camera.K[:1].expand(1, len(turned), 3, 3))
        truths = self.rooms.render(scene.room, around)[0][0]
        for method, pictures in ours.items():
            match = (truths - pictures[:1]).square().mean((1, 2, 3)).unflatten(0, (2, -1))
            self.scores.add(f"{method}_pose_error", degrees[match.argmin(1)].norm()[None])

    def _check_invariances(self, tokens: SceneTokens, scene: HeldOutScene, expected: Tensor) -> None:
        order = torch.randperm(len(tokens.tokens), generator=torch.Generator().manual_seed(scene.seed))
        self._note("permutation", self._render(tokens.replace(tokens=tokens.tokens[order]), scene) - expected)
        for factor in _SCALES:
            scaled = replace(scene, inputs=_scaled(scene.inputs, factor), targets=_scaled(scene.targets, factor))
            self._note(f"scale_{factor:g}", self._render(self.model.encode(scaled.inputs), scaled) - expected)

    def _note(self, name: str, difference: Tensor) -> None:
        self.differences[name] = max(self.differences.get(name, 0.0), float(difference.abs().max()))

    def figures(self) -> Figures:
        """Everything measured, as one flat table."""
        config, scores = self.model.config, self.scores
        tokens = config.compressor.tokens * config.compressor.token_dim
        tried, accepted = (sum(getattr(scene, name) for scene in self.scenes) for name in ("tried", "accepted"))
        return {
            "protocol": self.protocol.name,
            "protocol_fingerprint": fingerprint(self.scenes),
            "model": config.name,
            "model_hash": self.model.hash,
            "scenes": len(self.scenes),
            "targets": len(self.scenes) * self.protocol.targets,
            "skipped_seeds": self.scenes[-1].seed - self.protocol.first_seed + 1 - len(self.scenes),
            "visible_share": float(torch.cat([scene.visible for scene in self.scenes]).mean()),
            "rejected_share": 1 - accepted / tried,
            **summarise(scores, config.image_size),
            **{f"{method}_pose_error_degrees": scores.mean(f"{method}_pose_error") for method in OURS},
            **{f"tokens_{share * 100:.0f}_percent_psnr": scores.mean(f"tokens_{share:.0%}") for share in _SWEEP},
            **{f"{name}_max_difference": value for name, value in self.differences.items()},
            "seconds_per_encode": statistics.median(self.seconds["encode"]),
            **{f"seconds_per_frame_{method}": statistics.median(self.seconds[method]) for method in OURS},
            "sample_steps": config.sampling.steps,
            "parameters": sum(parameter.numel() for parameter in self.model.networks.parameters()),
            "tokens_kib": tokens * _BYTES_PER_NUMBER / 1024,
        }


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    began = time.perf_counter()
    result = work()
    return result, time.perf_counter() - began


def _scaled(views: Views, factor: float) -> Views:
    """The same capture measured in another unit."""
    c2w = views.cameras.c2w.clone()
    c2w[:, :3, 3] *= factor
    return Views(views.rgb, views.cameras.replace(c2w=c2w))


def evaluate(model: SceneTok, protocol: Protocol, progress: bool = False) -> Evaluation:
    """Measure a model on all scenes of a protocol."""
    rooms = protocol.rooms(model.config.image_size, model.config.context_views)
    evaluation = Evaluation(model, protocol, rooms)
    scenes = held_out_scenes(protocol, rooms)
    for scene in tqdm(scenes, desc="evaluate", unit="scene", total=protocol.scenes, disable=not progress):
        evaluation.measure(scene)
    return evaluation


def table(figures: Figures) -> str:
    """The methods as a Markdown table, and the other figures as a list."""
    methods = [name.removesuffix("_ssim") for name in figures if name.endswith("_ssim")]
    lines = [["", *_COLUMNS], ["---", *["--:"] * len(_COLUMNS)]]
    for method in methods:
        keys = [(f"{method}_{measure}", form) for measure, form in _COLUMNS.values()]
        lines.append(
            [method.replace("_", " "), *[format(figures[key], form) if key in figures else "" for key, form in keys]]
        )
    shown = {f"{method}_{measure}" for method in methods for measure, _ in _COLUMNS.values()}
    rest = [f"- {name.replace('_', ' ')}: {_readable(value)}" for name, value in figures.items() if name not in shown]
    return "\n".join([*(f"| {' | '.join(cells)} |" for cells in lines), "", *rest])


def _readable(value: float | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _run(options: argparse.Namespace) -> None:
    protocol = PROTOCOLS[options.config]
    if options.scenes is not None:
        protocol = replace(protocol, scenes=options.scenes)
    model = SceneTok.load(options.checkpoint, device=options.device)
    began = time.perf_counter()
    evaluation = evaluate(model, protocol, progress=True)
    figures = {**evaluation.figures(), "seconds_in_all": time.perf_counter() - began}
    print(table(figures))
    with replacing(options.json) as partial:
        partial.write_text(json.dumps(figures, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    if options.sheet:
        save_image(options.sheet, contact_sheet(evaluation.rows, scale=2))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status. Bad input prints one line on standard error."""
    parser = argparse.ArgumentParser(description="Measure a checkpoint on held-out rooms, beside simple baselines.")
    parser.add_argument("--config", required=True, choices=sorted(PROTOCOLS), help="name of the protocol")
    parser.add_argument("--json", required=True, help="file for the figures, one flat JSON object")
    parser.add_argument("--checkpoint", default=DEFAULT_CHECKPOINT, help="model to measure (default: the shipped one)")
    parser.add_argument("--scenes", type=int, help="number of scenes (default: the protocol's)")
    parser.add_argument("--sheet", help="picture file for inputs, truth and renderings of a few scenes")
    parser.add_argument("--device", default="cpu", help="torch device of the model (default cpu)")
    options = parser.parse_args(arguments)
    try:
        _run(options)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
