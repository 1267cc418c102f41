"""Normal modes straight from a potential: :func:`modes_of`."""

from typing import Any

import jax
import numpy as np

from jaxff import units
from jaxff.derivatives import observe
from jaxff.neighbors import Neighbors, neighbor_list
from jaxff.potential import EnergyFn, as_pytree
from jaxff.system import System
from jaxff.vibrations.normal_modes import NormalModes, normal_modes

__all__ = ["modes_of"]


def modes_of(
    energy_fn: EnergyFn,
    system: System,
    *,
    masses: Any = None,
    neighbors: Neighbors | None = None,
    max_force: float = 0.01,
) -> NormalModes:
    """Normal modes of a system from the exact Hessian of its potential.

    Of a molecule translations and rotations are projected out; where anything is periodic, only
    translations (the modes are those at the Γ point of the cell).

    Args:
        energy_fn: Energy function of ``(system, neighbors)``.
        system: A single system at a minimum; positions in Å, in float64 for digits below 1 cm⁻¹.
        masses: Masses in amu; by default the standard ones of the elements.
        neighbors: Pair lists; by default built with the cutoffs of the potential.
        max_force: Largest force in eV/Å that passes without a warning.

    Warns:
        UserWarning: If a force is larger than ``max_force``.

    Raises:
        ValueError: If the system is no single system, or the Hessian not finite.
    """
    if system.batch_shape or system.is_packed:
        raise ValueError("modes_of takes a single system, got a stack or a pack")
    cutoffs = getattr(energy_fn, "cutoffs", ())
    if neighbors is None and cutoffs:
        neighbors = neighbor_list(cutoffs).allocate(system)
    found = _observe(observe(as_pytree(energy_fn), ("forces", "hessian")), system, neighbors)
    periodic = system.pbc is not None and bool(np.any(np.asarray(system.pbc)))
    return normal_modes(
        found["hessian"],
        units.masses(np.asarray(system.numbers)) if masses is None else masses,
        None if periodic else system.positions,
        forces=found["forces"],
        max_force=max_force,
    )


@jax.jit
def _observe(observed: Any, system: System, neighbors: Neighbors | None) -> dict[str, Any]:
    return observed(system, neighbors)
