"""How much memory there is, for refusing what cannot fit before it starts."""

import psutil

__all__ = ["available_bytes", "format_bytes"]


def available_bytes() -> int:
    """Free memory of the host in bytes, as far as the operating system tells."""
    return int(psutil.virtual_memory().available)


def format_bytes(count: float) -> str:
    """Readable size, decimal units."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(count) < 1000 or unit == "TB":
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
