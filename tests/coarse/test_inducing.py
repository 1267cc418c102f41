"""Models of inducing frames: normal equations against dense matrices, noise, folds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coarse.noisy import NOISE, dimers, double_well
from jaxff import bind, gdml
from jaxff.coarse import block_folds, cells, noise_ratio
from jaxff.coarse.ensemble import predict_forces
from jaxff.coarse.inducing import fit_inducing, normal_equations, solve
from jaxff.coarse.priors import harmonic_bonds
from jaxff.descriptors import chiral_distances, inverse_distances
from jaxff.gdml.operator import GdmlOperator
from jaxff.kernels import Kernel, matern52, rbf
from jaxff.linalg import solvers
from jaxff.numerics import select
from jaxff.system import System

KERNEL = Kernel(inverse_distances, matern52)
HYPER = {"lengthscale": 0.3}


@pytest.fixture(scope="module")
def trajectory():
    systems, forces, mean, distance = dimers(double_well, 3000, np.random.default_rng(0))
    return systems, forces, mean, cells(distance[:, None], 300, [(1.0, 2.0)])


def chains(count):
    """Four beads in chains that are turned about."""
    rng = np.random.default_rng(3)
    steps = rng.normal(size=(count, 4, 3)) + np.array([1.5, 0.0, 0.0])
    return System(np.cumsum(steps, axis=1), [6, 7, 6, 7]), rng.normal(size=(count, 4, 3))


@pytest.mark.parametrize(
    ("kernel", "hyper"),
    [
        (Kernel(inverse_distances, matern52, np.array([[0, 1, 2, 3], [3, 2, 1, 0]])),
         {"lengthscale": 1.0}),
        (Kernel(chiral_distances([(0, 1, 2, 3)]), rbf), {"lengthscale": 2.0}),
    ],
)  # fmt: skip
def test_normal_equations_are_those_of_the_matrix(kernel, hyper):
    systems, forces = chains(80)
    if kernel.permutations is not None:
        systems = System(systems.positions, [6, 7, 7, 6])
    potential = gdml.potential(kernel)
    some = np.arange(5, 15)
    params = potential.init(jax.random.key(0), select(systems, some), hyper=hyper)
    parts = [(select(systems, own), forces[own]) for own in (np.arange(70), np.arange(70, 80))]
    found = normal_equations(potential, params, parts)
    dense = GdmlOperator(kernel, params["hyper"], systems).dense()
    columns = dense[:, np.ravel(some[:, None] * 12 + np.arange(12))]
    labels = forces.ravel()
    gram = np.tril(found.gram)
    np.testing.assert_allclose(gram, np.tril(columns.T @ columns), atol=1e-10 * gram.max())
    np.testing.assert_allclose(found.projection, columns.T @ labels, rtol=1e-8, atol=1e-8)
    assert found.count == 960
    # Coefficients are the model's: its error follows from the sums alone.
    model = bind(potential, solve(potential, params, found, 0.5))
    left = predict_forces(model, systems) - forces
    coefficients = np.ravel(model.params["coefficients"]["forces"])
    np.testing.assert_allclose(found.error(coefficients), np.mean(left**2), rtol=1e-8)
    first, second = (normal_equations(potential, params, [part]) for part in parts)
    np.testing.assert_allclose((found - second).projection, first.projection, atol=1e-8)
    assert (first + second).count == found.count


def test_with_all_frames_inducing_it_is_the_usual_fit(trajectory):
    systems, forces, _, _ = trajectory
    some = np.arange(40)
    few, labels = select(systems, some), forces[some]
    potential = gdml.potential(KERNEL)
    params = potential.init(jax.random.key(0), few, hyper=HYPER)
    normal = normal_equations(potential, params, [(few, labels)])
    ours = predict_forces(bind(potential, solve(potential, params, normal, 0.2)), few)
    fitted, _ = gdml.fit(
        potential, params, {"forces": labels},
        solver=solvers.cholesky(), regularization=0.2, relative=True,
    )  # fmt: skip
    np.testing.assert_allclose(ours, predict_forces(bind(potential, fitted), few), atol=1e-6)


def test_noise_averages_out_and_folds_find_the_regularization(trajectory):
    systems, forces, _, occupied = trajectory
    reference, _, exact, _ = dimers(double_well, 60, np.random.default_rng(1))
    ratio = noise_ratio(forces, NOISE)
    values = jnp.array([1.5]), jnp.array([4.0])
    prior = bind(harmonic_bonds([(0, 1)]), dict(zip(("length", "stiffness"), values, strict=True)))
    found = fit_inducing(
        systems, forces, occupied, KERNEL, HYPER, inducing=30,
        regularization=[1e-4 * ratio, ratio, 1e5 * ratio], seed=0,
        folds=block_folds(3000, 3), prior=prior, chunk=500,
    )  # fmt: skip
    assert found.errors.shape == (3, 3)
    assert found.regularization < 1e4 * ratio
    np.testing.assert_allclose(found.errors.min(axis=0), NOISE**2, rtol=0.05)
    error = np.mean((predict_forces(found.model, reference) - exact) ** 2)
    # Some twenty coefficients of 9000 numbers along the bonds' direction, and what bias there is.
    assert error < 0.01 * NOISE**2
    few = np.arange(150)
    fewer = fit_inducing(
        select(systems, few), forces[few], occupied[few], KERNEL, HYPER, inducing=30,
        regularization=ratio, seed=0, prior=prior,
    )  # fmt: skip
    worse = np.mean((predict_forces(fewer.model, reference) - exact) ** 2)
    assert worse > 4 * error


def test_what_cannot_be_streamed_is_refused(trajectory):
    systems, forces, _, occupied = trajectory
    potential = gdml.potential(KERNEL)
    params = potential.init(jax.random.key(0), select(systems, np.arange(30)), hyper=HYPER)
    with pytest.raises(ValueError, match="got none"):
        normal_equations(potential, params, [])
    with pytest.raises(ValueError, match="of shape"):
        normal_equations(potential, params, [(systems, forces[:5])])
    with pytest.raises(TypeError, match="no sum"):
        normal_equations(gdml.potential(KERNEL + KERNEL), params, [])
    with pytest.raises(ValueError, match="positive"):
        solve(potential, params, normal_equations(
            potential, params, [(select(systems, np.arange(30)), forces[:30])]), 0.0)  # fmt: skip
    for folds, regularization, message in (
        ((), [0.1, 1.0], "give folds"), (block_folds(10, 2), 0.1, "each of 3000"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            fit_inducing(
                systems, forces, occupied, KERNEL, HYPER, inducing=30,
                regularization=regularization, seed=0, folds=folds,
            )  # fmt: skip
