r"""Phonons of a crystal from the exact second derivatives of one supercell.

Moving an atom of one primitive cell pulls at all atoms of the supercell. With these force constants
the dynamical matrix at a wave vector q is

.. math::
    D_{k\alpha,k'\beta}(q) = \frac{1}{\sqrt{m_k m_{k'}}} \sum_j
        \Phi_{k\alpha,j\beta} \, \langle e^{i q \cdot (r_j - r_k)} \rangle

over the atoms j of the supercell that translations make equal to k'. The mean is over the images of
j that are nearest to k: at the border of the supercell there are several. At wave vectors that are
*commensurate*, with a wave that repeats with the supercell, all images have the same phase and the
result is that of the potential itself. Elsewhere it is interpolated: right as far as the potential
reaches no farther than half of the supercell. Fields of polar crystals (the splitting of
longitudinal and transversal optical modes at long wavelengths) reach farther and are not added.

All that follows the derivatives runs on the host, in float64.

Reference:
    Parlinski, Li & Kawazoe, Phys. Rev. Lett. 78, 4063 (1997), doi:10.1103/PhysRevLett.78.4063, for
    supercells and shared images; Togo & Tanaka, Scr. Mater. 108, 1 (2015),
    doi:10.1016/j.scriptamat.2015.07.021.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxff import units
from jaxff.derivatives import forces
from jaxff.descriptors.inverse_distances import InverseDistances
from jaxff.descriptors.periodic import SmoothImages, warn_of_ties
from jaxff.gdml.potential import KernelPotential
from jaxff.kernels.space_groups import primitive_cell
from jaxff.neighbors import Neighbors, neighbor_list
from jaxff.potential import EnergyFn, as_pytree
from jaxff.system import System
from jaxff.types import Array, Bool, Complex, Float, Int
from jaxff.vibrations.supercells import Supercell, supercell_of

__all__ = ["PhononModes", "Phonons", "phonons"]

_TOGETHER = 6
"""Displacements whose forces are differentiated at once."""

_ASYMMETRY = 1e-3
"""Difference of equal force constants, relative to the largest, that passes without a warning."""

_TERAHERTZ = 1e3 / (2.0 * np.pi * units.TIME)
"""THz of the root of an eigenvalue in eV/(amu Å²)."""


@dataclass(frozen=True)
class PhononModes:
    r"""Modes at some wave vectors, lowest first.

    Attributes:
        points: Wave vectors in fractions of the reciprocal vectors of the primitive cell.
        frequencies: THz; imaginary ones are negative.
        eigenvectors: Polarisations, orthonormal and weighted by the roots of the masses: atom k in
            the cell at L moves as the real part of
            :math:`e_k/\sqrt{m_k}\, e^{iq\cdot(r_k + L)}`.
        exact: Whether the wave repeats with the supercell; the other points are interpolated.
    """

    points: Float[np.ndarray, "points 3"]
    frequencies: Float[np.ndarray, "points modes"]
    eigenvectors: Complex[np.ndarray, "points modes atoms 3"]
    exact: Bool[np.ndarray, " points"]


@dataclass(frozen=True)
class Phonons:
    """Force constants of a crystal.

    Attributes:
        crystal: How the supercell repeats the primitive cell.
        masses: Of the atoms of the primitive cell, amu.
        force_constants: Second derivatives in eV/Å² by atoms of the primitive cell and all of the
            supercell.
        asymmetry: How far derivatives that symmetry makes equal differ, eV/Å²: far from rounding,
            the model does not have the translations of the crystal.
        sum_rule: What moving all atoms together pulls at one, eV/Å²: zero but for rounding (the
            acoustic sum rule) if the energy does not depend on where the crystal is. It is neither
            imposed nor corrected.
        largest_force: On an atom, eV/Å.
    """

    crystal: Supercell
    masses: Float[np.ndarray, " basis"]
    force_constants: Float[np.ndarray, "basis atoms 3 3"]
    asymmetry: float
    sum_rule: float
    largest_force: float

    @property
    def commensurate_points(self) -> Float[np.ndarray, "cells 3"]:
        """The wave vectors at which phonons are exact, as many as primitive cells."""
        return self.crystal.commensurate_points

    def dynamical_matrix(self, points: Any) -> Complex[np.ndarray, "points components components"]:
        """Dynamical matrices in eV/(amu Å²), Hermitian.

        Args:
            points: Wave vectors ``(points, 3)`` in fractions of the reciprocal vectors.

        Raises:
            ValueError: For another shape, or what is not finite.
        """
        points = np.asarray(points, np.float64)
        if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
            raise ValueError(
                f"wave vectors must be finite numbers of shape (points, 3), got shape "
                f"{points.shape}"
            )
        basis, own = len(self.masses), self.crystal
        result = np.zeros((len(points), basis, 3, basis, 3), complex)
        for k in range(basis):
            images = own.nearest_images(k)
            phase = np.exp(2j * np.pi * points @ own.fractions(images.vectors).T) * images.weights
            for other in range(basis):
                chosen = np.flatnonzero(own.kinds[images.atoms] == other)
                blocks = self.force_constants[k, images.atoms[chosen]]
                result[:, k, :, other] = np.einsum("qn,nab->qab", phase[:, chosen], blocks)
        result = result.reshape(len(points), 3 * basis, 3 * basis)
        result = 0.5 * (result + result.conj().swapaxes(1, 2))
        return result / np.sqrt(np.outer(*2 * [np.repeat(self.masses, 3)]))

    def modes(self, points: Any) -> PhononModes:
        """Frequencies and polarisations at some wave vectors.

        Args:
            points: Wave vectors ``(points, 3)`` in fractions of the reciprocal vectors.

        Raises:
            ValueError: For another shape, or what is not finite.
        """
        values, vectors = np.linalg.eigh(self.dynamical_matrix(points))
        shape = (*values.shape, len(self.masses), 3)
        return PhononModes(
            np.asarray(points, np.float64),
            np.sign(values) * _TERAHERTZ * np.sqrt(np.abs(values)),
            vectors.swapaxes(1, 2).reshape(shape),
            self.crystal.is_commensurate(points),
        )

    def frequencies(self, points: Any) -> Float[np.ndarray, "points modes"]:
        """Frequencies in THz at some wave vectors, see :meth:`modes`."""
        return self.modes(points).frequencies


def phonons(
    energy_fn: EnergyFn,
    supercell: System,
    primitive: Any = None,
    *,
    masses: Any = None,
    neighbors: Neighbors | None = None,
    average: bool = False,
    max_force: float = 0.01,
    tolerance: float = 1e-3,
) -> Phonons:
    """Phonons from the second derivatives of an energy in a supercell.

    Args:
        energy_fn: Energy function of ``(system, neighbors)``: any kernel, network or pair
            potential; twice differentiable at the ideal lattice, so of the descriptors of all pairs
            take the smooth one (:func:`jaxff.descriptors.smooth_images`).
        supercell: The ideal crystal, a single system with a cell, relaxed; Å, float64.
        primitive: Lattice vectors of the primitive cell as rows in Å (those of directions that do
            not repeat mean nothing); by default the smallest ones, found by spglib.
        masses: Masses in amu of all atoms; by default the standard ones of the elements.
        neighbors: Pair lists; by default built with the cutoffs of the potential.
        average: Take the mean over all atoms that translations make equal: for models that are not
            invariant under these, at the cost of the whole Hessian.
        max_force: Largest force in eV/Å that passes without a warning.
        tolerance: How far atoms may be from ideal positions, in Å.

    Warns:
        UserWarning: If a force is larger than ``max_force``, force constants that should be equal
            differ by more than 0.1 % of the largest, or the descriptor of a kernel has kinks at
            this lattice.

    Raises:
        ValueError: If the system is no single crystal, the primitive cell does not fit into it, or
            derivatives are not finite.
        ImportError: If spglib is needed and missing.
    """
    if supercell.batch_shape or supercell.is_packed:
        raise ValueError("phonons takes a single supercell, got a stack or a pack")
    if primitive is None:
        primitive = primitive_cell(supercell, tolerance=tolerance)
    crystal = supercell_of(supercell, primitive, tolerance=tolerance)
    weights = units.masses(np.asarray(supercell.numbers)) if masses is None else masses
    weights = _checked_masses(weights, crystal)
    cutoffs = getattr(energy_fn, "cutoffs", ())
    if neighbors is None and cutoffs:
        neighbors = neighbor_list(cutoffs).allocate(supercell)
    moved = np.arange(len(crystal.kinds)) if average else crystal.representatives
    _warn_of_kinks(energy_fn, supercell)
    energy_fn = as_pytree(energy_fn)
    pull, pulled = _derivatives(energy_fn, supercell, neighbors, jnp.asarray(moved))
    constants = np.asarray(pulled, np.float64)
    if not np.isfinite(constants).all():
        raise ValueError(
            "second derivatives of the energy are not finite here: is this a crystal, and the "
            "potential twice differentiable at it?"
        )
    if average:
        constants = crystal.mean_over_translations(constants)
    largest = float(np.linalg.norm(np.asarray(pull, np.float64), axis=-1).max())
    found = Phonons(
        crystal,
        weights,
        constants,
        crystal.asymmetry(constants),
        float(np.abs(constants.sum(axis=1)).max()),
        largest,
    )
    _warn(found, max_force, average)
    return found


def _checked_masses(masses: Any, crystal: Supercell) -> Float[np.ndarray, " basis"]:
    masses = np.asarray(masses, np.float64)
    atoms = len(crystal.kinds)
    if masses.shape != (atoms,) or not np.all(np.isfinite(masses) & (masses > 0)):
        raise ValueError(f"masses must be {atoms} positive numbers in amu, got {masses}")
    own = masses[crystal.representatives]
    if np.abs(masses - own[crystal.kinds]).max() > 0:
        raise ValueError("masses of atoms that translations make equal must be equal")
    return own


@jax.jit
def _derivatives(
    energy_fn: Any, system: System, neighbors: Neighbors | None, moved: Int[Array, " moved"]
) -> tuple[Array, Float[Array, "moved atoms 3 3"]]:
    """Forces, and second derivatives by some atoms (first) and all atoms (second), in eV/Å²."""

    def pull(positions: Array) -> Array:
        return forces(energy_fn)(system.replace(positions=positions), neighbors)

    def along(which: Array) -> Array:
        direction = jnp.zeros_like(system.positions).at[moved[which // 3], which % 3].set(1.0)
        return -jax.jvp(pull, (system.positions,), (direction,))[1]

    rows = jax.lax.map(along, jnp.arange(3 * len(moved)), batch_size=_TOGETHER)
    rows = rows.reshape(len(moved), 3, *system.positions.shape)
    return pull(system.positions), jnp.swapaxes(rows, 1, 2)


def _warn_of_kinks(energy_fn: EnergyFn, supercell: System) -> None:
    """Of pairs with two nearest images, where sharp descriptors of all pairs have no derivative."""
    potential = getattr(energy_fn, "potential", None)
    if isinstance(potential, KernelPotential):
        descriptor = getattr(potential.kernel, "descriptor", None)
        if isinstance(descriptor, InverseDistances) and not isinstance(descriptor, SmoothImages):
            warn_of_ties(supercell)


def _warn(found: Phonons, max_force: float, average: bool) -> None:
    if not found.largest_force <= max_force:
        warnings.warn(
            f"the crystal is no stationary point: the largest force is {found.largest_force:.3g} "
            "eV/Å; relax it first, or its phonons mean little",
            UserWarning,
            stacklevel=3,
        )
    largest = float(np.abs(found.force_constants).max())
    if found.asymmetry > _ASYMMETRY * largest:
        remedy = "" if average else "; take average=True, or a model with these symmetries"
        warnings.warn(
            f"force constants that should be equal differ by {found.asymmetry:.2g} eV/Å², the "
            f"largest being {largest:.3g}: the energy is not invariant under translations of the "
            f"primitive cell{remedy}",
            UserWarning,
            stacklevel=3,
        )
