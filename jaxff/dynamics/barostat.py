r"""Constant pressure: the isotropic piston of Martyna, Tobias and Klein, with Langevin thermostats.

The logarithm :math:`\lambda` of the length of the cell moves with a velocity and a mass of its own;
atoms are carried along,

.. math::
    \dot r = p/m + \dot\lambda r, \quad
    \dot p = F - (1 + 3/f)\,\dot\lambda p, \quad
    \dot p_\lambda = (1 + 3/f)\,2K + W - 3PV ,

with the virial :math:`W = -dE/d\lambda` and :math:`f = 3N`. Friction and noise act on atoms and
piston in the middle of the step. The splitting is symmetric, every part is solved exactly, and the
isothermal-isobaric distribution of :math:`(r, p, V, p_\lambda)` is stationary.

Reference:
    Martyna, Tobias & Klein, J. Chem. Phys. 101, 4177 (1994), doi:10.1063/1.467468 (equations of
    motion); Quigley & Probert, J. Chem. Phys. 120, 11432 (2004), doi:10.1063/1.1755657 (Langevin
    thermostats of atoms and cell).
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from jaxff import units
from jaxff.dynamics.ensembles import Ensemble, positive
from jaxff.dynamics.integrators import State, kick, kinetic_energy, normal, step_key
from jaxff.dynamics.thermostats import ornstein_uhlenbeck
from jaxff.types import Array

__all__ = ["npt"]


def npt(
    timestep: float,
    temperature: float,
    pressure: float,
    friction: float,
    barostat_time: float,
    barostat_friction: float | None = None,
) -> Ensemble:
    r"""Constant temperature and pressure; the cell keeps its shape and changes its size.

    Degrees of freedom: all 3 N, as noise moves the whole too.

    Args:
        timestep: Time step in fs.
        temperature: Temperature in K.
        pressure: Pressure in eV/Å³ (``jaxff.units.GIGAPASCAL`` is one GPa).
        friction: Rate in 1/fs at which velocities of atoms forget; 0.001 to 0.01 is usual.
        barostat_time: :math:`\tau` in fs of the mass of the piston, :math:`(3N+3) k_B T\tau^2`;
            500 to 2000 is usual.
        barostat_friction: Rate in 1/fs at which the velocity of the piston forgets; by default
            1 / ``barostat_time``.

    Raises:
        ValueError: If a number is not positive, or the pressure not finite.
    """
    if not abs(pressure) < float("inf"):
        raise ValueError(f"pressure must be a finite number in eV/Å³, got {pressure}")
    time = positive("barostat_time", barostat_time, "fs")
    rate = 1.0 / time if barostat_friction is None else barostat_friction
    parameters = {
        "temperature": positive("temperature", temperature, "K"),
        "pressure": float(pressure),
        "friction": positive("friction", friction, "1/fs"),
        "barostat_time": time,
        "barostat_friction": positive("barostat_friction", rate, "1/fs"),
    }
    step = positive("timestep", timestep, "fs")
    return Ensemble(
        step,
        parameters,
        "npt",
        _bath,
        _propose,
        _finish,
        _bath_energy,
        conserves_momentum=False,
        moves_cell=True,
    )


def _bath(ensemble: Ensemble, state: State, volume: Any) -> dict[str, Any]:
    zero = jnp.zeros((), state.momentum.dtype)
    heats = {"heat": zero, "piston_heat": zero}
    return {**heats, "piston": zero, "reference_volume": jnp.asarray(volume, zero.dtype)}


def _volume(state: State) -> Array:
    return state.bath["reference_volume"] * jnp.exp(3.0 * state.strain)


def _thermal_energy(ensemble: Ensemble, state: State) -> Array:
    return jnp.asarray(units.BOLTZMANN * ensemble.parameters["temperature"], state.momentum.dtype)


def _mass(ensemble: Ensemble, state: State) -> Array:
    time = ensemble.parameters["barostat_time"] / ensemble.timestep
    return (state.freedom + 3) * _thermal_energy(ensemble, state) * time**2


def _ratio(state: State) -> Array:
    return 1.0 + 3.0 / state.freedom.astype(state.momentum.dtype)


def _push(ensemble: Ensemble, state: State) -> Array:
    """Change of the piston's momentum in half a step by virial and pressure."""
    work = 3.0 * ensemble.parameters["pressure"] * _volume(state)
    return 0.5 * (state.virial - work)


def _with_piston(state: State, piston: Array, **more: Any) -> State:
    return replace(state, bath={**state.bath, "piston": piston}, **more)


def _propose(ensemble: Ensemble, state: State) -> State:
    mass, thermal = _mass(ensemble, state), _thermal_energy(ensemble, state)
    piston = state.bath["piston"] + _push(ensemble, state)
    state = kick(state)
    piston = piston + _ratio(state) * kinetic_energy(state)
    state = _flow(_with_piston(state, piston), piston / mass, 0.5)
    state = ornstein_uhlenbeck(state, thermal, ensemble.parameters["friction"] * ensemble.timestep)
    state = _agitate(ensemble, state, mass, thermal)
    return _flow(state, state.bath["piston"] / mass, 0.5)


def _flow(state: State, rate: Array, steps: float) -> State:
    """Atoms and cell under a constant rate of expansion, exactly."""
    reach = (1.0 + _ratio(state)) * rate * steps
    # (1 - exp(-x)) / x, whose limit at zero is 1.
    small = jnp.abs(reach) < 1e-12
    mean = jnp.where(small, 1.0, -jnp.expm1(-reach) / jnp.where(small, 1.0, reach))
    growth = jnp.exp(rate * steps)
    position = growth * (state.position + steps * mean * state.momentum / state.mass)
    momentum = jnp.exp(-_ratio(state) * rate * steps) * state.momentum
    strain = state.strain + rate * steps
    return replace(state, position=position, momentum=momentum, strain=strain)


def _agitate(ensemble: Ensemble, state: State, mass: Array, thermal: Array) -> State:
    """Friction and noise of the piston."""
    rate = ensemble.parameters["barostat_friction"] * ensemble.timestep
    kept = jnp.exp(-rate).astype(thermal.dtype)
    # Atoms use the key of the step itself.
    noise = normal(jax.random.fold_in(step_key(state), 1), thermal)
    old = state.bath["piston"]
    new = kept * old + jnp.sqrt((1.0 - kept**2) * thermal * mass) * noise
    heat = state.bath["piston_heat"] + 0.5 * (new**2 - old**2) / mass
    return replace(state, bath={**state.bath, "piston": new, "piston_heat": heat})


def _finish(ensemble: Ensemble, state: State) -> State:
    piston = state.bath["piston"] + _ratio(state) * kinetic_energy(state)
    state = _with_piston(state, piston + _push(ensemble, state))
    return replace(kick(state), step=state.step + 1)


def _bath_energy(ensemble: Ensemble, state: State) -> Array:
    bath = state.bath
    moving = 0.5 * bath["piston"] ** 2 / _mass(ensemble, state)
    work = ensemble.parameters["pressure"] * _volume(state)
    return moving + work - bath["heat"] - bath["piston_heat"]
