"""The Lennard-Jones potential."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxff.cell import volume
from jaxff.physics.species import atomic_numbers, pair_table, species_potential
from jaxff.potential import Bound, Potential
from jaxff.system import System
from jaxff.types import Array, Float, Params

__all__ = ["TailCorrection", "lennard_jones", "tail_correction"]


class TailCorrection(NamedTuple):
    """What pairs beyond the cutoff would add: energy in eV and pressure in eV/Å³."""

    energy: Array
    pressure: Array


def lennard_jones(
    elements: Sequence[str | int] | str | int,
    cutoff: float,
    *,
    truncation: str = "shifted",
    onset: float | None = None,
) -> Potential:
    r"""Lennard-Jones potential, :math:`4\epsilon[(\sigma/r)^{12} - (\sigma/r)^6]` within a cutoff.

    ``init`` takes ``epsilon`` (eV) and ``sigma`` (Å) by name: one number per element, mixed by the
    rules of Lorentz (arithmetic mean of σ) and Berthelot (geometric mean of ε), or symmetric tables
    of pairs. They are the parameters and can be fitted. Atoms of other elements, and atoms in the
    same place, give NaN.

    Args:
        elements: Symbols or atomic numbers, in the order of the parameters.
        cutoff: Radius in Å.
        truncation: ``"cut"`` (as LAMMPS's ``lj/cut``: the energy jumps at the cutoff, so a run does
            not conserve it), ``"shifted"`` (the energy is continuous, the force jumps),
            ``"force_shifted"`` (both are continuous) or ``"switched"`` (a smooth switching function
            from ``onset`` on; curvatures are continuous too).
        onset: Where switching begins, in Å; by default 0.9 of the cutoff.

    Raises:
        ValueError: For arguments that make no sense.
    Reference:
        Lennard-Jones, Proc. R. Soc. A 106, 463 (1924), doi:10.1098/rspa.1924.0082; truncations:
        Allen & Tildesley, Computer Simulation of Liquids, 2nd ed. (2017), section 5.2.
    """
    return species_potential(
        "lennard_jones", atomic_numbers(elements), float(cutoff), truncation, onset,
        _parameters, _function, ("epsilon", "sigma"), mixes=True,
    )  # fmt: skip


def mixed(
    params: Params,
) -> tuple[Float[Array, "species species"], Float[Array, "species species"]]:
    """Tables of ε in eV and σ in Å, by the rules of Lorentz and Berthelot where not given."""
    epsilon, sigma = params["epsilon"], params["sigma"]
    if epsilon.ndim == 1:
        # The root of a product would have no derivative where one ε is zero.
        product = epsilon[:, None] * epsilon[None, :]
        positive = product > 0
        epsilon = jnp.where(positive, jnp.sqrt(jnp.where(positive, product, 1.0)), 0.0)
    if sigma.ndim == 1:
        sigma = 0.5 * (sigma[:, None] + sigma[None, :])
    return epsilon, sigma


def _parameters(elements: tuple[int, ...], params: Params, first: Array, second: Array) -> Any:
    return tuple(pair_table(table, elements, first, second) for table in mixed(params))


def _function(square: Array, parameters: tuple[Array, Array]) -> Array:
    epsilon, sigma = (p.astype(square.dtype) for p in parameters)
    ratio = (sigma**2 / square) ** 3
    return 4.0 * epsilon * (ratio * ratio - ratio)


def tail_correction(energy_fn: Bound, system: System) -> TailCorrection:
    r"""Energy and pressure of the pairs beyond the cutoff of a uniform fluid.

    With :math:`x = \sigma/r_c`, for one element of density ρ: :math:`U = \tfrac83\pi N\rho\epsilon
    \sigma^3(\tfrac13 x^9 - x^3)` and :math:`P = \tfrac{16}3\pi\rho^2\epsilon\sigma^3(\tfrac23 x^9 -
    x^3)`; sums over pairs of elements for mixtures. For ``truncation="cut"``, whose pairs within
    the cutoff are complete; the jump of the energy there adds nothing to the pressure of a run.

    Args:
        energy_fn: A bound Lennard-Jones potential.
        system: Single periodic system.

    Raises:
        ValueError: If the potential is another one or otherwise truncated, or the system has no
            cell or several structures.
    Reference:
        Allen & Tildesley, Computer Simulation of Liquids, 2nd ed. (2017), section 2.8.
    """
    spec = energy_fn.potential.spec
    if spec is None or spec.builder != "lennard_jones" or spec.arguments["truncation"] != "cut":
        raise ValueError("tail corrections are for lennard_jones(..., truncation='cut')")
    if system.cell is None or system.batch_shape:
        raise ValueError("tail corrections need a single system with a cell")
    epsilon, sigma = mixed(energy_fn.params)
    elements = jnp.asarray(spec.arguments["elements"])
    count = jnp.sum(system.numbers == elements[:, None], axis=1)
    pairs = count[:, None] * count[None, :] * epsilon * sigma**3
    ratio = (sigma / spec.arguments["cutoff"]) ** 3
    size = volume(system.cell)
    energy = 8 / 3 * jnp.pi / size * jnp.sum(pairs * (ratio**3 / 3 - ratio))
    pressure = 16 / 3 * jnp.pi / size**2 * jnp.sum(pairs * (2 * ratio**3 / 3 - ratio))
    return TailCorrection(energy, pressure)
