"""Normal modes as films that molecular viewers play."""

import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from jaxff import elements
from jaxff.data.archive import write_atomic
from jaxff.vibrations.normal_modes import NormalModes

__all__ = ["write_modes"]


def write_modes(
    path: str | os.PathLike,
    numbers: Any,
    positions: Any,
    modes: NormalModes,
    *,
    indices: Iterable[int] | None = None,
    amplitude: float = 0.4,
    frames: int = 20,
    cell: Any = None,
    pbc: Any = None,
) -> None:
    """Write one period of each mode as extended XYZ, one mode after the other.

    Every frame says in its header which ``mode`` it belongs to (from 1), its ``wavenumber_cm``
    (negative: imaginary) and its ``phase``.

    Args:
        path: The file.
        numbers: Atomic numbers.
        positions: Geometry in Å.
        modes: From :func:`jaxff.vibrations.normal_modes`.
        indices: Which modes, counted from 0; by default all.
        amplitude: Farthest displacement of any atom in Å.
        frames: Frames per period.
        cell: Lattice vectors in Å.
        pbc: Periodic directions.

    Raises:
        ValueError: If there are no frames, or a mode that is not there is asked for.
    """
    positions = np.asarray(positions, np.float64)
    chosen = list(range(len(modes)) if indices is None else indices)
    if frames < 1 or any(not 0 <= index < len(modes) for index in chosen):
        raise ValueError(
            f"frames must be at least 1 and indices 0 to {len(modes) - 1}, got {frames} and "
            f"{chosen}"
        )
    names = elements.symbols(numbers)
    lattice = ""
    if cell is not None:
        vectors = " ".join(repr(float(x)) for x in np.asarray(cell).ravel())
        periodic = np.ones(3, bool) if pbc is None else np.asarray(pbc)
        lattice = f'Lattice="{vectors}" pbc="{" ".join("FT"[int(p)] for p in periodic)}" '
    lines = []
    for index in chosen:
        motion = modes.displacements[index]
        motion = motion * (amplitude / np.linalg.norm(motion, axis=1).max())
        for step in range(frames):
            moved = positions + np.sin(2.0 * np.pi * step / frames) * motion
            lines.append(f"{len(names)}\n")
            lines.append(
                f"{lattice}Properties=species:S:1:pos:R:3 mode={index + 1} "
                f"wavenumber_cm={modes.frequencies[index]:.4f} phase={step / frames:.4f}\n"
            )
            lines += [
                f"{name:<2s} {x:14.8f} {y:14.8f} {z:14.8f}\n"
                for name, (x, y, z) in zip(names, moved.tolist(), strict=True)
            ]
    write_atomic(path, lambda stream: stream.write("".join(lines).encode()))
