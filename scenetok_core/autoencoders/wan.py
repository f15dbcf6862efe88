"""Wan 2.2 VAE: 17 frames to 5 latents, through diffusers' `AutoencoderKLWan`.

Published as `Wan2.2_VAE.pth` (Wan-AI/Wan2.2-TI2V-5B); ComfyUI's `wan2.2_vae.safetensors` has the same parameter names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from torch import Tensor

from .base import LatentSpec
from .clips import ClipAutoencoder, Layout, Renaming, load_published, need_diffusers, of_posterior, published_layout

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan

# fmt: off
_MEAN = (
    -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557, -0.1382, 0.0542, 0.2813, 0.0891, 0.1570,
    -0.0098, 0.0375, -0.1825, -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502, -0.2055, -0.0322,
    0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.1230, -0.0313, -0.1649, 0.0117, 0.0723, -0.2839, -0.2083, -0.0520,
    0.3748, 0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667,
)
_STD = (
    0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901, 0.6885, 0.6165,
    0.8454, 0.4978, 0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659, 0.7069, 0.5338, 0.4889, 0.4917,
    0.4069, 0.4999, 0.6866, 0.4093, 0.5709, 0.6065, 0.6415, 0.4944, 0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.0600,
    0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744,
)
# fmt: on


@dataclass(frozen=True)
class WanConfig:
    """Sizes of a Wan 2.2 VAE, its groups of frames and its latent statistics."""

    base_dim: int = 160
    decoder_base_dim: int = 256
    z_dim: int = 48
    dim_mult: tuple[int, ...] = (1, 2, 4, 4)  # of the base width, one per level; each but the last halves the size
    res_blocks: int = 2
    temporal_downsample: tuple[bool, ...] = (False, True, True)  # levels that halve the frame rate too
    patch: int = 2  # pixels per side that become channels before the first level
    group_frames: int = 17  # frames that are coded together; the first has a latent to itself
    mean: tuple[float, ...] = _MEAN
    std: tuple[float, ...] = _STD


RELEASED = WanConfig()


def published_shapes(config: WanConfig = RELEASED) -> dict[str, tuple[int, ...]]:
    """Shapes of the published weights, by name.

    Raises:
        ImportError: diffusers is missing.
    """
    return dict(_layout(_network(config), config).values())


def latent_spec(config: WanConfig = RELEASED) -> LatentSpec:
    """Layout of the latents."""
    frames = 2 ** sum(config.temporal_downsample)
    return LatentSpec(
        channels=config.z_dim,
        spatial=config.patch * 2 ** (len(config.dim_mult) - 1),
        frames_per_latent=frames,
        group_frames=config.group_frames,
        group_latents=1 + (config.group_frames - 1) // frames,
        mean=config.mean,
        std=config.std,
    )


class WanVae(ClipAutoencoder):
    """Groups of 17 frames to 5 latents of 48 channels, 16 x 16 pixels each; there is a posterior."""

    files = ("Wan2.2_VAE.pth", "wan2.2_vae.safetensors", "Wan2.2_VAE.safetensors")
    network: AutoencoderKLWan

    def __init__(
        self, state: Mapping[str, Tensor], config: WanConfig = RELEASED, dtype: torch.dtype = torch.float32
    ) -> None:
        """Build around published weights, which keep their device.

        Raises:
            ValueError: missing, unexpected or mis-shaped tensors; at most five of each are named.
            ImportError: diffusers is missing.
        """
        self.spec = latent_spec(config)
        self._patch = config.patch
        self.encode_values = 13.5 * config.base_dim / config.patch**2  # measured: 12
        self.decode_values = 23.5 * config.decoder_base_dim / config.patch**2  # measured: 21
        self.network = _network(config)
        load_published(self.network, state, _layout(self.network, config), self.files[0], dtype)

    def encode_clip(self, clip: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A group of frames [1, 3, T, H, W] in [-1, 1] -> mean of the posterior, or a draw, [1, C, L, h, w]."""
        return of_posterior(self.network.encode(clip).latent_dist, generator)  # type: ignore[union-attr]

    def decode_clip(self, latents: Tensor) -> Tensor:
        """Raw latents [1, C, L, h, w] of a group -> frames [1, 3, T, H, W], about [-1, 1].

        Latent by latent, as the network's causal convolutions remember what they need of the frames before. Its own
        `decode` clamps, which would stop gradients.
        """
        hidden = self.network.post_quant_conv(latents)
        causal = type(self.network.post_quant_conv)
        memory = [None] * sum(isinstance(module, causal) for module in self.network.decoder.modules())
        pieces = [
            self.network.decoder(piece, feat_cache=memory, feat_idx=[0], first_chunk=i == 0)
            for i, piece in enumerate(hidden.split(1, dim=2))
        ]
        return rearrange(torch.cat(pieces, dim=2), "b (c r q) t h w -> b c t (h q) (w r)", q=self._patch, r=self._patch)

    def piece(self, frames: int, height: int, width: int) -> int:
        """The frames of one latent, as those before are remembered."""
        return min(frames, self.spec.frames_per_latent) * height * width


def _network(config: WanConfig) -> AutoencoderKLWan:
    try:
        from diffusers import AutoencoderKLWan

        with torch.device("meta"):
            return AutoencoderKLWan(
                base_dim=config.base_dim,
                decoder_base_dim=config.decoder_base_dim,
                z_dim=config.z_dim,
                dim_mult=list(config.dim_mult),
                num_res_blocks=config.res_blocks,
                temperal_downsample=list(config.temporal_downsample),
                is_residual=True,
                in_channels=3 * config.patch**2,
                out_channels=3 * config.patch**2,
                patch_size=config.patch,
            )
    except (ImportError, RuntimeError, TypeError) as error:  # TypeError: Wan 2.1 only, which has fewer settings
        raise need_diffusers(error, "the Wan 2.2 VAE") from error


def _layout(network: AutoencoderKLWan, config: WanConfig) -> Layout:
    blocks = config.res_blocks
    renaming: Renaming = (
        (r"\.norm1\.", ".residual.0."),
        (r"\.conv1\.", ".residual.2."),
        (r"\.norm2\.", ".residual.3."),
        (r"\.conv2\.", ".residual.6."),
        (r"\.conv_shortcut\.", ".shortcut."),
        (r"\.conv_in\.", ".conv1."),
        (r"\.norm_out\.", ".head.0."),
        (r"\.conv_out\.", ".head.2."),
        (r"\.mid_block\.resnets\.0\.", ".middle.0."),
        (r"\.mid_block\.attentions\.0\.", ".middle.1."),
        (r"\.mid_block\.resnets\.1\.", ".middle.2."),
        (r"\.(down|up)_blocks\.(\d+)\.resnets\.", r".\1samples.\2.\1samples."),
        (r"\.down_blocks\.(\d+)\.downsampler\.", rf".downsamples.\1.downsamples.{blocks}."),
        (r"\.up_blocks\.(\d+)\.upsampler\.", rf".upsamples.\1.upsamples.{blocks + 1}."),
        (r"^quant_conv\.", "conv1."),
        (r"^post_quant_conv\.", "conv2."),
    )
    return published_layout(network, renaming)
