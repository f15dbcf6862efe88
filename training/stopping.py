"""Stopping a run politely."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_ECHO_S = 5.0  # a launcher passes on within this time what its processes were sent, too


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; a second signal, more than 5 seconds later, acts as usual."""
    stop = threading.Event()
    previous: dict[int, Any] = {}
    first: list[float] = []

    def request(number: int, _frame: FrameType | None) -> None:
        stop.set()
        first.append(time.monotonic())
        if first[-1] - first[0] > _ECHO_S:
            signal.signal(number, previous[number])
            signal.raise_signal(number)

    if threading.current_thread() is threading.main_thread():
        previous = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
