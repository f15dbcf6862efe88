"""`info`: what a checkpoint or scene file holds."""

from __future__ import annotations

import argparse
import json

from ..checkpoints import CHECKPOINT_FORMAT, load_scene, read_tensors
from ..types import SceneTokens


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
    scene = load_scene(arguments.file)
    print(json.dumps(_describe(scene), indent=2))


def _describe(scene: SceneTokens) -> dict[str, object]:
    return {
        "preset": scene.preset,
        "model_hash": scene.model_hash,
        "tokens": list(scene.tokens.shape),
        "active": len(scene.active),
        "scene_scale": scene.scene_scale,
        "views": len(scene.cameras),
        "picture_size": scene.cameras.size,
        "meta": dict(scene.meta),
    }
