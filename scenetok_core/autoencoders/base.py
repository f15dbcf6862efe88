"""What the networks need to know of an autoencoder: a protocol and its `LatentSpec`, pure data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class LatentSpec:
    """Layout of a latent space. Everything that differs between autoencoders is stated here.

    A group of `group_frames` frames becomes `group_latents` latents. The first latent of a group stands for the frames
    that are left when the others take `frames_per_latent` each.
    """

    channels: int
    spatial: int  # pixels per latent cell side
    frames_per_latent: int = 1
    group_frames: int = 1
    group_latents: int = 1
    separate_groups: bool = True  # groups know nothing of each other; False: the autoencoder sees a video whole
    mean: tuple[float, ...] = (0.0,)  # of raw latents: one value for all channels, or one per channel
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if not 1 <= self.leading_frames <= self.frames_per_latent:
            raise ValueError(
                f"{self.group_frames} frames cannot fill {self.group_latents} latents of {self.frames_per_latent}"
            )
        if not {len(self.mean), len(self.std)} <= {1, self.channels}:
            raise ValueError(
                f"latents of {self.channels} channels need 1 or {self.channels} values of mean and std, got "
                f"{len(self.mean)} and {len(self.std)}"
            )

    @property
    def leading_frames(self) -> int:
        """Frames of the first latent of a group."""
        return self.group_frames - self.frames_per_latent * (self.group_latents - 1)

    def groups(self, frames: int) -> int:
        """Smallest number of groups that hold `frames` frames."""
        return -(-frames // self.group_frames)

    def frames(self, latents: int) -> int:
        """Frames of so many latents, whole groups."""
        return latents // self.group_latents * self.group_frames

    def group_spans(self, latents: int) -> list[slice]:
        """Groups, or the whole where groups are not separate."""
        length = self.group_latents if self.separate_groups else latents
        return [slice(start, start + length) for start in range(0, latents, length)]

    def pack(self, maps: Tensor) -> Tensor:
        """Per-frame maps [B, T, C, h, w] (T a whole number of groups) -> per-latent stacks [B, L, t, C, h, w].

        Zero maps fill the leading latent after its frames (SceneTok, appendix: target autoencoders).
        """
        batch, frames, *rest = maps.shape
        if frames % self.group_frames:
            raise ValueError(
                f"{frames} frames are no whole number of groups of {self.group_frames}; pad the trajectory"
            )
        grouped = maps.reshape(batch, -1, self.group_frames, *rest)
        head, tail = grouped.split([self.leading_frames, self.group_frames - self.leading_frames], dim=2)
        zeros = head.new_zeros(*head.shape[:2], self.frames_per_latent - self.leading_frames, *rest)
        packed = torch.cat([head, zeros, tail], dim=2)
        return packed.reshape(batch, -1, self.frames_per_latent, *rest)

    def check_frames(self, frames: Tensor) -> None:
        """Raise `ValueError` unless frames [B, T, 3, H, W] are whole groups with sides of whole latent cells."""
        if frames.shape[1] % self.group_frames:
            raise ValueError(
                f"{frames.shape[1]} frames are no whole number of groups of {self.group_frames}; pad the video"
            )
        if frames.shape[-2] % self.spatial or frames.shape[-1] % self.spatial:
            raise ValueError(f"picture sides must be multiples of {self.spatial}, got {list(frames.shape[-2:])}")

    def check_latents(self, latents: Tensor) -> None:
        """Raise `ValueError` unless latents [B, L, C, h, w] have the right channels and are whole groups."""
        if latents.shape[2] != self.channels or latents.shape[1] % self.group_latents:
            raise ValueError(
                f"latents must be [B, L, {self.channels}, h, w] with L a multiple of {self.group_latents}, got "
                f"{list(latents.shape)}"
            )

    def normalise(self, latents: Tensor) -> Tensor:
        """Raw latents [..., C, h, w] as the networks expect them: (latents - mean) / std per channel."""
        mean, std = self._statistics(latents)
        return (latents - mean) / std

    def denormalise(self, latents: Tensor) -> Tensor:
        """Inverse of `normalise`."""
        mean, std = self._statistics(latents)
        return latents * std + mean

    def _statistics(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = (latents.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        return mean, std


class Autoencoder(Protocol):
    """Pictures to latents and back; latents are normalised as the networks expect them."""

    spec: LatentSpec

    @property
    def network(self) -> nn.Module | None:
        """What holds its weights, if it has any."""
        ...

    @property
    def seamless(self) -> Autoencoder:
        """The same autoencoder as it codes a video in one piece, for more memory; itself where there is no choice."""
        ...

    def bounded(self, frames: int) -> Autoencoder:
        """The same autoencoder as it codes at most `frames` frames at once; itself where there is no choice."""
        ...

    def spans(self, latents: int) -> list[slice]:
        """Which latents of a video of `latents` are decoded together, in order.

        Where two of them overlap, their frames fade linearly from one to the next.
        """
        ...

    def encode(self, frames: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Frames [B, T, 3, H, W] in [0, 1] -> latents [B, L, C, h, w].

        Of a posterior, its mean; with a CPU `generator`, a draw from it. Without a posterior it is not used.
        """
        ...

    def encode_bytes(self, frames: Tensor) -> int:
        """Bytes that `encode(frames)` needs beside the weights, the frames included; only the shape counts."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Latents [B, L, C, h, w] -> frames [B, T, 3, H, W] in [0, 1], float32."""
        ...

    def decode_unclamped(self, latents: Tensor) -> Tensor:
        """As `decode` without the final clamp, so that a loss on the frames has a gradient everywhere."""
        ...

    def decode_bytes(self, latents: Tensor) -> int:
        """Bytes that `decode(latents)` needs beside the weights, the frames included; only the shape counts."""
        ...
