"""How a rectified flow is sampled unless the caller says otherwise, and what a quality means."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .base import require, require_positive

ScheduleName = Literal["full_sequence", "autoregressive", "pyramid"]
SolverName = Literal["euler", "ab2"]
Prediction = Literal["v", "x"]  # what a network predicts: velocity or clean latents


@dataclass(frozen=True)
class SamplingConfig:
    """How target latents are sampled when the caller does not say otherwise."""

    steps: int = 25
    shift: float = 1.0  # timestep shift s: t -> s t / (1 + (s - 1) t)
    guidance: float = 1.0  # classifier-free guidance; 1 is off
    window: int = 8  # latents in one pass
    clean_targets: int = 4  # finished latents kept as context when the window slides
    schedule: ScheduleName = "full_sequence"
    uncertainty: int = 1  # pyramid schedule: steps between the starts of neighbouring latents
    solver: SolverName = "euler"  # ab2: second order, at the same cost (docs/solvers.md)

    def __post_init__(self) -> None:
        require_positive("sampling.", self, "steps shift window")
        require(math.isfinite(self.guidance), f"sampling.guidance must be a finite number, got {self.guidance}")
        require(
            0 <= self.clean_targets < self.window,
            f"sampling.clean_targets must be at least 0 and less than window {self.window}, got {self.clean_targets}",
        )
        require(
            0 <= self.uncertainty <= self.steps,
            f"sampling.uncertainty must be between 0 and steps {self.steps}, got {self.uncertainty}",
        )


@dataclass(frozen=True)
class Quality:
    """What a quality asks of the sampling; None leaves what the model says."""

    steps: int | None = None
    times: int = 1  # the model's steps, so many times
    solver: SolverName | None = None


QUALITIES: Mapping[str, Quality] = types.MappingProxyType(
    {
        "draft": Quality(steps=1),  # the posterior mean
        "normal": Quality(),
        "best": Quality(times=4, solver="ab2"),  # docs/solvers.md
    }
)


def at_quality(sampling: SamplingConfig, quality: str, **asked: Any) -> SamplingConfig:
    """A model's sampling at a quality; settings that are `asked` for, those that are not None, prevail.

    Raises:
        ValueError: an unknown quality, or settings that cannot work.
    """
    require(quality in QUALITIES, f"unknown quality {quality!r}; choose one of {', '.join(QUALITIES)}")
    chosen = QUALITIES[quality]
    wanted: dict[str, Any] = {"steps": chosen.steps or chosen.times * sampling.steps}
    wanted |= {"solver": chosen.solver or sampling.solver}
    wanted |= {name: value for name, value in asked.items() if value is not None}
    return dataclasses.replace(sampling, **wanted, uncertainty=min(sampling.uncertainty, wanted["steps"]))
