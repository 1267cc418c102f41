"""The two layers on mean forces that are known in closed form."""

import jax.numpy as jnp
import numpy as np
import pytest

from coarse.noisy import NOISE, dimers, double_well, spring
from jaxff.coarse import cells, draw_batches, noise_ratio, sizes
from jaxff.coarse.ensemble import Layer, bag, fit_two_layers, predict_forces
from jaxff.coarse.priors import harmonic_bonds
from jaxff.descriptors import inverse_distances
from jaxff.kernels import Kernel, matern52
from jaxff.linalg import solvers
from jaxff.numerics import select
from jaxff.potential import bind

KERNEL = Kernel(inverse_distances, matern52)
BATCH = 100  # of all tests: they share programs
FIRST, SECOND = 0.003, 1e-4  # regularizations: the noise of all frames, and of averages


def layer(lengthscale, regularization, **more):
    return Layer(KERNEL, {"lengthscale": lengthscale}, regularization, **more)


@pytest.fixture(scope="module")
def trajectory():
    systems, forces, mean, distance = dimers(double_well, 8000, np.random.default_rng(0))
    return systems, forces, mean, cells(distance[:, None], 300, [(1.0, 2.0)])


@pytest.fixture(scope="module")
def queries():
    systems, _, mean, _ = dimers(double_well, 60, np.random.default_rng(1))
    return systems, mean


def squared(found, mean):
    return float(np.mean((found - mean) ** 2))


@pytest.fixture(scope="module")
def averages(trajectory, queries):
    """Sixteen ensembles of three models, of batches of their own."""
    systems, forces, _, occupied = trajectory
    batches = draw_batches(occupied, BATCH, 48, np.random.default_rng(2)).reshape(16, 3, BATCH)
    own = layer(0.3, FIRST)
    return batches, [bag(own, systems, forces, part, queries[0]) for part in batches]


def test_the_error_falls_with_the_number_of_batches_to_the_bias(averages, queries):
    _, found = averages
    variance = np.mean([own.variance for own in found])
    means = np.stack([own.mean for own in found])
    errors = np.array(
        [np.mean((means.reshape(16 // n, n, -1, 2, 3).mean(axis=1) - queries[1]) ** 2)
         for n in (1, 4, 16)]
    )  # fmt: skip
    # What more batches take away, in the mean over sixteen ensembles and over four.
    np.testing.assert_allclose(errors[0] - errors[1], variance * (1 / 3 - 1 / 12), rtol=0.25)
    np.testing.assert_allclose(errors[1] - errors[2], variance * (1 / 12 - 1 / 48), rtol=0.5)
    bias = errors[2] - variance / 48  # what they do not
    assert 0 < bias < 0.25 * errors[0]
    assert np.mean([own.standard_error**2 for own in found]) == pytest.approx(variance / 3)
    # Of odd ensembles the contrast lacks a ninth of its variance.
    contrast = np.mean([own.contrast**2 for own in found])
    assert contrast == pytest.approx(variance / 3 * 8 / 9, rel=0.25)


def test_iterated_models_are_dense_ones_within_the_error_of_the_ensemble(
    averages, trajectory, queries
):
    systems, forces, _, _ = trajectory
    batches, found = averages
    own = layer(0.3, FIRST, solver=solvers.cholesky())
    dense = bag(own, systems, forces, batches[1], queries[0])
    assert np.max(np.abs(dense.mean - found[1].mean)) < 0.02 * np.median(found[1].standard_error)
    assert dense.iterations.tolist() == [0] * 3
    assert 0 < found[1].iterations.max() < 60


@pytest.mark.parametrize("slope", [spring, double_well])
def test_two_layers_recover_the_mean_force_with_more_frames(slope):
    """Sixteen times the frames, each in two batches in the mean: a sixteenth of the error."""
    reference, _, exact, _ = dimers(slope, 60, np.random.default_rng(3))
    errors = []
    for count, batches in ((200, 4), (3200, 64)):
        systems, forces, _, distance = dimers(slope, count, np.random.default_rng(4))
        occupied = cells(distance[:, None], 300, [(1.0, 2.0)])
        made = fit_two_layers(
            systems, forces, occupied, layer(0.3, FIRST), layer(0.3, SECOND),
            sizes=sizes(count, batch=BATCH, batches=batches, second=60), seed=5,
        )  # fmt: skip
        assert len(np.unique(made.frames)) == 60
        errors.append(squared(predict_forces(made.model, reference), exact))
    assert errors[0] > 5 * errors[1]
    assert errors[1] < 0.004 * NOISE**2


def test_a_prior_is_part_of_the_model(trajectory):
    systems, forces, _, occupied = trajectory
    values = {"length": jnp.array([1.4]), "stiffness": jnp.array([5.0])}
    prior = bind(harmonic_bonds([(0, 1)]), values)
    plan = sizes(400, batch=BATCH, batches=2, second=60)
    some = np.arange(400)
    pick = select(systems, some)
    made = fit_two_layers(
        pick, forces[some], occupied[some], layer(0.3, FIRST), layer(0.3, SECOND),
        sizes=plan, seed=0, prior=prior,
    )  # fmt: skip
    # The fit sees what the prior leaves: with it, the second layer has the averages of both.
    whole = predict_forces(made.model, pick)[made.frames]
    own = predict_forces(prior, pick)[made.frames] + made.bagged.mean
    assert np.abs(whole - own).max() < 0.05 * np.abs(own).max()


def test_batches_of_one_size(trajectory, queries, compilations):
    systems, forces, _, occupied = trajectory
    with pytest.raises(ValueError, match="one size"):
        bag(
            layer(0.3, FIRST), systems, forces, [np.arange(BATCH), np.arange(BATCH + 1)], queries[0]
        )
    with pytest.raises(ValueError, match="none"):
        bag(layer(0.3, FIRST), systems, forces, [], queries[0])
    compilations.clear()
    more = draw_batches(occupied, BATCH, 3, np.random.default_rng(7))
    single = bag(layer(0.31, 2 * FIRST), systems, forces, more[:1], queries[0])
    assert np.isnan(single.variance).all()
    bag(layer(0.31, 2 * FIRST), systems, forces, more, queries[0])
    assert compilations == []
    assert noise_ratio(forces, NOISE, BATCH / len(forces)) > 0
