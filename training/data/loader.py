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

    def batch(self, seed: int, scenes: int) -> Any:
        """The batch of `scenes` scenes that belongs to `seed`; the same seed gives the same batch."""
        ...


def step_seed(seed: int, index: int, rank: int = 0, stream: str = "data") -> int:
    """The seed of batch `index` of a run on process `rank`, in [2**20, 2**20 + 2**48); streams are independent."""
    digest = hashlib.blake2b(f"{seed}/{index}/{rank}/{stream}".encode(), digest_size=6).digest()
    return HELD_OUT_SEEDS + int.from_bytes(digest, "big")


def batches(
    dataset: Dataset, scenes: int, seed: int, start: int = 0, rank: int = 0, prefetch: int = 0
) -> Generator[Any, None, None]:
    """Yield batch `start`, `start + 1`, ... of a run; `prefetch` of them are prepared ahead by one thread."""
    seeds = (step_seed(seed, index, rank) for index in count(start))
    if prefetch == 0:
        yield from (dataset.batch(batch_seed, scenes) for batch_seed in seeds)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches") as executor:
        waiting = deque(executor.submit(dataset.batch, next(seeds), scenes) for _ in range(prefetch))
        try:
            while True:
                waiting.append(executor.submit(dataset.batch, next(seeds), scenes))
                yield waiting.popleft().result()
        finally:
            executor.shutdown(cancel_futures=True)
