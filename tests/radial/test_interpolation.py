import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxff.radial import basis
from jaxff.radial.interpolation import Chebyshev


def test_polynomials_are_exact():
    rule = Chebyshev(5.0, 6)
    function = np.polynomial.Polynomial([0.3, -1.2, 0.5, 0.1, -0.02, 0.003])
    distances = jnp.linspace(0.01, 4.99, 50)
    coefficients = rule.transform @ function(rule.nodes)
    np.testing.assert_allclose(
        rule.polynomials(distances) @ coefficients, function(distances), rtol=1e-12
    )


@pytest.mark.parametrize(("per_function", "error"), [(2, 2e-2), (3, 2e-6), (4, 1e-8)])
def test_gaussians_converge_with_their_derivatives(per_function, error):
    centers, widths = basis.gaussian_centers(5.0, 20)

    def own(r):
        return basis.gaussian(r, centers, widths)[7]

    rule = Chebyshev(5.1, per_function * 20)
    coefficients = rule.transform @ basis.gaussian(jnp.asarray(rule.nodes), centers, widths)[:, 7]

    def interpolated(r):
        return rule.polynomials(r) @ coefficients

    distances = jnp.linspace(0.3, 5.0, 200)
    length = widths[0]
    for order in range(3):
        found, expected = (jax.jit(jax.vmap(f))(distances) for f in (interpolated, own))
        np.testing.assert_allclose(length**order * found, length**order * expected, atol=error)
        own, interpolated, error = jax.grad(own), jax.grad(interpolated), 10 * error
