"""Several data sets in one run: the set of a scene is drawn by weight, then the scene (3DRAE, section C)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from training.data.batch import SceneViews
from training.data.scene_source import BatchShape, DrawShape, SceneSource
from training.data.source import VideoDataConfig, VideoSource


class MixedSource(SceneSource):
    """Endless batches of scenes from data sets of different sizes; in a batch every scene may be of another one."""

    def __init__(
        self,
        config: VideoDataConfig,
        context_autoencoder: str,
        target_autoencoder: str,
        shape: DrawShape | None = None,
    ) -> None:
        """Open all sets; arguments and errors as those of `VideoSource`."""
        super().__init__(config.workers, encoded=False, shape=shape)
        self.sources = [
            VideoSource(config.of_set(each), context_autoencoder, target_autoencoder) for each in config.sets
        ]
        self._labels = [Path(each.root).name for each in config.sets]
        self._weights = torch.tensor([each.weight for each in config.sets], dtype=torch.float64)
        # of every set in turn
        held_out = [(i, turn) for i, source in enumerate(self.sources) for turn in range(len(source.held_out))]
        self._turns = sorted(held_out, key=lambda place: place[::-1])
        self.held_out = tuple(self.sources[i].held_out[turn] for i, turn in self._turns)

    def scene(self, seed: int, progress: float, shape: BatchShape | None, turn: int | None) -> SceneViews:
        """As the base class says."""
        generator = torch.Generator().manual_seed(seed)
        drawn, within = int(torch.multinomial(self._weights, 1, generator=generator)), None
        if turn is not None:
            drawn, within = self._turns[turn % len(self._turns)]
        scene = self.sources[drawn].scene(int(torch.randint(2**62, (), generator=generator)), progress, shape, within)
        return replace(scene, name=f"{self._labels[drawn]}/{scene.name}")
