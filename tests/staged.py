"""Small pipelines whose autoencoders have weights, so that every stage has a network to place."""

from dataclasses import replace
from typing import Any

import torch

from scenetok_core.configs import CompressorConfig, DecoderConfig, SamplingConfig
from scenetok_core.generation import SceneGenerator
from scenetok_core.pipeline import SceneTok
from scenetok_core.weights.checkpoints import build_networks
from tests import small
from tests.test_autoencoders import small as small_autoencoder

SIZES: dict[str, Any] = {"hidden": 32, "depth": 2, "heads": 2, "token_dim": small.TOKEN_DIM, "latent_channels": 4}
GRID: dict[str, Any] = {"ray_map": 8, "ray_patch": 2}  # 4 x 4 cells of 4 pixels


def _networks(config) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_networks(config).requires_grad_(False)


def model(**changes):
    """VA-VAE to VideoDCAE: cells of 2 x 2 latents, and latents of 4 frames."""
    config = small.config(
        compressor=CompressorConfig(**SIZES, **GRID, tokens=small.TOKENS, patch=2),
        decoder=DecoderConfig(**SIZES, **GRID, patch=1, frames_per_latent=4),
        sampling=SamplingConfig(steps=3, window=2, clean_targets=1),
    )
    context, target = (small_autoencoder(name) for name in ("va-vae", "videodcae"))
    config.check_latents(context.spec, target.spec)
    return SceneTok(config, _networks(config), context, target, "staged", **changes)


def generator(**changes):
    """Draws tokens for `model`."""
    config = small.generator_config()
    config = replace(config, generator=replace(config.generator, latent_channels=4, patch=2))
    context = small_autoencoder("va-vae")
    config.check_latents(context.spec)
    return SceneGenerator(config, _networks(config), context, "staged generator", **changes)
