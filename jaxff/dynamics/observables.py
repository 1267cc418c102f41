"""What one reads off a trajectory: temperature, conserved quantities, energy drift.

Functions of host arrays with any leading axes (frames); velocities in Å/fs, masses in amu.
"""

from typing import NamedTuple

import numpy as np

from jaxff import units
from jaxff.types import Float

__all__ = [
    "Drift",
    "angular_momentum",
    "degrees_of_freedom",
    "energy_drift",
    "inefficiency",
    "kinetic_energy",
    "temperature",
    "total_momentum",
]


class Drift(NamedTuple):
    """Linear energy drift in meV/atom/ps and its standard error."""

    slope: float
    standard_error: float


def kinetic_energy(
    velocities: Float[np.ndarray, "*frames atoms 3"], masses: Float[np.ndarray, " atoms"]
) -> Float[np.ndarray, "*frames"]:
    """Kinetic energy in eV."""
    return np.asarray(0.5 * units.TIME**2 * np.sum(masses[:, None] * velocities**2, axis=(-2, -1)))


def temperature(
    kinetic: Float[np.ndarray, "*frames"] | float, degrees_of_freedom: int
) -> Float[np.ndarray, "*frames"]:
    r"""Kinetic temperature :math:`2 K / (f k_B)` in K of kinetic energies in eV.

    Raises:
        ValueError: If there are no degrees of freedom.
    """
    if degrees_of_freedom < 1:
        raise ValueError(f"degrees_of_freedom must be at least 1, got {degrees_of_freedom}")
    return np.asarray(2.0 * np.asarray(kinetic) / (degrees_of_freedom * units.BOLTZMANN))


def total_momentum(
    velocities: Float[np.ndarray, "*frames atoms 3"], masses: Float[np.ndarray, " atoms"]
) -> Float[np.ndarray, "*frames 3"]:
    """Total momentum in amu Å/fs."""
    return np.sum(masses[:, None] * velocities, axis=-2)


def angular_momentum(
    positions: Float[np.ndarray, "*frames atoms 3"],
    velocities: Float[np.ndarray, "*frames atoms 3"],
    masses: Float[np.ndarray, " atoms"],
) -> Float[np.ndarray, "*frames 3"]:
    """Angular momentum about the centre of mass in amu Å²/fs."""
    weights = masses[:, None]
    centred = positions - np.sum(weights * positions, axis=-2, keepdims=True) / masses.sum()
    return np.sum(weights * np.cross(centred, velocities), axis=-2)


def degrees_of_freedom(
    positions: Float[np.ndarray, "atoms 3"],
    velocities: Float[np.ndarray, "atoms 3"],
    masses: Float[np.ndarray, " atoms"],
    *,
    periodic: bool,
) -> int:
    """Degrees of freedom that share the kinetic energy in a run that conserves momentum.

    3 N, less 3 if the total momentum vanishes, less the number of rotations (3, or 2 for two atoms)
    if nothing is periodic and the angular momentum vanishes too. A larger molecule that starts
    straight bends at once, and then conserves three components. A single atom keeps its 3.
    """
    count = 3 * len(masses)
    if len(masses) == 1:
        return count
    scale = 1e-4 * np.sum(masses[:, None] * np.abs(velocities))
    if np.linalg.norm(total_momentum(velocities, masses)) > scale:
        return count
    count -= 3
    centred = positions - masses @ positions / masses.sum()
    spin = np.linalg.norm(angular_momentum(positions, velocities, masses))
    if periodic or spin > scale * np.abs(centred).max():
        return count
    return count - (2 if len(masses) == 2 else 3)


def energy_drift(
    times: Float[np.ndarray, " frames"], total_energy: Float[np.ndarray, " frames"], atoms: int
) -> Drift:
    r"""Slope of the total energy over time by least squares, in meV/atom/ps.

    The standard error is that of a straight-line fit, enlarged by the square root of the
    statistical inefficiency of the residuals (never made smaller), as neighbouring frames are
    correlated. Fast vibrations hide a slow wander from it; so it is found for averages over blocks
    of 2, 4, 8, ... frames, too, as long as there are 16 of them, and the largest is given.

    Args:
        times: Times in fs.
        total_energy: Conserved energy in eV.
        atoms: Number of atoms.

    Raises:
        ValueError: If there are fewer than three frames.
    Reference:
        Geyer, Stat. Sci. 7, 473 (1992), doi:10.1214/ss/1177011137 (initial positive sequence);
        Flyvbjerg & Petersen, J. Chem. Phys. 91, 461 (1989), doi:10.1063/1.457480 (blocks).
    """
    times, energy = np.asarray(times, np.float64), np.asarray(total_energy, np.float64)
    if len(times) < 3:
        raise ValueError(f"a slope with an error needs at least 3 frames, got {len(times)}")
    centred = (times - times.mean()) * 1e-3
    energy = (energy - energy.mean()) * 1e3 / atoms
    slope = np.sum(centred * energy) / np.sum(centred**2)
    residuals, errors = energy - slope * centred, []
    while len(residuals) >= 16 or not errors:
        spread = np.sum((centred - centred.mean()) ** 2)
        variance = np.sum(residuals**2) / (len(residuals) - 2)
        errors.append(float(np.sqrt(variance * inefficiency(residuals) / spread)))
        centred, residuals = _pair_means(centred), _pair_means(residuals)
    return Drift(float(slope), max(errors))


def _pair_means(series: Float[np.ndarray, " frames"]) -> Float[np.ndarray, " half"]:
    return series[: len(series) // 2 * 2].reshape(-1, 2).mean(axis=1)


def inefficiency(series: Float[np.ndarray, " frames"]) -> float:
    r"""Statistical inefficiency :math:`1 + 2 \sum_t \rho(t)`, at least 1.

    The sum ends where the correlation, in pairs of lags, first turns negative.

    Reference:
        Geyer, Stat. Sci. 7, 473 (1992), doi:10.1214/ss/1177011137 (initial positive sequence).
    """
    series = np.asarray(series, np.float64)
    count = len(series)
    centred = series - series.mean()
    correlation = np.fft.irfft(np.abs(np.fft.rfft(centred, 2 * count)) ** 2)[:count]
    if not correlation[0] > 0.0:
        return 1.0
    correlation = correlation / correlation[0]
    pairs = correlation[: count - count % 2].reshape(-1, 2).sum(axis=1)
    negative = np.flatnonzero(pairs <= 0.0)
    last = negative[0] if len(negative) else len(pairs)
    return max(1.0, 2.0 * float(pairs[:last].sum()) - 1.0)
