"""Radial distribution functions."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxff.types import Float

__all__ = ["RadialDistribution", "radial_distribution"]


@dataclass(frozen=True)
class RadialDistribution:
    """How atoms surround each other.

    Attributes:
        distances: Centres of the bins in Å.
        values: g(r), 1 for an ideal gas, in periodic systems; for molecules the density of pairs
            per Å, whose integral is the number of neighbours.
        counts: Mean number of neighbours within the outer edge of each bin.
    """

    distances: Float[np.ndarray, " bins"]
    values: Float[np.ndarray, " bins"]
    counts: Float[np.ndarray, " bins"]


def radial_distribution(
    positions: Any,
    numbers: Any,
    cell: Any = None,
    pbc: Any = None,
    *,
    cutoff: float = 6.0,
    bins: int = 120,
    elements: tuple[int, int] | None = None,
) -> RadialDistribution:
    r"""Radial distribution over the frames of a run; all images within the cutoff count.

    Args:
        positions: Å, ``(frames, atoms, 3)``.
        numbers: Atomic numbers.
        cell: Lattice vectors in Å, ``(3, 3)`` or one per frame; ``None`` for molecules.
        pbc: Periodic directions; all three by default.
        cutoff: Largest distance in Å; it may exceed half of the cell.
        bins: Number of bins.
        elements: Atomic numbers of centers and neighbours; by default all atoms.

    Raises:
        ValueError: If shapes do not fit, an element is absent, or the system is periodic in some
            directions only, where a density to compare with is not defined.

    Reference:
        Allen & Tildesley, Computer Simulation of Liquids, 2nd ed., Oxford 2017, section 2.6.
    """
    positions, numbers = np.asarray(positions, np.float64), np.asarray(numbers)
    if positions.ndim != 3 or positions.shape[1:] != (len(numbers), 3) or not len(positions):
        raise ValueError(
            f"positions must have the shape (frames, {len(numbers)}, 3), got {positions.shape}"
        )
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    periodic = np.zeros(3, bool)
    if cell is not None:
        periodic = np.ones(3, bool) if pbc is None else np.asarray(pbc, bool)
    if periodic.any() and not periodic.all():
        raise ValueError(f"g(r) needs all directions periodic, or none, got pbc {periodic}")
    centers, others = (np.ones(len(numbers), bool),) * 2
    if elements is not None:
        centers, others = (numbers == element for element in elements)
        if not centers.any() or not others.any():
            raise ValueError(f"no atoms of the elements {elements} among {set(numbers.tolist())}")
    vectors = np.zeros((3, 3)) if cell is None else np.asarray(cell, np.float64)
    cells = np.broadcast_to(vectors, (len(positions), 3, 3))
    edges = np.linspace(0.0, cutoff, bins + 1)
    found, expected = np.zeros(bins), np.zeros(bins)
    shells = 4.0 / 3.0 * np.pi * np.diff(edges**3)
    pairs = centers.sum() * others.sum()  # images of an atom itself count, as they are found
    for frame, box in zip(positions, cells, strict=True):
        found += _count(frame, box, periodic, centers, others, edges)
        if periodic.all():
            expected += pairs / abs(np.linalg.det(box)) * shells
    per_center = found / (len(positions) * centers.sum())
    width = edges[1] - edges[0]
    values = found / expected if periodic.all() else per_center / width
    return RadialDistribution(0.5 * (edges[1:] + edges[:-1]), values, np.cumsum(per_center))


def _count(
    frame: np.ndarray,
    cell: np.ndarray,
    periodic: np.ndarray,
    centers: np.ndarray,
    others: np.ndarray,
    edges: np.ndarray,
) -> np.ndarray:
    from vesin import NeighborList

    search = NeighborList(cutoff=float(edges[-1]), full_list=True)
    i, j, distance = search.compute(frame, cell, periodic, "ijd")
    wanted = centers[i.astype(int)] & others[j.astype(int)]
    return np.histogram(distance[wanted], edges)[0]
