"""Large groups in parts against products of the whole matrix."""

import jax.numpy as jnp
import numpy as np
import pytest
from crystals import covered_frames, covered_group

from jaxff.descriptors import inverse_distances
from jaxff.gdml.cosets import parts_of
from jaxff.gdml.operator import GdmlOperator
from jaxff.kernels import Kernel, matern52

GROUP = covered_group()
KERNEL = Kernel(inverse_distances, matern52, GROUP.permutations, GROUP.translations)


@pytest.fixture(scope="module")
def operator():
    return GdmlOperator(KERNEL, {"lengthscale": jnp.asarray(3.0)}, covered_frames(3), energies=True)


@pytest.fixture(scope="module")
def matrix(operator):
    return operator.dense()


def test_parts_make_the_group():
    part, representatives = parts_of(KERNEL)
    assert 1 < part.order <= 8
    atoms = representatives.atoms
    products = atoms[:, part.permutations].reshape(-1, atoms.shape[1])
    np.testing.assert_array_equal(np.unique(products, axis=0), GROUP.permutations)
    small = Kernel(inverse_distances, matern52, part.permutations)
    assert parts_of(small) == (small, None)


def test_the_matrix_is_that_of_the_products(operator, matrix):
    size = np.abs(matrix).max()
    np.testing.assert_allclose(matrix, matrix.T, rtol=0, atol=1e-13 * size)
    vector = np.random.default_rng(0).normal(size=operator.size)
    product = np.asarray(operator.matvec(vector))
    np.testing.assert_allclose(matrix @ vector, product, rtol=0, atol=1e-12 * np.abs(product).max())


def test_columns_and_diagonal_are_those_of_the_matrix(operator, matrix):
    index = np.array([0, 5, 40, 41, operator.size - 2])
    size = np.abs(matrix).max()
    np.testing.assert_allclose(operator.columns(index), matrix[:, index], rtol=0, atol=1e-12 * size)
    np.testing.assert_allclose(operator.diagonal(), np.diagonal(matrix), rtol=0, atol=1e-12 * size)
