"""Sharpness over time of VideoDCAE's frames, in tiles and in one piece: `python -m benchmarks.seams --out FILE.png`.

A smooth walk through latents is decoded by a network with random weights: full size, pictures of 64 pixels. Where two
tiles fade into each other, frames are the mean of two slightly different ones, and less sharp.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from benchmarks.random_models import random_autoencoder
from scenetok_core.autoencoders.videodc import VideoDcAutoencoder
from scenetok_core.files import replacing

_WIDTH, _HEIGHT, _MARGIN = 900, 300, 48
_COLOURS = ((200, 80, 60), (40, 110, 190))
_CELLS = 2  # latent cells of a picture's side


def walk(latents: int, channels: int, seed: int) -> Tensor:
    """Latents [1, L, C, h, w] of unit variance on a great circle."""
    noise = torch.randn(2, channels, _CELLS, _CELLS, generator=torch.Generator().manual_seed(seed))
    angle = torch.linspace(0, torch.pi, latents)[:, None, None, None]
    return (angle.cos() * noise[0] + angle.sin() * noise[1])[None]


def sharpness(frames: Tensor) -> list[float]:
    """Root mean square difference of neighbouring pixels, for each frame of [T, 3, H, W]."""
    rows, columns = frames.diff(dim=-2).square().mean((1, 2, 3)), frames.diff(dim=-1).square().mean((1, 2, 3))
    return (rows + columns).sqrt().tolist()


def figure(curves: Mapping[str, Sequence[float]]) -> Image.Image:
    """Curves over the frames."""
    sheet = Image.new("RGB", (_WIDTH, _HEIGHT), "white")
    draw, top = ImageDraw.Draw(sheet), 1.05 * max(map(max, curves.values()))
    low = 0.95 * min(map(min, curves.values()))
    frames = max(map(len, curves.values()))

    def point(frame: int, value: float) -> tuple[float, float]:
        across, up = frame / (frames - 1), (value - low) / (top - low)
        return _MARGIN + across * (_WIDTH - 2 * _MARGIN), _HEIGHT - _MARGIN - up * (_HEIGHT - 2 * _MARGIN)

    for frame in range(0, frames, 8):
        x, y = point(frame, low)
        draw.line([(x, y), (x, _MARGIN)], fill=(225, 225, 225))
        draw.text((x - 6, y + 6), str(frame), fill="black")
    for value in (low, top):
        draw.text((6, point(0, value)[1] - 6), f"{value:.3f}", fill="black")
    draw.text((_WIDTH // 2 - 20, _HEIGHT - 18), "frame", fill="black")
    for i, (name, values) in enumerate(curves.items()):
        draw.line([point(frame, value) for frame, value in enumerate(values)], fill=_COLOURS[i], width=2)
        draw.text((_MARGIN + 200 * i, 16), f"sharpness, {name}", fill=_COLOURS[i])
    return sheet


@torch.no_grad()
def main() -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Sharpness over time of VideoDCAE's frames.")
    parser.add_argument("--latents", type=int, default=24, help="latents of 4 frames (default 24)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, required=True, help="figure to write (.png)")
    options = parser.parse_args()
    autoencoder = random_autoencoder("videodcae", torch.float32, options.device)
    assert isinstance(autoencoder, VideoDcAutoencoder)
    latents = walk(options.latents, autoencoder.spec.channels, options.seed).to(options.device)
    kinds = {"in tiles, as published": autoencoder, "in one piece": autoencoder.seamless}
    curves = {name: sharpness(kind.decode_unclamped(latents)[0]) for name, kind in kinds.items()}
    with replacing(options.out) as path:
        figure(curves).save(path, "PNG")
    for name, values in curves.items():
        print(f"{name}: {' '.join(f'{value:.4f}' for value in values)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
