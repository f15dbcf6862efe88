"""What the training loop needs to know of a task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor, nn

from training.data.loader import Dataset


class Task(Protocol):
    """A model and its objective. Frozen parts belong to the task, so they are neither trained, saved nor exported."""

    @property
    def frozen(self) -> Mapping[str, str]:
        """Hashes of frozen weights by name; a resumed run must have the same ones."""
        ...

    def build(self) -> nn.Module:
        """The model with fresh weights; trained parts require gradients, and only through its `forward`."""
        ...

    def dataset(self, device: torch.device) -> Dataset:
        """The training data; it may be made on `device` (the loop moves what lies elsewhere).

        Frozen parts are moved there, too.
        """
        ...

    def loss(
        self, model: nn.Module, batch: Any, generator: torch.Generator, progress: float
    ) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """Losses of one batch, [B] and unreduced, and scalars to log.

        All randomness comes from `generator` (on the batch's device); `progress` in [0, 1) is the share done.
        """
        ...

    def sheet(self, model: nn.Module, batch: Any, generator: torch.Generator) -> Image.Image:
        """A picture of what the model (in evaluation mode, averaged weights) does with a held-out batch."""
        ...

    def export(self, path: Path, state: dict[str, Tensor], metadata: dict[str, str]) -> None:
        """Write the model's state (averaged, bfloat16) as an inference checkpoint, whole or not at all."""
        ...
