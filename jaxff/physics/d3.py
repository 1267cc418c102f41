r"""D3 dispersion with damping of Becke and Johnson, as a baseline or beside a short-range model.

The :math:`C_6` of two atoms is interpolated between those of reference systems by coordination
numbers: a bilinear form of the weights that both ends give to their references.
"""

import functools
from collections.abc import Sequence
from importlib import resources
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxff import units
from jaxff.elements import distinct_numbers
from jaxff.neighbors import Pairs
from jaxff.physics.dispersion import BeckeJohnson, becke_johnson
from jaxff.physics.species import named_parameters
from jaxff.physics.sums import pair_sums
from jaxff.potential import Potential, Spec
from jaxff.radial.cutoffs import smooth_switching
from jaxff.system import System, sum_atoms
from jaxff.types import Array, Float, Outputs, Params

__all__ = ["D3Result", "D3Tables", "d3", "d3_dispersion", "d3_tables"]

STEEPNESS, RADIUS_SCALE = 16.0, 4.0 / 3.0  # of the counting function
GAUSSIAN = 4.0  # exponent of the weights of reference systems


class D3Tables(NamedTuple):
    """Reference data of some elements, in atomic units.

    Attributes:
        radii: Covalent radii by atomic number, 0 for padding.
        moments: Q, the root of the ratio of the expectation values of r⁴ and r², scaled.
        elements: Atomic number of each reference system.
        coordination: Its coordination number.
        c6: Dispersion coefficients of all pairs of reference systems.
    """

    radii: Float[np.ndarray, " elements"]
    moments: Float[np.ndarray, " elements"]
    elements: np.ndarray
    coordination: Float[np.ndarray, " references"]
    c6: Float[np.ndarray, "references references"]


class D3Result(NamedTuple):
    """Energies in eV and coordination numbers per atom."""

    energies: Float[Array, " atoms"]
    coordination: Float[Array, " atoms"]


def d3_tables(elements: Sequence[str | int] | str | int) -> D3Tables:
    """The reference data of these elements, hydrogen to radon, as NumPy arrays.

    Made by ``experiments/dispersion_tables/extract.py`` from tad-dftd3 0.7.0 (Grimme group,
    Apache-2.0). Fewer elements make fewer operations.

    Raises:
        ValueError: For elements beyond radon, or what is no element.
    """
    return _tables(distinct_numbers(elements))


@functools.lru_cache(maxsize=64)
def _tables(elements: tuple[int, ...]) -> D3Tables:
    place = resources.files("jaxff.physics").joinpath("d3_reference.npz")
    with place.open("rb") as file, np.load(file) as stored:
        data = dict(stored)
    if beyond := [z for z in elements if z >= len(data["radii"])]:
        raise ValueError(f"D3 has data up to radon (86), got the atomic numbers {beyond}")
    count = len(data["elements"])
    c6 = np.zeros((count, count))
    c6[np.tril_indices(count)] = data["c6"] * 1e-4  # stored as whole numbers
    c6 = c6 + np.tril(c6, -1).T
    kept = np.isin(data["elements"], elements)
    return D3Tables(
        data["radii"],
        data["moments"],
        data["elements"][kept],
        data["coordination"][kept],
        c6[np.ix_(kept, kept)],
    )


def d3_dispersion(
    system: System,
    pairs: Pairs | None,
    tables: D3Tables,
    parameters: BeckeJohnson,
    *,
    cutoff: float | None = None,
) -> D3Result:
    r"""Two-body D3 dispersion of each atom.

    With a cutoff energy and force are shifted to zero there, and bonds are counted up to it. Atoms
    of other elements than the tables' have an energy of NaN.

    Args:
        system: A single system or a pack.
        pairs: Within the cutoff; ``None`` for every two atoms of one molecule.
        tables: Reference data, from :func:`d3_tables`.
        parameters: Of the functional.
        cutoff: In Å; ``None`` for none.

    Raises:
        ValueError: If all pairs of a periodic system are asked for, or pairs of a stack.
    Reference:
        Grimme, Antony, Ehrlich & Krieg, J. Chem. Phys. 132, 154104 (2010), doi:10.1063/1.3382344.
    """
    if system.batch_shape and not system.is_packed:
        raise ValueError(
            f"a stack of shape {system.batch_shape} has no common pairs: use pack, or jax.vmap"
        )
    dtype = system.positions.dtype
    radii, moments, coordination, c6 = (
        jnp.asarray(x, dtype)
        for x in (tables.radii, tables.moments, tables.coordination, tables.c6)
    )
    parameters = BeckeJohnson(*(jnp.asarray(p, dtype) for p in parameters))
    own = system.numbers[:, None] == jnp.asarray(tables.elements)
    known = own.any(axis=1) | (system.numbers == 0)
    # Padding passes for hydrogen, whose pairs are not counted.
    numbers = jnp.where(known, jnp.maximum(system.numbers, 1), 1)
    cut = None if cutoff is None else cutoff / units.BOHR

    def count(r: Array, first: Array, second: Array) -> Array:
        contact = RADIUS_SCALE * (first + second)
        bond = jax.nn.sigmoid(STEEPNESS * (contact * units.BOHR / r - 1.0))
        return bond if cutoff is None else bond * smooth_switching(r, cutoff - 1.0, cutoff)

    bonds = 2.0 * pair_sums(count, system, pairs, radii[numbers])
    weights = _weights(own, (bonds[:, None] - coordination) ** 2)

    def energy(r: Array, a: tuple[Array, ...], b: tuple[Array, ...]) -> Array:
        value = becke_johnson(r / units.BOHR, a[2] * b[2], parameters, cut)
        return units.HARTREE * jnp.einsum("...w,...w->...", a[0], b[1]) * value

    energies = pair_sums(energy, system, pairs, (weights @ c6, weights, moments[numbers]))
    return D3Result(jnp.where(known, energies, jnp.nan), bonds)


def _weights(own: Array, square: Array) -> Array:
    """Weights of the references of each atom, of sum 1; zero for those of other elements."""
    # The largest is 1 before it is divided: no sum of them is lost in rounding.
    least = jnp.min(jnp.where(own, square, jnp.inf), axis=1, keepdims=True)
    least = jax.lax.stop_gradient(jnp.where(jnp.isfinite(least), least, 0.0))
    raw = jnp.where(own, jnp.exp(-GAUSSIAN * jnp.where(own, square - least, 0.0)), 0.0)
    total = jnp.sum(raw, axis=1, keepdims=True)
    return raw / jnp.where(total > 0, total, 1.0)


def d3(elements: Sequence[str | int] | str | int, cutoff: float) -> Potential:
    """D3 dispersion as a potential, to be added to another one.

    ``init`` takes ``s6``, ``s8``, ``a1`` and ``a2`` (Bohr) by name, the parameters of a functional;
    they can be fitted. Energy and force are shifted to zero at the cutoff. Other elements give NaN.

    Args:
        elements: Symbols or atomic numbers.
        cutoff: Radius in Å; some 10 Å and more, since the energy falls with the sixth power.

    Raises:
        ValueError: For elements beyond radon, or a cutoff that is not positive.
    Reference:
        Grimme, Ehrlich & Goerigk, J. Comput. Chem. 32, 1456 (2011), doi:10.1002/jcc.21759.
    """
    if not 0.0 < cutoff < float("inf"):
        raise ValueError(f"cutoff must be a positive number in Å, got {cutoff}")
    return _potential(distinct_numbers(elements), float(cutoff))


@functools.lru_cache(maxsize=64)
def _potential(elements: tuple[int, ...], cutoff: float) -> Potential:
    tables = _tables(elements)

    def init(key: Any = None, system: Any = None, neighbors: Any = None, **named: Any) -> Params:
        del key, system, neighbors
        given = named_parameters(named, BeckeJohnson._fields)
        return {name: jnp.asarray(float(value)) for name, value in given.items()}

    def apply(params: Params, system: System, neighbors: Any = None) -> Outputs:
        pairs = neighbors.within(cutoff)
        found = d3_dispersion(system, pairs, tables, BeckeJohnson(**params), cutoff=cutoff)
        return {"energy": sum_atoms(system, found.energies), "atomic_energies": found.energies}

    arguments = {"elements": list(elements), "cutoff": cutoff}
    return Potential(init, apply, (cutoff,), spec=Spec("d3", arguments))
