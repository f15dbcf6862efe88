"""Models of full size with seeded random weights, for measurements and for runs without the published files."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from scenetok_core import SceneTok
from scenetok_core.autoencoders import Autoencoder, build_autoencoder, vavae, videodc
from scenetok_core.checkpoints import build_networks, load_networks
from scenetok_core.configs import SceneGenConfig, SceneTokConfig
from scenetok_core.generation import SceneGenerator

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


def _weights(config: SceneTokConfig | SceneGenConfig) -> dict[str, Tensor]:
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
