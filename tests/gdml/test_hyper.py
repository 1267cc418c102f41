"""Hyperparameters by gradients through the solve."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from kernel_models import SWAP, morse_labels, powers, rigid_motions, water
from scipy.linalg import null_space
from scipy.stats import multivariate_normal

from jaxff import gdml
from jaxff.derivatives import forces
from jaxff.descriptors import inverse_distances
from jaxff.gdml.generic import GenericOperator
from jaxff.gdml.hyper import _minimize, descend, log_likelihood, problem, validation_error
from jaxff.kernels import Kernel, matern32, matern52
from jaxff.linalg import solvers
from jaxff.potential import bind

KERNEL = Kernel(inverse_distances, matern52, SWAP)
POTENTIAL = gdml.potential(KERNEL)
SYSTEMS, QUERIES = water(3), water(2, seed=7)
ENERGIES, FORCES = morse_labels(SYSTEMS)

FREE = {
    "hyper": {"lengthscale": jnp.asarray(0.8)},
    "regularization": jnp.asarray(1e-3),
    "noise": {"energy": jnp.asarray(0.05)},
}


@pytest.fixture(scope="module")
def of():
    params = POTENTIAL.init(jax.random.key(0), SYSTEMS, hyper={"lengthscale": 0.8})
    return problem(POTENTIAL, params, {"forces": FORCES, "energy": ENERGIES})


@pytest.fixture(scope="module")
def likelihood(of):
    return jax.jit(lambda free: log_likelihood(of, free, 1.7))


def test_the_likelihood_is_that_of_a_normal_distribution(of, likelihood):
    operator = GenericOperator(KERNEL, FREE["hyper"], SYSTEMS, ("forces", "energy"))
    noise = 1e-3 + np.repeat([0.0, (0.05 / of.scale) ** 2], [27, 3])
    covariance = 1.7 * (operator.dense() + np.diag(noise))
    labels = operator.ravel(of.labels) / of.scale
    # without net forces and torques, whatever the basis of the rest
    basis = null_space(rigid_motions(SYSTEMS).T)
    assert basis.shape == (30, 12)
    expected = multivariate_normal(np.zeros(12), basis.T @ covariance @ basis).logpdf(
        basis.T @ labels
    )
    assert np.isclose(likelihood(FREE), expected, rtol=1e-10)


def test_its_gradient_is_that_of_finite_differences(of, likelihood):
    gradient = jax.jit(jax.grad(lambda free: log_likelihood(of, free, 1.7)))(FREE)
    leaves, tree = jax.tree.flatten(FREE)
    for index, (value, found) in enumerate(zip(leaves, jax.tree.leaves(gradient), strict=True)):
        step = 1e-5 * value
        ends = []
        for sign in (1, -1):
            moved = [v + sign * step if i == index else v for i, v in enumerate(leaves)]
            ends.append(likelihood(jax.tree.unflatten(tree, moved)))
        assert np.isclose(found, (ends[0] - ends[1]) / (2 * step), rtol=1e-5), index


def test_the_validation_error_is_that_of_the_fit(of):
    expected = morse_labels(QUERIES)[1]
    found = jax.jit(lambda free: validation_error(of, free, QUERIES, expected))(FREE)
    params = POTENTIAL.init(jax.random.key(0), SYSTEMS, hyper={"lengthscale": 0.8})
    params, _ = gdml.fit(
        POTENTIAL, params, {"forces": FORCES, "energy": ENERGIES}, solver=solvers.cholesky(),
        regularization=1e-3, noise={"energy": 0.05},
    )  # fmt: skip
    predicted = jax.jit(lambda e, s: forces(e)(s))(bind(POTENTIAL, params), QUERIES)
    assert np.isclose(found, np.sqrt(np.mean((predicted - expected) ** 2)), rtol=1e-8)


def test_descent_improves_likelihood_and_validation():
    """The exponent of a descriptor, the length scale and the noise, all at once."""
    potential = gdml.potential(Kernel(powers, matern52))
    hyper = {"lengthscale": 0.3, "exponent": 1.0}
    params = potential.init(jax.random.key(0), SYSTEMS, hyper=hyper)
    of = problem(potential, params, {"forces": FORCES})
    options = {"optimizer": optax.adam(0.1), "steps": 8, "regularization": 1e-4}
    likely = descend(of, hyper, noise={"forces": 0.1}, **options)
    assert likely.history[-1] < likely.history[0]
    assert likely.hyper["exponent"] != 1.0
    assert likely.noise["forces"] > 0
    valid = (QUERIES, morse_labels(QUERIES)[1])
    best = descend(of, hyper, validation=valid, fixed=("regularization",), **options)
    assert min(best.history) < 0.9 * best.history[0]
    assert best.regularization == 1e-4


def test_hopeless_descents_are_refused(of):
    options = {"optimizer": optax.adam(0.1), "regularization": 1e-3}
    with pytest.raises(ValueError, match="at least one step"):
        descend(of, FREE["hyper"], steps=0, **options)
    with pytest.raises(ValueError, match="everything is fixed"):
        descend(of, FREE["hyper"], steps=1, fixed=("lengthscale", "regularization"), **options)
    bad = of._replace(references=jax.tree.map(lambda leaf: leaf[jnp.zeros(3, int)], of.references))
    with pytest.raises(FloatingPointError, match="where the descent starts"):
        descend(
            bad, FREE["hyper"], steps=1, optimizer=optax.adam(0.1), regularization=0.0,
            fixed=("regularization",),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"noise": {"force": 0.1}}, "noise must name fitted labels"),
        ({"fixed": ("lengthscal",)}, "fixed must name hyperparameters"),
        ({"hyper": {"lengthscal": 1.0}}, r"missing \['lengthscale'\]"),
        ({"hyper": {"lengthscale": -1.0}}, "must be one positive number"),
        ({"regularization": 0.0}, "hold it at zero"),
        ({"regularization": -1e-3}, "must be finite and positive"),
        ({"regularization": np.nan}, "must be finite and positive"),
    ],
    ids=["noise", "fixed", "hyper", "negative", "zero", "below", "nan"],
)
def test_descents_refuse_names_and_numbers_that_mean_nothing(of, change, message):
    given = {
        "hyper": {"lengthscale": 1.0}, "optimizer": optax.adam(0.1), "steps": 1,
        "regularization": 1e-6, **change,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        descend(of, **given)


def test_labels_that_need_a_smoother_kernel_have_no_likelihood():
    potential = gdml.potential(Kernel(inverse_distances, matern32))
    params = potential.init(jax.random.key(0), SYSTEMS, hyper={"lengthscale": 1.0})
    with pytest.raises(ValueError, match="need a kernel with 4 derivatives"):
        problem(potential, params, {"hessian": np.zeros((3, 3, 3, 3, 3))})


HESSIANS = np.random.default_rng(2).normal(size=(2, 9, 9))
HESSIANS = (HESSIANS + HESSIANS.swapaxes(1, 2)).reshape(2, 3, 3, 3, 3)


@pytest.mark.parametrize(
    ("base", "labels"),
    [
        pytest.param(matern32, {"forces": FORCES[:2]}, id="matern32"),
        pytest.param(
            matern52,
            {"forces": FORCES[:2], "hessian": HESSIANS},
            id="matern52",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_kernels_that_are_just_smooth_enough_have_gradients_too(base, labels):
    """Of the length scale and of the descriptor, where the diagonal has coincident points."""
    potential = gdml.potential(Kernel(powers, base, SWAP))
    hyper = {"lengthscale": jnp.asarray(0.7), "exponent": jnp.asarray(1.3)}
    params = potential.init(jax.random.key(0), water(2), hyper=hyper)
    of = problem(potential, params, labels)

    def likelihood(hyper):
        return log_likelihood(of, {"hyper": hyper, "regularization": 0.1}, 1.7)

    evaluate, gradient = jax.jit(likelihood), jax.jit(jax.grad(likelihood))(hyper)
    for name, value in hyper.items():
        ends = [evaluate({**hyper, name: value + step}) for step in (1e-5, -1e-5)]
        assert np.isclose(gradient[name], (ends[0] - ends[1]) / 2e-5, rtol=1e-6), name


def test_the_best_step_is_kept_where_later_ones_are_worse():
    """An oversized rate: up and down the walls of a parabola, then beyond its domain."""

    def loss(moving):
        return jnp.where(jnp.abs(moving["x"]) < 30.0, (moving["x"] - 0.2) ** 2, jnp.nan)

    start = {"x": jnp.asarray(1.0)}
    best, history = _minimize(loss, start, optax.sgd(1.2), 12)
    assert history[1] > history[0] == history.min()
    assert len(history) < 13  # it stopped where the loss was no number
    assert best["x"] == 1.0
    best, history = _minimize(loss, start, optax.sgd(0.1), 3)
    assert history[-1] == loss(best) == history.min()
