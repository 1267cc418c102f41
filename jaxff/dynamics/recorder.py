"""From frames on the device to chunks of a trajectory on the host."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxff.dynamics import loop
from jaxff.dynamics.observables import degrees_of_freedom
from jaxff.dynamics.observables import temperature as kinetic_temperature
from jaxff.dynamics.simulation import Simulation
from jaxff.dynamics.trajectory import Restart, Trajectory, join

__all__ = ["Recorder"]

Listener = Callable[[Trajectory], None] | None


class Recorder:
    """Collects frames on the host and hands them out chunk by chunk."""

    def __init__(
        self, simulation: Simulation, writer: Listener, progress: Listener, keep_frames: bool
    ):
        self.simulation, self.keep_frames = simulation, keep_frames
        self.listeners = [listener for listener in (writer, progress) if listener is not None]
        self.parts: list[Trajectory] = []
        self.pending: list[loop.Frames] = []
        self.freedom = 3 * simulation.system.atom_count

    def begin(self, state: Any, first: loop.Frames) -> None:
        """Record step 0.

        Raises:
            FloatingPointError: If its energy or forces are not finite.
        """
        first = jax.tree.map(np.asarray, first)
        if not (np.isfinite(first.potential_energy).all() and np.isfinite(first.forces).all()):
            raise FloatingPointError(
                "energy or forces of the initial geometry are not finite: check its positions "
                "and that the potential knows its elements"
            )
        self._count_freedom(first.positions[0], first.velocities[0])
        self.pending.append(first)
        self.flush(state, 0)

    def resume(self, restart: Restart) -> None:
        """Begin without a frame, from a restart file."""
        self._count_freedom(restart.positions, restart.velocities)
        empty = np.zeros((0, *restart.positions.shape))
        none = np.zeros(0)
        frames = loop.Frames(np.zeros(0, np.int32), empty, empty, empty, none, none)
        self.parts = [self._trajectory(frames, restart)]

    def _count_freedom(self, positions: np.ndarray, velocities: np.ndarray) -> None:
        simulation = self.simulation
        if simulation.ensemble.conserves_momentum:
            self.freedom = degrees_of_freedom(
                positions, velocities, simulation.masses, periodic=simulation.periodic
            )

    def add(self, frames: loop.Frames, count: int) -> None:
        """Keep the first ``count`` frames until the chunk is complete."""
        self.pending.append(jax.tree.map(lambda x: np.asarray(x)[:count], frames))

    def flush(self, state: Any, step: int) -> None:
        """Hand out the chunk that ends with this state."""
        frames = loop.Frames(
            *(np.concatenate(column) for column in zip(*self.pending, strict=True))
        )
        self.pending = []
        part = self._trajectory(frames, self._restart(state, step))
        self.parts = [*self.parts, part] if self.keep_frames else [part]
        for listener in self.listeners:
            listener(part)

    def _restart(self, state: Any, step: int) -> Restart:
        ensemble = self.simulation.ensemble
        leaves = tuple(np.asarray(leaf) for leaf in jax.tree.leaves(state))
        momentum, mass = np.asarray(state.momentum), np.asarray(state.mass)
        velocities = momentum / mass / ensemble.timestep
        positions = np.asarray(state.position)
        key, step_fs = self.simulation.key, ensemble.timestep
        return Restart(step, positions, velocities, key, ensemble.name, step_fs, leaves)

    def _trajectory(self, frames: loop.Frames, restart: Restart) -> Trajectory:
        system = self.simulation.system
        return Trajectory(
            times=frames.steps * restart.timestep,
            temperature=kinetic_temperature(frames.kinetic_energy, self.freedom),
            **frames._asdict(),
            numbers=np.asarray(system.numbers),
            masses=self.simulation.masses,
            cell=None if system.cell is None else np.asarray(system.cell),
            pbc=None if system.pbc is None else np.asarray(system.pbc),
            degrees_of_freedom=self.freedom,
            restart=restart,
        )

    def result(self) -> Trajectory:
        """All frames kept, with the last state."""
        return join(self.parts)
