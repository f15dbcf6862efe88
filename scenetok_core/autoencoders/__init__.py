"""Autoencoders by name. A name is `kind` or `kind-size`, as written in a model's configuration."""

from __future__ import annotations

from .base import Autoencoder, LatentSpec
from .patch import PatchAutoencoder

__all__ = ["Autoencoder", "LatentSpec", "PatchAutoencoder", "build_autoencoder"]


def build_autoencoder(name: str) -> Autoencoder:
    """The autoencoder a configuration names, e.g. `patch-8`.

    Raises:
        ValueError: an unknown name.
    """
    kind, _, size = name.partition("-")
    if kind == "patch" and size.isdigit():
        return PatchAutoencoder(int(size))
    raise ValueError(f"unknown autoencoder {name!r}; this version knows patch-N (N = pixels per patch side)")
