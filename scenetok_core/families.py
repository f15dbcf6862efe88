"""Models of every family behind one interface: what scene models share, and opening a file as what it holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from .configs import Dit3dConfig, RaeConfig, SceneGenConfig, SceneTokConfig, TemporalTiles
from .generation import SceneGenerator
from .latent_generation import LatentGenerator
from .pipeline import SceneTok
from .rae import Rae
from .sampling import Progress
from .types import Cameras, SceneTokens, Views
from .weights.checkpoints import checkpoint_family

_MODELS: dict[str, type[SceneTok] | type[Rae]] = {SceneTokConfig.family: SceneTok, RaeConfig.family: Rae}
_GENERATORS: dict[str, type[SceneGenerator] | type[LatentGenerator]] = {
    SceneGenConfig.family: SceneGenerator,
    Dit3dConfig.family: LatentGenerator,
}
MODEL_FAMILIES, GENERATOR_FAMILIES = tuple(_MODELS), tuple(_GENERATORS)


class SceneModel(Protocol):
    """What encodes posed pictures and renders camera paths: `SceneTok`, `Rae`. Their methods say more."""

    hash: str

    @property
    def config(self) -> SceneTokConfig | RaeConfig:
        """Its configuration, with its name."""
        ...

    @property
    def networks(self) -> nn.Module:
        """All of its own networks."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        ...

    @property
    def steps(self) -> int | None:
        """Sampling steps of a picture; None: a picture is no sample, so noise and its settings change nothing."""
        ...

    def picture_size(self, size: tuple[int, int] | None = None) -> tuple[int, int]:
        """The (height, width) at which pictures of `size` are seen and rendered."""
        ...

    def encode(
        self,
        views: Views,
        *,
        reference: int | None = None,
        scale: str | float = "auto",
        sample: bool = False,
        generator: torch.Generator | None = None,
        progress: Progress | None = None,
    ) -> SceneTokens:
        """Posed pictures -> scene tokens."""
        ...

    def render(
        self,
        scene: SceneTokens,
        cameras: Cameras,
        *,
        quality: str = "normal",
        steps: int | None = None,
        guidance: float | None = None,
        shift: float | None = None,
        solver: str | None = None,
        temporal_tiles: TemporalTiles = "auto",
        views_per_pass: int = 0,
        generator: torch.Generator | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Scene tokens and a camera path -> frames [T, 3, H, W] in [0, 1]."""
        ...

    def check_scene(self, scene: SceneTokens) -> None:
        """Raise `ValueError` unless `scene` holds tokens of this model."""
        ...


def open_model(
    path: str | Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    folders: Sequence[Path] | None = None,
) -> SceneTok | Rae:
    """Load a scene model of the family that its checkpoint names; arguments and errors as `SceneTok.load`."""
    return _MODELS.get(checkpoint_family(path) or "", SceneTok).load(path, device, dtype, folders)


def open_generator(
    path: str | Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    folders: Sequence[Path] | None = None,
) -> SceneGenerator | LatentGenerator:
    """Load a scene generator of the family that its checkpoint names; arguments and errors as `SceneTok.load`."""
    return _GENERATORS.get(checkpoint_family(path) or "", SceneGenerator).load(path, device, dtype, folders)
