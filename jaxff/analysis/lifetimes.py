"""Replicas that run until each of them fails or comes to its end: :func:`lifetimes`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.analysis.stability import Survival, survival, time_to_failure
from jaxff.dynamics import Ensemble, Trajectory, UnstableRunError, run
from jaxff.dynamics.trajectory import join
from jaxff.potential import EnergyFn
from jaxff.system import System
from jaxff.types import Array, Bool, Float

__all__ = ["Lifetimes", "lifetimes"]

Judge = Callable[[Trajectory], float | None]


@dataclass(frozen=True)
class Lifetimes:
    """How long replicas lasted.

    Attributes:
        times: Time in fs at which each failed, or at which it was stopped in good health.
        failed: True where it failed.
        exploded: True where energies, forces or a displacement ended it, rather than the judge.
        trajectories: Frames of each, as far as it was run.
    """

    times: Float[np.ndarray, " replicas"]
    failed: Bool[np.ndarray, " replicas"]
    exploded: Bool[np.ndarray, " replicas"]
    trajectories: list[Trajectory]

    @property
    def survival(self) -> Survival:
        """Share that lasts, by Kaplan and Meier."""
        return survival(self.times, self.failed)


def lifetimes(
    energy_fn: EnergyFn,
    system: System,
    *,
    ensemble: Ensemble,
    steps: int,
    key: Array,
    replicas: int | None = None,
    judge: Judge | None = None,
    segment: int = 10_000,
    every: int = 10,
    progress: Callable[[int, np.ndarray], None] | None = None,
    **options: Any,
) -> Lifetimes:
    """Run replicas side by side; one that fails leaves, the others go on.

    All go in step in one compiled program. After every segment each is judged by its frames, and
    those that failed are left behind; one that explodes is left at once. Each time that some leave,
    the smaller batch is compiled once more. What remains is not disturbed: every replica keeps its
    own random numbers.

    Args:
        energy_fn: Energy function of ``(system, neighbors)``.
        system: A single system, or a stack of replicas that start from different geometries.
        ensemble: What is run.
        steps: Steps after which a replica is stopped in good health.
        key: Random key for velocities and thermostats.
        replicas: Number of replicas of a single system.
        judge: Time of failure in fs of one replica from its latest frames, or ``None``; by default
            when a bond of its first frame is stretched by half
            (:func:`jaxff.analysis.time_to_failure`).
        segment: Steps between two judgements.
        every: Steps between frames; a failure is dated by the frame that shows it.
        progress: Called after each segment with the step and the numbers of replicas that remain.
        options: Of :func:`jaxff.dynamics.run`: ``temperature``, ``velocities``, ``neighbors``,
            ``max_displacement``, ...

    Raises:
        ValueError: If there are no replicas, or a segment has no steps.
        UnstableRunError: If a run breaks down and it cannot be told which replica did it.
    """
    if segment < 1:
        raise ValueError(f"segment must be at least 1 step, got {segment}")
    stack = _stack(system, replicas)
    count = stack.batch_shape[0]
    parts: list[list[Trajectory]] = [[] for _ in range(count)]
    times, failed, exploded = np.zeros(count), np.zeros(count, bool), np.zeros(count, bool)
    alive, restart, step = np.arange(count), None, 0
    first = {"key": key, **{n: options.pop(n) for n in _FIRST if n in options}}
    while len(alive) and step < steps:
        start = first if restart is None else {"restart": restart}
        length, lost = min(segment, steps - step), ()
        try:
            found = run(
                energy_fn, _take(stack, alive), ensemble=ensemble, steps=length, every=every,
                **start, **options,
            )  # fmt: skip
        except UnstableRunError as problem:
            if not problem.replicas:
                raise
            found, lost = problem.trajectory, problem.replicas
        step = found.restart.step
        stays = np.ones(len(alive), bool)
        for place, replica in enumerate(alive):
            part = found.replica(place)
            parts[replica].append(part)
            when = None
            if len(part):
                when = judge(part) if judge else _bonds_hold(part, stack.positions[replica])
            exploded[replica] = when is None and place in lost
            if exploded[replica]:
                when = (step + 1) * ensemble.timestep
            failed[replica] = when is not None
            times[replica] = step * ensemble.timestep if when is None else when
            stays[place] = when is None
        alive, restart = alive[stays], found.restart.take(stays)
        if progress is not None:
            progress(step, alive)
    return Lifetimes(times, failed, exploded, [join(part) for part in parts])


def _bonds_hold(part: Trajectory, reference: Any) -> float | None:
    return time_to_failure(
        part.positions, part.times, part.numbers, energy=part.potential_energy,
        reference=reference, cell=part.cell, pbc=part.pbc,
    )  # fmt: skip


_FIRST = ("temperature", "velocities")  # options that only the first segment has


def _stack(system: System, replicas: int | None) -> System:
    if not system.batch_shape and replicas:
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (replicas, *x.shape)), system)
    if len(system.batch_shape) != 1 or replicas not in (None, system.batch_shape[0]):
        raise ValueError(
            "expected a single system and a number of replicas, or a stack of that many, got a "
            f"batch of shape {system.batch_shape} and replicas={replicas}"
        )
    return system


def _take(stack: System, index: np.ndarray) -> System:
    return jax.tree.map(lambda x: x[index], stack)
