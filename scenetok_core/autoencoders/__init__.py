"""Autoencoders by name, as written in a model's configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from . import vavae, videodc, wan
from .base import Autoencoder, LatentSpec
from .patch import PatchAutoencoder
from .vavae import VaVae
from .videodc import VideoDcAutoencoder
from .wan import WanVae

__all__ = ["Autoencoder", "LatentSpec", "PatchAutoencoder", "build_autoencoder", "latent_spec", "published_files"]

_PUBLISHED: dict[str, type[VaVae | VideoDcAutoencoder | WanVae]] = {
    "va-vae": VaVae,
    "videodcae": VideoDcAutoencoder,
    "wan2.2": WanVae,
}
_SPECS: dict[str, Callable[[], LatentSpec]] = {
    "va-vae": vavae.latent_spec,
    "videodcae": videodc.latent_spec,
    "wan2.2": wan.latent_spec,
}


def published_files(name: str) -> tuple[str, ...]:
    """File names under which the weights of an autoencoder are published; none for one without weights."""
    return _PUBLISHED[name].files if name in _PUBLISHED else ()


def build_autoencoder(
    name: str, state: Mapping[str, Tensor] | None = None, dtype: torch.dtype = torch.float32
) -> Autoencoder:
    """The autoencoder a configuration names.

    Args:
        name: `va-vae`, `videodcae`, `wan2.2`, or `patch-N` with N pixels per patch side.
        state: weights under their published names; `patch-N` has none. They keep their device.
        dtype: dtype of the weights.

    Raises:
        ValueError: an unknown name, no weights where some are needed, or weights that do not fit: missing, unexpected
            and mis-shaped tensors are named, at most five of each.
        ImportError: diffusers, which `va-vae` and `wan2.2` need, is missing.
    """
    if name in _PUBLISHED:
        if state is None:
            raise ValueError(f"autoencoder {name!r} needs its weights: the tensors of {_PUBLISHED[name].files[0]}")
        return _PUBLISHED[name](state, dtype=dtype)
    return _patch_autoencoder(name)


def latent_spec(name: str) -> LatentSpec:
    """Layout of the latents of the autoencoder a configuration names; needs no weights.

    Raises:
        ValueError: an unknown name.
    """
    return _SPECS[name]() if name in _SPECS else _patch_autoencoder(name).spec


def _patch_autoencoder(name: str) -> PatchAutoencoder:
    kind, _, size = name.partition("-")
    if kind == "patch" and size.isdigit():
        return PatchAutoencoder(int(size))
    raise ValueError(f"unknown autoencoder {name!r}; known are {', '.join(_PUBLISHED)} and patch-N (N pixels a side)")
