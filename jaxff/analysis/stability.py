"""How long runs stay sound."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxff.analysis.geometry import bonds_of, distances
from jaxff.types import Float

__all__ = ["Survival", "survival", "time_to_failure"]


def time_to_failure(
    positions: Any,
    times: Any,
    numbers: Any,
    *,
    energy: Any = None,
    reference: Any = None,
    stretch: float = 1.5,
    deviation: float | None = None,
    cell: Any = None,
    pbc: Any = None,
) -> float | None:
    """First time at which a bond leaves its range, or a position or the energy is not finite.

    Args:
        positions: Å, ``(frames, atoms, 3)``.
        times: fs, of each frame.
        numbers: Atomic numbers.
        energy: eV, of each frame.
        reference: Geometry in Å that defines the bonds; by default the first frame.
        stretch: A bond is broken beyond this multiple of its length in the reference.
        deviation: Given, the range is the length in the reference plus or minus so many Å instead.
        cell: Lattice vectors in Å.
        pbc: Periodic directions.

    Returns:
        The time in fs, or ``None`` if the run is sound to its end.

    Raises:
        ValueError: If shapes do not fit or the reference is not finite.

    Reference:
        Fu et al., Trans. Mach. Learn. Res. (2023), arXiv:2210.07237 (a deviation of 0.5 Å).
    """
    positions, times = np.asarray(positions, np.float64), np.asarray(times, np.float64)
    if positions.ndim != 3 or len(positions) != len(times) or not len(times):
        raise ValueError(
            f"expected positions (frames, atoms, 3) and a time for each frame, got "
            f"{positions.shape} and {times.shape}"
        )
    start = positions[0] if reference is None else np.asarray(reference, np.float64)
    if not np.isfinite(start).all():
        raise ValueError("the reference geometry is not finite")
    failed = ~np.isfinite(positions).all(axis=(1, 2))
    if energy is not None:
        failed |= ~np.isfinite(np.asarray(energy, np.float64))
    pairs = bonds_of(numbers, start, cell, pbc)
    if len(pairs):
        lengths = distances(start, pairs, cell, pbc)
        safe = np.where(np.isfinite(positions), positions, 0.0)
        seen = distances(safe, pairs, cell, pbc)
        if deviation is None:
            failed |= (seen > stretch * lengths).any(axis=1)
        else:
            failed |= (np.abs(seen - lengths) > deviation).any(axis=1)
    index = np.flatnonzero(failed)
    return float(times[index[0]]) if len(index) else None


@dataclass(frozen=True)
class Survival:
    """Replicas that last, by Kaplan and Meier.

    Attributes:
        times: Times of failure, ascending, in the unit given.
        fraction: Share that lasts beyond each of them.
        standard_error: Of the share, by Greenwood's formula.
        failures: Number of replicas that failed.
        replicas: Number of replicas.
        restricted_mean: Mean time to failure within the longest time observed; a lower bound of the
            mean if some replicas lasted.
    """

    times: Float[np.ndarray, " events"]
    fraction: Float[np.ndarray, " events"]
    standard_error: Float[np.ndarray, " events"]
    failures: int
    replicas: int
    restricted_mean: float


def survival(observed: Any, failed: Any) -> Survival:
    """Survival of replicas, of which some failed and the others were stopped in good health.

    Args:
        observed: Time of failure, or of the end of the run, of each replica.
        failed: True where it failed.

    Raises:
        ValueError: If shapes disagree, there are no replicas, or a time is negative.

    Reference:
        Kaplan & Meier, J. Am. Stat. Assoc. 53, 457 (1958), doi:10.2307/2281868.
    """
    observed, failed = np.asarray(observed, np.float64), np.asarray(failed, bool)
    if observed.ndim != 1 or observed.shape != failed.shape or not len(observed):
        raise ValueError(
            f"expected a time and a flag per replica, got {observed.shape} and {failed.shape}"
        )
    if not np.all(observed >= 0):
        raise ValueError(f"times must not be negative, got {observed.min()}")
    times = np.unique(observed[failed])
    at_risk = np.array([np.sum(observed >= t) for t in times], float)
    events = np.array([np.sum(failed & (observed == t)) for t in times], float)
    fraction = np.cumprod(1.0 - events / at_risk)
    left = at_risk - events
    terms = np.where(left > 0, events / (at_risk * np.where(left > 0, left, 1.0)), 0.0)
    error = fraction * np.sqrt(np.cumsum(terms))
    knots = np.concatenate([[0.0], times, [observed.max()]])
    steps = np.concatenate([[1.0], fraction])
    mean = float(np.sum(steps * np.diff(knots)))
    return Survival(times, fraction, error, int(failed.sum()), len(observed), mean)
