"""The steps of which every integrator is made, as pure functions of a state.

Inside an integrator the unit of time is the time step itself, energies are in eV and lengths in Å:
masses are m / Δt², so that a new time step is new data, not a new program. A step is cut at its
force evaluation: ``propose`` moves the atoms, ``finish`` adds the second half kick, and the loop
looks in between whether the neighbour list still serves the new positions.

The thermostat acts in the middle of the step, where momenta are those of the half step. There the
average kinetic energy is free of the error of second order in the time step that it has at whole
steps, and the positions of a harmonic system are sampled exactly.

Reference:
    Leimkuhler & Matthews, Appl. Math. Res. Express 2013, 34 (2013), doi:10.1093/amrx/abs010; Zhang
    et al., J. Chem. Phys. 147, 034109 (2017), doi:10.1063/1.4991621 (the middle scheme for other
    thermostats).
"""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from jaxff.types import Array, Float

__all__ = ["State", "drift", "kick", "kinetic_energy", "normal", "step_key"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class State:
    """Everything that an integrator carries from step to step.

    Attributes:
        position: Å, ``(atoms, 3)``, never wrapped.
        momentum: eV step/Å, ``(atoms, 3)``.
        force: eV/Å, ``(atoms, 3)``, at these positions.
        mass: eV step²/Å², ``(atoms, 1)``.
        step: Steps done.
        key: Random key data of the run; step and key together name every random number.
        freedom: Thermal degrees of freedom.
        bath: Arrays of thermostat and barostat, by name.
        strain: Logarithm of the length of the cell over that of the system's cell; ``None`` where
            the cell is fixed.
        virial: Minus the derivative of the energy by ``strain``, eV; ``None`` likewise.
    """

    position: Any
    momentum: Any
    force: Any
    mass: Any
    step: Any
    key: Any
    freedom: Any
    bath: dict[str, Any]
    strain: Any = None
    virial: Any = None


def kinetic_energy(state: State) -> Float[Array, ""]:
    """Kinetic energy in eV."""
    return 0.5 * jnp.sum(state.momentum**2 / state.mass)


def kick(state: State) -> State:
    """Momenta after half a step under the forces."""
    return replace(state, momentum=state.momentum + 0.5 * state.force)


def drift(state: State, steps: float) -> State:
    """Positions after so many steps of free flight."""
    return replace(state, position=state.position + steps * state.momentum / state.mass)


def step_key(state: State) -> Array:
    """Random key of this step."""
    return jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)


def normal(key: Array, like: Array) -> Array:
    """Standard normal numbers of the shape and precision of an array."""
    return jax.random.normal(key, like.shape, like.dtype)
