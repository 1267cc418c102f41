"""Matching of geometries: distances, costs and hidden permutations."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxff.kernels.matching import distance_matrices, match, match_costs

NUMBERS = np.array([6, 6, 8, 1, 1, 1, 1, 1])


def random_frames(seed, frames):
    return 2.0 * np.random.default_rng(seed).normal(size=(frames, len(NUMBERS), 3))


def rotation(seed):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]


def shuffled(rng, numbers):
    permutation = np.arange(len(numbers))
    for element in np.unique(numbers):
        where = np.flatnonzero(numbers == element)
        permutation[where] = rng.permutation(where)
    return permutation


@pytest.mark.parametrize("seed", range(5))
def test_hidden_permutation_is_found(seed):
    rng = np.random.default_rng(seed)
    first = random_frames(seed, 10)
    hidden = np.array([shuffled(rng, NUMBERS) for _ in first])
    moved = np.take_along_axis(first, hidden[..., None], axis=1) @ rotation(seed) + 3.0
    permutations, costs = match(first, moved, NUMBERS)
    np.testing.assert_array_equal(permutations, hidden)
    np.testing.assert_allclose(costs, 0.0, atol=1e-6)


@given(st.integers(0, 1000))
@settings(max_examples=20)
def test_a_match_keeps_elements_and_is_no_worse_than_the_identity(seed):
    first, second = random_frames(seed, 4), random_frames(seed + 1, 4)
    permutations, costs = match(first, second, NUMBERS)
    assert (NUMBERS[permutations] == NUMBERS).all()
    moved = np.take_along_axis(first, permutations[..., None], axis=1)
    change = distance_matrices(moved) - distance_matrices(second)
    np.testing.assert_allclose(costs, np.linalg.norm(change, axis=(1, 2)), rtol=1e-12)
    plain = np.linalg.norm(distance_matrices(first) - distance_matrices(second), axis=(1, 2))
    assert (costs <= plain + 1e-9).all()


def test_equal_geometries_keep_the_identity():
    first = random_frames(0, 3)
    permutations, costs = match(first, first @ rotation(1), NUMBERS)
    np.testing.assert_array_equal(permutations, np.tile(np.arange(8), (3, 1)))
    np.testing.assert_allclose(costs, 0.0, atol=1e-10)


def test_costs_of_one_permutation_and_of_one_for_each_pair():
    distances = distance_matrices(random_frames(3, 4))
    pairs, permutation = np.array([[0, 1], [2, 3]]), np.array([1, 0, 2, 4, 3, 5, 6, 7])
    expected = [np.linalg.norm(distances[i][permutation][:, permutation] - distances[j])
                for i, j in pairs]  # fmt: skip
    np.testing.assert_allclose(match_costs(distances, pairs, permutation[None]), expected)
    each = np.tile(permutation, (2, 1))
    np.testing.assert_allclose(match_costs(distances, pairs, each), expected)


CELLS = {
    "orthogonal": np.diag([5.0, 6.0, 7.0]),
    "hexagonal": np.array([[5.0, 0.0, 0.0], [-2.5, 4.33, 0.0], [0.0, 0.0, 7.0]]),
}


@pytest.mark.parametrize("pbc", [(True, True, True), (True, True, False), (False, False, True)])
@pytest.mark.parametrize("shape", CELLS)
def test_nearest_images_against_all_images(shape, pbc):
    cell = CELLS[shape]
    positions = np.random.default_rng(0).uniform(-8.0, 8.0, size=(3, 5, 3))
    images = [range(-8, 9) if periodic else (0,) for periodic in pbc]
    shifts = np.array(list(itertools.product(*images))) @ cell
    difference = positions[:, :, None] - positions[:, None]
    expected = np.linalg.norm(difference[..., None, :] - shifts, axis=-1).min(axis=-1)
    np.testing.assert_allclose(distance_matrices(positions, cell, np.array(pbc)), expected)
    per_frame = np.tile(cell, (3, 1, 1)), np.tile(pbc, (3, 1))
    np.testing.assert_allclose(distance_matrices(positions, *per_frame), expected)


def test_slab_stored_with_an_empty_vector():
    cell = np.array([[5.0, 0.0, 1.0], [1.0, 6.0, 0.0], [0.0, 0.0, 0.0]])
    positions = np.random.default_rng(0).uniform(-8.0, 8.0, size=(2, 4, 3))
    pbc = np.array([True, True, False])
    normal = np.cross(cell[0], cell[1])
    expected = distance_matrices(positions, cell + np.outer([0.0, 0.0, 1.0], normal), pbc)
    np.testing.assert_allclose(distance_matrices(positions, cell, pbc), expected)


def test_a_cell_that_does_not_repeat_means_nothing():
    positions = random_frames(0, 2)
    open_cell = distance_matrices(positions, np.eye(3), np.zeros(3, bool))
    np.testing.assert_array_equal(open_cell, distance_matrices(positions))


@pytest.mark.parametrize("third", [(0.0, 0.0, 0.0), (5.0, 6.0, 0.0)])
def test_flat_cells_are_refused(third):
    cell = np.array([[5.0, 0.0, 0.0], [0.0, 6.0, 0.0], third])
    with pytest.raises(ValueError, match="frame 0: the periodic lattice vectors"):
        distance_matrices(np.zeros((1, 2, 3)), cell)
