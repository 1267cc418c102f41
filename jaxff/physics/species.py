"""Potentials of pairs whose parameters are tables of the elements."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxff.elements import distinct_numbers as atomic_numbers
from jaxff.physics.pairs import PairTerm, pair_energy, truncation
from jaxff.potential import Potential, Spec
from jaxff.system import System
from jaxff.types import Array, Float, Outputs, Params

__all__ = ["atomic_numbers", "named_parameters", "pair_table", "species_potential"]


# Equal arguments give the same object, so that equal potentials share compiled code.
@functools.lru_cache(maxsize=64)
def species_potential(
    builder: str,
    elements: tuple[int, ...],
    cutoff: float,
    kind: str,
    onset: float | None,
    parameters: Callable[..., Any],
    function: Callable[..., Array],
    names: tuple[str, ...],
    mixes: bool,
) -> Potential:
    """A pair potential with one table of parameters per name.

    Args:
        builder: Name of the function that builds it.
        elements: Atomic numbers, in the order of the tables.
        cutoff: Radius in Å.
        kind: See :data:`jaxff.physics.pairs.Truncation`.
        onset: Where switching begins, in Å.
        parameters: ``(elements, params, numbers of centers, numbers of others)``.
        function: See :class:`jaxff.physics.pairs.PairTerm`.
        names: Of the parameters.
        mixes: Whether one number per element will do in place of a table.
    """
    checked = truncation(kind, cutoff, onset)
    term = PairTerm(cutoff, functools.partial(parameters, elements), function, *checked, elements)

    def init(key: Any = None, system: Any = None, neighbors: Any = None, **named: Any) -> Params:
        del key, system, neighbors  # nothing random, nothing read off atoms
        given = named_parameters(named, names)
        return {k: jnp.asarray(_table(k, v, len(elements), mixes)) for k, v in given.items()}

    def apply(params: Params, system: System, neighbors: Any = None) -> Outputs:
        return pair_energy(term, params, system, neighbors)

    arguments = {"elements": list(elements), "cutoff": cutoff, "truncation": kind, "onset": onset}
    return Potential(init, apply, (cutoff,), spec=Spec(builder, arguments))


def _table(name: str, value: Any, count: int, mixes: bool) -> Float[np.ndarray, "..."]:
    """A symmetric table of pairs, or one number per element where these mix; checked."""
    array = np.asarray(value, float)
    if array.ndim < 2 and array.size == count == 1:
        array = array.reshape((1,) if mixes else (1, 1))
    if array.shape not in ((count, count), *([(count,)] if mixes else [])):
        alternative = f"one number per element ({count}) or " if mixes else ""
        raise ValueError(
            f"{name} must be {alternative}a table of pairs {(count, count)}, "
            f"got shape {array.shape}"
        )
    if not (np.isfinite(array).all() and (array >= 0).all() and np.array_equal(array, array.T)):
        raise ValueError(f"{name} must be finite, not negative and symmetric, got {value}")
    return array


def named_parameters(named: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """What ``init`` was given by name, in this order.

    Raises:
        TypeError: If one is missing or unknown.
    """
    if set(named) != set(names):
        raise TypeError(f"init takes by name {list(names)}, got {sorted(named)}")
    return {name: named[name] for name in names}


def pair_table(
    table: Float[Array, "species species"], elements: tuple[int, ...], first: Array, second: Array
) -> Array:
    """Entries of a symmetric table for pairs of atomic numbers."""
    if len(elements) == 1:
        return table[0, 0]  # without looking up anything for every pair
    index = np.zeros(max(elements) + 1, np.int32)
    index[list(elements)] = np.arange(len(elements))
    species = jnp.asarray(index)
    return table[jnp.take(species, first, mode="clip"), jnp.take(species, second, mode="clip")]
