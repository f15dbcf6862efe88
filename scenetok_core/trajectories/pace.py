"""How fast a path is walked: frames, share of the path, easing, direction."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

Easing = Literal["linear", "ease-in", "ease-out", "ease-in-out"]

_EASINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda t: t,
    "ease-in": lambda t: t**2,
    "ease-out": lambda t: t * (2 - t),
    "ease-in-out": lambda t: t**2 * (3 - 2 * t),
}


@dataclass(frozen=True)
class Pace:
    """When a path is where.

    Raises:
        ValueError: no frames, a speed that is not positive, or an unknown easing.
    """

    frames: int  # >= 1
    speed: float = (
        1.0  # times the path is covered; above 1 an open path rests at its end, a closed one goes round again
    )
    easing: Easing = "linear"  # quadratic at one end, cubic at both
    reverse: bool = False  # from the end to the start

    def __post_init__(self) -> None:
        if isinstance(self.frames, bool) or int(self.frames) != self.frames or self.frames < 1:
            raise ValueError(f"a camera path needs at least 1 frame, got {self.frames} frames")
        if not (math.isfinite(self.speed) and self.speed > 0):
            raise ValueError(f"speed must be a positive number (1 = the whole path), got {self.speed}")
        if self.easing not in _EASINGS:
            raise ValueError(f"unknown easing {self.easing!r}; choose one of {', '.join(get_args(Easing))}")

    def fractions(self, closed: bool = False) -> Tensor:
        """Places [frames] on the path in [0, 1], float64; a closed path leaves out 1, which is its place 0 again."""
        count = int(self.frames)
        time = torch.linspace(0, 1, count, dtype=torch.float64)
        if closed:
            time = torch.arange(count, dtype=torch.float64) / count
        covered = _EASINGS[self.easing](time) * self.speed
        covered = covered % 1 if closed else covered.clamp(max=1)
        if not self.reverse:
            return covered
        return (1 - covered) % 1 if closed else 1 - covered


def fractions(frames: int | Pace, closed: bool = False) -> Tensor:
    """Places on the path, see `Pace.fractions`; plain frames are an even pace."""
    return (frames if isinstance(frames, Pace) else Pace(frames)).fractions(closed)


def sweep(degrees: float, frames: int | Pace) -> Tensor:
    """Angles [T] in radians from 0 to `degrees`; whole turns are closed."""
    whole_turns = degrees != 0 and math.isclose(degrees % 360.0, 0.0, abs_tol=1e-9)
    return fractions(frames, closed=whole_turns) * math.radians(degrees)
