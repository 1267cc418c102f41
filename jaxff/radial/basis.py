"""Radial bases: sets of functions of the distance between two atoms.

Each takes distances ``(*shape)`` in Å and explicit parameters, and returns ``(*shape, functions)``.
All are smooth at distance zero and none ends by itself: a cutoff function does that, see
:mod:`jaxff.radial.cutoffs`. Small functions give the usual parameters.
"""

import math

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxff.types import Array, Float

__all__ = [
    "bernstein",
    "bessel",
    "bessel_frequencies",
    "gaussian",
    "gaussian_centers",
    "physnet",
    "physnet_centers",
]

_Values = Float[Array, " functions"] | Float[np.ndarray, " functions"]
_Table = tuple[Float[np.ndarray, " functions"], Float[np.ndarray, " functions"]]


def gaussian(
    distances: Float[Array, "*shape"],
    centers: _Values,
    widths: _Values,
) -> Float[Array, "*shape functions"]:
    r"""Bells :math:`\exp[-(r - \mu_k)^2 / 2\sigma_k^2]`; centres and widths in Å.

    The :math:`\gamma` of the paper is :math:`1/2\sigma^2`.

    Reference:
        Schütt et al., Adv. Neural Inf. Process. Syst. 30 (2017), arXiv:1706.08566.
    """
    scaled = (distances[..., None] - centers) / widths
    return jnp.exp(-0.5 * scaled**2)


def gaussian_centers(end: float, count: int, start: float = 0.0) -> _Table:
    """Evenly spaced centres and, as their width, the spacing; in Å.

    Raises:
        ValueError: If there are fewer than two, or the range is empty.
    """
    _at_least(count, 2)
    if not start < end < math.inf:
        raise ValueError(f"centres need a range in Å, got {start} to {end}")
    centers = np.linspace(start, end, count)
    return centers, np.full(count, centers[1] - centers[0])


def bessel(
    distances: Float[Array, "*shape"], frequencies: _Values
) -> Float[Array, "*shape functions"]:
    r"""Spherical waves :math:`\sin(\omega_k r)/r` in 1/Å; frequencies in 1/Å.

    Reference:
        Schütt, Unke & Gastegger, Proc. Mach. Learn. Res. 139, 9377 (2021), arXiv:2102.03150;
        Gasteiger, Groß & Günnemann, arXiv:2003.03123, eq. 7, whose functions are
        :math:`\sqrt{2/r_c}` times these.
    """
    return jnp.asarray(frequencies) * jnp.sinc(distances[..., None] * (frequencies / np.pi))


def bessel_frequencies(cutoff: float, count: int) -> Float[np.ndarray, " functions"]:
    r"""Frequencies :math:`k\pi/r_c` in 1/Å of waves that vanish at the cutoff, k from 1 on.

    Raises:
        ValueError: If there are none, or the cutoff is not positive.
    """
    _at_least(count, 1)
    _positive("cutoff", cutoff)
    return np.arange(1, count + 1) * (np.pi / cutoff)


def bernstein(
    distances: Float[Array, "*shape"], decay: Float[Array, ""] | float, count: int
) -> Float[Array, "*shape functions"]:
    r"""Bernstein polynomials :math:`\binom{K-1}{k} u^k (1-u)^{K-1-k}` of :math:`u = e^{-\gamma r}`.

    They are positive, add up to 1, and the last is the only one that does not vanish at r = 0.

    Args:
        distances: Distances in Å.
        decay: :math:`\gamma` in 1/Å.
        count: Their number K.

    Raises:
        ValueError: For more than 64, which single precision does not resolve, or none.
    Reference:
        Unke et al., Nat. Commun. 12, 7273 (2021), doi:10.1038/s41467-021-27504-0.
    """
    _at_least(count, 1)
    if count > 64:
        raise ValueError(f"count must be at most 64, got {count}: powers leave single precision")
    last = count - 1
    decayed = jnp.exp(-decay * distances)
    rest = -jnp.expm1(-decay * distances)
    # Whole powers rather than logarithms, which have no derivative where u is 0 or 1.
    terms = [
        lax.integer_pow(decayed, k) * lax.integer_pow(rest, last - k) * float(math.comb(last, k))
        for k in range(count)
    ]
    return jnp.stack(terms, axis=-1)


def physnet(
    distances: Float[Array, "*shape"],
    centers: _Values,
    widths: _Values,
    decay: Float[Array, ""] | float = 1.0,
) -> Float[Array, "*shape functions"]:
    r"""Bells of an exponential, :math:`\exp[-\beta_k (e^{-\alpha r} - \mu_k)^2]`.

    Args:
        distances: Distances in Å.
        centers: :math:`\mu_k`, between 0 and 1.
        widths: :math:`\beta_k`, without unit: large is narrow.
        decay: :math:`\alpha` in 1/Å.

    Reference:
        Unke & Meuwly, J. Chem. Theory Comput. 15, 3678 (2019), doi:10.1021/acs.jctc.9b00181.
    """
    return jnp.exp(-widths * (jnp.exp(-decay * distances)[..., None] - centers) ** 2)


def physnet_centers(cutoff: float, count: int, decay: float = 1.0) -> _Table:
    r"""Centres from :math:`u = e^{-\alpha r_c}` to 1, and :math:`\beta = [2(1-u)/K]^{-2}`.

    Raises:
        ValueError: If there are none, or cutoff or decay are not positive.
    """
    _at_least(count, 1)
    _positive("cutoff", cutoff)
    _positive("decay", decay)
    last = math.exp(-decay * cutoff)
    return np.linspace(last, 1.0, count), np.full(count, (2.0 / count * (1.0 - last)) ** -2)


def _at_least(count: int, least: int) -> None:
    if count < least:
        raise ValueError(f"expected at least {least} radial functions, got {count}")


def _positive(name: str, value: float) -> None:
    if not 0.0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value}")
