"""The Morse potential between atoms that are not bonded by name."""

import functools
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxff.physics.pairs import (
    PairTerm,
    atomic_numbers,
    distance,
    named_parameters,
    pair_energy,
    pair_table,
    truncation,
)
from jaxff.potential import Potential, Spec
from jaxff.system import System
from jaxff.types import Array, Outputs, Params

__all__ = ["morse"]

NAMES = ("depth", "width", "length")


def morse(
    elements: Sequence[str | int] | str | int,
    cutoff: float,
    *,
    truncation: str = "shifted",
    onset: float | None = None,
) -> Potential:
    r"""Morse potential, :math:`D[(1 - e^{-a(r - r_0)})^2 - 1]` within a cutoff.

    ``init`` takes ``depth`` D (eV), ``width`` a (1/Å) and ``length`` :math:`r_0` (Å) by name:
    numbers for one element, symmetric tables of pairs for several (there is no accepted rule to mix
    them). They are the parameters and can be fitted. Atoms of other elements give NaN.

    Args:
        elements: Symbols or atomic numbers, in the order of the parameters.
        cutoff: Radius in Å.
        truncation: ``"cut"``, ``"shifted"``, ``"force_shifted"`` or ``"switched"``, as for
            :func:`jaxff.physics.lennard_jones`.
        onset: Where switching begins, in Å; by default 0.9 of the cutoff.

    Raises:
        ValueError: For arguments that make no sense.
    Reference:
        Morse, Phys. Rev. 34, 57 (1929), doi:10.1103/PhysRev.34.57.
    """
    return _potential(atomic_numbers(elements), float(cutoff), truncation, onset)


@functools.lru_cache(maxsize=64)
def _potential(
    elements: tuple[int, ...], cutoff: float, kind: str, onset: float | None
) -> Potential:
    checked = truncation(kind, cutoff, onset)
    parameters = functools.partial(_parameters, elements)
    term = PairTerm(cutoff, parameters, _function, *checked, elements)

    def init(key: Any = None, system: Any = None, neighbors: Any = None, **named: Any) -> Params:
        del key, system, neighbors  # nothing random, nothing read off atoms
        given = named_parameters(named, NAMES)
        return {k: jnp.asarray(_table(k, v, len(elements))) for k, v in given.items()}

    def apply(params: Params, system: System, neighbors: Any = None) -> Outputs:
        return pair_energy(term, params, system, neighbors)

    arguments = {"elements": list(elements), "cutoff": cutoff, "truncation": kind, "onset": onset}
    return Potential(init, apply, (cutoff,), spec=Spec("morse", arguments))


def _table(name: str, value: Any, count: int) -> np.ndarray:
    array = np.asarray(value, float)
    if array.ndim < 2 and array.size == count == 1:
        array = array.reshape(1, 1)
    if array.shape != (count, count):
        raise ValueError(
            f"{name} must be a table of pairs {(count, count)}, got shape {array.shape}"
        )
    if not (np.isfinite(array).all() and (array >= 0).all() and np.array_equal(array, array.T)):
        raise ValueError(f"{name} must be finite, not negative and symmetric, got {value}")
    return array


def _parameters(elements: tuple[int, ...], params: Params, first: Array, second: Array) -> Any:
    return tuple(pair_table(params[name], elements, first, second) for name in NAMES)


def _function(square: Array, parameters: tuple[Array, Array, Array]) -> Array:
    depth, width, length = (p.astype(square.dtype) for p in parameters)
    decay = jnp.exp(-width * (distance(square) - length))
    return depth * decay * (decay - 2.0)
