"""The energy that a velocity Verlet trajectory really conserves."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxff import units
from jaxff.derivatives import forces, hessian_vector
from jaxff.dynamics.trajectory import Trajectory
from jaxff.potential import EnergyFn, as_pytree
from jaxff.system import System
from jaxff.types import Array, Float

__all__ = ["shadow_energy"]


def shadow_energy(
    energy_fn: EnergyFn,
    system: System,
    trajectory: Trajectory,
    *,
    timestep: float,
) -> Float[np.ndarray, " frames"]:
    r"""Energy that velocity Verlet conserves to fourth order in the time step, in eV.

    The total energy of a stable run wanders by second-order terms as
    energy flows between fast and slow vibrations, which hides a drift over hundreds of
    picoseconds. Those terms are known,

    .. math:: \tilde H = H + \Delta t^2 \left(\tfrac{1}{12}\, v^T \nabla^2 V\, v
              - \tfrac{1}{24}\, F^T M^{-1} F\right) ,

    and cost one Hessian-vector product per frame.

    Args:
        energy_fn: The energy that drove the run, without neighbour list.
        system: The system that was run.
        trajectory: Frames of the run.
        timestep: Its time step in fs.

    Reference:
        Hairer, Lubich & Wanner, Geometric Numerical Integration, 2nd ed. (Springer, 2006), ch. IX.
    """
    masses = jnp.asarray(trajectory.masses)[:, None] * units.TIME**2  # eV fs²/Å²

    frames = jnp.asarray(trajectory.positions), jnp.asarray(trajectory.velocities)
    terms = np.asarray(_second_order(as_pytree(energy_fn), system, masses, frames))
    return np.asarray(trajectory.total_energy) + timestep**2 * terms


@jax.jit
def _second_order(energy_fn: EnergyFn, system: System, masses: Array, frames: tuple) -> Array:
    def one(frame: tuple[Array, Array]) -> Array:
        positions, velocities = frame
        moved = system.replace(positions=positions)
        curvature = jnp.sum(velocities * hessian_vector(energy_fn)(moved, velocities))
        return curvature / 12.0 - jnp.sum(forces(energy_fn)(moved) ** 2 / masses) / 24.0

    return jax.lax.map(one, frames)
