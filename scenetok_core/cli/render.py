"""`render`: scene tokens + camera path -> video, of colour or of depth."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import torch
from torch import Tensor

from ..configs import QUALITIES, SolverName, TemporalTiles, convert
from ..depth import DepthHead, colour_depth
from ..families import SceneModel
from ..files import replacing
from ..pictures.video import write_video
from ..point_depth import PointDepth
from ..trajectories import PRESETS, make_trajectory, modifier_options, preset_options
from ..views.seen import describe_seen, measure_seen
from ..weights.checkpoints import load_scene
from .common import add_model, bar, check_output, open_model, writing

_VIDEOS = (".mp4",)
_ARRAYS = (".npz",)  # of depth
_OWN_POINTS = ""  # `--depth` without a head


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("scene", help="scene file written by encode")
    parser.add_argument("--trajectory", default="follow", choices=sorted(PRESETS), help="camera path (default follow)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="option of the camera path (repeatable), e.g. degrees=120 for orbit, keys=FILE_OR_JSON for keyframes, and "
        "speed=0.5, easing=ease-in-out, reverse=true, path_smoothing=0.1 for all",
    )
    parser.add_argument("--frames", type=int, default=48, help="frames to render (default 48)")
    parser.add_argument(
        "--quality",
        choices=list(QUALITIES),
        default="normal",
        help="draft: the posterior mean; normal: the model's own sampling; best: more steps (default normal)",
    )
    parser.add_argument("--steps", type=int, help="sampling steps; 1 is the posterior mean (default: of the quality)")
    parser.add_argument("--guidance", type=float, help="classifier-free guidance (default: the model's)")
    parser.add_argument("--solver", choices=get_args(SolverName), help="of the flow (default: the model's)")
    parser.add_argument(
        "--temporal-tiles",
        choices=get_args(TemporalTiles),
        default="auto",
        help="decode a long video in overlapping pieces (default auto: only where memory is short)",
    )
    parser.add_argument(
        "--views-per-pass",
        type=int,
        default=0,
        help="frames that are sampled and decoded together; fewer take less memory (default 0: the model's window)",
    )
    parser.add_argument("--seed", type=int, default=0, help="noise seed (default 0)")
    parser.add_argument(
        "--depth",
        nargs="?",
        const=_OWN_POINTS,
        metavar="HEAD",
        help="render depth by this head of the model, or by its own point maps when none is named (3DRAE): as colours, "
        "or with --out FILE.npz its values (array `depths` "
        "[frames, height, width] in units of the cameras)",
    )
    parser.add_argument("--fps", type=float, default=24.0, help="frames per second of the video (default 24)")
    parser.add_argument("--out", required=True, type=Path, help="file to write (.mp4; of depth also .npz)")
    add_model(parser)


def run(arguments: argparse.Namespace) -> None:
    """Render a scene along a path and write the video, or the values of its depth."""
    check_output(arguments.out, _VIDEOS if arguments.depth is None else (*_VIDEOS, *_ARRAYS))
    if arguments.depth is not None and arguments.guidance is not None:
        raise ValueError("--guidance is not used with --depth: depth heads are trained with tokens only")
    if arguments.depth is not None and arguments.quality != "normal":
        raise ValueError("--quality is not used with --depth; ask for a number of --steps")
    path_options = _path_options(arguments.trajectory, arguments.set)
    scene = load_scene(arguments.scene)
    cameras = make_trajectory(arguments.trajectory, scene.cameras, arguments.frames, **path_options)
    seen = measure_seen(cameras, scene.cameras)
    if bool(seen.outside.any()):
        print(f"warning: {describe_seen(seen)}", file=sys.stderr)
    model = open_model(arguments)
    head = None if arguments.depth is None else _depth_source(arguments.depth, model)
    began = time.perf_counter()
    with bar("render") as progress:
        render = model.render if head is None else head.render
        options: dict[str, Any] = {}
        if head is None:
            options = {"guidance": arguments.guidance, "quality": arguments.quality}
        frames = render(
            scene,
            cameras,
            steps=arguments.steps,
            solver=arguments.solver,
            temporal_tiles=arguments.temporal_tiles,
            views_per_pass=arguments.views_per_pass,
            generator=torch.Generator().manual_seed(arguments.seed),
            progress=progress,
            **options,
        )
    with writing(arguments.out):
        if arguments.out.suffix.lower() in _ARRAYS:
            _write_array(arguments.out, frames)
        else:
            write_video(arguments.out, frames if head is None else colour_depth(frames), fps=arguments.fps)
    height, width = frames.shape[-2:]
    print(f"{arguments.out}: {len(frames)} frames {width}x{height} in {time.perf_counter() - began:.1f} s")


def _depth_source(head: str, model: SceneModel) -> DepthHead | PointDepth:
    return PointDepth.of(model) if head == _OWN_POINTS else DepthHead.load(head, model)


def _write_array(path: Path, depth: Tensor) -> None:
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, depths=depth[:, 0].numpy())


def _path_options(preset: str, settings: Sequence[str]) -> dict[str, Any]:
    """`name=value` texts as the options of a path. Raises `ValueError` for unknown names and wrong values."""
    known = preset_options(preset) | modifier_options()
    hints = get_type_hints(make_trajectory) | get_type_hints(PRESETS[preset])
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
        return Path(text).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"setting keyframes.keys must be a JSON list or a file of one, got {text!r} ({error})"
        ) from error
