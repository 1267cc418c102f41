"""Functions of the distance by their values at a few distances.

Whatever is learnt as a function of one distance can be computed at the nodes of a Chebyshev
interpolation only: at all other distances it is one matrix product.
"""

import functools
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from jaxff.types import Array, Float

__all__ = ["Chebyshev"]


@dataclass(frozen=True)
class Chebyshev:
    r"""Interpolation by a polynomial through Chebyshev nodes from zero to an end.

    .. math:: f(r) \approx \sum_{k<K} c_k T_k(x), \quad x = 2 r / r_{end} - 1, \quad
        c = D f(r_{nodes})

    The error falls exponentially with the number of nodes for smooth functions, once there are
    about :math:`\pi/2` for each length, in the distance, over which they vary. All derivatives
    between zero and the end, both excluded, exist.

    Attributes:
        end: Å; beyond it nothing is defined.
        count: Number of nodes, and of polynomials.

    Reference:
        Trefethen, Approximation Theory and Approximation Practice (2013), chapters 2 to 8.
    """

    end: float
    count: int

    @functools.cached_property
    def nodes(self) -> Float[np.ndarray, " nodes"]:
        """Distances, Å, from the last to the first."""
        return 0.5 * self.end * (1.0 + np.cos(self._angles))

    @functools.cached_property
    def transform(self) -> Float[np.ndarray, "polynomials nodes"]:
        """The matrix D from values at the nodes to coefficients: a discrete cosine transform."""
        matrix = np.cos(np.outer(np.arange(self.count), self._angles)) * (2.0 / self.count)
        matrix[0] *= 0.5
        return matrix

    @property
    def _angles(self) -> Float[np.ndarray, " nodes"]:
        return np.pi * (np.arange(self.count) + 0.5) / self.count

    def polynomials(self, distances: Float[Array, "*shape"]) -> Float[Array, "*shape polynomials"]:
        """Values :math:`T_k` at distances between zero and the end, both excluded."""
        angle = jnp.arccos(2.0 / self.end * distances - 1.0)
        return jnp.cos(angle[..., None] * jnp.arange(self.count, dtype=distances.dtype))
