r"""Distances with dihedrals: what tells a molecule of few beads from its mirror image.

Distances are the same in the mirror. For beads without a centre that others surround, as the
backbone of a peptide alone, a function of distances gives :math:`(\varphi,\psi)` and
:math:`(-\varphi,-\psi)` the same energy.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from jaxff.descriptors.distances import pair_distances
from jaxff.descriptors.internal import internal
from jaxff.system import System
from jaxff.types import Array, Float

__all__ = ["ChiralDistances", "chiral_distances"]


@dataclass(frozen=True)
class ChiralDistances:
    r"""Descriptor :math:`d_{ab}^{\,p}` of all pairs, then :math:`w` times dihedrals.

    Dihedrals enter as :math:`\sin\theta_1\sin\theta_2(\cos\varphi, \sin\varphi)`, see
    :class:`jaxff.descriptors.InternalCoordinates`; their sines change sign in the mirror.

    Attributes:
        dihedrals: Quadruples of beads in a chain.
        weight: Weight w of the dihedrals, in Å to the power ``power``.
        power: Power p of distances in Å.
    """

    dihedrals: tuple[tuple[int, int, int, int], ...]
    weight: float = 1.0
    power: float = -1.0
    smoothness = math.inf

    def __call__(self, system: System, neighbors: Any = None) -> Float[Array, " features"]:
        """Features of one system."""
        del neighbors  # all pairs are used
        distances, real = pair_distances(system)
        turns = internal(dihedrals=self.dihedrals)(system)
        return jnp.concatenate([jnp.where(real, distances**self.power, 0.0), self.weight * turns])


def chiral_distances(
    dihedrals: Sequence[Sequence[int]], *, weight: float = 1.0, power: float = -1.0
) -> ChiralDistances:
    """Distances and dihedrals of given beads; see :class:`ChiralDistances`.

    Raises:
        ValueError: For dihedrals that are not four different beads each, or none, and a weight or
            power of zero.
    """
    listed = internal(dihedrals=dihedrals).dihedrals
    if not (math.isfinite(weight) and math.isfinite(power) and weight != 0 and power != 0):
        raise ValueError(f"weight and power must be numbers other than 0, got {weight} and {power}")
    return ChiralDistances(listed, float(weight), float(power))
