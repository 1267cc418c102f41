import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernel_models import SWAP, morse_labels, rigid_motions, water
from scipy.linalg import null_space

from jaxff import gdml
from jaxff.descriptors import inverse_distances
from jaxff.gdml.generic import GenericOperator
from jaxff.gdml.inference import posterior
from jaxff.kernels import Kernel, matern52
from jaxff.linalg import solvers
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


def test_bounds_use_the_labels_that_leave_the_least_unknown(exact):
    """The greedy choice, made here by the variances that are left after each."""
    matrix, chosen = exact.factor @ exact.factor.T, []
    left = matrix.copy()
    for _ in range(5):
        chosen.append(int(np.argmax(np.diag(left))))
        left = left - np.outer(left[:, chosen[-1]], left[chosen[-1]]) / left[chosen[-1], chosen[-1]]
    assert sorted(chosen) != [0, 1, 2, 3, 4]
    expected = matrix[np.ix_(sorted(chosen), sorted(chosen))]
    factor = np.asarray(exact.bound(5).factor)
    assert np.allclose(factor @ factor.T, expected, rtol=1e-10)


def test_the_most_likely_amplitude_is_the_mean_square_of_white_labels(fitted):
    """Of those without net forces and torques, which are zero whatever the amplitude."""
    params, info = fitted
    found = posterior(POTENTIAL, params, info)
    labels = np.concatenate([FORCES.ravel(), ENERGIES - ENERGIES.mean()]) / info.scale
    matrix = found.operator.dense() + np.diag(found.diagonal)
    basis = null_space(rigid_motions(SYSTEMS).T)
    labels, matrix = basis.T @ labels, basis.T @ matrix @ basis
    expected = labels @ np.linalg.solve(matrix, labels) / len(labels)
    assert np.isclose(found.level, expected * info.scale**2, rtol=1e-8)


def test_other_atoms_have_no_variance(exact):
    """The kernel would compare features in another order, and nobody would know."""
    order = np.array([1, 0, 2])
    other = System(QUERIES.positions[:, order], QUERIES.numbers[:, order])
    with pytest.raises(ValueError, match=r"made for atoms \[8, 1, 1\] in this order"):
        exact.variance(other)
    single = jax.tree.map(lambda leaf: leaf[0], other)
    bound = exact.bound(2, "forces")
    with pytest.raises(ValueError, match="in this order, got"):
        bound(single)
    assert np.isnan(jax.jit(lambda b, s: b(s))(bound, single)["forces"]).all()
    with pytest.raises(ValueError, match=r"stack of systems .* shape \(3, 3\)"):
        exact.variance(single)


def test_unusable_questions_are_refused(fitted, exact):
    with pytest.raises(ValueError, match="variances are offered of"):
        exact.variance(QUERIES, ("hessian",))
    with pytest.raises(ValueError, match="count must be from 1 to the 30 labels, got 31"):
        exact.bound(31)
    with pytest.raises(ValueError, match="amplitude must be a positive number"):
        posterior(POTENTIAL, *fitted, amplitude=0.0)
    with pytest.raises(ValueError, match="the same call of fit"):
        posterior(POTENTIAL, fitted[0], fitted[1]._replace(size=7))


def test_the_posterior_knows_the_noise_of_the_fit(fitted):
    """Without it, forces would look exactly known where they were fitted."""
    variance = posterior(POTENTIAL, *fitted, amplitude=1.0).variance(SYSTEMS, ("forces",))
    assert np.sqrt(variance["forces"].max()) > 0.1 * NOISE["forces"]
    assert fitted[1].noise == NOISE
