"""Adversarial training in the one loop: generator and discriminator are one module, trained by one backward pass.

Each sees the other as it stands: the discriminator's loss is that of detached pictures, the generator's is told by
the discriminator with detached weights. So both losses add up to one, and no gradient goes astray.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from training.discriminators import Discriminator, Features

_LARGEST_FACTOR = 1e4
_EPS = 1e-4
_GENERATOR = "generator."

Scores = tuple[Tensor, ...]


class Adversaries(nn.Module):
    """A generator whose first output is pictures, and what is trained to tell them from the truth."""

    def __init__(self, generator: nn.Module, features: Features) -> None:
        """Take a generator whose `forward` returns (pictures [B, T, 3, H, W],), and anything else."""
        super().__init__()
        self.generator, self.discriminator = generator, Discriminator(features)
        self.features: Features = features  # no module: frozen, so neither trained nor saved nor exported

    def forward(
        self,
        *inputs: Any,
        truth: Tensor | None = None,  # [B, T, 3, H, W]; None: there is no discriminator yet
        judged: bool = False,  # whether the generator learns from it
        **named: Any,
    ) -> tuple[Any, Any, Scores]:
        """What the generator makes, and scores [B * T, k] of the truth and of detached pictures, then of pictures.

        The last ones, for the generator alone, are there if it is `judged`.
        """
        drawn, others = self.generator(*inputs, **named)
        if truth is None:
            return drawn, others, ()
        pictures, features = drawn[0].flatten(0, 1), self.features
        with torch.set_grad_enabled(judged and torch.is_grad_enabled()):
            rendered = features(pictures)
        with torch.no_grad():
            real = features(truth.flatten(0, 1))
        scores = (self.discriminator(real), self.discriminator([x.detach() for x in rendered]))
        if judged:
            fixed = {name: weight.detach() for name, weight in self.discriminator.named_parameters()}
            scores = (*scores, functional_call(self.discriminator, fixed, (rendered,)))
        return drawn, others, scores


def generator_of(model: nn.Module) -> nn.Module:
    """The part of a model that inference needs: all of it, where there is no adversary."""
    return model.generator if isinstance(model, Adversaries) else model


def generator_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the generator among those of `Adversaries`, under its own names."""
    return {name.removeprefix(_GENERATOR): value for name, value in state.items() if name.startswith(_GENERATOR)}


def parts_of(model: nn.Module) -> dict[str, nn.Module]:
    """What is trained by itself, by name; gradients of each are clipped together, the first one is what is wanted."""
    return dict(model.named_children()) if isinstance(model, Adversaries) else {"": model}


def adversarial_losses(
    reconstruction: Tensor,  # [B] the other losses of the pictures
    scores: Scores,
    last: Tensor,  # weights of the layer that makes pictures
    weight: float,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Hinge losses [B] of discriminator and, if it is judged, generator; and scalars to log.

    The generator's is weighted by `weight` times the ratio of the gradients that `reconstruction` and it have at `last`
    (VQGAN, arXiv 2012.09841, section 3.1).
    """
    real, rendered, *judged = (each.float().view(len(reconstruction), -1) for each in scores)
    losses = 0.5 * (F.relu(1 - real) + F.relu(1 + rendered)).mean(1)
    logs = {
        "loss_discriminator": losses.detach().mean(),
        "score_truth": real.detach().mean(),
        "score_rendered": rendered.detach().mean(),
    }
    if judged:
        of_pictures = -judged[0].mean(1)
        factor = adaptive_factor(reconstruction.mean(), of_pictures.mean(), last)
        losses = losses + weight * factor * of_pictures
        logs["adversary_factor"] = factor
    return losses, logs


def adaptive_factor(reconstruction: Tensor, adversarial: Tensor, last: Tensor) -> Tensor:
    """|gradient of `reconstruction`| / |gradient of `adversarial`| with respect to `last`, a constant scalar."""
    wanted, given = (
        torch.autograd.grad(loss, last, retain_graph=True)[0].norm() for loss in (reconstruction, adversarial)
    )
    return (wanted / (given + _EPS)).clamp(max=_LARGEST_FACTOR).detach()
