"""A small 3DRAE and a small 3DDiT that several tests share."""

from pathlib import Path

import torch

from scenetok_core.configs import Dit3dConfig, PointsConfig, RaeConfig, SamplingConfig
from scenetok_core.latent_generation import LatentGenerator
from scenetok_core.rae import Rae
from scenetok_core.weights.checkpoints import build_networks, load_networks, save_checkpoint

PATCH, TOKENS, TOKEN_DIM, COND_VIEWS = 4, 6, 16, 5
SQUARE = 16  # pixels along an edge of the largest square picture


def rae_config(**changes):
    points = PointsConfig(depth=4, layers=(0, 1, 2, 3), channels=(8, 8, 16, 16), features=8)
    sizes = {"patch": PATCH, "pixels": (8 * SQUARE, SQUARE**2), "context_views": 128, "tokens": TOKENS}
    widths = {"hidden": 32, "heads": 2, "token_dim": TOKEN_DIM, "neck_depth": 2, "decoder_depth": 2}
    fields = {"name": "small-rae", "encoder": None, "points": points, **sizes, **widths}
    return RaeConfig(**{**fields, **changes})


def dit3d_config(**changes):
    sampling = SamplingConfig(steps=3, shift=1.5, guidance=2.0, window=1, clean_targets=0)
    widths = {"hidden": 32, "depth": 2, "heads": 2, "head_hidden": 48, "head_depth": 1, "head_heads": 2}
    fields = {"name": "small-dit3d", "scene_model": "small-rae", "tokens": TOKENS, "token_dim": TOKEN_DIM}
    return Dit3dConfig(**{**fields, **widths, "cond_views": COND_VIEWS, "sampling": sampling, **changes})


def state(config, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        networks = build_networks(config)
        for parameter in networks.parameters():  # so that nothing starts silent
            if parameter.ndim == 1:
                torch.nn.init.normal_(parameter, 1.0 if parameter.detach().mean() == 1 else 0.0, 0.1)
    return networks.state_dict()


def _saved(path: Path, config, metadata=None, seed=0):
    save_checkpoint(path, state(config, seed), config, metadata)
    return path


def rae_checkpoint(folder: Path, file="small-rae.safetensors", seed=0, **changes) -> Path:
    return _saved(folder / file, rae_config(**changes), seed=seed)


def dit3d_checkpoint(folder: Path, file="small-dit3d.safetensors", metadata=None, **changes) -> Path:
    return _saved(folder / file, dit3d_config(**changes), metadata)


def rae(folder: Path, **changes) -> Rae:
    return Rae.load(rae_checkpoint(folder, **changes))


def dit3d(folder: Path, **changes) -> LatentGenerator:
    return LatentGenerator.load(dit3d_checkpoint(folder, **changes))


def random_rae(dtype=torch.float32, image_encoder=None, **changes) -> Rae:
    """A 3DRAE that comes from no file, with a 2-D encoder that belongs to a test."""
    chosen = rae_config(**{"encoder": None if image_encoder is None else "dinov2", **changes})
    return Rae(chosen, load_networks(state(chosen), chosen, dtype), image_encoder, "random")
