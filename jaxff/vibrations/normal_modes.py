r"""Normal modes of molecules and cells from a Hessian.

The number of modes depends on the geometry (a linear molecule has one more), so this runs on the
host.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxff import units
from jaxff.types import Bool, Float

__all__ = ["NormalModes", "normal_modes", "rigid_motions"]

_LINEAR = 1e-3  # smallest extent, relative to the largest, that counts as an extent
_FLAT = 1.0  # cm⁻¹ within which a frequency is not told from zero


@dataclass(frozen=True)
class NormalModes:
    """Harmonic vibrations, lowest first, without the motions of the whole.

    Attributes:
        frequencies: Wavenumbers in cm⁻¹; imaginary ones are negative.
        displacements: Cartesian displacements of each mode, normalised over all components.
        reduced_masses: Masses in amu of the modes as one-dimensional oscillators.
        masses: Masses of the atoms in amu.
        rigid_frequencies: What the Hessian gives for the translations (first) and rotations that
            were projected out, cm⁻¹; far from zero, the geometry is no minimum or the energy not
            invariant.
        rotations: Number of rotations of the whole: 3, 2 for a linear molecule, 0 for an atom and
            where positions were not given.
    """

    frequencies: Float[np.ndarray, " modes"]
    displacements: Float[np.ndarray, "modes atoms 3"]
    reduced_masses: Float[np.ndarray, " modes"]
    masses: Float[np.ndarray, " atoms"]
    rigid_frequencies: Float[np.ndarray, " motions"]
    rotations: int

    def __len__(self) -> int:
        return len(self.frequencies)

    @property
    def imaginary(self) -> Bool[np.ndarray, " modes"]:
        """Modes along which the energy falls; the geometry is no minimum if there is any."""
        return self.frequencies < -_FLAT

    @property
    def force_constants(self) -> Float[np.ndarray, " modes"]:
        """Force constants in eV/Å² of the modes as one-dimensional oscillators."""
        omega = self.frequencies * units.WAVENUMBER / units.REDUCED_PLANCK
        return np.sign(omega) * self.reduced_masses * (omega * units.TIME) ** 2

    @property
    def zero_point_energy(self) -> float:
        """Half the sum of the real quanta in eV; imaginary modes have none."""
        return 0.5 * units.WAVENUMBER * float(np.sum(np.clip(self.frequencies, 0.0, None)))


def normal_modes(
    hessian: Any,
    masses: Any,
    positions: Any = None,
    *,
    linear: bool | None = None,
    forces: Any = None,
    max_force: float = 0.01,
) -> NormalModes:
    r"""Normal modes: eigenvectors of :math:`H_{ij} / \sqrt{m_i m_j}` free of motions of the whole.

    Translations, and with positions rotations, are projected out before the diagonalisation, so
    that what remains of them at an imperfect minimum does not mix with slow vibrations.

    Args:
        hessian: ``(atoms, 3, atoms, 3)`` or ``(3 atoms, 3 atoms)`` in eV/Å².
        masses: Masses of the atoms in amu (:func:`jaxff.units.masses`).
            Other isotopes are other masses.
        positions: Geometry in Å, for the rotations of a molecule; ``None`` for periodic systems,
            which have none.
        linear: Whether the molecule is linear; by default seen from the positions.
        forces: Forces in eV/Å at the geometry, to warn if it is no stationary point.
        max_force: Largest force in eV/Å that passes without a warning.

    Warns:
        UserWarning: If a force is larger than ``max_force``: harmonic frequencies are those of a
            stationary point.

    Raises:
        ValueError: If shapes disagree, masses are not positive, or the Hessian is not finite and
            symmetric.

    Reference:
        Wilson, Decius, Cross, Molecular Vibrations, McGraw-Hill 1955, chapter 2.
    """
    masses = np.asarray(masses, np.float64)
    matrix = _matrix(hessian, masses)
    weights = np.repeat(np.sqrt(masses), 3)
    rigid = rigid_motions(masses, positions, linear=linear)
    if forces is not None:
        _check_forces(forces, masses, max_force)
    # The right null space of the motions of the whole is the space of vibrations.
    _, _, basis = np.linalg.svd(rigid)
    basis = basis[len(rigid) :]
    weighted = matrix / np.outer(weights, weights)
    values, vectors = np.linalg.eigh(basis @ weighted @ basis.T)
    cartesian = (basis.T @ vectors / weights[:, None]).T
    norms = np.sum(cartesian**2, axis=1)
    return NormalModes(
        frequencies=_wavenumbers(values),
        displacements=(cartesian / np.sqrt(norms)[:, None]).reshape(-1, len(masses), 3),
        reduced_masses=1.0 / norms,
        masses=masses,
        rigid_frequencies=_wavenumbers(np.einsum("ma,ab,mb->m", rigid, weighted, rigid)),
        rotations=len(rigid) - 3,
    )


def _wavenumbers(values: np.ndarray) -> np.ndarray:
    """cm⁻¹ of eigenvalues in eV/(amu Å²), negative where they are."""
    quanta = units.REDUCED_PLANCK / units.TIME * np.sqrt(np.abs(values)) / units.WAVENUMBER
    return np.sign(values) * quanta


def _check_forces(forces: Any, masses: np.ndarray, limit: float) -> None:
    forces = np.asarray(forces, np.float64)
    if forces.shape != (len(masses), 3):
        raise ValueError(f"forces must have the shape ({len(masses)}, 3), got {forces.shape}")
    largest = float(np.sqrt(np.max(np.sum(forces**2, axis=-1))))
    if not largest <= limit:
        warnings.warn(
            f"the geometry is no stationary point: the largest force is {largest:.3g} eV/Å; "
            "relax it first (jaxff.dynamics.relax), or its frequencies mean little",
            UserWarning,
            stacklevel=3,
        )


def rigid_motions(
    masses: Any, positions: Any = None, *, linear: bool | None = None
) -> Float[np.ndarray, "motions components"]:
    """Orthonormal mass-weighted translations and, with positions, rotations.

    Args:
        masses: Masses in amu.
        positions: Geometry in Å; a linear molecule has two rotations, a single atom none.
        linear: Whether it is linear; by default, if no atom is farther from the long axis than a
            thousandth of the length (both weighted by mass).

    Returns:
        One motion per row, ``(3, 5 or 6, 3 atoms)``.

    Raises:
        ValueError: If masses are not positive or positions do not fit.
    """
    masses = np.asarray(masses, np.float64)
    if masses.ndim != 1 or not masses.size or not np.all(np.isfinite(masses) & (masses > 0)):
        raise ValueError(f"masses must be positive numbers in amu, one per atom, got {masses}")
    weights = np.sqrt(masses)[:, None]
    motions = [(weights * axis).ravel() for axis in np.eye(3)]
    if positions is not None:
        positions = np.asarray(positions, np.float64)
        if positions.shape != (len(masses), 3) or not np.all(np.isfinite(positions)):
            raise ValueError(
                f"positions must be finite and of shape ({len(masses)}, 3), got {positions.shape}"
            )
        centred = positions - masses @ positions / masses.sum()
        _, extents, axes = np.linalg.svd(weights * centred, full_matrices=True)
        # Turning about an axis moves atoms only if they extend along one of the other two.
        extents = np.append(extents, np.zeros(3 - len(extents)))
        for index, axis in enumerate(axes):
            across = np.delete(extents, index).max()
            moves = across > _LINEAR * max(extents[0], np.finfo(float).tiny)
            if linear is not None and len(masses) > 1 and index == 0:
                moves = not linear
            if moves:
                motions.append((weights * np.cross(axis, centred)).ravel())
    basis, _ = np.linalg.qr(np.array(motions).T)
    return basis.T


def _matrix(hessian: Any, masses: np.ndarray) -> np.ndarray:
    """The Hessian as a checked, exactly symmetric matrix."""
    matrix = np.asarray(hessian, np.float64)
    size = 3 * len(masses) if masses.ndim == 1 else 0
    if matrix.shape not in ((size // 3, 3, size // 3, 3), (size, size)):
        raise ValueError(
            f"a Hessian of {size // 3} atoms has shape ({size // 3}, 3, {size // 3}, 3) or "
            f"({size}, {size}), got {matrix.shape}"
        )
    matrix = matrix.reshape(size, size)
    asymmetry, largest = np.abs(matrix - matrix.T).max(), np.abs(matrix).max()
    if not asymmetry <= 1e-3 * largest:
        raise ValueError(
            f"the Hessian must be finite and symmetric, got elements that differ by "
            f"{asymmetry:.2g} from their transposes, the largest being {largest:.2g} eV/Å²"
        )
    return 0.5 * (matrix + matrix.T)
