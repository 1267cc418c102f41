"""Search for the minima of a molecule or cluster: :func:`minima_hopping`."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxff.dynamics.escape import escape
from jaxff.dynamics.relax import relax
from jaxff.dynamics.run import UnstableRunError
from jaxff.neighbors import NeighborListFns, lists_to_keep
from jaxff.potential import EnergyFn
from jaxff.system import System
from jaxff.types import Array, Float

__all__ = ["Hop", "Hopping", "Minimum", "minima_hopping", "sorted_distances"]


@dataclass(frozen=True)
class Minimum:
    """A minimum that was found.

    Attributes:
        system: Its geometry when it was first found.
        energy: eV.
        visits: How often a relaxation ended in it.
    """

    system: System
    energy: float
    visits: int = 1


class Hop(NamedTuple):
    """What came of one hop.

    Attributes:
        energy: Energy in eV after the relaxation; NaN where the escape or the relaxation failed.
        minimum: Index of the minimum where it ended, or ``None``.
        new: Whether this minimum was not known.
        accepted: Whether the search goes on from there.
        temperature: Temperature in K of the escape.
        threshold: Rise of the energy in eV that was allowed.
    """

    energy: float
    minimum: int | None
    new: bool
    accepted: bool
    temperature: float
    threshold: float


@dataclass(frozen=True)
class Hopping:
    """Minima found, and the state from which the search can go on.

    Attributes:
        minima: In the order in which they were found.
        current: Index of the one from which the next hop starts.
        temperature: Temperature in K of the next escape.
        threshold: Rise of the energy in eV that the next hop may take.
        hops: What came of each hop.
    """

    minima: list[Minimum]
    current: int
    temperature: float
    threshold: float
    hops: list[Hop] = field(default_factory=list)

    @property
    def ranked(self) -> list[Minimum]:
        """The minima by ascending energy."""
        return sorted(self.minima, key=lambda one: one.energy)


def minima_hopping(
    energy_fn: EnergyFn,
    system: System,
    *,
    hops: int,
    key: Array,
    temperature: float = 1000.0,
    threshold: float = 0.5,
    heating: float = 1.1,
    easing: float = 1.02,
    turns: int = 2,
    timestep: float = 1.0,
    max_md_steps: int = 1000,
    softening: int = 20,
    max_force: float = 1e-3,
    max_relax_steps: int = 1000,
    tolerance: float = 0.05,
    energy_tolerance: float = 1e-3,
    sound: Callable[[System], bool] | None = None,
    previous: Hopping | None = None,
    neighbors: NeighborListFns | None = None,
    progress: Callable[[Hop], None] | None = None,
) -> Hopping:
    r"""Find minima of a molecule or cluster by short dynamics, relaxation and feedback.

    A hop runs dynamics at constant energy from the current minimum until the potential energy has
    passed some minima along the way, and relaxes. The velocities are turned towards directions of
    low curvature first, which lead over low barriers. A known minimum heats the next escape, a new
    one cools it; a relaxed geometry is accepted if the energy rises by less than a threshold, which
    an acceptance tightens and a refusal eases. So known minima are left ever faster. All atoms have
    the same mass, their mean, so that no time is lost on vibrations of light ones.

    Args:
        energy_fn: Energy function of ``(system, neighbors)``.
        system: A single system without a cell; positions in Å. It is relaxed first.
        hops: Number of hops.
        key: Random key.
        temperature: First temperature of escapes in K.
        threshold: First threshold in eV.
        heating: Factor on the temperature after a known minimum, divisor after a new one.
        easing: Factor on the threshold after a refusal, divisor after an acceptance.
        turns: Minima of the potential energy that an escape passes.
        timestep: fs, for atoms of the mean mass.
        max_md_steps: Longest escape; the relaxation starts where it ends.
        softening: Steps by which velocities are turned; 0 leaves them random.
        max_force: Largest force in eV/Å that a minimum may keep.
        max_relax_steps: Evaluations after which a relaxation is given up.
        tolerance: Å, largest difference of sorted distances of one minimum
            (:func:`sorted_distances`); mirror images are one minimum.
        energy_tolerance: eV, largest difference of energies of one minimum.
        sound: Which relaxed geometries count, for example those whose bonds hold; others are
            refused, as are escapes that explode.
        previous: Search to go on with, from its minimum, temperature and threshold; the system is
            not used then.
        neighbors: How to build pair lists, with a positive skin.
        progress: Called after each hop.

    Raises:
        ValueError: If arguments make no sense, or the first geometry does not relax.

    Reference:
        Goedecker, J. Chem. Phys. 120, 9911 (2004), doi:10.1063/1.1724816; Schönborn et al., J.
        Chem. Phys. 130, 144108 (2009), doi:10.1063/1.3097197 (softened velocities).
    """
    _check(system, hops, temperature, threshold, heating, easing, turns)
    lists = lists_to_keep(getattr(energy_fn, "cutoffs", ()), neighbors)
    descend = partial(
        relax, energy_fn, max_force=max_force, max_steps=max_relax_steps, neighbors=lists
    )
    leave = partial(
        escape, energy_fn, turns=turns, timestep=timestep, max_steps=max_md_steps,
        softening=softening, lists=lists,
    )  # fmt: skip
    if previous is None:
        first = descend(system)
        if not first.converged or not (sound is None or sound(first.system)):
            raise ValueError(f"the first geometry leads to no sound minimum: {first}")
        state = Hopping([Minimum(first.system, first.energy)], 0, temperature, threshold)
    else:
        state = replace(previous, minima=list(previous.minima), hops=list(previous.hops))
    for one in jax.random.split(key, hops):
        start = state.minima[state.current].system
        try:
            found = descend(leave(start, state.temperature, one))
        except (UnstableRunError, FloatingPointError):
            found = None
        if found is not None and not (found.converged and (sound is None or sound(found.system))):
            found = None
        state = _digest(state, found, heating, easing, tolerance, energy_tolerance)
        if progress is not None:
            progress(state.hops[-1])
    return state


def sorted_distances(system: System) -> Float[np.ndarray, " pairs"]:
    """Distances in Å, ascending within each pair of elements.

    The same for geometries that differ by a rigid motion, a mirror or an exchange of like atoms.
    """
    numbers, positions = np.asarray(system.numbers), np.asarray(system.positions, np.float64)
    first, second = np.triu_indices(len(numbers), 1)
    lengths = np.linalg.norm(positions[first] - positions[second], axis=1)
    low, high = np.sort(np.stack([numbers[first], numbers[second]]), axis=0)
    return lengths[np.lexsort((lengths, high, low))]


def _check(
    system: System,
    hops: int,
    temperature: float,
    threshold: float,
    heating: float,
    easing: float,
    turns: int,
) -> None:
    if system.batch_shape or system.is_packed or system.cell is not None:
        raise ValueError("minima_hopping takes a single system without a cell")
    if not np.all(np.asarray(system.numbers) > 0) or system.atom_count < 2:
        raise ValueError("minima_hopping takes at least two atoms, and no padding")
    for name, value in (("temperature", temperature), ("threshold", threshold)):
        if not 0 < value < float("inf"):
            raise ValueError(f"{name} must be positive and finite, got {value}")
    for name, value in (("heating", heating), ("easing", easing)):
        if not 1 < value < float("inf"):
            raise ValueError(f"{name} must be larger than 1, got {value}")
    for name, value in (("hops", hops), ("turns", turns)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")


def _digest(
    state: Hopping, found: Any, heating: float, easing: float, tolerance: float, apart: float
) -> Hopping:
    """The state after a hop; ``found`` is ``None`` where it led to nothing sound."""
    if found is None:
        hop = Hop(np.nan, None, False, False, state.temperature, state.threshold)
        # Too violent: the next escape is milder, and no threshold was at fault.
        return replace(state, temperature=state.temperature / heating, hops=[*state.hops, hop])
    minima = list(state.minima)
    place, trace = None, sorted_distances(found.system)
    for index, known in enumerate(minima):
        alike = np.abs(sorted_distances(known.system) - trace).max() <= tolerance
        if alike and abs(known.energy - found.energy) <= apart:
            place = index
            break
    new = place is None
    if place is None:
        place = len(minima)
        minima.append(Minimum(found.system, found.energy))
    else:
        minima[place] = replace(minima[place], visits=minima[place].visits + 1)
    same = place == state.current
    accepted = not same and found.energy - minima[state.current].energy < state.threshold
    # A return to where it started says nothing about the threshold.
    factor = 1.0 if same else (1.0 / easing if accepted else easing)
    hop = Hop(found.energy, place, new, accepted, state.temperature, state.threshold)
    return Hopping(
        minima,
        place if accepted else state.current,
        state.temperature * (1.0 / heating if new else heating),
        state.threshold * factor,
        [*state.hops, hop],
    )
