"""Stopping a run politely."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

# Nobody can send SIGTERM to a process on Windows; what a parent sends to end one politely is Ctrl+Break.
_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)]
_ECHO_S = 5.0  # a launcher passes on within this time what its processes were sent, too


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set, on Windows Ctrl+Break; a second one after 5 seconds acts as usual."""
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
        previous = {number: signal.signal(number, request) for number in _SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
