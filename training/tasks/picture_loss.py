"""The losses of rendered pictures that need nothing but the truth."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from training.perceptual import PerceptualLoss
from training.tasks.rae_config import RaeTaskConfig
from training.tasks.shared import gradient_loss


def picture_losses(
    task: RaeTaskConfig,
    perceptual: PerceptualLoss | None,
    drawn: Sequence[Tensor],  # pictures [B, T, 3, H, W] around [0, 1], or nothing
    truth: Tensor,  # [B, T, 3, H, W] in [0, 1]
) -> tuple[Tensor, dict[str, Tensor | float]]:
    """Squared error in [-1, 1], with the losses of gradients and features: [B]; and scalars to log."""
    losses, logs = truth.new_zeros(len(truth)), {}
    for pictures in drawn:
        squared = (pictures - truth).square().flatten(1).mean(1)
        losses = losses + task.picture_weight * 4 * squared
        logs["psnr"] = (-10 * squared.detach().clamp_min(1e-10).log10()).mean()
        if task.gradient_weight:
            losses = losses + task.gradient_weight * gradient_loss(pictures, truth)
        if perceptual is not None:
            distance = perceptual(pictures, truth)
            losses = losses + task.perceptual_weight * distance
            logs[f"loss_{perceptual.name}"] = distance.detach().mean()
    return losses, logs
