"""The universal screened repulsion of nuclei at short distances, as it is and to be fitted."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxff import units
from jaxff.neighbors import Pairs
from jaxff.physics.pairs import PairTerm, pair_energy, truncation
from jaxff.physics.species import named_parameters
from jaxff.physics.sums import pair_sums
from jaxff.potential import Potential, Spec
from jaxff.radial.cutoffs import bump
from jaxff.system import System
from jaxff.types import Array, Float, Outputs, Params

__all__ = [
    "UNIVERSAL",
    "Screening",
    "repulsion_energies",
    "screening_of",
    "trainable_zbl",
    "zbl",
]


class Screening(NamedTuple):
    r"""Screening function :math:`\phi = \sum_k c_k e^{-d_k x}` of :math:`x = b r (Z_1^p + Z_2^p)`.

    Attributes:
        amplitudes: :math:`c_k`, of sum 1.
        decays: :math:`d_k`.
        exponent: p.
        inverse_length: b in 1/Å.
    """

    amplitudes: Any
    decays: Any
    exponent: Any
    inverse_length: Any

    def to_raw(self) -> Params:
        """Parameters that may take any value: inverse of :func:`screening_of`."""
        named = {name: np.asarray(value, float) for name, value in self._asdict().items()}
        # log(exp(x) - 1), whose inverse is the softplus function
        return {name: jnp.asarray(v + np.log(-np.expm1(-v))) for name, v in named.items()}


def screening_of(raw: Params) -> Screening:
    """Positive numbers, and amplitudes of sum 1, from parameters that may take any value."""
    positive = {name: jax.nn.softplus(jnp.asarray(raw[name])) for name in Screening._fields}
    amplitudes = positive["amplitudes"]
    return Screening(**{**positive, "amplitudes": amplitudes / jnp.sum(amplitudes)})


UNIVERSAL = Screening(
    (0.18175, 0.50986, 0.28022, 0.02817), (3.19980, 0.94229, 0.40290, 0.20162), 0.23, 1 / 0.46850
)
"""Of Ziegler, Biersack and Littmark; the length is 0.88534 Bohr radii."""


def repulsion_energies(
    screening: Screening,
    system: System,
    pairs: Pairs | None,
    envelope: Callable[[Array], Array] | None = None,
    *,
    constant: float = units.COULOMB,
) -> Float[Array, " atoms"]:
    r"""Energy of each atom in eV, :math:`\frac{k}{2}\sum_j \frac{Z_i Z_j}{r_{ij}} \phi\,f(r_{ij})`.

    Args:
        screening: The screening function, such as ``UNIVERSAL``.
        system: A single system or a pack.
        pairs: Within the cutoff; ``None`` for every two atoms of one molecule.
        envelope: f, a function of the distance in Å that vanishes from the cutoff on; ``None``
            for 1.
        constant: :math:`e^2/(4\pi\epsilon_0)` in eV Å; models fitted with other values of the
            constants of nature keep theirs.

    Raises:
        ValueError: If all pairs of a periodic system are asked for, or pairs of a stack.
    """

    def energy(distances: Array, first: _Nuclei, second: _Nuclei) -> Array:
        inverse = (first.powers + second.powers) * inverse_length
        value = _screened(distances, first.charges * second.charges, inverse, amplitudes, decays)
        return constant * (value if envelope is None else value * envelope(distances))

    dtype = system.positions.dtype
    amplitudes, decays, exponent, inverse_length = (jnp.asarray(x, dtype) for x in screening)
    return pair_sums(energy, system, pairs, _nuclei(system.numbers, exponent))


class _Nuclei(NamedTuple):
    charges: Array
    powers: Array


def _nuclei(numbers: Array, exponent: Array) -> _Nuclei:
    charges = jnp.maximum(numbers, 1).astype(exponent.dtype)
    return _Nuclei(charges, charges**exponent)


def _screened(
    distance: Array, product: Array, inverse: Array, amplitudes: Array, decays: Array
) -> Array:
    """Repulsion without the constant, in 1/Å."""
    x = inverse * distance
    return product / distance * sum(amplitudes[k] * jnp.exp(-decays[k] * x) for k in range(4))


def zbl(cutoff: float, *, onset: float | None = None) -> Potential:
    r"""Repulsion of screened nuclei, switched off smoothly between ``onset`` and ``cutoff``.

    :math:`\frac{Z_1 Z_2 e^2}{4\pi\epsilon_0 r}\,\phi(r/a)` with the universal screening function
    :math:`\phi(x) = \sum_k c_k e^{-d_k x}` and :math:`a = 0.4685\,\mathrm{Å}/(Z_1^{0.23} +
    Z_2^{0.23})`, for all elements, without parameters. Atoms in the same place give NaN.

    Args:
        cutoff: Radius in Å, usually near the sum of covalent radii.
        onset: Where switching begins, in Å; by default 0.9 of the cutoff.

    Raises:
        ValueError: For a cutoff that is not positive, or an onset outside it.
    Reference:
        Ziegler, Biersack & Littmark, The Stopping and Range of Ions in Solids, vol. 1, Pergamon,
        New York (1985); switched by :func:`jaxff.radial.cutoffs.switching`.
    """
    return _fixed(float(cutoff), onset)


@functools.lru_cache(maxsize=64)
def _fixed(cutoff: float, onset: float | None) -> Potential:
    def parameters(params: Params, first: Array, second: Array) -> Screened:
        del params
        return _of_pairs(UNIVERSAL, first, second)

    term = PairTerm(cutoff, parameters, _function, *truncation("switched", cutoff, onset))

    def init(key: Any = None, system: Any = None, neighbors: Any = None, **named: Any) -> Params:
        del key, system, neighbors
        return named_parameters(named, ())

    def apply(params: Params, system: System, neighbors: Any = None) -> Outputs:
        return pair_energy(term, params, system, neighbors)

    return Potential(init, apply, (cutoff,), spec=Spec("zbl", {"cutoff": cutoff, "onset": onset}))


def trainable_zbl(cutoff: float) -> Potential:
    r"""Repulsion of screened nuclei whose screening is fitted together with another potential.

    As :func:`zbl`, times the bump function of the cutoff. ``init`` starts from the universal
    screening function; the parameters go through softplus, and amplitudes are scaled to sum 1, so
    that they may take any value.

    Args:
        cutoff: Radius in Å.

    Raises:
        ValueError: For a cutoff that is not positive.
    Reference:
        Unke et al., Nat. Commun. 12, 7273 (2021), doi:10.1038/s41467-021-27504-0.
    """
    return _trainable(float(cutoff))


@functools.lru_cache(maxsize=64)
def _trainable(cutoff: float) -> Potential:
    def parameters(params: Params, first: Array, second: Array) -> Screened:
        return _of_pairs(screening_of(params), first, second)

    def function(square: Array, parameters: Screened) -> Array:
        return _function(square, parameters) * bump(jnp.sqrt(square), cutoff)

    term = PairTerm(cutoff, parameters, function, *truncation("cut", cutoff, None))

    def init(key: Any = None, system: Any = None, neighbors: Any = None, **named: Any) -> Params:
        del key, system, neighbors
        named_parameters(named, ())
        return UNIVERSAL.to_raw()

    def apply(params: Params, system: System, neighbors: Any = None) -> Outputs:
        return pair_energy(term, params, system, neighbors)

    return Potential(init, apply, (cutoff,), spec=Spec("trainable_zbl", {"cutoff": cutoff}))


Screened = tuple[Array, Array, Array, Array]
"""Product of the nuclear charges in eV Å, inverse length in 1/Å, amplitudes and decays."""


def _of_pairs(screening: Screening, first: Array, second: Array) -> Screened:
    amplitudes, decays, exponent, inverse_length = (jnp.asarray(x, float) for x in screening)
    one, other = (_nuclei(z, exponent) for z in (first, second))
    inverse = (one.powers + other.powers) * inverse_length
    return units.COULOMB * one.charges * other.charges, inverse, amplitudes, decays


def _function(square: Array, parameters: Screened) -> Array:
    product, inverse, amplitudes, decays = (p.astype(square.dtype) for p in parameters)
    return _screened(jnp.sqrt(square), product, inverse, amplitudes, decays)
