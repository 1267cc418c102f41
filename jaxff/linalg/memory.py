"""How much memory there is, for refusing what cannot fit before it starts."""

import mmap
from pathlib import Path

import numpy as np
import psutil

from jaxff.types import Float

__all__ = [
    "available_bytes",
    "check_limit",
    "column_ordered",
    "dense_bytes",
    "format_bytes",
    "lower_square",
    "peak_bytes",
]


def available_bytes() -> int:
    """Free memory of the host in bytes, as far as the operating system tells."""
    return int(psutil.virtual_memory().available)


def check_limit(memory: float | None) -> None:
    """Refuse a limit that limits nothing.

    Raises:
        ValueError: If it is no positive number of bytes.
    """
    if memory is not None and not memory > 0:
        raise ValueError(
            f"memory must be a positive number of bytes, or None for what is free, got {memory}"
        )


def peak_bytes() -> int | None:
    """Largest resident memory of this process in bytes; ``None`` where the system does not tell.

    Not from ``getrusage``, whose peak a process inherits from its parent.
    """
    peak_wset = getattr(psutil.Process().memory_info(), "peak_wset", None)  # Windows
    if peak_wset is not None:
        return int(peak_wset)
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    return int(status.read_text().partition("VmHWM:")[2].split()[0]) * 1024


def dense_bytes(size: int) -> int:
    """Memory of a dense solve of ``size`` equations: half a matrix and work space."""
    return int(0.6 * 8 * size**2)


def column_ordered(rows: int, columns: int) -> Float[np.ndarray, "rows columns"]:
    """A column-ordered array, not initialised, that a CPU device takes over without a copy.

    JAX does so (``jax.device_put``, of the transpose) where the array begins at a multiple of 64
    bytes, which NumPy does not see to.
    """
    padded = np.empty(rows * columns + 8)
    start = -padded.ctypes.data % 64 // 8
    return padded[start : start + rows * columns].reshape(rows, columns, order="F")


def lower_square(size: int) -> Float[np.ndarray, "n n"]:
    """A column-ordered square array of zeros of which only the lower triangle takes memory.

    Small pages are asked for, as one huge page spans several columns and would make the unused
    triangle resident; private ones, as shared ones cost more to make; and those of the triangle
    together, where the system can (Linux 5.14), which saves an interruption for each.
    """
    where = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    buffer = mmap.mmap(-1, max(1, size * size * 8), **where)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        buffer.madvise(mmap.MADV_NOHUGEPAGE)
        _populate_lower(buffer, size)
    return np.frombuffer(buffer, np.float64, size * size).reshape(size, size, order="F")


_POPULATE_WRITE = 23
"""MADV_POPULATE_WRITE of Linux, which Python's mmap does not name yet."""


def _populate_lower(buffer: mmap.mmap, size: int) -> None:
    """Make the pages below the diagonal; without effect where the system does not know how."""
    page = mmap.PAGESIZE
    for column in range(size):
        start = 8 * (column * size + column) // page * page
        try:
            buffer.madvise(_POPULATE_WRITE, start, 8 * (column + 1) * size - start)
        except OSError:
            return


def format_bytes(count: float) -> str:
    """Readable size, decimal units."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(count) < 1000 or unit == "TB":
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
