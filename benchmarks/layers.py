"""Seconds of every kind of layer at the released sizes, float32 against bfloat16: `python -m benchmarks.layers`.

Prints a Markdown table. Convolutions run with kernels in the usual order and with channels last.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from benchmarks import machine
from scenetok_core.autoencoders.videodc import ChannelNorm
from scenetok_core.nn.attention import RMSNorm, attend
from scenetok_core.nn.layers import SwiGLU
from scenetok_core.nn.rope import AxialRope

Run = Callable[[], Tensor]
_ROWS, _WIDTH, _HEADS = 512, 1024, 16  # of the decoder: a window of 8 latents


def layers(dtype: torch.dtype, device: torch.device) -> Iterator[tuple[str, Run]]:
    """Name and computation of each kind of layer."""
    rows = torch.randn(1, _ROWS, _WIDTH).to(device, dtype)
    heads = torch.randn(1, _HEADS, _ROWS, _WIDTH // _HEADS).to(device, dtype)
    rope = AxialRope((8, 8, 8), _WIDTH // _HEADS, device=device)
    linear, mlp = nn.Linear(_WIDTH, 6 * _WIDTH).to(device, dtype), SwiGLU(_WIDTH).to(device, dtype)
    norm = RMSNorm(_WIDTH).to(device, dtype)
    yield "Linear 1024 -> 6144, 512 rows", lambda: linear(rows)
    yield "SwiGLU 1024, 512 rows", lambda: mlp(rows)
    yield "attention, 16 heads, 512 x 512", lambda: attend(heads, heads, heads)
    yield "rotary positions, 16 heads, 512 rows", lambda: rope(heads)
    yield "RMS norm 1024, 512 rows", lambda: norm(rows)
    for layout, ending in ((torch.contiguous_format, ""), (torch.channels_last_3d, ", channels last")):
        for channels, side in ((128, 256), (512, 64)):
            video = torch.randn(1, channels, 4, side, side).to(device, dtype).contiguous(memory_format=layout)
            conv = nn.Conv3d(channels, channels, 3, padding=1, device=device, dtype=dtype)
            conv.weight.data = conv.weight.data.contiguous(memory_format=layout)
            size = f"{channels}, 4 x {side} x {side}{ending}"
            yield f"Conv3d {size}", functools.partial(conv, video)
            yield f"channel norm {size}", functools.partial(ChannelNorm(channels).to(device, dtype), video)


def table(device: torch.device, seconds: float) -> str:
    """The Markdown table."""
    lines = ["| layer | float32 ms | bfloat16 ms | ratio |", "|---|--:|--:|--:|"]
    for (name, exact), (_, half) in zip(layers(torch.float32, device), layers(torch.bfloat16, device), strict=True):
        times: dict[Run, list[float]] = {exact: [], half: []}
        for run in times:
            run()
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or not times[half]:
            for run, measured in times.items():
                measured.append(machine.seconds(run, device))
        theirs, ours = (1000 * statistics.median(measured) for measured in times.values())
        lines.append(f"| {name} | {theirs:.3g} | {ours:.3g} | {theirs / ours:.2f} |")
    return "\n".join(lines)


@torch.no_grad()
def main() -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Seconds of every kind of layer, float32 against bfloat16.")
    parser.add_argument("--seconds", type=float, default=2.0, help="repeat a layer for so long (default 2)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    print(f"{machine.describe(device)}\n\n{table(device, options.seconds)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
