import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernel_models import SWAP, log_distances, powers, water

from jaxff.descriptors import inverse_distances
from jaxff.kernels import Kernel, matern52, rbf
from jaxff.system import System

HYPER = {"lengthscale": jnp.asarray(1.0)}


def single() -> System:
    return jax.tree.map(lambda leaf: leaf[0], water(1))


def test_declared_and_undeclared_permutations_give_the_same_features():
    declared = Kernel(inverse_distances, matern52, SWAP)
    undeclared = Kernel(lambda system, neighbors=None: inverse_distances(system), matern52, SWAP)
    assert undeclared.feature_permutations is None
    found = declared.permuted_features(HYPER, single())
    assert found.shape == (2, 3)
    assert np.array_equal(found, undeclared.permuted_features(HYPER, single()))
    swapped = single().replace(positions=single().positions[SWAP[1]])
    assert np.array_equal(found[1], inverse_distances(swapped))


def test_without_permutations_there_is_one_row():
    kernel = Kernel(inverse_distances, rbf)
    assert kernel.order == 1
    assert kernel.feature_permutations is None
    assert kernel.permuted_features(HYPER, single()).shape == (1, 3)


def test_features_are_flattened():
    kernel = Kernel(lambda system, neighbors=None: system.positions @ system.positions.T, rbf)
    assert kernel.features(HYPER, single()).shape == (9,)


def test_hyperparameters_reach_the_descriptor_by_name():
    kernel = Kernel(powers, rbf)
    assert kernel.hyper_names == ("lengthscale", "exponent")
    found = kernel.features({**HYPER, "exponent": jnp.asarray(2.0)}, single())
    assert np.allclose(found, inverse_distances(single()) ** 2)


def test_the_first_argument_of_a_descriptor_may_have_any_name():
    def squares(atoms, neighbors=None, *, factor):
        return factor * jnp.sum(atoms.positions**2, axis=-1)

    kernel = Kernel(squares, rbf)
    assert kernel.hyper_names == ("lengthscale", "factor")
    kernel.check_hyper({"lengthscale": 1.0, "factor": 2.0})


@pytest.mark.parametrize(
    ("hyper", "message"),
    [
        ({}, r"missing \['exponent', 'lengthscale'\]"),
        ({"lengthscale": 1.0}, r"missing \['exponent'\]"),
        ({"lengthscale": 1.0, "exponent": 2.0, "sigma": 1.0}, r"unknown \['sigma'\]"),
    ],
)
def test_missing_and_unknown_hyperparameters_are_named(hyper, message):
    with pytest.raises(ValueError, match=message):
        Kernel(powers, rbf).check_hyper(hyper)


def test_hyperparameters_with_a_default_may_be_left_out():
    def descriptor(system, neighbors=None, scale=2.0):
        return scale * inverse_distances(system)

    Kernel(descriptor, rbf).check_hyper({"lengthscale": 1.0})
    Kernel(descriptor, rbf).check_hyper({"lengthscale": 1.0, "scale": 3.0})


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf, [1.0, 2.0], "long"])
def test_lengthscale_must_be_a_positive_number(value):
    with pytest.raises(ValueError, match="lengthscale must be one positive number"):
        Kernel(log_distances, rbf).check_hyper({"lengthscale": value})


@pytest.mark.parametrize(
    ("permutations", "message"),
    [
        ([[0, 1, 2], [1, 2, 0]], "not closed"),
        ([[0, 2, 1]], "not closed"),
        ([[0, 1, 2], [0, 1, 2]], "twice"),
        ([[0, 1, 1]], "no permutation"),
    ],
)
def test_permutations_must_form_a_group(permutations, message):
    with pytest.raises(ValueError, match=message):
        Kernel(inverse_distances, matern52, np.array(permutations))


def test_permutations_of_other_atoms_are_refused():
    kernel = Kernel(inverse_distances, matern52, np.array([[0, 1], [1, 0]]))
    with pytest.raises(ValueError, match="act on 2 atoms, the system has 3"):
        kernel.permuted_features(HYPER, single())
