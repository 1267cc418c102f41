"""Large groups by products over orbits of atoms, and by parts, against products of the matrix."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from crystals import covered_frames, covered_group

from jaxff.descriptors import inverse_distances
from jaxff.gdml import assembly
from jaxff.gdml.cosets import parts_of
from jaxff.gdml.operator import GdmlOperator
from jaxff.gdml.orbits import tables_of
from jaxff.kernels import Kernel, matern52


@dataclasses.dataclass(frozen=True)
class Described:
    """Inverse distances that do not say that they are of pairs."""

    def __call__(self, system, neighbors=None):
        return inverse_distances(system, neighbors)

    def permute(self, permutations):
        return inverse_distances.permute(permutations)


GROUP = covered_group()
KERNELS = {
    "orbits": Kernel(inverse_distances, matern52, GROUP.permutations, GROUP.translations),
    "cosets": Kernel(Described(), matern52, GROUP.permutations),
}


@pytest.fixture(scope="module", params=KERNELS)
def operator(request):
    hyper = {"lengthscale": jnp.asarray(3.0)}
    return GdmlOperator(KERNELS[request.param], hyper, covered_frames(5), energies=True)


@pytest.fixture(scope="module")
def matrix(operator):
    return operator.dense()


def test_parts_make_the_group():
    part, representatives = parts_of(KERNELS["cosets"])
    assert 1 < part.order <= 8
    assert representatives is not None
    atoms = representatives.atoms
    products = atoms[:, part.permutations].reshape(-1, atoms.shape[1])
    np.testing.assert_array_equal(np.unique(products, axis=0), GROUP.permutations)
    small = Kernel(inverse_distances, matern52, part.permutations)
    assert parts_of(small) == (small, None)


def test_orbits_make_the_group():
    tables = tables_of(KERNELS["orbits"])
    assert [len(orbit.atoms) for orbit in tables.orbits] == [12, 2]
    for orbit in tables.orbits:
        first = orbit.atoms[0]
        for index, atom in enumerate(orbit.atoms):
            assert (orbit.carried[index, first], orbit.back[index, atom]) == (atom, first)
            np.testing.assert_array_equal(np.sort(orbit.which[index].ravel()), np.arange(24))


def test_the_matrix_is_that_of_the_products(operator, matrix):
    size = np.abs(matrix).max()
    np.testing.assert_allclose(matrix, matrix.T, rtol=0, atol=1e-13 * size)
    vector = np.random.default_rng(0).normal(size=operator.size)
    product = np.asarray(operator.matvec(vector))
    np.testing.assert_allclose(matrix @ vector, product, rtol=0, atol=1e-12 * np.abs(product).max())
    np.testing.assert_array_equal(np.tril(operator.dense(lower=True)), np.tril(matrix))


@pytest.mark.parametrize("columns", [0.0, np.inf], ids=["of blocks", "one by one"])
def test_columns_and_diagonal_are_those_of_the_matrix(operator, matrix, columns, monkeypatch):
    monkeypatch.setattr(assembly, "_COLUMNS_OF_BLOCK", columns)
    index = np.array([0, operator.size - 2, 5, 40, 130, 41])
    size = np.abs(matrix).max()
    np.testing.assert_allclose(operator.columns(index), matrix[:, index], rtol=0, atol=1e-12 * size)
    np.testing.assert_allclose(operator.diagonal(), np.diagonal(matrix), rtol=0, atol=1e-12 * size)
