"""What more input views are worth to a model whose tokens stay as many: the same targets from denser walks."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from scenetok_core.metrics import psnr
from scenetok_core.trajectories import follow
from scenetok_core.types import Cameras, SceneTokens, Views
from training.cases import Case
from training.scores import Figures, Scores

_BYTES_PER_NUMBER = 2  # of stored tokens


@dataclass
class ManyViews:
    """A model under measurement with more and more inputs along the walk of each case."""

    encode: Callable[[Views], SceneTokens]
    render: Callable[[SceneTokens, Case], Tensor]
    counts: tuple[int, ...]
    scores: Scores
    seconds: dict[int, list[float]] = field(default_factory=dict)
    numbers: dict[int, int] = field(default_factory=dict)  # in the tokens of a scene

    def add(self, case: Case) -> None:
        """Measure a case whose world is known."""
        assert case.world is not None, "else there are no other views"
        for count in self.counts:
            inputs = case.inputs if count == len(case.inputs) else on_the_walk(case.inputs.cameras, count, case.world)
            began = time.perf_counter()
            tokens = self.encode(inputs)
            self.seconds.setdefault(count, []).append(time.perf_counter() - began)
            self.numbers[count] = tokens.tokens.numel()
            self.scores.add(f"inputs_{count}_psnr", psnr(self.render(tokens, case), case.targets.rgb))

    def figures(self) -> Figures:
        """PSNR of the targets, size of the tokens and seconds, by the number of inputs."""
        figures: Figures = {}
        for count, seconds in self.seconds.items():
            figures |= {
                f"inputs_{count}_psnr": self.scores.mean(f"inputs_{count}_psnr"),
                f"inputs_{count}_tokens_kib": self.numbers[count] * _BYTES_PER_NUMBER / 1024,
                f"inputs_{count}_seconds_per_encode": statistics.median(seconds),
            }
        return figures


def on_the_walk(walk: Cameras, count: int, world: Callable[[Cameras], Tensor]) -> Views:
    """Views from `count` cameras evenly along a smooth path through those of a walk."""
    cameras = follow(walk, count, smoothing=0.0)
    return Views(world(cameras), cameras)
