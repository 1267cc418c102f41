import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxff.kernels import matern52, rbf
from jaxff.kernels.observations import (
    combination,
    compose,
    directional,
    divergence,
    gradient,
    hessian,
    identity,
    laplacian,
)
from jaxff.linalg import preconditioners, solvers
from jaxff.regression import RegressionOperator, fit, radial

KERNEL = radial(rbf, 1.0)
TWO = np.array([[0.2, 0.8], [0.8, 0.2]])
ALL = (identity, gradient, hessian)


def rosenbrock(point):
    x, y = point
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def observed(operators, function=rosenbrock, points=TWO):
    return [(op, points, jax.vmap(op(function))(jnp.asarray(points))) for op in operators]


@pytest.mark.parametrize(("count", "expected"), [(1, 25.315658), (2, 9.429568), (3, 2.685770)])
def test_two_points_of_rosenbrock_give_the_published_errors(count, expected):
    """Schmitz et al. (2022): values, gradients, Hessians at two points; error on a grid."""
    fitted = fit(observed(ALL[:count]), KERNEL, regularization=1e-10)
    axis = np.linspace(0.0, 1.0, 100)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    error = np.abs(fitted.predict(identity, grid) - jax.vmap(rosenbrock)(grid))
    assert round(float(np.mean(error)), 6) == expected


def test_any_operator_of_the_solution_is_the_derivative_of_its_values():
    fitted = fit(observed(ALL[:2]), KERNEL)
    point = jnp.asarray([0.37, -0.21])
    slope = fitted.predict(gradient, point[None])[0]
    step, evaluate = 1e-4, jax.jit(fitted.__call__)
    numeric = [
        (evaluate(point + step * e) - evaluate(point - step * e)) / (2 * step) for e in np.eye(2)
    ]
    assert np.allclose(slope, numeric, rtol=1e-6)


def polynomial(p):
    return p[0] ** 3 * p[1] - 2.0 * p[0] * p[1] ** 2 + 0.5 * p[1]


def test_operators_are_the_derivatives_of_a_polynomial():
    p = jnp.asarray([0.7, -1.2])
    x, y = 0.7, -1.2
    first = np.array([3 * x**2 * y - 2 * y**2, x**3 - 4 * x * y + 0.5])
    second = np.array([[6 * x * y, 3 * x**2 - 4 * y], [3 * x**2 - 4 * y, -4 * x]])
    value, along = x**3 * y - 2 * x * y**2 + 0.5 * y, np.array([0.3, 2.0])
    expected = {
        identity: value,
        gradient: first,
        hessian: second,
        laplacian: np.trace(second),
        compose(divergence, gradient): np.trace(second),
        directional(along): along @ first,
        directional(lambda q: q): p @ first,
        compose(directional([1, 0]), directional([0, 1])): second[0, 1],
        combination((2.0, identity), (-0.5, laplacian)): 2 * value - 0.5 * np.trace(second),
    }
    found = jax.jit(lambda q: [operator(polynomial)(q) for operator in expected])(p)
    for one, other in zip(found, expected.values(), strict=True):
        assert np.allclose(one, other, rtol=1e-12)


def test_the_divergence_of_a_scalar_is_refused():
    with pytest.raises(ValueError, match="a divergence needs a field of 2 components"):
        divergence(polynomial)(jnp.ones(2))


def difference(function):
    """An operator of the user's: not a derivative at all."""
    return lambda p: function(p) - 2.0 * function(p[::-1])


OPERATOR = RegressionOperator(
    radial(matern52, 0.8),
    (gradient, difference),
    (jnp.zeros((2, 2)), jnp.zeros((2, 2))),
)


@settings(max_examples=10)
@given(st.integers(0, 10_000))
def test_matrices_are_symmetric_positive_semidefinite_and_match_products(seed):
    rng = np.random.default_rng(seed)
    points = jnp.asarray(rng.normal(size=(2, 2)))
    operator = RegressionOperator(OPERATOR.kernel, OPERATOR.operators, (points,) * 2)
    matrix = operator.dense()
    assert operator.size == 4 + 2
    assert np.array_equal(matrix, matrix.T)
    eigenvalues = np.linalg.eigvalsh(matrix)
    assert eigenvalues[0] >= -1e-13 * eigenvalues[-1]
    vector = rng.normal(size=6)
    expected = matrix @ vector
    assert np.allclose(operator.matvec(vector), expected, atol=1e-12 * np.abs(expected).max())
    assert np.array_equal(operator.columns(np.array([5, 1])), matrix[:, [5, 1]])
    assert np.array_equal(operator.diagonal(), np.diag(matrix))


def test_both_solvers_agree_and_noise_is_a_variance():
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, size=(12, 2))
    given = [(*o, 0.3) for o in observed((identity, gradient), polynomial, points)]
    direct = fit(given, KERNEL, regularization=0.0)
    loose = solvers.conjugate_gradient(preconditioner=preconditioners.nystroem(rank=6), rtol=1e-10)
    iterative = fit(given, KERNEL, regularization=0.0, solver=loose)
    for one, other in zip(direct.coefficients, iterative.coefficients, strict=True):
        assert np.allclose(one, other, rtol=0, atol=1e-7 * float(jnp.abs(one).max()))
    predicted = direct.predict(identity, points)
    expected = given[0][2] - 0.09 * direct.coefficients[0]
    assert np.allclose(predicted, expected, atol=1e-9)


@pytest.mark.parametrize(
    ("observations", "message"),
    [
        ([], "at least one observation"),
        ([(identity, TWO[0], 1.0)], r"shape \(count, dim\), got \(2,\)"),
        ([(gradient, TWO, np.ones(2))], r"observation 0 must have shape \(2, 2\)"),
        ([(identity, TWO, np.array([1.0, np.nan]))], "values of observation 0 are not finite"),
        ([(identity, TWO, 1.0, -1.0)], "noise of observation 0"),
    ],
)
def test_unusable_observations_are_refused(observations, message):
    with pytest.raises(ValueError, match=message):
        fit(observations, KERNEL)


def test_unusable_numbers_are_refused():
    with pytest.raises(ValueError, match="regularization must be finite"):
        fit(observed((identity,)), KERNEL, regularization=-1.0)
    with pytest.raises(ValueError, match="length scale must be a positive number"):
        radial(rbf, 0.0)
    lazy = solvers.conjugate_gradient(
        preconditioner=preconditioners.nystroem("uniform", rank=1), rtol=1e-14, max_iterations=1
    )
    given = observed(ALL)
    with pytest.raises(RuntimeError, match="allow more"):
        fit(given, KERNEL, regularization=1e-13, solver=lazy)
