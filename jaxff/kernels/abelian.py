"""Abelian groups of permutations, such as the translations of a crystal: factors and orbits.

A group is given by generators, one row for each factor of the direct product of cyclic groups
Z_a × Z_b × …; its elements run through the exponents, the last factor fastest.
"""

import functools
from typing import NamedTuple

import numpy as np

from jaxff.kernels.groups import compose, verify
from jaxff.types import Float, Int

__all__ = ["Orbits", "cosets", "cycle_length", "decompose", "elements", "frequencies", "orbits"]


def cycle_length(permutation: Int[np.ndarray, " atoms"]) -> int:
    """How often a permutation has to be applied to give the identity: its order."""
    identity = np.arange(len(permutation))
    power, length = np.asarray(permutation), 1
    while not np.array_equal(power, identity):
        power, length = power[permutation], length + 1
    return length


def elements(generators: Int[np.ndarray, "axes atoms"]) -> Int[np.ndarray, "order atoms"]:
    """All products of powers of the generators, the last exponent running fastest.

    Raises:
        ValueError: If generators do not commute, or are no direct product: some power of one is a
            product of others.
    """
    generators = np.asarray(generators)
    result = np.arange(generators.shape[1])[None]
    for index, generator in enumerate(generators):
        for other in generators[:index]:
            if not np.array_equal(other[generator], generator[other]):
                raise ValueError(
                    f"generator {index} does not commute with an earlier one: only translations, "
                    "or another abelian group, can be transformed"
                )
        powers = [np.arange(len(generator))]
        for _ in range(cycle_length(generator) - 1):
            powers.append(powers[-1][generator])
        result = compose(result[:, None], np.array(powers)[None]).reshape(-1, len(generator))
    if len(np.unique(result, axis=0)) < len(result):
        raise ValueError(
            "the generators are no direct product, powers of one are products of others: "
            "decompose(group) gives a set that is"
        )
    return result


def decompose(group: Int[np.ndarray, "order atoms"]) -> Int[np.ndarray, "axes atoms"]:
    """Generators of a finite abelian group as a direct product of cyclic groups, largest first.

    A cyclic subgroup of the largest order is a direct factor; among elements whose powers meet what
    is generated so far in the identity alone, one of the largest order gives the next.

    Raises:
        ValueError: If the permutations are no group, or do not commute.

    Reference:
        Rotman, An Introduction to the Theory of Groups (Springer, 1995), chapter 6,
        doi:10.1007/978-1-4612-4176-8.
    """
    group = verify(group)
    lengths = np.array([cycle_length(row) for row in group])
    chosen = np.empty((0, group.shape[1]), group.dtype)
    for index in np.argsort(-lengths, kind="stable"):
        known = {row.tobytes() for row in elements(chosen)}
        if len(known) == len(group):
            break
        power = group[index]
        while len(known) > 0 and power.tobytes() not in known:
            power = power[group[index]]
        if lengths[index] > 1 and np.array_equal(power, np.arange(group.shape[1])):
            chosen = np.concatenate([chosen, group[index][None]])
    if len(elements(chosen)) < len(group):
        raise ValueError("the permutations do not commute: only an abelian group has such factors")
    return chosen


def cosets(
    group: Int[np.ndarray, "order atoms"], subgroup: Int[np.ndarray, "few atoms"]
) -> Int[np.ndarray, "cosets atoms"]:
    """The first element of each coset ``element[subgroup]``."""
    seen: set[bytes] = set()
    chosen = []
    for row in np.ascontiguousarray(group):
        if row.tobytes() not in seen:
            chosen.append(row)
            seen.update(image.tobytes() for image in np.ascontiguousarray(row[subgroup]))
    return np.array(chosen)


class Orbits(NamedTuple):
    """What a group makes of some features, each as a signal on the group.

    Attributes:
        members: Features ``members[o, t]`` to which the elements t bring the first of each orbit.
        weights: One over how often each orbit is passed through.
        place: A place ``(o, t)`` of each feature, as ``o * order + t``.
    """

    members: Int[np.ndarray, "orbits order"]
    weights: Float[np.ndarray, " orbits"]
    place: Int[np.ndarray, " features"]


def orbits(images: Int[np.ndarray, "order features"]) -> Orbits:
    """Orbits of features under a group.

    Args:
        images: Where each element takes each feature, as permutations in the order of the elements.
    """
    order, features = images.shape
    first = np.unique(images.min(axis=0))  # an orbit is named by its first member
    members = images[:, first].T
    passes = np.array([order // len(set(row)) for row in members.tolist()])
    place = np.empty(features, int)
    flat = np.arange(members.size)[::-1]
    place[members.ravel()[::-1]] = flat  # the earliest place stays
    return Orbits(members, 1.0 / passes, place)


@functools.lru_cache(maxsize=64)
def frequencies(orders: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    r"""Phases :math:`2\pi\sum_a k_a n_a/N_a` of characters, without those conjugate to another.

    Args:
        orders: Orders :math:`N_a` of the cyclic factors.

    Returns:
        Phases of the real characters ``(real, order)``, which are 0 or π, and of one of each pair
        of complex conjugates ``(complex, order)``.
    """
    exponents = np.stack(
        [np.ravel(axis) for axis in np.indices(orders or (1,))], axis=1
    )  # (order, axes)
    moduli = np.array(orders or (1,))
    opposite = np.ravel_multi_index(tuple((-exponents % moduli).T), tuple(moduli))
    own = np.arange(len(exponents))
    # Whole multiples of 2π are dropped while they are whole numbers.
    denominator = int(np.lcm.reduce(moduli))
    whole = (exponents * (denominator // moduli)) @ exponents.T % denominator
    phases = 2.0 * np.pi * whole / denominator
    return phases[opposite == own], phases[opposite > own]
