"""3DRAE: views are fused into learnt latent tokens, which target views query by their rays (arXiv 2604.11331).

Deviation from the paper's global attention, unless `view_attention` is "global": in the decoder a target view attends
to itself and the latents, the latents to the latents only. So a picture never depends on which others are asked for,
and what is seen of the latents is computed once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..configs import RaeConfig
from ..nn.attention import KeysValues, RMSNorm
from ..nn.blocks import Block
from ..nn.layers import PatchEmbed, small_noise
from .dpt import PointHead

_RAY = 6  # direction and moment
_SPREAD = 2.0  # pictures in [0, 1] are coded in [-1, 1]


def _blocks(config: RaeConfig, depth: int) -> nn.ModuleList:
    sizes = {"qk_norm": config.qk_norm, "ratio": config.mlp_ratio, "eps": config.norm_eps}
    return nn.ModuleList(Block(config.hidden, config.heads, **sizes) for _ in range(depth))


def _to_width(have: int, want: int) -> nn.Module:
    return nn.Identity() if have == want else nn.Linear(have, want)


def _ray_channels(config: RaeConfig) -> int:
    return _RAY * (1 + 2 * config.ray_octaves)


def with_octaves(rays: Tensor, octaves: int) -> Tensor:
    """Rays [..., 6, H, W], then their sines and cosines at frequencies pi, 2 pi, 4 pi ...: [..., 6 (1 + 2n), H, W]."""
    waves = [wave(math.pi * 2**i * rays) for i in range(octaves) for wave in (torch.sin, torch.cos)]
    return torch.cat([rays, *waves], dim=-3)


class FuseNeck(nn.Module):
    """The Latent Fuse Neck: learnt latents and the patches of all views attend to each other.

    Its tokens are normalised by `mean` and `std`, which training/normalise.py measures. Decoders take them as they are
    before, from `restore`, so they know nothing of the measuring.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: RaeConfig) -> None:
        super().__init__()
        self.config = config
        self.latents = small_noise(1, config.tokens, config.hidden)
        self.ray_embed = PatchEmbed(_ray_channels(config) + 1, config.hidden, config.patch)
        if config.encoder is None:
            self.image_embed = PatchEmbed(3, config.hidden, config.patch)
        self.blocks = _blocks(config, config.neck_depth)
        self.to_tokens = _to_width(config.hidden, config.token_dim)
        measured = (config.tokens, config.token_dim)[config.statistics == "dimension" :]
        self.register_buffer("mean", torch.zeros(measured))
        self.register_buffer("std", torch.ones(measured))

    def embed_pictures(self, rgb: Tensor) -> Tensor:
        """Pictures [B, V, 3, H, W] in [0, 1] -> features of their patches [B, V, n, hidden], without a 2-D encoder."""
        return self.image_embed((rgb - 0.5) * _SPREAD).unflatten(1, (rgb.shape[1], -1))

    def forward(
        self,
        features: Tensor,  # [B, V, n, hidden] of the patches; those of invisible views do not matter
        rays: Tensor,  # [B, V, 6, H, W] direction and moment in the scene's frame
        visible: Tensor,  # [B, V] bool, False: only the pose of this view is known
        present: Tensor | None = None,  # [B, V] bool, False: padding; None: all views are there
    ) -> Tensor:
        """Latent tokens [B, N, D] in float32, normalised by the statistics of the training set."""
        mask = visible[:, :, None, None, None].to(rays.dtype).expand(-1, -1, 1, *rays.shape[-2:])
        cameras = self.ray_embed(torch.cat([with_octaves(rays, self.config.ray_octaves), mask], dim=2))
        seen = torch.where(visible[:, :, None, None], features, 0).flatten(1, 2)
        x = torch.cat([self.latents.expand(len(rays), -1, -1), (cameras + seen.to(cameras.dtype)).to(self.latents)], 1)
        bias = None if present is None else self._padding(present, seen.shape[1] // present.shape[1])
        for block in self.blocks:
            x = block(x, bias=bias)
        out = self.to_tokens(x[:, : self.config.tokens]).float()
        return (F.layer_norm(out, out.shape[-1:]) - self.mean.float()) / self.std.float()

    def restore(self, tokens: Tensor) -> Tensor:
        """Tokens [..., D] as they are before they are normalised, which decoders take."""
        return tokens * self.std.to(tokens.device, torch.float32) + self.mean.to(tokens.device, torch.float32)

    def _padding(self, present: Tensor, patches: int) -> Tensor:
        there = F.pad(present.repeat_interleave(patches, dim=1), (self.config.tokens, 0), value=True)
        return torch.zeros(there.shape, device=there.device).masked_fill(~there, -torch.inf)[:, None, None]


class QueryDecoder(nn.Module):
    """The Latent Query Decoder: rays of target views query the latents."""

    def __init__(self, config: RaeConfig, depth: int) -> None:
        super().__init__()
        self.config = config
        self.ray_embed = PatchEmbed(_ray_channels(config), config.hidden, config.patch)
        self.from_tokens = _to_width(config.token_dim, config.hidden)
        self.blocks = _blocks(config, depth)

    def memory(self, tokens: Tensor) -> list[KeysValues]:
        """What views see of latent tokens [B, N, D], not normalised, in every block; it serves all views of a scene.

        With global attention it is the latents alone, as they enter the first block.
        """
        dtype = self.ray_embed.proj.weight.dtype  # autocast must not narrow the residual stream
        x = self.from_tokens(tokens.to(dtype)).to(dtype)
        if self.config.view_attention == "global":
            return [(x, x)]
        memory = []
        for block in self.blocks:
            memory.append(block.keys_values(x))  # type: ignore[operator]
            x = block(x)
        return memory

    def forward(
        self,
        rays: Tensor,  # [B, T, 6, H, W] direction and moment in the scene's frame
        memory: list[KeysValues],
        layers: Sequence[int] | None = None,
    ) -> list[Tensor]:
        """Tokens of the views' patches [B * T, n, hidden] after each of `layers`; None is the last one."""
        wanted = (len(self.blocks) - 1,) if layers is None else layers
        views = rays.shape[1]
        x = self.ray_embed(with_octaves(rays, self.config.ray_octaves)).to(self.ray_embed.proj.weight.dtype)
        out: list[Tensor] = []
        if self.config.view_attention == "global":
            patches = x.shape[1]
            x = torch.cat([x, memory[0][0]], dim=1)
            for i, block in enumerate(self.blocks[: wanted[-1] + 1]):
                x = block(x)
                out += [x[:, :patches].unflatten(1, (views, -1)).flatten(0, 1)] if i in wanted else []
            return out
        x = x.unflatten(1, (views, -1)).flatten(0, 1)
        for i, (block, seen) in enumerate(zip(self.blocks[: wanted[-1] + 1], memory, strict=False)):
            x = block(x, beside=(_for_views(seen[0], views), _for_views(seen[1], views)))
            out += [x] if i in wanted else []
        return out


def _for_views(x: Tensor, views: int) -> Tensor:
    """[B, ...] -> [B * views, ...], every scene for each of its views."""
    return x[:, None].expand(-1, views, *x.shape[1:]).flatten(0, 1)


class PictureDecoder(nn.Module):
    """Target views from latents."""

    def __init__(self, config: RaeConfig) -> None:
        super().__init__()
        self.queries = QueryDecoder(config, config.decoder_depth)
        self.norm = RMSNorm(config.hidden, config.norm_eps)
        self.to_rgb = nn.Linear(config.hidden, 3 * config.patch**2)

    def memory(self, tokens: Tensor) -> list[KeysValues]:
        """As `QueryDecoder.memory`."""
        return self.queries.memory(tokens)

    def forward(self, rays: Tensor, memory: list[KeysValues]) -> tuple[Tensor]:
        """Rays [B, T, 6, H, W] -> pictures [B, T, 3, H, W] around [0, 1], float32, not clamped."""
        (x,) = self.queries(rays, memory)
        patch, (rows, columns) = self.queries.config.patch, rays.shape[-2:]
        out = self.to_rgb(self.norm(x)).float() / _SPREAD + 0.5
        shape = {"t": rays.shape[1], "h": rows // patch, "w": columns // patch, "p": patch, "q": patch}
        return (rearrange(out, "(b t) (h w) (c p q) -> b t c (h p) (w q)", **shape),)


class PointDecoder(nn.Module):
    """Point maps of target views, and how sure they are; from latents."""

    def __init__(self, config: RaeConfig) -> None:
        super().__init__()
        assert config.points is not None, "only models with points have this"
        self.layers = config.points.layers
        self.queries = QueryDecoder(config, config.points.depth)
        self.head = PointHead(config.hidden, config.points, config.norm_eps)

    def memory(self, tokens: Tensor) -> list[KeysValues]:
        """As `QueryDecoder.memory`."""
        return self.queries.memory(tokens)

    def forward(self, rays: Tensor, memory: list[KeysValues]) -> tuple[Tensor, Tensor]:
        """Rays [B, T, 6, H, W] -> points [B, T, 3, H, W] in the scene's frame and confidence [B, T, H, W] > 1."""
        size, patch = (rays.shape[-2], rays.shape[-1]), self.queries.config.patch
        features = self.queries(rays, memory, self.layers)
        points, confidence = self.head(features, (size[0] // patch, size[1] // patch), size)
        shape = rays.shape[:2]
        return points.unflatten(0, shape), confidence.unflatten(0, shape)


class RaeNetworks(nn.Module):
    """`neck`, `decoder` and, in models that have them, `points`, as they are stored in one checkpoint."""

    def __init__(self, config: RaeConfig) -> None:
        super().__init__()
        self.config = config
        self.neck = FuseNeck(config)
        self.decoder = PictureDecoder(config)
        if config.points is not None:
            self.points = PointDecoder(config)

    def forward(
        self,
        features: Tensor,  # [B, V, n, hidden], or without an encoder pictures [B, V, 3, H, W]
        rays: Tensor,  # [B, V, 6, H, W]
        visible: Tensor,  # [B, V] bool
        target_rays: Tensor,  # [B, T, 6, H, W]
        noise: Tensor | None = None,  # [B, N, D] added to the tokens before they are decoded
        pictures: bool = True,  # whether to decode pictures
        points: bool = True,  # whether to decode points and their confidence
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Encode and decode in one pass, as training needs it.

        Returns:
            What `decoder` and what `points` make, each empty where it is not asked for.
        """
        features = self.neck.embed_pictures(features) if self.config.encoder is None else features
        tokens = self.neck(features, rays, visible)
        tokens = tokens if noise is None else tokens + noise
        raw = self.neck.restore(tokens)
        drawn = self.decoder(target_rays, self.decoder.memory(raw)) if pictures else ()
        placed = self.points(target_rays, self.points.memory(raw)) if points else ()
        return drawn, placed
