"""One structure from a POSCAR or CONTCAR, the files of VASP."""

from __future__ import annotations

import itertools
import os

import numpy as np

from jaxff.data.dataset import Dataset

__all__ = ["is_poscar", "read"]

_NAMES = ("poscar", "contcar")


def is_poscar(path: str | os.PathLike) -> bool:
    """Whether a file is named as VASP or its users name structures: ``POSCAR*``, ``*.vasp``."""
    name = os.path.basename(path).lower()
    return name.startswith(_NAMES) or name.endswith((".vasp", *(f".{end}" for end in _NAMES)))


def read(path: str | os.PathLike) -> Dataset:
    """The structure of a POSCAR in Å, periodic in all three directions, as a single frame.

    It has no labels; velocities are left out. A POSCAR cannot say which directions are periodic.

    Args:
        path: The file, with a line of element symbols (VASP 5): older files do not say which atoms
            they hold.

    Raises:
        ValueError: If it cannot be parsed, or has no element symbols.
        FileNotFoundError: If there is no such file.
    """
    import ase.io

    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path}: no such file")
    _require_symbols(path)
    try:
        atoms = ase.io.read(os.fspath(path), format="vasp")
    except (ValueError, IndexError, TypeError, KeyError, RuntimeError, OSError) as error:
        raise ValueError(_missing(path) or f"{path}: not readable as POSCAR: {error!r}") from error
    assert not isinstance(atoms, list)
    if not len(atoms) or not np.isfinite(atoms.positions).all():
        raise ValueError(f"{path}: a POSCAR of finite coordinates is expected")
    return Dataset(
        numbers=atoms.numbers.astype(np.int64),
        positions=atoms.positions[None],
        cell=atoms.cell.array[None],
        pbc=np.ones(3, bool),
        name=os.path.basename(path),
        source=str(path),
    )


def _missing(path: str | os.PathLike) -> str | None:
    """What to say of a file with fewer positions than atoms."""
    with open(path, encoding="utf-8", errors="replace") as stream:
        lines = stream.read().splitlines()[6:]
    counts = lines[0].split() if lines else []
    if not counts or not all(word.isdigit() for word in counts):
        return None
    expected = sum(map(int, counts))
    # One line tells fractions from Å, after one on fixed atoms if there are any.
    selective = len(lines) > 1 and lines[1].strip()[:1] in ("S", "s")
    rows = itertools.takewhile(_is_position, lines[2 + selective :])
    found = sum(1 for _ in rows)
    if found >= expected:
        return None
    return f"{path}: expected {expected} positions, got {found}: the file is cut short or damaged"


def _is_position(line: str) -> bool:
    try:
        return len([float(word) for word in line.split()[:3]]) == 3
    except ValueError:
        return False


def _require_symbols(path: str | os.PathLike) -> None:
    """Refuse files of VASP 4, whose elements ASE would look for in other files around it."""
    with open(path, encoding="utf-8", errors="replace") as stream:
        lines = [line for _, line in zip(range(6), stream, strict=False)]
    words = lines[5].split() if len(lines) == 6 else []
    if not words or not words[0][0].isalpha():
        raise ValueError(
            f"{path}: a POSCAR names its elements in line 6, got "
            f"{' '.join(words)!r}: add such a line, as VASP 5 writes it"
        )
