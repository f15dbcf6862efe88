"""Train a model: `python training/train.py --config training/configs/tiny.toml [--set run.steps=100] [--resume auto]`.

Several processes: `accelerate launch --config_file training/accelerate/eight_gpus.yaml training/train.py ...`
(docs/scaling.md).
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # run as a script: sys.path[0] is this folder, the packages lie one above
    sys.path[0] = str(Path(__file__).resolve().parents[1])

# The compiled kernels of every new shape are kept, 2 MiB each: of bfloat16 products on a CPU, by default, for ever more
# of the shapes that batches of random sizes have.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")
os.environ.setdefault("LRU_CACHE_CAPACITY", "128")

import torch

from training.tasks import build_task, load_config
from training.trainer import NotSavedError, Trainer, TrainingDivergedError
from training.wandb_log import WandbError, import_wandb

logger = logging.getLogger("training")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Train a model.")
    parser.add_argument("--config", required=True, help="TOML file of the run, see training/configs/")
    parser.add_argument(
        "--set", action="append", default=[], metavar="A.B=VALUE", help="override a setting (repeatable)"
    )
    parser.add_argument("--resume", default="auto", help="auto (newest state, default), none, or a path")
    options = parser.parse_args(arguments)
    level = logging.INFO if os.environ.get("RANK", "0") == "0" else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        config = load_config(options.config, options.set)
        if config.run.threads is not None:
            torch.set_num_threads(config.run.threads)
        if config.run.wandb is not None:
            import_wandb()  # before any work
        trainer = Trainer(config, build_task(config))
        trainer.resume(options.resume)
    except ValueError as error:
        logger.error("%s", error)
        return 2
    try:
        trainer.train()
    except (ValueError, TrainingDivergedError, NotSavedError, WandbError) as error:  # ValueError: unusable data
        logger.error("%s", error)
        return 1
    trainer.accelerator.end_training()
    return 0


if __name__ == "__main__":
    sys.exit(main())
