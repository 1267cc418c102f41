"""The two programs of a run with everything they need, and the current pair list."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.dynamics import loop
from jaxff.dynamics.ensembles import Ensemble
from jaxff.dynamics.jax_md import TrackedNeighbors
from jaxff.dynamics.trajectory import Restart
from jaxff.neighbors import NeighborListFns, Neighbors, Pairs
from jaxff.potential import EnergyFn
from jaxff.system import System
from jaxff.types import Array, Float

__all__ = ["Simulation"]


class Simulation:
    """Calls the compiled programs; the only thing that changes is the pair list.

    Args:
        energy_fn: Energy function, a pytree.
        ensemble: What is run.
        system: Single system, at the positions where the run begins.
        masses: Masses in amu.
        pairs: How to build pair lists; ``None`` if the potential needs none.
        key: Random key data.
    """

    def __init__(
        self,
        energy_fn: EnergyFn,
        ensemble: Ensemble,
        system: System,
        masses: Float[np.ndarray, " atoms"],
        pairs: NeighborListFns | None,
        key: np.ndarray,
    ):
        self.energy_fn, self.ensemble, self.system = energy_fn, ensemble, system
        self.masses, self.pairs, self.key = masses, pairs, key
        self.listed = _allocate(pairs, system, None)

    @property
    def periodic(self) -> bool:
        """Whether any direction repeats."""
        return self.system.pbc is not None and bool(np.any(np.asarray(self.system.pbc)))

    def start(self, temperature: float | None, velocities: Any) -> tuple[Any, loop.Frames]:
        """State and frame at step 0."""
        return self._start()(*self._start_arguments(temperature, velocities))

    def resume(self, restart: Restart) -> Any:
        """State of a restart file.

        Raises:
            ValueError: If it belongs to another ensemble, time step, system or precision.
        """
        arguments = self._start_arguments(None, restart.velocities)
        template, _ = jax.eval_shape(self._start(), *arguments)
        leaves, tree = jax.tree.flatten(template)
        wanted = [(leaf.shape, str(leaf.dtype)) for leaf in leaves]
        given = [(leaf.shape, str(leaf.dtype)) for leaf in restart.leaves]
        if restart.ensemble != self.ensemble.name or wanted != given:
            raise ValueError(
                f"the restart belongs to another run: expected {self.ensemble.name} with a state "
                f"of {wanted}, got {restart.ensemble} with {given}"
            )
        if restart.timestep != self.ensemble.timestep:
            raise ValueError(
                f"the restart was written at a time step of {restart.timestep} fs, the ensemble "
                f"has {self.ensemble.timestep} fs: start from its positions and velocities instead"
            )
        return jax.tree.unflatten(tree, restart.leaves)

    def _start(self):
        return partial(loop.start, neighbor_list=self.pairs, rotation=not self.periodic)

    def _start_arguments(self, temperature: float | None, velocities: Any) -> tuple[Any, ...]:
        positions = self.system.positions
        if velocities is not None:
            velocities = np.asarray(velocities, positions.dtype)
            if velocities.shape != positions.shape:
                raise ValueError(
                    f"velocities must have the shape of the positions, {positions.shape}, "
                    f"got {velocities.shape}"
                )
        masses = np.asarray(self.masses, positions.dtype)
        return (*self._arguments(), self.key, masses, temperature, velocities)

    def _arguments(self) -> tuple[Any, ...]:
        return self.energy_fn, self.ensemble, self.system, self.listed

    def advance(
        self,
        state: Any,
        step: int,
        stop: int,
        *,
        every: int,
        capacity: int,
        max_displacement: float,
    ) -> tuple[loop.Carry, loop.Frames, Array]:
        """Run to step ``stop`` or to the first trouble; see :func:`jaxff.dynamics.loop.advance`."""
        return loop.advance(
            *self._arguments(),
            loop.Carry(state, np.int32(step), np.int32(loop.RUNNING)),
            np.int32(stop),
            np.int32(every),
            np.asarray(max_displacement, self.system.positions.dtype),
            neighbor_list=self.pairs,
            capacity=capacity,
        )

    def renew_neighbors(self, positions: Array) -> None:
        """Build the pair list anew, in the buffers of the old one where they have room."""
        moved = self.system.replace(positions=jnp.asarray(positions))
        self.listed = _allocate(self.pairs, moved, self.listed.neighbors)


def _allocate(
    pairs: NeighborListFns | None, system: System, old: Neighbors | None
) -> TrackedNeighbors:
    never = np.zeros((), bool)
    if pairs is None:
        return TrackedNeighbors(None, system.positions, never)
    found = pairs.allocate(system)
    if old is not None:
        fitted = tuple(_fit(n, o) for n, o in zip(found.pairs, old.pairs, strict=True))
        found = replace(found, pairs=fitted)
    return TrackedNeighbors(found, system.positions, never)


def _fit(new: Pairs, old: Pairs) -> Pairs:
    """Pairs in a buffer of the old length, if they fit: another length would be compiled again."""
    room = len(old.centers)
    found = int(np.count_nonzero(np.asarray(new.centers) < new.atoms))
    if found > room or len(new.centers) == room:
        return new

    def resized(values: Array, padding: int) -> np.ndarray:
        real = np.asarray(values)[:found]
        width = [(0, room - found)] + [(0, 0)] * (real.ndim - 1)
        return np.pad(real, width, constant_values=padding)

    return Pairs(
        jnp.asarray(resized(new.centers, new.atoms)),
        jnp.asarray(resized(new.others, new.atoms)),
        jnp.asarray(resized(new.shifts, 0)),
        new.atoms,
    )
