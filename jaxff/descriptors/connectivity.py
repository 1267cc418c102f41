"""Which atoms of a molecule are bonded, and the angles and chains that follow; on the host."""

import itertools

import numpy as np

from jaxff.descriptors.distances import pair_distances
from jaxff.elements import covalent_radii
from jaxff.system import System
from jaxff.types import Int

__all__ = ["angles_of", "bonds_of", "dihedrals_of", "require_connected"]


def bonds_of(system: System, scale: float) -> Int[np.ndarray, "bonds 2"]:
    """Pairs of atoms closer than a multiple of the sum of their covalent radii; first the lower.

    Raises:
        ValueError: If an atom is padding, or has no radius.
    """
    radii = covalent_radii(system.numbers)
    rows, columns = np.tril_indices(system.atom_count, -1)
    near = np.asarray(pair_distances(system)[0]) < scale * (radii[rows] + radii[columns])
    bonds = np.stack([columns, rows], axis=1)[near]
    return bonds[np.lexsort(bonds.T[::-1])]


def require_connected(bonds: Int[np.ndarray, "bonds 2"], atoms: int) -> None:
    """Refuse bonds that leave atoms apart.

    Raises:
        ValueError: Naming an atom that no chain of bonds joins to the first.
    """
    part = np.arange(atoms)
    for first, second in bonds:
        part[part == part[second]] = part[first]
    apart = np.flatnonzero(part != part[0])
    if len(apart):
        raise ValueError(
            f"bonds must join all atoms, but none leads from atom 0 to atom {apart[0]} "
            f"({len(apart)} such atoms): name the coordinates with internal(...), or use a "
            "descriptor of all distances"
        )


def angles_of(bonds: Int[np.ndarray, "bonds 2"]) -> Int[np.ndarray, "angles 3"]:
    """All pairs of bonds that share an atom, which stands in the middle."""
    found = [
        (first, vertex, second)
        for vertex, linked in sorted(_linked(bonds).items())
        for first, second in itertools.combinations(linked, 2)
    ]
    return np.array(found, int).reshape(-1, 3)


def dihedrals_of(
    bonds: Int[np.ndarray, "bonds 2"], angles: Int[np.ndarray, "angles 3"]
) -> Int[np.ndarray, "dihedrals 4"]:
    """All chains of three bonds whose two angles are among those given; no rings of three."""
    bent = {item for a, b, c in angles.tolist() for item in ((a, b, c), (c, b, a))}
    linked = _linked(bonds)
    found = [
        (start, first, second, end)
        for first, second in bonds.tolist()
        for start in linked[first]
        for end in linked[second]
        if start != end and (start, first, second) in bent and (first, second, end) in bent
    ]
    return np.array(found, int).reshape(-1, 4)


def _linked(bonds: Int[np.ndarray, "bonds 2"]) -> dict[int, list[int]]:
    linked: dict[int, list[int]] = {}
    for first, second in bonds.tolist():
        linked.setdefault(first, []).append(second)
        linked.setdefault(second, []).append(first)
    return {atom: sorted(others) for atom, others in linked.items()}
