r"""Maps of forces that belong to a map of positions: see :mod:`jaxff.coarse.mapping`.

Reference:
    Ciccotti, Kapral & Vanden-Eijnden, ChemPhysChem 6, 1809 (2005), doi:10.1002/cphc.200400669;
    Krämer et al., J. Phys. Chem. Lett. 14, 3970 (2023), doi:10.1021/acs.jpclett.3c00444.
"""

from typing import Any

import numpy as np

from jaxff.types import Float, Int

__all__ = [
    "TOLERANCE",
    "basic_force_map",
    "checked",
    "crossed_forces",
    "optimal_force_map",
    "rigid_pairs",
]

TOLERANCE = 1e-8
"""Largest error of a condition on coefficients of order one."""


def basic_force_map(positions: Any, constraints: Any = ()) -> Float[np.ndarray, "beads atoms"]:
    """The sum of the forces on the atoms of each bead, and on those that rigid bonds tie to them.

    Where beads share atoms, the nearest map that is consistent.

    Raises:
        ValueError: If no map is consistent, as when a rigid bond joins two beads.
    """
    matrix, pairs = checked(positions, constraints)
    conditions, wanted = _conditions(matrix, pairs)
    start = (matrix != 0.0).astype(float) @ _tied(pairs, matrix.shape[1])
    start = np.minimum(start, 1.0)
    missing = wanted - start @ conditions.T
    weights = start + missing @ np.linalg.pinv(conditions).T
    if np.abs(weights @ conditions.T - wanted).max() > TOLERANCE:
        raise ValueError(
            "no force map is consistent with these positions and constraints: a rigid bond joins "
            "atoms of different beads, whose mean force is not defined; choose other beads, or "
            "simulate without the constraint"
        )
    return weights


def optimal_force_map(
    positions: Any, forces: Any, constraints: Any = (), *, ridge: float = 0.0
) -> Float[np.ndarray, "beads atoms"]:
    """The consistent map of least mean square force over a trajectory.

    The mean force of the beads is the same for all consistent maps; what is left is less noise.
    But for the frames that it was found from: there it takes the mean force for noise too, and
    leaves 1 - c/3T of it, with T frames and c free coefficients of a bead (the atoms, less beads
    and constraints). :func:`crossed_forces` avoids that.

    Args:
        positions: M, ``(beads, atoms)``.
        forces: Forces on the atoms, ``(frames, atoms, 3)``, best of frames that are not mapped.
        constraints: Rigid pairs of atoms.
        ridge: Weight of the squared distance from the basic map, relative to the mean square force
            on an atom, for few frames.

    Raises:
        ValueError: If no map is consistent, or frames are too few.
    """
    matrix, pairs = checked(positions, constraints)
    basic = basic_force_map(matrix, pairs)
    forces = np.asarray(forces, np.float64)
    if forces.ndim != 3 or forces.shape[1:] != (matrix.shape[1], 3):
        raise ValueError(f"expected forces (frames, {matrix.shape[1]}, 3), got {forces.shape}")
    if not (np.isfinite(ridge) and ridge >= 0):
        raise ValueError(f"ridge must be 0 or a positive number, got {ridge}")
    free = _null_space(_conditions(matrix, pairs)[0])
    if ridge == 0.0 and 3 * len(forces) < free.shape[1]:
        raise ValueError(
            f"{len(forces)} frames do not determine the {free.shape[1]} free coefficients of a "
            "bead: give more frames, or a ridge"
        )
    gram = np.einsum("fix,fjx->ij", forces, forces) / len(forces)
    inner = free.T @ gram @ free
    inner += ridge * np.trace(gram) / len(gram) * np.eye(len(inner))
    change = np.linalg.lstsq(inner, free.T @ gram @ basic.T, rcond=None)[0]
    return basic - change.T @ free.T


def crossed_forces(
    positions: Any, forces: Any, constraints: Any = (), *, ridge: float = 0.0
) -> Float[np.ndarray, "frames beads 3"]:
    """Forces on the beads, in each half of a trajectory by the optimal map of the other half.

    Args:
        positions: M, ``(beads, atoms)``.
        forces: Forces on the atoms, ``(frames, atoms, 3)``, eV/Å.
        constraints: Rigid pairs of atoms.
        ridge: See :func:`optimal_force_map`.

    Returns:
        Forces on the beads, eV/Å.

    Raises:
        ValueError: If no map is consistent, or the frames of a half are too few.
    """
    forces = np.asarray(forces, np.float64)
    half = len(forces) // 2
    parts = [slice(0, half), slice(half, None)]
    maps = [optimal_force_map(positions, forces[own], constraints, ridge=ridge) for own in parts]
    return np.concatenate(
        [np.einsum("bi,tix->tbx", maps[1 - k], forces[own]) for k, own in enumerate(parts)]
    )


def rigid_pairs(
    positions: Any, *, tolerance: float = 1e-3, within: float = 2.0
) -> Int[np.ndarray, "pairs 2"]:
    """Pairs of atoms whose distance does not change along a trajectory: its constraints.

    Args:
        positions: ``(frames, atoms, 3)`` in Å.
        tolerance: Standard deviation in Å up to which a distance counts as constant; that of a bond
            to hydrogen at 300 K is about 0.03 Å.
        within: Only pairs closer than this in the first frame are looked at, Å.

    Raises:
        ValueError: For fewer than two frames.
    """
    positions = np.asarray(positions, np.float64)
    if positions.ndim != 3 or len(positions) < 2:
        raise ValueError(f"expected positions (frames, atoms, 3), 2 frames or more, got "
                         f"{positions.shape}")  # fmt: skip
    i, j = np.triu_indices(positions.shape[1], 1)
    near = np.linalg.norm(positions[0, i] - positions[0, j], axis=-1) < within
    pairs = np.stack([i[near], j[near]], axis=1)
    lengths = np.linalg.norm(positions[:, pairs[:, 0]] - positions[:, pairs[:, 1]], axis=-1)
    return pairs[lengths.std(axis=0) < tolerance]


def checked(positions: Any, constraints: Any) -> tuple[np.ndarray, np.ndarray]:
    """Position map and rigid pairs as arrays.

    Raises:
        ValueError: If beads would not move with the atoms, or depend on each other, or constraints
            name atoms that do not exist.
    """
    matrix = np.asarray(positions, np.float64)
    if matrix.ndim != 2 or not np.isfinite(matrix).all():
        raise ValueError(f"the position map must be finite (beads, atoms), got {matrix.shape}")
    sums = matrix.sum(axis=1)
    if np.abs(sums - 1.0).max() > TOLERANCE:
        bead = int(np.argmax(np.abs(sums - 1.0)))
        raise ValueError(
            f"the coefficients of every bead must add up to 1, so that beads move with the atoms; "
            f"those of bead {bead} add up to {sums[bead]:.6g}"
        )
    if np.linalg.matrix_rank(matrix) < len(matrix):
        raise ValueError(
            "the beads depend on each other: the position map has rank "
            f"{np.linalg.matrix_rank(matrix)}, expected {len(matrix)}"
        )
    pairs = np.asarray(constraints, int).reshape(-1, 2)
    if pairs.size and not (pairs.min() >= 0 and pairs.max() < matrix.shape[1]):
        raise ValueError(
            f"constraints name atoms from 0 to {matrix.shape[1] - 1}, got {pairs.min()} to "
            f"{pairs.max()}"
        )
    return matrix, pairs


def _conditions(matrix: np.ndarray, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows that act on the coefficients of a bead, and what they are to give for each bead."""
    rigid = np.zeros((len(pairs), matrix.shape[1]))
    rigid[np.arange(len(pairs)), pairs[:, 0]] = 1.0
    rigid[np.arange(len(pairs)), pairs[:, 1]] -= 1.0
    wanted = np.hstack([np.eye(len(matrix)), np.zeros((len(matrix), len(pairs)))])
    return np.vstack([matrix, rigid]), wanted


def _tied(pairs: np.ndarray, atom_count: int) -> np.ndarray:
    """One where two atoms are the same or tied by a chain of rigid bonds."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    ones = np.ones(len(pairs))
    graph = coo_matrix((ones, (pairs[:, 0], pairs[:, 1])), shape=(atom_count, atom_count))
    of = connected_components(graph, directed=False)[1]
    return (of[:, None] == of).astype(float)


def _null_space(conditions: np.ndarray) -> np.ndarray:
    from scipy.linalg import null_space

    return null_space(conditions)
