"""`leave-out`: score renderings of views that were not encoded."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..captures import open_capture
from ..leave_out import leave_out
from ..pictures.sheets import save_image
from .common import (
    PICTURES,
    add_capture,
    add_model,
    add_scale,
    bar,
    check_every,
    check_output,
    load_views,
    open_model,
    print_scores,
    writing,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    add_capture(parser)
    parser.add_argument("--every", type=int, required=True, help="encode every n-th view, render those between")
    add_scale(parser)
    parser.add_argument("--seed", type=int, default=0, help="noise seed (default 0)")
    parser.add_argument("--out", type=Path, help="contact sheet to write (.png): inputs, truth, renderings")
    add_model(parser)


def run(arguments: argparse.Namespace) -> None:
    """Encode some views, render those between, print the scores."""
    check_every(arguments.every, 2)
    if arguments.out is not None:
        check_output(arguments.out, PICTURES)
    model = open_model(arguments)
    views = load_views(open_capture(arguments.capture), model)
    with bar("render") as progress:
        result = leave_out(
            model, views, arguments.every, scale=arguments.scene_scale, seed=arguments.seed, progress=progress
        )
    print_scores(len(result.truth), len(result.inputs), len(views), result.scores())
    if arguments.out is not None:
        with writing(arguments.out):
            save_image(arguments.out, result.sheet())
        print(arguments.out)
