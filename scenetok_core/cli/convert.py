"""`convert`: released checkpoint -> safetensors with its configuration."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from ..weights.convert import convert_checkpoint
from ..weights.presets import PRESETS as MODELS
from .common import bar, check_output, writing

_MODELS = (".safetensors",)
_DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("checkpoint", type=Path, metavar="IN", help="released checkpoint (.ckpt, .pt, .safetensors)")
    parser.add_argument("out", type=Path, metavar="OUT", help="checkpoint to write (.safetensors)")
    parser.add_argument("--dtype", default="bf16", choices=list(_DTYPES), help="of the weights (default bf16)")
    parser.add_argument(
        "--preset", choices=list(MODELS), help="which released model it is (default: told by its tensors and its name)"
    )


def run(arguments: argparse.Namespace) -> None:
    """Read a released checkpoint and write it with its configuration."""
    check_output(arguments.out, _MODELS, argument="OUT")
    if arguments.out.exists() and arguments.checkpoint.exists() and arguments.out.samefile(arguments.checkpoint):
        raise ValueError(f"OUT must be another file than IN, got {arguments.out} twice")
    with bar("read", "B") as progress, writing(arguments.out):
        config, *others = convert_checkpoint(
            arguments.checkpoint,
            arguments.out,
            dtype=_DTYPES[arguments.dtype],
            preset=arguments.preset,
            progress=progress,
        )
    print(f"{arguments.out}: {config.name}, {arguments.out.stat().st_size / 2**20:.1f} MiB in {arguments.dtype}")
    if others:
        names = ", ".join(other.name for other in others)
        print(f"its tensors fit {names} as well; --preset chooses another model than {config.name}")
