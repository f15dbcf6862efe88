"""What autoencoders with weights share: cutting frames into clips, value ranges, published parameter names."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import torch
from einops import rearrange
from torch import Tensor, nn

from ..weights.loading import assign_weights, check_shapes
from .base import LatentSpec

_VIDEO_COPIES = 3  # float32 copies of all frames that live at once around the coding of clips

Renaming = Sequence[tuple[str, str]]  # (pattern, replacement), applied in order
Layout = dict[str, tuple[str, tuple[int, ...]]]  # published name and shape by the network's own name


class ClipAutoencoder(ABC):
    """An autoencoder around a network that codes one clip at a time.

    A clip is what the network sees at once: a group of frames, or the whole video where `spec.separate_groups` is
    false. One clip after the other bounds the memory.
    """

    files: ClassVar[tuple[str, ...]]  # the published weights: the original, then copies with the same names
    network: Any  # an `nn.Module`; typed by the subclasses, whose libraries load late
    spec: LatentSpec
    # Numbers that live at once at the network's widest place, per pixel that it codes at once; measured, with a margin.
    encode_values: float
    decode_values: float

    @property
    def seamless(self) -> ClipAutoencoder:
        """The same autoencoder as it codes a clip in one piece; itself where it always does."""
        return self

    def bounded(self, frames: int) -> ClipAutoencoder:
        """The same autoencoder as it codes at most `frames` frames of a clip at once; itself where it cannot."""
        return self

    def spans(self, latents: int) -> list[slice]:
        """Which latents of a video of `latents` are decoded together, in order; see `Autoencoder`."""
        return self.spec.group_spans(latents)

    @abstractmethod
    def encode_clip(self, clip: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Frames [1, 3, T, H, W] in [-1, 1] -> raw latents [1, C, L, h, w].

        Of a posterior the mean, or with a CPU `generator` a draw; see `of_posterior`.
        """

    @abstractmethod
    def decode_clip(self, latents: Tensor) -> Tensor:
        """Raw latents [1, C, L, h, w] -> frames [1, 3, T, H, W], about [-1, 1] and not clamped."""

    def encode(self, frames: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Frames [B, T, 3, H, W] in [0, 1] on the network's device -> normalised latents [B, L, C, h, w], float32.

        Args:
            frames: the frames.
            generator: CPU generator; where there is a posterior, latents are drawn from it. None takes its mean.

        Raises:
            ValueError: T is no whole number of groups, or a side is no whole number of latent cells.
        """
        self.spec.check_frames(frames)
        length = self.spec.group_frames if self.spec.separate_groups else frames.shape[1]
        clips = rearrange(frames * 2 - 1, "b (g t) c h w -> (b g) c t h w", t=length).to(self._dtype)
        latents = torch.cat([self.encode_clip(clip, generator) for clip in clips.split(1)]).float()
        return self.spec.normalise(rearrange(latents, "(b g) c l h w -> b (g l) c h w", b=len(frames)))

    def encode_bytes(self, frames: Tensor) -> int:
        """Bytes that `encode(frames)` needs beside the weights, those of frames [B, T, 3, H, W] included."""
        batch, length, _, height, width = frames.shape
        return self._bytes(self.encode_values, batch, length, height, width)

    def decode(self, latents: Tensor) -> Tensor:
        """Normalised latents [B, L, C, h, w] on the network's device -> frames [B, T, 3, H, W] in [0, 1], float32.

        Raises:
            ValueError: another number of channels, or L is no whole number of groups.
        """
        return self.decode_unclamped(latents).clamp(0, 1)

    def decode_unclamped(self, latents: Tensor) -> Tensor:
        """As `decode`, but values outside [0, 1] are kept, so that a loss on them has a gradient."""
        self.spec.check_latents(latents)
        length = self.spec.group_latents if self.spec.separate_groups else latents.shape[1]
        raw = self.spec.denormalise(latents.float()).to(self._dtype)
        clips = rearrange(raw, "b (g l) c h w -> (b g) c l h w", l=length)
        frames = torch.cat([self.decode_clip(clip) for clip in clips.split(1)]).float()
        return (rearrange(frames, "(b g) c t h w -> b (g t) c h w", b=len(latents)) + 1) / 2

    def decode_bytes(self, latents: Tensor) -> int:
        """Bytes that `decode(latents)` needs beside the weights, for latents [B, L, C, h, w] and their frames."""
        spec, (batch, length, _, height, width) = self.spec, latents.shape
        frames = spec.frames(length)
        return self._bytes(self.decode_values, batch, frames, height * spec.spatial, width * spec.spatial)

    def piece(self, frames: int, height: int, width: int) -> int:
        """Pixels, those of all frames together, that the network codes at once of a clip of this size."""
        return frames * height * width

    def _bytes(self, values: float, batch: int, frames: int, height: int, width: int) -> int:
        clip = self.spec.group_frames if self.spec.separate_groups else frames
        video = 3 * batch * frames * height * width * torch.float32.itemsize
        return int(values * self.piece(clip, height, width) * self._dtype.itemsize) + _VIDEO_COPIES * video

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.network.parameters()).dtype


class LatentPosterior(Protocol):
    """What diffusers' autoencoders give as `latent_dist`."""

    mean: Tensor
    std: Tensor


def of_posterior(posterior: LatentPosterior, generator: torch.Generator | None) -> Tensor:
    """The mean of a posterior, or with a CPU `generator` one draw, whose noise does not depend on device and dtype."""
    if generator is None:
        return posterior.mean
    noise = torch.randn(posterior.mean.shape, generator=generator)
    return posterior.mean + posterior.std * noise.to(posterior.mean)


def published_layout(network: nn.Module, renaming: Renaming, convolutions: str | None = None) -> Layout:
    """Published name and shape of every parameter of `network`.

    Args:
        network: may be on the meta device.
        renaming: turns the network's names into published ones.
        convolutions: pattern of published names of matrices that are published as 1x1 convolutions.
    """
    layout = {}
    for name, tensor in network.state_dict().items():
        published = name
        for pattern, replacement in renaming:
            published = re.sub(pattern, replacement, published)
        pointwise = convolutions is not None and re.search(convolutions, published)
        layout[name] = (published, (*tensor.shape, 1, 1) if pointwise else tuple(tensor.shape))
    return layout


def load_published(
    network: nn.Module, state: Mapping[str, Tensor], layout: Layout, file: str, dtype: torch.dtype | None
) -> None:
    """Make published weights those of `network`, built on the meta device; ready for inference.

    Args:
        network: changed in place.
        state: tensors under their published names; not changed. Other parts of a training run, whose names begin
            differently, are left out.
        layout: published name and shape by the network's own name.
        file: the published file, for the message.
        dtype: dtype of the weights; None keeps theirs.

    Raises:
        ValueError: missing, unexpected or mis-shaped tensors; at most five of each are named.
    """
    parts = {published.split(".")[0] for published, _ in layout.values()}
    state = {name: tensor for name, tensor in state.items() if name.split(".")[0] in parts}
    check_shapes(state, dict(layout.values()), f"these are not the weights of {file}")
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    own = {name: state[published].reshape(shapes[name]) for name, (published, _) in layout.items()}
    assign_weights(network, own, dtype)
    _channels_last(network)


def _channels_last(network: nn.Module) -> None:
    """Lay out the kernels of half-precision convolutions as matrix units want them; a float32 one may lose by it."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for tensor in network.parameters():
        if tensor.ndim in formats and tensor.dtype in (torch.bfloat16, torch.float16):
            tensor.data = tensor.data.contiguous(memory_format=formats[tensor.ndim])


def need_diffusers(error: Exception, autoencoder: str) -> ImportError:
    """The error to raise when diffusers is missing, broken or too old, with what to do about it."""
    return ImportError(
        f"{autoencoder} needs diffusers 0.35 or newer ({type(error).__name__}: {error}); install it with "
        "pip install --upgrade diffusers"
    )
