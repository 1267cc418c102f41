"""Paths through the Brillouin zone between points of high symmetry."""

from typing import Any, NamedTuple

import numpy as np

from jaxff.types import Bool, Float

__all__ = ["BandPath", "band_path", "through_points"]


class BandPath(NamedTuple):
    """Wave vectors along a path.

    Attributes:
        points: In fractions of the reciprocal vectors.
        distances: Along the path in 1/Å, with the factor 2π; a jump takes no length.
        places: Distances of the points of high symmetry.
        labels: Their names; ``G`` is Γ, and two names with a comma are a jump.
    """

    points: Float[np.ndarray, "points 3"]
    distances: Float[np.ndarray, " points"]
    places: Float[np.ndarray, " corners"]
    labels: tuple[str, ...]


def band_path(
    cell: Float[np.ndarray, "3 3"],
    path: str | None = None,
    *,
    pbc: Bool[np.ndarray, "3"] | Any = True,
    points: int = 200,
) -> BandPath:
    """The usual path for a lattice, or one through named points.

    Args:
        cell: Lattice vectors of the primitive cell as rows in Å
            (:attr:`jaxff.vibrations.Supercell.cell`).
        path: Names such as ``"GXWKGL"``, a comma where the path jumps; by default the usual one.
        pbc: Periodic directions.
        points: Number of wave vectors.

    Raises:
        ValueError: If the lattice is not recognised, or has no such points.

    Reference:
        Setyawan & Curtarolo, Comput. Mater. Sci. 49, 299 (2010),
        doi:10.1016/j.commatsci.2010.05.010, for names and paths, as ASE offers them.
    """
    from ase.cell import Cell

    if points < 2:
        raise ValueError(f"a path has at least 2 points, got {points}")
    lattice, periodic = Cell(np.asarray(cell, float)), np.broadcast_to(pbc, 3).tolist()
    try:
        found = lattice.bandpath(path, npoints=points, pbc=periodic)
    except (RuntimeError, KeyError, ValueError, NotImplementedError, AssertionError) as error:
        asked = "usual path" if path is None else f"path {path!r}"
        raise ValueError(
            f"no {asked} in the lattice of {np.asarray(cell).tolist()} ({error!r}){_known(lattice)}"
            ", or give wave vectors to Phonons.modes"
        ) from error
    distances, places, labels = found.get_linear_kpoint_axis()
    names: dict[float, list[str]] = {}
    for place, label in zip(np.asarray(places, float).tolist(), labels, strict=True):
        names.setdefault(place, []).append(label)
    return BandPath(
        np.asarray(found.kpts, float),
        np.asarray(distances, float),
        np.array(list(names)),
        tuple(",".join(each) for each in names.values()),
    )


def _known(lattice: Any) -> str:
    """The points that a path may name, where the lattice is known."""
    try:
        names = sorted(lattice.bandpath(npoints=0).special_points)
    except (RuntimeError, KeyError, ValueError, NotImplementedError, AssertionError):
        return ": name points that it has"
    return f": it has the points {' '.join(names)}"


def through_points(
    path: BandPath, points: Float[np.ndarray, "others 3"], tolerance: float = 1e-6
) -> BandPath:
    """The path with those of further wave vectors that lie on it, such as the exact ones.

    Args:
        path: From :func:`band_path`.
        points: Wave vectors in fractions of the reciprocal vectors, which any of these may be
            added to.
        tolerance: How far from the path they may be, in fractions.
    """
    around = np.indices((5, 5, 5)).reshape(3, -1).T - 2
    others = (np.asarray(points, float)[:, None] + around).reshape(-1, 3)
    found, distances = [path.points[:1]], [path.distances[:1]]
    steps = zip(path.points, path.points[1:], path.distances, path.distances[1:], strict=False)
    for first, last, near, far in steps:
        way = last - first
        if far > near:
            share = (others - first) @ way / (way @ way)
            off = np.linalg.norm(others - first - share[:, None] * way, axis=1)
            rim = tolerance / np.linalg.norm(way)
            share = np.unique(share[(off < tolerance) & (share > rim) & (share < 1.0 - rim)])
            found.append(first + share[:, None] * way)
            distances.append(near + share * (far - near))
        found.append(last[None])
        distances.append(np.array([far]))
    return path._replace(points=np.concatenate(found), distances=np.concatenate(distances))
