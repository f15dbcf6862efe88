"""The optimiser and its schedule."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from training.config import OptimConfig


class SkippingAdamW(torch.optim.AdamW):
    """Fused AdamW, whose step leaves weights and moments bit-identical where `found_inf` is 1.

    The flag lies on the device, so the decision costs no wait.
    """

    found_inf: Tensor | None = None  # [] 0 or 1; read by the fused step

    def __init__(self, model: nn.Module, optim: OptimConfig) -> None:
        """Optimise the trainable parameters of `model`, with weight decay on matrices only."""
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        matrices = {"params": [weight for weight in weights if weight.ndim >= 2], "weight_decay": optim.weight_decay}
        others = {"params": [weight for weight in weights if weight.ndim < 2], "weight_decay": 0.0}
        groups = [group for group in (matrices, others) if group["params"]]
        super().__init__(groups, lr=optim.lr, betas=optim.betas, fused=True)


def learning_rate(optim: OptimConfig, step: int, progress: float) -> float:
    """Rate at `step` (from 0): linear warm-up, constant, then decay to zero over the last `decay_share` of the run."""
    rate = optim.lr * min(1.0, (step + 1) / max(optim.warmup, 1))
    left = min(1.0, (1 - progress) / optim.decay_share) if optim.decay_share else 1.0
    return rate * (left if optim.decay_shape == "linear" else 0.5 - 0.5 * math.cos(math.pi * left))
