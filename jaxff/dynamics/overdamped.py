r"""Overdamped Langevin dynamics: positions alone, driven by forces and noise.

With a mobility M the positions obey :math:`\dot r = M F + \sqrt{2 M k_B T}\,\xi`. In the scheme of
Leimkuhler and Matthews,

.. math:: r_{n+1} = r_n + h F_n + \sqrt{2 k_B T h}\,\frac{\xi_n + \xi_{n+1}}2, \qquad h = M\Delta t,

every random number serves in two steps, which leaves an error of second order in the time step in
place of Euler's first, and none for a harmonic well. It is Langevin dynamics in the BAOAB splitting
that forgets its momenta in every step, of masses for which half a squared time step over the mass
is h: so it is run, with these masses in place of the atoms'.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxff import units
from jaxff.dynamics import thermostats
from jaxff.dynamics.ensembles import (
    Ensemble,
    heat,
    minus_heat,
    positive,
    second_kick,
    thermal_energy,
)
from jaxff.dynamics.integrators import State, drift, kick

__all__ = ["overdamped"]


def overdamped(
    timestep: float,
    temperature: float,
    *,
    friction: float | None = None,
    mobility: float | None = None,
) -> Ensemble:
    """Constant temperature: Langevin dynamics in the limit of high friction.

    Configurations are those of the canonical ensemble. Velocities of the frames are thermal ones of
    masses that belong to the time step (``Trajectory.masses``), with which the conserved energy
    tells the error of the steps; they mean nothing else.

    Args:
        timestep: Time step in fs.
        temperature: Temperature in K.
        friction: Rate in 1/fs at which velocities would be forgotten, with the masses of the atoms:
            the mobility of each is one over mass and friction.
        mobility: Mobility in Å²/(eV fs) of all atoms instead. With a mobility of 1 time is in
            reduced units, Å²/eV.

    Raises:
        ValueError: If a number is not positive, or not one of friction and mobility is given.
    Reference:
        Leimkuhler & Matthews, Appl. Math. Res. Express 2013, 34 (2013), doi:10.1093/amrx/abs010.
    """
    if (friction is None) == (mobility is None):
        raise ValueError(f"give either friction or mobility, got {friction} and {mobility}")
    parameters = {"temperature": positive("temperature", temperature, "K")}
    if friction is not None:
        parameters["friction"] = positive("friction", friction, "1/fs")
    if mobility is not None:
        parameters["mobility"] = positive("mobility", mobility, "Å²/(eV fs)")
    return Ensemble(
        positive("timestep", timestep, "fs"), parameters, "overdamped",
        heat, _step, second_kick, minus_heat, conserves_momentum=False, inertia=_inertia,
    )  # fmt: skip


def _step(ensemble: Ensemble, state: State) -> State:
    state = drift(kick(state), 0.5)
    thermal = thermal_energy(ensemble, state)
    forgotten = jnp.full_like(thermal, jnp.inf)
    return drift(thermostats.ornstein_uhlenbeck(state, thermal, forgotten), 0.5)


def _inertia(ensemble: Ensemble, masses: np.ndarray) -> Any:
    """Masses in amu of which half a squared time step is the mobility times the time step."""
    parameters = ensemble.parameters
    if "friction" in parameters:
        return 0.5 * parameters["friction"] * ensemble.timestep * masses
    step = ensemble.timestep / (2.0 * parameters["mobility"] * units.TIME**2)
    return np.full_like(masses, step)
