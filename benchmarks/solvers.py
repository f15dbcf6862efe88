"""Steps against the distance to an Euler solution of many steps, for every solver: `python -m benchmarks.solvers`.

Prints a Markdown table of root mean square differences of the frames, in units of brightness (0 to 1). Same scene, path
and noise everywhere.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from scenetok_core import SceneTok, open_capture
from scenetok_core.configs import SolverName
from scenetok_core.trajectories import make_trajectory

ROOT = Path(__file__).resolve().parents[1]
_STEPS = (4, 8, 12, 25, 50, 100)


def table(model: SceneTok, capture: Path, frames: int, seed: int, reference_steps: int) -> str:
    """The Markdown table: a row per number of steps, a column per solver."""
    scene = model.encode(open_capture(capture).load(size=model.config.image_size))
    path = make_trajectory("follow", scene.cameras, frames)

    def render(steps: int, solver: str) -> Tensor:
        noise = torch.Generator().manual_seed(seed)
        return model.render(scene, path, steps=steps, solver=solver, generator=noise)

    solvers = get_args(SolverName)
    reference = render(reference_steps, "euler")
    lines = [f"| steps | {' | '.join(solvers)} |", "|--:" * (len(solvers) + 1) + "|"]
    for steps in _STEPS:
        errors = [(render(steps, solver) - reference).square().mean().sqrt().item() for solver in solvers]
        lines.append(f"| {steps} | {' | '.join(f'{error:.4f}' for error in errors)} |")
    return "\n".join(lines)


def main() -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Steps against the distance to an Euler solution.")
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "checkpoints" / "scenetok-tiny.safetensors")
    parser.add_argument(
        "--capture", type=Path, default=ROOT / "workflows" / "example_capture" / "transforms.json", help="any capture"
    )
    parser.add_argument("--frames", type=int, default=8, help="frames of the path (default 8)")
    parser.add_argument("--seed", type=int, default=0, help="noise seed (default 0)")
    parser.add_argument("--reference", type=int, default=200, help="Euler steps of the reference (default 200)")
    options = parser.parse_args()
    model = SceneTok.load(options.checkpoint)
    print(f"model {model.config.name}, hash {model.hash}\n")
    print(table(model, options.capture, options.frames, options.seed, options.reference))
    return 0


if __name__ == "__main__":
    sys.exit(main())
