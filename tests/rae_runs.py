"""Small runs that train a 3DRAE, for several tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from scenetok_core.configs import PointsConfig, RaeConfig, from_dict
from tests import videos
from training.tasks.rae import RaeTrainConfig

ROOT = Path(__file__).resolve().parents[1]
IMAGE, PATCH, TOKENS, TOKEN_DIM = 16, 4, 6, 8
CONTEXT, TARGETS, SCENES = 3, 2, 3
RATE = 5e-3


def model(**changes) -> RaeConfig:
    points = PointsConfig(depth=4, layers=(0, 1, 2, 3), channels=(8, 8, 8, 8), features=8)
    fields = {
        "encoder": None, "patch": PATCH, "pixels": (IMAGE**2, IMAGE**2), "hidden": 32, "heads": 2, "tokens": TOKENS,
        "token_dim": TOKEN_DIM, "neck_depth": 1, "decoder_depth": 2, "qk_norm": True, "points": points,
    }  # fmt: skip
    return RaeConfig("small-rae", **{**fields, **changes})


def run(task=None, *, data=None, network=None, output: object = "runs", **run) -> RaeTrainConfig:
    """A run on rooms unless `data` says otherwise; settings as in a TOML file."""
    rooms = {"image_size": IMAGE, "views": 4, "strays": 3, "textures": 8, "texture_size": 16}
    table: dict[str, Any] = {
        "run": {"name": "test", "steps": 4, "output": str(output), "log_every": 1, "sheet_every": 0, **run},
        "optim": {"lr": RATE, "warmup": 2, "ema": 0.9},
        "data": {"scenes": SCENES, "context_views": CONTEXT, "target_views": TARGETS, "rooms": rooms, **(data or {})},
        "model": {"name": "replaced"},
        "task": {"kind": "rae", **(task or {})},
    }  # fmt: skip
    config = from_dict(RaeTrainConfig, table)
    return type(config)(config.run, network or model(), config.optim, config.data, config.task)


def mixed(root, task=None, *, budget=150, targets=3, data=None, **more) -> RaeTrainConfig:
    """A run on videos of mixed sizes: from 8 x 8 to about 24 x 16 pixels, 2 to 4 inputs and 1 to 3 targets."""
    table = {
        "kind": "captures",
        "root": str(root),
        "image_size": videos.CROP,
        "views": {"context_views": 4, "target_groups": targets, "target_windows": targets, "windows_share": 1.0},
        **(data or {}),
    }
    settings = {"scenes": 6, "context_views": 4, "target_views": targets, "kind": "videos", "videos": table}
    sizes = {"tokens_per_batch": budget, "least_context": 2, "least_targets": 1}
    return run({**sizes, **(task or {})}, data=settings, network=model(pixels=(100, 400)), **more)


def generator(seed=7) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
