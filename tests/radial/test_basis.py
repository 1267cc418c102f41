import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import comb

from jaxff.radial import basis

R = np.array([0.0, 1e-9, 0.3, 1.7, 4.9, 7.0])


def test_gaussians():
    centers, widths = basis.gaussian_centers(5.0, 11)
    np.testing.assert_allclose(widths, 0.5)
    expected = np.exp(-2.0 * (R[:, None] - centers) ** 2)
    np.testing.assert_allclose(basis.gaussian(jnp.asarray(R), centers, widths), expected, 1e-13)


def test_waves_and_their_derivatives_at_zero():
    frequencies = basis.bessel_frequencies(5.0, 4)
    values = basis.bessel(jnp.asarray(R), frequencies)
    np.testing.assert_allclose(values[0], frequencies, rtol=1e-14)
    np.testing.assert_allclose(values[2:], np.sin(R[2:, None] * frequencies) / R[2:, None], 1e-12)
    np.testing.assert_allclose(basis.bessel(jnp.asarray(5.0), frequencies), 0.0, atol=1e-14)
    second = jax.jacfwd(jax.jacfwd(lambda r: basis.bessel(r, frequencies)))
    np.testing.assert_allclose(second(0.0), -(frequencies**3) / 3, rtol=1e-6)


@pytest.mark.parametrize("count", [1, 9, 64])
def test_bernstein_polynomials(count):
    u = np.exp(-0.9 * R)[:, None]
    k = np.arange(count)
    expected = comb(count - 1, k) * u**k * (-np.expm1(-0.9 * R)[:, None]) ** (count - 1 - k)
    values = basis.bernstein(jnp.asarray(R), 0.9, count)
    np.testing.assert_allclose(values, expected, rtol=1e-10, atol=1e-200)
    np.testing.assert_allclose(values.sum(axis=1), 1.0, rtol=1e-12)
    slope = jax.jacfwd(lambda r: basis.bernstein(r, 0.9, count))(0.0)
    # of the last and the one before it, all others being flat at zero
    known = np.zeros(count)
    known[-2:] = [0.9 * (count - 1), -0.9 * (count - 1)][-count:]
    np.testing.assert_allclose(slope, known, atol=1e-12)
    assert np.isfinite(basis.bernstein(jnp.asarray(R, jnp.float32), 0.9, count)).all()


def test_physnet_exponentials():
    centers, widths = basis.physnet_centers(6.0, 5, decay=0.5)
    assert centers[0] == pytest.approx(np.exp(-3.0))
    assert centers[-1] == 1.0
    np.testing.assert_allclose(widths, (0.4 * (1 - np.exp(-3.0))) ** -2)
    values = basis.physnet(jnp.asarray(R), centers, widths, decay=0.5)
    np.testing.assert_allclose(
        values, np.exp(-widths * (np.exp(-0.5 * R)[:, None] - centers) ** 2), rtol=1e-12
    )


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (basis.gaussian_centers, (5.0, 1), "at least 2"),
        (basis.gaussian_centers, (0.0, 5), "range"),
        (basis.bessel_frequencies, (5.0, 0), "at least 1"),
        (basis.bessel_frequencies, (-1.0, 3), "cutoff must be positive"),
        (basis.bernstein, (jnp.zeros(2), 1.0, 65), "at most 64"),
        (basis.physnet_centers, (5.0, 3, 0.0), "decay must be positive"),
    ],
)
def test_nonsense_is_refused(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments)
