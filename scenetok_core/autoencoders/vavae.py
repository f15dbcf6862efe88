"""VA-VAE, the autoencoder of the context views: one picture to one latent, through diffusers' `AutoencoderKL`.

Published as `vavae-imagenet256-f16d32-dinov2.pt` (hustvl/vavae-imagenet256-f16d32-dinov2) with the parameter names of
the latent-diffusion autoencoder. Yao et al., "Reconstruction vs. Generation", arXiv 2501.01423.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .base import LatentSpec
from .clips import ClipAutoencoder, Layout, Renaming, load_published, need_diffusers, of_posterior, published_layout

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

_POINTWISE = r"\.(q|k|v|proj_out)\.weight$"
# fmt: off
_MEAN = (
    0.5985, -0.4992, 0.6440, -0.0971, -1.1910, -1.4332, 0.4685, 0.6259, 0.6320, -0.4897, -0.7445, 1.1596, 0.8456,
    0.5008, 0.2293, 0.4754, -0.4379, 0.8317, -0.0751, 0.3063, 0.4665, -0.0914, -0.8271, 0.0781, 1.4151, 1.3792,
    0.2696, -0.7573, 0.2813, -0.3092, 0.0779, 0.3497,
)
_STD = (
    3.8461, 4.2699, 3.5768, 3.5911, 3.6231, 3.4810, 3.3075, 3.5093, 3.5541, 3.6067, 3.7058, 3.6314, 3.6295, 3.6205,
    3.2590, 3.1868, 3.8258, 3.5999, 3.2966, 3.2261, 3.2192, 3.1055, 3.5805, 4.3569, 3.3085, 3.2076, 4.5150, 3.4870,
    3.0416, 3.4869, 4.4310, 4.0881,
)
# fmt: on


@dataclass(frozen=True)
class VaVaeConfig:
    """Sizes of a VA-VAE; attention is in the last level of the encoder and the first of the decoder."""

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)  # of the channels, one per level; each but the last halves the size
    res_blocks: int = 2
    latent_channels: int = 32
    mean: tuple[float, ...] = _MEAN  # latents_stats.pt, published beside the weights
    std: tuple[float, ...] = _STD


RELEASED = VaVaeConfig()


def published_shapes(config: VaVaeConfig = RELEASED) -> dict[str, tuple[int, ...]]:
    """Shapes of the published weights, by name.

    Raises:
        ImportError: diffusers is missing.
    """
    return dict(_layout(_network(config), config).values())


def latent_spec(config: VaVaeConfig = RELEASED) -> LatentSpec:
    """Layout of the latents."""
    return LatentSpec(
        channels=config.latent_channels,
        spatial=2 ** (len(config.multipliers) - 1),
        mean=config.mean,
        std=config.std,
    )


class VaVae(ClipAutoencoder):
    """Pictures to 32 channels of 16 x 16 pixels each; there is a posterior."""

    files = ("vavae-imagenet256-f16d32-dinov2.pt", "vavae-imagenet256-f16d32-dinov2.safetensors")
    network: AutoencoderKL

    def __init__(
        self, state: Mapping[str, Tensor], config: VaVaeConfig = RELEASED, dtype: torch.dtype = torch.float32
    ) -> None:
        """Build around published weights, which keep their device.

        Raises:
            ValueError: missing, unexpected or mis-shaped tensors; at most five of each are named.
            ImportError: diffusers is missing.
        """
        self.spec = latent_spec(config)
        self.encode_values = self.decode_values = 5.5 * config.channels  # measured: 5
        self.network = _network(config)
        load_published(self.network, state, _layout(self.network, config), self.files[0], dtype)

    def encode_clip(self, clip: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A picture [1, 3, 1, H, W] in [-1, 1] -> mean of the posterior, or a draw, [1, C, 1, h, w]."""
        posterior = self.network.encode(clip[:, :, 0]).latent_dist  # type: ignore[union-attr]
        return of_posterior(posterior, generator)[:, :, None]

    def decode_clip(self, latents: Tensor) -> Tensor:
        """Raw latents [1, C, 1, h, w] -> a picture [1, 3, 1, H, W], about [-1, 1]."""
        return self.network.decode(latents[:, :, 0]).sample[:, :, None]  # type: ignore[union-attr]


def _network(config: VaVaeConfig) -> AutoencoderKL:
    try:
        from diffusers import AutoencoderKL
    except (ImportError, RuntimeError) as error:
        raise need_diffusers(error, "VA-VAE") from error
    plain = len(config.multipliers) - 1
    with torch.device("meta"):
        return AutoencoderKL(  # its annotations say tuples of one
            down_block_types=("DownEncoderBlock2D",) * plain + ("AttnDownEncoderBlock2D",),  # type: ignore[arg-type]
            up_block_types=("AttnUpDecoderBlock2D",) + ("UpDecoderBlock2D",) * plain,  # type: ignore[arg-type]
            block_out_channels=tuple(config.channels * m for m in config.multipliers),  # type: ignore[arg-type]
            layers_per_block=config.res_blocks,
            latent_channels=config.latent_channels,
        )


def _layout(network: AutoencoderKL, config: VaVaeConfig) -> Layout:
    levels = len(config.multipliers)
    renaming: Renaming = (
        (r"\.mid_block\.resnets\.0\.", ".mid.block_1."),
        (r"\.mid_block\.resnets\.1\.", ".mid.block_2."),
        (r"\.mid_block\.attentions\.0\.", ".mid.attn_1."),
        *((rf"\.up_blocks\.{i}\.", f".up.{levels - 1 - i}.") for i in range(levels)),
        (r"\.down_blocks\.", ".down."),
        (r"\.resnets\.", ".block."),
        (r"\.attentions\.", ".attn."),
        (r"\.(down|up)samplers\.0\.", r".\1sample."),
        (r"\.conv_shortcut\.", ".nin_shortcut."),
        (r"\.conv_norm_out\.", ".norm_out."),
        (r"\.group_norm\.", ".norm."),
        (r"\.to_([qkv])\.", r".\1."),
        (r"\.to_out\.0\.", ".proj_out."),
    )
    return published_layout(network, renaming, _POINTWISE)
