"""Batches of scenes as a pure function of seed and progress, of one shape or of another one every time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch

from training.data.batch import Batch, SceneViews, collate
from training.data.loader import HELD_OUT_SEEDS
from training.data.views import ViewsConfig


@dataclass(frozen=True)
class BatchShape:
    """What varies from batch to batch where sizes are mixed."""

    scenes: int
    context: int  # views
    target: int  # groups
    size: tuple[int, int]  # (height, width) of the pictures

    def views(self, config: ViewsConfig) -> ViewsConfig:
        """Settings with these numbers of views; targets that are all by themselves stay so."""
        pieces = self.target if config.target_windows > 1 else 1
        return replace(config, context_views=self.context, target_groups=self.target, target_windows=pieces)


DrawShape = Callable[[torch.Generator], BatchShape]


class SceneSource(ABC):
    """Endless batches of scenes.

    Args:
        workers: threads that read scenes.
        encoded: scenes are latents.
        shape: draws sizes and numbers of views for every batch, where they vary.
    """

    held_out: tuple[str, ...] = ()  # names of scenes that are never trained on

    def __init__(self, workers: int, *, encoded: bool, shape: DrawShape | None) -> None:
        self._pool = ThreadPoolExecutor(workers, "videos")
        self._encoded, self._shape = encoded, shape

    def batch(self, seed: int, scenes: int, progress: float = 1.0) -> Batch:
        """`scenes` scenes with views drawn for a share `progress` of the run; equal arguments give equal batches.

        Where shapes are drawn, it may be fewer scenes. Seeds below `HELD_OUT_SEEDS` take the held-out scenes in turn,
        or training scenes, which the batch then tells, where there are none. A scene that is broken or too short is
        named in a warning, once, and another one takes its place.

        Raises:
            ValueError: none of many scenes could be read.
        """
        generator = torch.Generator().manual_seed(seed)
        shape, held_out = self._shape and self._shape(generator), seed < HELD_OUT_SEEDS
        count = scenes if shape is None or held_out else min(scenes, shape.scenes)
        seeds = torch.randint(2**62, (count,), generator=generator).tolist()
        turns = range(count) if held_out and self.held_out else [None] * count
        drawn = list(self._pool.map(lambda seed, turn: self.scene(seed, progress, shape, turn), seeds, turns))
        return collate(drawn, encoded=self._encoded, held_out=held_out and bool(self.held_out))

    @abstractmethod
    def scene(self, seed: int, progress: float, shape: BatchShape | None, turn: int | None) -> SceneViews:
        """A training scene that belongs to `seed`, or the held-out one whose turn it is.

        Raises:
            ValueError: none of many could be read.
        """
