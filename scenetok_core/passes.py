"""Latents of a camera path of any length, sampled window by window.

What is held at once follows from a window, or from the windows of a pass, and not from the path.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .autoencoders import LatentSpec
from .configs import SamplingConfig
from .memory import decoder_bytes
from .models.decoder import Decoder
from .models.networks import DecoderVelocity
from .placement import Exhaustion, Place, no_memory
from .sampling import Denoised, Schedule, denoise_windows, make_schedule

Works = Callable[[], tuple[int, Tensor]]  # clean estimate [n, C, h, w] of latents in the works, and which is the first
Report = Callable[[int, int, Works], None]  # (steps done, steps in all, what is in the works)
_DRAWN_TOGETHER = 16  # torch draws normal numbers in blocks of so many


@dataclass(frozen=True)
class Pass:
    """Latents that are sampled together: a window, or several windows that know nothing of each other."""

    latents: int  # of a window
    overlap: int  # finished latents that a window shares with the one before
    group: int  # latents of a group, which are not parted
    windows: int = 1

    @classmethod
    def of(cls, sampling: SamplingConfig, spec: LatentSpec, path: int, frames: int = 0) -> Pass:
        """The pass for a path of `path` latents; `frames` bounds it, 0 is one window of the model."""
        group, window = spec.group_latents, min(sampling.window, path)
        whole = cls(window, min(sampling.clean_targets, path - group), group)
        if not frames:
            return whole
        latents = max(1, frames // spec.group_frames) * group
        return whole._shortened(latents) if latents < window else dataclasses.replace(whole, windows=latents // window)

    def schedule(self, sampling: SamplingConfig, latents: int, known: int = 0) -> Schedule:
        """The noise schedule of so many latents, of which the first ones may be known."""
        return make_schedule(
            sampling.schedule,
            horizon=latents,
            steps=sampling.steps,
            window=self.latents,
            clean_targets=self.overlap,
            shift=sampling.shift,
            uncertainty=sampling.uncertainty,
            group=self.group,
            known=known,
        )

    def halved(self) -> Pass | None:
        """Half of the windows, or one of half the length; None if there is nothing to halve."""
        if self.windows > 1:
            return dataclasses.replace(self, windows=self.windows // 2)
        shorter = self.latents // (2 * self.group) * self.group
        return self._shortened(shorter) if shorter else None

    def __str__(self) -> str:
        return f"{self.windows} x {self.latents} latents"

    def _shortened(self, latents: int) -> Pass:
        overlap = self.overlap * latents // self.latents // self.group * self.group
        return dataclasses.replace(self, latents=latents, overlap=overlap)


class PathNoise:
    """Noise of a path's latents, drawn on the CPU as it is asked for: the same numbers as all drawn at once."""

    def __init__(self, latents: int, shape: tuple[int, ...], generator: torch.Generator) -> None:
        """`shape` is that of one latent, [C, h, w]."""
        self._latents, self._generator = latents, generator
        self._in_pieces = math.prod(shape) % _DRAWN_TOGETHER == 0
        self._kept, self._first = torch.empty(0, *shape), 0

    def __call__(self, latents: slice) -> Tensor:
        """Noise [n, C, h, w] of latents that were not forgotten."""
        drawn = self._first + len(self._kept)
        if latents.stop > drawn:
            count = (latents.stop if self._in_pieces else self._latents) - drawn
            fresh = torch.randn(count, *self._kept.shape[1:], generator=self._generator)
            self._kept = torch.cat([self._kept, fresh]) if len(self._kept) else fresh
        return self._kept[latents.start - self._first : latents.stop - self._first]

    def forget(self, before: int) -> None:
        """Let go of the noise of the first latents; what is left takes no more than its own memory."""
        self._kept = self._kept[before - self._first :].clone()
        self._first = before


@dataclass
class PathSampler:
    """Samples the latents of a path; when memory runs out it goes on from the last finished one with half the pass."""

    decoder: Decoder
    tokens: Tensor  # [1, N, D]
    rays: Callable[[slice], Tensor]  # latents of the path -> their packed ray maps [n, t, 6, R, R]
    noise: PathNoise
    sampling: SamplingConfig
    latents: int  # of the path
    size: Pass
    place: Place  # asked before every step
    exhaustion: Exhaustion
    report: Report | None = None

    def __post_init__(self) -> None:
        self._given = self._done = self._total = 0
        self._last = self.noise(slice(0, 0))  # finished latents that the next window may need
        self._velocity: DecoderVelocity | None = None

    def run(self) -> Iterator[Tensor]:
        """Finished latents [n, C, h, w] on the CPU, in order and in whole groups.

        Raises:
            torch.cuda.OutOfMemoryError: there is too little memory for half a pass, too.
        """
        smaller = self.size.halved()
        while True:
            try:
                yield from self._sweep()
                return
            except self.exhaustion.errors as error:
                if smaller is None:
                    raise no_memory("sampling", error) from error
            self.exhaustion.relieve(f"out of memory while sampling {self.size} in a pass; going on with {smaller}")
            self.size, smaller = smaller, None

    def _sweep(self) -> Iterator[Tensor]:
        """All that is not finished, in passes of one size."""
        known = min(self.size.overlap, len(self._last))
        begin = self._given - known
        schedule = self.size.schedule(self.sampling, self.latents - begin, known)
        self._total = self._done + schedule.steps
        values = self._values(self._last[len(self._last) - known :])
        for first, part, windows in _batches(schedule, self.size.windows):
            yield from self._pass(begin + first, part, windows, values)

    def _values(self, context: Tensor) -> Callable[[slice], Tensor]:
        """What latents begin with: noise; those before the next one, which the first window asks for, are known."""
        begin = self._given

        def values(latents: slice) -> Tensor:
            if latents.start >= begin:
                return self.noise(latents)
            return torch.cat([context, self.noise(slice(begin, latents.stop))])

        return values

    def _pass(self, first: int, part: Schedule, windows: int, values: Callable[[slice], Tensor]) -> Iterator[Tensor]:
        """Latents from `first` on: as many rows that are sampled alike as there are windows."""
        needed = self._needed(part.length, windows)
        device = self.place(self.decoder, needed)

        def rows(of: Callable[[slice], Tensor]) -> Callable[[slice], Tensor]:
            def batch(latents: slice) -> Tensor:
                stop = latents.start + windows * (latents.stop - latents.start)
                return of(slice(first + latents.start, first + stop)).unflatten(0, (windows, -1)).to(device)

            return batch

        if self._velocity is None:
            self._velocity = DecoderVelocity.of_tokens(self.decoder, self.tokens.to(device), self.sampling.guidance)
        follow = self._velocity.repeated(windows).along(rows(self.rays))

        def velocity(noisy: Tensor, t: Tensor, window: slice) -> Tensor:
            self.place(self.decoder, needed)
            return follow(noisy, t, window)

        steps = self._counted(denoise_windows(velocity, rows(values), part, self.sampling.solver), first, windows)
        yield from self._in_order(steps, known=self._given - first)

    def _counted(self, steps: Iterator[Denoised], first: int, windows: int) -> Iterator[Tensor]:
        """What every step finishes, after it was reported."""
        for step in steps:
            self._done += windows
            if self.report is not None:
                works = (first + step.window.start, step.clean.flatten(0, 1))
                self.report(self._done, self._total, lambda works=works: works)
            yield step.finished.cpu()

    def _in_order(self, steps: Iterator[Tensor], known: int) -> Iterator[Tensor]:
        """Whole groups of finished latents but the first `known`, from rows of them: one row after the other."""
        waiting = torch.empty(0)
        for i, finished in enumerate(steps):
            waiting = torch.cat([waiting, finished], dim=1) if i else finished[:, known:]
            ready = waiting.shape[1] // self.size.group * self.size.group
            if len(waiting) == 1 and ready:
                yield self._give(waiting[0, :ready])
                waiting = waiting[:, ready:]
        if waiting.numel():
            yield self._give(waiting.flatten(0, 1))

    def _needed(self, latents: int, windows: int) -> int:
        return decoder_bytes(
            self.decoder.config,
            self.tokens.shape[1],
            latents,
            windows=windows,
            guided=self.sampling.guidance != 1.0,
            itemsize=next(self.decoder.parameters()).dtype.itemsize,
        )

    def _give(self, latents: Tensor) -> Tensor:
        self._given += len(latents)
        self.noise.forget(self._given)
        kept = torch.cat([self._last, latents])
        self._last = kept[len(kept) - min(self.size.overlap, len(kept)) :].clone()
        return latents


def _batches(schedule: Schedule, most: int) -> Iterator[tuple[int, Schedule, int]]:
    """Parts of a schedule, alike single windows together: (first latent, schedule of one, how many)."""
    first, alike, count = 0, None, 0
    for begin, part in schedule.parts():
        if (
            alike is not None
            and count < most
            and part.horizon == part.length
            and torch.equal(alike.levels, part.levels)
        ):
            count += 1
            continue
        if alike is not None:
            yield first, alike, count
        first, alike, count = begin, part, 1
    if alike is not None:
        yield first, alike, count
