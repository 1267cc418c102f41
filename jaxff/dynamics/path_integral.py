r"""Path-integral dynamics: nuclei as quantum particles, by the classical dynamics of ring polymers.

At a temperature T, P beads of each atom, tied to rings by springs of the frequency
:math:`\omega_P = P k_B T/\hbar`, move classically at the temperature P T,

.. math::
    H = \sum_{b=1}^{P} \Big[ \frac{p_b^2}{2m} + \tfrac12 m\,\omega_P^2 (r_b - r_{b+1})^2
        + V(r_b) \Big] .

The replicas of a run are the beads: one batch for the potential, one file each for a writer. Kicks
under V, the motion of the free ring in its normal modes, and friction with noise on these alternate
symmetrically (BAOAB). Where the exact rotation of a stiff mode would be in resonance with the time
step, its Cayley form is not, however many beads there are.

Reference:
    Ceriotti, Parrinello, Markland & Manolopoulos, J. Chem. Phys. 133, 124104 (2010),
    doi:10.1063/1.3489925 (normal modes, PILE-L thermostat); Liu, Li & Liu, J. Chem. Phys. 145,
    024103 (2016), doi:10.1063/1.4954990 (thermostat in the middle); Korol, Rosa-Raíces, Bou-Rabee &
    Miller, J. Chem. Phys. 152, 104102 (2020), doi:10.1063/1.5134810 (Cayley form); Rossi, Ceriotti
    & Manolopoulos, J. Chem. Phys. 140, 234116 (2014), doi:10.1063/1.4883861 (friction on internal
    modes only).
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxff import units
from jaxff.dynamics.ensembles import Ensemble, positive
from jaxff.dynamics.integrators import State, kick, normal, step_key
from jaxff.types import Array, Float

__all__ = ["path_integral"]


def path_integral(
    timestep: float,
    temperature: float,
    *,
    centroid_time: float | None = 100.0,
    friction_scale: float = 1.0,
) -> Ensemble:
    r"""Quantum statistics of nuclei at constant temperature: a ring polymer with Langevin noise.

    Give :func:`jaxff.dynamics.run` the number of beads as ``replicas``. Its temperature, also that
    of the initial velocities, is that of the atoms; velocities of beads are :math:`\sqrt P` times
    faster. Potential energies and forces of the frames are those of the beads; conserved is the sum
    of ``conserved_energy`` over them. Energies and radii of gyration are read off by
    :mod:`jaxff.analysis`.

    Args:
        timestep: Time step in fs.
        temperature: Temperature in K.
        centroid_time: Time in fs within which the velocity of the middle of a ring is forgotten;
            ``None`` for no friction there, as time correlation functions want it.
        friction_scale: Friction :math:`2\lambda\omega_k` of the internal modes, as :math:`\lambda`:
            1 forgets soonest (PILE-L), 1/2 is usual for correlation functions; 0 for none, which
            with ``centroid_time=None`` is ring-polymer dynamics at constant energy.

    Raises:
        ValueError: If a number is not positive, or the scale negative.
    """
    if not 0.0 <= friction_scale < float("inf"):
        raise ValueError(f"friction_scale must be 0 or a positive number, got {friction_scale}")
    rate = 0.0
    if centroid_time is not None:
        rate = 1.0 / positive("centroid_time", centroid_time, "fs")
    parameters = {
        "temperature": positive("temperature", temperature, "K"),
        "centroid_rate": rate,
        "friction_scale": float(friction_scale),
    }
    return Ensemble(
        positive("timestep", timestep, "fs"),
        parameters,
        "path-integral",
        _bath,
        _propose,
        _finish,
        _bath_energy,
        conserves_momentum=False,
        couples_replicas=True,
    )


def normal_modes(beads: int) -> Float[np.ndarray, "modes beads"]:
    """Orthonormal modes of a ring as rows, the middle first, by increasing wave number."""
    phase = 2.0 * np.pi * np.outer(np.arange(beads), np.arange(beads)) / beads
    low = np.arange(beads)[:, None] <= beads / 2
    modes = np.sqrt(2.0 / beads) * np.where(low, np.cos(phase), np.sin(phase))
    modes[0] /= np.sqrt(2.0)
    if beads % 2 == 0:
        modes[beads // 2] /= np.sqrt(2.0)
    return modes


def _bath(ensemble: Ensemble, state: State, volume: Any) -> dict[str, Any]:
    return {"heat": jnp.zeros_like(state.mass[:, 0, 0]), "springs": _springs(ensemble, state)}


def _bath_energy(ensemble: Ensemble, state: State) -> Array:
    return state.bath["springs"] - state.bath["heat"]


def _ring_rate(ensemble: Ensemble, beads: int) -> Any:
    """Frequency of the springs, per step."""
    thermal = units.BOLTZMANN * ensemble.parameters["temperature"]
    return beads * thermal * ensemble.timestep / units.REDUCED_PLANCK


def _springs(ensemble: Ensemble, state: State) -> Float[Array, " beads"]:
    """Energy in eV of the spring from each bead to the next."""
    rate = _ring_rate(ensemble, len(state.position))
    apart = state.position - jnp.roll(state.position, -1, axis=0)
    energy = 0.5 * rate**2 * jnp.sum(state.mass * apart**2, axis=(1, 2))
    return jnp.asarray(energy, state.position.dtype)


def _propose(ensemble: Ensemble, state: State) -> State:
    beads = len(state.position)
    modes = jnp.asarray(normal_modes(beads), state.position.dtype)
    waves = np.abs(np.sin(np.pi * np.arange(beads) / beads))[:, None, None]
    rates = jnp.asarray(2.0 * waves * _ring_rate(ensemble, beads), state.position.dtype)
    state = _free_half(_turned(kick(state), modes), rates)
    state = _free_half(_forget(ensemble, state, rates), rates)
    return _turned(state, modes.T)


def _turned(state: State, modes: Array) -> State:
    """Beads as modes, or back by the transposed matrix."""
    place, momentum = (
        jnp.einsum("kb,bia->kia", modes, x) for x in (state.position, state.momentum)
    )
    return replace(state, position=place, momentum=momentum)


def _free_half(state: State, rates: Float[Array, "modes 1 1"]) -> State:
    """Modes of the free ring after half a step, by half of the Cayley rotation of a whole one."""
    angle = jnp.arctan(0.5 * rates)
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    per_rate = jnp.where(rates > 0.0, sine / jnp.where(rates > 0.0, rates, 1.0), 0.5)
    place = cosine * state.position + per_rate * state.momentum / state.mass
    momentum = cosine * state.momentum - rates * sine * state.mass * state.position
    return replace(state, position=place, momentum=momentum)


def _forget(ensemble: Ensemble, state: State, rates: Float[Array, "modes 1 1"]) -> State:
    """Friction and noise on each mode, solved exactly; the key of a bead serves a mode."""
    beads, dtype = len(state.position), state.momentum.dtype
    friction = 2.0 * ensemble.parameters["friction_scale"] * rates
    friction = friction.at[0].set(ensemble.parameters["centroid_rate"] * ensemble.timestep)
    kept = jnp.exp(-friction).astype(dtype)
    thermal = beads * units.BOLTZMANN * ensemble.parameters["temperature"]
    width = jnp.sqrt((1.0 - kept**2) * thermal * state.mass).astype(dtype)
    noise = jax.vmap(lambda s: normal(step_key(s), s.momentum))(state)
    momentum = kept * state.momentum + width * noise
    gained = 0.5 * jnp.sum((momentum**2 - state.momentum**2) / state.mass, axis=(1, 2))
    return replace(
        state, momentum=momentum, bath={**state.bath, "heat": state.bath["heat"] + gained}
    )


def _finish(ensemble: Ensemble, state: State) -> State:
    springs = _springs(ensemble, state)
    return replace(kick(state), step=state.step + 1, bath={**state.bath, "springs": springs})
