"""Released sizes with random weights through the nodes of a real ComfyUI on the CPU: `python -m benchmarks.full_size`.

Twelve views are encoded, a path of 32 frames is rendered with few steps. Prints seconds per node and the most memory
that the server took. The pictures are noise; what counts is that everything fits together.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

from benchmarks import machine
from benchmarks.random_models import random_weights
from scenetok_core.autoencoders import published_files, vavae, videodc
from scenetok_core.configs import SceneTokConfig
from scenetok_core.weights.checkpoints import build_networks, save_checkpoint
from scenetok_core.weights.presets import PRESETS
from scripts.demo import Stopwatch, titles_of
from tests.engine import ComfyServer, find_comfy, run_prompt
from tests.engine.workflows import WORKFLOWS, Json

ROOT = Path(__file__).resolve().parents[1]
_PRESET, _FILE = "va-videodc_re10k", "va-videodc_re10k.safetensors"
_LONGEST_RUN_S = 3600.0


def write_weights(folder: Path, dtype: torch.dtype) -> None:
    """A SceneTok checkpoint and its two autoencoders, under the names that they are published with."""
    config = PRESETS[_PRESET]
    assert isinstance(config, SceneTokConfig)
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in build_networks(config).state_dict().items()}
    save_checkpoint(folder / _FILE, {k: v.to(dtype) for k, v in random_weights(shapes).items()}, config)
    for name, module in ((config.context_autoencoder, vavae), (config.target_autoencoder, videodc)):
        file = next(file for file in published_files(name) if file.endswith(".safetensors"))
        state = {key: tensor.to(dtype) for key, tensor in random_weights(module.published_shapes()).items()}
        save_file(state, folder / file)


def prompt(views: int, steps: int, frames: int, dtype: str) -> dict[str, Json]:
    """The shipped workflow with the full-size model."""
    nodes: dict[str, Json] = json.loads((WORKFLOWS / "api" / "encode_render.json").read_text(encoding="utf-8"))
    changes = {
        "SceneTok_LoadModel": {"model": _FILE, "dtype": dtype},
        "SceneTok_LoadViews": {"capture": "example: room, held-out path", "max_views": views},
        "SceneTok_CameraTrajectory": {"frames": frames},
        "SceneTok_RenderTrajectory": {"steps": steps},
    }
    for node in nodes.values():
        node["inputs"].update(changes.get(node["class_type"], {}))
    return nodes


def main() -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Released sizes with random weights through ComfyUI on the CPU.")
    parser.add_argument("--views", type=int, default=12)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--dtype", default="auto", choices=["auto", "bf16", "fp32"], help="as in Load SceneTok")
    options = parser.parse_args()
    print(machine.describe(torch.device("cpu")), flush=True)
    with tempfile.TemporaryDirectory(prefix="scenetok_full_size_") as folder:
        server = ComfyServer(find_comfy(Path(folder)), Path(folder) / "base", {"scenetok": ROOT})
        write_weights(server.folder("models", "scenetok"), torch.bfloat16)
        nodes = prompt(options.views, options.steps, options.frames, options.dtype)
        watch = Stopwatch(titles_of(nodes))
        with server:
            assert server.process is not None, "the server runs"
            done = run_prompt(server.url, nodes, watch, _LONGEST_RUN_S)
            peak = machine.peak_of_process(server.process.pid)
        if done.status != "execution_success":
            print(f"the workflow failed: {done.error or done.status}", file=sys.stderr)
            return 1
    for title, seconds in watch.seconds.items():
        print(f"{title:<24} {seconds:8.1f} s")
    print(f"{'peak memory':<24} {peak / 2**30:8.2f} GiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
