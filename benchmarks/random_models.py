"""Models of full size with seeded random weights, for measurements and for runs without the published files."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from scenetok_core import SceneTok
from scenetok_core.autoencoders import Autoencoder, build_autoencoder, vavae, videodc
from scenetok_core.configs import Dit3dConfig, ModelConfig, RaeConfig, SceneGenConfig, SceneTokConfig
from scenetok_core.encoders import ENCODERS, ImageEncoder
from scenetok_core.generation import SceneGenerator
from scenetok_core.latent_generation import LatentGenerator
from scenetok_core.rae import Rae
from scenetok_core.weights.checkpoints import build_networks, load_networks

_SHAPES: Mapping[str, Callable[[], Mapping[str, Sequence[int]]]] = {
    "va-vae": vavae.published_shapes,
    "videodcae": videodc.published_shapes,
}


def random_weights(shapes: Mapping[str, Sequence[int]], seed: int = 0) -> dict[str, Tensor]:
    """Uniform matrices and kernels that keep the variance of what passes, gains of one, biases of zero."""
    noise = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        if len(shape) > 1:
            bound = math.sqrt(3 / math.prod(shape[1:]))
            state[name] = torch.empty(shape).uniform_(-bound, bound, generator=noise)
        else:
            state[name] = torch.ones(shape) if name.endswith(("weight", "gamma")) else torch.zeros(shape)
    return state


def _weights(config: ModelConfig) -> dict[str, Tensor]:
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in build_networks(config).state_dict().items()}
    return random_weights(shapes)


def random_autoencoder(name: str, dtype: torch.dtype, device: torch.device | str) -> Autoencoder:
    """An autoencoder that a configuration names."""
    if name not in _SHAPES:
        return build_autoencoder(name)  # has no weights
    weights = random_weights(_SHAPES[name]())
    return build_autoencoder(name, {key: tensor.to(device) for key, tensor in weights.items()}, dtype)


def random_scenetok(config: SceneTokConfig, dtype: torch.dtype, device: torch.device | str) -> SceneTok:
    """A whole SceneTok model."""
    context, target = (
        random_autoencoder(name, dtype, device) for name in (config.context_autoencoder, config.target_autoencoder)
    )
    networks = load_networks(_weights(config), config, dtype).to(device)
    return SceneTok(config, networks, context, target, hash="random")


def random_generator(config: SceneGenConfig, dtype: torch.dtype, device: torch.device | str) -> SceneGenerator:
    """A whole scene generator."""
    networks = load_networks(_weights(config), config, dtype).to(device)
    return SceneGenerator(config, networks, random_autoencoder(config.context_autoencoder, dtype, device), "random")


def random_encoder(config: RaeConfig, dtype: torch.dtype, device: torch.device | str) -> ImageEncoder | None:
    """DINOv2 in the place of every 2-D encoder, or none for image only."""
    if config.encoder is None:
        return None
    network = _dinov2(config.hidden).eval().requires_grad_(False).to(device, dtype)
    return ImageEncoder(network, ENCODERS["dinov2"], config.patch, config.hidden)


def _dinov2(hidden: int) -> nn.Module:
    from transformers import Dinov2Config, Dinov2Model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Dinov2Model(Dinov2Config(hidden_size=hidden, image_size=518))


def random_rae(config: RaeConfig, dtype: torch.dtype, device: torch.device | str) -> Rae:
    """A whole 3DRAE."""
    state = _weights(config)
    state["neck.std"] = torch.ones_like(state["neck.std"])
    encoder = random_encoder(config, dtype, device)
    return Rae(config, load_networks(state, config, dtype).to(device), encoder, hash="random")


def random_latent_generator(config: Dit3dConfig, dtype: torch.dtype, device: torch.device | str) -> LatentGenerator:
    """A whole 3DDiT."""
    return LatentGenerator(config, load_networks(_weights(config), config, dtype).to(device), "random")
