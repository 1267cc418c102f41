r"""Radial functions of density expansions, tabulated once as Chebyshev series.

What an expansion needs of a neighbour at the distance d is a smooth function divided by
:math:`d^l`, even in d. It is tabulated on the host as a series in :math:`d^2`, so that compiled
code meets polynomials only: exact to rounding, smooth at the origin, with derivatives of any order.
"""

import functools
import itertools
import math
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from jaxff.types import Array, Float

__all__ = ["BASES", "bessel_series", "density_series", "evaluate_series"]

BASES = ("gto", "gto_l", "polynomial")
"""Radial bases: Gaussians times :math:`r^n`, Gaussians times :math:`r^l`, polynomials."""

_QUADRATURE = 256


@functools.lru_cache(maxsize=32)
def density_series(
    basis: str, max_radial: int, max_degree: int, width: float, cutoff: float, reach: float
) -> tuple[Float[np.ndarray, "terms degrees functions"], Float[np.ndarray, " functions"]]:
    r"""Overlaps of a Gaussian density at distance d with radial functions, over :math:`d^l`.

    :math:`4\pi\int_0^\infty r^2 g_{nl}(r)\,e^{-(r^2+d^2)/2\sigma^2} i_l(rd/\sigma^2)\,dr\,/\,d^l`
    with the modified spherical Bessel functions :math:`i_l`.

    Args:
        basis: One of ``BASES``; see :class:`jaxff.descriptors.soap.Soap`.
        max_radial: Number of radial functions.
        max_degree: Largest degree l.
        width: σ in Å.
        cutoff: Radius in Å that the basis spans.
        reach: Largest distance in Å.

    Returns:
        Chebyshev coefficients for :math:`2 d^2/\text{reach}^2 - 1`; and the overlaps with a density
        at the origin, degree 0.
    """
    from scipy.special import ive

    end = cutoff if basis == "polynomial" else cutoff + reach + 10 * width
    nodes, weights = np.polynomial.legendre.leggauss(_QUADRATURE)
    r, w = 0.5 * end * (nodes + 1), 0.5 * end * weights
    functions = _orthonormal(basis, max_radial, max_degree, cutoff, r)
    moments = functions * (w * r**2)

    def overlaps(d: np.ndarray) -> np.ndarray:
        gauss = np.exp(-((r - d[:, None]) ** 2) / (2 * width**2))
        z = r * d[:, None] / width**2
        rows = []
        for degree in range(max_degree + 1):
            scaled = np.sqrt(np.pi / (2 * z)) * ive(degree + 0.5, z)
            kernel = gauss * scaled / d[:, None] ** degree
            rows.append(4 * np.pi * kernel @ moments[degree].T)
        return np.stack(rows, axis=1)

    origin = 4 * np.pi * moments[0] @ np.exp(-(r**2) / (2 * width**2))
    norm = (np.pi * width**2) ** -0.75 if basis == "gto" else 1.0
    return norm * chebyshev(overlaps, reach), norm * origin


def _orthonormal(
    basis: str, count: int, max_degree: int, cutoff: float, r: np.ndarray
) -> Float[np.ndarray, "degrees functions points"]:
    """Radial functions, orthonormalised symmetrically."""
    result = []
    for degree in range(max_degree + 1):
        if basis == "gto":
            raw, overlap = _gaussians_by_number(count, cutoff, r)
        elif basis == "gto_l":
            raw, overlap = _gaussians_by_degree(count, degree, cutoff, r)
        else:
            raw, overlap = _polynomials(count, cutoff, r)
        values, vectors = np.linalg.eigh(overlap)
        result.append((vectors / np.sqrt(values)) @ vectors.T @ raw)
    return np.stack(result)


def _gaussians_by_number(count: int, cutoff: float, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r""":math:`r^n e^{-r^2/2\sigma_n^2}`, n from 0 on, normalised; the same for every degree."""
    n = np.arange(count)
    sigma = cutoff * np.maximum(np.sqrt(n), 1.0) / count
    gamma = np.array([math.gamma(k + 1.5) for k in n])
    norm = np.sqrt(2 / (sigma ** (2 * n + 3) * gamma))
    raw = norm[:, None] * r ** n[:, None] * np.exp(-(r**2) / (2 * sigma[:, None] ** 2))
    power = n[:, None] + n[None, :] + 3
    inverse = 0.5 / sigma[:, None] ** 2 + 0.5 / sigma[None, :] ** 2
    half = np.vectorize(math.gamma)(0.5 * power)
    return raw, norm[:, None] * norm[None, :] * 0.5 * half * inverse ** (-0.5 * power)


def _gaussians_by_degree(
    count: int, degree: int, cutoff: float, r: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    r""":math:`r^l e^{-\alpha_n r^2}` that have decayed to 10⁻³ at equidistant radii from 1 Å on."""
    radii = np.linspace(1.0, cutoff, count)
    alpha = -np.log(1e-3 / radii**degree) / radii**2
    raw = r**degree * np.exp(-alpha[:, None] * r**2)
    total = alpha[:, None] + alpha[None, :]
    return raw, 0.5 * math.gamma(degree + 1.5) * total ** -(degree + 1.5)


def _polynomials(count: int, cutoff: float, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r""":math:`(r_c - r)^{n+2}`, n from 1 on."""
    n = np.arange(1, count + 1)
    raw = np.where(r < cutoff, cutoff - r, 0.0) ** (n[:, None] + 2)
    m = n[:, None] + n[None, :]
    return raw, 2 * cutoff ** (m + 7.0) / ((m + 5) * (m + 6) * (m + 7))


@functools.lru_cache(maxsize=32)
def bessel_series(max_order: int, cutoff: float) -> Float[np.ndarray, "terms channels"]:
    r"""Combinations of spherical Bessel functions that vanish with their slope at the cutoff.

    Orthonormal on :math:`[0, r_c]` with the weight :math:`r^2`, divided by :math:`r^l`; channels
    run over the degrees l from 0 to ``max_order``, and n from 0 to ``max_order - l``.

    Reference:
        Kocer, Mason & Erturk, J. Chem. Phys. 150, 154102 (2019), doi:10.1063/1.5086167.
    """
    from scipy.special import spherical_jn

    def channels(d: np.ndarray) -> np.ndarray:
        rows = []
        for degree in range(max_order + 1):
            zeros = _bessel_zeros(degree, max_order - degree + 2)
            waves = spherical_jn(degree, zeros * d[:, None] / cutoff)
            low, high = slopeless(degree, zeros)
            raw = cutoff**-1.5 * (low * waves[:, :-1] - high * waves[:, 1:])
            rows.append(_recursion(raw, zeros) / d[:, None] ** degree)
        return np.concatenate(rows, axis=1)

    return chebyshev(channels, cutoff)


def slopeless(degree: int, zeros: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights with which two neighbouring waves cancel value and slope at the cutoff."""
    from scipy.special import spherical_jn

    slopes = spherical_jn(degree + 1, zeros)
    low, high = zeros[:-1], zeros[1:]
    scale = np.sqrt(2 / (low**2 + high**2))
    return scale * high / slopes[:-1], scale * low / slopes[1:]


def _recursion(raw: np.ndarray, zeros: np.ndarray) -> np.ndarray:
    """Orthonormalise: neighbouring functions alone overlap."""
    columns, last = [raw[:, 0]], 1.0
    for n in range(1, raw.shape[1]):
        a, b, c = zeros[n - 1] ** 2, zeros[n] ** 2, zeros[n + 1] ** 2
        e = a * c / ((a + b) * (b + c))
        own = 1.0 - e / last
        columns.append((raw[:, n] + np.sqrt(e / last) * columns[-1]) / np.sqrt(own))
        last = own
    return np.stack(columns, axis=1)


def _bessel_zeros(degree: int, count: int) -> np.ndarray:
    """First positive zeros of a spherical Bessel function, between those of the degree below."""
    from scipy.optimize import brentq
    from scipy.special import spherical_jn

    zeros = np.pi * np.arange(1, count + degree + 1)
    for k in range(1, degree + 1):
        pairs = itertools.pairwise(zeros)
        found = [brentq(lambda x, k=k: spherical_jn(k, x), a, b, xtol=1e-14) for a, b in pairs]
        zeros = np.array(found)
    return zeros[:count]


def chebyshev(
    function: Callable[[np.ndarray], np.ndarray], reach: float
) -> Float[np.ndarray, "terms ..."]:
    """Chebyshev coefficients of an even function of the distance, up to rounding.

    Args:
        function: Distances ``(points,)`` in Å to values ``(points, ...)``.
        reach: Largest distance in Å.

    Raises:
        ValueError: If 256 terms do not suffice: the density is too narrow for its range.
    """
    for terms in (32, 64, 128, 256):
        # whole multiples of a quarter of the period, reduced before they meet rounding
        multiples = np.arange(terms)[:, None] * (2 * np.arange(terms) + 1) % (4 * terms)
        cosines = np.cos(np.pi * multiples / (2 * terms))
        values = function(reach * np.sqrt(0.5 * (1 + cosines[1])))
        series = np.tensordot(cosines, values, axes=1) * 2 / terms
        series[0] *= 0.5
        small = np.abs(series) <= 1e-15 * np.abs(values).max(axis=0)
        last = int(np.flatnonzero(~small.reshape(terms, -1).all(axis=1))[-1])
        if last < 0.8 * terms:
            return series[: last + 1]
    raise ValueError(
        f"a density this narrow cannot be tabulated up to {reach} Å: use a larger width or a "
        "smaller cutoff"
    )


def evaluate_series(
    series: np.ndarray, square: Float[Array, " pairs"], reach: float
) -> Float[Array, "pairs *functions"]:
    """Values of Chebyshev series.

    Args:
        series: Coefficients ``(terms, *functions)``.
        square: Squared distances in Å², at most those of the reach.
        reach: Largest distance in Å.
    """
    x = 2.0 * square / reach**2 - 1.0
    table = jnp.stack([jnp.ones_like(x), x], axis=-1)
    while table.shape[-1] < len(series):  # doubled each time: far fewer steps than one by one
        last = table[:, -1:]
        table = jnp.concatenate([table, 2.0 * last * table[:, 1:] - table[:, -2::-1]], axis=-1)
    table = table[:, : len(series)]
    return jnp.tensordot(table, jnp.asarray(series, table.dtype), axes=1)
