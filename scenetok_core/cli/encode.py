"""`encode`: posed pictures -> scene tokens."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from ..captures import open_capture
from ..weights.checkpoints import save_scene
from .common import add_capture, add_model, add_scale, bar, check_every, check_output, load_views, open_model, writing

_SCENES = (".safetensors",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    add_capture(parser)
    parser.add_argument("--out", required=True, type=Path, help="scene file to write (.safetensors)")
    parser.add_argument("--every", type=int, default=1, help="use every n-th view (default 1)")
    parser.add_argument(
        "--reference",
        type=int,
        help="view whose camera is the origin, counted from 0 among the views that --every leaves (default: the "
        "model's own choice: of SceneTok the most central one, of 3DRAE the first)",
    )
    add_scale(parser)
    parser.add_argument("--sample", action="store_true", help="draw from the posteriors, where the model has some")
    parser.add_argument("--seed", type=int, default=0, help="seed for --sample (default 0)")
    add_model(parser)


def run(arguments: argparse.Namespace) -> None:
    """Encode a capture and save the scene."""
    check_every(arguments.every, 1)
    check_output(arguments.out, _SCENES)
    model = open_model(arguments)
    capture = open_capture(arguments.capture)
    every = capture.subset(slice(None, None, arguments.every))
    views = load_views(every, model)
    with bar("encode") as progress:
        scene = model.encode(
            views,
            reference=arguments.reference,
            scale=arguments.scene_scale,
            sample=arguments.sample,
            generator=torch.Generator().manual_seed(arguments.seed),
            progress=progress,
        )
    with writing(arguments.out):
        save_scene(arguments.out, scene)
    print(
        f"{arguments.out}: {len(scene.tokens)} tokens x {scene.tokens.shape[1]} from {len(scene.cameras)} of "
        f"{len(views)} views, {arguments.out.stat().st_size / 1024:.1f} KiB, scene scale {scene.scene_scale:.4g}"
    )
