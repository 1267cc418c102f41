r"""Base kernels as functions of the scaled squared distance, with their derivatives declared.

A radial kernel is :math:`\kappa(d) = h(s)` with :math:`s = d^2/\ell^2`. Written in the squared
distance, every derivative that exists at coincident points is regular there, whereas
differentiating through a norm gives NaN on the diagonal of the kernel matrix. Each kernel therefore
carries :math:`h, h', h'', \dots` as a chain of rules.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from jaxff.types import Array, Float

__all__ = [
    "BaseKernel",
    "differentiable_by_parameters",
    "matern32",
    "matern52",
    "matern72",
    "matern92",
    "rational_quadratic",
    "rbf",
]

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
        arguments: Numbers from which a function of that name makes the kernel, if one does.
        further: The derivative after the last of the profiles, for
            :func:`differentiable_by_parameters` alone: points may not be derived by that often.
    """

    name: str
    profiles: tuple[Profile, ...]
    smoothness: float
    arguments: tuple[tuple[str, float], ...] = ()
    further: Profile | None = None

    def between(
        self,
        lengthscale: Array,
        first: Float[Array, "*#batch features"],
        second: Float[Array, "*#batch features"],
    ) -> Array:
        """Kernel of two features, by direct differences: exactly coincident points have s = 0.

        Sums over the last axis; the others are broadcast.
        """
        return self.derivative(0, jnp.sum((first - second) ** 2, axis=-1) / lengthscale**2)

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


def differentiable_by_parameters(kernel: Any) -> Any:
    r"""A kernel that can be derived once by parameters beside all derivatives by the points.

    A length scale or a parameter of the features moves :math:`s` by something that vanishes at
    coincident points as fast as s itself, :math:`\partial s/\partial\ell = -2s/\ell`. For the
    Matérn kernel of smoothness p + 1/2, :math:`h^{(m)} \sim s^{p+1/2-m}` beyond m = p, so that of
    2p derivatives by the points and one by :math:`\ell` the most singular term is
    :math:`s\,h^{(2p+1)}\,(\nabla s)^{2p} \sim s^{1/2}`: zero there, as continuous as what is
    derived. The chain may therefore go on by one profile, which is finite (zero) at coincidence.
    Derivatives by the points alone may not use it: without the factor s the term has no limit.

    Args:
        kernel: A base kernel, or a record that holds some, in tuples and further records too.

    Returns:
        The same where nothing is to be added.
    """
    if isinstance(kernel, BaseKernel):
        if kernel.further is None:
            return kernel
        return replace(kernel, profiles=(*kernel.profiles, kernel.further), further=None)
    if type(kernel) is tuple:
        parts = tuple(differentiable_by_parameters(part) for part in kernel)
        same = all(new is old for new, old in zip(parts, kernel, strict=True))
        return kernel if same else parts
    if not is_dataclass(kernel) or isinstance(kernel, type):
        return kernel
    given = {field.name: getattr(kernel, field.name) for field in fields(kernel) if field.init}
    made = {name: differentiable_by_parameters(part) for name, part in given.items()}
    changed = {name: part for name, part in made.items() if part is not given[name]}
    return replace(kernel, **changed) if changed else kernel


def _matern52_third(s: Array) -> Array:
    """Singular as 1/t at zero, where it only multiplies terms of order s or higher."""
    t = jnp.sqrt(5.0 * s)
    return jnp.where(t > 0, -(125.0 / 24.0) * jnp.exp(-t) / jnp.where(t > 0, t, 1.0), 0.0)


def _bessel_polynomial(order: int) -> tuple[float, ...]:
    """Coefficients of the reverse Bessel polynomial of an order, highest power first."""
    return tuple(
        math.factorial(order + k) / (math.factorial(k) * math.factorial(order - k) * 2**k)
        for k in range(order + 1)
    )


def _matern_profile(order: int, derivative: int) -> Profile:
    r"""A derivative of the Matérn kernel of smoothness :math:`\nu = p + 1/2` by s, p the order.

    With :math:`t = \sqrt{2\nu s}` it is proportional to :math:`t^\mu K_\mu(t)`,
    :math:`\mu = \nu - m` for the m-th: :math:`\theta_{p-m}(t)\,e^{-t}` with the reverse Bessel
    polynomials for :math:`m \le p`, :math:`t^{-2q-1}\,\theta_q(t)\,e^{-t}` for m = p + 1 + q. The
    latter are singular at zero and there only multiply terms of order :math:`s^{q+1}` or higher.

    Reference:
        Abramowitz & Stegun (1964), 9.6.28 and 10.2.15.
    """
    nu = order + 0.5
    power = derivative - order - 1
    polynomial = _bessel_polynomial(power if power >= 0 else order - derivative)
    scale = (-nu) ** derivative / _bessel_polynomial(order)[-1]

    def profile(s: Array) -> Array:
        t = jnp.sqrt(2.0 * nu * s)
        value = jnp.full_like(t, polynomial[0])
        for coefficient in polynomial[1:]:
            value = value * t + coefficient
        value = scale * value * jnp.exp(-t)
        if power < 0:
            return value
        return jnp.where(t > 0, value / jnp.where(t > 0, t, 1.0) ** (2 * power + 1), 0.0)

    return profile


def _matern(name: str, order: int) -> BaseKernel:
    profiles = tuple(_matern_profile(order, m) for m in range(2 * order + 1))
    further = _matern_profile(order, 2 * order + 1)
    return BaseKernel(name, profiles, smoothness=2 * order, further=further)


def _of_root(function: Profile) -> Profile:
    return lambda s: function(jnp.sqrt(5.0 * s))


matern52 = BaseKernel(
    "matern52",
    (
        _of_root(lambda t: (1.0 + t + t * t / 3.0) * jnp.exp(-t)),
        _of_root(lambda t: -(5.0 / 6.0) * (1.0 + t) * jnp.exp(-t)),
        _of_root(lambda t: (25.0 / 12.0) * jnp.exp(-t)),
        _matern52_third,
        _matern_profile(2, 4),
    ),
    smoothness=4,
    further=_matern_profile(2, 5),
)
r"""Matérn 5/2, :math:`(1 + t + t^2/3) e^{-t}` with :math:`t = \sqrt5\, d/\ell`.

Rasmussen & Williams, Gaussian Processes for Machine Learning (2006), eq. 4.17; used by Chmiela et
al. (2018).
"""


def _rbf_profile(order: int) -> Profile:
    return lambda s: (-0.5) ** order * jnp.exp(-0.5 * s)


rbf = BaseKernel("rbf", tuple(_rbf_profile(order) for order in range(7)), smoothness=float("inf"))
r"""Gaussian, :math:`e^{-d^2/(2\ell^2)}`."""


matern32 = _matern("matern32", 1)
r"""Matérn 3/2, :math:`(1 + t) e^{-t}` with :math:`t = \sqrt3\, d/\ell`: good for forces at most."""

matern72 = _matern("matern72", 3)
r"""Matérn 7/2, :math:`(1 + t + 2t^2/5 + t^3/15) e^{-t}` with :math:`t = \sqrt7\, d/\ell`."""

matern92 = _matern("matern92", 4)
r"""Matérn 9/2, :math:`(1 + t + 3t^2/7 + 2t^3/21 + t^4/105) e^{-t}`, :math:`t = 3 d/\ell`."""


def rational_quadratic(alpha: float) -> BaseKernel:
    r"""Rational quadratic, :math:`(1 + s/2\alpha)^{-\alpha}`: Gaussians of many length scales.

    Args:
        alpha: Shape; the Gaussian is its limit for large values.

    Raises:
        ValueError: If ``alpha`` is not positive and finite.

    Reference:
        Rasmussen & Williams, Gaussian Processes for Machine Learning (2006), eq. 4.19.
    """
    if not 0.0 < alpha < math.inf:
        raise ValueError(f"alpha must be a positive number, got {alpha}")

    return _rational_quadratic(float(alpha))


@functools.lru_cache(maxsize=64)
def _rational_quadratic(alpha: float) -> BaseKernel:
    def profile(order: int) -> Profile:
        scale = math.prod(-0.5 * (1.0 + k / alpha) for k in range(order))
        return lambda s: scale * (1.0 + s / (2.0 * alpha)) ** (-alpha - order)

    return BaseKernel(
        "rational_quadratic",
        tuple(profile(order) for order in range(7)),
        smoothness=math.inf,
        arguments=(("alpha", alpha),),
    )
