"""Functions of all interatomic distances: powers, logarithms, exponentials.

All diverge where two atoms coincide, but for exponentials and positive powers, which have a kink
there. Pairs with a padding atom (number 0) give zero.
"""

import math
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxff.cell import minimum_image
from jaxff.descriptors.inverse_distances import pair_index
from jaxff.numerics import safe_norm
from jaxff.system import System
from jaxff.types import Array, Bool, Float

__all__ = [
    "DistancePowers",
    "ExponentialDistances",
    "LogDistances",
    "distance_powers",
    "exponential_distances",
    "log_distances",
    "pair_distances",
]


def pair_distances(system: System) -> tuple[Float[Array, " pairs"], Bool[Array, " pairs"]]:
    """Distances in Å, lower triangle row by row, and True where both atoms are real.

    Pairs with padding get 1 Å. With a cell, displacements are taken to the minimum image: exact for
    orthogonal or well reduced cells, with a kink where a pair crosses half a cell.

    Raises:
        ValueError: For a stack or a pack.
    """
    if system.batch_shape or system.is_packed:
        raise ValueError(
            "distances of all pairs are those of one system: use jax.vmap for the stack of shape "
            f"{system.batch_shape}"
        )
    rows, columns = np.tril_indices(system.atom_count, -1)
    vectors = system.positions[rows] - system.positions[columns]
    if system.cell is not None:
        pbc = jnp.ones(3, bool) if system.pbc is None else system.pbc
        vectors = minimum_image(vectors, system.cell, pbc)
    real = (system.numbers[rows] > 0) & (system.numbers[columns] > 0)
    harmless = jnp.asarray([0.6, 0.0, 0.8], vectors.dtype)
    return safe_norm(jnp.where(real[:, None], vectors, harmless)), real


class _Pairwise:
    """What all functions of single distances share; see ``InverseDistances``."""

    smoothness = math.inf

    def pairs(self, atoms: int) -> tuple[np.ndarray, np.ndarray]:
        """The two atoms on whose displacement alone each feature depends."""
        return np.tril_indices(atoms, -1)

    def permute(self, permutations: np.ndarray) -> np.ndarray:
        """Feature indices ``(perms, pairs)`` of permuted atoms: ``x(r[p]) = x(r)[permute(p)]``."""
        rows, columns = np.tril_indices(permutations.shape[-1], -1)
        table = pair_index(permutations.shape[-1])
        return table[permutations[..., rows], permutations[..., columns]]


@dataclass(frozen=True)
class DistancePowers(_Pairwise):
    r"""Descriptor :math:`x_{ab} = d_{ab}^{\,p}` of all pairs, in Å to the power ``power``.

    With :math:`p = -1` these are the inverse distances, for which ``inverse_distances`` is the
    shorter name.

    Reference:
        Schmitz, Müller & Chmiela, J. Phys. Chem. Lett. 13, 10183 (2022),
        doi:10.1021/acs.jpclett.2c02632.
    """

    name = "distance_powers"

    def __call__(
        self, system: System, neighbors: Any = None, *, power: Float[Array, ""] | float
    ) -> Float[Array, " pairs"]:
        """Features of one system, lower triangle row by row."""
        del neighbors  # all pairs are used
        distances, real = pair_distances(system)
        return jnp.where(real, distances**power, 0.0)


@dataclass(frozen=True)
class LogDistances(_Pairwise):
    r"""Descriptor :math:`x_{ab} = \ln(d_{ab}/\text{Å})` of all pairs."""

    name = "log_distances"

    def __call__(self, system: System, neighbors: Any = None) -> Float[Array, " pairs"]:
        """Features of one system, lower triangle row by row."""
        del neighbors  # all pairs are used
        distances, real = pair_distances(system)
        return jnp.where(real, jnp.log(distances), 0.0)


@dataclass(frozen=True)
class ExponentialDistances(_Pairwise):
    r"""Descriptor :math:`x_{ab} = \exp(-d_{ab}/\lambda)` of all pairs, with ``decay`` λ in Å."""

    name = "exponential_distances"
    smoothness = 0  # a cone where atoms coincide

    def __call__(
        self, system: System, neighbors: Any = None, *, decay: Float[Array, ""] | float
    ) -> Float[Array, " pairs"]:
        """Features of one system, lower triangle row by row."""
        del neighbors  # all pairs are used
        distances, real = pair_distances(system)
        return jnp.where(real, jnp.exp(-distances / decay), 0.0)


distance_powers = DistancePowers()
log_distances = LogDistances()
exponential_distances = ExponentialDistances()
