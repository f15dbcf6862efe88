"""Quality against size: scene tokens beside the inputs as JPEG that are carried over with exact depth.

`python training/rate.py --config tiny --figures FILE... --plot FILE.svg` compares what `evaluate.py` wrote for models
on the same protocol. The JPEG rows count the bytes of the pictures only: depth comes free, and is exact.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

if not __package__:  # run as a script: sys.path[0] is this folder, the packages lie one above
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from scenetok_core.files import write_text
from scenetok_core.metrics import psnr
from scenetok_core.pictures.sheets import to_image, to_tensor
from scenetok_core.types import Views
from training.baselines import reproject, warp
from training.cases import Fingerprint
from training.charts import point_chart
from training.protocol import PROTOCOLS, Protocol, held_out_scenes

QUALITIES = (1, 5, 10, 20, 40, 70, 95)  # of JPEG
_INPUT_VIEWS = 8
_KIB = 1024


@dataclass(frozen=True)
class Point:
    """One way to store a scene: bytes in KiB, and the PSNR in dB of what is rendered from them."""

    label: str
    kib: float
    psnr: float


def jpeg(
    pictures: Tensor,  # [V, 3, H, W] in [0, 1]
    quality: int,  # 1 to 95
) -> tuple[Tensor, int]:
    """The pictures after JPEG compression, side by side in one file without metadata, and its bytes."""
    stored = io.BytesIO()
    to_image(torch.cat(list(pictures), dim=-1)).save(stored, "JPEG", quality=quality, optimize=True)
    restored = to_tensor(Image.open(stored))
    return torch.stack(list(restored.chunk(len(pictures), dim=-1))), len(stored.getvalue())


def jpeg_points(
    protocol: Protocol, image_size: int, qualities: Sequence[int] = QUALITIES, progress: bool = False
) -> tuple[list[Point], str]:
    """Inputs as JPEG of every quality, warped to the targets; and the fingerprint of cameras and pictures."""
    sizes: dict[int, list[int]] = {quality: [] for quality in qualities}
    scores: dict[int, list[Tensor]] = {quality: [] for quality in qualities}
    fingerprint = Fingerprint()
    scenes = held_out_scenes(protocol, protocol.rooms(image_size, _INPUT_VIEWS))
    for scene in tqdm(scenes, desc="JPEG", unit="scene", total=protocol.scenes, disable=not progress):
        inputs, targets = scene.inputs, scene.targets
        fingerprint.update(inputs, targets)
        places = reproject(targets.cameras, scene.target_depth, inputs.cameras, scene.input_depth)
        for quality in qualities:
            pictures, size = jpeg(inputs.rgb, quality)
            made = warp(Views(pictures, inputs.cameras), targets.cameras, places, protocol.depth_tolerance)
            sizes[quality].append(size)
            scores[quality].append(psnr(made, targets.rgb))
    points = [
        Point(f"JPEG {quality}", sum(sizes[quality]) / len(sizes[quality]) / _KIB, float(torch.cat(found).mean()))
        for quality, found in scores.items()
    ]
    return points, str(fingerprint)


def token_points(figures: Mapping[str, Any]) -> list[Point]:
    """The token sweep of a model: the posterior mean from a share of its tokens, fewest first.

    A 3DRAE has one point, that of all tokens.

    Args:
        figures: what `evaluate.py --json` wrote.

    Raises:
        ValueError: neither a sweep nor a posterior mean.
    """
    start, end = "tokens_", "_percent_psnr"
    shares = sorted(
        int(name[len(start) : -len(end)]) for name in figures if name.startswith(start) and name.endswith(end)
    )
    if not shares and "posterior_mean_psnr" in figures:
        return [Point(str(figures["model"]), figures["tokens_kib"], figures["posterior_mean_psnr"])]
    if not shares:
        raise ValueError("figures without tokens_..._percent_psnr; take a file that training/evaluate.py --json wrote")
    return [
        Point(f"{figures['model']} {share} %", figures["tokens_kib"] * share / 100, figures[f"{start}{share}{end}"])
        for share in shares
    ]


def read_figures(path: Path) -> dict[str, Any]:
    """A file of `evaluate.py --json`.

    Raises:
        ValueError: no JSON object of figures.
    """
    try:
        figures = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is no readable JSON file ({error})") from error
    if not isinstance(figures, dict) or "protocol_fingerprint" not in figures:
        raise ValueError(f"{path} holds no figures of training/evaluate.py --json")
    return figures


def _curves(options: argparse.Namespace) -> dict[str, list[Point]]:
    protocol = PROTOCOLS[options.config]
    if options.scenes is not None:
        protocol = replace(protocol, scenes=options.scenes)
    models = [read_figures(path) for path in options.figures]
    points, fingerprint = jpeg_points(protocol, options.size, progress=True)
    for path, figures in zip(options.figures, models, strict=True):
        if figures["protocol_fingerprint"] != fingerprint:
            raise ValueError(
                f"{path} was measured on other cameras or pictures ({figures['protocol_fingerprint']}) than the JPEG "
                f"rows ({fingerprint}); measure it with --config {options.config} at {options.size} pixels"
            )
    return {"inputs as JPEG, exact depth": points, **{figures["model"]: token_points(figures) for figures in models}}


def _table(curves: Mapping[str, Iterable[Point]]) -> str:
    rows = [f"| {point.label} | {point.kib:.2f} | {point.psnr:.2f} |" for points in curves.values() for point in points]
    return "\n".join(["| | KiB | PSNR dB |", "| --- | --: | --: |", *rows])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status. Bad input prints one line on standard error."""
    parser = argparse.ArgumentParser(description="Quality against size, beside JPEG inputs with exact depth.")
    parser.add_argument("--config", required=True, choices=sorted(PROTOCOLS), help="protocol of procedural rooms")
    parser.add_argument("--figures", nargs="+", required=True, type=Path, help="files of evaluate.py --json")
    parser.add_argument("--size", type=int, default=64, help="side of the pictures in pixels (default 64)")
    parser.add_argument("--scenes", type=int, help="number of scenes (default: the protocol's)")
    parser.add_argument("--json", type=Path, help="file for the points")
    parser.add_argument("--plot", type=Path, help="file for a chart (.svg)")
    options = parser.parse_args(arguments)
    try:
        curves = _curves(options)
        print(_table(curves))
        if options.json:
            data = {name: [vars(point) for point in points] for name, points in curves.items()}
            write_text(options.json, json.dumps(data, indent=2) + "\n")
        if options.plot:
            rows = {name: [(point.kib, point.psnr) for point in points] for name, points in curves.items()}
            write_text(options.plot, point_chart(rows, "KiB of a scene", "PSNR of new views, dB"))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
