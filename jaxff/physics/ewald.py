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
from jax.core import Tracer

from jaxff import units
from jaxff.neighbors import Pairs
from jaxff.physics.sums import pair_sums
from jaxff.system import System
from jaxff.types import Array, Bool, Float

__all__ = ["EwaldPlan", "ewald_energies", "ewald_plan"]

_COARSEST = 1e-4
"""Relative size of the neglected waves from which on a plan no longer serves for a cell."""


@dataclass(frozen=True)
class EwaldPlan:
    """How a sum is split; static, so that cells of similar size share compiled code.

    It serves for every cell whose longest waves that are left out are damped below 1e-4: shorter
    lattice vectors than those it was made for, and with the accuracy of 1e-8 up to 1.4 times longer
    ones. Energies of others are NaN.

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

    The same plan serves for smaller cells, and for lattice vectors that become longer by a factor
    f: what is neglected is then ``accuracy ** (1 / f**2)``, and from 1e-4 on energies are NaN. For
    a cell that will grow farther, give the largest.

    Args:
        cell: Lattice vectors as rows, Å; periodic in all three directions.
        cutoff: For charges that are points at long range: radius in Å from which on only Gaussian
            charges are left.
        width: For Gaussian charges with the interaction :math:`\operatorname{erf}(r/\sigma)/r`:
            their σ in Å.
        accuracy: Relative size of what is neglected on either side, at most 1e-5. A mesh adds its
            own error, some 1e-5 of the energy.
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
    if not 0.0 < accuracy <= 0.1 * _COARSEST:
        raise ValueError(f"accuracy must be above 0 and at most 1e-5, got {accuracy}")
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

    A charge of the whole cell is compensated by a uniform background, and there is no field of the
    surface (tin-foil boundary). NaN where the plan is too coarse for the cell.

    Args:
        charges: Partial charges in e; derivatives flow through them.
        system: A single system, periodic in all directions.
        plan: From :func:`ewald_plan`.
        pairs: Within the cutoff of the plan, both directions.
        interaction: Energy of two unit charges in 1/Å as in :mod:`jaxff.physics.coulomb`, without
            a cutoff; it must be :math:`1/r` from the cutoff of the plan on. ``None`` (with no
            pairs) for Gaussian charges of the width of the plan.
        constant: :math:`e^2/(4\pi\epsilon_0)` in eV Å.

    Raises:
        ValueError: For a system without a cell or with open directions, a stack or a pack, and for
            pairs without an interaction or the reverse. Within traced code open directions give
            NaN.
    Reference:
        Loche et al., J. Chem. Phys. 162, 142501 (2025), doi:10.1063/5.0251713, arXiv:2412.03281.
    """
    if system.is_packed or system.batch_shape:
        raise ValueError(
            "an Ewald sum is for a single system: map over a stack with jax.vmap, and give systems "
            "of a pack one by one"
        )
    if system.cell is None:
        raise ValueError(
            "an Ewald sum is for a system with a cell, and this one is a molecule: put it into "
            "one, or sum over pairs"
        )
    if (pairs is None) != (interaction is None):
        raise ValueError("pairs and interaction belong together: give both or neither")
    charges = jnp.where(system.numbers > 0, charges, 0.0)
    valid = _is_periodic(system) & (_neglected(system.cell, plan) < _COARSEST)
    # A factor, so that derivatives are not numbers either.
    scale = jnp.where(valid, constant, jnp.nan).astype(charges.dtype)
    energies = scale * charges * _smooth_potentials(charges, system, plan)
    if pairs is None or interaction is None:
        return energies

    def rest(distances: Array, first: Array, second: Array) -> Array:
        smooth = jax.scipy.special.erf(distances / (math.sqrt(2.0) * plan.smearing)) / distances
        return constant * first * second * (interaction(distances) - smooth)

    return energies + pair_sums(rest, system, pairs, charges)


def _is_periodic(system: System) -> Bool[Array, ""]:
    pbc = np.ones(3, bool) if system.pbc is None else system.pbc
    if not isinstance(pbc, Tracer) and not np.asarray(pbc).all():
        raise ValueError(
            f"an Ewald sum is for systems periodic in all three directions, got pbc = {pbc}: sum "
            "over pairs within a cutoff instead"
        )
    return jnp.all(pbc)


def _neglected(cell: Float[Array, "3 3"], plan: EwaldPlan) -> Float[Array, ""]:
    """Damping of the longest waves that the plan leaves out."""
    first = jnp.pi * jnp.asarray(plan.grid) / jnp.linalg.norm(cell, axis=1)
    return jnp.exp(-0.5 * jnp.min(plan.smearing * first) ** 2)


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
