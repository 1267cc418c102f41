"""How much memory there is, for refusing what cannot fit before it starts."""

import mmap

import numpy as np
import psutil

from jaxff.types import Float

__all__ = ["available_bytes", "dense_bytes", "format_bytes", "untouched_square"]


def available_bytes() -> int:
    """Free memory of the host in bytes, as far as the operating system tells."""
    return int(psutil.virtual_memory().available)


def dense_bytes(size: int) -> int:
    """Memory of a dense solve of ``size`` equations: half a matrix and work space."""
    return int(0.6 * 8 * size**2)


def untouched_square(size: int) -> Float[np.ndarray, "n n"]:
    """A column-ordered square array of which only what is written takes memory.

    Small pages are asked for, as one huge page spans several columns and would make the unused
    triangle resident.
    """
    buffer = mmap.mmap(-1, max(1, size * size * 8))
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        buffer.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(buffer, np.float64, size * size).reshape(size, size, order="F")


def format_bytes(count: float) -> str:
    """Readable size, decimal units."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(count) < 1000 or unit == "TB":
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
