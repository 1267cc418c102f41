"""The compiled part of a run: many steps and their frames in one call.

Two programs make a run: :func:`start` and :func:`advance`. Numbers of steps are data, not shapes,
so that a remainder, another time step, temperature or parameter set runs the same program.

Neighbour lists are renewed inside :func:`advance`. Three loops are nested: over frames, over lists,
and over the steps on one list, which is a constant of the innermost loop and is never copied. A
step is cut before its force evaluation: if the list does not serve the new positions, the loop is
left, the list renewed for them, and the step taken again, so that no force is wasted and none is
computed from an old list.

Replicas carry a leading axis and go in step: all lists are renewed when one is old, and all stop
when one fails. They know nothing of each other, unless the ensemble makes them the beads of a ring.
"""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxff.cell import volume
from jaxff.dynamics.ensembles import Ensemble
from jaxff.dynamics.frames import Frames, at_state, forced, take_frame
from jaxff.dynamics.integrators import State
from jaxff.dynamics.neighbor_update import is_stale, update_neighbors
from jaxff.dynamics.velocities import maxwell_boltzmann, thermal_freedom
from jaxff.system import System
from jaxff.types import Array, Bool, Float, Int

__all__ = [
    "EXPLODED",
    "MAX_STRAIN",
    "NOT_FINITE",
    "OVERFLOW",
    "RUNNING",
    "STALE",
    "Carry",
    "Listed",
    "Problem",
    "advance",
    "build_list",
    "forces_at",
    "next_step",
    "start",
]

RUNNING, STALE, OVERFLOW, NOT_FINITE, EXPLODED = range(5)
"""What the loop does next or why it stopped; STALE: first of all, renew the list."""

MAX_STRAIN = 0.5
"""Relative change of the length of the cell in one step that counts as an explosion."""


class Problem(NamedTuple):
    """What does not change in a run; arrays of replicas have a leading axis.

    Attributes:
        energy_fn: Energy function.
        ensemble: What is run.
        system: System whose positions are not read and whose cell is that of strain 0.
    """

    energy_fn: Any
    ensemble: Ensemble
    system: System


class Listed(NamedTuple):
    """A neighbour list and the geometry for which it was built.

    Attributes:
        neighbors: The list, or ``None`` for a potential without cutoffs.
        position: Å, ``(atoms, 3)``.
        strain: Logarithm of the length of the cell, or ``None``.
    """

    neighbors: Any
    position: Any
    strain: Any


class Carry(NamedTuple):
    """What goes from step to step.

    Attributes:
        state: The last good state of the integrator.
        listed: The neighbour list.
        step: Step of the state.
        status: ``RUNNING``, or why it stopped.
    """

    state: State
    listed: Listed
    step: Any
    status: Any


def _each(function: Callable[..., Any], replicated: bool) -> Callable[..., Any]:
    return jax.vmap(function) if replicated else function


def _propose(problem: Problem, state: State, replicated: bool) -> State:
    """The step up to its new positions."""
    ensemble = problem.ensemble
    propose = functools.partial(ensemble.propose, ensemble)
    return _each(propose, replicated and not ensemble.couples_replicas)(state)


@functools.partial(jax.jit, static_argnames=("rotation", "replicated", "shadow"))
def start(
    problem: Problem,
    neighbors: Any,
    key: Array,
    masses: Float[Array, "*replicas atoms"],
    temperature: Any,
    velocities: Any,
    freedom: Any,
    *,
    rotation: bool,
    replicated: bool,
    shadow: bool,
) -> tuple[State, Listed, Frames]:
    """State at step 0, its list and frame.

    Velocities are drawn and degrees of freedom counted where none are given.
    """
    ensemble, energy_fn = problem.ensemble, problem.energy_fn

    def one(system, neighbors, key, masses, velocities):
        strain = jnp.zeros((), system.positions.dtype) if ensemble.moves_cell else None
        neighbors = _renew(system, neighbors, system.positions, strain)
        draw, thermostat = jax.random.split(jax.random.wrap_key_data(key))
        if velocities is None:
            velocities = maxwell_boltzmann(
                draw, system.positions, masses, temperature, rotation=rotation
            )
        degrees = freedom
        if degrees is None and ensemble.conserves_momentum:
            degrees = thermal_freedom(system.positions, velocities, masses, rotation=rotation)
        elif degrees is None:
            degrees = system.positions.size
        state = _first_state(ensemble, system, masses, velocities, degrees, thermostat, strain)
        state = forced(energy_fn, system, neighbors, state)
        return state, Listed(neighbors, system.positions, strain)

    def with_bath(state, system):
        space = None if system.cell is None else volume(system.cell)
        return replace(state, bath=ensemble.bath(ensemble, state, space))

    def frame_of(state, system, listed):
        return take_frame(ensemble, energy_fn, system, listed.neighbors, state, shadow)

    system = problem.system
    state, listed = _each(one, replicated)(system, neighbors, key, masses, velocities)
    apart = replicated and not ensemble.couples_replicas
    state = _each(with_bath, apart)(state, system)
    frame = _each(frame_of, replicated)(state, system, listed)
    return state, listed, jax.tree.map(lambda x: x[None], frame._replace(steps=jnp.int32(0)))


def _first_state(ensemble, system, masses, velocities, degrees, key, strain) -> State:
    position = system.positions
    reduced = ensemble.reduced_masses(masses).astype(position.dtype)
    momentum = (reduced * velocities * ensemble.timestep).astype(position.dtype)
    zero, data = jnp.zeros((), jnp.int32), jax.random.key_data(key)
    degrees = jnp.asarray(degrees, jnp.int32)
    return State(position, momentum, position, reduced, zero, data, degrees, {}, strain, strain)


@functools.partial(jax.jit, static_argnames=("replicated",))
def build_list(problem: Problem, listed: Listed, *, replicated: bool) -> Listed:
    """The list of a reference geometry, as :func:`advance` builds it."""
    renew = _each(_renew, replicated)
    return listed._replace(
        neighbors=renew(problem.system, listed.neighbors, listed.position, listed.strain)
    )


@functools.partial(jax.jit, static_argnames=("replicated",))
def forces_at(
    problem: Problem, state: State, listed: Listed, *, replicated: bool
) -> Float[Array, "*replicas atoms 3"]:
    """Forces in eV/Å at a state, which a restart is compared with."""

    def one(system, listed, state):
        return forced(problem.energy_fn, system, listed.neighbors, state).force

    return _each(one, replicated)(problem.system, listed, state)


@functools.partial(jax.jit, static_argnames=("capacity", "replicated", "shadow"))
def advance(
    problem: Problem,
    carry: Carry,
    stop: Int[Array, ""],
    every: Int[Array, ""],
    max_displacement: Float[Array, ""],
    *,
    capacity: int,
    replicated: bool,
    shadow: bool,
) -> tuple[Carry, Frames, Int[Array, ""]]:
    """Run until step ``stop`` or trouble, recording every ``every`` steps and at ``stop`` itself.

    Forces alone are evaluated in between; the energy only for frames.
    """
    serves, one_step = _step(problem, max_displacement, replicated)
    listing = carry.listed.neighbors is not None

    def one_list(carry: Carry, target: Array) -> Carry:
        if listing:
            listed = jax.lax.cond(
                carry.status == STALE,
                lambda: _renew_all(problem, carry, replicated),
                lambda: carry.listed,
            )
            overflow = jnp.any(listed.neighbors.overflow)
            status = jnp.where(overflow, OVERFLOW, RUNNING).astype(jnp.int32)
            carry = carry._replace(listed=listed, status=status)
        state, step, status = jax.lax.while_loop(
            lambda c: (c[1] < target) & (c[2] == RUNNING) & serves(carry.listed, c[0]),
            lambda c: one_step(carry.listed, *c[:2]),
            (carry.state, carry.step, carry.status),
        )
        # The loop ends early without a failure where the list no longer serves.
        old = (status == RUNNING) & (step < target)
        return Carry(state, carry.listed, step, jnp.where(old, STALE, status).astype(jnp.int32))

    frame_of = _each(
        lambda system, neighbors, state: take_frame(
            problem.ensemble, problem.energy_fn, system, neighbors, state, shadow
        ),
        replicated,
    )

    def one_frame(loop):
        before, frames, count = loop
        target = jnp.minimum((before.step // every + 1) * every, stop)
        carry = jax.lax.while_loop(
            lambda c: (c.step < target) & (c.status <= STALE),
            lambda c: one_list(c, target),
            before,
        )
        frame = frame_of(problem.system, carry.listed.neighbors, carry.state)
        frame = frame._replace(steps=carry.step)
        # Forces can be finite where the energy is not: then the last frame is the last good state.
        broken = (carry.status == RUNNING) & ~jnp.all(jnp.isfinite(frame.potential_energy))
        kept = jax.tree.map(lambda old, new: jnp.where(broken, old, new), before.state, carry.state)
        carry = Carry(
            kept,
            carry.listed,
            jnp.where(broken, before.step, carry.step),
            jnp.where(broken, NOT_FINITE, carry.status).astype(jnp.int32),
        )
        # Past a failure the slot holds no frame; `count` does not reach it.
        frames = jax.tree.map(lambda b, x: b.at[count].set(x), frames, frame)
        return carry, frames, count + (carry.status == RUNNING).astype(jnp.int32)

    def unfinished(loop) -> Bool[Array, ""]:
        return (loop[0].step < stop) & (loop[0].status <= STALE)

    shapes = jax.eval_shape(frame_of, problem.system, carry.listed.neighbors, carry.state)
    shapes = shapes._replace(steps=carry.step)
    empty = jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape), x.dtype), shapes)
    return jax.lax.while_loop(unfinished, one_frame, (carry, empty, jnp.int32(0)))


@functools.partial(jax.jit, static_argnames=("replicated",))
def next_step(
    problem: Problem, state: State, listed: Listed, *, replicated: bool
) -> tuple[Float[Array, "*replicas atoms"], Float[Array, "*replicas atoms 3"]]:
    """How far each atom would go from a state, in Å, and the forces there: what went wrong."""

    def one(system, listed, state, moved):
        neighbors = _renew(system, listed.neighbors, moved.position, moved.strain)
        force = forced(problem.energy_fn, system, neighbors, moved).force
        return jnp.sqrt(_displaced(moved, state)), force

    moved = _propose(problem, state, replicated)
    return _each(one, replicated)(problem.system, listed, state, moved)


def _step(problem: Problem, max_displacement: Array, replicated: bool):
    """Whether a list serves the next step of a state, and that step.

    ``(listed, state) -> bool`` and ``(listed, state, step) -> (state, step, status)``, with the old
    state if the new is bad. Both propose the new positions: that is cheap, whereas a branch around
    the forces would cost much, as what they need of the list alone could not leave the loop.
    """
    ensemble, energy_fn = problem.ensemble, problem.energy_fn
    stale = _each(_is_stale, replicated)

    def look(state: State) -> tuple[State, Array]:
        moved = _propose(problem, state, replicated)
        far = jnp.max(_each(_displaced, replicated)(moved, state))
        exploded = far > max_displacement**2
        if moved.strain is not None:
            exploded |= jnp.max(jnp.abs(jnp.expm1(moved.strain - state.strain))) > MAX_STRAIN
        status = jnp.where(exploded, EXPLODED, RUNNING)
        return moved, jnp.where(jnp.isfinite(far), status, NOT_FINITE).astype(jnp.int32)

    def serves(listed: Listed, state: State) -> Array:
        if listed.neighbors is None:
            return jnp.ones((), bool)
        moved, status = look(state)
        # What explodes needs no list: the step says so.
        return (status != RUNNING) | ~jnp.any(stale(problem.system, listed, moved))

    def force_of(system, neighbors, moved):
        return forced(energy_fn, system, neighbors, moved)

    apart = replicated and not ensemble.couples_replicas
    finish = _each(functools.partial(ensemble.finish, ensemble), apart)

    def one_step(listed: Listed, state: State, step: Array):
        moved, status = look(state)
        new = finish(_each(force_of, replicated)(problem.system, listed.neighbors, moved))
        finite = jnp.isfinite(jnp.sum(new.force))
        reached = jnp.where(finite, status, NOT_FINITE).astype(jnp.int32)
        good = reached == RUNNING
        kept = jax.tree.map(lambda a, b: jnp.where(good, a, b), new, state)
        return kept, step + good.astype(jnp.int32), reached

    return serves, one_step


def _is_stale(system: System, listed: Listed, moved: State) -> Bool[Array, ""]:
    reference = at_state(system, listed.position, listed.strain)
    return is_stale(at_state(system, moved.position, moved.strain), reference, listed.neighbors)


def _renew(system: System, neighbors: Any, position: Array, strain: Any) -> Any:
    if neighbors is None:
        return None
    return update_neighbors(at_state(system, position, strain), neighbors)


def _renew_all(problem: Problem, carry: Carry, replicated: bool) -> Listed:
    """Lists for the positions that the next step proposes."""
    moved = _propose(problem, carry.state, replicated)
    neighbors = _each(_renew, replicated)(
        problem.system, carry.listed.neighbors, moved.position, moved.strain
    )
    return Listed(neighbors, moved.position, moved.strain)


def _displaced(new: State, old: State) -> Float[Array, " atoms"]:
    """Squared distance in Å² that each atom moves, beyond moving with the cell."""
    origin = old.position
    if new.strain is not None:
        origin = origin * jnp.exp(new.strain - old.strain)
    return jnp.sum((new.position - origin) ** 2, axis=-1)
