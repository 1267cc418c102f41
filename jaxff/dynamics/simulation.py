"""The programs of a run with everything they need, and the layout of the neighbour list."""

import dataclasses
import json
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.dynamics import loop
from jaxff.dynamics.ensembles import Ensemble
from jaxff.dynamics.frames import Frames
from jaxff.dynamics.integrators import State
from jaxff.dynamics.neighbor_update import SearchPlan, allocate
from jaxff.dynamics.trajectory import Restart
from jaxff.neighbors import NeighborListFns, Neighbors, Pairs
from jaxff.potential import EnergyFn
from jaxff.system import System
from jaxff.types import Array, Float

__all__ = ["Simulation"]

_GROWTH, _GROWTH_IN_MOVING_CELLS = 1.25, 2.5
"""Room of a list that has overflowed, as a multiple of what it is to hold. What is compressed may
well be compressed on, and then a compilation costs more than thousands of steps with empty slots;
at constant volume numbers of neighbours only fluctuate."""


class Simulation:
    """Calls the compiled programs; what changes on the host is the layout of the pair list.

    Args:
        energy_fn: Energy function, a pytree.
        ensemble: What is run.
        system: Single system, or a stack of replicas, at the positions where the run begins.
        masses: Masses in amu, ``(*replicas, atoms)``.
        pairs: How to build pair lists; ``None`` if the potential needs none.
        key: Random key data, ``(*replicas, words)``.
        shadow: Whether to record the shadow energy.
    """

    def __init__(
        self,
        energy_fn: EnergyFn,
        ensemble: Ensemble,
        system: System,
        masses: Float[np.ndarray, "*replicas atoms"],
        pairs: NeighborListFns | None,
        key: np.ndarray,
        shadow: bool = False,
    ):
        self.problem = loop.Problem(energy_fn, ensemble, system)
        self.masses, self.pairs, self.key, self.shadow = masses, pairs, key, shadow

    @property
    def ensemble(self) -> Ensemble:
        """What is run."""
        return self.problem.ensemble

    @property
    def system(self) -> System:
        """The system at strain 0."""
        return self.problem.system

    @property
    def replicas(self) -> int | None:
        """Number of replicas, or ``None`` for a single run."""
        return self.system.batch_shape[0] if self.system.batch_shape else None

    @property
    def periodic(self) -> bool:
        """Whether any direction repeats."""
        return self.system.pbc is not None and bool(np.any(np.asarray(self.system.pbc)))

    def start(
        self, temperature: float | None, velocities: Any, freedom: int | None
    ) -> tuple[loop.Carry, Frames]:
        """State and frame at step 0."""
        neighbors = self._template(self._plan(self.system.positions, None, None))
        arguments = self._start_arguments(neighbors, temperature, velocities, freedom)
        state, listed, frames = self._start()(*arguments)
        return self._carry(state, listed, 0, loop.RUNNING), frames

    def resume(self, restart: Restart, freedom: int | None) -> tuple[loop.Carry, Frames]:
        """State of a restart file, and no frames.

        Raises:
            ValueError: If it belongs to another ensemble, time step, system, precision or
                potential, or to other masses or degrees of freedom.
        """
        neighbors = self._template(_read_plan(restart.plan))
        arguments = self._start_arguments(neighbors, None, restart.velocities, None)
        template, _, frames = jax.eval_shape(self._start(), *arguments)
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
        if (self.pairs is None) != (restart.list_positions is None):
            raise ValueError(
                "the restart belongs to another run: one has a neighbour list, the other none"
            )
        state = jax.tree.unflatten(tree, [jnp.asarray(leaf) for leaf in restart.leaves])
        self._check_continued(state, freedom)
        listed = loop.Listed(neighbors, state.position, state.strain)
        if self.pairs is not None:
            # Built for the same positions as in the run that was left, it has the same order.
            listed = listed._replace(position=jnp.asarray(restart.list_positions))
            if restart.list_strain is not None:
                listed = listed._replace(strain=jnp.asarray(restart.list_strain))
            listed = loop.build_list(self.problem, listed, replicated=self.replicas is not None)
        self._check_same_forces(state, listed)
        empty = jax.tree.map(lambda x: np.zeros((0, *x.shape[1:]), x.dtype), frames)
        return self._carry(state, listed, restart.step, loop.RUNNING), empty

    def _check_continued(self, state: State, freedom: int | None) -> None:
        """Refuse a state whose masses or degrees of freedom are not those of this run."""
        reduced = jnp.asarray(self.masses.reshape(-1))
        reduced = self.ensemble.reduced_masses(reduced).reshape(state.mass.shape)
        if not np.allclose(reduced, state.mass, rtol=1e-5):
            raise ValueError(
                "the restart has other masses: start from its positions and velocities instead"
            )
        if freedom is not None and np.any(np.asarray(state.freedom) != freedom):
            raise ValueError(
                f"the restart counts {np.unique(state.freedom).tolist()} degrees of freedom, not "
                f"{freedom}: start from its positions and velocities instead"
            )

    def _check_same_forces(self, state: State, listed: loop.Listed) -> None:
        """Refuse a state whose forces are of another potential: its energy would jump."""
        found = loop.forces_at(self.problem, state, listed, replicated=self.replicas is not None)
        before = np.asarray(state.force, np.float64)
        apart = float(np.max(np.abs(np.asarray(found) - before), initial=0.0))
        relative, absolute = (1e-4, 1e-6) if state.force.dtype == np.float64 else (5e-3, 1e-4)
        if not apart <= absolute + relative * np.max(np.abs(before), initial=0.0):
            raise ValueError(
                "the restart belongs to another potential or system: the forces that it holds are "
                f"up to {apart:.3g} eV/Å from those of this one at the same positions; start from "
                "its positions and velocities instead"
            )

    def restart(self, carry: loop.Carry, step: int) -> Restart:
        """The exact state, on the host."""
        state, listed = carry.state, carry.listed
        momentum, mass = np.asarray(state.momentum), np.asarray(state.mass)
        none = listed.neighbors is None
        return Restart(
            step,
            np.asarray(self.system.numbers),
            np.asarray(state.position),
            momentum / mass / self.ensemble.timestep,
            self.key,
            self.ensemble.name,
            self.ensemble.timestep,
            tuple(np.asarray(leaf) for leaf in jax.tree.leaves(state)),
            None if self.system.cell is None else np.asarray(self.system.cell),
            None if none else np.asarray(listed.position),
            None if none or listed.strain is None else np.asarray(listed.strain),
            "" if none else _write_plan(listed.neighbors),
        )

    def advance(
        self,
        carry: loop.Carry,
        stop: int,
        *,
        every: int,
        capacity: int,
        max_displacement: float,
    ) -> tuple[loop.Carry, Frames, Array]:
        """Run to step ``stop`` or to the first trouble; see :func:`jaxff.dynamics.loop.advance`."""
        return loop.advance(
            self.problem,
            carry,
            np.int32(stop),
            np.int32(every),
            np.asarray(max_displacement, self.system.positions.dtype),
            capacity=capacity,
            replicated=self.replicas is not None,
            shadow=self.shadow,
        )

    def grow(self, carry: loop.Carry) -> loop.Carry:
        """After an overflow: the last good state with a list that has more room, yet to be built.

        The new layout is compiled once more.
        """
        assert self.pairs is not None
        old, full = carry.listed.neighbors.plan, carry.listed
        plan = self._plan(full.position, full.strain, old)
        if plan == old:
            # On the host one pair less was near enough: make room without looking at the old.
            wider = tuple(1.25 * c for c in self.pairs.capacities)
            self.pairs = replace(self.pairs, capacities=wider)
            plan = self._plan(full.position, full.strain, None)
        listed = carry.listed._replace(neighbors=self._template(plan))
        return carry._replace(listed=listed, status=jnp.int32(loop.STALE))

    def next_step(self, carry: loop.Carry) -> tuple[np.ndarray, np.ndarray]:
        """How far atoms would go in the next step (Å), and the forces there."""
        far, force = loop.next_step(
            self.problem, carry.state, carry.listed, replicated=self.replicas is not None
        )
        return np.asarray(far), np.asarray(force)

    # --- internals -----------------------------------------------------------------------------

    def _carry(self, state: Any, listed: Any, step: int, status: int) -> loop.Carry:
        return loop.Carry(state, listed, jnp.int32(step), jnp.int32(status))

    def _start(self):
        return partial(
            loop.start,
            rotation=not self.periodic,
            replicated=self.replicas is not None,
            shadow=self.shadow,
        )

    def _start_arguments(
        self, neighbors: Any, temperature: float | None, velocities: Any, freedom: int | None
    ) -> tuple[Any, ...]:
        positions = self.system.positions
        if velocities is not None:
            velocities = np.asarray(velocities, positions.dtype)
            if velocities.shape not in (positions.shape, positions.shape[-2:]):
                raise ValueError(
                    f"velocities must have the shape of the positions, {positions.shape}, "
                    f"got {velocities.shape}"
                )
            velocities = np.broadcast_to(velocities, positions.shape)
        masses = np.asarray(self.masses, positions.dtype)
        return (self.problem, neighbors, self.key, masses, temperature, velocities, freedom)

    def _plan(self, positions: Array, strain: Any, previous: Any) -> Any:
        """Layout of the lists that serves all replicas; with room to spare if there was one."""
        if self.pairs is None:
            return None
        systems = self._systems(positions, strain)
        # A moving cell may well become thinner than it is.
        shrink = 0.06 if self.ensemble.moves_cell else 0.02
        found = None if previous is None else self._single(previous)
        growth = _GROWTH_IN_MOVING_CELLS if self.ensemble.moves_cell else _GROWTH
        growth = 1.0 if previous is None else growth
        for _ in range(4):
            plans = set()
            for system in systems:
                found = allocate(self.pairs, system, previous=found, shrink=shrink, growth=growth)
                plans.add(found.plan)
            if len(plans) == 1:
                break
        assert found is not None
        return found.plan

    def _systems(self, positions: Array, strain: Any) -> list[System]:
        system = self.system.replace(positions=jnp.asarray(positions))
        if strain is not None and system.cell is not None:
            system = system.replace(cell=jnp.exp(strain)[..., None, None] * system.cell)
        if self.replicas is None:
            return [system]
        return [jax.tree.map(lambda x, i=i: x[i], system) for i in range(self.replicas)]

    def _single(self, plan: tuple[SearchPlan, ...]) -> Neighbors:
        """Empty lists of one replica."""
        assert self.pairs is not None
        atoms = self.system.atom_count

        def empty(part: SearchPlan) -> Pairs:
            slots = atoms * part.width
            ends = jnp.full(slots, atoms, jnp.int32)
            shifts = jnp.zeros((slots, 3), jnp.int32)
            return Pairs(ends, ends, shifts, atoms, part.width, part.most)

        lists = tuple(empty(part) for part in plan)
        no = jnp.zeros((), bool)
        return Neighbors(lists, no, self.pairs.cutoffs, self.pairs.skins, plan)

    def _template(self, plan: Any) -> Any:
        """Empty lists in this layout, for all replicas."""
        if plan is None or self.pairs is None:
            return None
        lead = () if self.replicas is None else (self.replicas,)
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (*lead, *x.shape)), self._single(plan))


def _write_plan(neighbors: Neighbors) -> str:
    return json.dumps([dataclasses.asdict(part) for part in neighbors.plan or ()])


def _read_plan(text: str) -> tuple[SearchPlan, ...] | None:
    """Layout as written by :func:`_write_plan`, or ``None`` for an empty text.

    Raises:
        ValueError: If the text is no layout.
    """
    if not text:
        return None
    try:
        parts = json.loads(text)
        made: list[dict[str, Any]] = [
            {k: tuple(v) if isinstance(v, list) else v for k, v in p.items()} for p in parts
        ]
        return tuple(SearchPlan(**part) for part in made)
    except (json.JSONDecodeError, TypeError, AttributeError) as error:
        raise ValueError(f"the restart holds no layout of neighbour lists: {error}") from error
