"""A state seen as atoms: its forces, and the frame that is recorded of it."""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxff.cell import volume
from jaxff.derivatives import forces, hessian_vector, require_strain
from jaxff.dynamics.ensembles import Ensemble
from jaxff.dynamics.integrators import State, kinetic_energy
from jaxff.potential import EnergyFn
from jaxff.system import System
from jaxff.types import Array

__all__ = ["Frames", "at_state", "forced", "take_frame"]


class Frames(NamedTuple):
    """Recorded frames, on the device or the host; the first ``count`` entries are real.

    Attributes:
        steps: Step of each frame, ``(capacity,)``.
        positions: Å, ``(capacity, *replicas, atoms, 3)``.
        velocities: Å/fs, likewise.
        forces: eV/Å, likewise.
        potential_energy: eV, ``(capacity, *replicas)``.
        kinetic_energy: eV.
        half_step_kinetic_energy: Mean of those half a step before and after the frame, eV.
        conserved_energy: eV, :meth:`jaxff.dynamics.Ensemble.conserved`.
        shadow_energy: eV, or ``None``.
        strain: Logarithm of the length of the cell, or ``None``.
        pressure: Instantaneous pressure in eV/Å³, or ``None``.
    """

    steps: Any
    positions: Any
    velocities: Any
    forces: Any
    potential_energy: Any
    kinetic_energy: Any
    half_step_kinetic_energy: Any
    conserved_energy: Any
    shadow_energy: Any
    strain: Any
    pressure: Any


def at_state(system: System, position: Array, strain: Any) -> System:
    """The system at the positions of a state, and at the size of its cell."""
    if strain is None or system.cell is None:
        return system.replace(positions=position)
    return system.replace(positions=position, cell=jnp.exp(strain) * system.cell)


def forced(energy_fn: EnergyFn, system: System, neighbors: Any, state: State) -> State:
    """The state with the forces, and where the cell moves the virial, of its positions."""
    here = at_state(system, state.position, state.strain)
    if state.strain is None:
        return replace(state, force=forces(energy_fn)(here, neighbors))
    require_strain(energy_fn, here)

    def energy(position, growth):
        scaled = here.replace(positions=position * (1.0 + growth), cell=here.cell * (1.0 + growth))
        return energy_fn(scaled, neighbors)

    slope, by_growth = jax.grad(energy, (0, 1))(state.position, jnp.zeros_like(state.strain))
    return replace(state, force=-slope, virial=-by_growth)


def take_frame(
    ensemble: Ensemble,
    energy_fn: EnergyFn,
    system: System,
    neighbors: Any,
    state: State,
    shadow: bool,
) -> Frames:
    """What is recorded of a state; its arrays have no axis of frames yet."""
    here = at_state(system, state.position, state.strain)
    potential, kinetic = energy_fn(here, neighbors), kinetic_energy(state)
    # Half a step before and after, momenta differ from the present ones by half the force.
    square = jnp.sum(state.force**2 / state.mass)
    conserved = ensemble.conserved(state, potential)
    shadowed = pressure = None
    if shadow:
        speed = state.momentum / state.mass
        curvature = jnp.sum(speed * hessian_vector(energy_fn)(here, speed, neighbors))
        shadowed = potential + kinetic + curvature / 12.0 - square / 24.0
    if state.strain is not None and here.cell is not None:
        pressure = (2.0 * kinetic + state.virial) / (3.0 * volume(here.cell))
    return Frames(
        state.step,
        state.position,
        ensemble.velocities(state),
        state.force,
        potential,
        kinetic,
        kinetic + square / 8.0,
        conserved,
        shadowed,
        state.strain,
        pressure,
    )
