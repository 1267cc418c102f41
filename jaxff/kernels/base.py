r"""Base kernels as functions of the scaled squared distance, with their derivatives declared.

A radial kernel is :math:`\kappa(d) = h(s)` with :math:`s = d^2/\ell^2`. Written in the squared
distance, every derivative that exists at coincident points is regular there, whereas
differentiating through a norm gives NaN on the diagonal of the kernel matrix. Each kernel therefore
carries :math:`h, h', h'', \dots` as a chain of rules.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxff.types import Array

__all__ = ["BaseKernel", "matern52", "rbf"]

Profile = Callable[[Array], Array]


@dataclass(frozen=True)
class BaseKernel:
    """A radial kernel.

    Attributes:
        name: Name in files.
        profiles: The function of the scaled squared distance and its successive derivatives; the
            last is only ever multiplied by quantities that vanish at coincident points.
        smoothness: How many derivatives with respect to the points exist at coincidence. Observing
            quantities of order m and n together needs m + n.
    """

    name: str
    profiles: tuple[Profile, ...]
    smoothness: float

    def derivative(self, order: int, scaled_square: Array) -> Array:
        """The ``order``-th derivative of the profile, differentiable further along the chain.

        Args:
            order: 0 for the kernel itself.
            scaled_square: Squared distance over squared length scale; rounding below zero is read
                as zero.

        Raises:
            ValueError: If the order is negative, or the kernel declares fewer derivatives.
        """
        if not 0 <= order < len(self.profiles):
            raise ValueError(
                f"kernel {self.name} declares {len(self.profiles) - 1} derivatives, "
                f"asked for order {order}"
            )
        return _chain(self, order)(scaled_square)


def _chain(kernel: BaseKernel, order: int) -> Profile:
    profile = kernel.profiles[order]

    @jax.custom_jvp
    def function(scaled_square: Array) -> Array:
        return profile(jnp.maximum(scaled_square, 0.0))

    @function.defjvp
    def _rule(primals, tangents):
        (scaled_square,), (tangent,) = primals, tangents
        # The derivative passes through the clip: at coincident points the curvature of s still
        # counts.
        slope = kernel.derivative(order + 1, scaled_square)
        return function(scaled_square), slope * tangent

    return function


def _matern52_third(s: Array) -> Array:
    """Singular as 1/t at zero, where it only multiplies terms of order s or higher."""
    t = jnp.sqrt(5.0 * s)
    return jnp.where(t > 0, -(125.0 / 24.0) * jnp.exp(-t) / jnp.where(t > 0, t, 1.0), 0.0)


def _of_root(function: Profile) -> Profile:
    return lambda s: function(jnp.sqrt(5.0 * s))


matern52 = BaseKernel(
    "matern52",
    (
        _of_root(lambda t: (1.0 + t + t * t / 3.0) * jnp.exp(-t)),
        _of_root(lambda t: -(5.0 / 6.0) * (1.0 + t) * jnp.exp(-t)),
        _of_root(lambda t: (25.0 / 12.0) * jnp.exp(-t)),
        _matern52_third,
    ),
    smoothness=4,
)
r"""Matérn 5/2, :math:`(1 + t + t^2/3) e^{-t}` with :math:`t = \sqrt5\, d/\ell`.

Rasmussen & Williams, Gaussian Processes for Machine Learning (2006), eq. 4.17; used by Chmiela et
al. (2018).
"""


def _rbf_profile(order: int) -> Profile:
    return lambda s: (-0.5) ** order * jnp.exp(-0.5 * s)


rbf = BaseKernel("rbf", tuple(_rbf_profile(order) for order in range(7)), smoothness=float("inf"))
r"""Gaussian, :math:`e^{-d^2/(2\ell^2)}`."""
