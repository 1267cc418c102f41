import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernel_models import SWAP, THREE_HYDROGENS, ammonia, log_distances, water

from jaxff.descriptors import inverse_distances
from jaxff.kernels import AtomicSum, GlobalSymmetry, Kernel, matern52, rbf
from jaxff.system import System

ONE = {"lengthscale": jnp.asarray(0.9)}
SYSTEMS = water(2)
A, B = (jax.tree.map(lambda leaf, i=i: leaf[i], SYSTEMS) for i in (0, 1))


def environments(system: System, neighbors=None):
    """Features of each atom: sums of powers of its inverse distances."""
    square = jnp.sum((system.positions[:, None] - system.positions) ** 2, axis=-1)
    inverse = (1.0 - jnp.eye(system.atom_count)) / jnp.sqrt(square + jnp.eye(system.atom_count))
    inverse = inverse * (system.numbers > 0)
    return jnp.stack([jnp.sum(inverse**n, axis=1) for n in (1, 2, 3)], axis=1)


def coordinates(system: System, neighbors=None):
    return system.positions


def test_a_group_of_permutations_does_what_the_permutations_of_a_kernel_do():
    for descriptor in (inverse_distances, log_distances):
        symmetric = GlobalSymmetry(Kernel(descriptor, matern52), SWAP)
        found, expected = symmetric(ONE, A, B), Kernel(descriptor, matern52, SWAP)(ONE, A, B)
        assert np.isclose(found, expected, rtol=1e-14)
    assert symmetric.order == 2
    assert symmetric == GlobalSymmetry(Kernel(log_distances, matern52), SWAP)
    assert hash(symmetric) == hash(GlobalSymmetry(Kernel(log_distances, matern52), SWAP))
    assert symmetric != GlobalSymmetry(Kernel(log_distances, matern52), SWAP[:1])
    symmetric.check_systems(ONE, SYSTEMS)


def mirrored(system):
    return system.replace(positions=system.positions * jnp.asarray([1.0, 1.0, -1.0]))


def test_a_group_may_consist_of_functions():
    kernel = GlobalSymmetry(Kernel(coordinates, rbf), (lambda s: s, mirrored))
    kernel.check_systems(ONE, SYSTEMS)
    assert np.isclose(kernel(ONE, A, B), kernel(ONE, mirrored(A), B), rtol=1e-14)
    assert np.isclose(kernel(ONE, A, B), kernel(ONE, B, A), rtol=1e-14)
    plain = Kernel(coordinates, rbf)
    expected = plain(ONE, A, B) + plain(ONE, mirrored(A), B)
    assert np.isclose(kernel(ONE, A, B), expected, rtol=1e-14)


def test_a_kernel_that_the_group_changes_is_refused():
    weighted = lambda system, neighbors=None: inverse_distances(system) * jnp.arange(1, 4)  # noqa: E731
    kernel = GlobalSymmetry(Kernel(weighted, matern52), SWAP)
    with pytest.raises(ValueError, match="changes if the group acts on both systems"):
        kernel.check_systems(ONE, SYSTEMS)

    def turned(system):  # without its inverse, the turn back
        turn = jnp.asarray([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
        return system.replace(positions=system.positions @ turn)

    with pytest.raises(ValueError, match="lacks inverses"):
        GlobalSymmetry(Kernel(coordinates, rbf), (lambda s: s, turned)).check_systems(ONE, SYSTEMS)


def test_unusable_groups_are_refused():
    kernel = Kernel(inverse_distances, rbf)
    with pytest.raises(ValueError, match=r"not closed.*jaxff\.kernels\.permutations\.closure"):
        GlobalSymmetry(kernel, np.array([[0, 1, 2], [1, 2, 0]]))
    with pytest.raises(ValueError, match="at least one function"):
        GlobalSymmetry(kernel, ())
    with pytest.raises(TypeError, match="takes a kernel, got function"):
        GlobalSymmetry(lambda a, b: 0.0, SWAP)
    with pytest.raises(ValueError, match="act on 4 atoms, the system has 3"):
        GlobalSymmetry(kernel, THREE_HYDROGENS)(ONE, A, B)


def test_a_sum_over_atoms_counts_pairs_of_one_element():
    kernel = AtomicSum(environments, matern52)
    first, second = (np.asarray(jax.jit(environments)(s)) for s in (A, B))
    expected = 0.0
    for a, b in itertools.product(range(3), repeat=2):
        if A.numbers[a] == B.numbers[b]:
            square = np.sum((first[a] - second[b]) ** 2) / 0.81
            expected += float(matern52.derivative(0, jnp.asarray(square)))
    assert np.isclose(jax.jit(kernel)(ONE, A, B), expected, rtol=1e-14)


def test_a_sum_over_atoms_needs_no_permutations_and_ignores_padding():
    kernel = AtomicSum(environments, rbf)
    a, b = (jax.tree.map(lambda leaf, i=i: leaf[i], ammonia(2)) for i in (0, 1))
    evaluate = jax.jit(kernel)
    for p in THREE_HYDROGENS:
        permuted = a.replace(positions=a.positions[p])
        assert np.isclose(evaluate(ONE, permuted, b), evaluate(ONE, a, b), rtol=1e-14)
    padded = System(jnp.concatenate([a.positions, jnp.full((1, 3), 9.0)]), [7, 1, 1, 1, 0])
    assert np.isclose(evaluate(ONE, padded, padded), evaluate(ONE, a, a), rtol=1e-14)
    assert kernel == AtomicSum(environments, rbf)
    assert hash(kernel) == hash(AtomicSum(environments, rbf))
    assert kernel.hyper_names == ("lengthscale",)


def test_features_of_a_whole_system_are_refused_by_a_sum_over_atoms():
    with pytest.raises(ValueError, match=r"one row per atom, got \(3,\); .* use Kernel"):
        AtomicSum(inverse_distances, rbf)(ONE, A, B)
    with pytest.raises(ValueError, match=r"missing \['lengthscale'\]"):
        AtomicSum(environments, rbf).check_hyper({})
