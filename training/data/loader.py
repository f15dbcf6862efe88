"""Batches as a pure function of (seed, index), so that a resumed run sees exactly the data it would have seen.

A run has one sequence of batches, which its processes deal out like cards: of P processes, number r takes the batches
r, P + r, 2 P + r, ... A step of P processes with `optim.accumulate` = A therefore takes the same P * A batches, with
the same noise, as one of a single process that accumulates P * A.

Seeds below `HELD_OUT_SEEDS` are reserved for held-out scenes: `step_seed` never returns one.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any, Protocol

HELD_OUT_SEEDS = 2**20


class Dataset(Protocol):
    """A source of scenes without end."""

    def batch(self, seed: int, scenes: int, progress: float = 1.0) -> Any:
        """The batch of `scenes` scenes that belongs to `seed` and the share of the run that is done.

        Equal arguments give equal batches.
        """
        ...


def step_seed(seed: int, index: int, stream: str = "data") -> int:
    """The seed of batch `index` of a run, in [2**20, 2**20 + 2**48); streams are independent."""
    digest = hashlib.blake2b(f"{seed}/{index}/0/{stream}".encode(), digest_size=6).digest()
    return HELD_OUT_SEEDS + int.from_bytes(digest, "big")


def batches(
    dataset: Dataset,
    scenes: int,
    seed: int,
    start: int = 0,
    rank: int = 0,
    prefetch: int = 0,
    length: int | None = None,
    processes: int = 1,
) -> Generator[Any, None, None]:
    """Yield every batch of a run, from `start` on, whose turn it is on process `rank` of `processes`.

    Args:
        dataset: the source.
        scenes: in a batch.
        seed: of the run.
        start: first batch of any process, a multiple of `processes`.
        rank: this process, from 0.
        prefetch: batches prepared ahead by one thread.
        length: number of batches in the whole run, of all processes, on which the data may depend; None: as at its end.
        processes: that share the batches.
    """

    def make(index: int) -> Any:
        progress = 1.0 if length is None else min(1.0, index / length)
        return dataset.batch(step_seed(seed, index), scenes, progress)

    indices = count(start + rank, processes)
    if prefetch == 0:
        yield from map(make, indices)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches") as executor:
        waiting = deque(executor.submit(make, next(indices)) for _ in range(prefetch))
        try:
            while True:
                waiting.append(executor.submit(make, next(indices)))
                yield waiting.popleft().result()
        finally:
            executor.shutdown(cancel_futures=True)
