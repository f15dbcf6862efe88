"""VideoDCAE: 4 frames of 32 x 32 pixels to one latent of 128 channels, under its published parameter names.

Published as `F32T4C128_AE.safetensors` (hpcai-tech/Open-Sora-v2-Video-DC-AE). Peng et al., "Open-Sora 2.0", arXiv
2503.09642; the blocks are those of Chen et al., "Deep Compression Autoencoder", arXiv 2410.10733, over time too.
Convolutions pad with zeros on all sides and are not causal.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from torch import Tensor, nn

from .base import LatentSpec
from .clips import ClipAutoencoder, load_published, published_layout
from .tiles import Axis, in_tiles

BlockName = Literal["ResBlock", "EViTS5_GLU"]
_HEAD = 32  # channels of an attention head
_EXPAND = 4  # inner width of the gated convolution over its outer width
_LEAST_TILE = 2  # latents
_CONTEXT = 5  # side of the second scale's neighbourhood, in cells and latents
_NORM_EPS = 1e-5
_SUM_EPS = 1e-15


@dataclass(frozen=True)
class VideoDcConfig:
    """Sizes of a VideoDCAE, stage by stage; each stage but the last halves the picture."""

    widths: tuple[int, ...] = (128, 256, 512, 512, 1024, 1024)
    encoder_depths: tuple[int, ...] = (2, 2, 2, 3, 3, 3)
    decoder_depths: tuple[int, ...] = (3, 3, 3, 3, 3, 3)
    blocks: tuple[BlockName, ...] = ("ResBlock",) * 3 + ("EViTS5_GLU",) * 3
    temporal_down: tuple[bool, ...] = (False, False, False, True, True, False)  # stages that halve the frame rate too
    latent_channels: int = 128
    scale: float = 0.493  # raw latents times this are what the networks see


@dataclass(frozen=True)
class Tiling:
    """Tiles that overlap and are blended linearly, for what is larger than a tile.

    The defaults are the released setting. `frames=None` codes any number of frames in one piece: no temporal seams, for
    memory in proportion to the length.
    """

    frames: int | None = 32
    pixels: int | None = 256  # side of a tile
    overlap: float = 0.25  # of a tile

    def __post_init__(self) -> None:
        if not 0 < self.overlap < 1:
            raise ValueError(f"tiles must overlap by more than 0 and less than 1 of their size, got {self.overlap}")

    def axes(self, spec: LatentSpec, *, latents: bool) -> list[Axis]:
        """Time, rows and columns of a clip [N, C, T, H, W] of frames, or of latents.

        Raises:
            ValueError: a tile smaller than two latents.
        """
        sizes = (
            (2, self.frames, spec.frames_per_latent),
            (3, self.pixels, spec.spatial),
            (4, self.pixels, spec.spatial),
        )
        return [Axis(dim, tile // cell, 1 if latents else cell, self.overlap) for dim, tile, cell in sizes if tile]


RELEASED = VideoDcConfig()
RELEASED_TILING = Tiling()


def published_shapes(config: VideoDcConfig = RELEASED) -> dict[str, tuple[int, ...]]:
    """Shapes of the published weights, by name."""
    return dict(published_layout(_network(config), ()).values())


def latent_spec(config: VideoDcConfig = RELEASED) -> LatentSpec:
    """Layout of the latents."""
    frames = 2 ** sum(config.temporal_down)
    return LatentSpec(
        channels=config.latent_channels,
        spatial=2 ** (len(config.widths) - 1),
        frames_per_latent=frames,
        group_frames=frames,
        separate_groups=False,
        std=(1 / config.scale,),
    )


class VideoDcAutoencoder(ClipAutoencoder):
    """Videos of whole groups of 4 frames to latents of 32 x 32 pixels; there is no posterior.

    The network sees a video whole, or in tiles as `tiling` says; it may be changed at any time.
    """

    files = ("F32T4C128_AE.safetensors",)
    network: VideoDc

    def __init__(
        self,
        state: Mapping[str, Tensor],
        config: VideoDcConfig = RELEASED,
        dtype: torch.dtype = torch.float32,
        tiling: Tiling = RELEASED_TILING,
    ) -> None:
        """Build around published weights, which keep their device.

        Raises:
            ValueError: missing, unexpected or mis-shaped tensors; at most five of each are named.
        """
        self.spec = latent_spec(config)
        self.tiling = tiling
        self.encode_values = self.decode_values = 7.5 * config.widths[0]  # measured: 7 of 2 bytes, 6 of 4
        self.network = _network(config)
        load_published(self.network, state, published_layout(self.network, ()), self.files[0], dtype)

    def encode_clip(self, clip: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A video [1, 3, T, H, W] in [-1, 1] -> raw latents [1, C, L, h, w]."""
        return in_tiles(self.network.encoder, clip, self.tiling.axes(self.spec, latents=False))

    def decode_clip(self, latents: Tensor) -> Tensor:
        """Raw latents [1, C, L, h, w] -> a video [1, 3, T, H, W], about [-1, 1]."""
        return in_tiles(self.network.decoder, latents, self.tiling.axes(self.spec, latents=True))

    @property
    def seamless(self) -> VideoDcAutoencoder:
        """The same network without tiles in time."""
        return self._with_tiles(None)

    def bounded(self, frames: int) -> VideoDcAutoencoder:
        """The same network with tiles of at most `frames` frames, but at least two latents."""
        frames = min(frames, self.tiling.frames or frames)
        return self._with_tiles(max(frames, _LEAST_TILE * self.spec.frames_per_latent))

    def _with_tiles(self, frames: int | None) -> VideoDcAutoencoder:
        changed = copy.copy(self)
        changed.tiling = dataclasses.replace(self.tiling, frames=frames)
        return changed

    def spans(self, latents: int) -> list[slice]:
        """Tiles in time, in order."""
        time = self.tiling.axes(self.spec, latents=True)[0]
        return time.spans(latents) if self.tiling.frames else [slice(0, latents)]

    def piece(self, frames: int, height: int, width: int) -> int:
        """A tile at most."""
        tiling = self.tiling
        pixels = min(height, tiling.pixels or height) * min(width, tiling.pixels or width)
        return min(frames, tiling.frames or frames) * pixels


class ChannelNorm(nn.Module):
    """Root-mean-square norm over the channels of [N, C, T, H, W], in float32, with scale and shift."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Keeps shape and dtype."""
        square = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=torch.float32).square() / x.shape[1]
        weight, bias = (p.view(-1, 1, 1, 1) for p in (self.weight, self.bias))
        return torch.addcmul(bias, (x * torch.rsqrt(square + _NORM_EPS)).to(x.dtype), weight)


class Conv(nn.Module):
    """Convolution over time, rows and columns that keeps their sizes (divided by `stride`), norm, activation."""

    def __init__(
        self,
        channels: int,
        out: int,
        kernel: int = 3,
        *,
        stride: int | tuple[int, int, int] = 1,
        groups: int = 1,
        normed: bool = False,
        bias: bool = True,
        activation: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, out, kernel, stride, padding=kernel // 2, groups=groups, bias=bias)
        self.norm = ChannelNorm(out) if normed else nn.Identity()
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels, T, H, W] -> [N, out, T', H', W']."""
        x = self.norm(self.conv(x))
        return self.activation(x) if self.activation else x


class Chain(nn.Module):
    """Modules one after the other."""

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        super().__init__()
        self.op_list = nn.ModuleList(modules)

    def forward(self, x: Tensor) -> Tensor:
        """Through all modules."""
        for module in self.op_list:
            x = module(x)
        return x


class Residual(nn.Module):
    """`main(x) + shortcut(x)`; the shortcut has no parameters."""

    def __init__(self, main: nn.Module, shortcut: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.main, self.shortcut = main, shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Shapes as those of `main`."""
        return self.main(x) + (self.shortcut(x) if self.shortcut else x)


class ConvPair(nn.Module):
    """The residual block's two convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = Conv(width, width, activation=F.silu)
        self.conv2 = Conv(width, width, normed=True, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Keeps the shape."""
        return self.conv2(self.conv1(x))


class LinearAttention(nn.Module):
    """ReLU attention at two scales, linear in the number of cells, which all see each other."""

    def __init__(self, width: int) -> None:
        super().__init__()
        heads, inner = width // _HEAD, 3 * width
        self.qkv = Conv(width, inner, 1, bias=False)
        gather = nn.Conv3d(inner, inner, _CONTEXT, padding=_CONTEXT // 2, groups=inner, bias=False)
        self.aggreg = nn.ModuleList([nn.Sequential(gather, nn.Conv3d(inner, inner, 1, groups=3 * heads, bias=False))])
        self.proj = Conv(2 * width, width, 1, normed=True, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Keeps the shape; sums run in float32."""
        qkv = self.qkv(x)
        scales = torch.cat([qkv, *(scale(qkv) for scale in self.aggreg)], dim=1)
        q, k, v = rearrange(scales, "n (h s d) t y x -> s n h d (t y x)", s=3, d=_HEAD).float()
        q, k = q.relu(), k.relu()
        values = (v @ k.mT) @ q
        total = k.sum(dim=-1)[:, :, None] @ q
        out = (values / (total + _SUM_EPS)).to(x.dtype)
        return self.proj(out.flatten(1, 2).unflatten(-1, x.shape[2:]))


class GatedConv(nn.Module):
    """Inverted bottleneck whose second half of channels gates the first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = 2 * _EXPAND * width
        self.inverted_conv = Conv(width, inner, 1, activation=F.silu)
        self.depth_conv = Conv(inner, inner, groups=inner)
        self.point_conv = Conv(inner // 2, width, 1, normed=True, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Keeps the shape."""
        value, gate = self.depth_conv(self.inverted_conv(x)).chunk(2, dim=1)
        return self.point_conv(value * F.silu(gate))


class AttentionBlock(nn.Module):
    """Attention for what is far, then a gated convolution for what is near."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.context_module = Residual(LinearAttention(width))
        self.local_module = Residual(GatedConv(width))

    def forward(self, x: Tensor) -> Tensor:
        """Keeps the shape."""
        return self.local_module(self.context_module(x))


class Upsample(nn.Module):
    """Nearest neighbour, then a convolution."""

    def __init__(self, channels: int, out: int, frames: int) -> None:
        super().__init__()
        self.conv = Conv(channels, out)
        self.frames = frames

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels, T, H, W] -> [N, out, T * frames, 2 H, 2 W]."""
        return self.conv(F.interpolate(x, scale_factor=(self.frames, 2, 2)))


def _fold(out: int, frames: int, side: int) -> Callable[[Tensor], Tensor]:
    """Shortcut of a smaller grid: cells become channels, and groups of channels are averaged to `out`."""

    def shortcut(x: Tensor) -> Tensor:
        cells = rearrange(x, "n c (t p) (h q) (w r) -> n (c p q r) t h w", p=frames, q=side, r=side)
        return reduce(cells, "n (c g) t h w -> n c t h w", "mean", c=out)

    return shortcut


def _unfold(out: int, frames: int, side: int) -> Callable[[Tensor], Tensor]:
    """Shortcut of a larger grid: channels are repeated, then become cells."""

    def shortcut(x: Tensor) -> Tensor:
        cells = x.repeat_interleave(out * frames * side**2 // x.shape[1], dim=1)
        return rearrange(cells, "n (c p q r) t h w -> n c (t p) (h q) (w r)", p=frames, q=side, r=side)

    return shortcut


_BLOCKS: dict[BlockName, Callable[[int], nn.Module]] = {
    "ResBlock": lambda width: Residual(ConvPair(width)),
    "EViTS5_GLU": AttentionBlock,
}


def _stage(config: VideoDcConfig, stage: int, depth: int) -> list[nn.Module]:
    return [_BLOCKS[config.blocks[stage]](config.widths[stage]) for _ in range(depth)]


class Encoder(nn.Module):
    """Video [N, 3, T, H, W] -> latents [N, C, L, h, w]."""

    def __init__(self, config: VideoDcConfig) -> None:
        super().__init__()
        widths = config.widths
        self.project_in = Conv(3, widths[0])
        self.stages = nn.ModuleList()
        for i, depth in enumerate(config.encoder_depths):
            modules = _stage(config, i, depth)
            if i + 1 < len(widths):
                frames, out = 1 + config.temporal_down[i], widths[i + 1]
                modules.append(Residual(Conv(widths[i], out, stride=(frames, 2, 2)), _fold(out, frames, 2)))
            self.stages.append(Chain(modules))
        latents = config.latent_channels
        self.project_out = Residual(Chain([Conv(widths[-1], latents)]), _fold(latents, 1, 1))

    def forward(self, video: Tensor) -> Tensor:
        """T a multiple of the frames per latent, sides multiples of the pixels per cell."""
        x = self.project_in(video)
        for stage in self.stages:
            x = stage(x)
        return self.project_out(x)


class Decoder(nn.Module):
    """Latents [N, C, L, h, w] -> video [N, 3, T, H, W].

    One latent alone becomes as many frames as any other, where the published code makes a still picture of it.
    """

    def __init__(self, config: VideoDcConfig) -> None:
        super().__init__()
        widths = config.widths
        self.project_in = Residual(Conv(config.latent_channels, widths[-1]), _unfold(widths[-1], 1, 1))
        self.stages = nn.ModuleList()
        for i, depth in enumerate(config.decoder_depths):
            modules = _stage(config, i, depth)
            if i + 1 < len(widths):
                frames = 1 + config.temporal_down[i]
                up = Upsample(widths[i + 1], widths[i], frames)
                modules.insert(0, Residual(up, _unfold(widths[i], frames, 2)))
            self.stages.append(Chain(modules))
        self.project_out = Chain([ChannelNorm(widths[0]), nn.ReLU(), Conv(widths[0], 3)])

    def forward(self, latents: Tensor) -> Tensor:
        """Any number of latents, of any size."""
        x = self.project_in(latents)
        for stage in reversed(self.stages):
            x = stage(x)
        return self.project_out(x)


class VideoDc(nn.Module):
    """Encoder and decoder under their published names."""

    def __init__(self, config: VideoDcConfig) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(config), Decoder(config)


def _network(config: VideoDcConfig) -> VideoDc:
    with torch.device("meta"):
        return VideoDc(config)
