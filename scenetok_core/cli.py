"""Command line: `python -m scenetok_core encode | render | info`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from .captures import open_capture
from .checkpoints import CHECKPOINT_FORMAT, load_scene, read_tensors, save_scene
from .pipeline import SceneTok
from .sampling import Preview, Progress
from .trajectories import PRESETS, make_trajectory
from .types import SceneTokens
from .video import write_video

_DEVICES = "cuda" if torch.cuda.is_available() else "cpu"


def _scale(text: str) -> str | float:
    return text if text in ("auto", "none") else float(text)


def _bar(label: str) -> tuple[tqdm, Progress]:
    bar = tqdm(desc=label, unit="step")

    def report(done: int, total: int, preview: Preview | None) -> None:
        bar.total = total
        bar.update(done - bar.n)

    return bar, report


def _model(arguments: argparse.Namespace) -> SceneTok:
    return SceneTok.load(arguments.checkpoint, device=arguments.device)


def _encode(arguments: argparse.Namespace) -> None:
    model = _model(arguments)
    capture = open_capture(arguments.capture)
    every = capture.subset(list(range(0, len(capture), arguments.every)))
    views = every.load(size=model.config.image_size, progress=_files_bar(len(every)))
    bar, progress = _bar("encode")
    with bar:
        scene = model.encode(views, reference=arguments.reference, scale=arguments.scene_scale, progress=progress)
    save_scene(arguments.out, scene)
    print(
        f"{arguments.out}: {len(scene.tokens)} tokens x {scene.tokens.shape[1]} from {len(scene.cameras)} of "
        f"{len(views)} views, {Path(arguments.out).stat().st_size / 1024:.1f} KiB, scene scale {scene.scene_scale:.4g}"
    )


def _files_bar(total: int) -> object:
    bar = tqdm(total=total, desc="read", unit="picture")
    return lambda done, _total, *_rest: bar.update(done - bar.n)


def _render(arguments: argparse.Namespace) -> None:
    scene = load_scene(arguments.scene)
    model = _model(arguments)
    cameras = make_trajectory(arguments.trajectory, scene.cameras, arguments.frames)
    bar, progress = _bar("render")
    began = time.perf_counter()
    with bar:
        frames = model.render(
            scene,
            cameras,
            steps=arguments.steps,
            guidance=arguments.guidance,
            generator=torch.Generator().manual_seed(arguments.seed),
            progress=progress,
        )
    write_video(arguments.out, frames, fps=arguments.fps)
    height, width = frames.shape[-2:]
    print(f"{arguments.out}: {len(frames)} frames {width}x{height} in {time.perf_counter() - began:.1f} s")


def _info(arguments: argparse.Namespace) -> None:
    tensors, metadata = read_tensors(arguments.file)
    if metadata.get("format") == CHECKPOINT_FORMAT:
        count = sum(tensor.numel() for tensor in tensors.values())
        plain = {k: v for k, v in metadata.items() if k != "config"}
        print(json.dumps({**plain, "parameters": count, "config": json.loads(metadata["config"])}, indent=2))
        return
    scene = load_scene(arguments.file)
    print(json.dumps(_describe(scene), indent=2))


def _describe(scene: SceneTokens) -> dict[str, object]:
    return {
        "preset": scene.preset,
        "model_hash": scene.model_hash,
        "tokens": list(scene.tokens.shape),
        "active": len(scene.active),
        "scene_scale": scene.scene_scale,
        "views": len(scene.cameras),
        "picture_size": scene.cameras.size,
        "meta": dict(scene.meta),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scenetok_core", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    encode = commands.add_parser("encode", help="posed pictures -> scene tokens")
    encode.add_argument(
        "capture", help="transforms.json, COLMAP folder, RealEstate10K text, or folder with cameras.json"
    )
    encode.add_argument("--out", required=True, help="scene file to write (.safetensors)")
    encode.add_argument("--every", type=int, default=1, help="use every n-th view (default 1)")
    encode.add_argument("--reference", type=int, help="view whose camera is the origin (default: the most central one)")
    encode.add_argument("--scene-scale", type=_scale, default="auto", help="auto, none, or a factor (default auto)")
    encode.set_defaults(run=_encode)

    render = commands.add_parser("render", help="scene tokens + camera path -> video")
    render.add_argument("scene", help="scene file written by encode")
    render.add_argument("--trajectory", default="follow", choices=sorted(PRESETS), help="camera path (default follow)")
    render.add_argument("--frames", type=int, default=48, help="frames to render (default 48)")
    render.add_argument("--steps", type=int, help="sampling steps; 1 is the posterior mean (default: the model's)")
    render.add_argument("--guidance", type=float, help="classifier-free guidance (default: the model's)")
    render.add_argument("--seed", type=int, default=0, help="noise seed (default 0)")
    render.add_argument("--fps", type=float, default=24.0, help="frames per second of the video (default 24)")
    render.add_argument("--out", required=True, help="video file to write (.mp4)")
    render.set_defaults(run=_render)

    for command in (encode, render):
        command.add_argument("--checkpoint", required=True, help="model checkpoint (.safetensors)")
        command.add_argument("--device", default=_DEVICES, help=f"torch device (default {_DEVICES})")

    info = commands.add_parser("info", help="what a checkpoint or scene file holds")
    info.add_argument("file")
    info.set_defaults(run=_info)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. Bad input prints one line on standard error."""
    parsed = _parser().parse_args(arguments)
    try:
        parsed.run(parsed)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
