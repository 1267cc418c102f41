"""Thermostats: one whole step of each, acting on the momenta of a state."""

from dataclasses import replace

import jax
import jax.numpy as jnp

from jaxff.dynamics.integrators import State, kinetic_energy, normal, step_key
from jaxff.types import Array, Float

__all__ = ["nose_hoover_chain", "ornstein_uhlenbeck", "rescaling"]

_OUTER = 1.0 / (2.0 - 2.0 ** (1.0 / 3.0))
SUZUKI_YOSHIDA = (_OUTER, 1.0 - 2.0 * _OUTER, _OUTER)
"""Lengths of three symmetric substeps that make a scheme of second order one of fourth."""


def ornstein_uhlenbeck(state: State, thermal: Float[Array, ""], rate: Float[Array, ""]) -> State:
    """Friction and noise, solved exactly; ``bath["heat"]`` counts the energy that they give.

    Args:
        state: State of the integrator.
        thermal: Boltzmann's constant times the temperature, eV.
        rate: Friction per step.
    """
    kept = jnp.exp(-rate).astype(thermal.dtype)
    width = jnp.sqrt((1.0 - kept**2) * thermal * state.mass)
    momentum = kept * state.momentum + width * normal(step_key(state), state.momentum)
    heated = replace(state, momentum=momentum)
    return _count_heat(state, heated)


def rescaling(state: State, thermal: Float[Array, ""], rate: Float[Array, ""]) -> State:
    """All momenta times one random number that gives the kinetic energy its exact propagator.

    Atoms at rest stay so: a factor cannot set them in motion.

    Args:
        state: State of the integrator.
        thermal: Boltzmann's constant times the temperature, eV.
        rate: Relaxation per step.

    Reference:
        Bussi, Donadio & Parrinello, J. Chem. Phys. 126, 014101 (2007), doi:10.1063/1.2408420,
        appendix; Bussi & Parrinello, Comput. Phys. Commun. 179, 26 (2008),
        doi:10.1016/j.cpc.2008.01.006 (the sign).
    """
    one, others = jax.random.split(step_key(state))
    kept = jnp.exp(-rate).astype(thermal.dtype)
    along = normal(one, thermal)
    degrees = state.freedom.astype(thermal.dtype)
    # The squares of the other f - 1 normal numbers at once.
    across = 2.0 * jax.random.gamma(others, 0.5 * jnp.maximum(degrees - 1.0, 1.0))
    across = jnp.where(degrees > 1.0, across, 0.0)
    energy = kinetic_energy(state)
    fresh = (1.0 - kept) * 0.5 * thermal / jnp.where(energy > 0.0, energy, 1.0)
    square = kept + fresh * (along**2 + across) + 2.0 * along * jnp.sqrt(kept * fresh)
    sign = jnp.where(along + jnp.sqrt(kept / fresh) < 0.0, -1.0, 1.0)
    # Rounding may take a vanishing square below zero.
    factor = sign * jnp.sqrt(jnp.maximum(square, 0.0))
    return _count_heat(state, replace(state, momentum=factor * state.momentum))


def nose_hoover_chain(
    state: State, thermal: Float[Array, ""], masses: Float[Array, " chain"]
) -> State:
    """Chain of thermostats, split symmetrically and composed to fourth order; momenta are scaled.

    Only numbers are looped over, in a trace of a fixed length: it compiles to one small kernel.

    Args:
        state: State of the integrator with ``chain_position`` and ``chain_momentum`` in its bath.
        thermal: Boltzmann's constant times the temperature, eV.
        masses: Masses of the chain, eV step².
    """
    place = list(state.bath["chain_position"])
    momentum = list(state.bath["chain_momentum"])
    mass, last = list(masses), len(masses) - 1
    double, factor = 2.0 * kinetic_energy(state), jnp.ones_like(thermal)

    def push(link: int, length: float) -> Array:
        """Momentum of a link after half a substep, under its force and the next link's drag."""
        if link == 0:
            force = double - state.freedom * thermal
        else:
            force = momentum[link - 1] ** 2 / mass[link - 1] - thermal
        if link == last:
            return momentum[link] + 0.5 * length * force
        drag = jnp.exp(-0.25 * length * momentum[link + 1] / mass[link + 1])
        return drag * (drag * momentum[link] + 0.5 * length * force)

    for length in SUZUKI_YOSHIDA:
        for link in range(last, -1, -1):
            momentum[link] = push(link, length)
        shrink = jnp.exp(-length * momentum[0] / mass[0])
        factor, double = factor * shrink, double * shrink**2
        place = [x + length * p / m for x, p, m in zip(place, momentum, mass, strict=True)]
        for link in range(last + 1):
            momentum[link] = push(link, length)
    bath = {"chain_position": jnp.stack(place), "chain_momentum": jnp.stack(momentum)}
    return replace(state, momentum=factor * state.momentum, bath={**state.bath, **bath})


def _count_heat(before: State, after: State) -> State:
    gained = kinetic_energy(after) - kinetic_energy(before)
    return replace(after, bath={**after.bath, "heat": before.bath["heat"] + gained})
