"""The most memory that this process has taken."""

from __future__ import annotations

import re
from pathlib import Path

import torch

_KIB_PER_MIB, _BYTES_PER_MIB = 2**10, 2**20
_STATUS = Path("/proc/self/status")  # of Linux, whose rusage also counts what ran before the interpreter


def peak_memory_mib(device: torch.device) -> float | None:
    """The most memory so far in MiB: of tensors on a CUDA device, else of the whole process.

    None where neither the system nor psutil tells.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / _BYTES_PER_MIB
    if _STATUS.exists():
        peak = re.search(r"^VmHWM:\s*(\d+) kB", _STATUS.read_text(encoding="utf-8"), re.MULTILINE)
        return None if peak is None else int(peak[1]) / _KIB_PER_MIB
    try:
        import resource
    except ImportError:  # Windows
        return _windows_peak_mib()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _BYTES_PER_MIB  # bytes on macOS


def _windows_peak_mib() -> float | None:
    try:
        import psutil
    except ImportError:
        return None
    peak = getattr(psutil.Process().memory_info(), "peak_wset", None)  # Windows alone has it
    return None if peak is None else peak / _BYTES_PER_MIB
