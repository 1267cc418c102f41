"""Groups of permutations against brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxff.kernels.groups import closure, compose, inverse, is_group, verify


def cycle(atoms):
    return np.roll(np.arange(atoms), 1)


def transposition(atoms):
    return np.array([1, 0, *range(2, atoms)])


def brute_force(generators):
    elements = {tuple(range(generators.shape[1]))}
    while True:
        products = {tuple(np.array(p)[q]) for p in elements for q in generators}
        if products <= elements:
            return sorted(elements)
        elements |= products


generator_sets = st.integers(1, 5).flatmap(
    lambda atoms: st.lists(st.permutations(range(atoms)), min_size=1, max_size=3)
)


@given(generator_sets)
@settings(max_examples=40)
def test_closure_is_all_products(rows):
    group = closure(np.array(rows))
    assert list(map(tuple, group)) == brute_force(np.array(rows))
    assert is_group(group)
    assert len(verify(group[::-1])) == len(group)


@pytest.mark.parametrize("atoms", [2, 4, 6])
def test_full_symmetric_group_in_lexicographic_order(atoms):
    group = closure(np.stack([cycle(atoms), transposition(atoms)]))
    np.testing.assert_array_equal(group, list(itertools.permutations(range(atoms))))


def test_thousands_of_elements():
    group = closure(np.stack([transposition(7), cycle(7)]))
    assert group.shape == (5040, 7)
    assert len(np.unique(group, axis=0)) == 5040
    assert is_group(group)
    assert not is_group(group[:-1])


def test_no_generators_give_the_identity():
    np.testing.assert_array_equal(closure(np.zeros((0, 3), int)), [[0, 1, 2]])


def test_max_order_allows_its_own_size_and_no_more():
    generators = np.stack([transposition(5), cycle(5)])
    assert len(closure(generators, max_order=120)) == 120
    with pytest.raises(ValueError, match=r"more than max_order = 119 .*raise max_order"):
        closure(generators, max_order=119)


@given(st.permutations(range(6)), st.permutations(range(6)))
@settings(max_examples=20)
def test_products_and_inverses_act_on_positions(first, second):
    first, second = np.array(first), np.array(second)
    positions = np.random.default_rng(0).normal(size=(6, 3))
    np.testing.assert_array_equal(positions[compose(first, second)], positions[first][second])
    np.testing.assert_array_equal(positions[first][inverse(first)], positions)


def test_compose_broadcasts():
    group = closure(cycle(3)[None])
    table = compose(group[:, None], group[None])
    assert table.shape == (3, 3, 3)
    np.testing.assert_array_equal(np.unique(table.reshape(-1, 3), axis=0), group)


@pytest.mark.parametrize(
    "rows",
    [[[0, 2, 1]], [[0, 1, 2], [1, 2, 0]], [[0, 1, 2], [0, 1, 2]], np.zeros((0, 3), int)],
    ids=["no identity", "not closed", "twice", "empty"],
)
def test_sets_that_are_no_groups(rows):
    assert not is_group(np.array(rows))
    with pytest.raises(ValueError, match=r"closed under multiplication|appears twice"):
        verify(rows)


@pytest.mark.parametrize(
    ("rows", "numbers", "message"),
    [
        ([0, 1, 2], None, r"shape \(perms, atoms\), got \(3,\)"),
        ([[0.0, 1.0]], None, "integers"),
        ([[0, 1], [1, 1]], None, "row 1 is no permutation of the atoms 0 to 1"),
        ([[1, 2, 3]], None, "row 0 is no permutation of the atoms 0 to 2"),
        ([[0, 1], [1, 0]], [8, 1], r"row 1 puts atom 1 \(Z = 1\) in the place of atom 0"),
        ([[0, 1], [1, 0]], [1, 1, 1], "2 atoms do not fit"),
    ],
)
def test_verify_says_what_is_wrong(rows, numbers, message):
    with pytest.raises(ValueError, match=message):
        verify(rows, None if numbers is None else np.array(numbers))


def test_verify_sorts():
    rows = [[1, 0, 3, 2], [0, 1, 2, 3]]
    np.testing.assert_array_equal(verify(rows, np.array([1, 1, 6, 6])), rows[::-1])
