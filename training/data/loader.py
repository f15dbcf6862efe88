"""Batches as a pure function of (seed, index, process), so that a resumed run sees exactly the data it would have seen.

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


def step_seed(seed: int, index: int, rank: int = 0, stream: str = "data") -> int:
    """The seed of batch `index` of a run on process `rank`, in [2**20, 2**20 + 2**48); streams are independent."""
    digest = hashlib.blake2b(f"{seed}/{index}/{rank}/{stream}".encode(), digest_size=6).digest()
    return HELD_OUT_SEEDS + int.from_bytes(digest, "big")


def batches(
    dataset: Dataset,
    scenes: int,
    seed: int,
    start: int = 0,
    rank: int = 0,
    prefetch: int = 0,
    length: int | None = None,
) -> Generator[Any, None, None]:
    """Yield batch `start`, `start + 1`, ... of a run; `prefetch` of them are prepared ahead by one thread.

    `length` is the number of batches in the whole run, of which the data may depend; None: as at its end.
    """

    def make(index: int) -> Any:
        progress = 1.0 if length is None else min(1.0, index / length)
        return dataset.batch(step_seed(seed, index, rank), scenes, progress)

    indices = count(start)
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
