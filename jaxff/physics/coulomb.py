r"""Electrostatics of partial charges, with the singularity taken out at short range.

Charges may come from anywhere, also from a network: derivatives flow through them. An interaction
is a function of the distance in Å that gives the energy of two unit charges in units of
:math:`e^2/(4 \pi\epsilon_0)`, in 1/Å; its other arguments are bound by :func:`functools.partial`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxff import units
from jaxff.neighbors import Pairs
from jaxff.physics.sums import pair_sums
from jaxff.radial.cutoffs import smooth_switching
from jaxff.system import System
from jaxff.types import Array, Float

__all__ = ["coulomb_energies", "erf_damped", "shifted_force", "softened"]

Interaction = Callable[[Array], Array]


def coulomb_energies(
    charges: Float[Array, " atoms"],
    system: System,
    pairs: Pairs | None,
    interaction: Interaction,
    *,
    constant: float = units.COULOMB,
) -> Float[Array, " atoms"]:
    r"""Electrostatic energy of each atom in eV, :math:`\frac{k}{2} \sum_j q_i q_j v(r_{ij})`.

    Args:
        charges: Partial charges in e.
        system: A single system or a pack.
        pairs: Within the cutoff of the interaction; ``None`` for every two atoms of one molecule.
        interaction: Such as ``functools.partial(erf_damped, width=4.0)``.
        constant: :math:`e^2/(4\pi\epsilon_0)` in eV Å; models fitted with other values of the
            constants of nature keep theirs.

    Raises:
        ValueError: If all pairs of a periodic system are asked for, or pairs of a stack.
    """

    def energy(distances: Array, first: Array, second: Array) -> Array:
        return constant * first * second * interaction(distances)

    return pair_sums(energy, system, pairs, charges)


def erf_damped(
    distances: Float[Array, "*shape"], *, width: float, cutoff: float | None = None
) -> Float[Array, "*shape"]:
    r"""Interaction of two Gaussian charges, :math:`\operatorname{erf}(r/\sigma)/r`, in 1/Å.

    With a cutoff the energy is shifted to zero there; from 0.45 of the cutoff on a smooth function
    leads over to the form whose force is shifted too.

    Args:
        distances: In Å, above 0.
        width: σ in Å.
        cutoff: In Å; ``None`` for none.

    Raises:
        ValueError: For a width or a cutoff that is not positive.
    Reference:
        Kabylda et al., J. Am. Chem. Soc. 147, 33723 (2025) (SO3LR).
    """
    if not 0.0 < width < float("inf"):
        raise ValueError(f"width must be a positive number in Å, got {width}")

    def bare(r: Array) -> Array:
        return jax.scipy.special.erf(r / width) / r

    if cutoff is None:
        return bare(distances)
    inside = distances < cutoff
    near = jnp.where(inside, distances, cutoff)
    last, slope = _edge(bare, cutoff, distances.dtype)
    weight = smooth_switching(near, 0.45 * cutoff, cutoff)
    return jnp.where(inside, bare(near) - last - (1.0 - weight) * slope * (near - cutoff), 0.0)


def softened(
    distances: Float[Array, "*shape"], *, reach: float, cutoff: float | None = None
) -> Float[Array, "*shape"]:
    r"""Point charges that are softened at short range, in 1/Å.

    :math:`f(r)/\sqrt{r^2 + 1\,\mathrm{Å}^2} + [1 - f(r)]/r` with a smooth f that falls from 1 at a
    quarter of the reach to 0 at three quarters. With a cutoff energy and force of both parts are
    shifted to zero there.

    Args:
        distances: In Å.
        reach: Of the short-range part of the model, Å.
        cutoff: In Å, at least the reach; ``None`` for none.

    Raises:
        ValueError: For a reach or a cutoff that is not positive, or a cutoff below the reach.
    Reference:
        Unke et al., Nat. Commun. 12, 7273 (2021), doi:10.1038/s41467-021-27504-0 (SpookyNet).
    """
    if cutoff is not None and not reach <= cutoff:
        raise ValueError(f"cutoff must be at least the reach, {reach} Å; got {cutoff} Å")
    weight = smooth_switching(distances, 0.25 * reach, 0.75 * reach)

    def soft(r: Array) -> Array:
        return 1.0 / jnp.sqrt(r * r + 1.0)

    def bare(r: Array) -> Array:
        return 1.0 / r

    parts = [f if cutoff is None else shifted_force(f, cutoff) for f in (soft, bare)]
    # Where it does not count, the second part is kept finite, also at a distance of zero.
    far = jnp.maximum(distances, 0.25 * reach)
    return weight * parts[0](distances) + (1.0 - weight) * parts[1](far)


def shifted_force(interaction: Interaction, cutoff: float) -> Interaction:
    r"""The interaction with its energy and its force shifted to zero at a cutoff in Å.

    :math:`v(r) - v(r_c) - (r - r_c)\,v'(r_c)`.

    Reference:
        Fennell & Gezelter, J. Chem. Phys. 124, 234104 (2006), doi:10.1063/1.2206581.
    """

    def shifted(distances: Array) -> Array:
        inside = distances < cutoff
        near = jnp.where(inside, distances, cutoff)
        last, slope = _edge(interaction, cutoff, distances.dtype)
        return jnp.where(inside, interaction(near) - last - slope * (near - cutoff), 0.0)

    return shifted


def _edge(interaction: Interaction, cutoff: float, dtype: jnp.dtype) -> tuple[Array, Array]:
    """Value and slope at the cutoff."""
    if not 0.0 < cutoff < float("inf"):
        raise ValueError(f"cutoff must be a positive number in Å, got {cutoff}")
    return jax.jvp(interaction, (jnp.asarray(cutoff, dtype),), (jnp.ones((), dtype),))
