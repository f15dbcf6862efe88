"""Figures of the qualities of Render Trajectory and of settings around them: `python -m benchmarks.qualities`.

Prints a Markdown table over the held-out cameras of the example capture: PSNR against the truth, sharpness as a share
of the truth's, and the distance to a solution of many steps from the same noise.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.seams import sharpness
from scenetok_core import SceneTok, open_capture
from scenetok_core.configs import QUALITIES
from scenetok_core.metrics import psnr
from scenetok_core.types import SceneTokens, Views

_CAPTURE = Path(__file__).resolve().parents[1] / "workflows" / "example_capture"
_CHECKPOINT = Path(__file__).resolve().parents[1] / "checkpoints" / "scenetok-tiny.safetensors"
_TIMES = (2, 4, 8)  # the model's steps


def settings(model: SceneTok) -> dict[str, dict[str, Any]]:
    """What is measured: the qualities, then more steps with both solvers; options of `SceneTok.render` by name."""
    rows: dict[str, dict[str, Any]] = {name: {"quality": name} for name in QUALITIES}
    for times in _TIMES:
        for solver in ("euler", "ab2"):
            steps = times * model.config.sampling.steps
            rows[f"{steps} steps, {solver}"] = {"steps": steps, "solver": solver}
    return rows


def table(model: SceneTok, scene: SceneTokens, truth: Views, seeds: int, reference_steps: int) -> str:
    """The Markdown table, means over the seeds of the noise."""

    def render(**options: Any) -> Tensor:
        draws = [torch.Generator().manual_seed(seed) for seed in range(seeds)]
        return torch.stack([model.render(scene, truth.cameras, generator=draw, **options) for draw in draws])

    reference = render(steps=reference_steps, solver="ab2")
    lines = ["| | PSNR dB | sharpness | to the solution | seconds |", "|---|--:|--:|--:|--:|"]
    for name, options in settings(model).items():
        began = time.perf_counter()
        frames = render(**options)
        seconds = (time.perf_counter() - began) / seeds
        sharp = sum(sharpness(frames.flatten(0, 1))) / (seeds * sum(sharpness(truth.rgb)))
        error = (frames - reference).square().mean().sqrt()
        score = torch.stack([psnr(pictures, truth.rgb).mean() for pictures in frames]).mean()
        lines.append(f"| {name} | {score:.2f} | {sharp:.3f} | {error:.4f} | {seconds:.1f} |")
    return "\n".join(lines)


def main() -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Figures of the qualities of Render Trajectory.")
    parser.add_argument("--checkpoint", type=Path, default=_CHECKPOINT)
    parser.add_argument("--capture", type=Path, default=_CAPTURE / "transforms.json", help="input views")
    parser.add_argument("--truth", type=Path, default=_CAPTURE / "heldout.json", help="capture of held-out views")
    parser.add_argument("--seeds", type=int, default=3, help="draws of the noise (default 3)")
    parser.add_argument("--reference", type=int, default=400, help="steps of the solution, with ab2 (default 400)")
    options = parser.parse_args()
    model = SceneTok.load(options.checkpoint)
    size = model.config.image_size
    scene = model.encode(open_capture(options.capture).load(size=size))
    truth = open_capture(options.truth).load(size=size)
    print(f"model {model.config.name}, hash {model.hash}, {len(truth)} held-out views\n")
    print(table(model, scene, truth, options.seeds, options.reference))
    return 0


if __name__ == "__main__":
    sys.exit(main())
