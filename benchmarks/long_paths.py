"""Long camera paths: everything held at once against window by window: `python -m benchmarks.long_paths [--quick]`.

The reference draws the noise of the whole path, keeps its ray maps and latents on the device and decodes them in one
call, as the published code does. Both run alternately in one process on the same random weights and give the same
frames. Seconds are medians; memory is the most that the tensors of one run take beside the weights on the device, on a
CPU with the frames.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import machine
from benchmarks.random_models import random_scenetok
from scenetok_core import SceneTok, SceneTokens
from scenetok_core.camera import fit_cameras, ray_features, scale_focal, to_scene_frame
from scenetok_core.configs import CompressorConfig, DecoderConfig, SamplingConfig, SceneTokConfig
from scenetok_core.files import write_text
from scenetok_core.models.networks import sample_latents
from scenetok_core.passes import Pass
from scenetok_core.types import Cameras
from scenetok_core.weights.presets import PRESETS
from tests.memory import PeakMemory

_FRAMES, _QUICK_FRAMES = (64, 256, 1024), (16, 64)
_TOGETHER = 8  # windows of a pass, where windows are independent
_DEPTH, _QUICK_DEPTH = 5, 1
_ROUNDING = {torch.float32: 1e-4, torch.bfloat16: 0.1}  # of frames in [0, 1]


@dataclass(frozen=True)
class Row:
    """One length of a path; memory in MiB."""

    frames: int
    how: str
    seconds_per_frame: float
    ratio: float  # seconds of the reference over these
    peak_mib: float


def small_config(depth: int) -> SceneTokConfig:
    """Sizes of the shipped tiny model."""
    grid: dict[str, Any] = {
        "hidden": 192,
        "depth": depth,
        "heads": 3,
        "token_dim": 32,
        "latent_channels": 192,
        "patch": 1,
    }
    rays: dict[str, Any] = {"ray_map": 32, "ray_patch": 4}
    return SceneTokConfig(
        "small",
        image_size=64,
        context_autoencoder="patch-8",
        target_autoencoder="patch-8",
        compressor=CompressorConfig(**grid, **rays, tokens=64),
        decoder=DecoderConfig(**grid, **rays, frames_per_latent=1),
        sampling=SamplingConfig(steps=4, window=4, clean_targets=0),
    )


def walk(frames: int, size: int) -> Cameras:
    """A sideways walk over one unit."""
    c2w = torch.eye(4).repeat(frames, 1, 1)
    c2w[:, 0, 3] = torch.linspace(0, 1, frames)
    K = torch.tensor([[0.9, 0, 0.5], [0, 0.9, 0.5], [0, 0, 1.0]]).repeat(frames, 1, 1)
    return Cameras(c2w, K, size=(size, size))


def tokens_of(model: SceneTok) -> SceneTokens:
    """A scene of random tokens."""
    config = model.config.compressor
    tokens = torch.randn(config.tokens, config.token_dim, generator=torch.Generator().manual_seed(0))
    return SceneTokens(
        tokens, torch.eye(4), 1.0, walk(2, model.config.image_size), preset=model.config.name, model_hash=model.hash
    )


@torch.no_grad()
def at_once(model: SceneTok, scene: SceneTokens, cameras: Cameras) -> Tensor:
    """Frames [T, 3, H, W] of a path of whole groups, everything on the device at the same time."""
    config, spec, device = model.config, model.target_autoencoder.spec, model.device
    local = to_scene_frame(
        fit_cameras(cameras, (config.image_size, config.image_size)), scene.reference_c2w, scene.scene_scale
    )
    side, latents = config.decoder.ray_map, spec.groups(len(cameras)) * spec.group_latents
    rays = spec.pack(ray_features(local.c2w[None], scale_focal(local.K, config.target_focal)[None], (side, side)))
    cells = config.image_size // spec.spatial
    noise = torch.randn(1, latents, spec.channels, cells, cells, generator=torch.Generator().manual_seed(0))
    schedule = Pass.of(config.sampling, spec, latents).schedule(config.sampling, latents)
    sampled = sample_latents(
        model.networks.denoiser, scene.active[None].to(device), rays.to(device), noise.to(device), schedule
    )
    return model.target_autoencoder.decode(sampled)[0].cpu()


def measure(model: SceneTok, frames: Sequence[int], seconds: float) -> list[Row]:
    """Rows for every length of a path.

    Raises:
        ValueError: the formulations differ by more than rounding.
    """
    scene, spec, sampling = tokens_of(model), model.target_autoencoder.spec, model.config.sampling
    window = spec.frames(sampling.window)
    ways: dict[str, Callable[[Cameras], Tensor]] = {
        "at once": lambda path: at_once(model, scene, path),
        "window by window": lambda path: model.render(scene, path, temporal_tiles="on"),
    }
    if sampling.clean_targets == 0:
        ways[f"{_TOGETHER} windows at a time"] = lambda path: model.render(
            scene, path, temporal_tiles="on", views_per_pass=_TOGETHER * window
        )
    rows = []
    for count in frames:
        path = walk(spec.frames(spec.groups(count) * spec.group_latents), model.config.image_size)
        rows += _compare(ways, path, model, seconds)
    return rows


def _compare(ways: dict[str, Callable[[Cameras], Tensor]], path: Cameras, model: SceneTok, seconds: float) -> list[Row]:
    device, dtype = model.device, next(model.networks.parameters()).dtype
    reference, peaks = ways["at once"](path), {}
    for name, way in ways.items():
        peaks[name] = _peak_bytes(lambda way=way: way(path), model)
        error = (way(path) - reference).abs().max().item()
        if error > _ROUNDING[dtype]:
            raise ValueError(f"{name}: frames differ by {error:.2g}")
    times: dict[str, list[float]] = {name: [] for name in ways}
    while sum(times["at once"]) < seconds or not times["at once"]:
        for name, way in ways.items():
            times[name].append(machine.seconds(lambda way=way: way(path), device))
    medians = {name: statistics.median(spent) for name, spent in times.items()}
    return [
        Row(
            len(path),
            name,
            medians[name] / len(path),
            medians["at once"] / medians[name],
            peaks[name] / 2**20,
        )
        for name in ways
    ]


def _peak_bytes(function: Callable[[], object], model: SceneTok) -> int:
    if model.device.type == "cuda":
        return machine.peak_bytes(function, model.device) or 0
    with PeakMemory(*model.modules) as peak:
        function()
    return peak.bytes


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown."""
    lines = ["| frames | | seconds per frame | ratio | peak MiB |", "|--:|---|--:|--:|--:|"]
    for row in rows:
        figures = f"{row.seconds_per_frame:.4g} | {row.ratio:.2f} | {row.peak_mib:.0f}"
        lines.append(f"| {row.frames} | {row.how} | {figures} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Long camera paths: everything at once, and window by window.")
    parser.add_argument("--quick", action="store_true", help="one block, short paths: seconds")
    parser.add_argument("--frames", type=int, nargs="+", help=f"lengths of the paths (default {_FRAMES})")
    parser.add_argument("--released", action="store_true", help="sizes of va-videodc_re10k; meant for a GPU")
    parser.add_argument("--seconds", type=float, help="repeat each length for so long (default 30, quick 0)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="write the rows into this file")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    config = (
        PRESETS["va-videodc_re10k"] if options.released else small_config(_QUICK_DEPTH if options.quick else _DEPTH)
    )
    assert isinstance(config, SceneTokConfig)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    model = random_scenetok(config, dtype, device)
    print(f"{machine.describe(device)}, {config.name}, {str(dtype)[6:]}\n")
    seconds = options.seconds if options.seconds is not None else (0.0 if options.quick else 30.0)
    rows = measure(model, options.frames or (_QUICK_FRAMES if options.quick else _FRAMES), seconds)
    print(table(rows))
    if options.json:
        write_text(options.json, json.dumps([dataclasses.asdict(row) for row in rows], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
