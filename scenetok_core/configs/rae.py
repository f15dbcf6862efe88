"""Configurations of 3DRAE and 3DDiT (arXiv 2604.11331); defaults are the sizes of tables 5 and 6."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from .base import require, require_positive
from .sampling import Prediction, SamplingConfig

ViewAttention = Literal["per_view", "global"]
ConditionPlace = Literal["channels", "tokens"]
Statistics = Literal["dimension", "token"]
_BASE_DIMENSION = 4096


@dataclass(frozen=True)
class PointsConfig:
    """A second latent query decoder, whose DPT head makes point maps and their confidence (3DRAE, section 3.2)."""

    depth: int = 16
    layers: tuple[int, int, int, int] = (3, 7, 11, 15)  # counted from 0, whose view tokens the head reads
    channels: tuple[int, int, int, int] = (256, 512, 1024, 1024)  # of their maps, which get coarser in this order
    features: int = 256  # of the head's convolutions

    def __post_init__(self) -> None:
        require_positive("points.", self, "depth features")
        rising = list(self.layers) == sorted(set(self.layers)) and self.layers[0] >= 0
        require(
            rising and self.layers[-1] < self.depth,
            f"points.layers must rise from at least 0 to less than points.depth {self.depth}, got {self.layers}",
        )
        require(min(self.channels) > 0, f"points.channels must be positive, got {self.channels}")


@dataclass(frozen=True)
class RaeConfig:
    """A 3-D representation autoencoder: any number of posed pictures -> latent tokens -> pictures and point maps."""

    family: ClassVar[str] = "3drae"
    name: str
    encoder: str | None = "dinov2"  # a key of `encoders.ENCODERS`; None: image only, pixels are embedded by the network
    patch: int = 14  # pixels along an edge; sides of pictures are multiples of it
    # Least and most pixels of a picture; others are resized. As trained.
    pixels: tuple[int, int] = (37000, 75500)
    context_views: int = 128  # most visible views
    hidden: int = 768
    heads: int = 16
    mlp_ratio: float = 4.0
    qk_norm: bool = False
    norm_eps: float | None = 1e-6
    tokens: int = 1024  # latent tokens N, learnt and ordered
    token_dim: int = 768
    # What has a mean and a variance of its own, by which tokens are normalised: each of their dimensions, as in the
    # paper, or each dimension of each token, which suits tokens that differ more from each other than between scenes.
    statistics: Statistics = "dimension"
    neck_depth: int = 12
    decoder_depth: int = 16
    ray_octaves: int = 0  # sines and cosines of the rays at so many frequencies beside them, each twice the last one
    # What a target view sees beside the latents: itself, or (as in the paper) all other target views, which the latents
    # then see too.
    view_attention: ViewAttention = "per_view"
    points: PointsConfig | None = field(default_factory=PointsConfig)

    def __post_init__(self) -> None:
        numbers = "patch context_views hidden heads mlp_ratio norm_eps tokens token_dim neck_depth decoder_depth"
        require_positive("", self, numbers)
        require(self.hidden % self.heads == 0, f"hidden {self.hidden} must divide by heads {self.heads}")
        require(self.ray_octaves >= 0, f"ray_octaves must be >= 0, got {self.ray_octaves}")
        least, most = self.pixels
        require(
            self.patch**2 <= least <= most,
            f"pixels must rise from at least one patch of {self.patch} x {self.patch}, got {self.pixels}",
        )

    @property
    def image_size(self) -> int:
        """Side in pixels of the largest square picture."""
        return self.patch * int(math.isqrt(self.pixels[1]) // self.patch)


def dimension_shift(tokens: int, token_dim: int) -> float:
    """The timestep shift for so many numbers, sqrt(N D / 4096) (3DDiT, section B.1; arXiv 2403.03206)."""
    return math.sqrt(tokens * token_dim / _BASE_DIMENSION)


@dataclass(frozen=True)
class Dit3dConfig:
    """A rectified-flow transformer over the latent tokens of a 3DRAE: a deep trunk and a wide head (3DDiT)."""

    family: ClassVar[str] = "3ddit"
    name: str
    scene_model: str = "3drae-dinov2"  # whose tokens it draws, and which encodes the conditioning
    tokens: int = 1024
    token_dim: int = 768
    hidden: int = 1152
    depth: int = 28
    heads: int = 16
    head_hidden: int = 2048
    head_depth: int = 2
    head_heads: int = 16
    mlp_ratio: float = 4.0
    qk_norm: bool = True
    norm_eps: float | None = 1e-6
    condition: ConditionPlace = "channels"  # where the encoded views and cameras stand beside the noisy tokens
    prediction: Prediction = "v"
    cond_views: int = 16  # most cameras of the conditioning, those of the given views among them
    sampling: SamplingConfig = field(
        default_factory=lambda: SamplingConfig(
            steps=50, shift=dimension_shift(1024, 768), guidance=2.0, window=1, clean_targets=0
        )
    )

    def __post_init__(self) -> None:
        numbers = "tokens token_dim hidden depth heads head_hidden head_depth head_heads mlp_ratio norm_eps cond_views"
        require_positive("", self, numbers)
        for width, heads in ((self.hidden, self.heads), (self.head_hidden, self.head_heads)):
            require(width % heads == 0, f"a width of {width} must divide by its {heads} heads")
