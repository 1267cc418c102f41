"""Small numerical tools that many rooms share."""

import jax.numpy as jnp

from jaxff.types import Array

__all__ = ["safe_norm"]


def safe_norm(vectors: Array, axis: int = -1) -> Array:
    """Euclidean norm whose derivatives of any order are zero, not NaN, for the null vector."""
    square = jnp.sum(vectors**2, axis=axis)
    null = square == 0.0
    return jnp.where(null, 0.0, jnp.sqrt(jnp.where(null, 1.0, square)))
