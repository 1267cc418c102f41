"""Nearest images in any cell, on the host."""

from typing import NamedTuple

import numpy as np

from jaxff.types import Array, Bool, Float

__all__ = ["Lattice", "lattice_of", "nearest_distances"]


class Lattice(NamedTuple):
    """Lattice vectors as rows in Å, those of directions that do not repeat normal to the others."""

    cell: Float[np.ndarray, "3 3"]
    pbc: Bool[np.ndarray, "3"]

    def padded(self, positions: Float[np.ndarray, "atoms 3"]) -> Float[np.ndarray, "3 3"]:
        """A cell with empty space along directions that do not repeat."""
        fractions = positions @ np.linalg.inv(self.cell)
        extent = 2.0 * np.ptp(fractions, axis=0) + 20.0
        return np.where(self.pbc[:, None], self.cell, extent[:, None] * self.cell)


def lattice_of(
    cell: Float[Array | np.ndarray, "3 3"], pbc: Bool[Array | np.ndarray, "3"] | None
) -> Lattice:
    """Lattice of a system.

    Raises:
        ValueError: If no direction is periodic, or vectors of those that are depend on each other.
    """
    cell = np.asarray(cell, float)
    periodic = np.ones(3, bool) if pbc is None else np.asarray(pbc, bool)
    kept = cell[periodic]
    if not len(kept):
        raise ValueError(
            f"no direction is periodic: pbc is {periodic.tolist()}, but a crystal repeats in one "
            "to three directions. Give pbc, or for molecules use jaxff.kernels.permutations.recover"
        )
    if np.linalg.matrix_rank(kept) < len(kept):
        raise ValueError(f"the periodic lattice vectors are not independent: {cell.tolist()}")
    full = cell.copy()
    # The null space of the lattice holds unit vectors normal to it.
    full[~periodic] = np.linalg.svd(kept)[2][len(kept) :]
    return Lattice(full, periodic)


_TOGETHER = 2**18
"""Images that are compared at once: 2 MB a temporary."""


def nearest_distances(
    first: Float[np.ndarray, "atoms 3"], second: Float[np.ndarray, "others 3"], lattice: Lattice
) -> Float[np.ndarray, "atoms others"]:
    """Distances in Å to the nearest image, in a cell of any shape.

    A displacement within half of every lattice vector is no longer than half of their sum, and so
    is its nearest image, which limits the multiples of the vectors between the two.
    """
    cell, pbc = lattice
    inverse = np.linalg.inv(cell)
    step = (first[:, None] - second).reshape(-1, 3)
    # For displacements with a part normal to the lattice the bound holds for the rest.
    step = step - (np.round(step @ inverse) * pbc) @ cell
    squares = np.einsum("nx,nx->n", step, step)
    heights = 1.0 / np.linalg.norm(inverse, axis=0)
    longest = 0.5 * np.linalg.norm(cell[pbc], axis=1).sum()
    reach = np.where(pbc, np.floor(longest / heights + 0.5), 0).astype(int)
    vectors = (np.indices(tuple(2 * reach + 1)).reshape(3, -1).T - reach) @ cell
    lengths = np.sum(vectors**2, axis=1)
    # No image is nearer than one within half of the shortest lattice vector.
    far = np.flatnonzero(squares > 0.25 * lengths[lengths > 0.0].min())
    for part in np.array_split(far, 1 + len(far) * len(vectors) // _TOGETHER):
        nearest = np.argmin(2.0 * step[part] @ vectors.T + lengths, axis=1)
        squares[part] = np.sum((step[part] + vectors[nearest]) ** 2, axis=1)
    return np.sqrt(squares).reshape(len(first), len(second))
