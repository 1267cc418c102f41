"""Ensembles: records of jax-md's ``(init, apply)`` with their parameters.

Inside the integrators the unit of time is the time step itself, energies are in eV and lengths in
Å: masses are m / Δt². jax-md rounds its time step to float32; a step of 1 is exact, so float64 runs
stay float64, and a new time step or temperature is a new leaf, not a new compilation.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax

from jaxff import units
from jaxff.types import Array

__all__ = ["Ensemble", "langevin", "nve"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Ensemble:
    """How a state is made and moved by one step.

    Attributes:
        timestep: Time step in fs.
        parameters: Further numbers that ``init`` and ``apply`` read, in eV, Å, amu, fs.
        name: Name written to files.
        init: ``(ensemble, energy_fn, shift_fn, key, positions, masses, momenta, **kwargs) ->
            state``, with energy and shift as jax-md calls them, masses and momenta in units of the
            time step (:func:`reduced_masses`). The state has ``position``, ``momentum``, ``force``
            and ``mass``.
        apply: ``(ensemble, energy_fn, shift_fn, state, **kwargs) -> state``.
        conserves_momentum: Whether translation (and, for molecules, rotation) stays as it began; if
            not, all 3 N degrees of freedom are thermal.
    """

    timestep: Any
    parameters: dict[str, Any]
    name: str = field(metadata={"static": True})
    init: Callable[..., Any] = field(metadata={"static": True})
    apply: Callable[..., Any] = field(metadata={"static": True})
    conserves_momentum: bool = field(default=True, metadata={"static": True})

    def reduced_masses(self, masses: Array) -> Array:
        """Masses ``(atoms,)`` in amu as ``(atoms, 1)`` in eV step²/Å²."""
        return masses[:, None] * (units.TIME / self.timestep) ** 2

    def velocities(self, state: Any) -> Array:
        """Velocities in Å/fs of an integrator's state."""
        return state.momentum / state.mass / self.timestep


def nve(timestep: float) -> Ensemble:
    """Constant energy: velocity Verlet, one force evaluation a step.

    Args:
        timestep: Time step in fs.

    Raises:
        ValueError: If the time step is not positive.
    Reference:
        Swope et al., J. Chem. Phys. 76, 637 (1982), doi:10.1063/1.442716; integrated by
        ``jax_md.simulate.nve``.
    """
    return Ensemble(_positive("timestep", timestep, "fs"), {}, "nve", _nve_init, _nve_apply)


def langevin(timestep: float, temperature: float, friction: float) -> Ensemble:
    """Constant temperature: Langevin dynamics in the BAOAB splitting, one force call a step.

    Args:
        timestep: Time step in fs.
        temperature: Temperature in K.
        friction: Rate in 1/fs at which velocities forget; 0.001 to 0.01 is usual.

    Raises:
        ValueError: If a number is not positive.
    Reference:
        Leimkuhler & Matthews, Appl. Math. Res. Express 2013, 34 (2013), doi:10.1093/amrx/abs010;
        integrated by ``jax_md.simulate.nvt_langevin``.
    """
    parameters = {
        "temperature": _positive("temperature", temperature, "K"),
        "friction": _positive("friction", friction, "1/fs"),
    }
    step = _positive("timestep", timestep, "fs")
    return Ensemble(step, parameters, "langevin", _langevin_init, _langevin_apply, False)


def _positive(name: str, value: float, unit: str) -> float:
    if not 0.0 < value < float("inf"):
        raise ValueError(f"{name} must be a positive number in {unit}, got {value}")
    return float(value)


# Functions of the module: ensembles of one kind compare equal as static data and compile once.


def _nve_init(ensemble, energy_fn, shift_fn, key, positions, masses, momenta, **kwargs):
    from jax_md import simulate

    init, _ = simulate.nve(energy_fn, shift_fn, 1.0)
    return init(key, positions, 0.0, mass=masses, momenta=momenta, **kwargs)


def _nve_apply(ensemble, energy_fn, shift_fn, state, **kwargs):
    from jax_md import simulate

    return simulate.nve(energy_fn, shift_fn, 1.0)[1](state, **kwargs)


def _langevin(ensemble, energy_fn, shift_fn):
    from jax_md import simulate

    thermal = units.BOLTZMANN * ensemble.parameters["temperature"]
    rate = ensemble.parameters["friction"] * ensemble.timestep
    return simulate.nvt_langevin(energy_fn, shift_fn, 1.0, thermal, gamma=rate)


def _langevin_init(ensemble, energy_fn, shift_fn, key, positions, masses, momenta, **kwargs):
    init, _ = _langevin(ensemble, energy_fn, shift_fn)
    return init(key, positions, mass=masses, momenta=momenta, **kwargs)


def _langevin_apply(ensemble, energy_fn, shift_fn, state, **kwargs):
    return _langevin(ensemble, energy_fn, shift_fn)[1](state, **kwargs)
