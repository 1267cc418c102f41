"""What a message-passing module sees of atoms and their neighbours."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxff.neighbors import Pairs, displacements, sum_pairs
from jaxff.numerics import safe_norm
from jaxff.system import System
from jaxff.types import Array, Bool, Float

__all__ = ["Graph", "graph"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Graph:
    """Pairs within one cutoff, with their geometry in the precision of the network.

    Attributes:
        pairs: The directed pairs, sorted by center.
        vectors: From each center to its neighbour, Å; a harmless constant for padding.
        distances: Their lengths, Å.
        mask: True where the pair is real.
    """

    pairs: Pairs
    vectors: Float[Array, "pairs 3"]
    distances: Float[Array, " pairs"]
    mask: Bool[Array, " pairs"]

    def at_centers(self, per_atom: Float[Array, "atoms *rest"]) -> Float[Array, "pairs *rest"]:
        """Values of the center of each pair; padding takes those of the last atom."""
        return jnp.take(per_atom, self.pairs.centers, axis=0, mode="clip")

    def at_others(self, per_atom: Float[Array, "atoms *rest"]) -> Float[Array, "pairs *rest"]:
        """Values of the neighbour of each pair; padding takes those of the last atom."""
        return jnp.take(per_atom, self.pairs.others, axis=0, mode="clip")

    def masked(self, per_pair: Float[Array, "pairs *rest"]) -> Float[Array, "pairs *rest"]:
        """Zero for padding."""
        mask = self.mask.reshape(self.mask.shape + (1,) * (per_pair.ndim - 1))
        return jnp.where(mask, per_pair, 0)

    def sum(self, per_pair: Float[Array, "pairs *rest"]) -> Float[Array, "atoms *rest"]:
        """Sum over the neighbours of each atom; padding must contribute zero."""
        return sum_pairs(self.pairs, per_pair)


def graph(system: System, pairs: Pairs, dtype: Any) -> Graph:
    """Geometry of the pairs, differences taken before the cast so that no digits are lost."""
    vectors, mask = displacements(system, pairs)
    vectors = vectors.astype(dtype)
    return Graph(pairs, vectors, safe_norm(vectors), mask)
