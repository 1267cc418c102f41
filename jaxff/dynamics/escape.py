"""How minima hopping leaves a minimum: dynamics along soft directions."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxff import units
from jaxff.derivatives import hessian_vector
from jaxff.dynamics.ensembles import nve
from jaxff.dynamics.run import run
from jaxff.dynamics.velocities import maxwell_boltzmann, remove_rotation, remove_translation
from jaxff.neighbors import NeighborListFns
from jaxff.potential import EnergyFn, as_pytree
from jaxff.system import System
from jaxff.types import Array, Float

__all__ = ["escape", "soft_velocities"]

_CHUNK = 100  # steps of dynamics between two looks


def escape(
    energy_fn: EnergyFn,
    system: System,
    temperature: float,
    key: Array,
    *,
    turns: int,
    timestep: float,
    max_steps: int,
    softening: int,
    lists: NeighborListFns | None,
) -> System:
    """Where dynamics has passed so many minima of the potential energy."""
    mass = np.full(system.atom_count, np.mean(units.masses(np.asarray(system.numbers))))
    listed = None if lists is None else lists.allocate(system)
    velocities = soft_velocities(
        as_pytree(energy_fn), system, listed, key, mass, temperature, np.int32(softening)
    )
    start: dict[str, Any] = {"velocities": velocities}
    energies, done = np.zeros(0), 0
    while True:
        found = run(
            energy_fn, system, ensemble=nve(timestep), steps=min(_CHUNK, max_steps - done),
            masses=mass, every=1, chunk=_CHUNK, neighbors=lists, **start,
        )  # fmt: skip
        energies = np.concatenate([energies, found.potential_energy])
        lowest = np.flatnonzero((energies[1:-1] < energies[:-2]) & (energies[1:-1] <= energies[2:]))
        done = found.restart.step
        if len(lowest) >= turns or done >= max_steps:
            break
        start = {"restart": found.restart}
    # The frame of that minimum may be one of an earlier chunk by a step: then the first of this.
    last = lowest[turns - 1] + 1 if len(lowest) >= turns else len(energies) - 1
    frame = max(0, len(found) - len(energies) + int(last))
    return system.replace(positions=jnp.asarray(found.positions[frame], system.positions.dtype))


@jax.jit
def soft_velocities(
    energy_fn: Any,
    system: System,
    neighbors: Any,
    key: Array,
    mass: Array,
    temperature: Array,
    softening: Array,
) -> Float[Array, "atoms 3"]:
    """Velocities of a temperature along directions of low curvature.

    A descent of the Rayleigh quotient of the Hessian; its step is the inverse of the stiffest
    response seen so far.
    """
    positions = system.positions
    multiply = hessian_vector(energy_fn)

    def rigid_free(vectors: Array) -> Array:
        return remove_rotation(positions, remove_translation(vectors, mass), mass)

    def turn(_: Any, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        direction, stiffest = carry
        response = multiply(system, direction, neighbors)
        curvature = jnp.sum(direction * response)
        stiffest = jnp.maximum(stiffest, jnp.sqrt(jnp.sum(response**2)))
        turned = direction - (response - curvature * direction) / stiffest
        turned = rigid_free(turned)
        return turned / jnp.sqrt(jnp.sum(turned**2)), stiffest

    drawn = maxwell_boltzmann(key, positions, mass.astype(positions.dtype), temperature)
    speed = jnp.sqrt(jnp.sum(drawn**2))
    least = jnp.asarray(jnp.finfo(positions.dtype).tiny, positions.dtype)
    direction, _ = jax.lax.fori_loop(0, softening, turn, (drawn / speed, least))
    return direction * speed
