r"""Quantum averages from the beads of a path integral (:func:`jaxff.dynamics.path_integral`).

Replicas of the trajectory are the beads; positions must not be wrapped, or rings would be torn.

Reference:
    Barker, J. Chem. Phys. 70, 2914 (1979), doi:10.1063/1.437829 (primitive estimator); Herman,
    Bruskin & Berne, J. Chem. Phys. 76, 5150 (1982), doi:10.1063/1.442815 (virial estimator, here
    about the centroid).
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from jaxff import dynamics, units
from jaxff.analysis.motion import velocity_autocorrelation
from jaxff.dynamics import Trajectory
from jaxff.types import Float

__all__ = [
    "Correlation",
    "QuantumEnergies",
    "centroids",
    "kubo_autocorrelation",
    "quantum_energies",
    "radius_of_gyration",
]


class QuantumEnergies(NamedTuple):
    """Estimators in eV, one number for each frame; their averages are those of the quantum system.

    Attributes:
        potential: Mean potential energy of the beads.
        primitive_kinetic: Kinetic energy from the springs; its spread grows with the beads.
        virial_kinetic: Kinetic energy from the forces about the centroid; it has the same average,
            and a spread that does not grow.
    """

    potential: Float[np.ndarray, " frames"]
    primitive_kinetic: Float[np.ndarray, " frames"]
    virial_kinetic: Float[np.ndarray, " frames"]


class Correlation(NamedTuple):
    """A time correlation function and the standard error of each of its values.

    Attributes:
        times: Lags in fs.
        values: Å²/fs² for velocities.
        standard_errors: From the spread over starts.
    """

    times: Float[np.ndarray, " lags"]
    values: Float[np.ndarray, " lags"]
    standard_errors: Float[np.ndarray, " lags"]


def quantum_energies(trajectory: Trajectory, temperature: float) -> QuantumEnergies:
    r"""Potential energy of the nuclei and their kinetic energy, the latter twice.

    .. math::
        K_{prim} = \frac{3NP}{2\beta} - \sum_{ib} \frac{m_i\omega_P^2}{2P} (r_{ib} - r_{i,b+1})^2,
        \quad
        K_{vir} = \frac{3N}{2\beta} - \frac{1}{2P} \sum_{ib} (r_{ib} - \bar r_i) \cdot F_{ib} .

    Args:
        trajectory: Run of :func:`jaxff.dynamics.path_integral`.
        temperature: Its temperature in K.

    Raises:
        ValueError: If the trajectory has no beads, or the temperature is not positive.
    """
    beads = _beads(trajectory)
    if not 0.0 < temperature < float("inf"):
        raise ValueError(f"temperature must be a positive number in K, got {temperature}")
    thermal = units.BOLTZMANN * temperature
    place = np.asarray(trajectory.positions, np.float64)
    force = np.asarray(trajectory.forces, np.float64)
    free = 1.5 * len(trajectory.masses) * thermal
    # m omega^2 in eV/Å² with masses in amu.
    stiffness = trajectory.masses * (units.TIME * beads * thermal / units.REDUCED_PLANCK) ** 2
    apart = place - np.roll(place, -1, axis=0)
    springs = 0.5 * np.einsum("bfic,i->f", apart**2, stiffness)
    virial = np.sum((place - place.mean(axis=0)) * force, axis=(0, 2, 3))
    return QuantumEnergies(
        np.asarray(trajectory.potential_energy, np.float64).mean(axis=0),
        beads * free - springs / beads,
        free - 0.5 * virial / beads,
    )


def centroids(trajectory: Trajectory) -> Trajectory:
    r"""The middles of the rings as a trajectory of their own.

    With little friction their velocities and positions give time correlation functions in the
    approximation of ring-polymer dynamics: spectra and diffusion are those of
    :mod:`jaxff.vibrations` and :func:`jaxff.analysis.diffusion`. Potential energies and forces are
    means over the beads; the kinetic energy is that of the middles.

    Raises:
        ValueError: If the trajectory has no beads.

    Reference:
        Craig & Manolopoulos, J. Chem. Phys. 121, 3368 (2004), doi:10.1063/1.1777575.
    """
    _beads(trajectory)
    mean = {
        name: np.asarray(getattr(trajectory, name), np.float64).mean(axis=0)
        for name in ("positions", "velocities", "forces", "potential_energy")
    }
    kinetic = dynamics.kinetic_energy(mean["velocities"], trajectory.masses)
    freedom = 3 * len(trajectory.masses)
    return replace(
        trajectory,
        **mean,
        cell=None if trajectory.cell is None else trajectory.cell[0],
        kinetic_energy=kinetic,
        temperature=dynamics.temperature(kinetic, freedom),
        degrees_of_freedom=freedom,
        half_step_kinetic_energy=None,
        conserved_energy=None,
    )


def kubo_autocorrelation(segments: Iterable[Trajectory], *, atoms: Any = None) -> Correlation:
    r"""Quantum velocity autocorrelation in the approximation of ring-polymer dynamics.

    The autocorrelation of the velocities of centroids approximates that of Kubo,
    :math:`\frac1{\beta Z}\int_0^\beta d\lambda\, \mathrm{tr}[e^{-(\beta-\lambda)H} v\,
    e^{-\lambda H} v(t)]`: exact for harmonic potentials, for classical particles, and at short
    times. A third of its integral is the diffusion coefficient.

    Args:
        segments: Runs of the same length at constant energy, from starts that a thermostat made:
            those of :func:`jaxff.dynamics.ring_polymers`.
        atoms: Which atoms count, as indices or a mask; by default all.

    Raises:
        ValueError: If there are fewer than two, they have no beads, or other frames.

    Reference:
        Craig & Manolopoulos, J. Chem. Phys. 121, 3368 (2004), doi:10.1063/1.1777575.
    """
    found, times = [], None
    for segment in segments:
        lags = segment.times - segment.times[0]
        if times is not None and (lags.shape != times.shape or not np.allclose(lags, times)):
            raise ValueError(
                f"segments must have the same times, got {len(times)} frames and {len(lags)}"
            )
        times = lags
        found.append(velocity_autocorrelation(centroids(segment).velocities, atoms=atoms))
    if times is None or len(found) < 2:
        raise ValueError(f"errors need at least 2 segments, got {len(found)}")
    values = np.array(found)
    error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
    return Correlation(times, values.mean(axis=0), error)


def radius_of_gyration(trajectory: Trajectory) -> Float[np.ndarray, "frames atoms"]:
    r"""Extension :math:`\sqrt{\langle |r_b - \bar r|^2 \rangle_b}` in Å of the ring of each atom.

    A free particle has :math:`\hbar/\sqrt{4 m k_B T}` in the limit of many beads.

    Raises:
        ValueError: If the trajectory has no beads.
    """
    _beads(trajectory)
    place = np.asarray(trajectory.positions, np.float64)
    return np.sqrt(np.sum((place - place.mean(axis=0)) ** 2, axis=-1).mean(axis=0))


def _beads(trajectory: Trajectory) -> int:
    if trajectory.replicas is None or trajectory.restart.ensemble != "path-integral":
        raise ValueError(
            "expected the beads of a path integral, got a run of "
            f"{trajectory.restart.ensemble!r} with {trajectory.replicas} replicas"
        )
    return trajectory.replicas
