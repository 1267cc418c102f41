"""Symmetry groups of crystals as atom permutations, from an ideal reference structure.

Each operation of the space group that maps the supercell onto itself permutes its atoms: Bravais
translations of the primitive lattice within the supercell, times point operations. All of it runs
on the host, in NumPy.

Permuting equal atoms never changes the energy, so that a group is always right; one that is too
small wastes data, and one whose elements connect nothing that occurs wastes time.

Reference:
    Sauceda et al., Nat. Commun. 13, 3733 (2022), doi:10.1038/s41467-022-31093-x, for symmetric
    kernels of crystals; Togo, Shinohara & Tanaka, Sci. Technol. Adv. Mater. Meth. 4, 2384822
    (2024), doi:10.1080/27660400.2024.2384822, for spglib.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxff.kernels.abelian import cosets, cycle_length, decompose, elements
from jaxff.kernels.groups import compose, is_group, verify
from jaxff.kernels.images import Lattice, nearest_distances
from jaxff.kernels.space_groups import operations, reference_of
from jaxff.system import System
from jaxff.types import Int

__all__ = ["CrystalGroup", "crystal_group", "host_group"]


@dataclass(frozen=True, eq=False)
class CrystalGroup:
    """Permutations that a crystal's symmetry operations make of its atoms.

    Attributes:
        permutations: The whole group, identity first, rows in lexicographic order.
        translations: Generators of the Bravais translations in the supercell, as a direct product
            of cyclic groups.
        cosets: Point operations, and permutations of an adsorbate: one element of each coset of the
            translations. The elements of the group are ``coset[translation]``.
        name: Space group of the reference, or of the host.
        mismatch: Largest change in Å of an interatomic distance of the reference.
    """

    permutations: Int[np.ndarray, "perms atoms"]
    translations: Int[np.ndarray, "axes atoms"]
    cosets: Int[np.ndarray, "cosets atoms"]
    name: str
    mismatch: float

    @property
    def orders(self) -> tuple[int, ...]:
        """Orders of the cyclic factors of the translations."""
        return tuple(cycle_length(row) for row in self.translations)

    def __len__(self) -> int:
        """Order of the whole group."""
        return len(self.permutations)

    def __str__(self) -> str:
        """Which group, and the orders of its parts."""
        factors = " × ".join(f"Z{n}" for n in self.orders) or "none but the identity"
        count = int(np.prod(self.orders, dtype=int))
        return (
            f"{self.name}: {count} translations ({factors}) × {len(self.cosets)} other operations "
            f"= {len(self)} permutations of {self.permutations.shape[1]} atoms, which keep "
            f"distances to {self.mismatch:.1e} Å"
        )


def crystal_group(reference: System, *, tolerance: float = 1e-3) -> CrystalGroup:
    """Symmetry group of a supercell as permutations of its atoms.

    Operations that leave every atom where it is, such as the mirror plane of a flat sheet, count
    once. The shape of the supercell counts: three by five cells of graphene lack the threefold
    axes. Of a structure that repeats in one direction, as a nanotube, axes of any order are found.

    Args:
        reference: The ideal structure, a single system with a cell, in the atom order of the data.
            A defect, or an adsorbate at its site, keeps the operations that map it onto itself.
        tolerance: How far atoms may be from ideal positions, in Å.

    Raises:
        ValueError: If the reference has no cell or no symmetry can be found, or what is found is no
            group that keeps interatomic distances to four times the tolerance.
        ImportError: If spglib is missing.

    Warns:
        UserWarning: If there is no operation but the identity.
    """
    group = _ideal_group(reference, tolerance)
    if len(group) == 1:
        _warn_of_none("reference", tolerance)
    return group


def _ideal_group(reference: System, tolerance: float) -> CrystalGroup:
    positions, numbers, lattice = reference_of(reference)
    name, rotations, shifts = operations(positions, numbers, lattice, tolerance)
    images = _permutations(positions, numbers, lattice, rotations, shifts, tolerance)
    pure = (rotations == np.eye(3, dtype=int)).all(axis=(1, 2))
    distances = nearest_distances(positions, positions, lattice)
    mismatch = max(float(np.abs(distances[p][:, p] - distances).max()) for p in images)
    return _assemble(name, images, images[pure], mismatch, tolerance)


def host_group(
    reference: System,
    host: Any,
    *,
    own: Int[np.ndarray, "perms others"] | None = None,
    tolerance: float = 1e-3,
    reach: float = 0.45,
) -> CrystalGroup:
    """What the symmetry of an ideal host leaves of a defect or an adsorbate that moves about.

    The operations of the host permute its atoms and leave the other ones alone: for an adsorbate at
    one site this is the same as moving it to an equivalent one. Operations that bring a vacancy to
    a site that is taken, or a foreign atom to one of the host, are dropped.

    Args:
        reference: The structure in the atom order of the data: a single system with a cell.
        host: The pristine host as a system in the same cell, or the indices of the atoms of the
            reference that form an ideal host.
        own: Group of permutations of all other atoms, in the order in which the reference lists
            them (for benzene on a surface the twelve of benzene); ``None`` for the identity alone.
        tolerance: How far atoms of the host may be from ideal positions, in Å.
        reach: How far an atom of the reference may be from the site of the pristine host that it
            occupies, as a fraction of the smallest distance of two sites.

    Raises:
        ValueError: If reference and host do not belong together, or ``own`` is no group of the
            other atoms.

    Warns:
        UserWarning: If the host has no operation but the identity.
    """
    positions, numbers, lattice = reference_of(reference)
    atoms = len(numbers)
    if isinstance(host, System):
        sites, kinds, own_lattice = reference_of(host)
        if not np.allclose(lattice.cell, own_lattice.cell, rtol=0, atol=tolerance):
            raise ValueError(
                f"the pristine host must be in the cell of the reference {lattice.cell.tolist()}, "
                f"got {own_lattice.cell.tolist()}"
            )
        occupant = _occupants(positions, sites, lattice, reach)
        pristine = host
    else:
        index = np.asarray(host)
        outside = index.ndim != 1 or not np.issubdtype(index.dtype, np.integer) or not len(index)
        if (
            outside
            or len(set(index.tolist())) < len(index)
            or not ((index >= 0) & (index < atoms)).all()
        ):
            raise ValueError(
                f"host must be a system, or different indices of atoms 0 to {atoms - 1}, got "
                f"{host!r}"
            )
        occupant, kinds = index.astype(int), numbers[index]
        pristine = System(positions[index], kinds, reference.cell, reference.pbc)
    if not (occupant >= 0).any():
        raise ValueError(
            "no atom of the reference is on a site of the pristine host: both must have the same "
            "origin"
        )
    ideal = _ideal_group(pristine, tolerance)
    if len(ideal) == 1:
        _warn_of_none("host", tolerance)
    placed = np.where(occupant >= 0, numbers[occupant], 0)
    kept = (placed[ideal.permutations] == placed).all(axis=1)
    others = np.setdiff1d(np.arange(atoms), occupant)
    inner = np.arange(len(others))[None]
    if own is not None:
        inner = np.asarray(own)
        if inner.ndim != 2 or inner.shape[1] != len(others):
            raise ValueError(
                f"own must permute the {len(others)} atoms that are not of the host, got shape "
                f"{inner.shape}"
            )
        inner = verify(inner, numbers[others])
    outer = _on_atoms(ideal.permutations[kept], occupant, atoms)
    pure = elements(ideal.translations)
    pure = _on_atoms(pure[(placed[pure] == placed).all(axis=1)], occupant, atoms)
    moved = np.tile(np.arange(atoms), (len(inner), 1))
    moved[:, others] = others[inner]
    images = compose(outer[:, None], moved[None]).reshape(-1, atoms)
    return _assemble(ideal.name, images, pure, ideal.mismatch, tolerance)


def _warn_of_none(what: str, tolerance: float) -> None:
    """Noise above the tolerance takes all symmetry away without any other sign."""
    warnings.warn(
        f"the {what} has no symmetry to {tolerance} Å, only the identity is left: give the ideal "
        "structure instead of a frame of a simulation, or a larger tolerance",
        UserWarning,
        stacklevel=3,
    )


def _permutations(
    positions: np.ndarray,
    numbers: np.ndarray,
    lattice: Lattice,
    rotations: np.ndarray,
    shifts: np.ndarray,
    tolerance: float,
) -> np.ndarray:
    """Atoms that take each other's place; one row for each operation."""
    cell = lattice.padded(positions)
    fractions = positions @ np.linalg.inv(cell)
    different = numbers[:, None] != numbers
    result = np.empty((len(rotations), len(numbers)), int)
    for row, (rotation, shift) in enumerate(zip(rotations, shifts, strict=True)):
        step = (fractions @ rotation.T + shift)[:, None] - fractions
        step = (step - np.round(step)) @ cell
        distance = np.where(different, np.inf, np.sum(step**2, axis=-1))
        result[row] = distance.argmin(axis=1)
        if distance.min(axis=1).max() > (4 * tolerance) ** 2:
            raise ValueError(
                "an operation that spglib found moves an atom to where none of its kind is, by "
                f"{np.sqrt(distance.min(axis=1).max()):.2g} Å: give more exact positions, or "
                f"change the tolerance of {tolerance} Å"
            )
    return result


def _occupants(
    positions: np.ndarray, sites: np.ndarray, lattice: Lattice, reach: float
) -> np.ndarray:
    """Atom of the reference at each site of the host, -1 at vacancies."""
    between = nearest_distances(sites, sites, lattice)
    np.fill_diagonal(between, np.inf)
    distance = nearest_distances(sites, positions, lattice)
    atom, site = distance.argmin(axis=1), distance.argmin(axis=0)
    near = distance.min(axis=1) < reach * between.min()
    # Of two atoms at a site the nearer one is its occupant, the other an interstitial.
    return np.where(near & (site[atom] == np.arange(len(sites))), atom, -1)


def _on_atoms(permutations: np.ndarray, occupant: np.ndarray, atoms: int) -> np.ndarray:
    """Permutations of sites as those of the atoms on them; the others stay."""
    result = np.tile(np.arange(atoms), (len(permutations), 1))
    taken = np.flatnonzero(occupant >= 0)
    result[:, occupant[taken]] = occupant[permutations[:, taken]]
    return result


def _assemble(
    name: str, images: np.ndarray, pure: np.ndarray, mismatch: float, tolerance: float
) -> CrystalGroup:
    """Check the group, and take it apart into translations and representatives of their cosets."""
    group = np.unique(images, axis=0)
    if (np.sort(group, axis=1) != np.arange(group.shape[1])).any() or not is_group(group):
        raise ValueError(
            f"the {len(group)} operations found to {tolerance} Å are no group: the reference is "
            "not quite symmetric; give more exact positions, or change the tolerance"
        )
    if mismatch > 4 * tolerance:
        raise ValueError(
            f"operations of the group change distances of the reference by {mismatch:.2g} Å: "
            f"give more exact positions, or a smaller tolerance than {tolerance} Å"
        )
    translations = decompose(np.unique(pure, axis=0))
    return CrystalGroup(group, translations, cosets(group, elements(translations)), name, mismatch)
