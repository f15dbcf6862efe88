"""Small real components that several tests share."""

from pathlib import Path

import torch

from scenetok_core.configs import (
    CompressorConfig,
    DecoderConfig,
    DepthConfig,
    GeneratorConfig,
    SamplingConfig,
    SceneGenConfig,
    SceneTokConfig,
)
from scenetok_core.models.depth import DepthNetworks
from scenetok_core.models.networks import Networks
from scenetok_core.pipeline import SceneTok
from scenetok_core.types import Cameras, Views
from scenetok_core.weights.checkpoints import build_networks, save_checkpoint

IMAGE, PATCH, TOKENS, TOKEN_DIM = 16, 4, 6, 8


def config(name="small", **changes):
    channels, ray_patch = 3 * PATCH * PATCH, 2
    ray_map = IMAGE // PATCH * ray_patch
    parts = {
        "compressor": CompressorConfig(
            hidden=32, depth=2, heads=2, tokens=TOKENS, token_dim=TOKEN_DIM, latent_channels=channels, patch=1,
            ray_map=ray_map, ray_patch=ray_patch,
        ),
        "decoder": DecoderConfig(
            hidden=32, depth=2, heads=2, token_dim=TOKEN_DIM, latent_channels=channels, patch=1, ray_map=ray_map,
            ray_patch=ray_patch, frames_per_latent=1,
        ),
        "sampling": SamplingConfig(steps=3, window=4, clean_targets=1),
    }  # fmt: skip
    fields = {
        "image_size": IMAGE,
        "context_views": 4,
        "context_autoencoder": f"patch-{PATCH}",
        "target_autoencoder": f"patch-{PATCH}",
    }
    return SceneTokConfig(name, **{**fields, **parts, **changes})


def state(model_config=None, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Networks(model_config or config()).state_dict()


def checkpoint(folder: Path, file="small.safetensors", **changes) -> Path:
    path = folder / file
    chosen = config(**changes)
    save_checkpoint(path, state(chosen), chosen)
    return path


def generator_config(**changes):
    network = GeneratorConfig(
        hidden=32, depth=2, heads=2, tokens=TOKENS, token_dim=TOKEN_DIM, latent_channels=3 * PATCH**2,
        ray_map=IMAGE // PATCH * 2, ray_patch=2, anchors=4,
    )  # fmt: skip
    fields = {
        "scene_model": "small",
        "image_size": IMAGE,
        "context_autoencoder": f"patch-{PATCH}",
        "generator": network,
        "sampling": SamplingConfig(steps=3, shift=4.0, guidance=3.0, window=1, clean_targets=0),
    }
    return SceneGenConfig("small-generator", **{**fields, **changes})


def generator_checkpoint(folder: Path, **changes) -> Path:
    path, chosen = folder / "generator.safetensors", generator_config(**changes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_checkpoint(path, build_networks(chosen).state_dict(), chosen)
    return path


def cameras(views=4, size=(IMAGE, IMAGE)):
    angle = torch.linspace(-0.3, 0.3, views)
    c2w = torch.eye(4).repeat(views, 1, 1)
    c2w[:, 0, 0] = c2w[:, 2, 2] = angle.cos()
    c2w[:, 0, 2], c2w[:, 2, 0] = angle.sin(), -angle.sin()
    c2w[:, 0, 3] = torch.linspace(0, 1, views)
    K = torch.tensor([[0.9, 0, 0.5], [0, 0.9 * size[1] / size[0], 0.5], [0, 0, 1.0]]).repeat(views, 1, 1)
    return Cameras(c2w, K, size=size)


def views(count=4, size=(IMAGE, IMAGE), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Views(torch.rand(count, 3, *size, generator=generator), cameras(count, size))


def depth_config(**changes):
    fields = {"scene_model": "small", "image_size": IMAGE, "rank": 2, "near": 0.5, "far": 8.0}
    return DepthConfig("small-depth", **{**fields, **changes})


def depth_head(path: Path, model: SceneTok, seed=0, **changes) -> Path:
    """A head for `model` whose updates are random."""
    chosen = depth_config(**{"scene_model": model.config.name, **changes})
    networks, generator = DepthNetworks(chosen, model.networks.denoiser), torch.Generator().manual_seed(seed)
    state = {k: 0.3 * torch.randn(v.shape, generator=generator) for k, v in networks.state_dict().items()}
    save_checkpoint(path, state, chosen, {"scene_model_hash": model.hash})
    return path
