"""Noise schedules over a row of latents, and the one sampling loop that consumes them.

A schedule is a table of noise levels, one row per step, with the window of latents that takes part in each step. Three
ways to move the window are known: all latents of a window together, one after the other, and a slanted front in between
(diffusion forcing). A solver turns the velocities of a step into its direction.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .flow import shift_time

Preview = Callable[[], Tensor]
Progress = Callable[[int, int, Preview | None], None]  # (steps done, steps in all, clean estimate so far or None)
Velocity = Callable[[Tensor, Tensor, slice], Tensor]  # (noisy window [B, W, ...], t [B, W], window) -> velocity


@dataclass(frozen=True, eq=False)
class Schedule:
    """Noise levels of the latents in the window of every step; all others rest, at 1 behind it and at 0 before it.

    So it grows with the number of steps alone, and not with that number times the latents.
    """

    horizon: int  # latents in all
    starts: Tensor  # [steps + 1] first latent of every step's window, and of the window after the last step
    levels: Tensor  # [steps, 2, W] noise levels in [0, 1] of the window before and after every step

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.levels)

    @property
    def length(self) -> int:
        """Latents in a window."""
        return self.levels.shape[2]

    def window(self, step: int) -> slice:
        """Latents that take part in a step."""
        start = int(self.starts[step])
        return slice(start, start + self.length)

    @property
    def sigma(self) -> Tensor:
        """The whole table of levels [steps + 1, latents], for comparisons."""
        rows = torch.ones(self.steps + 1, self.horizon)
        for step in range(self.steps):
            window = self.window(step)
            rows[step:, : window.start] = 0
            rows[step, window], rows[step + 1 :, window] = self.levels[step]
        return rows

    @property
    def active(self) -> Tensor:
        """Which latents of `sigma` take part in each step: [steps + 1, latents] bool, one contiguous run per row."""
        index = torch.arange(self.horizon)
        return (index >= self.starts[:, None]) & (index < self.starts[:, None] + self.length)

    def parts(self) -> Iterator[tuple[int, Schedule]]:
        """Schedules of latents that never share a window with those of another part, each with its first latent.

        They are independent of each other, and one after the other they are this schedule.
        """
        moved = self.starts[1:-1] >= self.starts[:-2] + self.length
        cuts = [0, *(moved.nonzero().flatten() + 1).tolist(), self.steps]
        for begin, end in itertools.pairwise(cuts):
            first, last = self.window(begin).start, self.window(end - 1).stop
            starts = (self.starts[begin : end + 1] - first).clamp(max=last - first - self.length)
            yield first, Schedule(last - first, starts, self.levels[begin:end])


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
    known: int = 0,
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
        known: latents at the beginning that are given, fewer than `window` and `horizon`.

    Raises:
        ValueError: unknown name, nothing to do, a window that could never advance, or a wrong uncertainty.
    """
    if name not in _ADVANCE:
        raise ValueError(f"unknown schedule {name!r}; choose one of {sorted(_ADVANCE)}")
    _check_settings(horizon, steps, window, clean_targets, uncertainty, group, known)
    front = _Front(
        [0] * known + [steps] * (horizon - known),
        steps,
        min(window, horizon),
        min(clean_targets, horizon - group),
        uncertainty,
        group,
    )
    starts, levels, advance = [front.first], [], _ADVANCE[name]
    while any(front.counts[front.first :]):
        before = front.counts[front.first : front.first + front.window]
        advance(front)
        after = front.counts[starts[-1] : starts[-1] + front.window]
        if after == before:  # only the window moved
            starts[-1] = front.first
            continue
        starts.append(front.first)
        levels.append((before, after))
    sigma = shift_time(torch.tensor(levels, dtype=torch.float32) / steps, shift)
    return Schedule(horizon, torch.tensor(starts), sigma)


def _check_settings(
    horizon: int, steps: int, window: int, clean_targets: int, uncertainty: int, group: int, known: int
) -> None:
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
    if not 0 <= known < min(window, horizon):
        raise ValueError(f"known latents must be fewer than the window {window} and the horizon {horizon}, got {known}")


@dataclass
class _Front:
    """Remaining steps of every latent and the window that moves over them; all before its start are at 0."""

    counts: list[int]
    steps: int
    window: int
    clean: int
    uncertainty: int
    group: int
    start: int = 0

    @property
    def end(self) -> int:
        return min(self.start + self.window, len(self.counts))

    @property
    def first(self) -> int:
        """First latent of a window that does not pass the end."""
        return min(self.start, len(self.counts) - self.window)

    def lower(self, latent: int) -> None:
        self.counts[latent] = max(self.counts[latent] - 1, 0)

    def slide_when_done(self) -> None:
        if not any(self.counts[self.start : self.end]):
            self.start += self.window - self.clean


def _advance_together(front: _Front) -> None:
    for i in range(front.start, front.end):
        front.lower(i)
    front.slide_when_done()


def _advance_one_by_one(front: _Front) -> None:
    unfinished = (i for i in range(front.start, front.end) if front.counts[i])
    front.lower(next(unfinished, front.start))
    front.slide_when_done()


def _advance_slanted(front: _Front) -> None:
    before = front.counts[front.start : front.end]
    for i in range(front.start, front.end):
        if i == front.start or front.counts[i - 1] <= front.steps - front.uncertainty:
            front.lower(i)
    after = front.counts[front.start : front.end]
    if front.uncertainty > 0 and (after.count(0) == front.clean + front.group or after == before):
        front.start += front.group
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


@dataclass(frozen=True, eq=False)
class Denoised:
    """What a step of `denoise_windows` gives."""

    window: slice
    clean: Tensor  # [B, W, ...] estimate of the window's latents
    finished: Tensor  # [B, n, ...] latents that are finished since the step before: those that follow its own


def denoise_windows(
    velocity: Velocity,
    noise: Callable[[slice], Tensor],
    schedule: Schedule,
    solver: str = "euler",
) -> Iterator[Denoised]:
    """Integration of the probability flow from noise to data; only the latents of one window are held.

    Args:
        velocity: called once per step with the noisy window, its noise levels and its place among the latents.
        noise: starting points [B, n, ...] of latents that enter the window, asked for in order; left as they are.
        schedule: of the latents.
        solver: "euler", the reference, or "ab2": two-step Adams-Bashforth for steps of any size (Hairer, Norsett and
            Wanner, Solving Ordinary Differential Equations I, section III.5), of second order. It takes the previous
            velocity into account; a latent's first step and all steps after the window moved are Euler's.

    Yields:
        After every step, the window's clean estimate and what became finished, in order.

    Raises:
        ValueError: an unknown solver.
    """
    check_solver(solver)
    direction, before = _SOLVERS[solver], None
    held, given = schedule.window(0), 0
    x = noise(held)
    for step in range(schedule.steps):
        window = schedule.window(step)
        if window != held:
            x = torch.cat([x[:, window.start - held.start :], noise(slice(held.stop, window.stop))], dim=1)
            held = window
        t, t_next = schedule.levels[step].to(x.device)
        spread = (1, -1) + (1,) * (x.ndim - 2)
        v = velocity(x, t.expand(len(x), -1), window)
        clean = x - t.view(spread) * v
        now = _Step(window, (t_next - t).view(spread), v)
        x = x + now.sizes * direction(now, before)
        before, at = now, given - window.start
        ready = window.stop if step + 1 == schedule.steps else window.start + _leading_zeros(schedule.levels[step, 1])
        given = max(given, ready)
        yield Denoised(window, clean, x[:, at : given - window.start])


def _leading_zeros(levels: Tensor) -> int:
    return int((levels == 0).int().cumprod(0).sum())


def check_solver(name: str) -> None:
    """Raise `ValueError` unless there is a solver of this name."""
    if name not in _SOLVERS:
        raise ValueError(f"unknown solver {name!r}; choose one of {sorted(_SOLVERS)}")


def denoise(
    velocity: Velocity,
    noise: Tensor,  # [B, latents, ...]
    schedule: Schedule,
    progress: Progress | None = None,
    solver: str = "euler",
) -> Tensor:
    """All latents at once, from noise to data, window by window; see `denoise_windows`.

    Args:
        velocity: called once per step with the noisy window, its noise levels and its place among the latents.
        noise: starting point; not changed.
        schedule: as many latents as `noise` has.
        progress: called after every step; may raise to cancel.
        solver: as for `denoise_windows`.

    Returns:
        Latents after the last step, shape of `noise`.

    Raises:
        ValueError: a schedule for another number of latents, or an unknown solver.
    """
    if schedule.horizon != noise.shape[1]:
        raise ValueError(f"the schedule is for {schedule.horizon} latents, the noise has {noise.shape[1]}")
    finished, clean = [], torch.zeros_like(noise)
    steps = denoise_windows(velocity, lambda latents: noise[:, latents], schedule, solver)
    for done, step in enumerate(steps, start=1):
        finished.append(step.finished)
        clean[:, step.window] = step.clean
        if progress is not None:
            progress(done, schedule.steps, lambda: clean)
    return torch.cat(finished, dim=1)
