"""Embeddings and feed-forward layers, under the released parameter names."""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from einops.layers.torch import Rearrange
from torch import Tensor, nn

from .attention import RMSNorm

_TIME_FEATURES = 256
_LONGEST_PERIOD = 10000.0


def small_noise(*shape: int) -> nn.Parameter:
    """Fresh weights of standard deviation 0.02."""
    return nn.Parameter(torch.randn(shape).mul_(0.02))  # on the meta device `*` loads torch._dynamo, for seconds


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Adaptive layer norm's affine step."""
    return x * (1 + scale) + shift


class SwiGLU(nn.Module):
    """Gated feed-forward; hidden width is two thirds of `ratio * dim`, as released."""

    def __init__(self, dim: int, ratio: float = 4.0) -> None:
        super().__init__()
        hidden = int(2 / 3 * int(dim * ratio))
        self.w12, self.w3 = nn.Linear(dim, 2 * hidden), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """[..., dim] -> [..., dim]."""
        gate, value = self.w12(x).chunk(2, dim=-1)
        return self.w3(F.silu(gate) * value)


class PatchEmbed(nn.Module):
    """Patch convolution of latents [B, V, C, h, w] -> tokens [B, V * (h/p) * (w/p), dim]."""

    def __init__(self, channels: int, dim: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, dim, patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens in the order of views, rows, columns."""
        tokens = self.proj(x.flatten(0, 1).to(self.proj.weight.dtype)).flatten(2).transpose(1, 2)
        return tokens.reshape(len(x), x.shape[1] * tokens.shape[1], tokens.shape[2])  # also of no views at all


class RayEmbed(nn.Module):
    """One bias-free Linear over patches of packed ray maps [B, L, t, 6, R, R] -> [B, L * cells, dim]."""

    def __init__(self, dim: int, patch: int, frames: int, order: str = "t ph pw c") -> None:
        super().__init__()
        cut = Rearrange(f"b l t c (hh ph) (ww pw) -> b (l hh ww) ({order})", ph=patch, pw=patch)
        self.model = nn.Module()
        self.model.model = nn.Sequential(cut, nn.Linear(6 * frames * patch * patch, dim, bias=False))

    def forward(self, rays: Tensor) -> Tensor:
        """Rays stay float32 up to the patch cut, then follow the weight's dtype."""
        cut, linear = cast(nn.Sequential, self.model.model)
        return linear(cut(rays).to(cast(nn.Linear, linear).weight.dtype))


class RayPatchEmbed(nn.Module):
    """Patch convolution of ray maps [B, V, 6, R, R] plus fixed sine-cosine positions -> [B, V * cells, dim].

    The positions are no part of a checkpoint: they follow from the sizes.
    """

    def __init__(self, dim: int, patch: int, ray_map: int) -> None:
        super().__init__()
        self.model = nn.Module()
        self.model.model = PatchEmbed(6, dim, patch)
        positions = grid_positions(dim, ray_map // patch, ray_map)
        self.model.model.register_buffer("pos_embed", positions, persistent=False)

    def forward(self, rays: Tensor) -> Tensor:
        """Tokens in the order of views, rows, columns."""
        embed = cast(PatchEmbed, self.model.model)
        tokens = embed(rays)
        return tokens + cast(Tensor, embed.pos_embed).to(tokens.dtype).repeat(1, rays.shape[1], 1)


def grid_positions(dim: int, side: int, table: int) -> Tensor:
    """Sine-cosine positions of the centre `side` x `side` cells of a `table` x `table` grid, [1, side * side, dim].

    As in the released scene generator: the whole grid spans `side` units, the first half of the channels encodes the
    column, the second half the row, each as sines, then cosines. Made on the CPU, whatever the default device: a
    network built on the meta device has real positions.
    """
    first = (table - side) // 2
    cells = torch.arange(first, first + side, device="cpu", dtype=torch.float64) * (side / table)
    frequency = _LONGEST_PERIOD ** -(torch.arange(dim // 4, device="cpu", dtype=torch.float64) / (dim // 4))
    angle = cells[:, None] * frequency
    axis = torch.cat([angle.sin(), angle.cos()], dim=-1)  # [side, dim / 2]
    columns, rows = axis[None].expand(side, -1, -1), axis[:, None].expand(-1, side, -1)
    return torch.cat([columns, rows], dim=-1).reshape(1, side * side, dim).float()


class FourierTimestepEmbed(nn.Module):
    """Sines and cosines of t at fixed random frequencies, drawn from a Gaussian; then Linear, SiLU, Linear (3DDiT)."""

    frequency: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("frequency", torch.randn(_TIME_FEATURES // 2))
        self.mlp = nn.Sequential(nn.Linear(_TIME_FEATURES, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, t: Tensor) -> Tensor:
        """Noise level t in [0, 1], any shape -> [..., dim]."""
        angle = 2 * math.pi * t.float()[..., None] * self.frequency.float()
        features = torch.cat([angle.cos(), angle.sin()], dim=-1)
        return self.mlp(features.to(cast(nn.Linear, self.mlp[0]).weight.dtype))


class TimestepEmbed(nn.Module):
    """Sinusoidal features [cos, sin] of tau = max(1000 t - 1, 0), then Linear, SiLU, Linear."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(_TIME_FEATURES, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, t: Tensor) -> Tensor:
        """Noise level t in [0, 1], any shape -> [..., dim]."""
        half = _TIME_FEATURES // 2
        frequency = torch.exp(-math.log(_LONGEST_PERIOD) / half * torch.arange(half, device=t.device))
        angle = (1000.0 * t.float() - 1.0).clamp_min(0)[..., None] * frequency
        features = torch.cat([angle.cos(), angle.sin()], dim=-1)
        return self.mlp(features.to(cast(nn.Linear, self.mlp[0]).weight.dtype))


class FinalLayer(nn.Module):
    """adaLN, then a Linear to the output channels."""

    def __init__(self, dim: int, out: int, eps: float | None = 1e-6) -> None:
        super().__init__()
        self.norm_final = RMSNorm(dim, eps)
        self.linear = nn.Linear(dim, out)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 2 * dim))

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        """x, cond [B, L, dim] -> [B, L, out]."""
        shift, scale = self.adaLN_modulation(cond).chunk(2, dim=-1)
        return self.linear(modulate(self.norm_final(x), shift, scale))
