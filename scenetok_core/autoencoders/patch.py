"""A weight-free autoencoder: pixels in patches. Small models and tests use it; it loses nothing."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from .base import LatentSpec

_COPIES = 4  # of all pixels that live at once: given, moved, scaled, result


class PatchAutoencoder:
    """Pixels of a `patch` x `patch` square, in [-1, 1], as the channels of one latent cell; one latent per frame.

    Pixels are kept as they are: whitened coefficients would make high frequencies dominate the loss.
    """

    network = None  # no weights

    def __init__(self, patch: int) -> None:
        if patch < 1:
            raise ValueError(f"patch must be at least 1 pixel, got {patch}")
        self.patch = patch
        self.spec = LatentSpec(channels=3 * patch * patch, spatial=patch)

    @property
    def seamless(self) -> PatchAutoencoder:
        """Itself: no frame knows of another."""
        return self

    def bounded(self, frames: int) -> PatchAutoencoder:
        """Itself."""
        return self

    def spans(self, latents: int) -> list[slice]:
        """Every latent for itself."""
        return self.spec.group_spans(latents)

    def encode(self, frames: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Frames [B, T, 3, H, W] in [0, 1] -> latents [B, T, 3 p p, H / p, W / p] in [-1, 1]."""
        self.spec.check_frames(frames)
        return rearrange(frames * 2 - 1, "b t c (h p) (w q) -> b t (c p q) h w", p=self.patch, q=self.patch)

    def encode_bytes(self, frames: Tensor) -> int:
        """Bytes that `encode(frames)` needs."""
        return _COPIES * frames.numel() * frames.dtype.itemsize

    def decode(self, latents: Tensor) -> Tensor:
        """Latents [B, T, 3 p p, h, w] -> frames [B, T, 3, h p, w p] in [0, 1]."""
        return self.decode_unclamped(latents).clamp(0, 1)

    def decode_unclamped(self, latents: Tensor) -> Tensor:
        """As `decode`, but values outside [0, 1] are kept, so that a loss on them has a gradient."""
        frames = rearrange(latents, "b t (c p q) h w -> b t c (h p) (w q)", p=self.patch, q=self.patch)
        return (frames.float() + 1) / 2

    def decode_bytes(self, latents: Tensor) -> int:
        """Bytes that `decode(latents)` needs."""
        return self.encode_bytes(latents)
