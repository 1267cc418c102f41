"""Cubic splines of many functions of one distance."""

import jax.numpy as jnp
from flax import linen as nn

from jaxff.types import Array, Float

__all__ = ["Spline"]


class Spline(nn.Module):
    """Functions on an even grid from zero on, twice continuously differentiable between its ends.

    Attributes:
        intervals: Their number.
        end: Last point in Å; distances beyond it are taken there.
        functions: Their number.
    """

    intervals: int
    end: float
    functions: int

    @nn.compact
    def __call__(self, distances: Float[Array, " edges"]) -> Float[Array, "edges functions"]:
        """Values at the distances."""
        shape = (self.intervals + 1, 2 * self.functions)
        # values, then slopes times the length of an interval
        table = self.param("values", nn.initializers.zeros, shape).astype(distances.dtype)
        place = jnp.clip(distances / self.end, 0.0, 1.0) * self.intervals
        left = jnp.minimum(place.astype(jnp.int32), self.intervals - 1)
        t = (place - left)[:, None]
        first, second = (
            # NaN, of an atom that is lost, has an index out of bounds, and must stay NaN.
            table.at[left + k].get(mode="clip").reshape(-1, 2, self.functions)
            for k in (0, 1)
        )
        rest = 1.0 - t
        return (
            rest**2 * ((1.0 + 2.0 * t) * first[:, 0] + t * first[:, 1])
            + t**2 * ((1.0 + 2.0 * rest) * second[:, 0] - rest * second[:, 1])
        )  # fmt: skip
