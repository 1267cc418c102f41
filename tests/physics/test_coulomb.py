import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

from jaxff.physics import erf_damped, shifted_force, softened

ERF = functools.partial(erf_damped, width=2.0)
SOFT = functools.partial(softened, reach=4.0)


def test_closed_forms_without_a_cutoff():
    r = np.linspace(0.2, 9.0, 50)
    np.testing.assert_allclose(ERF(jnp.asarray(r)), erf(r / 2) / r, rtol=1e-13)
    found = SOFT(jnp.asarray(r))
    np.testing.assert_allclose(found[r < 1], 1 / np.sqrt(r[r < 1] ** 2 + 1), rtol=1e-13)
    np.testing.assert_allclose(found[r > 3], 1 / r[r > 3], rtol=1e-13)
    np.testing.assert_allclose(SOFT(jnp.asarray(2.0)), 0.5 * (1 / np.sqrt(5) + 1 / 2), rtol=1e-13)


@pytest.mark.parametrize("interaction", [ERF, SOFT])
def test_energy_and_force_vanish_at_the_cutoff(interaction):
    cut = functools.partial(interaction, cutoff=6.0)
    r = jnp.asarray([6.0 - 1e-7, 6.0, 6.0 + 1e-7, 20.0])
    values, slopes = jax.vmap(jax.value_and_grad(cut))(r)
    np.testing.assert_allclose(values, 0.0, atol=1e-12)
    np.testing.assert_allclose(slopes, 0.0, atol=1e-7)
    assert (values[2:] == 0).all()
    assert (slopes[2:] == 0).all()


def test_shifts():
    r = np.array([0.5, 2.0, 5.9])
    found = shifted_force(lambda r: 1 / r, 6.0)(jnp.asarray(r))
    np.testing.assert_allclose(found, 1 / r + r / 36 - 2 / 6, atol=1e-14)
    # Below 0.45 of the cutoff the energy of Gaussian charges is shifted, but not their force.
    near = r[:2]
    found = functools.partial(ERF, cutoff=6.0)(jnp.asarray(near))
    np.testing.assert_allclose(found, erf(near / 2) / near - erf(3.0) / 6, atol=1e-14)


def test_bad_arguments():
    one = jnp.ones(())
    with pytest.raises(ValueError, match="width must be"):
        erf_damped(one, width=0.0)
    with pytest.raises(ValueError, match="cutoff must be a positive number"):
        erf_damped(one, width=1.0, cutoff=-1.0)
    with pytest.raises(ValueError, match="at least the reach"):
        softened(one, reach=5.0, cutoff=4.0)
