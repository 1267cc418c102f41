"""Energies of atoms by least squares over compositions, and the scale of labels.

Total energies are dominated by the atoms: what a network should learn is the rest. Reference
energies go into :func:`jaxff.potential.scale_shift` and, for training in float32, off the labels
(``reference_energies`` of :func:`jaxff.data.batches`).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from jaxff.data.frames import as_frames, where
from jaxff.elements import atomic_numbers, symbols

__all__ = ["ReferenceEnergies", "label_scale", "reference_energies"]

_SANE = 20.0  # eV per atom: no bond is stronger


@dataclass(frozen=True, eq=False)
class ReferenceEnergies:
    """Energy of each element in eV, and how well the data determine it.

    Attributes:
        values: Energy per atom by atomic number; 0 for padding (number 0), not a number for
            elements that are not in the data.
        undetermined: Directions by atomic number, in whole numbers, along which the energies can
            be moved without changing that of any composition in the data.
        residual: Root mean square of what is left of the energies, eV per atom.
        frames: Number of frames with energies.
    """

    values: Float[np.ndarray, " elements"]
    undetermined: Int[np.ndarray, "directions elements"]
    residual: float
    frames: int

    def __str__(self) -> str:
        known = np.flatnonzero(np.isfinite(self.values))[1:]
        table = ", ".join(
            f"{s} {self.values[z]:.6f}" for s, z in zip(symbols(known), known, strict=True)
        )
        text = f"reference energies in eV: {table}; {self.residual:.3g} eV per atom are left"
        if len(self.undetermined):
            moves = "; ".join(_move(direction) for direction in self.undetermined)
            text += f". The data do not tell these moves: {moves}"
        return text


def reference_energies(
    frames: Any, atomic: Mapping[str | int, float] | None = None
) -> ReferenceEnergies:
    r"""Energies :math:`e(Z)` that minimise :math:`\sum_f (E_f - \sum_{i\in f} e(Z_i))^2`.

    Where the compositions do not determine all of them, those nearest to a common energy per atom
    are taken (least norm of the differences from the mean); for a single composition that is the
    energy per atom. ``undetermined`` says what was chosen in this way: a model moved along it fits
    the same data, but differs on other compositions.

    Args:
        frames: What :func:`jaxff.data.as_frames` accepts; frames without energies are passed over.
        atomic: Known energies of atoms in eV by symbol or number; the others are fitted.

    Raises:
        ValueError: If no frame has an energy.

    Warns:
        UserWarning: If more than 20 eV per atom are left: energies of atoms of another method.
    """
    counts, weights, means, squares = _compositions(frames)
    known = _by_number(atomic or {})
    elements = np.flatnonzero(counts.any(axis=0))
    free = np.array([z for z in elements if z not in known], int)
    values = np.full(max(int(elements.max()), *known, 0) + 1, np.nan)
    values[0] = 0.0
    for z, energy in known.items():
        values[z] = energy
    fixed = [z for z in elements if z in known]
    rest = means - counts[:, fixed] @ values[fixed]
    directions = np.zeros((0, len(values)), int)
    if len(free):
        matrix = counts[:, free]
        mean = float((weights @ rest) / (weights @ matrix.sum(axis=1)))
        root = np.sqrt(weights)
        target = (rest - mean * matrix.sum(axis=1)) * root
        values[free] = mean + np.linalg.lstsq(matrix * root[:, None], target, rcond=None)[0]
        null = _null_space(matrix.astype(int))
        directions = np.zeros((len(null), len(values)), int)
        directions[:, free] = null
    left = squares + weights * (means - counts[:, elements] @ values[elements]) ** 2
    per_atom = left / counts.sum(axis=1) ** 2
    residual = math.sqrt(max(float(per_atom.sum() / weights.sum()), 0.0))
    if residual > _SANE:
        warnings.warn(
            f"{residual:.3g} eV per atom are left of the energies after those of the atoms: are "
            "both of one method, in eV?",
            stacklevel=2,
        )
    return ReferenceEnergies(values, directions, residual, int(weights.sum()))


def label_scale(
    frames: Any,
    name: str = "forces",
    reference: Float[np.ndarray, " elements"] | None = None,
) -> float:
    """Root mean square of the components of a label, in its unit.

    Of energies, it is the standard deviation of the energy per atom in eV, less the reference.

    Args:
        frames: What :func:`jaxff.data.as_frames` accepts.
        name: A label.
        reference: Energy per atom in eV by atomic number, for ``"energy"``.

    Raises:
        ValueError: If no frame has the label, or all of them are zero.
    """
    total, count, values = 0.0, 0, []
    for _, frame in _with_label(frames, name):
        label = frame.labels[name]
        if name == "energy":
            offset = 0.0 if reference is None else reference[frame.numbers].sum()
            values.append((float(label) - offset) / len(frame.numbers))
        else:
            total, count = total + float(np.vdot(label, label)), count + label.size
    scale = float(np.std(values)) if values else math.sqrt(total / count)
    if not scale > 0:
        raise ValueError(f"{name} is the same in all frames: there is no scale")
    return scale


def _with_label(frames: Any, name: str) -> Iterable[tuple[int, Any]]:
    frames, found = as_frames(frames), 0
    for index in range(len(frames)):
        frame = frames[index]
        if name in frame.labels:
            found += 1
            yield index, frame
    if not found:
        raise ValueError(
            f"none of the {len(frames)} frames has the label {name!r}: name its key when opening "
            "the file (energy_key, forces_key, ...)"
            if len(frames)
            else "there are no frames"
        )


def _compositions(frames: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Atoms by element of each composition; its frames, mean energy, squares about the mean."""
    table: dict[bytes, np.ndarray] = {}
    sums: dict[bytes, tuple[int, float, float]] = {}
    frames = as_frames(frames)
    for index, frame in _with_label(frames, "energy"):
        energy = float(frame.labels["energy"])
        if not math.isfinite(energy):
            raise ValueError(f"{where(frames, index)}: energy is {energy}")
        counts = np.bincount(frame.numbers, minlength=119)
        key = counts.tobytes()
        table.setdefault(key, counts)
        number, mean, square = sums.get(key, (0, 0.0, 0.0))
        delta = energy - mean
        mean += delta / (number + 1)
        sums[key] = (number + 1, mean, square + delta * (energy - mean))
    weights, means, squares = np.array(list(sums.values()), float).T
    return np.array(list(table.values()), float), weights, means, squares


def _by_number(atomic: Mapping[str | int, float]) -> dict[int, float]:
    known = {}
    for element, energy in atomic.items():
        z = int(atomic_numbers([element])[0]) if isinstance(element, str) else int(element)
        if not (
            1 <= z <= 118 and isinstance(energy, int | float | np.number) and math.isfinite(energy)
        ):
            raise ValueError(f"expected energies in eV by element, got {element!r}: {energy}")
        known[z] = float(energy)
    return known


def _null_space(matrix: Int[np.ndarray, "rows columns"]) -> Int[np.ndarray, "null columns"]:
    """Basis of the null space of a matrix of whole numbers, in whole numbers, exactly."""
    columns = matrix.shape[1]
    pivots: dict[int, list[Fraction]] = {}
    for row in np.unique(matrix, axis=0):
        rest = [Fraction(int(value)) for value in row]
        for column, pivot in pivots.items():
            if rest[column]:
                rest = [a - rest[column] * b for a, b in zip(rest, pivot, strict=True)]
        lead = next((c for c, value in enumerate(rest) if value), None)
        if lead is None:
            continue
        rest = [value / rest[lead] for value in rest]
        for column, pivot in pivots.items():
            pivots[column] = [a - pivot[lead] * b for a, b in zip(pivot, rest, strict=True)]
        pivots[lead] = rest
        if len(pivots) == columns:
            break
    basis = []
    for free in (c for c in range(columns) if c not in pivots):
        vector = [Fraction(int(c == free)) for c in range(columns)]
        for column, pivot in pivots.items():
            vector[column] = -pivot[free]
        scale = math.lcm(*(value.denominator for value in vector))
        basis.append([int(value * scale) for value in vector])
    return np.array(basis, int).reshape(-1, columns)


def _move(direction: Int[np.ndarray, " elements"]) -> str:
    moved = np.flatnonzero(direction)
    return ", ".join(f"{s} {direction[z]:+d}" for s, z in zip(symbols(moved), moved, strict=True))
