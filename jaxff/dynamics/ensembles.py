"""Ensembles: records of the functions that make up a step, with their parameters.

Parameters are leaves: another time step, temperature or pressure runs the same compiled program.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxff import units
from jaxff.dynamics import thermostats
from jaxff.dynamics.integrators import State, drift, kick, kinetic_energy
from jaxff.types import Array, Float

__all__ = [
    "Ensemble",
    "csvr",
    "heat",
    "langevin",
    "minus_heat",
    "nose_hoover",
    "nve",
    "positive",
    "second_kick",
    "thermal_energy",
]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Ensemble:
    """How a state is moved by one step, and what it conserves.

    Attributes:
        timestep: Time step in fs.
        parameters: Further numbers that the functions read, in eV, Å, K, fs.
        name: Name written to files.
        bath: ``(ensemble, state, volume) -> arrays by name`` with which thermostat and barostat
            begin; the volume in Å³ is ``None`` without a cell.
        propose: ``(ensemble, state) -> state``, the step up to its new positions.
        finish: ``(ensemble, state) -> state``, the rest, once the state has its new forces.
        bath_energy: ``(ensemble, state) -> eV``, what makes the total energy a conserved quantity.
        conserves_momentum: Whether translation (and, for molecules, rotation) stays as it began; if
            not, all 3 N degrees of freedom are thermal.
        moves_cell: Whether the cell is part of the state.
        couples_replicas: Whether replicas are the beads of one ring polymer: ``bath``, ``propose``
            and ``finish`` see all of them, with a leading axis.
        inertia: ``(ensemble, masses) -> masses`` in amu with which it runs, where they are not
            those of the atoms; ``None`` where they are.
    """

    timestep: Any
    parameters: dict[str, Any]
    name: str = field(metadata={"static": True})
    bath: Callable[..., Any] = field(metadata={"static": True})
    propose: Callable[..., Any] = field(metadata={"static": True})
    finish: Callable[..., Any] = field(metadata={"static": True})
    bath_energy: Callable[..., Any] = field(metadata={"static": True})
    conserves_momentum: bool = field(default=True, metadata={"static": True})
    moves_cell: bool = field(default=False, metadata={"static": True})
    couples_replicas: bool = field(default=False, metadata={"static": True})
    inertia: Callable[..., Any] | None = field(default=None, metadata={"static": True})

    def reduced_masses(self, masses: Array) -> Array:
        """Masses ``(atoms,)`` in amu as ``(atoms, 1)`` in eV step²/Å²."""
        return masses[:, None] * (units.TIME / self.timestep) ** 2

    def inertial_masses(
        self, masses: Float[np.ndarray, "*replicas atoms"]
    ) -> Float[np.ndarray, "*replicas atoms"]:
        """Masses in amu with which atoms of these masses are run."""
        return masses if self.inertia is None else self.inertia(self, masses)

    def velocities(self, state: State) -> Array:
        """Velocities in Å/fs of a state."""
        return state.momentum / state.mass / self.timestep

    def conserved(self, state: State, potential: Float[Array, ""]) -> Float[Array, ""]:
        """The quantity in eV that would be constant at an infinitely small time step.

        NVE: total energy. Nosé-Hoover: that of the extended system. Langevin and CSVR: total energy
        less the heat that the thermostat has given. NPT: likewise, with the energy of the piston
        and the work against the pressure. Ring polymers: likewise with their springs, the sum over
        the beads.

        Args:
            state: State of the integrator.
            potential: Its potential energy in eV.

        Reference:
            Bussi & Parrinello, Phys. Rev. E 75, 056707 (2007), doi:10.1103/PhysRevE.75.056707.
        """
        return potential + kinetic_energy(state) + self.bath_energy(self, state)


def nve(timestep: float) -> Ensemble:
    """Constant energy: velocity Verlet, one force evaluation a step.

    Degrees of freedom: 3 N, less those of the whole that do not move.

    Args:
        timestep: Time step in fs.

    Raises:
        ValueError: If the time step is not positive.
    Reference:
        Swope et al., J. Chem. Phys. 76, 637 (1982), doi:10.1063/1.442716.
    """
    return Ensemble(
        positive("timestep", timestep, "fs"),
        {},
        "nve",
        _no_bath,
        _verlet,
        second_kick,
        _no_bath_energy,
    )


def langevin(timestep: float, temperature: float, friction: float) -> Ensemble:
    """Constant temperature: Langevin dynamics in the BAOAB splitting.

    Degrees of freedom: all 3 N, as noise moves the whole too.

    Args:
        timestep: Time step in fs.
        temperature: Temperature in K.
        friction: Rate in 1/fs at which velocities forget; 0.001 to 0.01 is usual.

    Raises:
        ValueError: If a number is not positive.
    Reference:
        Leimkuhler & Matthews, Appl. Math. Res. Express 2013, 34 (2013), doi:10.1093/amrx/abs010.
    """
    parameters = {
        "temperature": positive("temperature", temperature, "K"),
        "friction": positive("friction", friction, "1/fs"),
    }
    return _thermal("langevin", timestep, parameters, heat, _langevin_step, minus_heat, False)


def csvr(timestep: float, temperature: float, relaxation_time: float) -> Ensemble:
    """Constant temperature by stochastic velocity rescaling; dynamics are hardly disturbed.

    Degrees of freedom: 3 N, less those of the whole that do not move.

    Args:
        timestep: Time step in fs.
        temperature: Temperature in K.
        relaxation_time: Time in fs within which the kinetic energy relaxes; 100 is usual.

    Raises:
        ValueError: If a number is not positive.
    Reference:
        Bussi, Donadio & Parrinello, J. Chem. Phys. 126, 014101 (2007), doi:10.1063/1.2408420.
    """
    parameters = _temperature_and_time(temperature, relaxation_time)
    return _thermal("csvr", timestep, parameters, heat, _csvr_step, minus_heat)


def nose_hoover(
    timestep: float, temperature: float, relaxation_time: float, *, chain_length: int = 3
) -> Ensemble:
    r"""Constant temperature by a Nosé-Hoover chain: deterministic and time-reversible.

    Degrees of freedom: 3 N, less those of the whole that do not move. Small or nearly harmonic
    systems may not forget where they began; Langevin dynamics does.

    Args:
        timestep: Time step in fs.
        temperature: Temperature in K.
        relaxation_time: :math:`\tau` in fs of the chain's masses, :math:`f k_B T\tau^2` and
            :math:`k_B T\tau^2`; 50 to 100 is usual.
        chain_length: Number of thermostats in the chain.

    Raises:
        ValueError: If a number is not positive.
    Reference:
        Martyna, Klein & Tuckerman, J. Chem. Phys. 97, 2635 (1992), doi:10.1063/1.463940; Martyna et
        al., Mol. Phys. 87, 1117 (1996), doi:10.1080/00268979600100761 (the splitting); Yoshida,
        Phys. Lett. A 150, 262 (1990), doi:10.1016/0375-9601(90)90092-3 (its weights).
    """
    if chain_length < 1:
        raise ValueError(f"chain_length must be at least 1, got {chain_length}")
    parameters = _temperature_and_time(temperature, relaxation_time)
    # The length of the chain is a shape: it travels as that of an array of zeros.
    parameters["chain"] = (0.0,) * chain_length
    return _thermal(
        "nose-hoover", timestep, parameters, _chain, _nose_hoover_step, _chain_energy
    )  # fmt: skip


def positive(name: str, value: float, unit: str) -> float:
    """The value, if it is positive and finite.

    Raises:
        ValueError: If it is not.
    """
    if not 0.0 < value < float("inf"):
        raise ValueError(f"{name} must be a positive number in {unit}, got {value}")
    return float(value)


def _temperature_and_time(temperature: float, relaxation_time: float) -> dict[str, Any]:
    return {
        "temperature": positive("temperature", temperature, "K"),
        "relaxation_time": positive("relaxation_time", relaxation_time, "fs"),
    }


def _thermal(
    name: str,
    timestep: float,
    parameters: dict[str, Any],
    bath: Callable[..., Any],
    step: Callable[..., Any],
    energy: Callable[..., Any],
    conserves_momentum: bool = True,
) -> Ensemble:
    checked = positive("timestep", timestep, "fs")
    return Ensemble(checked, parameters, name, bath, step, second_kick, energy, conserves_momentum)


# Functions of the module: ensembles of one kind compare equal as static data and compile once.


def _no_bath(ensemble: Ensemble, state: State, volume: Any) -> dict[str, Any]:
    return {}


def _no_bath_energy(ensemble: Ensemble, state: State) -> float:
    return 0.0


def _verlet(ensemble: Ensemble, state: State) -> State:
    return drift(kick(state), 1.0)


def second_kick(ensemble: Ensemble, state: State) -> State:
    """Half a kick under the new forces, which ends the step."""
    return replace(kick(state), step=state.step + 1)


def thermal_energy(ensemble: Ensemble, state: State) -> Array:
    """Boltzmann's constant times the temperature in eV."""
    return jnp.asarray(units.BOLTZMANN * ensemble.parameters["temperature"], state.momentum.dtype)


def heat(ensemble: Ensemble, state: State, volume: Any) -> dict[str, Any]:
    """Bath of a thermostat that counts the heat it gives."""
    return {"heat": jnp.zeros((), state.momentum.dtype)}


def minus_heat(ensemble: Ensemble, state: State) -> Array:
    """What such a bath adds to the conserved energy, eV."""
    return -state.bath["heat"]


def _langevin_step(ensemble: Ensemble, state: State) -> State:
    state = drift(kick(state), 0.5)
    rate = ensemble.parameters["friction"] * ensemble.timestep
    thermal = thermal_energy(ensemble, state)
    return drift(thermostats.ornstein_uhlenbeck(state, thermal, rate), 0.5)


def _csvr_step(ensemble: Ensemble, state: State) -> State:
    state = drift(kick(state), 0.5)
    rate = ensemble.timestep / ensemble.parameters["relaxation_time"]
    thermal = thermal_energy(ensemble, state)
    return drift(thermostats.rescaling(state, thermal, rate), 0.5)


def _chain(ensemble: Ensemble, state: State, volume: Any) -> dict[str, Any]:
    zeros = jnp.zeros(len(ensemble.parameters["chain"]), state.momentum.dtype)
    return {"chain_position": zeros, "chain_momentum": zeros}


def _chain_masses(ensemble: Ensemble, state: State) -> Array:
    period = ensemble.parameters["relaxation_time"] / ensemble.timestep
    masses = thermal_energy(ensemble, state) * jnp.full_like(
        state.bath["chain_position"], period**2
    )
    return masses.at[0].multiply(state.freedom)


def _nose_hoover_step(ensemble: Ensemble, state: State) -> State:
    state = drift(kick(state), 0.5)
    masses, thermal = _chain_masses(ensemble, state), thermal_energy(ensemble, state)
    return drift(thermostats.nose_hoover_chain(state, thermal, masses), 0.5)


def _chain_energy(ensemble: Ensemble, state: State) -> Array:
    masses, thermal = _chain_masses(ensemble, state), thermal_energy(ensemble, state)
    place, momentum = state.bath["chain_position"], state.bath["chain_momentum"]
    heights = thermal * (state.freedom * place[0] + jnp.sum(place[1:]))
    return 0.5 * jnp.sum(momentum**2 / masses) + heights
