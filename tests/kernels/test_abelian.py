"""Abelian groups of permutations and their orbits."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxff.kernels.abelian import cycle_length, decompose, elements, frequencies, orbits

ORDERS = st.lists(st.integers(1, 6), min_size=1, max_size=3).filter(lambda n: np.prod(n) <= 60)


def regular(orders, seed=0):
    """Generators of Z_a × Z_b × … acting on itself, its elements in random order."""
    shape = tuple(orders)
    grid = np.arange(np.prod(shape)).reshape(shape)
    label = np.random.default_rng(seed).permutation(grid.size)
    rows = [np.roll(grid, -1, axis).ravel() for axis in range(len(shape))]
    return np.array([label[row][np.argsort(label)] for row in rows])


@settings(max_examples=30)
@given(ORDERS)
def test_factors_generate_the_group(orders):
    group = np.unique(elements(regular(orders)), axis=0)
    assert len(group) == np.prod(orders)
    generators = decompose(group)
    np.testing.assert_array_equal(np.unique(elements(generators), axis=0), group)
    lengths = [cycle_length(row) for row in generators]
    assert np.prod(lengths, dtype=int) == len(group)
    # Invariant factors: each order divides the one before, so there are as few as can be.
    assert all(a % b == 0 for a, b in itertools.pairwise(lengths))


@settings(max_examples=30)
@given(ORDERS)
def test_characters_transform_products_to_sums(orders):
    real, half = frequencies(tuple(orders))
    count = int(np.prod(orders))
    assert len(real) + 2 * len(half) == count
    characters = np.concatenate([np.cos(real), np.exp(1j * half), np.exp(-1j * half)])
    np.testing.assert_allclose(
        characters @ characters.conj().T, count * np.eye(count), atol=1e-12 * count
    )
    exponents = np.stack([axis.ravel() for axis in np.indices(orders)], axis=1)
    total = np.ravel_multi_index(
        tuple((exponents + exponents[-1]).T % np.array(orders)[:, None]), orders
    )
    np.testing.assert_allclose(
        characters[:, total], characters * characters[:, -1:], atol=1e-12 * count
    )


def test_orbits_pass_through_every_feature():
    """Also where a group moves only some of the atoms, and swaps the two ends of pairs."""
    group = elements(np.array([[1, 2, 3, 0, 4, 5]]))
    first, second = np.tril_indices(6, -1)
    table = np.zeros((6, 6), int)
    table[first, second] = table[second, first] = np.arange(15)
    images = table[group[:, first], group[:, second]]
    found = orbits(images)
    lengths = sorted(round(4 * weight) for weight in found.weights)
    assert lengths == [2, 4, 4, 4] or sorted(len(set(r)) for r in found.members.tolist()) == [
        1, 2, 4, 4, 4,
    ]  # fmt: skip
    np.testing.assert_array_equal(found.members.ravel()[found.place], np.arange(15))
    # Weights undo that short orbits are passed through more than once.
    counts = np.zeros(15)
    np.add.at(counts, found.members, found.weights[:, None])
    np.testing.assert_allclose(counts, 1.0)
    # An element moves along the orbit as it moves along the group.
    np.testing.assert_array_equal(images[1][found.members], np.roll(found.members, -1, axis=1))


def test_what_is_no_direct_product_is_refused():
    with pytest.raises(ValueError, match=r"does not commute"):
        elements(np.array([[1, 2, 0], [1, 0, 2]]))
    with pytest.raises(ValueError, match=r"no direct product"):
        elements(np.array([[1, 2, 3, 0], [2, 3, 0, 1]]))
    with pytest.raises(ValueError, match=r"do not commute|commute"):
        decompose(np.array(list(itertools.permutations(range(3)))))
    with pytest.raises(ValueError, match=r"not closed"):
        decompose(np.array([[0, 1, 2], [1, 2, 0]]))
