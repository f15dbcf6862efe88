"""Real training processes: a small run as a file, and several processes that find each other on this machine."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT_S = 400
MEASURED = {"data_s", "step_s", "samples_per_s", "minutes", "peak_memory_mib"}  # what no two runs have alike
SMALL_RUN = """
[run]
name = "small"
steps = 4
seed = 3
log_every = 1
save_every = 100
sheet_every = 0
mixed_precision = "no"

[optim]
lr = 1e-3
warmup = 2
ema = 0.9

[data]
scenes = 2
context_views = 2
target_views = 2
rooms = { image_size = 16, views = 4, strays = 2, textures = 8, texture_size = 16 }

[task]
mean_share = 0.3
unconditional = 0.2

[model]
name = "small"
image_size = 16
context_views = 2
context_autoencoder = "patch-4"
target_autoencoder = "patch-4"
compressor = { hidden = 32, depth = 2, heads = 2, tokens = 6, token_dim = 8, latent_channels = 48, patch = 1, \
ray_map = 8, ray_patch = 2 }
decoder = { hidden = 32, depth = 2, heads = 2, token_dim = 8, latent_channels = 48, patch = 1, ray_map = 8, \
ray_patch = 2, frames_per_latent = 1 }
"""


def write_run(folder: Path) -> Path:
    """The small run as a file."""
    path = folder / "small.toml"
    path.write_text(SMALL_RUN.replace("\\\n", ""))
    return path


def environment(**more: str) -> dict[str, str]:
    """Of a training process on the CPU: one thread, this checkout's packages."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("ACCELERATE_", "FSDP_"))}
    plain = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true"}
    return clean | plain | {"PYTHONUNBUFFERED": "1"} | more


def train_command(config: Path, output: Path, *settings: str) -> list[str]:
    """`python training/train.py` for the small run."""
    changes = [f"run.output={json.dumps(str(output))}", *settings]
    sets = [part for change in changes for part in ("--set", change)]
    return [sys.executable, str(ROOT / "training/train.py"), "--config", str(config), *sets]


def launch(command: list[str], processes: int = 1, **variables: str) -> list[subprocess.CompletedProcess[str]]:
    """Run `command` in so many processes of one group and wait; none is left behind."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meet = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started = []
    try:
        for rank in range(processes):
            place = meet | {"RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {}
            started.append(
                subprocess.Popen(
                    command, env=environment(**place, **variables), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                    text=True, cwd=ROOT,
                )
            )  # fmt: skip
        outcomes = []
        for process in started:
            out, err = process.communicate(timeout=TIMEOUT_S)
            outcomes.append(subprocess.CompletedProcess(command, process.returncode, out, err))
        return outcomes
    finally:
        for process in started:
            process.kill()
            process.wait()


def run_log(folder: Path) -> list[dict[str, float | None]]:
    """The lines of a run's log without clocks."""
    lines = (folder / "training_log.jsonl").read_text().splitlines()
    return [{name: value for name, value in json.loads(line).items() if name not in MEASURED} for line in lines]
