"""The optimiser and its schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from training.config import OptimConfig


class SkippingOptimizer(torch.optim.Optimizer):
    """AdamW; or Muon on the matrices inside the network and AdamW on the rest. A step is left out while `skip` is set.

    Every parameter group keeps its full rate as `base_lr`; the loop sets `lr` from it.
    """

    def __init__(self, model: nn.Module, optim: OptimConfig) -> None:
        """Optimise the trainable parameters of `model`, with weight decay on matrices only.

        Raises:
            ValueError: Muon is asked for and this torch has none.
        """
        self.skip = False
        matrices, inner, others = [], [], []
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                hidden = weight.ndim == 2 and not any(part in name for part in optim.muon_except)
                kind = inner if hidden and optim.muon_lr else matrices if weight.ndim >= 2 else others
                kind.append(weight)
        decay = optim.weight_decay
        adam = [{"params": part, "weight_decay": d} for part, d in ((matrices, decay), (others, 0.0)) if part]
        self.parts: list[torch.optim.Optimizer] = []
        if adam:
            self.parts.append(torch.optim.AdamW(adam, lr=optim.lr, betas=optim.betas, fused=True))
        if inner:
            if not hasattr(torch.optim, "Muon"):
                raise ValueError(
                    f"optim.muon_lr needs torch 2.9 or newer, got {torch.__version__}; update it, or set muon_lr=none"
                )
            assert optim.muon_lr is not None
            self.parts.append(
                torch.optim.Muon(inner, lr=optim.muon_lr, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
            )
        groups: Iterable[dict[str, Any]] = [group for part in self.parts for group in part.param_groups]
        super().__init__([{**group, "base_lr": group["lr"]} for group in groups], {})

    def set_rate(self, share: float) -> None:
        """Use `share` of every group's full learning rate."""
        for group in self.param_groups:
            group["lr"] = group["base_lr"] * share

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Update the weights, unless `skip`: then weights and moments stay bit-identical."""
        assert closure is None
        if self.skip:
            return
        first = 0
        for part in self.parts:  # linked anew at every step, since loading a state replaces the groups
            count = len(part.param_groups)
            part.param_groups, part.state = self.param_groups[first : first + count], self.state
            part.step()
            first += count


def rate_share(optim: OptimConfig, step: int, progress: float) -> float:
    """Share of the full rate at `step` (from 0): warm-up, 1, then decay to 0 over the last `decay_share` of the run.

    At every milestone that was reached it is multiplied by `milestone_factor`.
    """
    rate = min(1.0, (step + 1) / max(optim.warmup, 1))
    rate *= optim.milestone_factor ** sum(step >= milestone for milestone in optim.milestones)
    left = min(1.0, (1 - progress) / optim.decay_share) if optim.decay_share else 1.0
    return rate * (left if optim.decay_shape == "linear" else 0.5 - 0.5 * math.cos(math.pi * left))
