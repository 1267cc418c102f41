"""Small numerical tools that many rooms share."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxff.types import Array

__all__ = ["require_float64", "safe_norm", "select"]


def require_float64(what: str) -> None:
    """Refuse to go on in single precision, which JAX would use without a word.

    Raises:
        RuntimeError: If 64-bit floats are not enabled.
    """
    if jnp.zeros((), float).dtype != jnp.float64:
        raise RuntimeError(
            f'{what} needs float64: call jax.config.update("jax_enable_x64", True) at the start of '
            "the script"
        )


def safe_norm(vectors: Array, axis: int = -1) -> Array:
    """Euclidean norm whose derivatives of any order are zero, not NaN, for the null vector."""
    square = jnp.sum(vectors**2, axis=axis)
    null = square == 0.0
    return jnp.where(null, 0.0, jnp.sqrt(jnp.where(null, 1.0, square)))


@jax.jit
def select(tree: Any, index: Any) -> Any:
    """Rows of every leaf, in one compiled call."""
    return jax.tree.map(lambda leaf: leaf[index], tree)
