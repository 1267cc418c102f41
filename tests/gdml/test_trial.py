"""Descriptors of a new user, tried where references are placed."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernel_models import SWAP, crystal, water

from jaxff import gdml
from jaxff.descriptors import inverse_distances
from jaxff.kernels import AtomicSum, GlobalSymmetry, Kernel, Scaled, Sum, matern52
from jaxff.neighbors import displacements, sum_pairs


def squares(system, neighbors=None):
    vectors = system.positions[1:] - system.positions[:-1]
    return jnp.sum(vectors**2, axis=-1)


def place(kernel, systems=None, **hyper):
    systems = water(2) if systems is None else systems
    named = {"lengthscale": 1.0, **hyper}
    return gdml.potential(kernel).init(jax.random.key(0), systems, hyper=named)


def with_numpy(system, neighbors=None):
    return np.linalg.norm(system.positions[1:], axis=-1)


def branching(system):
    far = squares(system)[0] > 1.0
    return squares(system) if far else -squares(system)


def half_differentiated(system, neighbors=None):
    return squares(system) * jax.lax.stop_gradient(squares(system))


def single_number(system, neighbors=None):
    return squares(system)[0]


def a_table(system, neighbors=None):
    return jnp.ones((2, 4)) * squares(system)[:, None]


def several(system, neighbors=None):
    return squares(system), squares(system)


@pytest.mark.parametrize(
    ("descriptor", "error", "message"),
    [
        (with_numpy, TypeError, "cannot be differentiated: write it with jax.numpy"),
        (branching, TypeError, "without branches on values"),
        (
            half_differentiated,
            ValueError,
            "not differentiable as computed: along one direction feature",
        ),
        (single_number, ValueError, r"must have shape \(features,\), or \(3, features\)"),
        (a_table, ValueError, r"got \(2, 4\)"),
        (several, TypeError, "must return one array of features, got tuple"),
    ],
)
def test_descriptors_that_cannot_work_are_refused(descriptor, error, message):
    for _ in range(2):  # a failure is not remembered as a success
        with pytest.raises(error, match=message):
            place(Kernel(descriptor, matern52))


def test_dependence_on_orientation_or_place_is_told_once():
    def differences(system, neighbors=None):
        return jnp.ravel(system.positions[1:] - system.positions[:-1])

    with pytest.warns(UserWarning, match="not invariant to rotation"):
        place(Kernel(differences, matern52))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        place(Kernel(differences, matern52), water(3))


def test_every_part_is_tried_with_its_own_hyperparameters():
    def power(system, *, exponent):
        return squares(system) ** exponent

    good = Kernel(power, matern52)
    hyper = {"0.lengthscale": 1.0, "0.exponent": 1.5, "1.lengthscale": 1.0, "1.scale": 2.0}
    with pytest.raises(ValueError, match=r"got \(2, 4\)"):
        gdml.potential(Sum((good, Scaled(AtomicSum(a_table, matern52))))).init(
            jax.random.key(0), water(2), hyper=hyper
        )


def test_a_descriptor_is_tried_once_for_all_refits():
    traces = []

    def counted(system, neighbors=None):
        traces.append(1)
        return squares(system)

    kernel = Kernel(counted, matern52)
    place(kernel)
    first = len(traces)
    place(kernel, lengthscale=2.0)
    assert len(traces) == first  # nothing is tried, and nothing compiled
    place(kernel, water(3))
    second = len(traces) - first
    assert 0 < second < first  # compiled for more references, but not tried again


def test_a_descriptor_is_tried_anew_in_a_cell_and_with_other_hyperparameters():
    def fickle(system, neighbors=None, *, tilt=0.0):
        turned = tilt if system.cell is None else 1.0
        return squares(system) + turned * jnp.sin(system.positions[1, 0] - system.positions[0, 0])

    kernel = Kernel(fickle, matern52)
    place(kernel)  # all is well
    with pytest.warns(UserWarning, match="not invariant to rotation"):
        place(kernel, water(2, cell=9.0 * np.eye(3)))
    with pytest.warns(UserWarning, match="not invariant to rotation"):
        place(kernel, tilt=0.5)


def bells(system, neighbors=None):
    pairs = neighbors.within(2.0)
    vectors, mask = displacements(system, pairs)
    return sum_pairs(pairs, jnp.where(mask, jnp.exp(-jnp.sum(vectors**2, axis=-1)), 0.0))[:, None]


def test_descriptors_are_tried_with_the_lists_of_the_first_reference():
    def shifted(system, neighbors=None):
        return bells(system, neighbors) + jnp.sin(system.positions[:, :1])

    bells.cutoff = shifted.cutoff = 2.0
    params = place(AtomicSum(bells, matern52), crystal(2))
    assert params["reference_neighbors"].cutoffs == (2.0,)
    with pytest.warns(UserWarning, match="not invariant"):
        place(AtomicSum(shifted, matern52), crystal(2))


WRONG = np.array([[0, 1, 2], [1, 0, 2]])
"""Exchanges an oxygen and a hydrogen."""


def lopsided(system, neighbors=None):
    """Distances, of which one counts more: not what permutations may act on."""
    i, j = np.triu_indices(system.atom_count, 1)
    squares = jnp.sum((system.positions[i] - system.positions[j]) ** 2, -1)
    return jnp.arange(1.0, 1.0 + len(i)) * squares


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (Kernel(inverse_distances, matern52, WRONG), "only atoms of one element"),
        (2.0 * Kernel(inverse_distances, matern52, WRONG), "only atoms of one element"),
        (
            Kernel(inverse_distances, matern52) + Kernel(inverse_distances, matern52, WRONG),
            "only atoms of one element",
        ),
        (GlobalSymmetry(Kernel(inverse_distances, matern52), WRONG), "only atoms of one element"),
        (Kernel(lopsided, matern52, SWAP), "changes if the group acts on both systems"),
    ],
    ids=["kernel", "scaled", "sum", "group", "lopsided"],
)
def test_groups_that_do_not_suit_the_molecule_are_refused(kernel, message):
    hyper = dict.fromkeys(kernel.hyper_names, 1.0)
    with pytest.raises(ValueError, match=message):
        gdml.potential(kernel).init(jax.random.key(0), water(3), hyper=hyper)
