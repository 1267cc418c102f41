r"""Electrostatics of cells: the energy of partial charges with all periodic images.

The interaction of Gaussian charges, :math:`\operatorname{erf}(r/\sqrt2 s)/r`, is summed over
reciprocal space by jax-pme, all the rest over pairs within a cutoff. Models whose charges are
Gaussian themselves need no pairs at all.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxff import units
from jaxff.neighbors import Pairs
from jaxff.physics.sums import pair_sums
from jaxff.system import System
from jaxff.types import Array, Float

__all__ = ["EwaldPlan", "ewald_energies", "ewald_plan"]


@dataclass(frozen=True)
class EwaldPlan:
    """How a sum is split; static, so that cells of similar size share compiled code.

    Attributes:
        smearing: Standard deviation of the Gaussian charges in Å.
        grid: Number of wave vectors, or of points of the mesh, along the lattice vectors.
        mesh: Whether charges are spread on a mesh (P3M), which is faster from about a thousand
            atoms on, in place of the plain sum.
    """

    smearing: float
    grid: tuple[int, int, int]
    mesh: bool = False


def ewald_plan(
    cell: Any,
    *,
    cutoff: float | None = None,
    width: float | None = None,
    accuracy: float = 1e-8,
    mesh: bool = False,
) -> EwaldPlan:
    r"""Choose the split and the wave vectors for a cell, on the host.

    The same plan serves for cells that are somewhat larger or smaller.

    Args:
        cell: Lattice vectors as rows, Å; periodic in all three directions.
        cutoff: For charges that are points at long range: radius in Å from which on only Gaussian
            charges are left.
        width: For Gaussian charges with the interaction :math:`\operatorname{erf}(r/\sigma)/r`:
            their σ in Å.
        accuracy: Relative size of what is neglected on either side. A mesh adds its own error, some
            1e-5 of the energy.
        mesh: See :class:`EwaldPlan`.

    Raises:
        ValueError: Unless one of ``cutoff`` and ``width`` is given, and for an accuracy or a cell
            without sense.
    """
    cell = np.asarray(cell, float)
    if (cutoff is None) == (width is None):
        raise ValueError(
            f"give either cutoff (point charges) or width (Gaussian charges), got {cutoff=}, "
            f"{width=}"
        )
    if not 0.0 < accuracy < 1.0:
        raise ValueError(f"accuracy must be between 0 and 1, got {accuracy}")
    if cell.shape != (3, 3) or not abs(np.linalg.det(cell)) > 0.0:
        raise ValueError(f"cell must be three independent lattice vectors as rows, got {cell}")
    decades = math.sqrt(-2.0 * math.log(accuracy))
    # One of the two is None.
    smearing = (cutoff or 0.0) / decades + (width or 0.0) / math.sqrt(2.0)
    if not 0.0 < smearing < float("inf"):
        raise ValueError(f"cutoff and width must be positive numbers in Å, got {cutoff=}, {width=}")
    # exp(-s²k²/2) is the accuracy at the longest wave vector; as many on both sides of zero.
    waves = np.ceil(decades / smearing * np.linalg.norm(cell, axis=1) / (2.0 * np.pi))
    if mesh:
        return EwaldPlan(smearing, _integers(2 ** np.ceil(np.log2(2 * waves + 1))), True)
    return EwaldPlan(smearing, _integers(2 * waves + 1))


def _integers(values: np.ndarray) -> tuple[int, int, int]:
    first, second, third = (int(v) for v in values)
    return first, second, third


def ewald_energies(
    charges: Float[Array, " atoms"],
    system: System,
    plan: EwaldPlan,
    pairs: Pairs | None = None,
    interaction: Callable[[Array], Array] | None = None,
    *,
    constant: float = units.COULOMB,
) -> Float[Array, " atoms"]:
    r"""Electrostatic energy of each atom in eV, with all periodic images.

    A charge of the whole cell is compensated by a uniform background.

    Args:
        charges: Partial charges in e; derivatives flow through them.
        system: A single periodic system.
        plan: From :func:`ewald_plan`.
        pairs: Within the cutoff of the plan, both directions.
        interaction: Energy of two unit charges in 1/Å as in :mod:`jaxff.physics.coulomb`, without
            a cutoff; it must be :math:`1/r` from the cutoff of the plan on. ``None`` (with no
            pairs) for Gaussian charges of the width of the plan.
        constant: :math:`e^2/(4\pi\epsilon_0)` in eV Å.

    Raises:
        ValueError: For a system without a cell, a stack or a pack, and for pairs without an
            interaction or the reverse.
    Reference:
        Loche et al., J. Chem. Phys. 162, 142501 (2025), doi:10.1063/5.0251713, arXiv:2412.03281.
    """
    if system.cell is None or system.is_packed or system.batch_shape:
        raise ValueError(
            "an Ewald sum is for a single system with a cell: map over stacks with jax.vmap"
        )
    if (pairs is None) != (interaction is None):
        raise ValueError("pairs and interaction belong together: give both or neither")
    charges = jnp.where(system.numbers > 0, charges, 0.0)
    energies = constant * charges * _smooth_potentials(charges, system, plan)
    if pairs is None or interaction is None:
        return energies

    def rest(distances: Array, first: Array, second: Array) -> Array:
        smooth = jax.scipy.special.erf(distances / (math.sqrt(2.0) * plan.smearing)) / distances
        return constant * first * second * (interaction(distances) - smooth)

    return energies + pair_sums(rest, system, pairs, charges)


def _smooth_potentials(
    charges: Float[Array, " atoms"], system: System, plan: EwaldPlan
) -> Float[Array, " atoms"]:
    """Half the potential of the Gaussian charges of all other atoms and images, in e/Å."""
    import jaxpme

    none = jnp.zeros((0,), jnp.int32)
    shifts = jnp.zeros((0, 3), jnp.int32)
    calculator = jaxpme.P3M(interpolation_nodes=5) if plan.mesh else jaxpme.Ewald()
    waves = np.ones(plan.grid)  # only its shape is read
    potentials = calculator.potentials(
        charges, system.cell, system.positions, none, none, shifts, waves, plan.smearing
    )
    # One of its terms is in the widest precision that is enabled.
    return potentials.astype(charges.dtype)
