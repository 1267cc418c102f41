"""Runs of models of beads, and their ensembles beside that of the trajectory."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxff import analysis, dynamics, units
from jaxff.analysis.free_energy import Surface
from jaxff.coarse.config import Config
from jaxff.coarse.fitting import Task
from jaxff.coarse.sampling import draw
from jaxff.coarse.sections import Simulate
from jaxff.data.dataset import Dataset
from jaxff.numerics import select
from jaxff.potential import Bound
from jaxff.types import Float

__all__ = ["Ensemble", "compared", "ensemble_of", "hand_of", "simulate"]

_CHUNK = 10_000  # steps between two looks of the host
_GROUPS = 10  # of replicas, between which errors are estimated


def simulate(
    config: Config,
    model: Bound,
    task: Task,
    masses: Float[np.ndarray, " beads"],
    progress: Callable[[float], None] | None = None,
) -> Float[np.ndarray, "replicas frames beads 3"]:
    """Langevin dynamics of many replicas from frames that are spread over the cells.

    Args:
        config: The configuration, with a section on simulation.
        model: Energy function of the beads.
        task: Frames, of which those to fit to are starts.
        masses: Of the beads, amu, where the section names none.
        progress: Called with the share that is done.

    Returns:
        Positions in Å in single precision, without the frame that a replica starts from and
        the part that is discarded.

    Raises:
        ValueError: If there are more replicas than frames.
        jaxff.dynamics.UnstableRunError: If a replica breaks down.
    """
    asked = config.simulate
    if asked is None:
        raise ValueError("a simulation needs a section [simulate]")
    train = task.fold.train
    index = train[draw(task.occupied[train], asked.replicas, np.random.default_rng(config.seed))]
    parts: list[np.ndarray] = []

    def keep(part: dynamics.Trajectory) -> None:
        parts.append(np.asarray(part.positions, np.float32))  # of all that a frame holds
        if progress is not None:
            progress(part.restart.step / asked.steps)

    dynamics.run(
        model, select(task.systems, index), ensemble=_dynamics(config, asked),
        steps=asked.steps, every=asked.every, chunk=_CHUNK, masses=np.array(asked.masses or masses),
        key=jax.random.key(config.seed), progress=keep,
        keep_frames=False,
    )  # fmt: skip
    places = np.concatenate(parts, axis=1)[:, 1:]
    return places[:, int(asked.discard * places.shape[1]) :]


def _dynamics(config: Config, asked: Simulate) -> dynamics.Ensemble:
    kelvin = config.temperature
    if asked.friction is None:
        mobility = 1.0 if asked.mobility is None else asked.mobility
        return dynamics.overdamped(asked.step, kelvin, mobility=mobility)
    if asked.ensemble == "langevin":
        return dynamics.langevin(asked.step, kelvin, friction=asked.friction)
    return dynamics.overdamped(asked.step, kelvin, friction=asked.friction)


@dataclass(frozen=True, eq=False)
class Ensemble:
    """What is known of an ensemble of beads.

    Attributes:
        surface: Free energy over the dihedrals.
        without: The same without one group of replicas after the other; empty of few replicas.
        states: Populations by name.
        halves: Those of the first and the second half of the runs of replicas.
        lengths: Bonds of the prior in Å, ``(bonds, values)``.
        angles: Angles of the prior in degrees, likewise.
        weights: Of these values.
        inversions: Of the centre, in each replica; ``None`` without a centre.
        inverted: Share of frames in which the centre is the mirror image of most of the trajectory.
    """

    surface: Surface
    without: tuple[Surface, ...]
    states: dict[str, analysis.Population]
    halves: tuple[dict[str, analysis.Population], ...]
    lengths: Float[np.ndarray, "bonds values"]
    angles: Float[np.ndarray, "angles values"]
    weights: Float[np.ndarray, " values"]
    inversions: np.ndarray | None
    inverted: float | None


def ensemble_of(
    config: Config, positions: Any, weights: Any = None, *, hand: float = 1.0
) -> Ensemble:
    """Surface, populations and distributions of frames of beads.

    Args:
        config: The configuration.
        positions: ``(frames, beads, 3)``, a trajectory, or ``(replicas, frames, beads, 3)``, Å.
        weights: Of each frame.
        hand: Sign of the centre that counts as not inverted.
    """
    positions = np.asarray(positions, np.float64)
    weights = np.ones(positions.shape[:-2]) if weights is None else np.asarray(weights, float)
    own, prior = config.compare, config.prior
    values = analysis.dihedrals(positions, config.variables.dihedrals)
    named = {"temperature": config.temperature, "bins": own.bins}
    surface = analysis.free_energy_surface(values, weights=weights, **named)
    groups = np.arange(len(values)) * _GROUPS // len(values)
    without = tuple(
        analysis.free_energy_surface(values[groups != k], weights=weights[groups != k], **named)
        for k in range(_GROUPS if values.ndim == 3 and len(values) >= _GROUPS else 0)
    )
    intervals = own.intervals
    states = analysis.populations(values, intervals, weights=weights) if intervals else {}
    middle = values.shape[-2] // 2
    parts = (slice(0, middle), slice(middle, None)) if values.ndim == 3 and middle else ()
    halves = tuple(
        analysis.populations(values[:, own], intervals, weights=weights[:, own])
        for own in (parts if intervals else ())
    )
    flat = positions.reshape(-1, *positions.shape[-2:])
    bonds = () if prior is None else prior.bonds
    angles = () if prior is None else prior.angles
    turns = inverted = None
    if own.center:
        series = hand * analysis.chirality(positions, own.center)
        turns = analysis.inversions(series)
        inverted = float(np.sum(weights * (series < 0)) / weights.sum())
    return Ensemble(
        surface, without, states, halves,
        analysis.distances(flat, bonds).T if bonds else np.zeros((0, len(flat))),
        analysis.angles(flat, angles).T if angles else np.zeros((0, len(flat))),
        weights.ravel(), turns, inverted,
    )  # fmt: skip


def hand_of(config: Config, beads: Dataset) -> float:
    """Sign of the centre in most of the trajectory."""
    if not config.compare.center:
        return 1.0
    weights = beads.per_frame["weights"]
    return float(
        np.sign(np.sum(weights * analysis.chirality(beads.positions, config.compare.center)))
    )


def compared(config: Config, found: Ensemble, reference: Ensemble) -> dict[str, Any]:
    """How far an ensemble is from that of the trajectory, as numbers by name; energies in kT.

    Standard errors are over replicas (jackknife of groups). ``noise_kT2`` is what the errors of
    both surfaces add to the mean squared difference, and ``visited_share`` what the bins that it is
    over hold of the trajectory below the cut-off. What cannot be told is None.
    """
    thermal = units.BOLTZMANN * config.temperature
    lowest = reference.surface.free_energy < config.compare.below * thermal
    both = lowest & (found.surface.probability > 0)
    share = reference.surface.probability

    def squared(surface: Surface) -> float:
        """Mean squared difference in kT², NaN without a bin in common."""
        try:
            below = config.compare.below * thermal
            square = analysis.mean_squared_difference(surface, reference.surface, below=below)
        except ValueError:
            return float("nan")
        return square / thermal**2

    def shannon(surface: Surface) -> float:
        return analysis.jensen_shannon(surface, reference.surface)

    record: dict[str, Any] = {
        "kullback_leibler": analysis.kullback_leibler(reference.surface, found.surface),
        "jensen_shannon": shannon(found.surface),
        "jensen_shannon_error": _jackknife([shannon(each) for each in found.without]),
        "mean_squared_difference_kT2": squared(found.surface),
        "mean_squared_difference_error_kT2": _jackknife([squared(s) for s in found.without]),
        "noise_kT2": _mean_square(found.surface.error[both], reference.surface.error[both])
        / thermal**2,
        "visited_share": float(share[both].sum() / share[lowest].sum()),
        "below_kT": config.compare.below,
        "standard_error_kT": _mean_square(found.surface.error[lowest]) ** 0.5 / thermal,
        "minima": _minima(found.surface, thermal),
        "populations": {name: list(each) for name, each in found.states.items()},
        **_halves(found),
        "bonds_jensen_shannon": _divergences(found, reference, "lengths"),
        "angles_jensen_shannon": _divergences(found, reference, "angles"),
    }
    if found.inversions is not None:
        record["inversions"] = int(np.sum(found.inversions))
        record["inverted_share"] = found.inverted
    return _finite(record)


def _halves(found: Ensemble) -> dict[str, Any]:
    if not found.halves:
        return {}
    return {
        "populations_of_halves": {
            name: [list(half[name]) for half in found.halves] for name in found.states
        }
    }


def _jackknife(values: list[float]) -> float:
    """Standard error from the values without one group after the other, NaN of fewer than two."""
    count = len(values)
    return float(np.std(values) * np.sqrt(count - 1)) if count > 1 else float("nan")


def _mean_square(*errors: np.ndarray) -> float:
    """Mean over bins of the sum of squared errors, of bins where each is known."""
    squares = np.sum(np.square(errors), axis=0)
    known = squares[np.isfinite(squares)]
    return float(known.mean()) if len(known) else float("nan")


def _minima(surface: Surface, thermal: float, most: int = 6) -> list[dict[str, Any]]:
    radius = max(1, surface.free_energy.shape[0] // 9)  # 40° either way
    return [
        {"place": list(each.place), "kT": each.free_energy / thermal,
         "error_kT": each.error / thermal}
        for each in analysis.minima(surface, radius=radius)[:most]
    ]  # fmt: skip


def _divergences(found: Ensemble, reference: Ensemble, name: str) -> list[float]:
    """Of each distribution, over 50 bins of the trajectory; the last hold what is beyond."""
    each = []
    for own, other in zip(getattr(found, name), getattr(reference, name), strict=True):
        ends = other.min(), other.max()
        surfaces = [
            analysis.free_energy_surface(np.clip(values, *ends)[:, None], 300.0, bins=50,
                                         limits=[ends], weights=weights, blocks=1)
            for values, weights in ((own, found.weights), (other, reference.weights))
        ]  # fmt: skip
        each.append(analysis.jensen_shannon(*surfaces))
    return each


def _finite(value: Any) -> Any:
    """``None`` in the place of what JSON cannot say."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
