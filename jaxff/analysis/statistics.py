"""Averages of correlated series with honest errors."""

from typing import NamedTuple

import numpy as np

from jaxff.dynamics.observables import energy_drift
from jaxff.dynamics.trajectory import Trajectory
from jaxff.types import Float

__all__ = ["Estimate", "blocking", "correlation_time", "estimate", "inefficiency", "summary"]


class Estimate(NamedTuple):
    """A mean, its standard error, and how many samples make one independent one."""

    mean: float
    standard_error: float
    inefficiency: float


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
