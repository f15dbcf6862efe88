"""`estimate`: photographs or a video without poses -> cameras."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from ..captures import image_size, list_pictures, load_image, write_transforms
from ..pictures.sheets import save_image
from ..types import Cameras
from ..views.frame_selection import pick_frames
from ..views.pose_estimation import EstimationConfig, Lens, Order, check_pycolmap, estimate_cameras
from .common import bar, check_output, writing

_FRAMES = "frames"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("pictures", type=Path, help="folder of pictures of one place, or a video")
    parser.add_argument(
        "--out",
        required=True,
        type=Path,
        help=f"transforms.json to write; frames of a video are saved beside it, in {_FRAMES}/",
    )
    parser.add_argument(
        "--order",
        choices=get_args(Order),
        default="auto",
        help="whether neighbours in time show the same (default auto)",
    )
    parser.add_argument("--lens", choices=get_args(Lens), default="simple_radial", help="lens model")
    parser.add_argument("--fov", type=float, help="field of view across the longer side in degrees, when known")
    parser.add_argument(
        "--camera-per-picture", action="store_true", help="the zoom changed, or there are several cameras"
    )
    parser.add_argument("--threads", type=int, default=-1, help="processor threads (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random choices (default 0)")
    parser.add_argument("--frames", type=int, default=60, help="of a video: most frames (default 60)")
    parser.add_argument(
        "--max-side", type=int, default=1920, help="of a video: longest side of its frames in pixels (default 1920)"
    )
    parser.add_argument("--start", type=float, default=0.0, metavar="S", help="of a video: first second (default 0)")
    parser.add_argument("--end", type=float, metavar="S", help="of a video: last second (default: its end)")


def run(arguments: argparse.Namespace) -> None:
    """Estimate, write the cameras, print the report."""
    check_output(arguments.out, (".json",))
    check_pycolmap()
    config = EstimationConfig(
        order=arguments.order,
        lens=arguments.lens,
        fov_degrees=arguments.fov,
        shared_camera=not arguments.camera_per_picture,
        threads=arguments.threads,
        seed=arguments.seed,
    )
    files = _pictures(arguments)
    size = _shared_size(files)
    with bar("estimate", "picture") as progress:
        found = estimate_cameras(map(load_image, files), config, progress)
    names = [Path(os.path.relpath(files[i], arguments.out.parent)).as_posix() for i in found.indices]
    with writing(arguments.out):
        cameras = Cameras(found.capture.c2w, found.capture.K)
        write_transforms(arguments.out, cameras, names, size, found.capture.lenses)
    print(found.report)
    print(arguments.out)


def _pictures(arguments: argparse.Namespace) -> list[Path]:
    if arguments.pictures.is_dir():
        return list_pictures(arguments.pictures)
    with bar("read", "ms") as progress:
        picked = pick_frames(
            arguments.pictures,
            arguments.frames,
            start_s=arguments.start,
            end_s=arguments.end,
            max_side=arguments.max_side,
            progress=progress,
        )
    folder = arguments.out.parent / _FRAMES
    files = [folder / f"{i:04}.png" for i in range(len(picked.rgb))]
    for file, picture in zip(files, picked.rgb, strict=True):
        with writing(file):
            save_image(file, picture)
    return files


def _shared_size(files: Sequence[Path]) -> tuple[int, int]:
    sizes = {image_size(file): file for file in files}
    if len(sizes) != 1:
        raise ValueError(
            f"expected pictures of one size in one folder, got {len(files)} of {len(sizes)} sizes"
            + "".join(f", {w} x {h} px ({file.name})" for (h, w), file in list(sizes.items())[:3])
        )
    return next(iter(sizes))
