"""`render`: scene tokens + camera path -> video."""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

import torch

from ..checkpoints import load_scene
from ..configs import SolverName, TemporalTiles, convert
from ..trajectories import PRESETS, make_trajectory, preset_options
from ..video import write_video
from .common import add_model, bar, check_output, open_model, writing

_VIDEOS = (".mp4",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("scene", help="scene file written by encode")
    parser.add_argument("--trajectory", default="follow", choices=sorted(PRESETS), help="camera path (default follow)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="option of the camera path (repeatable), e.g. degrees=120 for orbit, keys=FILE_OR_JSON for keyframes",
    )
    parser.add_argument("--frames", type=int, default=48, help="frames to render (default 48)")
    parser.add_argument("--steps", type=int, help="sampling steps; 1 is the posterior mean (default: the model's)")
    parser.add_argument("--guidance", type=float, help="classifier-free guidance (default: the model's)")
    parser.add_argument("--solver", choices=get_args(SolverName), help="of the flow (default: the model's)")
    parser.add_argument(
        "--temporal-tiles",
        choices=get_args(TemporalTiles),
        default="auto",
        help="decode a long video in overlapping pieces (default auto: only where memory is short)",
    )
    parser.add_argument("--seed", type=int, default=0, help="noise seed (default 0)")
    parser.add_argument("--fps", type=float, default=24.0, help="frames per second of the video (default 24)")
    parser.add_argument("--out", required=True, type=Path, help="video file to write (.mp4)")
    add_model(parser)


def run(arguments: argparse.Namespace) -> None:
    """Render a scene along a path and write the video."""
    check_output(arguments.out, _VIDEOS)
    options = _path_options(arguments.trajectory, arguments.set)
    scene = load_scene(arguments.scene)
    cameras = make_trajectory(arguments.trajectory, scene.cameras, arguments.frames, **options)
    model = open_model(arguments)
    began = time.perf_counter()
    with bar("render") as progress:
        frames = model.render(
            scene,
            cameras,
            steps=arguments.steps,
            guidance=arguments.guidance,
            solver=arguments.solver,
            temporal_tiles=arguments.temporal_tiles,
            generator=torch.Generator().manual_seed(arguments.seed),
            progress=progress,
        )
    with writing(arguments.out):
        write_video(arguments.out, frames, fps=arguments.fps)
    height, width = frames.shape[-2:]
    print(f"{arguments.out}: {len(frames)} frames {width}x{height} in {time.perf_counter() - began:.1f} s")


def _path_options(preset: str, settings: Sequence[str]) -> dict[str, Any]:
    """`name=value` texts as the options of a preset. Raises `ValueError` for unknown names and wrong values."""
    known, hints = preset_options(preset), get_type_hints(PRESETS[preset])
    options = {}
    for setting in settings:
        name, separator, text = setting.partition("=")
        if not separator or name not in known:
            listed = ", ".join(f"{option}={default}" for option, default in known.items())
            raise ValueError(
                f"--set {setting!r} is no option of trajectory {preset!r}; it takes name=value of {listed}"
            )
        value = _keys(text) if name == "keys" else convert(hints[name], _plain(text), f"{preset}.{name}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"setting {preset}.{name} must be a finite number, got {text}")
        options[name] = value
    return options


def _plain(text: str) -> object:
    """A number, true, false or null of JSON; any other text is kept."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _keys(text: str) -> str:
    if text.lstrip().startswith("["):
        return text
    try:
        return Path(text).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"setting keyframes.keys must be a JSON list or a file of one, got {text!r} ({error})"
        ) from error
