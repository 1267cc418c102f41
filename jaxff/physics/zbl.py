"""The universal screened repulsion of nuclei at short distances."""

import functools
from typing import Any

import jax.numpy as jnp

from jaxff import units
from jaxff.physics.pairs import PairTerm, pair_energy, truncation
from jaxff.physics.species import named_parameters
from jaxff.potential import Potential, Spec
from jaxff.system import System
from jaxff.types import Array, Outputs, Params

__all__ = ["zbl"]

AMPLITUDES = (0.18175, 0.50986, 0.28022, 0.02817)
DECAYS = (3.19980, 0.94229, 0.40290, 0.20162)
SCREENING_LENGTH = 0.46850  # Å: 0.88534 Bohr radii
EXPONENT = 0.23


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
    return _potential(float(cutoff), onset)


@functools.lru_cache(maxsize=64)
def _potential(cutoff: float, onset: float | None) -> Potential:
    term = PairTerm(cutoff, _parameters, _function, *truncation("switched", cutoff, onset))

    def init(key: Any = None, system: Any = None, neighbors: Any = None, **named: Any) -> Params:
        del key, system, neighbors
        return named_parameters(named, ())

    def apply(params: Params, system: System, neighbors: Any = None) -> Outputs:
        return pair_energy(term, params, system, neighbors)

    return Potential(init, apply, (cutoff,), spec=Spec("zbl", {"cutoff": cutoff, "onset": onset}))


def _parameters(params: Params, first: Array, second: Array) -> tuple[Array, Array]:
    """Product of the nuclear charges in eV Å, and inverse screening length in 1/Å."""
    del params
    one, other = (jnp.maximum(z, 1).astype(float) for z in (first, second))
    return units.COULOMB * one * other, (one**EXPONENT + other**EXPONENT) / SCREENING_LENGTH


def _function(square: Array, parameters: tuple[Array, Array]) -> Array:
    strength, inverse = (p.astype(square.dtype) for p in parameters)
    distance = jnp.sqrt(square)
    screening = sum(
        c * jnp.exp(-d * inverse * distance) for c, d in zip(AMPLITUDES, DECAYS, strict=True)
    )
    return strength / distance * screening
