r"""Base kernels that are no function of the distance: dot products, and periodic features."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxff.kernels.base import BaseKernel, rbf
from jaxff.types import Array, Float

__all__ = ["DotProductKernel", "PeriodicKernel", "dot_product", "periodic", "polynomial"]

Profile = Callable[[Array], Array]


@dataclass(frozen=True)
class DotProductKernel:
    r"""Kernel :math:`h(\langle x, y\rangle/\ell^2)` of the inner product of two features.

    Attributes:
        name: Name in files.
        profile: The function h, smooth, of which all Taylor coefficients at zero are positive or
            zero, as a positive kernel in any number of dimensions needs.
        smoothness: How many derivatives exist.
        arguments: Numbers from which a function of that name makes the kernel, if one does.

    Reference:
        Schoenberg, Duke Math. J. 9, 96 (1942), doi:10.1215/S0012-7094-42-00908-6.
    """

    name: str
    profile: Profile
    smoothness: float = math.inf
    arguments: tuple[tuple[str, float], ...] = ()

    def between(
        self,
        lengthscale: Array,
        first: Float[Array, "*#batch features"],
        second: Float[Array, "*#batch features"],
    ) -> Array:
        """Kernel of two features; sums over the last axis, the others are broadcast."""
        return self.profile(jnp.sum(first * second, axis=-1) / lengthscale**2)


def polynomial(degree: int, offset: float = 1.0) -> DotProductKernel:
    r"""Polynomial kernel :math:`(\langle x, y\rangle/\ell^2 + c)^n`.

    Args:
        degree: n, a positive integer.
        offset: c ≥ 0; zero leaves the products of exactly n features.

    Raises:
        ValueError: If the degree is no positive integer, or the offset negative: such kernels are
            not positive semidefinite.

    Reference:
        Rasmussen & Williams, Gaussian Processes for Machine Learning (2006), section 4.2.2.
    """
    if degree != int(degree) or degree < 1:
        raise ValueError(f"the degree must be a positive integer, got {degree}")
    if not 0.0 <= offset < math.inf:
        raise ValueError(f"the offset must be a number from zero up, got {offset}")
    return _polynomial(int(degree), float(offset))


@functools.lru_cache(maxsize=64)
def _polynomial(degree: int, offset: float) -> DotProductKernel:
    arguments = (("degree", degree), ("offset", offset))
    return DotProductKernel("polynomial", _powers(degree, offset), arguments=arguments)


def _powers(degree: int, offset: float) -> Profile:
    """The power with all its derivatives declared: AD of a power is 0/0 where the base vanishes."""

    @functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
    def power(order: int, inner: Array) -> Array:
        scale = math.perm(degree, order)  # zero beyond the degree
        return scale * (inner + offset) ** max(degree - order, 0)

    @power.defjvp
    def _rule(order, primals, tangents):
        (inner,), (tangent,) = primals, tangents
        return power(order, inner), power(order + 1, inner) * tangent

    return functools.partial(power, 0)


dot_product = polynomial(1, 0.0)
"""The linear kernel: a fit with it is linear regression on the features."""


@dataclass(frozen=True)
class PeriodicKernel:
    r"""Radial kernel on :math:`(\cos 2\pi x/p, \sin 2\pi x/p)` of every feature x.

    A periodic function of the distance itself is not positive definite in several dimensions.

    Attributes:
        period: p, in the unit of the features.
        radial: The radial kernel.
    """

    period: float
    radial: BaseKernel = rbf

    def __post_init__(self):
        if not 0.0 < self.period < math.inf:
            raise ValueError(f"the period must be a positive number, got {self.period}")

    @property
    def name(self) -> str:
        """Name in files."""
        return "periodic"

    @property
    def smoothness(self) -> float:
        """That of the radial kernel."""
        return self.radial.smoothness

    @property
    def arguments(self) -> tuple[tuple[str, object], ...]:
        """What makes the kernel from its name."""
        return (("period", float(self.period)), ("radial", self.radial))

    def between(
        self,
        lengthscale: Array,
        first: Float[Array, "*#batch features"],
        second: Float[Array, "*#batch features"],
    ) -> Array:
        """Kernel of two features; sums over the last axis, the others are broadcast."""
        return self.radial.between(lengthscale, self._on_circles(first), self._on_circles(second))

    def _on_circles(self, features: Array) -> Array:
        angle = (2.0 * math.pi / self.period) * features
        return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)


def periodic(period: float, radial: BaseKernel = rbf) -> PeriodicKernel:
    r"""Periodic kernel; with the Gaussian :math:`\exp(-2 \sin^2(\pi (x-y)/p)/\ell^2)` by feature.

    Raises:
        ValueError: If the period is not positive.

    Reference:
        Rasmussen & Williams, Gaussian Processes for Machine Learning (2006), eq. 4.31.
    """
    return PeriodicKernel(float(period), radial)
