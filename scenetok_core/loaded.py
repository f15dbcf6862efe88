"""What scene models and generators of every family share: networks that were read from a checkpoint."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from .weights.checkpoints import load_checkpoint

L = TypeVar("L", bound="Loaded")


class Loaded(ABC):
    """Networks with their configuration: `SceneTok`, `Rae`, `SceneGenerator`, `LatentGenerator`."""

    kind: ClassVar[Any]  # the class of the configuration
    networks: Any  # all of its own

    @classmethod
    def load(
        cls: type[L],
        path: str | Path,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        folders: Sequence[Path] | None = None,
    ) -> L:
        """Load a checkpoint, with the frozen networks of others that it needs.

        Args:
            path: a safetensors file with its configuration in the metadata, or with the tensors of a released model.
            device: where the networks run.
            dtype: dtype of the weights; None is what suits the device (`default_dtype`). Poses and rays stay float32.
            folders: where the weights of autoencoders and 2-D encoders lie; None is the checkpoint's own folder.

        Raises:
            ValueError: the file is unreadable, was changed, does not fit its configuration, the sizes in that do not
                fit together, or weights of another network are not found.
        """
        state, config, metadata = load_checkpoint(path, cls.kind)
        return cls.assemble(state, config, metadata, [Path(path).parent] if folders is None else folders, device, dtype)

    @classmethod
    @abstractmethod
    def assemble(
        cls: type[L],
        state: Mapping[str, Tensor],
        config: Any,
        metadata: Mapping[str, str],
        folders: Sequence[Path],
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> L:
        """As `load`, of weights and metadata that have been read; the latter with their `model_hash`."""

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self._weight.device

    @property
    def _itemsize(self) -> int:
        return self._weight.dtype.itemsize

    @property
    def _weight(self) -> nn.Parameter:
        return next(self.networks.parameters())
