"""The reference formulation against ours, at full size with random weights: `python benchmarks/run.py [--quick]`.

Both run alternately in one process, on the same weights and inputs; times are medians, ratios reference over ours.
`--quick` takes a few blocks of every network, and a few small pictures where an autoencoder is at work.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

if not __package__:  # run as a script: sys.path[0] is this folder, the packages lie one above
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
from torch import Tensor, nn

from benchmarks import machine, reference
from benchmarks.random_models import random_autoencoder, random_weights
from scenetok_core.autoencoders.vavae import VaVae
from scenetok_core.autoencoders.videodc import VideoDcAutoencoder
from scenetok_core.configs import CompressorConfig, DecoderConfig, GeneratorConfig
from scenetok_core.files import write_text
from scenetok_core.flow import guide
from scenetok_core.models.compressor import Compressor
from scenetok_core.models.decoder import Decoder
from scenetok_core.models.networks import sample_latents
from scenetok_core.models.scenegen import SceneGen, sample_tokens
from scenetok_core.nn.rope import AxialRope
from scenetok_core.sampling import make_schedule
from scenetok_core.weights.loading import assign_weights

N = TypeVar("N", bound=nn.Module)
_VIEWS, _LATENTS, _GUIDANCE = 12, 8, 3.0
_QUICK_DEPTH, _QUICK_LATENTS, _QUICK_SIDE = 6, 2, 128


@dataclass(frozen=True)
class Row:
    """One comparison; seconds are medians, `peak_gib` is what the weights and one run of ours take."""

    name: str
    dtype: str
    device: str
    reference_s: float
    ours_s: float
    ratio: float
    peak_gib: float | None


@dataclass(frozen=True)
class Settings:
    """What is measured, and where."""

    device: torch.device
    quick: bool
    seconds: float  # a case is repeated until so much time has passed

    def depth(self, full: int) -> int:
        """Number of blocks of a network that has `full`."""
        return min(full, _QUICK_DEPTH) if self.quick else full


@dataclass(frozen=True)
class Pair:
    """The two formulations of one computation."""

    name: str
    dtype: torch.dtype
    reference: Callable[[], Tensor]
    ours: Callable[[], Tensor]
    network: nn.Module


Case = Callable[[Settings], list[Pair]]


def _random(network: Callable[[], N], dtype: torch.dtype, device: torch.device) -> N:
    with torch.device("meta"):
        built = network()
    shapes = {name: tensor.shape for name, tensor in built.state_dict().items()}
    assign_weights(built, random_weights(shapes), dtype)
    return built.to(device)


def _draw(settings: Settings, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(settings.device)


def encode(settings: Settings, dtype: torch.dtype) -> Pair:
    """Posed pictures to scene tokens."""
    config = CompressorConfig(depth=settings.depth(CompressorConfig.depth))
    if settings.quick:
        config = dataclasses.replace(config, ray_map=_QUICK_SIDE // 2)
    pictures = _draw(settings, 1, _VIEWS, 3, 2 * config.ray_map, 2 * config.ray_map).sigmoid()
    rays = _draw(settings, 1, _VIEWS, 6, config.ray_map, config.ray_map)
    compressor = _random(lambda: Compressor(config), dtype, settings.device)
    autoencoder = random_autoencoder("va-vae", dtype, settings.device)
    assert isinstance(autoencoder, VaVae)
    plain = reference.PlainVaVae(autoencoder)
    return Pair(
        f"encode {_VIEWS} views",
        dtype,
        reference=lambda: compressor(plain.encode(pictures), rays).mean,
        ours=lambda: compressor(autoencoder.encode(pictures), rays).mean,
        network=nn.ModuleList([compressor, autoencoder.network.encoder]),
    )


def decoder_step(settings: Settings, dtype: torch.dtype, tokens: int) -> Pair:
    """One step of the decoder on a window."""
    config = DecoderConfig(depth=settings.depth(DecoderConfig.depth))
    side = config.ray_map // config.ray_patch
    noisy, t = _draw(settings, 1, _LATENTS, config.latent_channels, side, side), _draw(settings, 1, _LATENTS).sigmoid()
    rays = _draw(settings, 1, _LATENTS, config.frames_per_latent, 6, config.ray_map, config.ray_map)
    scene = _draw(settings, 1, tokens, config.token_dim)
    rope = AxialRope((_LATENTS, side, side), config.hidden // config.heads, device=settings.device)
    decoder = _random(lambda: Decoder(config), dtype, settings.device)
    context, embedded = decoder.condition(scene), decoder.embed_rays(rays)
    return Pair(
        f"decoder step, {_LATENTS} latents, {tokens} tokens",
        dtype,
        reference=lambda: reference.decoder_step(decoder, noisy, t, rays, scene, rope),
        ours=lambda: decoder(noisy, t, embedded, context),
        network=decoder,
    )


def scenegen_step(settings: Settings, dtype: torch.dtype) -> Pair:
    """One guided step of the scene generator, given one view."""
    config = GeneratorConfig(depth=settings.depth(GeneratorConfig.depth))
    side, views = config.ray_map // config.ray_patch, config.cond_views
    noisy, t = _draw(settings, 1, config.tokens, config.token_dim), _draw(settings, 1).sigmoid()
    latents = _draw(settings, 1, views, config.latent_channels, side, side)
    rays = _draw(settings, 1, views, 6, config.ray_map, config.ray_map)
    anchors = _draw(settings, 1, config.anchors, 6, config.ray_map, config.ray_map)
    seen = torch.arange(views, device=settings.device)[None] == 0
    model = _random(lambda: SceneGen(config), dtype, settings.device)
    both = model.condition(latents[:, :1], rays[:, :1], anchors).with_unconditional()

    def ours() -> Tensor:
        conditional, unconditional = model(torch.cat([noisy, noisy]), torch.cat([t, t]), both).chunk(2)
        return guide(conditional, unconditional, _GUIDANCE)

    return Pair(
        "guided SceneGen step, 1 view",
        dtype,
        reference=lambda: reference.guided_step(model, noisy, t, latents, rays, anchors, seen, _GUIDANCE),
        ours=ours,
        network=model,
    )


def videodcae_decode(settings: Settings, dtype: torch.dtype) -> Pair:
    """Latents to frames."""
    latents, side = (_QUICK_LATENTS, _QUICK_SIDE) if settings.quick else (_LATENTS, 256)
    autoencoder = random_autoencoder("videodcae", dtype, settings.device)
    assert isinstance(autoencoder, VideoDcAutoencoder)
    plain, spec = reference.PlainVideoDc(autoencoder), autoencoder.spec
    code = _draw(settings, 1, latents, spec.channels, side // spec.spatial, side // spec.spatial)
    return Pair(
        f"VideoDCAE decode, {latents * spec.frames_per_latent} frames, {side} px",
        dtype,
        reference=lambda: plain.decode(code),
        ours=lambda: autoencoder.decode(code),
        network=autoencoder.network.decoder,
    )


def scene(settings: Settings) -> list[Pair]:
    """Tokens drawn from one view, then 32 frames of them; in bfloat16, all weights at hand."""
    steps, render_steps = (150, 25) if settings.device.type == "cuda" else (2, 2)
    drawing, rendering = _scene_parts(settings, steps, render_steps)
    if settings.device.type == "cuda":  # on a CPU the steps are measured above
        return [drawing, rendering, _after(drawing, rendering)]
    return [_after(drawing, rendering)]


def _after(first: Pair, second: Pair) -> Pair:
    return Pair(
        f"{first.name}, then {second.name}",
        first.dtype,
        reference=lambda: (first.reference(), second.reference())[1],
        ours=lambda: (first.ours(), second.ours())[1],
        network=nn.ModuleList([first.network, second.network]),
    )


def _scene_parts(settings: Settings, steps: int, render_steps: int) -> tuple[Pair, Pair]:
    device, dtype = settings.device, torch.bfloat16
    generator, config = GeneratorConfig(), DecoderConfig()
    side, views = generator.ray_map // generator.ray_patch, generator.cond_views
    latents = _draw(settings, 1, views, generator.latent_channels, side, side)
    rays = _draw(settings, 1, views, 6, generator.ray_map, generator.ray_map)
    anchors = _draw(settings, 1, generator.anchors, 6, generator.ray_map, generator.ray_map)
    seen = torch.arange(views, device=device)[None] == 0
    tokens = _draw(settings, 1, generator.tokens, generator.token_dim)
    one = make_schedule("full_sequence", horizon=1, steps=steps, window=1, clean_targets=0)
    model = _random(lambda: SceneGen(generator), dtype, device)

    cells = config.ray_map // config.ray_patch
    noise = _draw(settings, 1, _LATENTS, config.latent_channels, cells, cells)
    path = _draw(settings, 1, _LATENTS, config.frames_per_latent, 6, config.ray_map, config.ray_map)
    window = make_schedule("full_sequence", horizon=_LATENTS, steps=render_steps, window=_LATENTS, clean_targets=4)
    decoder = _random(lambda: Decoder(config), dtype, device)
    autoencoder = random_autoencoder("videodcae", dtype, device)
    assert isinstance(autoencoder, VideoDcAutoencoder)
    del autoencoder.network.encoder  # nothing is encoded
    plain = functools.cache(lambda: reference.PlainVideoDc(autoencoder))

    def draw() -> Tensor:
        conditioning = model.condition(latents[:, :1], rays[:, :1], anchors)
        return sample_tokens(model, conditioning, tokens, one, guidance=_GUIDANCE)

    drawing = Pair(
        f"{steps} guided SceneGen steps",
        dtype,
        reference=lambda: reference.draw(model, latents, rays, anchors, seen, tokens, one, _GUIDANCE),
        ours=draw,
        network=model,
    )
    rendering = Pair(
        f"32 frames in {render_steps} steps, decoded",
        dtype,
        reference=lambda: plain().decode(reference.render(decoder, path, tokens, noise, window)),
        ours=lambda: autoencoder.decode(sample_latents(decoder, tokens, path, noise, window)),
        network=nn.ModuleList([decoder, autoencoder.network.decoder]),
    )
    return drawing, rendering


def _in_both(case: Callable[[Settings, torch.dtype], Pair]) -> Case:
    return lambda settings: [case(settings, torch.float32), case(settings, torch.bfloat16)]


CASES: dict[str, Case] = {
    "encode": _in_both(encode),
    "decoder-512": _in_both(functools.partial(decoder_step, tokens=512)),
    "decoder-1024": _in_both(functools.partial(decoder_step, tokens=1024)),
    "scenegen": _in_both(scenegen_step),
    "videodcae": _in_both(videodcae_decode),
    "scene": scene,
}
_QUICK_CASES = [name for name in CASES if name != "scene"]


@torch.no_grad()
def measure(case: Case, settings: Settings) -> list[Row]:
    """A row for each pair; after float32 and bfloat16, one for ours in bfloat16 against the reference in float32."""
    device, pairs = settings.device, case(settings)
    peaks = [machine.peak_bytes(pair.ours, device) for pair in pairs]  # warms up, too
    times: list[tuple[list[float], list[float]]] = [([], []) for _ in pairs]
    start = time.perf_counter()
    while not times[0][0] or time.perf_counter() - start < settings.seconds:
        for pair, (theirs, ours) in zip(pairs, times, strict=True):
            theirs.append(machine.seconds(pair.reference, device))
            ours.append(machine.seconds(pair.ours, device))
    medians = [(statistics.median(theirs), statistics.median(ours)) for theirs, ours in times]
    rows = []
    for pair, (theirs, ours), peak in zip(pairs, medians, peaks, strict=True):
        weights = sum(p.numel() * p.element_size() for p in pair.network.parameters())
        gib = None if peak is None else (weights + peak) / 2**30
        rows.append(Row(pair.name, str(pair.dtype)[6:], device.type, theirs, ours, theirs / ours, gib))
    if [pair.dtype for pair in pairs] != [torch.float32, torch.bfloat16]:
        return rows
    exact, half = rows
    mixed = dataclasses.replace(half, dtype="bfloat16 : float32", reference_s=exact.reference_s)
    return [*rows, dataclasses.replace(mixed, ratio=mixed.reference_s / mixed.ours_s)]


def cards(parts: Sequence[Pair], sizes: Sequence[float], device: torch.device) -> str:
    """Markdown table: seconds of a scene on GPUs of `sizes` GiB, emulated by a cap; one part is on it at a time."""
    total = torch.cuda.get_device_properties(device).total_memory / 2**30
    lines = ["| card GiB | seconds |", "|--:|--:|"]
    for size in sizes:
        torch.cuda.set_per_process_memory_fraction(min(1.0, size / total), device)
        try:
            spent = f"{sum(_alone(part, device) for part in parts):.3g}"
        except torch.OutOfMemoryError:
            spent = "out of memory"
        lines.append(f"| {size:g} | {spent} |")
    torch.cuda.set_per_process_memory_fraction(1.0, device)
    return "\n".join(lines)


def _alone(part: Pair, device: torch.device) -> float:
    """Seconds of one run of ours, from weights in main memory to weights in main memory."""
    try:
        return machine.seconds(lambda: (part.network.to(device), part.ours()), device)
    finally:
        part.network.to("cpu")
        torch.cuda.empty_cache()


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown."""
    lines = ["| | dtype | reference s | ours s | ratio | peak GiB |", "|---|---|--:|--:|--:|--:|"]
    for row in rows:
        peak = "" if row.peak_gib is None else f"{row.peak_gib:.2f}"
        times = f"{row.reference_s:.4g} | {row.ours_s:.4g} | {row.ratio:.2f}"
        lines.append(f"| {row.name} | {row.dtype} | {times} | {peak} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="The reference formulation against ours, on random weights.")
    parser.add_argument("--quick", action="store_true", help="few blocks, few and small pictures: under 3 minutes")
    parser.add_argument("--only", nargs="+", choices=list(CASES), metavar="CASE", help=f"some of {', '.join(CASES)}")
    parser.add_argument("--seconds", type=float, help="repeat a case for so long (default 60, quick 8)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--cards", type=float, nargs="+", metavar="GIB", help="a scene on smaller GPUs, by a memory cap"
    )
    parser.add_argument("--json", type=Path, help="write the rows into this file")
    options = parser.parse_args(arguments)
    if options.cards and torch.device(options.device).type != "cuda":
        parser.error(f"--cards emulates smaller GPUs on an NVIDIA GPU; --device is {options.device!r}")
    seconds = options.seconds if options.seconds is not None else (8.0 if options.quick else 60.0)
    settings = Settings(torch.device(options.device), options.quick, seconds)
    print(f"{machine.describe(settings.device)}\n")
    rows: list[Row] = []
    began = time.perf_counter()
    for name in options.only or (_QUICK_CASES if options.quick else CASES):
        rows += measure(CASES[name], settings)
        gc.collect()
        print(f"{name} measured after {time.perf_counter() - began:.0f} s", file=sys.stderr)
    print(table(rows))
    if options.cards:
        parts = [dataclasses.replace(part, network=part.network.to("cpu")) for part in _scene_parts(settings, 150, 25)]
        with torch.no_grad():
            print(f"\n{cards(parts, options.cards, settings.device)}")
    if options.json:
        write_text(options.json, json.dumps([dataclasses.asdict(row) for row in rows], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
