"""Expansion of the neighbours of each atom in radial functions and spherical harmonics."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.descriptors.environments import (
    find_pairs,
    one_hot,
    require_elements,
    species_index,
)
from jaxff.descriptors.harmonics import solid_harmonics
from jaxff.descriptors.radial_integrals import evaluate_series
from jaxff.neighbors import Pairs, displacements
from jaxff.numerics import safe_norm
from jaxff.radial.cutoffs import switching
from jaxff.system import System
from jaxff.types import Array, Float

__all__ = ["TRANSITIONS", "check_transition", "expand_neighbors"]

TRANSITIONS = {"switching": 2, "shifted_cosine": 1}
"""How neighbours fade out, and how many derivatives are continuous at the cutoff."""


def check_transition(kind: str, width: float, cutoff: float) -> None:
    """Refuse settings that make no sense.

    Raises:
        ValueError: If the cutoff is not positive, the kind unknown, or the width not within it.
    """
    if not 0.0 < cutoff < math.inf:
        raise ValueError(f"cutoff must be a positive number in Å, got {cutoff}")
    if kind not in (*TRANSITIONS, "none"):
        raise ValueError(
            f"transition must be one of {sorted((*TRANSITIONS, 'none'))}, got {kind!r}"
        )
    if not 0.0 < width <= cutoff:
        raise ValueError(
            f"transition_width must be positive and at most the cutoff, {cutoff} Å; got {width} Å"
        )


def _fade(kind: str, distances: Array, cutoff: float, width: float) -> Array:
    if kind == "none":
        return jnp.ones_like(distances)
    if kind == "switching":
        return switching(distances, cutoff - width, cutoff)
    scaled = jnp.clip((distances - cutoff + width) / width, 0.0, 1.0)
    return 0.5 * (1.0 + jnp.cos(jnp.pi * scaled))


def expand_neighbors(
    system: System,
    neighbors: Any,
    elements: tuple[int, ...],
    series: Float[np.ndarray, "terms degrees functions"],
    reach: float,
    transition: tuple[str, float, float],
) -> list[Array]:
    r"""Sums of :math:`f(d)\,R_{nl}(d)\,Y_{lm}(\hat r)` over the neighbours of each element.

    Polynomials of the positions but for the fading: smooth for coincident atoms too. Elements that
    are not listed give NaN.

    Args:
        system: A single system or a pack.
        neighbors: Lists; ``None`` for all pairs of a molecule.
        elements: Atomic numbers, in the order of the features.
        series: Of :math:`R_{nl}(d)/d^l`, see :mod:`jaxff.descriptors.radial_integrals`.
        reach: Radius of the list and of the series, in Å.
        transition: Kind, and from where over what width neighbours fade (Å).

    Returns:
        For each degree ``(atoms, elements, functions, 2 l + 1)``.
    """
    require_elements(elements, system.numbers)
    pairs = find_pairs(system, reach, neighbors)
    vectors, mask = displacements(system, pairs)
    square = jnp.sum(vectors**2, axis=-1)
    inside = mask & (square < reach**2)
    kind, cutoff, width = transition
    weights = jnp.where(inside, _fade(kind, safe_norm(vectors), cutoff, width), 0.0)
    # a skin reaches beyond the series, whose polynomials know no bounds there
    values = evaluate_series(series, jnp.where(inside, square, 0.25 * reach**2), reach)
    radial = values * weights[:, None, None]
    numbers = jnp.where(inside, system.numbers[jnp.where(mask, pairs.others, 0)], 0)
    harmonics = solid_harmonics(vectors, series.shape[1] - 1)
    return [
        _collect(pairs, elements, numbers, radial[:, degree], angular)
        for degree, angular in enumerate(harmonics)
    ]


def _collect(
    pairs: Pairs, elements: tuple[int, ...], numbers: Array, radial: Array, angular: Array
) -> Float[Array, "atoms elements functions orders"]:
    """Sum of products over the neighbours of each element."""
    count = len(elements)
    species = one_hot(elements, numbers, radial.dtype)
    if pairs.width is not None:
        shape = (pairs.atoms, pairs.width, -1)
        parts = [x.reshape(shape) for x in (species, radial, angular)] if pairs.width else None
        if parts is None:
            return jnp.zeros((pairs.atoms, count, radial.shape[1], angular.shape[1]), radial.dtype)
        return jnp.einsum("ajs,ajn,ajm->asnm", *parts)
    # each pair to the place of its element at once: unlike one-hot, no factor more to store
    products = radial[:, :, None] * angular[:, None, :]
    products = products * jnp.where(jnp.isnan(species[:, :1]), jnp.nan, 1.0)[:, :, None]
    place = pairs.centers * count + species_index(elements, numbers)
    summed = jax.ops.segment_sum(products, place, pairs.atoms * count)
    return summed.reshape(pairs.atoms, count, *summed.shape[1:])
