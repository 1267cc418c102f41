import jax
import jax.numpy as jnp
import numpy as np

from jaxff.numerics import safe_norm


def test_norm_of_ordinary_vectors():
    vectors = np.random.default_rng(0).normal(size=(4, 3))
    np.testing.assert_allclose(safe_norm(jnp.asarray(vectors)), np.linalg.norm(vectors, axis=1))
    np.testing.assert_allclose(
        safe_norm(jnp.asarray(vectors), axis=0), np.linalg.norm(vectors, axis=0)
    )


def test_gradient_is_the_unit_vector():
    vector = jnp.asarray([3.0, 0.0, 4.0])
    np.testing.assert_allclose(jax.grad(safe_norm)(vector), [0.6, 0.0, 0.8])


def test_derivatives_at_the_null_vector_are_zero():
    null = jnp.zeros(3)
    assert safe_norm(null) == 0.0
    np.testing.assert_array_equal(jax.grad(safe_norm)(null), 0.0)
    np.testing.assert_array_equal(jax.jacfwd(jax.grad(safe_norm))(null), 0.0)
