import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernel_models import CELL, THREE_HYDROGENS, ammonia, crystal
from models import difference, rotations

from jaxff import gdml
from jaxff.descriptors import inverse_distances
from jaxff.descriptors.inverse_distances import InverseDistances, misplaced_fraction, pair_index
from jaxff.kernels import Kernel, matern52
from jaxff.kernels.images import lattice_of, nearest_distances
from jaxff.system import System


def single(stack: System, index: int = 0) -> System:
    return jax.tree.map(lambda leaf: leaf[index], stack)


def test_pairs_run_through_the_lower_triangle():
    table = pair_index(4)
    assert [table[a, b] for a, b in [(1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2)]] == [*range(6)]
    assert np.array_equal(table, table.T)
    assert np.all(np.diag(table) == -1)


def test_values_are_inverse_distances_pair_by_pair():
    positions = np.array([[0.0, 0, 0], [2, 0, 0], [0, 4, 0], [0, 0, 8]])
    found = inverse_distances(System(positions, [1, 1, 1, 1]))
    pairs = [(1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2)]
    expected = [1 / np.linalg.norm(positions[a] - positions[b]) for a, b in pairs]
    assert np.allclose(found, expected, rtol=1e-15, atol=0)


def test_jacobian_equals_finite_differences():
    system = single(ammonia())
    jacobian = jax.jit(jax.jacfwd(lambda r: inverse_distances(system.replace(positions=r))))
    numeric = difference(lambda r: inverse_distances(system.replace(positions=r)), system.positions)
    assert np.allclose(jacobian(system.positions), numeric, atol=1e-9)
    assert np.all(np.count_nonzero(abs(numeric.reshape(6, -1)) > 1e-9, axis=1) == 6)


def test_rigid_motions_leave_it_unchanged():
    system = single(ammonia())
    expected = inverse_distances(system)
    for rotation in rotations(2):
        moved = system.replace(positions=system.positions @ rotation.T + 5.0)
        assert np.allclose(inverse_distances(moved), expected, rtol=1e-13)


def test_declared_permutations_are_those_of_the_atoms():
    system = single(ammonia())
    index = inverse_distances.permute(THREE_HYDROGENS)
    assert index.shape == (6, 6)
    for p, row in zip(THREE_HYDROGENS, index, strict=True):
        permuted = system.replace(positions=system.positions[p])
        assert np.array_equal(inverse_distances(permuted), inverse_distances(system)[row])


def test_a_cell_means_nearest_images():
    system = single(crystal())
    shifts = np.array([[a, b, c] for a in range(-3, 4) for b in range(-3, 4) for c in range(-3, 4)])
    rows, columns = np.tril_indices(4, -1)
    vectors = np.asarray(system.positions)[rows] - np.asarray(system.positions)[columns]
    images = np.linalg.norm(vectors[:, None] + shifts @ CELL, axis=-1)
    assert np.allclose(1 / inverse_distances(system), images.min(axis=1), rtol=1e-12)


def test_only_periodic_directions_are_wrapped():
    positions = np.array([[0.0, 0, 0], [2.0, 0, 2.0]])
    cell = np.diag([2.5, 2.5, 2.5])
    slab = System(positions, [1, 1], cell, [True, True, False])
    assert np.allclose(1 / inverse_distances(slab), np.hypot(0.5, 2.0))
    assert np.allclose(1 / inverse_distances(System(positions, [1, 1], cell)), np.hypot(0.5, 0.5))


def test_features_depend_on_the_declared_pairs():
    rows, columns = inverse_distances.pairs(4)
    system = single(ammonia())
    vectors = system.positions[rows] - system.positions[columns]
    assert np.allclose(inverse_distances(system), 1 / jnp.linalg.norm(vectors, axis=1))


def test_instances_are_interchangeable():
    assert InverseDistances() == inverse_distances
    assert hash(InverseDistances()) == hash(inverse_distances)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_dtype_follows_positions(dtype):
    system = single(ammonia())
    found = inverse_distances(system.replace(positions=system.positions.astype(dtype)))
    assert found.dtype == dtype


def test_rounding_in_an_oblique_cell_is_warned_of():
    cell = 6.0 * np.array([[1.0, 0, 0], [-0.5, np.sqrt(0.75), 0], [0, 0, 2.0]])
    positions = np.array([[0.0, 0, 0], [2.9, 0.0, 0.0], [2.9, 2.0, 0.0]])
    oblique = System(positions[None], [[6, 6, 8]], cell[None])
    rows, columns = np.tril_indices(3, -1)
    lattice = lattice_of(cell, None)
    nearest = nearest_distances(positions, positions, lattice)[rows, columns]
    expected = np.mean(1 / np.asarray(inverse_distances(single(oblique))) > nearest + 1e-3)
    assert expected > 0.0
    np.testing.assert_allclose(misplaced_fraction(oblique), [expected])
    model = gdml.potential(Kernel(inverse_distances, matern52))
    with pytest.warns(UserWarning, match=r"oblique cell of geometry 0 .* 33 % .* smooth_images"):
        model.init(jax.random.key(0), oblique, hyper={"lengthscale": 10.0})
    straight = oblique.replace(cell=np.diag([6.0, 6.0, 12.0])[None])
    for system in (straight, System(positions, [6, 6, 8])):
        assert not misplaced_fraction(system).any()
        inverse_distances.inspect(system)
