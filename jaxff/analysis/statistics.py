"""Averages of correlated series with honest errors."""

from typing import NamedTuple

import numpy as np

from jaxff.dynamics.observables import energy_drift, inefficiency
from jaxff.dynamics.trajectory import Trajectory
from jaxff.types import Float

__all__ = ["Estimate", "blocking", "correlation_time", "estimate", "inefficiency", "summary"]


class Estimate(NamedTuple):
    """A mean, its standard error, and how many samples make one independent one."""

    mean: float
    standard_error: float
    inefficiency: float


def correlation_time(series: Float[np.ndarray, " frames"], interval: float) -> float:
    """Integrated autocorrelation time in the unit of ``interval``, the time between samples."""
    return 0.5 * interval * inefficiency(series)


def estimate(series: Float[np.ndarray, " frames"]) -> Estimate:
    """Mean of a correlated series; its error counts independent samples only.

    Raises:
        ValueError: If there are fewer than two samples.
    """
    series = np.asarray(series, np.float64)
    if series.ndim != 1 or len(series) < 2:
        raise ValueError(f"an error needs a series of at least 2 samples, got {series.shape}")
    share = inefficiency(series)
    error = np.sqrt(series.var(ddof=1) * share / len(series))
    return Estimate(float(series.mean()), float(error), share)


def blocking(
    series: Float[np.ndarray, " frames"],
) -> tuple[Float[np.ndarray, " levels"], Float[np.ndarray, " levels"]]:
    """Standard error of the mean from blocks of 1, 2, 4, ... samples, and its own uncertainty.

    Where blocks are longer than the correlation the error no longer grows: a check of
    :func:`estimate` by eye.

    Raises:
        ValueError: If there are fewer than four samples.
    Reference:
        Flyvbjerg & Petersen, J. Chem. Phys. 91, 461 (1989), doi:10.1063/1.457480.
    """
    series = np.asarray(series, np.float64)
    if len(series) < 4:
        raise ValueError(f"blocks need at least 4 samples, got {len(series)}")
    errors, uncertainties = [], []
    while len(series) >= 4:
        error = np.sqrt(series.var(ddof=1) / len(series))
        errors.append(error)
        uncertainties.append(error / np.sqrt(2.0 * (len(series) - 1)))
        series = series[: len(series) // 2 * 2].reshape(-1, 2).mean(axis=1)
    return np.array(errors), np.array(uncertainties)


def summary(trajectory: Trajectory) -> dict[str, Estimate]:
    """Means and errors of a run.

    ``temperature`` (K), ``potential_energy``, ``kinetic_energy`` and ``total_energy`` (eV), and
    ``drift`` of the total energy (meV/atom/ps), which means something only at constant energy.

    Raises:
        ValueError: If there are fewer than three frames.
    """
    names = ("temperature", "potential_energy", "kinetic_energy", "total_energy")
    found = {name: estimate(getattr(trajectory, name)) for name in names}
    slope = energy_drift(trajectory.times, trajectory.total_energy, len(trajectory.masses))
    found["drift"] = Estimate(*slope, found["total_energy"].inefficiency)
    return found
