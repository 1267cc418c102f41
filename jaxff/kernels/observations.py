r"""Linear operators on functions of points: values, derivatives, differential equations.

An operator takes a function and returns a function: ``gradient(f)`` is the gradient of f. It must
be linear in f, and is given scalar functions of one point ``(dim,)``. Operators compose, and any
function that does the same is an operator too::

    def wave(u):                       # u_xx - u_tt of points (x, t)
        return lambda p: (lambda h: h[0, 0] - h[1, 1])(hessian(u)(p))
"""

from collections.abc import Callable
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp

from jaxff.types import Array

__all__ = [
    "Operator",
    "combination",
    "compose",
    "directional",
    "divergence",
    "gradient",
    "hessian",
    "identity",
    "laplacian",
]

Field = Callable[[Array], Array]
Operator = Callable[[Field], Field]


def identity(function: Field) -> Field:
    """The values."""
    return function


def gradient(function: Field) -> Field:
    """Derivatives by the point, on a new last axis."""
    return jax.jacfwd(function)


def hessian(function: Field) -> Field:
    """Second derivatives by the point, on two new last axes."""
    return jax.jacfwd(jax.jacfwd(function))


def divergence(function: Field) -> Field:
    """Trace of the Jacobian of a vector field: of its last axis and of the derivative.

    Raises:
        ValueError: From the resulting function, if the field has not as many components as the
            point.
    """

    def trace(point: Array) -> Array:
        jacobian = jax.jacfwd(function)(point)
        if jacobian.ndim < 2 or jacobian.shape[-1] != jacobian.shape[-2]:
            raise ValueError(
                f"a divergence needs a field of {point.shape[-1]} components, got "
                f"{jacobian.shape[:-1]}: take that of a gradient, for instance"
            )
        return jnp.trace(jacobian, axis1=-2, axis2=-1)

    return trace


laplacian: Operator = lambda function: divergence(gradient(function))  # noqa: E731
"""Sum of the second derivatives along all axes."""


def directional(direction: Any) -> Operator:
    """Derivative along a direction: an array ``(dim,)``, or a function of the point giving one."""

    def operator(function: Field) -> Field:
        def derivative(point: Array) -> Array:
            along = direction(point) if callable(direction) else direction
            return jax.jvp(function, (point,), (jnp.asarray(along, point.dtype),))[1]

        return derivative

    return operator


def compose(*operators: Operator) -> Operator:
    """Product of operators: the last acts first, ``compose(divergence, gradient) = laplacian``."""
    return lambda function: reduce(lambda f, operator: operator(f), reversed(operators), function)


def combination(*terms: tuple[float, Operator]) -> Operator:
    """Weighted sum of operators with results of one shape."""
    return lambda function: (
        lambda point: sum(
            (weight * operator(function)(point) for weight, operator in terms[1:]),
            start=terms[0][0] * terms[0][1](function)(point),
        )
    )
