"""Paths through the Brillouin zone between points of high symmetry."""

from typing import Any, NamedTuple

import numpy as np

from jaxff.types import Bool, Float

__all__ = ["BandPath", "band_path"]


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
    try:
        found = Cell(np.asarray(cell, float)).bandpath(
            path, npoints=points, pbc=np.broadcast_to(pbc, 3).tolist()
        )
    except (RuntimeError, KeyError, ValueError, NotImplementedError, AssertionError) as error:
        asked = "usual path" if path is None else f"path {path!r}"
        raise ValueError(
            f"no {asked} in the lattice of {np.asarray(cell).tolist()} ({error!r}): name points "
            "that it has, or give wave vectors to Phonons.modes"
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
