"""Operations and primitive cell of a crystal, found by spglib (the extra ``crystals``).

Those of a structure that repeats in one direction are found without it.

Reference:
    Togo, Shinohara & Tanaka, Sci. Technol. Adv. Mater. Meth. 4, 2384822 (2024),
    doi:10.1080/27660400.2024.2384822.
"""

import warnings
from typing import Any

import numpy as np

from jaxff.kernels.images import Lattice, lattice_of
from jaxff.kernels.rods import rod_operations
from jaxff.system import System
from jaxff.types import Float, Int

__all__ = ["operations", "primitive_cell", "reference_of"]


def primitive_cell(reference: System, *, tolerance: float = 1e-3) -> Float[np.ndarray, "3 3"]:
    """The shortest vectors by which an ideal crystal repeats, as rows in Å.

    Args:
        reference: The ideal structure, a single system with a cell.
        tolerance: How far atoms may be from ideal positions, in Å.

    Returns:
        Right-handed lattice vectors of the periodic directions, in the orientation of the
        reference; in the place of the others unit vectors normal to them.

    Raises:
        ValueError: If the reference has no cell or no symmetry can be found.
        ImportError: If spglib is missing.
    """
    positions, numbers, lattice = reference_of(reference)
    cell, pbc = lattice
    _, rotations, shifts = operations(positions, numbers, lattice, tolerance)
    pure = shifts[(rotations == np.eye(3, dtype=int)).all(axis=(1, 2))]
    pure = pure[np.abs((pure - np.round(pure))[:, ~pbc]).max(axis=1, initial=0.0) < 1e-6] * pbc
    around = (np.indices((5, 5, 5)).reshape(3, -1).T - 2) * pbc
    vectors = (pure[:, None] + np.unique(around, axis=0)).reshape(-1, 3) @ cell
    found = list(cell[~pbc])
    # In up to three dimensions the shortest independent vectors span the lattice.
    for vector in vectors[np.argsort(np.round(np.linalg.norm(vectors, axis=1), 6), kind="stable")]:
        sizes = np.linalg.svd(np.array([*found, vector]), compute_uv=False)
        if sizes[-1] > 100 * tolerance:
            found.append(vector)
        if len(found) == 3:
            break
    result = cell.copy()
    result[pbc] = found[int(np.sum(~pbc)) :]
    repeats = np.round(cell @ np.linalg.inv(result))
    if abs(round(np.linalg.det(repeats))) != len(pure):
        raise ValueError(
            f"the {len(pure)} translations found to {tolerance} Å are not those of a lattice: give "
            "more exact positions, or change the tolerance"
        )
    result = np.linalg.solve(repeats, cell)
    return result if np.linalg.det(result) > 0.0 else -result


def reference_of(
    system: System,
) -> tuple[Float[np.ndarray, "atoms 3"], Int[np.ndarray, " atoms"], Lattice]:
    """Positions, atomic numbers and lattice of an ideal structure.

    Raises:
        ValueError: If it is no single crystal of finite coordinates.
    """
    if system.is_packed or system.batch_shape:
        raise ValueError(
            f"the reference must be one structure, got a batch of shape {system.batch_shape}"
        )
    if system.cell is None:
        raise ValueError(
            "the reference has no cell: crystals need their lattice vectors; for molecules use "
            "jaxff.kernels.permutations.recover"
        )
    numbers = np.asarray(system.numbers)
    if (numbers == 0).any():
        raise ValueError("atomic number 0 marks padding: remove the padded atoms first")
    positions = np.asarray(system.positions, float)
    if not np.isfinite(positions).all():
        raise ValueError("positions of the reference must be finite")
    return positions, numbers, lattice_of(system.cell, system.pbc)


def operations(
    positions: Float[np.ndarray, "atoms 3"],
    numbers: Int[np.ndarray, " atoms"],
    lattice: Lattice,
    tolerance: float,
) -> tuple[str, Float[np.ndarray, "operations 3 3"], Float[np.ndarray, "operations 3"]]:
    """Name of the space group, rotations and shifts in fractions of the (padded) cell.

    Rotations are whole numbers, but for those about the axis of one direction that repeats.

    Raises:
        ValueError: If no symmetry can be found.
        ImportError: If spglib is missing.
    """
    if lattice.pbc.sum() == 1:
        turns, steps = rod_operations(positions, numbers, lattice, tolerance)
        return "rod group", turns, steps
    try:
        import spglib
    except ImportError as error:
        raise ImportError(
            'symmetry groups of crystals need spglib: pip install "jaxff[crystals]"'
        ) from error
    padded = lattice.padded(positions)
    structure: Any = (padded, positions @ np.linalg.inv(padded), numbers)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of its two ways to tell errors
            found = spglib.get_symmetry_dataset(structure, symprec=tolerance)
    except spglib.SpglibError as error:
        raise ValueError(f"spglib finds no symmetry of the reference: {error}") from error
    if found is None:
        raise ValueError(
            f"spglib finds no symmetry of the reference to {tolerance} Å: look for atoms in the "
            "same place, or change the tolerance"
        )
    # Periodic and other directions must not mix, and nothing repeats along the others.
    kept = (found.rotations[:, lattice.pbc][:, :, ~lattice.pbc] == 0).all(axis=(1, 2))
    kept &= (found.rotations[:, ~lattice.pbc][:, :, lattice.pbc] == 0).all(axis=(1, 2))
    name = f"{found.international} (no. {found.number})"
    return name, found.rotations[kept].astype(float), found.translations[kept]
