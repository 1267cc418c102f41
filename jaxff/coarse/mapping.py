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

from jaxff.coarse.force_maps import TOLERANCE, basic_force_map, checked
from jaxff.system import System
from jaxff.types import Float, Int

__all__ = ["LinearMap", "centers_of_mass", "linear_map", "slices"]


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
        forces: W, from :func:`jaxff.coarse.optimal_force_map` or any other; by default the basic
            one.
        constraints: Rigid pairs of atoms, see :func:`jaxff.coarse.rigid_pairs`.

    Raises:
        ValueError: If beads would not move with the atoms, beads depend on each other, or the force
            map is inconsistent with the positions or cuts a rigid bond.
    """
    matrix, pairs = checked(positions, constraints)
    numbers = np.asarray(numbers)
    if numbers.shape != (len(matrix),) or numbers.dtype.kind not in "iu" or not (numbers > 0).all():
        raise ValueError(f"numbers must be {len(matrix)} positive integers, got {numbers}")
    weights = basic_force_map(matrix, pairs) if forces is None else np.asarray(forces, np.float64)
    if weights.shape != matrix.shape:
        raise ValueError(f"the force map must have shape {matrix.shape}, got {weights.shape}")
    error = np.abs(weights @ matrix.T - np.eye(len(matrix)))
    if not error.max() <= TOLERANCE:
        one, other = np.unravel_index(np.argmax(error), error.shape)
        raise ValueError(
            f"the force map is not orthogonal to the position map: the force on bead {one} "
            f"responds to moving bead {other} by {(weights @ matrix.T)[one, other]:.6g}, expected "
            f"{float(one == other):g}; take basic_force_map or optimal_force_map"
        )
    cut = np.abs(weights[:, pairs[:, 0]] - weights[:, pairs[:, 1]])
    if pairs.size and not cut.max() <= TOLERANCE:
        bead, pair = np.unravel_index(np.argmax(cut), cut.shape)
        i, j = pairs[pair]
        raise ValueError(
            f"the force map of bead {bead} cuts the rigid bond of atoms {i} and {j}: their "
            f"coefficients are {weights[bead, i]:.6g} and {weights[bead, j]:.6g}, which must be "
            "equal, as the force along the bond is not known; give constraints to basic_force_map"
        )
    return LinearMap(matrix, weights, numbers.astype(int), pairs)
