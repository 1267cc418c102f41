"""One labelled structure of any composition, and what makes it usable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxff.data.validity import invalid_frames
from jaxff.quantities import quantity

__all__ = ["Frame", "checked"]


@dataclass(frozen=True, eq=False)
class Frame:
    """One labelled structure.

    Attributes:
        numbers: Atomic numbers.
        positions: Cartesian coordinates in Å.
        labels: Labels by name (see :mod:`jaxff.quantities`) in eV, Å, e; a label that is missing
            here is absent.
        cell: Lattice vectors as rows in Å, of a structure that repeats in some direction.
        pbc: Periodic directions, for a structure with a cell.
        charge: Total charge in e; ``None`` if it is not known.
        spin: Number of unpaired electrons; ``None`` if it is not known.
        group: Name of the molecule or material whose conformers belong together.
    """

    numbers: Int[np.ndarray, " atoms"]
    positions: Float[np.ndarray, "atoms 3"]
    labels: Mapping[str, np.ndarray] = field(default_factory=dict)
    cell: Float[np.ndarray, "3 3"] | None = None
    pbc: Bool[np.ndarray, "3"] | None = None
    charge: float | None = None
    spin: float | None = None
    group: str | None = None

    def __len__(self) -> int:
        return len(self.numbers)


def checked(frame: Frame, where: str) -> Frame:
    """The frame with arrays of the internal types, if a model can use it.

    Args:
        frame: Any frame.
        where: What messages call it.

    Raises:
        ValueError: For wrong shapes, unknown elements or labels, what is not finite, a flat cell,
            and two atoms at one point.
    """
    numbers = np.asarray(frame.numbers)
    positions = _floats(frame.positions, f"{where}: positions")
    if numbers.ndim != 1 or not len(numbers) or positions.shape != (len(numbers), 3):
        raise ValueError(
            f"{where}: expected positions of shape (atoms, 3) and numbers (atoms,), at least one "
            f"atom, got {positions.shape} and {numbers.shape}"
        )
    if numbers.dtype.kind not in "iu" or numbers.min() < 1 or numbers.max() > 118:
        raise ValueError(f"{where}: atomic numbers must be 1 to 118, got {numbers.tolist()}")
    labels = {}
    for name, value in frame.labels.items():
        expected, array = quantity(name).dims(len(numbers)), _floats(value, f"{where}: {name}")
        if array.shape != expected:
            raise ValueError(f"{where}: {name} must have shape {expected}, got {array.shape}")
        labels[name] = array
    cell, pbc = _cell(frame, where)
    for name in ("charge", "spin"):
        if (value := getattr(frame, name)) is not None and not np.isfinite(value):
            raise ValueError(f"{where}: {name} must be a number, got {value}")
    if frame.spin is not None and frame.spin < 0:
        raise ValueError(f"{where}: the number of unpaired electrons is negative: {frame.spin}")
    values = {name: array[None] for name, array in labels.items()}
    if bad := invalid_frames(positions[None], values, None if cell is None else cell[None], pbc):
        raise ValueError(f"{where}: {', '.join(bad)}; repair it or leave the frame out")
    return Frame(
        numbers.astype(np.int32),
        positions,
        labels,
        cell,
        pbc,
        frame.charge,
        frame.spin,
        frame.group,
    )


def _floats(value: Any, name: str) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{name} must hold numbers, got {array.dtype}")
    return array.astype(np.float64, copy=False)


def _cell(frame: Frame, where: str) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Cell and periodic directions; a cell that repeats nowhere carries no meaning."""
    pbc = None if frame.pbc is None else np.broadcast_to(np.asarray(frame.pbc), (3,)).astype(bool)
    if frame.cell is None:
        if pbc is not None and pbc.any():
            raise ValueError(f"{where}: pbc is given without a cell: give the lattice vectors")
        return None, None
    pbc = np.ones(3, bool) if pbc is None else pbc
    cell = _floats(frame.cell, f"{where}: cell")
    if cell.shape != (3, 3):
        raise ValueError(f"{where}: cell must have shape (3, 3), got {cell.shape}")
    return (cell, pbc) if pbc.any() else (None, None)
