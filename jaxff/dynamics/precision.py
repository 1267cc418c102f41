"""Is single precision enough?  Measured, at the geometry where a run begins."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.derivatives import forces
from jaxff.neighbors import NeighborListFns
from jaxff.potential import EnergyFn, as_pytree
from jaxff.system import System
from jaxff.types import Array

__all__ = ["check_precision", "single_precision_error"]

TOLERANCE = 1e-3
"""Relative error of forces in float32 above which no run is started."""


def single_precision_error(
    energy_fn: EnergyFn, system: System, pairs: NeighborListFns | None = None
) -> tuple[float, float]:
    """Root mean square error of forces in float32 against float64, relative and in eV/Å.

    The reference is the same function with positions and parameters in float64, at the very same
    (rounded) values. What float32 costs is a matter of the potential: kernel models are sums of
    large terms that cancel.

    Args:
        energy_fn: Energy function.
        system: Single system with positions in float32.
        pairs: How to build its pair lists, if it needs them.
    """
    neighbors = None if pairs is None else pairs.allocate(system)
    tree = as_pytree(energy_fn)
    single = np.asarray(_forces(tree, system, neighbors))
    with jax.enable_x64(True):
        double = np.asarray(_forces(*jax.tree.map(_widen, (tree, system)), neighbors))
    error = float(np.sqrt(np.mean((single - double) ** 2)))
    scale = float(np.sqrt(np.mean(double**2)))
    # Forces that vanish by symmetry have no relative error.
    return error / max(scale, 1e-3), error


def check_precision(energy_fn: EnergyFn, system: System, pairs: NeighborListFns | None) -> None:
    """Refuse a run in float32 whose forces are not worth it; nothing is done in float64.

    Raises:
        ValueError: If their relative error is above 1e-3.
    """
    if system.positions.dtype != jnp.float32:
        return
    first = system
    if system.batch_shape:
        first = jax.tree.map(lambda x: x[0], system)
    relative, error = single_precision_error(energy_fn, first, pairs)
    if not relative < TOLERANCE:
        raise ValueError(
            f"forces in float32 differ from those in float64 by {error:.2g} eV/Å (root mean "
            f"square), {relative:.2g} of their size, at the initial geometry; at most "
            f"{TOLERANCE:g} is accepted. Run this potential in float64: "
            'jax.config.update("jax_enable_x64", True), with positions of that dtype'
        )


@jax.jit
def _forces(energy_fn: EnergyFn, system: System, neighbors: Any) -> Array:
    return forces(energy_fn)(system, neighbors)


def _widen(leaf: Any) -> Any:
    if not jnp.issubdtype(jnp.asarray(leaf).dtype, jnp.floating):
        return leaf
    return np.asarray(leaf, np.float64)
