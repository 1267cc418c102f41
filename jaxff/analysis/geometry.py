"""Bond lengths, angles and dihedrals along a run, and their histograms."""

from typing import Any

import numpy as np

from jaxff.types import Float, Int

__all__ = ["angles", "bonds_of", "dihedrals", "distances", "histogram", "topology"]

_BONDED = 1.25  # times the sum of covalent radii: within it a pair counts as bonded


def distances(
    positions: Float[np.ndarray, "*frames atoms 3"],
    pairs: Any,
    cell: Any = None,
    pbc: Any = None,
) -> Float[np.ndarray, "*frames pairs"]:
    """Distances of pairs of atoms in Å; in a cell, to the nearest image.

    The nearest image is found by rounding, as holds for distances below half of the smallest
    height of the cell.
    """
    positions, pairs = _checked(positions, pairs, 2)
    vectors = positions[..., pairs[:, 1], :] - positions[..., pairs[:, 0], :]
    return np.linalg.norm(_nearest(vectors, cell, pbc), axis=-1)


def angles(
    positions: Float[np.ndarray, "*frames atoms 3"], triples: Any, cell: Any = None, pbc: Any = None
) -> Float[np.ndarray, "*frames triples"]:
    """Angles in degrees at the second atom of each triple."""
    positions, triples = _checked(positions, triples, 3)
    first = _nearest(positions[..., triples[:, 0], :] - positions[..., triples[:, 1], :], cell, pbc)
    last = _nearest(positions[..., triples[:, 2], :] - positions[..., triples[:, 1], :], cell, pbc)
    # atan2 keeps its digits at 0° and 180°, where the arc cosine loses half of them
    across = np.linalg.norm(np.cross(first, last), axis=-1)
    return np.degrees(np.arctan2(across, np.sum(first * last, axis=-1)))


def dihedrals(
    positions: Float[np.ndarray, "*frames atoms 3"],
    quadruples: Any,
    cell: Any = None,
    pbc: Any = None,
) -> Float[np.ndarray, "*frames quadruples"]:
    """Dihedral angles in degrees, -180 to 180; positive is clockwise along the middle bond."""
    positions, quadruples = _checked(positions, quadruples, 4)
    a, b, c = (
        _nearest(
            positions[..., quadruples[:, k + 1], :] - positions[..., quadruples[:, k], :], cell, pbc
        )
        for k in range(3)
    )
    first, second = np.cross(a, b), np.cross(b, c)
    sine = np.sum(first * c, axis=-1) * np.linalg.norm(b, axis=-1)
    return np.degrees(np.arctan2(sine, np.sum(first * second, axis=-1)))


def topology(
    numbers: Any, positions: Any, cell: Any = None, pbc: Any = None
) -> dict[str, Int[np.ndarray, "items atoms"]]:
    """Bonds by covalent radii (times 1.25), and the angles and dihedrals that they span.

    Returns:
        ``bonds``, ``angles`` and ``dihedrals`` as rows of atoms; an angle or dihedral and its
        reverse count once.
    """
    bonds = bonds_of(numbers, positions, cell, pbc)
    linked: dict[int, list[int]] = {i: [] for i in range(len(np.asarray(numbers)))}
    for i, j in bonds.tolist():
        linked[i].append(j)
        linked[j].append(i)
    triples = [(i, j, k) for j, near in linked.items() for i in near for k in near if i < k]
    quadruples = [
        (i, j, k, m)
        for j, k in bonds.tolist()
        for i in linked[j]
        for m in linked[k]
        if i != k and m != j and i != m
    ]
    return {
        "bonds": bonds,
        "angles": np.array(triples, int).reshape(-1, 3),
        "dihedrals": np.array(quadruples, int).reshape(-1, 4),
    }


def bonds_of(
    numbers: Any, positions: Any, cell: Any = None, pbc: Any = None
) -> Int[np.ndarray, "bonds 2"]:
    """Pairs of atoms closer than 1.25 times the sum of their covalent radii."""
    from jaxff.elements import covalent_radii

    radii = covalent_radii(numbers)
    i, j = np.triu_indices(len(radii), 1)
    pairs = np.stack([i, j], axis=1)
    near = distances(np.asarray(positions, float), pairs, cell, pbc) < _BONDED * (
        radii[i] + radii[j]
    )
    return pairs[near]


def histogram(
    values: Any, bins: int = 60, limits: tuple[float, float] | None = None
) -> tuple[Float[np.ndarray, " bins"], Float[np.ndarray, " bins"]]:
    """Centres of bins and the probability density in them.

    Args:
        values: Any shape; all frames and items count alike.
        bins: Number of bins.
        limits: First and last edge; by default the range of the values.
    """
    density, edges = np.histogram(np.ravel(values), bins=bins, range=limits, density=True)
    return 0.5 * (edges[1:] + edges[:-1]), density


def _checked(positions: Any, items: Any, width: int) -> tuple[np.ndarray, np.ndarray]:
    positions, items = np.asarray(positions, np.float64), np.asarray(items, int)
    if items.ndim != 2 or items.shape[1] != width:
        raise ValueError(f"expected rows of {width} atoms, got shape {items.shape}")
    if items.size and not (items.min() >= 0 and items.max() < positions.shape[-2]):
        raise ValueError(
            f"atoms are counted from 0 to {positions.shape[-2] - 1}, got {items.min()} to "
            f"{items.max()}"
        )
    return positions, items


def _nearest(vectors: np.ndarray, cell: Any, pbc: Any) -> np.ndarray:
    if cell is None:
        return vectors
    cell = np.asarray(cell, np.float64)
    periodic = np.ones(3, bool) if pbc is None else np.asarray(pbc, bool)
    shifts = np.round(vectors @ np.linalg.inv(cell)) * periodic
    return vectors - shifts @ cell
