"""Smooth cutoff functions: 1 at distance zero (or up to an onset), 0 from the cutoff on.

Distances and cutoffs are in Å, values without unit. All are differentiable everywhere, with finite
derivatives at and beyond the cutoff; how many of those vanish at the cutoff is said at each.
"""

import jax
import jax.numpy as jnp

from jaxff.types import Array, Float

__all__ = ["bump", "cosine", "polynomial", "smooth_switching", "smoothstep", "switching"]


def cosine(distances: Float[Array, "*shape"], cutoff: float) -> Float[Array, "*shape"]:
    r"""Half a cosine, :math:`\tfrac12[\cos(\pi r/r_c) + 1]`; the first derivative vanishes.

    Reference:
        Behler & Parrinello, Phys. Rev. Lett. 98, 146401 (2007),
        doi:10.1103/PhysRevLett.98.146401.
    """
    return 0.5 * (jnp.cos(jnp.pi * _scaled(distances, cutoff)) + 1.0)


def polynomial(
    distances: Float[Array, "*shape"], cutoff: float, power: int = 6
) -> Float[Array, "*shape"]:
    r"""Polynomial that stays flat near zero; two derivatives vanish at the cutoff.

    With :math:`x = r/r_c`: :math:`1 - \tfrac{(p+1)(p+2)}{2} x^p + p(p+2)\,x^{p+1} -
    \tfrac{p(p+1)}{2} x^{p+2}`.

    Raises:
        ValueError: If the power is below 1.
    Reference:
        Gasteiger, Groß & Günnemann, International Conference on Learning Representations (2020),
        arXiv:2003.03123, eq. 8.
    """
    if power < 1:
        raise ValueError(f"power must be at least 1, got {power}")
    x, p = _scaled(distances, cutoff), power
    inner = (p + 1) * (p + 2) / 2 - p * (p + 2) * x + p * (p + 1) / 2 * x**2
    return 1.0 - x**p * inner


def smoothstep(distances: Float[Array, "*shape"], cutoff: float) -> Float[Array, "*shape"]:
    r"""Quintic :math:`1 - 10x^3 + 15x^4 - 6x^5` of :math:`x = r/r_c`; two derivatives vanish.

    Reference:
        Unke & Meuwly, J. Chem. Theory Comput. 15, 3678 (2019), doi:10.1021/acs.jctc.9b00181.
    """
    return _quintic(_scaled(distances, cutoff))


def bump(distances: Float[Array, "*shape"], cutoff: float) -> Float[Array, "*shape"]:
    r"""Bump :math:`\exp[-r^2/((r_c - r)(r_c + r))]`; all derivatives vanish at the cutoff.

    Reference:
        Unke et al., Nat. Commun. 12, 7273 (2021), doi:10.1038/s41467-021-27504-0.
    """
    _positive(cutoff)
    inside = jnp.abs(distances) < cutoff
    safe = jnp.where(inside, distances, 0.0)
    value = jnp.exp(-(safe**2) / ((cutoff - safe) * (cutoff + safe)))
    return jnp.where(inside, value, 0.0)


def switching(
    distances: Float[Array, "*shape"], onset: float, cutoff: float
) -> Float[Array, "*shape"]:
    r"""1 up to the onset, 0 from the cutoff on; two derivatives vanish at both ends.

    Between them the quintic :math:`1 - 10t^3 + 15t^4 - 6t^5` of :math:`t = (r - r_{on})/(r_c -
    r_{on})`, as in classical molecular dynamics codes.

    Raises:
        ValueError: Unless 0 <= onset < cutoff.
    Reference:
        Eastman et al., PLOS Comput. Biol. 13, e1005659 (2017), doi:10.1371/journal.pcbi.1005659
        (OpenMM, whose switching function this is).
    """
    return _quintic(jnp.clip(_progress(distances, onset, cutoff), 0.0, 1.0))


def smooth_switching(
    distances: Float[Array, "*shape"], onset: float, cutoff: float
) -> Float[Array, "*shape"]:
    r"""1 up to the onset, 0 from the cutoff on; all derivatives vanish at both ends.

    Between them :math:`\sigma(1 - t)/[\sigma(1 - t) + \sigma(t)]` with :math:`\sigma(x) =
    e^{-1/x}` and :math:`t = (r - r_{on})/(r_c - r_{on})`.

    Raises:
        ValueError: Unless 0 <= onset < cutoff.
    Reference:
        Unke et al., Nat. Commun. 12, 7273 (2021), doi:10.1038/s41467-021-27504-0.
    """
    t = _progress(distances, onset, cutoff)
    # Within this margin the function differs from 0 or 1 by less than exp(-126), and the fractions
    # below would lose their derivatives.
    margin = 1.0 / 128.0
    between = (t > margin) & (t < 1.0 - margin)
    safe = jnp.where(between, t, 0.5)
    value = jax.nn.sigmoid(1.0 / safe - 1.0 / (1.0 - safe))
    return jnp.where(between, value, jnp.where(t < 0.5, 1.0, 0.0))


def _progress(distances: Array, onset: float, cutoff: float) -> Array:
    """0 at the onset, 1 at the cutoff."""
    _positive(cutoff)
    if not 0.0 <= onset < cutoff:
        raise ValueError(f"onset must be from 0 to below the cutoff, {cutoff} Å; got {onset} Å")
    return (distances - onset) / (cutoff - onset)


def _quintic(x: Array) -> Array:
    return 1.0 - x**3 * (10.0 + x * (6.0 * x - 15.0))


def _scaled(distances: Array, cutoff: float) -> Array:
    """Distances in units of the cutoff; 1 beyond it, without derivative."""
    _positive(cutoff)
    return jnp.where(distances < cutoff, distances / cutoff, 1.0)


def _positive(cutoff: float) -> None:
    if not 0.0 < cutoff < float("inf"):
        raise ValueError(f"cutoff must be a positive number in Å, got {cutoff}")
