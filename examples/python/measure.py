"""How long a function takes, and how much memory besides what was there before."""

from __future__ import annotations

import ctypes
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

MIB = 2.0 ** 20


def _resident_bytes(field: str) -> int:
    """VmRSS or VmHWM, its largest value, of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def peak_bytes(function: Callable[[], object], device: torch.device) -> int:
    """Largest memory during one call beyond that before it: of PyTorch's allocator on a GPU, of the
    process on a CPU (Linux with glibc)."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    ctypes.CDLL(None).malloc_trim(0)  # pages that are free would be used again and not count
    Path("/proc/self/clear_refs").write_text("5")  # begins VmHWM anew
    before = _resident_bytes("VmRSS")
    function()
    return max(0, _resident_bytes("VmHWM") - before)


def median_ms(function: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median time of a call, after one that is not counted, the GPU's work included."""
    samples = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        samples.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(samples[1:])
