"""3DRAE and 3DDiT at full size with random weights: `python benchmarks/rae.py [--quick]`.

Seconds beside those of the paper on another machine (arXiv 2604.11331, table 1: one A800), and the share that is
reached of what large matrix products reach in the same run. Attention per view and over all views (as in the paper)
take turns on the same weights. `--quick` runs few of the 50 steps of 3DDiT-XL and says what all of them would take.
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
from typing import Any, NamedTuple

if not __package__:  # run as a script: sys.path[0] is this folder, the packages lie one above
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from benchmarks import machine
from benchmarks.random_models import random_latent_generator, random_rae
from scenetok_core.configs import DIT3D_PRESETS, RAE_PRESETS, Dit3dConfig, RaeConfig
from scenetok_core.files import write_text
from scenetok_core.rae import Rae
from scenetok_core.types import Cameras, Views
from scenetok_core.weights.checkpoints import load_networks

_VIEWS, _SIDE = 16, 252
_AUTOENCODER = dataclasses.replace(RAE_PRESETS["3drae-dinov2"], points=None)  # points are not decoded
_PAPER_RAE, _PAPER_DIT3D = 0.23, 1.98  # seconds on an A800 for 16 views, one of them given
_DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
_QUICK_STEPS, _REPEATS = 2, 3
_CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, out_shape=None, **__: (
        sdpa_flop_count(q, k, v)
    )
}


@dataclass(frozen=True)
class Row:
    """One measurement; seconds are the median of the runs."""

    name: str
    dtype: str
    device: str
    seconds: float
    measured: str  # all of it, or what was measured and taken times what
    tera_operations: float  # multiplications and additions of products, in 1e12
    paper_seconds: float | None = None  # on an A800


@dataclass(frozen=True)
class Settings:
    """What is measured, where and how often."""

    device: torch.device
    dtype: torch.dtype
    repeats: int  # runs after the first one, which warms up; 0: the first one counts
    steps: int | None = None  # of the generator; None: all
    autoencoder: RaeConfig = _AUTOENCODER
    generator: Dit3dConfig = DIT3D_PRESETS["3ddit-xl"]
    views: int = _VIEWS
    side: int = _SIDE  # pixels along an edge


class Cost(NamedTuple):
    """Median seconds of a function, its multiplications and additions, and what it returned."""

    seconds: float
    operations: float
    result: Any = None


def scene(settings: Settings) -> Views:
    """Random pictures from cameras on an arc that look ahead."""
    count, side, noise = settings.views, settings.side, torch.Generator().manual_seed(0)
    c2w = torch.eye(4).repeat(count, 1, 1)
    c2w[:, 0, 3] = torch.linspace(-1, 1, count)
    c2w[:, 2, 3] = c2w[:, 0, 3].square() / 2
    K = torch.tensor([[1.0, 0, 0.5], [0, 1.0, 0.5], [0, 0, 1]]).repeat(count, 1, 1)
    return Views(torch.rand(count, 3, side, side, generator=noise), Cameras(c2w, K, size=(side, side)))


def measure(settings: Settings) -> list[Row]:
    """The rows: a 3DRAE, its decoder with either attention, a 3DDiT."""
    views, count = scene(settings), settings.views
    model = random_rae(settings.autoencoder, settings.dtype, settings.device)
    path, given = views.cameras, views[[0]]

    def row(name: str, *parts: Cost, measured: str = "all", paper: float | None = None) -> Row:
        seconds, operations = sum(part.seconds for part in parts), sum(part.operations for part in parts)
        where = (str(settings.dtype)[6:], settings.device.type)
        return Row(name, *where, seconds, measured, operations / 1e12, paper)

    (encode,) = costs(settings, [lambda: model.encode(views)])
    others = _with_global_attention(model)
    renders = [lambda: model.render(encode.result, path), lambda: others.render(encode.result, path)]
    separate, together = costs(settings, renders)
    rows = [
        row(f"{settings.autoencoder.name}: encode and render {count} views", encode, separate, paper=_PAPER_RAE),
        row(f"render {count} views, attention per view", separate),
        row(f"render {count} views, attention over all views", together),
    ]
    generator = random_latent_generator(settings.generator, settings.dtype, settings.device)
    sampling = settings.generator.sampling
    steps = settings.steps or sampling.steps
    (prepare,) = costs(settings, [lambda: generator.prepare(given, path, model)])
    (draw,) = costs(settings, [lambda: generator.draw(prepare.result, steps=steps)])
    times = sampling.steps / steps
    measured = "all" if times == 1 else f"{steps} of {sampling.steps} steps, times {times:g}"
    name = f"{settings.generator.name}: {sampling.steps} steps, guidance {sampling.guidance:g}, render {count} views"
    whole = (prepare, Cost(times * draw.seconds, times * draw.operations), separate)
    return [*rows, row(name, *whole, measured=measured, paper=_PAPER_DIT3D)]


def costs(settings: Settings, functions: Sequence[Callable[[], Any]]) -> list[Cost]:
    """What each function takes; they take turns."""
    first = [_first(function, settings.device) for function in functions]
    if settings.repeats == 0:
        return first
    runs = [[machine.seconds(function, settings.device) for function in functions] for _ in range(settings.repeats)]
    medians = [statistics.median(times) for times in zip(*runs, strict=True)]
    return [cost._replace(seconds=seconds) for cost, seconds in zip(first, medians, strict=True)]


def _first(function: Callable[[], Any], device: torch.device) -> Cost:
    results = []
    with FlopCounterMode(display=False, custom_mapping=_CPU_ATTENTION) as counter:
        seconds = machine.seconds(lambda: results.append(function()), device)
    return Cost(seconds, counter.get_total_flops(), results[0])


def _with_global_attention(model: Rae) -> Rae:
    config = dataclasses.replace(model.config, view_attention="global")
    return dataclasses.replace(model, config=config, networks=load_networks(model.networks.state_dict(), config))


def table(rows: Sequence[Row], rate: float) -> str:
    """The rows in Markdown; `rate` is that of large products, operations a second."""
    lines = ["| | dtype | seconds | measured | 10^12 operations | share of products | paper, A800 |"]
    lines.append("|---|---|--:|---|--:|--:|--:|")
    for row in rows:
        paper = "" if row.paper_seconds is None else f"{row.paper_seconds:g} s"
        share = row.tera_operations * 1e12 / row.seconds / rate
        figures = f"{row.seconds:.4g} | {row.measured} | {row.tera_operations:.3g} | {share:.0%} | {paper}"
        lines.append(f"| {row.name} | {row.dtype} | {figures} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="3DRAE and 3DDiT at full size, with random weights.")
    parser.add_argument("--quick", action="store_true", help=f"each once, and {_QUICK_STEPS} steps of 3DDiT")
    parser.add_argument("--repeats", type=int, help=f"runs after the first (default {_REPEATS}, quick 0)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=list(_DTYPES), default="bf16", help="number format (default bf16)")
    parser.add_argument("--json", type=Path, help="write the rows into this file")
    options = parser.parse_args(arguments)
    device, dtype = torch.device(options.device), _DTYPES[options.dtype]
    repeats = options.repeats if options.repeats is not None else (0 if options.quick else _REPEATS)
    print(f"{machine.describe(device)}\n", flush=True)
    before = machine.product_rate(device, dtype)
    rows = measure(Settings(device, dtype, repeats, _QUICK_STEPS if options.quick else None))
    after = machine.product_rate(device, dtype)
    print(
        f"large products in {options.dtype}: {before:.3g} operations a second before, {after:.3g} after; shares are of "
        f"the better\n\n{table(rows, max(before, after))}"
    )
    if options.json:
        report = {"product_rates": [before, after], "rows": [dataclasses.asdict(row) for row in rows]}
        write_text(options.json, json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
