"""Seeded random numbers, drawn on the CPU so that every device sees the same scenes."""

from __future__ import annotations

import torch
from torch import Tensor

_STREAMS = 64
_WARM_SHARE = 0.5


class Dice:
    """Uniform draws from one private generator.

    Args:
        seed: any integer; equal seeds give equal draws.
        stream: 0 to 63, separates independent uses of one seed.
    """

    def __init__(self, seed: int, stream: int = 0) -> None:
        self.generator = torch.Generator().manual_seed((seed * _STREAMS + stream) % 2**62)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Numbers in [low, high), float32."""
        return low + (high - low) * torch.rand(*shape, generator=self.generator)

    def flip(self, probability: float, *shape: int) -> Tensor:
        """True with the given probability."""
        return torch.rand(*shape, generator=self.generator) < probability

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Integers in [low, high), int64."""
        return torch.randint(low, high, shape, generator=self.generator)

    def color(self, value: Tensor, saturation: Tensor) -> Tensor:
        """Linear colours [..., 3], largest channel `value` [...]; half of the hues are those of wood and clay."""
        hue, warm = torch.rand(2, *value.shape, 1, generator=self.generator)
        hue = torch.where(warm < _WARM_SHARE, 0.02 + 0.12 * hue, hue)
        ramp = ((hue + torch.tensor([0.0, 2 / 3, 1 / 3])) % 1 * 6 - 3).abs().sub(1).clamp(0, 1)
        return value[..., None] * (1 - saturation[..., None] * (1 - ramp))
