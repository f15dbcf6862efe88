"""`info`: what a checkpoint or scene file holds."""

from __future__ import annotations

import argparse
import json

from ..scene_info import describe
from ..weights.checkpoints import CHECKPOINT_FORMAT, load_scene, read_tensors


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("file")


def run(arguments: argparse.Namespace) -> None:
    """Print a file's metadata as JSON."""
    tensors, metadata = read_tensors(arguments.file)
    if metadata.get("format") == CHECKPOINT_FORMAT:
        count = sum(tensor.numel() for tensor in tensors.values())
        tables = {name: json.loads(text) for name, text in metadata.items() if text.startswith("{")}
        print(json.dumps({**metadata, "parameters": count, **tables}, indent=2))
        return
    print(json.dumps(describe(load_scene(arguments.file)), indent=2))
