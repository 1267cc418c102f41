"""Real solid harmonics as polynomials of Cartesian coordinates."""

import math

import jax.numpy as jnp

from jaxff.types import Array, Float

__all__ = ["solid_harmonics"]


def solid_harmonics(vectors: Float[Array, "*shape 3"], max_degree: int) -> list[Array]:
    r"""Real solid harmonics :math:`r^l\,Y_{lm}(\hat r)`, orthonormal on the sphere.

    Polynomials of the coordinates: smooth everywhere, at the origin too. No Condon-Shortley phase.

    Args:
        vectors: In any unit.
        max_degree: Largest degree l.

    Returns:
        For each degree an array ``(*shape, 2 l + 1)`` with the orders m from -l (sines) to l
        (cosines).

    Reference:
        Recurrences of the associated Legendre functions: NIST Digital Library of Mathematical
        Functions, https://dlmf.nist.gov/14.10, eq. 14.10.3, and 14.30 for real harmonics.
    """
    x, y, z = (vectors[..., k] for k in range(3))
    square = x * x + y * y + z * z
    # (x + iy)^m, and Legendre functions divided by the sine to the m, times r^(l - m)
    waves = [(jnp.ones_like(x), jnp.zeros_like(x))]
    for _ in range(max_degree):
        cosine, sine = waves[-1]
        waves.append((x * cosine - y * sine, x * sine + y * cosine))
    legendre = _legendre(z, square, max_degree)
    result = []
    for degree in range(max_degree + 1):
        columns = [jnp.zeros_like(x)] * (2 * degree + 1)
        for order in range(degree + 1):
            scale = _normalization(degree, order)
            cosine, sine = waves[order]
            if order:
                columns[degree - order] = scale * legendre[degree, order] * sine
            columns[degree + order] = scale * legendre[degree, order] * cosine
        result.append(jnp.stack(columns, axis=-1))
    return result


def _legendre(z: Array, square: Array, max_degree: int) -> dict[tuple[int, int], Array]:
    table: dict[tuple[int, int], Array] = {}
    for m in range(max_degree + 1):
        table[m, m] = jnp.full_like(z, math.prod(range(1, 2 * m, 2)))
        if m < max_degree:
            table[m + 1, m] = (2 * m + 1) * z * table[m, m]
        for n in range(m + 2, max_degree + 1):
            upper = (2 * n - 1) * z * table[n - 1, m] - (n + m - 1) * square * table[n - 2, m]
            table[n, m] = upper / (n - m)
    return table


def _normalization(degree: int, order: int) -> float:
    ratio = math.factorial(degree - order) / math.factorial(degree + order)
    return math.sqrt((2 * degree + 1) / (4 * math.pi) * ratio * (2 if order else 1))
