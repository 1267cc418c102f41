"""From frames on the device to chunks of a trajectory on the host."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxff.dynamics import loop
from jaxff.dynamics.frames import Frames
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
        self.pending: list[Frames] = []
        self.freedom: Any = 3 * simulation.system.atom_count

    def begin(self, carry: loop.Carry, first: Frames) -> None:
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
        self._read_freedom(carry.state)
        self.pending.append(first)
        self.flush(carry, 0)

    def resume(self, carry: loop.Carry, restart: Restart, empty: Frames) -> None:
        """Begin without a frame, from a restart file."""
        self._read_freedom(carry.state)
        self.parts = [self._trajectory(jax.tree.map(np.asarray, empty), restart)]

    def _read_freedom(self, state: Any) -> None:
        freedom = np.asarray(state.freedom)
        self.freedom = int(freedom) if freedom.ndim == 0 else freedom

    def add(self, frames: Frames, count: int) -> None:
        """Keep the first ``count`` frames until the chunk is complete."""
        self.pending.append(jax.tree.map(lambda x: np.asarray(x)[:count], frames))

    def flush(self, carry: loop.Carry, step: int) -> None:
        """Hand out the chunk that ends with this state."""
        frames = jax.tree.map(lambda *columns: np.concatenate(columns), *self.pending)
        self.pending = []
        part = self._trajectory(frames, self.simulation.restart(carry, step))
        self.parts = [*self.parts, part] if self.keep_frames else [part]
        for listener in self.listeners:
            listener(part)

    def _trajectory(self, frames: Frames, restart: Restart) -> Trajectory:
        system = self.simulation.system
        if self.simulation.replicas is not None:
            # Frames are recorded one after the other; replicas come first in the result.
            steps = frames.steps
            frames = jax.tree.map(lambda x: np.swapaxes(x, 0, 1), frames._replace(steps=None))
            frames = frames._replace(steps=steps)
        fields = frames._asdict()
        strain = fields.pop("strain")
        cell = None if system.cell is None else np.asarray(system.cell)
        if strain is not None and cell is not None:
            cell = np.exp(strain)[..., None, None] * cell[..., None, :, :]
        one = (0,) * len(system.batch_shape)
        kelvin = kinetic_temperature(frames.kinetic_energy, 1) / np.asarray(self.freedom)[..., None]
        return Trajectory(
            times=frames.steps * restart.timestep,
            temperature=np.asarray(kelvin),
            **fields,
            numbers=np.asarray(system.numbers)[one],
            masses=self.simulation.masses[one],
            cell=cell,
            pbc=None if system.pbc is None else np.asarray(system.pbc)[one],
            degrees_of_freedom=self.freedom,
            restart=restart,
        )

    def result(self) -> Trajectory:
        """All frames kept, with the last state."""
        return join(self.parts)
