r"""From atoms to beads: linear maps of positions, and the maps of forces that belong to them.

Beads are at :math:`R_I = \sum_i M_{Ii} r_i`. Mapped forces :math:`F_I = \sum_i W_{Ii} f_i` average
to the mean force of the beads if

.. math:: \sum_i W_{Ii} M_{Ji} = \delta_{IJ}, \qquad W_{Ii} = W_{Ij} \text{ for rigid bonds } ij,

the second because forces along a rigid bond are not those of the potential: a map must not cut it.
Of all such maps that of least mean square force carries the least noise.

Reference:
    Noid et al., J. Chem. Phys. 128, 244114 (2008), doi:10.1063/1.2938860; Ciccotti, Kapral &
    Vanden-Eijnden, ChemPhysChem 6, 1809 (2005), doi:10.1002/cphc.200400669 (constraints); Krämer et
    al., J. Phys. Chem. Lett. 14, 3970 (2023), doi:10.1021/acs.jpclett.3c00444 (least noise).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxff.system import System
from jaxff.types import Float, Int

__all__ = [
    "LinearMap",
    "basic_force_map",
    "centers_of_mass",
    "linear_map",
    "optimal_force_map",
    "rigid_pairs",
    "slices",
]

_TOLERANCE = 1e-8
"""Largest error of a condition on coefficients of order one."""


@dataclass(frozen=True, eq=False)
class LinearMap:
    """Positions and forces of beads; made by :func:`linear_map`, which checks it.

    Attributes:
        positions: M, ``(beads, atoms)``.
        forces: W, ``(beads, atoms)``.
        numbers: What each bead is called in a :class:`jaxff.System`, positive.
        constraints: Rigid pairs of atoms that were heeded.
    """

    positions: Float[np.ndarray, "beads atoms"]
    forces: Float[np.ndarray, "beads atoms"]
    numbers: Int[np.ndarray, " beads"]
    constraints: Int[np.ndarray, "pairs 2"]

    def __call__(self, positions: Any, forces: Any) -> tuple[System, Float[np.ndarray, "..."]]:
        """Beads of a trajectory and the forces on them.

        Molecules must be whole, not wrapped into a cell.

        Args:
            positions: ``(frames, atoms, 3)`` in Å.
            forces: Likewise, in eV/Å.

        Raises:
            ValueError: For arrays of another shape, or numbers that are not finite.
        """
        return self.systems(positions), _mapped(self.forces, forces, "forces")

    def systems(self, positions: Any) -> System:
        """Beads of a trajectory, ``(frames, atoms, 3)`` in Å, as a stack."""
        return System(_mapped(self.positions, positions, "positions"), self.numbers)

    def masses(self, masses: Any) -> Float[np.ndarray, " beads"]:
        r"""Masses of the beads, :math:`1/m_I = \sum_i M_{Ii}^2/m_i`, in the unit of the atoms'."""
        masses = _positive_masses(masses, self.positions.shape[1])
        return 1.0 / np.sum(self.positions**2 / masses, axis=1)


def _mapped(matrix: np.ndarray, values: Any, name: str) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if values.ndim < 2 or values.shape[-2:] != (matrix.shape[1], 3):
        raise ValueError(
            f"the map is for {matrix.shape[1]} atoms: expected {name} (frames, "
            f"{matrix.shape[1]}, 3), got {values.shape}"
        )
    if not np.isfinite(values).all():
        raise ValueError(f"{name} hold numbers that are not finite: leave out such frames")
    return np.einsum("Ii,...ix->...Ix", matrix, values)


def slices(atom_count: int, atoms: Sequence[int]) -> Float[np.ndarray, "beads atoms"]:
    """Position map that keeps some atoms.

    Raises:
        ValueError: If an atom is named twice or does not exist.
    """
    index = _atoms_of([atoms], atom_count)[0]
    matrix = np.zeros((len(index), atom_count))
    matrix[np.arange(len(index)), index] = 1.0
    return matrix


def centers_of_mass(
    groups: Sequence[Sequence[int]], masses: Any
) -> Float[np.ndarray, "beads atoms"]:
    """Position map to centres of mass of groups of atoms.

    Args:
        groups: Atoms of each bead.
        masses: Mass of every atom, in any unit.

    Raises:
        ValueError: For atoms named twice in a group, or that do not exist, and masses that are not
            positive.
    """
    masses = _positive_masses(masses, len(masses))
    matrix = np.zeros((len(groups), len(masses)))
    for bead, index in enumerate(_atoms_of(groups, len(masses))):
        matrix[bead, index] = masses[index] / masses[index].sum()
    return matrix


def _atoms_of(groups: Sequence[Sequence[int]], atom_count: int) -> list[np.ndarray]:
    found = [np.asarray(group, int) for group in groups]
    for index in found:
        if index.ndim != 1 or len(index) == 0 or len(np.unique(index)) < len(index):
            raise ValueError(f"a group is one atom or several different ones, got {index.tolist()}")
        if index.min() < 0 or index.max() >= atom_count:
            raise ValueError(
                f"atoms are counted from 0 to {atom_count - 1}, got {index.min()} to {index.max()}"
            )
    return found


def _positive_masses(masses: Any, count: int) -> np.ndarray:
    masses = np.asarray(masses, np.float64)
    if masses.shape != (count,) or not (masses > 0).all():
        raise ValueError(f"masses must be {count} positive numbers, got {masses}")
    return masses


def linear_map(
    positions: Any,
    numbers: Any,
    *,
    forces: Any = None,
    constraints: Any = (),
) -> LinearMap:
    """A checked map of positions and forces.

    Args:
        positions: M, ``(beads, atoms)``, from :func:`slices`, :func:`centers_of_mass` or any other.
        numbers: What each bead is called, positive integers: atomic numbers, or any others by which
            models tell beads apart.
        forces: W, from :func:`optimal_force_map` or any other; the basic one by default.
        constraints: Rigid pairs of atoms, see :func:`rigid_pairs`.

    Raises:
        ValueError: If beads would not move with the atoms, beads depend on each other, or the force
            map is inconsistent with the positions or cuts a rigid bond.
    """
    matrix, pairs = _checked(positions, constraints)
    numbers = np.asarray(numbers)
    if numbers.shape != (len(matrix),) or numbers.dtype.kind not in "iu" or not (numbers > 0).all():
        raise ValueError(f"numbers must be {len(matrix)} positive integers, got {numbers}")
    weights = basic_force_map(matrix, pairs) if forces is None else np.asarray(forces, np.float64)
    if weights.shape != matrix.shape:
        raise ValueError(f"the force map must have shape {matrix.shape}, got {weights.shape}")
    error = np.abs(weights @ matrix.T - np.eye(len(matrix)))
    if not error.max() <= _TOLERANCE:
        one, other = np.unravel_index(np.argmax(error), error.shape)
        raise ValueError(
            f"the force map is not orthogonal to the position map: the force on bead {one} "
            f"responds to moving bead {other} by {(weights @ matrix.T)[one, other]:.6g}, expected "
            f"{float(one == other):g}; take basic_force_map or optimal_force_map"
        )
    cut = np.abs(weights[:, pairs[:, 0]] - weights[:, pairs[:, 1]])
    if pairs.size and not cut.max() <= _TOLERANCE:
        bead, pair = np.unravel_index(np.argmax(cut), cut.shape)
        i, j = pairs[pair]
        raise ValueError(
            f"the force map of bead {bead} cuts the rigid bond of atoms {i} and {j}: their "
            f"coefficients are {weights[bead, i]:.6g} and {weights[bead, j]:.6g}, which must be "
            "equal, as the force along the bond is not known; give constraints to basic_force_map"
        )
    return LinearMap(matrix, weights, numbers.astype(int), pairs)


def basic_force_map(positions: Any, constraints: Any = ()) -> Float[np.ndarray, "beads atoms"]:
    """The sum of the forces on the atoms of each bead, and on those that rigid bonds tie to them.

    Where beads share atoms, the nearest map that is consistent.

    Raises:
        ValueError: If no map is consistent, as when a rigid bond joins two beads.
    """
    matrix, pairs = _checked(positions, constraints)
    conditions, wanted = _conditions(matrix, pairs)
    start = (matrix != 0.0).astype(float) @ _tied(pairs, matrix.shape[1])
    start = np.minimum(start, 1.0)
    missing = wanted - start @ conditions.T
    weights = start + missing @ np.linalg.pinv(conditions).T
    if np.abs(weights @ conditions.T - wanted).max() > _TOLERANCE:
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

    Args:
        positions: M, ``(beads, atoms)``.
        forces: Forces on the atoms, ``(frames, atoms, 3)``, of frames that need not be those that
            are mapped later.
        constraints: Rigid pairs of atoms.
        ridge: Weight of the squared distance from the basic map, relative to the mean square force
            on an atom, for few frames.

    Raises:
        ValueError: If no map is consistent, or frames are too few.
    """
    matrix, pairs = _checked(positions, constraints)
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


def _checked(positions: Any, constraints: Any) -> tuple[np.ndarray, np.ndarray]:
    matrix = np.asarray(positions, np.float64)
    if matrix.ndim != 2 or not np.isfinite(matrix).all():
        raise ValueError(f"the position map must be finite (beads, atoms), got {matrix.shape}")
    sums = matrix.sum(axis=1)
    if np.abs(sums - 1.0).max() > _TOLERANCE:
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
