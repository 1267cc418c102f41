"""Initial velocities."""

import jax
import jax.numpy as jnp

from jaxff import units
from jaxff.types import Array, Float, Int

__all__ = ["maxwell_boltzmann", "remove_rotation", "remove_translation", "thermal_freedom"]


def maxwell_boltzmann(
    key: Array,
    positions: Float[Array, "atoms 3"],
    masses: Float[Array, " atoms"],
    temperature: Float[Array, ""] | float,
    *,
    rotation: bool = True,
) -> Float[Array, "atoms 3"]:
    r"""Velocities in Å/fs of the canonical distribution, without motion as a whole.

    Components are normal with variance :math:`k_B T / m`.
    Projecting out translation (3 degrees of freedom) and rotation (3, or 2 for a linear molecule)
    leaves the canonical distribution of the others: the kinetic energy is :math:`\tfrac12 f k_B T`
    on average, not in every draw. A single atom keeps its velocity.

    Args:
        key: Random key.
        positions: Positions in Å.
        masses: Masses in amu.
        temperature: Temperature in K.
        rotation: Whether to remove the rotation; for molecules, not for periodic systems.
    """
    speed = jnp.sqrt(units.BOLTZMANN * temperature / masses)[:, None] / units.TIME
    velocities = speed * jax.random.normal(key, positions.shape, positions.dtype)
    if len(masses) == 1:
        return velocities
    velocities = remove_translation(velocities, masses)
    return remove_rotation(positions, velocities, masses) if rotation else velocities


def remove_translation(
    velocities: Float[Array, "atoms 3"], masses: Float[Array, " atoms"]
) -> Float[Array, "atoms 3"]:
    """Velocities relative to the centre of mass."""
    return velocities - masses @ velocities / jnp.sum(masses)


def remove_rotation(
    positions: Float[Array, "atoms 3"],
    velocities: Float[Array, "atoms 3"],
    masses: Float[Array, " atoms"],
) -> Float[Array, "atoms 3"]:
    """Velocities without the rigid rotation about the centre of mass; linear molecules included."""
    centred = positions - masses @ positions / jnp.sum(masses)
    weighted = masses[:, None] * centred
    angular = jnp.sum(jnp.cross(weighted, velocities), axis=0)
    inertia = jnp.sum(weighted * centred) * jnp.eye(3, dtype=positions.dtype) - weighted.T @ centred
    moments, axes = jnp.linalg.eigh(inertia)
    # About its own axis a linear molecule has no inertia and cannot turn.
    turning = moments > 1e-6 * moments[-1]
    rate = axes @ jnp.where(turning, axes.T @ angular / jnp.where(turning, moments, 1.0), 0.0)
    return velocities - jnp.cross(rate, centred)


def thermal_freedom(
    positions: Float[Array, "atoms 3"],
    velocities: Float[Array, "atoms 3"],
    masses: Float[Array, " atoms"],
    *,
    rotation: bool,
) -> Int[Array, ""]:
    """Degrees of freedom that share the kinetic energy in a run that conserves momentum.

    3 N, less 3 if the total momentum vanishes, less the number of rotations (3, or 2 for two atoms)
    if they are conserved and the angular momentum vanishes too. A larger molecule that starts
    straight bends at once, and then conserves three components. A single atom keeps its 3. The
    compiled counterpart of :func:`jaxff.dynamics.degrees_of_freedom`.

    Args:
        positions: Positions in Å.
        velocities: Velocities in Å/fs.
        masses: Masses in amu.
        rotation: Whether rotation is conserved: for molecules, not for periodic systems.
    """
    count = 3 * len(masses)
    if len(masses) == 1:
        return jnp.int32(count)
    scale = 1e-4 * jnp.sum(masses[:, None] * jnp.abs(velocities))
    at_rest = jnp.sum((masses @ velocities) ** 2) <= scale**2
    if not rotation:
        return jnp.where(at_rest, count - 3, count).astype(jnp.int32)
    centred = positions - masses @ positions / jnp.sum(masses)
    angular = jnp.sum(masses[:, None] * jnp.cross(centred, velocities), axis=0)
    still = jnp.sum(angular**2) <= (scale * jnp.max(jnp.abs(centred))) ** 2
    turning = jnp.where(still, 2 if len(masses) == 2 else 3, 0)
    return jnp.where(at_rest, count - 3 - turning, count).astype(jnp.int32)
