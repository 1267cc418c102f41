import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxff.kernels import dot_product, matern52, periodic, polynomial, rbf

ONE = jnp.asarray(1.0)
X = jnp.asarray([0.3, -1.0, 0.8])
Y = jnp.asarray([1.1, 0.4, -0.2])


@pytest.mark.parametrize(("degree", "offset"), [(1, 0.0), (2, 1.0), (3, 0.5)])
def test_polynomials_have_their_values_and_derivatives(degree, offset):
    kernel = polynomial(degree, offset)
    scale = jnp.asarray(0.7)
    inner = float(X @ Y) / 0.49
    assert np.isclose(kernel.between(scale, X, Y), (inner + offset) ** degree, rtol=1e-14)
    block = jax.jacfwd(jax.grad(lambda a: kernel.between(scale, a, Y)))(X)
    factor = degree * (degree - 1) * (inner + offset) ** max(degree - 2, 0)
    assert np.allclose(block, factor * np.outer(Y, Y) / 0.49**2, rtol=1e-13)


def test_polynomials_are_differentiable_where_their_base_vanishes():
    """Three derivatives of x² at zero, where the power rule divides zero by zero."""
    kernel = polynomial(2, 0.0)
    function = lambda a: kernel.between(ONE, a, Y)  # noqa: E731
    zero = jnp.zeros(3)
    assert np.array_equal(jax.grad(function)(zero), np.zeros(3))
    assert np.allclose(jax.hessian(function)(zero), 2 * np.outer(Y, Y))
    assert np.array_equal(jax.jacfwd(jax.hessian(function))(zero), np.zeros((3, 3, 3)))


def test_the_linear_kernel_is_the_dot_product():
    assert np.isclose(dot_product.between(jnp.asarray(2.0), X, Y), float(X @ Y) / 4)


def test_the_periodic_kernel_has_its_closed_form_and_its_period():
    kernel = periodic(2.5)
    scale = jnp.asarray(0.8)
    expected = np.exp(-2 * np.sum(np.sin(np.pi * (X - Y) / 2.5) ** 2) / 0.64)
    assert np.isclose(kernel.between(scale, X, Y), expected, rtol=1e-14)
    shifted = X + 2.5 * jnp.asarray([1.0, -2.0, 3.0])
    assert np.isclose(kernel.between(scale, shifted, Y), expected, rtol=1e-12)
    assert kernel == periodic(2.5)
    assert periodic(2.5, matern52).smoothness == matern52.smoothness


def test_unusable_numbers_are_refused():
    with pytest.raises(ValueError, match="degree must be a positive integer, got 0"):
        polynomial(0)
    with pytest.raises(ValueError, match="offset must be a number from zero up, got -1"):
        polynomial(2, -1.0)
    with pytest.raises(ValueError, match="period must be a positive number, got 0"):
        periodic(0.0)


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.sampled_from(["polynomial", "periodic"]))
def test_matrices_of_values_and_gradients_are_symmetric_and_positive_semidefinite(seed, name):
    kernel = {"polynomial": polynomial(3, 0.5), "periodic": periodic(1.3, rbf)}[name]
    points = np.random.default_rng(seed).normal(size=(5, 2))
    points[4] = points[0]  # a coincident pair
    matrix = _MATRICES[name](jnp.asarray(points)) if name in _MATRICES else None
    if matrix is None:
        _MATRICES[name] = jax.jit(lambda p: _with_gradients(kernel, p))
        matrix = _MATRICES[name](jnp.asarray(points))
    matrix = np.asarray(matrix)
    assert np.abs(matrix - matrix.T).max() <= 1e-13 * np.abs(matrix).max()
    eigenvalues = np.linalg.eigvalsh(matrix)
    assert eigenvalues[0] >= -1e-13 * eigenvalues[-1] * len(matrix)


_MATRICES: dict = {}


def _with_gradients(kernel, points):
    def jet(function, x):
        return jnp.concatenate([function(x)[None], jax.jacfwd(function)(x)])

    def block(x, y):
        whole = lambda a: jet(lambda b: kernel.between(ONE, a, b), y)  # noqa: E731
        return jnp.concatenate([whole(x)[None], jax.jacfwd(whole)(x).T])

    found = jax.vmap(jax.vmap(block, (None, 0)), (0, None))(points, points)
    return found.transpose(0, 2, 1, 3).reshape(15, 15)
