"""How a supercell repeats a primitive cell: which atoms are equal, which waves repeat with it."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from jaxff.kernels.images import Lattice, lattice_of
from jaxff.system import System
from jaxff.types import Bool, Float, Int

__all__ = ["Images", "Supercell", "supercell_of"]


class Images(NamedTuple):
    """The nearest images of all atoms of a supercell, seen from one.

    Attributes:
        atoms: Of which atom each one is.
        vectors: Displacements in Å.
        weights: One over the number of images of that atom.
    """

    atoms: Int[np.ndarray, " images"]
    vectors: Float[np.ndarray, "images 3"]
    weights: Float[np.ndarray, " images"]


@dataclass(frozen=True)
class Supercell:
    """Atoms of a supercell by their place in the primitive cell and the cell they are in.

    Attributes:
        cell: Vectors of the primitive cell as rows in Å, those of directions that do not repeat
            normal to the others.
        repeats: The supercell's lattice vectors in units of them, whole numbers as rows.
        pbc: Periodic directions.
        positions: Of the atoms of the supercell, Å.
        numbers: Their atomic numbers.
        kinds: The atom of the primitive cell that each one repeats.
        places: The cell that it is in, in units of the lattice vectors.
        representatives: The atoms that make up the primitive cell, each the first of its kind.
        tolerance: Difference of lengths in Å that is none.
    """

    cell: Float[np.ndarray, "3 3"]
    repeats: Int[np.ndarray, "3 3"]
    pbc: Bool[np.ndarray, "3"]
    positions: Float[np.ndarray, "atoms 3"]
    numbers: Int[np.ndarray, " atoms"]
    kinds: Int[np.ndarray, " atoms"]
    places: Int[np.ndarray, "atoms 3"]
    representatives: Int[np.ndarray, " basis"]
    tolerance: float

    @property
    def count(self) -> int:
        """Primitive cells in the supercell."""
        return abs(round(np.linalg.det(self.repeats)))

    def fractions(self, vectors: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """Vectors in units of those of the primitive cell."""
        return vectors @ np.linalg.inv(self.cell)

    def is_commensurate(self, points: Any) -> Bool[np.ndarray, " points"]:
        """Whether waves at these wave vectors, in reciprocal units, repeat with the supercell."""
        turns = np.asarray(points, np.float64) @ self.repeats.T
        # Along directions that do not repeat nothing does: only waves within the others are exact.
        turns = np.where(self.pbc, turns, 0.0)
        return np.max(np.abs(turns - np.round(turns)), axis=-1) < 1e-6

    @cached_property
    def commensurate_points(self) -> Float[np.ndarray, "cells 3"]:
        """All wave vectors that repeat with the supercell, up to reciprocal lattice vectors."""
        count = self.count
        steps = np.round(np.linalg.inv(self.repeats) * count).astype(int).T  # rows, in 1/count
        found = {(0, 0, 0)}
        for step in steps:
            found |= {
                tuple((np.array(point) + n * step) % count) for point in found for n in range(count)
            }
        points = np.array(sorted(found)) / count
        return points - np.round(points - 1e-9)  # from -1/2 to 1/2

    def nearest_images(self, kind: int) -> Images:
        """Images of all atoms that are nearest to the representative of a kind."""
        cell = self.repeats @ self.cell
        inverse = np.linalg.inv(cell)
        step = self.positions - self.positions[self.representatives[kind]]
        step = step - (np.round(step @ inverse) * self.pbc) @ cell
        # Bounds as in jaxff.kernels.images.nearest_distances.
        longest = 0.5 * np.linalg.norm(cell[self.pbc], axis=1).sum() + self.tolerance
        reach = np.floor(longest * np.linalg.norm(inverse, axis=0) + 0.5).astype(int)
        reach = np.where(self.pbc, reach, 0)
        vectors = (np.indices(tuple(2 * reach + 1)).reshape(3, -1).T - reach) @ cell
        images = step[:, None] + vectors
        lengths = np.linalg.norm(images, axis=2)
        near = lengths < lengths.min(axis=1, keepdims=True) + self.tolerance
        atoms, which = np.nonzero(near)
        return Images(atoms, images[atoms, which], 1.0 / near.sum(axis=1)[atoms])

    @cached_property
    def _index(self) -> dict[tuple[int, ...], int]:
        """The atom of each kind in each cell."""
        keys = zip(self.kinds.tolist(), self._keys(self.places).tolist(), strict=True)
        return {(kind, *key): atom for atom, (kind, key) in enumerate(keys)}

    def _keys(self, places: Int[np.ndarray, "n 3"]) -> Int[np.ndarray, "n 3"]:
        """Places of cells up to lattice vectors of the supercell."""
        adjugate = np.round(np.linalg.inv(self.repeats) * self.count).astype(int)
        return places @ adjugate % self.count

    def shifted(self, shift: Int[np.ndarray, "3"]) -> Int[np.ndarray, " atoms"]:
        """The atom that each one is moved to by a translation, in units of the primitive cell."""
        keys = self._keys(self.places + shift)
        pairs = zip(self.kinds.tolist(), keys.tolist(), strict=True)
        return np.array([self._index[(kind, *key)] for kind, key in pairs])

    def mean_over_translations(
        self, constants: Float[np.ndarray, "atoms atoms 3 3"]
    ) -> Float[np.ndarray, "basis atoms 3 3"]:
        """Force constants of all atoms, averaged over those that translations make equal."""
        total = np.zeros((len(self.representatives), *constants.shape[1:]))
        for atom in np.flatnonzero(self.kinds == 0):
            image = self.shifted(self.places[atom])
            total += constants[image[self.representatives]][:, image]
        return total / self.count

    def asymmetry(self, constants: Float[np.ndarray, "basis atoms 3 3"]) -> float:
        """Largest difference of force constants and those with both atoms exchanged."""
        worst = 0.0
        keys = self._keys(-self.places).tolist()
        for kind, rows in enumerate(constants):
            back = [self._index[(kind, *key)] for key in keys]
            exchanged = constants[self.kinds, back].swapaxes(1, 2)
            worst = max(worst, float(np.abs(rows - exchanged).max()))
        return worst


def supercell_of(system: System, primitive: Any, *, tolerance: float = 1e-3) -> Supercell:
    """Take a supercell apart into primitive cells.

    Args:
        system: A single ideal crystal.
        primitive: Lattice vectors of the primitive cell as rows in Å; those of directions that do
            not repeat mean nothing.
        tolerance: How far atoms may be from ideal positions, in Å.

    Raises:
        ValueError: If there is no cell, it is no whole multiple of the primitive one, or atoms are
            not where translations put them.
    """
    if system.cell is None:
        raise ValueError("phonons are those of a crystal: the system has no cell")
    own = lattice_of(system.cell, system.pbc)
    given = np.asarray(primitive, np.float64)
    if given.shape != (3, 3) or not np.isfinite(given).all():
        raise ValueError(f"primitive must be three lattice vectors as rows, got {given.tolist()}")
    cell = np.where(own.pbc[:, None], lattice_of(given, own.pbc).cell, own.cell)
    exact = own.cell @ np.linalg.inv(cell)
    repeats = np.round(exact).astype(int)
    apart = np.abs((exact - repeats) @ cell).max()
    if not apart <= tolerance or round(np.linalg.det(repeats)) == 0:
        raise ValueError(
            f"the supercell {own.cell.tolist()} is no whole multiple of the primitive cell "
            f"{cell.tolist()}: it is off by {apart:.2g} Å; give both in the same orientation"
        )
    cell = np.linalg.solve(repeats, own.cell)
    positions, numbers = np.asarray(system.positions, np.float64), np.asarray(system.numbers)
    kinds, places, representatives = _sorted(positions, numbers, Lattice(cell, own.pbc), tolerance)
    found = Supercell(
        cell, repeats, own.pbc, positions, numbers, kinds, places, representatives, tolerance
    )
    if len(found._index) != len(numbers) or len(numbers) != found.count * len(representatives):
        raise ValueError(
            f"{len(numbers)} atoms in {found.count} primitive cells are of {len(representatives)} "
            f"kinds that translations do not make equal to {tolerance} Å: the supercell is not "
            "ideal, or the primitive cell too small; relax it, or change one of them"
        )
    return found


def _sorted(
    positions: np.ndarray, numbers: np.ndarray, lattice: Lattice, tolerance: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Kind and cell of each atom, and the first atom of each kind."""
    cell, pbc = lattice
    inverse = np.linalg.inv(cell)
    kinds = np.full(len(positions), -1)
    places = np.zeros((len(positions), 3), int)
    representatives: list[int] = []
    while (kinds < 0).any():
        first = int(np.argmax(kinds < 0))
        step = (positions - positions[first]) @ inverse
        whole = np.where(pbc, np.round(step), 0.0)
        apart = np.linalg.norm((step - whole) @ cell, axis=1)
        same = (apart < tolerance) & (numbers == numbers[first]) & (kinds < 0)
        kinds[same], places[same] = len(representatives), whole[same].astype(int)
        representatives.append(first)
    return kinds, places, np.array(representatives)
