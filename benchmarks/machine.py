"""What the machine can do: its description, its matrix peak and memory bandwidth as measured, and peak memory.

    python benchmarks/machine.py

A benchmark sets its own figures beside these, measured in the same run, so that they mean something elsewhere.
"""

import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path

import torch

# (rows, inner, columns): a cube, panels, and the products of a small model on many rows.
_SHAPES = ((2048, 2048, 2048), (1024, 1024, 4096), (1024, 4096, 1024), (768, 640, 2048), (1536, 2048, 640))
_REPEATS = 10
_COPY_BYTES = 256 << 20


def describe() -> str:
    """One line: processor, cores, memory, system, Python, torch and its threads, GPU if any, date."""
    parts = [
        _processor(),
        f"{_cores()} cores",
        f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.0f} GB",
        f"{platform.system()} {platform.release()}",
        f"Python {platform.python_version()}",
        f"torch {torch.__version__} with {torch.get_num_threads()} threads",
    ]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return ", ".join([*parts, str(date.today())])


def matrix_peak(dtype: torch.dtype, device: str = "cpu") -> float:
    """Floating-point operations a second of the fastest of several matrix products in `dtype`, each at its best."""
    best = 0.0
    for rows, inner, columns in _SHAPES:
        left = torch.randn(rows, inner, dtype=dtype, device=device)
        right = torch.randn(columns, inner, dtype=dtype, device=device)
        seconds = _best(partial(torch.nn.functional.linear, left, right), device)
        best = max(best, 2.0 * rows * inner * columns / seconds)
    return best


def copy_bandwidth(device: str = "cpu") -> float:
    """Bytes a second of a large memory copy, those read and those written both counted."""
    source = torch.ones(_COPY_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2.0 * _COPY_BYTES / _best(lambda: target.copy_(source), device)


def peak_memory() -> int:
    """Bytes of memory that this process held at most, and the largest of its children that have ended."""
    children = _maxrss(resource.RUSAGE_CHILDREN)
    try:
        # Not ru_maxrss: on Linux a process inherits that from the one that started it.
        status = Path("/proc/self/status").read_text("ascii")
        own = next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        own = _maxrss(resource.RUSAGE_SELF)
    return own + children


def _maxrss(who: int) -> int:
    return resource.getrusage(who).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _best(work: Callable[[], object], device: str) -> float:
    """Seconds of the fastest of a few calls, after two that do not count."""
    times = []
    for _ in range(2 + _REPEATS):
        start = time.perf_counter()
        work()
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times[2:])


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def main() -> None:
    print(describe())
    for name in ("bfloat16", "float32"):
        print(f"matrix product in {name}: {matrix_peak(getattr(torch, name)) / 1e12:.2f} TFLOP/s")
    print(f"memory copy: {copy_bandwidth() / 1e9:.1f} GB/s")


if __name__ == "__main__":
    main()
