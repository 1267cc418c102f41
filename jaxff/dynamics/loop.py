"""The compiled part of a run: many steps and their frames in one call.

Two programs make a run: :func:`start` and :func:`advance`. Numbers of steps are data, not shapes,
so that a remainder, another time step, temperature or parameter set runs the same program.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxff.dynamics.ensembles import Ensemble
from jaxff.dynamics.jax_md import TrackedNeighbors, to_jax_md
from jaxff.dynamics.velocities import maxwell_boltzmann
from jaxff.neighbors import NeighborListFns
from jaxff.potential import EnergyFn
from jaxff.system import System
from jaxff.types import Array, Bool, Float, Int

__all__ = ["EXPLODED", "NOT_FINITE", "RUNNING", "STALE", "Carry", "Frames", "advance", "start"]

RUNNING, NOT_FINITE, EXPLODED, STALE = range(4)
"""Why the loop stopped; in the last case the pair list must be built anew."""


class Frames(NamedTuple):
    """Recorded frames, on the device or the host; the first ``count`` entries are real.

    Attributes:
        steps: Step of each frame, ``(capacity,)``.
        positions: Å, ``(capacity, atoms, 3)``.
        velocities: Å/fs, ``(capacity, atoms, 3)``.
        forces: eV/Å, ``(capacity, atoms, 3)``.
        potential_energy: eV, ``(capacity,)``.
        kinetic_energy: eV, ``(capacity,)``.
    """

    steps: Any
    positions: Any
    velocities: Any
    forces: Any
    potential_energy: Any
    kinetic_energy: Any


class Carry(NamedTuple):
    """What goes from step to step.

    Attributes:
        state: The last good state of the integrator.
        step: Its step.
        status: ``RUNNING``, or why it stopped.
    """

    state: Any
    step: Any
    status: Any


@functools.partial(jax.jit, static_argnames=("neighbor_list", "rotation"))
def start(
    energy_fn: EnergyFn,
    ensemble: Ensemble,
    system: System,
    neighbors: TrackedNeighbors,
    key: Array,
    masses: Float[Array, " atoms"],
    temperature: Any,
    velocities: Any,
    *,
    neighbor_list: NeighborListFns | None,
    rotation: bool,
) -> tuple[Any, Frames]:
    """State at step 0 and its frame; velocities are drawn where none are given."""
    _, energy, shift = to_jax_md(energy_fn, system, neighbor_list=neighbor_list)
    draw, thermostat = jax.random.split(key)
    if velocities is None:
        velocities = maxwell_boltzmann(
            draw, system.positions, masses, temperature, rotation=rotation
        )
    reduced = ensemble.reduced_masses(masses).astype(system.positions.dtype)
    momenta = reduced * velocities.astype(reduced.dtype) * ensemble.timestep
    state = ensemble.init(
        ensemble,
        energy,
        shift,
        thermostat,
        system.positions,
        reduced,
        momenta.astype(reduced.dtype),
        neighbor=neighbors,
    )
    frame = _frame(ensemble, state, jnp.int32(0), energy(state.position, neighbor=neighbors))
    return state, jax.tree.map(lambda x: x[None], frame)


@functools.partial(jax.jit, static_argnames=("neighbor_list", "capacity"))
def advance(
    energy_fn: EnergyFn,
    ensemble: Ensemble,
    system: System,
    neighbors: TrackedNeighbors,
    carry: Carry,
    stop: Int[Array, ""],
    every: Int[Array, ""],
    max_displacement: Float[Array, ""],
    *,
    neighbor_list: NeighborListFns | None,
    capacity: int,
) -> tuple[Carry, Frames, Int[Array, ""]]:
    """Run until step ``stop`` or trouble, recording every ``every`` steps and at ``stop`` itself.

    Forces alone are evaluated in between; the energy only for frames.
    """
    neighbor_fn, energy, shift = to_jax_md(energy_fn, system, neighbor_list=neighbor_list)

    def one_step(carry: Carry) -> Carry:
        state = ensemble.apply(ensemble, energy, shift, carry.state, neighbor=neighbors)
        stale = neighbor_fn.update(state.position, neighbors).did_buffer_overflow
        status = _status(carry.state, state, stale, max_displacement)
        good = status == RUNNING
        kept = jax.tree.map(lambda new, old: jnp.where(good, new, old), state, carry.state)
        return Carry(kept, carry.step + good.astype(jnp.int32), status)

    def one_frame(loop):
        before, frames, count = loop
        target = jnp.minimum((before.step // every + 1) * every, stop)
        carry = jax.lax.while_loop(
            lambda c: (c.step < target) & (c.status == RUNNING), one_step, before
        )
        potential = energy(carry.state.position, neighbor=neighbors)
        # Forces can be finite where the energy is not: then the last frame is the last good state.
        broken = (carry.status == RUNNING) & ~jnp.isfinite(potential)
        failed = before._replace(status=jnp.full_like(before.status, NOT_FINITE))
        carry = jax.tree.map(lambda old, new: jnp.where(broken, old, new), failed, carry)
        frame = _frame(ensemble, carry.state, carry.step, potential)
        # Past a failure the slot holds no frame; `count` does not reach it.
        frames = jax.tree.map(lambda b, x: b.at[count].set(x), frames, frame)
        return carry, frames, count + (carry.status == RUNNING).astype(jnp.int32)

    def unfinished(loop) -> Bool[Array, ""]:
        return (loop[0].step < stop) & (loop[0].status == RUNNING)

    shapes = jax.eval_shape(
        lambda s: _frame(ensemble, s, carry.step, energy(s.position, neighbor=neighbors)),
        carry.state,
    )
    empty = jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape), x.dtype), shapes)
    return jax.lax.while_loop(unfinished, one_frame, (carry, empty, jnp.int32(0)))


def _frame(ensemble: Ensemble, state: Any, step: Array, potential: Array) -> Frames:
    velocities = ensemble.velocities(state)
    # Momenta and masses are in units of the step; their kinetic energy is in eV all the same.
    kinetic = 0.5 * jnp.sum(state.momentum**2 / state.mass)
    return Frames(step, state.position, velocities, state.force, potential, kinetic)


def _status(old: Any, new: Any, stale: Array, max_displacement: Array) -> Int[Array, ""]:
    moved = jnp.max(jnp.sum((new.position - old.position) ** 2, axis=-1))
    finite = jnp.isfinite(moved) & jnp.isfinite(jnp.sum(new.force))
    status = jnp.where(stale, STALE, RUNNING)
    status = jnp.where(moved > max_displacement**2, EXPLODED, status)
    return jnp.where(finite, status, NOT_FINITE).astype(jnp.int32)
