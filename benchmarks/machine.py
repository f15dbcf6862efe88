"""The machine that measures: its name, its clock, its memory."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch

_PRODUCTS = 8  # the first ones warm up
_RESET = Path("/proc/self/clear_refs")


def describe(device: torch.device) -> str:
    """Processor, what it computes in half precision with, torch and its version."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8") if info.exists() else ""
    model = next((line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")), "")
    units = " + ".join(unit for unit in ("amx_bf16", "avx512_bf16") if f" {unit}" in text) or "no bfloat16 unit"
    return f"{model or platform.machine()} ({units}), {torch.get_num_threads()} threads, torch {torch.__version__}"


def seconds(function: Callable[[], object], device: torch.device) -> float:
    """Wall-clock seconds of one call, with all that it started on the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def product_rate(device: torch.device, dtype: torch.dtype, side: int = 2048) -> float:
    """Multiplications and additions a second of a product of square matrices, the best of some."""
    a = torch.ones(side, side, device=device, dtype=dtype)
    return 2 * side**3 / min(seconds(lambda: a @ a, device) for _ in range(_PRODUCTS))


def peak_bytes(function: Callable[[], object], device: torch.device) -> int | None:
    """Most memory that one call takes beyond what was taken before; None where the system does not tell."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    try:
        _RESET.write_text("5", encoding="ascii")
    except OSError:
        return None
    before = _resident("VmRSS")
    function()
    return _resident("VmHWM") - before


def resident_of_process(pid: int) -> int:
    """Bytes that another process has in memory now."""
    import psutil  # ComfyUI brings it

    return psutil.Process(pid).memory_info().rss


def peak_of_process(pid: int) -> int:
    """Most bytes that another process has had in memory so far (Linux)."""
    return _resident("VmHWM", str(pid))


def _resident(field: str, process: str = "self") -> int:
    text = Path("/proc", process, "status").read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith(field))
    return 1024 * int(line.split()[1])
