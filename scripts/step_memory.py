"""Memory that one training step needs, with and without `run.gradient_checkpointing`: counted, so on any machine.

`python scripts/step_memory.py --config training/configs/tiny.toml [--set data.scenes=4]`
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if not __package__:  # run as a script: sys.path[0] is this folder, the packages lie one above
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch

from tests.memory import PeakMemory
from training.distribute import recompute_blocks
from training.tasks import build_task, load_config

_LATE = 0.9  # of the run: batches are as large as they get


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Count the memory of a training step.")
    parser.add_argument("--config", required=True, help="TOML file of a run")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", help="override a setting")
    options = parser.parse_args()
    config = load_config(options.config, options.set)
    task = build_task(config)
    batch = task.dataset(torch.device("cpu")).batch(0, config.data.scenes)
    for recompute in (False, True):
        model = task.build()
        if recompute:
            recompute_blocks(model)
        with PeakMemory(model) as memory:
            losses, _ = task.loss(model, batch, torch.Generator().manual_seed(0), _LATE)
            losses.mean().backward()
        gradients = sum(weight.grad.nbytes for weight in model.parameters() if weight.grad is not None)
        name = "gradient checkpointing" if recompute else "plain"
        print(f"{name}: peak {memory.bytes >> 20} MiB beside the weights, {gradients >> 20} of it gradients")


if __name__ == "__main__":
    main()
