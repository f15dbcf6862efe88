"""Noise schedules over a row of latents, and the one sampling loop that consumes them.

A schedule is a table of noise levels, one row per step, with the window of latents that takes part in each step. Three
ways to move the window are known: all latents of a window together, one after the other, and a slanted front in between
(diffusion forcing). A solver turns the velocities of a step into its direction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .flow import shift_time

Preview = Callable[[], Tensor]
Progress = Callable[[int, int, Preview | None], None]  # (steps done, steps in all, clean estimate so far or None)
Velocity = Callable[[Tensor, Tensor, slice], Tensor]  # (noisy window [B, W, ...], t [B, W], window) -> velocity


@dataclass(frozen=True, eq=False)
class Schedule:
    """Noise levels and active windows; row r and its window apply to the step r -> r + 1."""

    sigma: Tensor  # [rows, latents] in [0, 1]
    active: Tensor  # [rows, latents] bool, one contiguous run per row

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.sigma) - 1

    def window(self, row: int) -> slice:
        """Latents that take part in the step from `row`."""
        index = self.active[row].nonzero().flatten().tolist()
        return slice(index[0], index[-1] + 1)


def make_schedule(
    name: str,
    *,
    horizon: int,
    steps: int,
    window: int,
    clean_targets: int,
    shift: float = 1.0,
    uncertainty: int = 1,
    group: int = 1,
) -> Schedule:
    """Build a schedule.

    Args:
        name: "full_sequence", "autoregressive" or "pyramid".
        horizon: latents in all.
        steps: steps per latent.
        window: latents that the network sees at once; at most `horizon` are used.
        clean_targets: finished latents kept in view when the window slides.
        shift: timestep shift applied to the levels.
        uncertainty: pyramid only: how many steps a latent starts after its predecessor, 0 to `steps`.
        group: window starts are multiples of this many latents.

    Raises:
        ValueError: unknown name, nothing to do, a window that could never advance, or a wrong uncertainty.
    """
    if name not in _ADVANCE:
        raise ValueError(f"unknown schedule {name!r}; choose one of {sorted(_ADVANCE)}")
    if horizon < 1 or steps < 1:
        raise ValueError(f"a schedule needs at least one latent and one step, got {horizon} latents and {steps} steps")
    if not 0 <= clean_targets < window:
        raise ValueError(
            f"clean_targets must be at least 0 and less than the window, or the window never advances; got "
            f"clean_targets {clean_targets} with window {window}"
        )
    if not 0 <= uncertainty <= steps:
        raise ValueError(f"uncertainty must be between 0 and the {steps} steps of a latent, got {uncertainty}")
    if window % group or clean_targets % group or horizon % group:
        raise ValueError(
            f"horizon {horizon}, window {window} and clean_targets {clean_targets} must be multiples of {group}"
        )
    front = _Front(
        [steps] * horizon, steps, min(window, horizon), min(clean_targets, horizon - group), uncertainty, group
    )
    counts, active = [list(front.counts)], [front.mask()]
    advance = _ADVANCE[name]
    while any(front.counts):
        advance(front)
        if front.counts == counts[-1]:  # only the window moved
            active[-1] = front.mask()
            continue
        counts.append(list(front.counts))
        active.append(front.mask())
    sigma = shift_time(torch.tensor(counts, dtype=torch.float32) / steps, shift)
    return Schedule(sigma, torch.tensor(active))


@dataclass
class _Front:
    """Remaining steps of every latent and the window that moves over them."""

    counts: list[int]
    steps: int
    window: int
    clean: int
    uncertainty: int
    group: int
    start: int = 0
    moved: bool = False

    @property
    def end(self) -> int:
        return min(self.start + self.window, len(self.counts))

    def mask(self) -> list[bool]:
        first = min(self.start, len(self.counts) - self.window)
        return [first <= i < first + self.window for i in range(len(self.counts))]

    def slide_when_done(self) -> None:
        if not any(self.counts[self.start : self.end]):
            self.start += self.window - self.clean


def _advance_together(front: _Front) -> None:
    front.counts[: front.end] = [max(count - 1, 0) for count in front.counts[: front.end]]
    front.slide_when_done()


def _advance_one_by_one(front: _Front) -> None:
    for i in range(front.end):
        front.counts[i] -= 1
        if front.counts[i] >= 0:
            break
    front.counts[:] = [max(count, 0) for count in front.counts]
    front.slide_when_done()


def _advance_slanted(front: _Front) -> None:
    before = list(front.counts)
    for i in range(front.end):
        if i == 0 or front.counts[i - 1] <= front.steps - front.uncertainty or front.moved:
            front.moved = front.moved and i == 0
            front.counts[i] -= 1
    front.counts[:] = [max(count, 0) for count in front.counts]
    finished = front.counts[front.start : front.end].count(0)
    stuck = front.counts == before
    if front.uncertainty > 0 and (finished == front.clean + front.group or stuck):
        front.start += front.group
        front.moved = True
    elif front.uncertainty in (0, front.steps):
        front.slide_when_done()


_ADVANCE: dict[str, Callable[[_Front], None]] = {
    "full_sequence": _advance_together,
    "autoregressive": _advance_one_by_one,
    "pyramid": _advance_slanted,
}


@dataclass(frozen=True, eq=False)
class _Step:
    """One evaluation of the velocity."""

    window: slice
    sizes: Tensor  # [1, W, 1, ...] change of every latent's noise level; 0: it rests
    velocity: Tensor  # [B, W, ...]


def _euler(now: _Step, before: _Step | None) -> Tensor:
    return now.velocity


def _adams_bashforth(now: _Step, before: _Step | None) -> Tensor:
    if before is None or before.window != now.window:  # other neighbours: the velocity may have jumped
        return now.velocity
    share = torch.where(before.sizes == 0, 0, now.sizes / (2 * before.sizes))
    return now.velocity + share * (now.velocity - before.velocity)


_SOLVERS: dict[str, Callable[[_Step, _Step | None], Tensor]] = {"euler": _euler, "ab2": _adams_bashforth}


def denoise(
    velocity: Velocity,
    noise: Tensor,  # [B, latents, ...]
    schedule: Schedule,
    progress: Progress | None = None,
    solver: str = "euler",
) -> Tensor:
    """Integration of the probability flow from noise to data, window by window.

    Args:
        velocity: called once per step with the noisy window, its noise levels and its place among the latents.
        noise: starting point; not changed.
        schedule: as many latents as `noise` has.
        progress: called after every step; may raise to cancel.
        solver: "euler", the reference, or "ab2": two-step Adams-Bashforth for steps of any size (Hairer, Norsett and
            Wanner, Solving Ordinary Differential Equations I, section III.5), of second order. It takes the previous
            velocity into account; a latent's first step and all steps after the window moved are Euler's.

    Returns:
        Latents after the last step, shape of `noise`.

    Raises:
        ValueError: a schedule for another number of latents, or an unknown solver.
    """
    if schedule.sigma.shape[1] != noise.shape[1]:
        raise ValueError(f"the schedule is for {schedule.sigma.shape[1]} latents, the noise has {noise.shape[1]}")
    if solver not in _SOLVERS:
        raise ValueError(f"unknown solver {solver!r}; choose one of {sorted(_SOLVERS)}")
    x, clean = noise.clone(), torch.zeros_like(noise)
    sigma = schedule.sigma.to(noise.device)
    direction, before = _SOLVERS[solver], None
    for row in range(schedule.steps):
        window = schedule.window(row)
        t, t_next = sigma[row, window], sigma[row + 1, window]
        spread = (1, -1) + (1,) * (noise.ndim - 2)
        v = velocity(x[:, window], t.expand(len(x), -1), window)
        clean[:, window] = x[:, window] - t.view(spread) * v
        now = _Step(window, (t_next - t).view(spread), v)
        x[:, window] += now.sizes * direction(now, before)
        before = now
        if progress is not None:
            progress(row + 1, schedule.steps, lambda: clean)
    return x
