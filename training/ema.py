"""Exponential moving average of the trainable weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from training.distribute import local, placed_like


class Ema:
    """Averages every trainable parameter of `model`: `average += (1 - decay) * (weight - average)`.

    The decay ramps up as `min(decay, (1 + step) / (ramp + step))`, so the first, random weights are soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float, ramp: float = 10.0) -> None:
        self.decay, self.ramp = decay, ramp
        self.weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self.average = {name: weight.detach().clone() for name, weight in self.weights.items()}

    @torch.no_grad()
    def update(
        self,
        step: int,
        accept: Tensor,  # [] 0 or 1, on the weights' device
    ) -> None:
        """Follow the weights after update number `step` (from 0); where `accept` is 0 nothing changes."""
        share = (1 - min(self.decay, (1 + step) / (self.ramp + step))) * accept
        average = local(self.average.values())
        change = torch._foreach_sub(local(self.weights.values()), average)
        torch._foreach_mul_(change, share)
        torch._foreach_add_(average, change)

    @contextmanager
    @torch.no_grad()
    def applied(self) -> Iterator[None]:
        """The model holds the averaged weights inside the `with` block."""
        weights = local(self.weights.values())
        kept = [weight.detach().clone() for weight in weights]
        torch._foreach_copy_(weights, local(self.average.values()))
        try:
            yield
        finally:
            torch._foreach_copy_(weights, kept)

    @torch.no_grad()
    def load(self, average: Mapping[str, Tensor]) -> None:
        """Take over a saved average. Raises `ValueError` when it belongs to other parameters."""
        if set(average) != set(self.average):
            different = sorted(set(average) ^ set(self.average))
            raise ValueError(f"saved averages and model differ in their parameters, for example {different[:5]}")
        for name, value in self.average.items():
            value.copy_(placed_like(average[name], value))
