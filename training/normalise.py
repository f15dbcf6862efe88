"""Measure the statistics of a trained 3DRAE's tokens: `python training/normalise.py --checkpoint FILE --config TOML`.

A 3DDiT learns tokens of mean 0 and variance 1 in every dimension. The checkpoint that is written has both statistics,
over training scenes all of whose input views are visible, and makes such tokens. What it renders stays the same, as
decoders take tokens as they are before. Scenes encoded with the file that was read are encoded anew for it.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

if not __package__:  # run as a script: sys.path[0] is this folder, the packages lie one above
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
from torch import Tensor
from tqdm import tqdm

from scenetok_core.cli.common import check_device, check_writable
from scenetok_core.configs import RaeConfig, Statistics, require
from scenetok_core.rae import Rae
from scenetok_core.types import Views
from scenetok_core.weights.checkpoints import load_checkpoint, save_checkpoint
from training.data.loader import batches
from training.data.rooms import RoomBatch
from training.tasks import RaeTask, load_config
from training.tasks.rae import RaeTrainConfig
from training.tasks.shared import scene_of, weight_folders
from training.tasks.views import draw_difficulty

logger = logging.getLogger("training")

_SCENES = 512
_EPS = 1e-6  # added to the variance


def training_views(config: RaeTrainConfig, device: torch.device) -> Iterator[Views]:
    """The input views of a run's training scenes, one scene after the other, as at the end of the run; on the CPU."""
    task = RaeTask(replace(config, task=replace(config.task, perceptual_weight=0.0, adversary_weight=0.0)))
    generator = torch.Generator(device).manual_seed(config.run.seed)
    for batch in batches(task.dataset(device), config.data.scenes, config.run.seed):
        if isinstance(batch, RoomBatch):
            difficulty = draw_difficulty(config.task, config.data.context_views, generator, 1.0)
            batch = task.choose(batch, generator, **difficulty)
        given = batch.context.to("cpu")
        assert given.rgb is not None, "this task takes pictures"
        for i, rgb in enumerate(given.rgb):
            yield Views(rgb, scene_of(given.cameras, i))


def measure(model: Rae, scenes: Iterator[Views], count: int, statistics: Statistics) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of tokens before they are normalised, over `count` of the scenes; float32.

    [D], or [N, D] with `statistics` "token".
    """
    total, squares = torch.zeros(2, model.config.tokens, model.config.token_dim, dtype=torch.float64)
    for _, views in zip(tqdm(range(count), desc="tokens", unit="scene"), scenes, strict=False):
        raw = model.networks.neck.restore(model.encode(views).tokens).double()
        total, squares = total + raw, squares + raw.square()
    mean, square = total / count, squares / count
    if statistics == "dimension":
        mean, square = mean.mean(0), square.mean(0)
    std = (square - mean.square()).clamp_min(0).add(_EPS).sqrt()
    return mean.float(), std.float()


def normalise(
    checkpoint: Path,
    config: RaeTrainConfig,
    scenes: int,
    out: Path,
    device: torch.device,
    statistics: Statistics | None = None,
) -> None:
    """Write the checkpoint with the statistics of its tokens over `scenes` training scenes of a run.

    `statistics` None are those that the checkpoint has.

    Raises:
        ValueError: `out` is the checkpoint itself, no 3DRAE there, missing weights of its 2-D encoder, or no data.
        OSError: the disk is full, or the folder cannot be written.
    """
    require(out.absolute() != checkpoint.absolute(), f"--out must be another file than --checkpoint, got {out}")
    state, stored, metadata = load_checkpoint(checkpoint, RaeConfig)
    folders = weight_folders(config.run.autoencoders, str(checkpoint))
    model = Rae.assemble(state, stored, metadata, folders, device, torch.float32)
    wanted = replace(stored, statistics=statistics or stored.statistics)
    mean, std = measure(model, training_views(config, device), scenes, wanted.statistics)
    save_checkpoint(
        out, {**state, "neck.mean": mean, "neck.std": std}, wanted, {**metadata, "statistics": f"of {scenes} scenes"}
    )
    print(
        f"{out}: means {mean.min():.3g} to {mean.max():.3g}, standard deviations {std.min():.3g} to {std.max():.3g} "
        f"over {scenes} scenes"
    )


def _read(path: str, overrides: Sequence[str]) -> RaeTrainConfig:
    config = load_config(path, overrides)
    if not isinstance(config, RaeTrainConfig):
        raise ValueError(f"{path} trains a {config.task.kind!r}; give the run of a 3DRAE (task.kind = 'rae')")
    return config


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Measure and store the statistics of a 3DRAE's tokens.")
    parser.add_argument("--checkpoint", required=True, type=Path, help="the trained 3DRAE")
    parser.add_argument("--config", required=True, help="TOML file of its run, whose scenes are encoded")
    parser.add_argument(
        "--set", action="append", default=[], metavar="A.B=VALUE", help="override a setting (repeatable)"
    )
    parser.add_argument("--scenes", type=int, default=_SCENES, help=f"how many scenes (default {_SCENES})")
    parser.add_argument(
        "--statistics",
        choices=get_args(Statistics),
        help="of every dimension, or of every dimension of every token (default: as the checkpoint has them)",
    )
    parser.add_argument("--out", required=True, type=Path, help="checkpoint to write")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(arguments)
    try:
        require(options.scenes > 0, f"--scenes must be at least 1, got {options.scenes}")
        check_device(options.device)
        check_writable(options.out)
        config = _read(options.config, options.set)
        device = torch.device(options.device)
        normalise(options.checkpoint, config, options.scenes, options.out, device, options.statistics)
    except (ValueError, OSError, ImportError) as error:
        logger.error("%s", error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
