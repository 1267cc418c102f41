import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from kernel_models import SWAP, morse_labels, powers, water
from scipy.linalg import null_space
from scipy.stats import multivariate_normal

from jaxff import gdml
from jaxff.derivatives import forces
from jaxff.descriptors import inverse_distances
from jaxff.gdml.generic import GenericOperator
from jaxff.gdml.hyper import descend, log_likelihood, problem, validation_error
from jaxff.gdml.inference import posterior
from jaxff.kernels import Kernel, matern32, matern52
from jaxff.linalg import solvers
from jaxff.potential import bind
from jaxff.system import System

KERNEL = Kernel(inverse_distances, matern52, SWAP)
POTENTIAL = gdml.potential(KERNEL)
SYSTEMS, QUERIES = water(3), water(2, seed=7)
ENERGIES, FORCES = morse_labels(SYSTEMS)
NOISE = {"energy": 0.05, "forces": 0.1}
NAMES = ("energy", "forces")


def joined(first: System, second: System) -> System:
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second)


@pytest.fixture(scope="module")
def fitted():
    params = POTENTIAL.init(jax.random.key(0), SYSTEMS, hyper={"lengthscale": 0.8})
    labels = {"forces": FORCES, "energy": ENERGIES}
    return gdml.fit(
        POTENTIAL, params, labels, solver=solvers.cholesky(), regularization=1e-6, noise=NOISE
    )


@pytest.fixture(scope="module")
def exact(fitted):
    return posterior(POTENTIAL, *fitted, amplitude=1.0)


def conditioned(info) -> dict:
    """Variances by the Schur complement of the matrix of labels and queries together."""
    hyper = {"lengthscale": jnp.asarray(0.8)}
    both = GenericOperator(KERNEL, hyper, joined(SYSTEMS, QUERIES), ("forces", "energy"))
    matrix = both.dense()
    known, asked = both.places[:3], both.places[3:]
    known = np.concatenate([known[:, :9].ravel(), known[:, 9]])
    noise = 1e-6 + np.repeat([(0.1 / info.scale) ** 2, (0.05 / info.scale) ** 2], [27, 3])
    covariance = matrix[np.ix_(known, known)] + np.diag(noise)
    cross = matrix[np.ix_(known, asked.ravel())]
    reduced = matrix[np.ix_(asked.ravel(), asked.ravel())]
    reduced = reduced - cross.T @ np.linalg.solve(covariance, cross)
    variance = info.scale**2 * np.diag(reduced).reshape(2, 10)
    return {"forces": variance[:, :9].reshape(2, 3, 3), "energy": variance[:, 9]}


def test_variances_are_those_of_the_conditioned_gaussian(fitted, exact):
    expected = conditioned(fitted[1])
    found = exact.variance(QUERIES)
    for name in NAMES:
        assert np.allclose(found[name], expected[name], rtol=1e-8), name


def test_what_is_known_has_the_variance_of_its_noise_at_most(fitted, exact):
    known, unknown = exact.variance(SYSTEMS), exact.variance(QUERIES)
    level = 1e-6 * fitted[1].scale ** 2
    assert np.all(known["forces"] <= 0.1**2 + level)
    assert np.all(known["energy"] <= 0.05**2 + level)
    assert np.all(known["energy"] > 0)
    assert np.mean(unknown["forces"]) > np.mean(known["forces"])


def test_bounds_lie_between_the_exact_variance_and_the_prior(exact):
    found = exact.variance(QUERIES, ("energy", "forces"))
    system = jax.tree.map(lambda leaf: leaf[0], QUERIES)
    evaluate = jax.jit(lambda bound, s: bound(s))
    previous = None
    for count in (1, 10, 30):
        bound = evaluate(exact.bound(count, NAMES), system)
        for name in NAMES:
            assert np.all(bound[name] >= found[name][0] - 1e-9), (count, name)
            if previous is not None:
                assert np.all(bound[name] <= previous[name] + 1e-9)
        previous = bound
    for name in NAMES:
        assert np.allclose(previous[name], found[name][0], atol=1e-8)  # all labels: no gap


def test_the_most_likely_amplitude_is_the_mean_square_of_white_labels(fitted):
    """Of those without net forces and torques, which are zero whatever the amplitude."""
    params, info = fitted
    found = posterior(POTENTIAL, params, info)
    labels = np.concatenate([FORCES.ravel(), ENERGIES - ENERGIES.mean()]) / info.scale
    matrix = found.operator.dense() + np.diag(found.diagonal)
    basis = null_space(rigid_motions().T)
    labels, matrix = basis.T @ labels, basis.T @ matrix @ basis
    expected = labels @ np.linalg.solve(matrix, labels) / len(labels)
    assert np.isclose(found.level, expected * info.scale**2, rtol=1e-8)


def test_unusable_questions_are_refused(fitted, exact):
    with pytest.raises(ValueError, match="variances are offered of"):
        exact.variance(QUERIES, ("hessian",))
    with pytest.raises(ValueError, match="count must be from 1 to the 30 labels, got 31"):
        exact.bound(31)
    with pytest.raises(ValueError, match="amplitude must be a positive number"):
        posterior(POTENTIAL, *fitted, amplitude=0.0)
    with pytest.raises(ValueError, match="the same call of fit"):
        posterior(POTENTIAL, fitted[0], fitted[1]._replace(size=7))


FREE = {
    "hyper": {"lengthscale": jnp.asarray(0.8)},
    "regularization": jnp.asarray(1e-3),
    "noise": {"energy": jnp.asarray(0.05)},
}


def rigid_motions():
    """Forces along which no molecule as a whole can be pushed or turned, as label vectors."""
    columns = []
    for reference, positions in enumerate(np.asarray(SYSTEMS.positions)):
        for axis in np.eye(3):
            for motion in (np.broadcast_to(axis, positions.shape), np.cross(axis, positions)):
                column = np.zeros(30)
                column[9 * reference : 9 * reference + 9] = np.ravel(motion)
                columns.append(column)
    return np.stack(columns, axis=1)


@pytest.fixture(scope="module")
def of(fitted):
    return problem(POTENTIAL, fitted[0], {"forces": FORCES, "energy": ENERGIES})


@pytest.fixture(scope="module")
def likelihood(of):
    return jax.jit(lambda free: log_likelihood(of, free, 1.7))


def test_the_likelihood_is_that_of_a_normal_distribution(of, likelihood):
    operator = GenericOperator(KERNEL, FREE["hyper"], SYSTEMS, ("forces", "energy"))
    noise = 1e-3 + np.repeat([0.0, (0.05 / of.scale) ** 2], [27, 3])
    covariance = 1.7 * (operator.dense() + np.diag(noise))
    labels = operator.ravel(of.labels) / of.scale
    # without net forces and torques, whatever the basis of the rest
    basis = null_space(rigid_motions().T)
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
        descend(bad, FREE["hyper"], steps=1, optimizer=optax.adam(0.1), regularization=0.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"noise": {"force": 0.1}}, "noise must name fitted labels"),
        ({"fixed": ("lengthscal",)}, "fixed must name hyperparameters"),
        ({"hyper": {"lengthscal": 1.0}}, r"missing \['lengthscale'\]"),
        ({"hyper": {"lengthscale": -1.0}}, "must be one positive number"),
    ],
    ids=["noise", "fixed", "hyper", "negative"],
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


def test_the_posterior_knows_the_noise_of_the_fit(fitted):
    """Without it, forces would look exactly known where they were fitted."""
    variance = posterior(POTENTIAL, *fitted, amplitude=1.0).variance(SYSTEMS, ("forces",))
    assert np.sqrt(variance["forces"].max()) > 0.1 * NOISE["forces"]
    assert fitted[1].noise == NOISE
