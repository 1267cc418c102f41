r"""D4 dispersion: coefficients from coordination numbers and partial charges.

The dynamic polarizability of an atom is interpolated between those of reference systems; the
:math:`C_6` of two atoms is the integral of the product of theirs over imaginary frequencies. It is
a scalar product of two vectors, so that no table of pairs of reference systems is needed.
"""

import functools
import math
from importlib import resources
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxff import units
from jaxff.neighbors import Pairs
from jaxff.physics.dispersion import BeckeJohnson, becke_johnson
from jaxff.physics.sums import pair_sums
from jaxff.radial.cutoffs import smooth_switching
from jaxff.system import System
from jaxff.types import Array, Float

__all__ = [
    "D4Result",
    "D4Tables",
    "d4_dispersion",
    "d4_tables",
    "in_precision",
    "reference_polarizabilities",
]

# Of the model, not of a functional.
STEEPNESS, RADIUS_SCALE = 7.5, 4.0 / 3.0  # of the counting function
POLARITY = (4.10451, 19.08857, 254.5553148552)  # its dependence on electronegativities
GAUSSIAN = 6.0  # exponent of the weights of reference systems
CHARGE_HEIGHT, CHARGE_STEEPNESS = 3.0, 2.0  # of the scaling by charges


class D4Tables(NamedTuple):
    """Reference data as NumPy or JAX arrays, in atomic units.

    Their first axis is the atomic number (0 for padding), the second the reference system, the
    third the frequency, unless said otherwise.

    Attributes:
        radii: Covalent radii.
        electronegativities: Of Pauling.
        nuclear_charges: Effective, of the valence shell.
        hardnesses: Chemical hardnesses.
        moments: Q, the root of the ratio of the expectation values of r⁴ and r², scaled.
        coordination: Coordination numbers of the reference systems.
        gaussians: How many Gaussians, of widths 1, 1/2, …, weigh a reference system.
        fallback: Weights where all Gaussians vanish.
        charges: Partial charges of the atoms in the reference systems.
        polarizabilities: Of the reference systems at imaginary frequencies.
        scales: One part in so many atoms of the element, per reference system.
        partners: Atomic number of the other element in the reference system.
        partner_counts: How many atoms of the partner's reference are taken off.
        partner_charges: Partial charges of the partner.
        partner_scales: Of the partner's reference, by the atomic number of the partner.
        partner_polarizabilities: Of the partner's reference at imaginary frequencies.
        frequency_weights: Of the integral.
    """

    radii: Any
    electronegativities: Any
    nuclear_charges: Any
    hardnesses: Any
    moments: Any
    coordination: Any
    gaussians: Any
    fallback: Any
    charges: Any
    polarizabilities: Any
    scales: Any
    partners: Any
    partner_counts: Any
    partner_charges: Any
    partner_scales: Any
    partner_polarizabilities: Any
    frequency_weights: Any


@functools.lru_cache(maxsize=1)
def d4_tables() -> D4Tables:
    """The reference data up to radon, as NumPy arrays.

    Made by ``experiments/dispersion_tables/extract.py`` from tad-dftd4 0.8.0 (Grimme group,
    Apache-2.0).
    """
    place = resources.files("jaxff.physics").joinpath("d4_reference.npz")
    with place.open("rb") as file, np.load(file) as data:
        return D4Tables(**{name: data[name] for name in D4Tables._fields})


def in_precision(tables: D4Tables, dtype: Any) -> D4Tables:
    """The reference data as JAX arrays: numbers in this precision, whole ones as they are."""

    def cast(table: Any) -> Array:
        table = jnp.asarray(table)
        return table.astype(dtype) if jnp.issubdtype(table.dtype, jnp.floating) else table

    return D4Tables(*(cast(table) for table in tables))


class D4Result(NamedTuple):
    """What D4 says of each atom.

    Attributes:
        energies: In eV.
        weights: Of the reference systems.
        polarizabilities: At the imaginary frequencies, Bohr³; the first is all but static.
        coordination: Coordination numbers.
    """

    energies: Float[Array, " atoms"]
    weights: Float[Array, "atoms references"]
    polarizabilities: Float[Array, "atoms frequencies"]
    coordination: Float[Array, " atoms"]


def reference_polarizabilities(
    tables: D4Tables, charge_scale: Any = 1.0
) -> Float[Array, "elements references frequencies"]:
    """Polarizabilities of the atoms in the reference systems, what belongs to others taken off."""
    nuclear = tables.nuclear_charges[tables.partners]
    charged = nuclear + tables.partner_charges * charge_scale
    scaling = _charge_scaling(tables.hardnesses[tables.partners], nuclear, charged)
    share = tables.partner_counts * tables.partner_scales[tables.partners] * scaling
    others = share[..., None] * tables.partner_polarizabilities[tables.partners]
    return jnp.maximum(tables.scales[..., None] * (tables.polarizabilities - others), 0.0)


def d4_dispersion(
    charges: Float[Array, " atoms"],
    system: System,
    pairs: Pairs | None,
    tables: D4Tables,
    parameters: BeckeJohnson,
    *,
    charge_scale: Any = 1.0,
    cutoff: float | None = None,
    hartree: float = units.HARTREE,
) -> D4Result:
    r"""Two-body D4 dispersion with damping of Becke and Johnson.

    With a cutoff energy and force are shifted to zero there, and bonds are counted up to it.
    Elements beyond the tables give NaN.

    Args:
        charges: Partial charges in e; derivatives flow through them.
        system: A single system or a pack.
        pairs: Within the cutoff; ``None`` for every two atoms of one molecule.
        tables: Reference data, :func:`d4_tables` unless a model brings its own.
        parameters: Of the functional or the model.
        charge_scale: Scale of the charges of the reference systems.
        cutoff: In Å; ``None`` for none.
        hartree: In eV; models fitted with other values of the constants of nature keep theirs.

    Raises:
        ValueError: If all pairs of a periodic system are asked for, or pairs of a stack.
    Reference:
        Caldeweyher et al., J. Chem. Phys. 150, 154122 (2019), doi:10.1063/1.5090222.
    """
    tables = in_precision(tables, charges.dtype)
    parameters = BeckeJohnson(*(jnp.asarray(p, charges.dtype) for p in parameters))
    charge_scale = jnp.asarray(charge_scale, charges.dtype)
    known = system.numbers < len(tables.radii)
    # Padding passes for hydrogen, whose pairs are not counted; other elements have no energy.
    numbers = jnp.where(known, jnp.maximum(system.numbers, 1), 1)
    cut = None if cutoff is None else cutoff / units.BOHR
    ends = (tables.radii[numbers], tables.electronegativities[numbers])
    coordination = 2.0 * pair_sums(
        lambda r, a, b: _count(r / units.BOHR, a, b, cut), system, pairs, ends
    )
    weights = _weights(tables, numbers, coordination)
    nuclear = tables.nuclear_charges[numbers][:, None]
    weights *= _charge_scaling(
        tables.hardnesses[numbers][:, None],
        nuclear + tables.charges[numbers] * charge_scale,
        nuclear + charges[:, None],
    )
    references = reference_polarizabilities(tables, charge_scale)
    polarizabilities = jnp.einsum("ia,iaw->iw", weights, references[numbers])
    # C6 is 3/π times the integral: each end takes the root of the weight.
    root = jnp.sqrt(3.0 / jnp.pi * tables.frequency_weights)

    def energy(r: Array, a: tuple[Array, Array], b: tuple[Array, Array]) -> Array:
        c6 = jnp.einsum("...w,...w->...", a[0], b[0])
        return hartree * c6 * becke_johnson(r / units.BOHR, a[1] * b[1], parameters, cut)

    energies = pair_sums(energy, system, pairs, (polarizabilities * root, tables.moments[numbers]))
    energies = jnp.where(known, energies, jnp.nan)
    return D4Result(energies, weights, polarizabilities, coordination)


def _count(
    r: Array, first: tuple[Array, Array], second: tuple[Array, Array], cutoff: float | None
) -> Array:
    """How much of a bond two atoms at this distance in Bohr have."""
    contact = RADIUS_SCALE * (first[0] + second[0])
    difference = jnp.abs(first[1] - second[1]) + POLARITY[1]
    polarity = POLARITY[0] * jnp.exp(-(difference**2) / POLARITY[2])
    bond = 0.5 * polarity * (1.0 + jax.scipy.special.erf(-STEEPNESS * (r - contact) / contact))
    if cutoff is None:
        return bond
    return bond * smooth_switching(r, cutoff - units.BOHR, cutoff)


def _weights(tables: D4Tables, numbers: Array, coordination: Array) -> Array:
    """Weights of the reference systems of each atom by its coordination number, of sum 1."""
    square = (coordination[:, None] - tables.coordination[numbers]) ** 2
    count = tables.gaussians[numbers]
    # At most three Gaussians, each narrower than the last.
    raw = sum(jnp.where(count >= k, jnp.exp(-GAUSSIAN * k * square), 0.0) for k in (1, 2, 3))
    total = jnp.sum(raw, axis=1, keepdims=True)
    enough = total > 1e-8
    return jnp.where(enough, raw / jnp.where(enough, total, 1.0), tables.fallback[numbers])


def _charge_scaling(hardness: Array, reference: Array, own: Array) -> Array:
    """How an atom's polarizability shrinks with its charge; both are effective nuclear charges."""
    positive = own > 1e-8
    ratio = reference / jnp.where(positive, own, 1.0)
    inner = jnp.exp(hardness * CHARGE_STEEPNESS * (1.0 - ratio))
    return jnp.where(positive, jnp.exp(CHARGE_HEIGHT * (1.0 - inner)), math.exp(CHARGE_HEIGHT))
