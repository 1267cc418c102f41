import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernel_models import WATER
from models import difference

from jaxff.descriptors import inverse_distances
from jaxff.kernels import (
    BaseKernel,
    matern32,
    matern52,
    matern72,
    matern92,
    rational_quadratic,
    rbf,
)
from jaxff.kernels.base import differentiable_by_parameters
from jaxff.system import System

QUADRATIC = rational_quadratic(1.7)
MATERNS = {matern32: 1.5, matern52: 2.5, matern72: 3.5, matern92: 4.5}
KERNELS = [*MATERNS, rbf, QUADRATIC]
POINTS = np.array([0.01, 0.1, 0.5, 1.0, 3.0, 20.0])


def matern_by_distance(s):
    t = np.sqrt(5 * s)
    return (1 + t + t**2 / 3) * np.exp(-t)


def rbf_by_distance(s):
    return np.exp(-s / 2)


@pytest.mark.parametrize(
    ("kernel", "plain"), [(matern52, matern_by_distance), (rbf, rbf_by_distance)]
)
def test_profiles_have_their_textbook_values(kernel, plain):
    assert np.allclose(kernel.derivative(0, jnp.asarray(POINTS)), plain(POINTS), rtol=1e-14)
    assert kernel.derivative(0, jnp.asarray(0.0)) == 1.0


@pytest.mark.parametrize("kernel", MATERNS, ids=lambda k: k.name)
def test_matern_profiles_have_the_closed_form_of_bessel_functions(kernel):
    mp = pytest.importorskip("mpmath")
    nu = mp.mpf(MATERNS[kernel])
    kernel = differentiable_by_parameters(kernel)
    for order in range(len(kernel.profiles)):
        mu = nu - order
        scale = (-nu) ** order * 2 ** (1 - nu) / mp.gamma(nu)
        expected = []
        for s in POINTS:
            t = mp.sqrt(2 * nu * mp.mpf(float(s)))
            expected.append(float(scale * t**mu * mp.besselk(mu, t)))
        found = kernel.derivative(order, jnp.asarray(POINTS))
        assert np.allclose(found, expected, rtol=1e-13, atol=0), order


def test_rational_quadratic_has_its_textbook_form_and_tends_to_the_gaussian():
    found = QUADRATIC.derivative(0, jnp.asarray(POINTS))
    assert np.allclose(found, (1 + POINTS / 3.4) ** -1.7, rtol=1e-14)
    wide = rational_quadratic(1e9)
    assert np.allclose(wide.derivative(0, jnp.asarray(POINTS)), np.exp(-POINTS / 2), rtol=1e-6)
    assert rational_quadratic(1.7) is QUADRATIC
    for alpha in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="alpha must be a positive number"):
            rational_quadratic(alpha)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: k.name)
def test_each_profile_is_the_derivative_of_the_one_before(kernel):
    for order in range(1, len(kernel.profiles)):
        h = 1e-3 * POINTS
        profile = jax.jit(kernel.profiles[order - 1])
        f = {k: profile(jnp.asarray(POINTS + k * h)) for k in (-2, -1, 1, 2)}
        numeric = (f[-2] - 8 * f[-1] + 8 * f[1] - f[2]) / (12 * h)
        found = kernel.derivative(order, jnp.asarray(POINTS))
        assert np.allclose(found, numeric, rtol=1e-8, atol=1e-13), order


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: k.name)
def test_differentiation_follows_the_chain(kernel):
    function = lambda s: kernel.derivative(0, s)  # noqa: E731
    for order in range(1, len(kernel.profiles)):
        function = jax.grad(function)
        found = jax.vmap(function)(jnp.asarray([0.0, *POINTS]))
        assert np.array_equal(found, kernel.derivative(order, jnp.asarray([0.0, *POINTS])))


@pytest.mark.parametrize(
    ("kernel", "at_zero"),
    [
        (matern32, [1, -3 / 2]),
        (matern52, [1, -5 / 6, 25 / 12]),
        (matern72, [1, -7 / 10, 49 / 60, -343 / 120]),
        (matern92, [1, -9 / 14, 81 / 140, -243 / 280, 2187 / 560]),
        (rbf, [(-0.5) ** n for n in range(7)]),
        (QUADRATIC, [1, -1 / 2, 2.7 / 6.8, -2.7 * 3.7 / (8 * 1.7**2)]),
    ],
    ids=["matern32", "matern52", "matern72", "matern92", "rbf", "rational_quadratic"],
)
def test_values_at_coincidence_are_the_limits(kernel, at_zero):
    for order, expected in enumerate(at_zero):
        assert np.isclose(kernel.derivative(order, jnp.asarray(0.0)), expected, rtol=1e-15)
        near = kernel.derivative(order, jnp.asarray(1e-16))
        assert np.isclose(near, expected, rtol=1e-7)


@pytest.mark.parametrize("kernel", MATERNS, ids=lambda k: k.name)
def test_singular_profiles_are_finite_and_multiplied_away(kernel):
    nu = MATERNS[kernel]
    regular = int(nu + 0.5)  # as many as have a limit at zero
    s = jnp.asarray(1e-14)
    for order in range(regular, len(kernel.profiles)):
        assert kernel.derivative(order, jnp.asarray(0.0)) == 0.0
        vanishing = kernel.derivative(order, s) * s ** (order - regular + 1)
        assert abs(vanishing) < 1e-4
    t = jnp.sqrt(2 * nu * s)
    expected = (-nu) ** regular / np.prod(np.arange(1, 2 * nu, 2))
    assert np.isclose(kernel.derivative(regular, s) * t, expected, rtol=1e-5)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: k.name)
def test_more_derivatives_than_declared_are_refused(kernel):
    beyond = len(kernel.profiles)
    with pytest.raises(ValueError, match=f"{kernel.name} declares {beyond - 1} derivatives"):
        kernel.derivative(beyond, jnp.asarray(1.0))
    with pytest.raises(ValueError, match="declares"):
        jax.grad(lambda s: kernel.derivative(beyond - 1, s))(jnp.ones(()))
    with pytest.raises(ValueError, match="order"):
        kernel.derivative(-1, jnp.asarray(1.0))


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: k.name)
def test_rounding_below_zero_reads_as_zero(kernel):
    for order in range(len(kernel.profiles)):
        below = kernel.derivative(order, jnp.asarray(-1e-17))
        assert below == kernel.derivative(order, jnp.asarray(0.0))


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: k.name)
def test_nan_stays_nan(kernel):
    assert np.isnan(kernel.derivative(0, jnp.asarray(np.nan)))


def of_points(kernel: BaseKernel, lengthscale: float):
    return lambda a, b: kernel.derivative(0, jnp.sum((a - b) ** 2) / lengthscale**2)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: k.name)
def test_mixed_second_derivative_at_coincident_points(kernel):
    x, scale = jnp.asarray([0.3, -1.0, 0.2]), 1.7
    block = jax.jit(jax.jacfwd(jax.grad(of_points(kernel, scale)), argnums=1))(x, x)
    nu = MATERNS.get(kernel)
    curvature = (1.0 if nu is None else nu / (nu - 1.0)) / scale**2
    assert np.allclose(block, curvature * np.eye(3), atol=1e-15)


@pytest.mark.parametrize("kernel", [k for k in KERNELS if k.smoothness >= 4], ids=lambda k: k.name)
def test_derivatives_up_to_fourth_order_are_finite_at_coincidence(kernel):
    x = jnp.asarray([0.3, -1.0])
    function = of_points(kernel, 0.9)
    third = jax.jit(jax.jacfwd(jax.hessian(function), argnums=1))
    assert np.allclose(third(x, x), 0.0, atol=1e-12)
    y = x + jnp.asarray([0.4, 0.1])
    assert np.allclose(third(x, y), difference(lambda b: jax.hessian(function)(x, b), y), atol=1e-7)
    # ∂⁴k/∂x_a∂x_b∂y_c∂y_d = 4 h''(0)/ℓ⁴ (δ_ab δ_cd + δ_ac δ_bd + δ_ad δ_bc)
    fourth = jax.jit(jax.hessian(jax.hessian(function), argnums=1))(x, x)
    eye = np.eye(2)
    pairs = sum(np.einsum(f"{p},{q}->abcd", eye, eye) for p, q in (("ab", "cd"), ("ac", "bd")))
    pairs = pairs + np.einsum("ad,bc->abcd", eye, eye)
    expected = 4 * kernel.derivative(2, jnp.asarray(0.0)) / 0.9**4 * pairs
    assert np.allclose(fourth, expected, rtol=1e-13, atol=1e-13)


def test_what_does_not_exist_at_coincidence_is_refused():
    x = jnp.asarray([0.3, -1.0])
    with pytest.raises(ValueError, match="matern32 declares 2 derivatives"):
        jax.hessian(jax.grad(of_points(matern32, 1.0)), argnums=1)(x, x)
    with pytest.raises(ValueError, match="matern52 declares 4 derivatives"):
        jax.hessian(jax.hessian(jax.grad(of_points(matern52, 1.0))), argnums=1)(x, x)


def test_force_force_block_of_a_geometry_with_itself():
    """The block that an unguarded square root gets wrong: 5/(3 l²) JᵀJ."""
    scale, system = 1.3, System(WATER, [8, 1, 1])

    def kernel(a, b):
        first, second = (inverse_distances(system.replace(positions=r)) for r in (a, b))
        return matern52.derivative(0, jnp.sum((first - second) ** 2) / scale**2)

    positions = system.positions
    block = jax.jit(jax.jacfwd(jax.grad(kernel), argnums=1))(positions, positions)
    jacobian = jax.jit(jax.jacfwd(lambda r: inverse_distances(system.replace(positions=r))))
    j = jacobian(positions).reshape(3, 9)
    assert np.allclose(block.reshape(9, 9), 5 / (3 * scale**2) * j.T @ j, atol=1e-14)


@dataclasses.dataclass(frozen=True)
class Record:
    """Something of a user's that holds kernels."""

    name: str
    kernels: tuple
    array: np.ndarray


def test_kernels_are_found_wherever_they_are_held():
    further = differentiable_by_parameters(matern32)
    assert len(further.profiles) == len(matern32.profiles) + 1
    assert further.smoothness == matern32.smoothness
    assert differentiable_by_parameters(further) is further  # once only
    held = Record("kernels", (rbf, (matern32, "a word")), np.ones(2))
    found = differentiable_by_parameters(held)
    assert found.kernels == (rbf, (further, "a word"))
    assert found.array is held.array
    plain = Record("none", (rbf,), np.ones(2))
    assert differentiable_by_parameters(plain) is plain
    with pytest.raises(ValueError, match="matern32 declares 2 derivatives, asked for order 3"):
        matern32.derivative(3, jnp.asarray(1.0))
