r"""Free energies over collective variables, and how far two ensembles are from each other.

A surface is :math:`F = -k_BT\ln p`, its lowest bin at zero. Errors are those of blocks: replicas,
or parts of a trajectory much longer than its correlation time.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxff import units
from jaxff.linalg.memory import available_bytes, format_bytes
from jaxff.types import Float, Int

__all__ = [
    "Minimum",
    "Population",
    "Surface",
    "chirality",
    "free_energy_surface",
    "inversions",
    "jensen_shannon",
    "kullback_leibler",
    "mean_squared_difference",
    "minima",
    "populations",
]

Limits = Sequence[tuple[float, float]]


class Surface(NamedTuple):
    """Free energy on a grid of bins.

    Attributes:
        centers: Middles of the bins along each variable.
        probability: Share of each bin.
        free_energy: eV; infinite in bins that were never visited.
        error: Standard error of the free energy, eV, over the blocks; NaN in bins that fewer than
            two blocks visited, and without blocks.
        temperature: K.
    """

    centers: tuple[Float[np.ndarray, " bins"], ...]
    probability: Float[np.ndarray, "..."]
    free_energy: Float[np.ndarray, "..."]
    error: Float[np.ndarray, "..."]
    temperature: float


def free_energy_surface(
    values: Any,
    temperature: float,
    *,
    bins: int | Sequence[int] = 60,
    limits: Limits | None = None,
    weights: Any = None,
    blocks: int = 10,
) -> Surface:
    """Free energy over collective variables.

    Args:
        values: ``(frames, variables)``, or ``(replicas, frames, variables)``, for instance
            dihedrals in degrees.
        temperature: K.
        bins: Bins along each variable.
        limits: First and last edge along each; by default -180 and 180.
        weights: Weight of each frame, of the shape of the values without their last axis: the
            inverse Boltzmann factors of a bias.
        blocks: Parts of a trajectory between which errors are estimated; of replicas each is one.

    Raises:
        ValueError: For values outside the limits, weights that are negative or of another shape,
            fewer frames than blocks, and no bins.
        MemoryError: If counts of all bins in all blocks do not fit.
    """
    parts, shares = _blocks(values, weights, blocks)
    edges = _edges(bins, limits, parts[0].shape[-1])
    need = 16.0 * len(parts) * math.prod(len(edge) for edge in edges)
    if need > available_bytes():
        raise MemoryError(
            f"counts of {' × '.join(str(len(edge) - 1) for edge in edges)} bins in {len(parts)} "
            f"blocks need {format_bytes(need)}, {format_bytes(available_bytes())} are free: take "
            "fewer bins or variables"
        )
    for part in parts:
        for column, edge in zip(part.T, edges, strict=True):
            if not ((column >= edge[0]) & (column <= edge[-1])).all():
                raise ValueError(
                    f"values from {column.min():g} to {column.max():g} are outside the limits "
                    f"{edge[0]:g} to {edge[-1]:g}: give limits"
                )
    each_block = zip(parts, shares, strict=True)
    counts = np.stack([np.histogramdd(p, edges, weights=s)[0] for p, s in each_block])
    each = counts.reshape(len(counts), -1).sum(axis=1)
    probability = counts.sum(axis=0) / counts.sum()
    thermal = units.BOLTZMANN * temperature
    with np.errstate(divide="ignore"):
        free = -thermal * np.log(probability)
    centers = tuple(0.5 * (edge[1:] + edge[:-1]) for edge in edges)
    error = thermal * _relative_error(counts, each)
    return Surface(centers, probability, free - free.min(), error, float(temperature))


def _relative_error(counts: np.ndarray, each: np.ndarray) -> np.ndarray:
    """Standard error of the share of bins over the share, that of a ratio of sums over blocks."""
    blocks = len(counts)
    share = counts.sum(axis=0) / each.sum()
    if blocks < 2:
        return np.full(share.shape, np.nan)
    left = counts - share * each.reshape(-1, *(1,) * share.ndim)
    variance = np.sum(left**2, axis=0) * blocks / (blocks - 1) / each.sum() ** 2
    seen = np.sum(counts > 0, axis=0) >= 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(seen, np.sqrt(variance) / share, np.nan)


def _blocks(values: Any, weights: Any, blocks: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Values and weights of each block."""
    values = np.asarray(values, np.float64)
    if values.ndim not in (2, 3) or values.shape[-1] < 1 or values.size == 0:
        raise ValueError(
            f"expected values (frames, variables) or (replicas, frames, variables), got "
            f"{values.shape}"
        )
    weights = np.ones(values.shape[:-1]) if weights is None else np.asarray(weights, np.float64)
    if weights.shape != values.shape[:-1] or not (weights >= 0).all() or not weights.sum() > 0:
        raise ValueError(
            f"weights must be {values.shape[:-1]} numbers that are not negative, got "
            f"{weights.shape}"
        )
    if values.ndim == 3:
        return list(values), list(weights)
    if not 1 <= blocks <= len(values):
        raise ValueError(f"blocks must be 1 to the number of frames, {len(values)}, got {blocks}")
    return np.array_split(values, blocks), np.array_split(weights, blocks)


def _edges(bins: Any, limits: Limits | None, count: int) -> list[np.ndarray]:
    each = np.broadcast_to(bins, (count,))
    if each.min() < 1:
        raise ValueError(f"bins must be at least 1 along each variable, got {bins}")
    given = [(-180.0, 180.0)] if limits is None else limits
    ends = np.broadcast_to(np.asarray(given, float), (count, 2))
    return [np.linspace(end[0], end[1], number + 1) for end, number in zip(ends, each, strict=True)]


def mean_squared_difference(
    surface: Surface, reference: Surface, *, below: float | None = None
) -> float:
    r"""Mean squared difference of two surfaces over the bins that both visited, eV².

    A free energy has an arbitrary zero: surfaces are brought to each other by the constant of the
    least difference. All bins count alike, those that were hardly visited and are nothing but noise
    too.

    Args:
        surface: A surface.
        reference: What it is compared with.
        below: Only bins count whose free energy in the reference is below this one, eV.

    Raises:
        ValueError: If grids differ, or have no visited bin in common.
    """
    _check_grids(surface, reference)
    both = (surface.probability > 0) & (reference.probability > 0)
    if below is not None:
        both &= reference.free_energy < below
    if not both.any():
        raise ValueError("the surfaces have no visited bin in common")
    return float(np.var(surface.free_energy[both] - reference.free_energy[both]))


def kullback_leibler(reference: Surface, surface: Surface) -> float:
    r""":math:`\sum p \ln(p/q)` of a reference p and a surface q; infinite where q misses bins of p.

    Of finite trajectories it nearly always is: see :func:`jensen_shannon`.
    """
    _check_grids(surface, reference)
    return _divergence(reference.probability, surface.probability)


def jensen_shannon(surface: Surface, reference: Surface) -> float:
    r"""Mean divergence from the middle of two distributions, 0 to :math:`\ln 2`.

    Reference:
        Lin, IEEE Trans. Inf. Theory 37, 145 (1991), doi:10.1109/18.61115.
    """
    _check_grids(surface, reference)
    p, q = surface.probability, reference.probability
    middle = 0.5 * (p + q)
    return 0.5 * (_divergence(p, middle) + _divergence(q, middle))


def _divergence(p: np.ndarray, q: np.ndarray) -> float:
    seen = p > 0
    with np.errstate(divide="ignore"):
        return float(np.sum(p[seen] * (np.log(p[seen]) - np.log(q[seen]))))


def _check_grids(one: Surface, other: Surface) -> None:
    same = len(one.centers) == len(other.centers) and all(
        a.shape == b.shape and np.allclose(a, b)
        for a, b in zip(one.centers, other.centers, strict=True)
    )
    if not same:
        raise ValueError("the surfaces are on different grids: give both the same bins and limits")


class Minimum(NamedTuple):
    """A minimum of a surface: its place, free energy and standard error, eV."""

    place: tuple[float, ...]
    free_energy: float
    error: float


def minima(surface: Surface, *, radius: int = 3, periodic: bool = True) -> list[Minimum]:
    """Bins that no other within a radius undercuts, the lowest first; of equal ones the first.

    Args:
        surface: The surface; coarse bins or long runs keep noise from making minima of its own.
        radius: Bins in each direction that are looked at.
        periodic: Whether the first bin follows the last.
    """
    from scipy.ndimage import minimum_filter

    free = surface.free_energy
    mode = "wrap" if periodic else "nearest"
    lowest = np.isfinite(free) & (free <= minimum_filter(free, 2 * radius + 1, mode=mode))
    places: list[np.ndarray] = []
    for index in np.argwhere(lowest):
        apart = [np.abs(index - other) for other in places]
        if periodic:
            apart = [np.minimum(steps, free.shape - steps) for steps in apart]
        if all(steps.max() > radius for steps in apart):
            places.append(index)
    found = [
        Minimum(
            tuple(float(c[i]) for c, i in zip(surface.centers, index, strict=True)),
            float(free[tuple(index)]),
            float(surface.error[tuple(index)]),
        )
        for index in places
    ]
    return sorted(found, key=lambda minimum: minimum.free_energy)


class Population(NamedTuple):
    """Share of the frames in a state, and its standard error."""

    share: float
    error: float


def populations(
    values: Any,
    states: Mapping[str, Limits],
    *,
    weights: Any = None,
    blocks: int = 10,
    period: float | None = 360.0,
) -> dict[str, Population]:
    """How much of the time is spent in states.

    Args:
        values: As for :func:`free_energy_surface`.
        states: By name, an interval (first, last) for each variable. In a period one may pass its
            end: (120, -120) are the 120° about 180°; (-180, 180) is everything.
        weights: As there.
        blocks: As there.
        period: Of all variables; ``None`` for none.

    Raises:
        ValueError: If a state does not name an interval for each variable, or one is empty, longer
            than the period, or no interval.
    """
    parts, shares = _blocks(values, weights, blocks)
    each = np.array([share.sum() for share in shares])
    found = {}
    for name, intervals in states.items():
        if len(intervals) != parts[0].shape[-1]:
            raise ValueError(
                f"state {name!r} needs {parts[0].shape[-1]} intervals, got {len(intervals)}"
            )
        _check_intervals(name, intervals, period)
        each_block = zip(parts, shares, strict=True)
        inside = np.array([s[_within(p, intervals, period)].sum() for p, s in each_block])
        share = float(inside.sum() / each.sum())
        error = np.nan
        if len(parts) > 1:
            left = inside - share * each
            error = np.sqrt(np.sum(left**2) * len(parts) / (len(parts) - 1)) / each.sum()
        found[name] = Population(share, float(error))
    return found


def _check_intervals(name: str, intervals: Limits, period: float | None) -> None:
    for first, last in intervals:
        width = last - first
        allowed = width > 0 if period is None else 0 < abs(width) <= period
        if not (np.isfinite(width) and allowed):
            raise ValueError(
                f"state {name!r} has the interval [{first:g}, {last:g}]: expected two different "
                f"numbers{'' if period is None else f', at most {period:g} apart'}"
            )


def _within(values: np.ndarray, intervals: Limits, period: float | None) -> np.ndarray:
    inside = np.ones(len(values), bool)
    for column, (first, last) in zip(values.T, intervals, strict=True):
        if period is None:
            inside &= (column >= first) & (column < last)
        elif last - first != period:
            inside &= (column - first) % period < (last - first) % period
    return inside


def chirality(positions: Any, center: Sequence[int]) -> Float[np.ndarray, "*frames"]:
    """Volume that three bonds of a centre span, over the product of their lengths: its handedness.

    Args:
        positions: ``(*frames, beads, 3)``.
        center: The centre and its three neighbours; N, C and CB of an amino acid in this order give
            0.77 for one form of an ideal tetrahedron and -0.77 for the other.

    Raises:
        ValueError: If these are not four different beads, counted from 0.
    """
    positions = np.asarray(positions, np.float64)
    middle, *others = center
    count = positions.shape[-2]
    if len(others) != 3 or len(set(center)) != 4 or not all(0 <= i < count for i in center):
        raise ValueError(
            f"a centre and three neighbours are needed, of beads 0 to {count - 1}, got "
            f"{list(center)}"
        )
    bonds = [positions[..., other, :] - positions[..., middle, :] for other in others]
    volume = np.sum(bonds[0] * np.cross(bonds[1], bonds[2]), axis=-1)
    lengths = np.prod([np.linalg.norm(bond, axis=-1) for bond in bonds], axis=0)
    return np.asarray(volume / lengths)


def inversions(
    handedness: Float[np.ndarray, "*replicas frames"], threshold: float = 0.2
) -> Int[np.ndarray, "*replicas"]:
    """How often a centre turned into its mirror image.

    Args:
        handedness: From :func:`chirality`; the last axis is time.
        threshold: Values closer to zero than this belong to neither side, so that a centre that
            trembles about flatness is not counted.
    """
    series = np.asarray(handedness, np.float64)
    flat = series.reshape(-1, series.shape[-1])
    counts = [int(np.sum(np.diff(np.sign(row[np.abs(row) > threshold])) != 0)) for row in flat]
    return np.array(counts, int).reshape(series.shape[:-1])
