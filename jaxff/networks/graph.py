"""What a message-passing module sees of atoms and their neighbours."""

import functools
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.neighbors import Pairs, displacements, sum_pairs
from jaxff.numerics import safe_norm
from jaxff.system import System
from jaxff.types import Array, Bool, Float, Int

__all__ = ["Edges", "Graph", "all_pairs", "graph"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Edges:
    """Each pair of neighbours once, with its geometry in the precision of the network.

    Functions of the distance alone are the same in both directions: they cost half. Sums run over
    sorted or scattered rows, which on a CPU is faster than a dense reduction.

    Attributes:
        first: Index of the one atom, sorted; that of the last atom for padding.
        second: Index of the other, likewise; it may be the same atom, as its own image.
        vectors: From the first to the second, Å; a harmless constant for padding.
        distances: Their lengths, Å.
        mask: True where the edge is real.
        atoms: Number of atoms (static).
    """

    first: Int[Array, " edges"]
    second: Int[Array, " edges"]
    vectors: Float[Array, "edges 3"]
    distances: Float[Array, " edges"]
    mask: Bool[Array, " edges"]
    atoms: int = field(metadata={"static": True})

    def at_first(self, per_atom: Float[Array, "atoms *rest"]) -> Float[Array, "edges *rest"]:
        """Values of the first atom of each edge; padding takes those of the last atom."""
        return per_atom.at[self.first].get(mode="promise_in_bounds")

    def at_second(self, per_atom: Float[Array, "atoms *rest"]) -> Float[Array, "edges *rest"]:
        """Values of the second atom of each edge; padding takes those of the last atom."""
        return per_atom.at[self.second].get(mode="promise_in_bounds")

    def sum(
        self, to_first: Float[Array, "edges *rest"], to_second: Float[Array, "edges *rest"]
    ) -> Float[Array, "atoms *rest"]:
        """Sum of what each atom receives from its neighbours; padding must contribute zero."""
        add = functools.partial(
            jax.ops.segment_sum,
            num_segments=self.atoms,
            mode=jax.lax.GatherScatterMode.PROMISE_IN_BOUNDS,
        )
        return add(to_first, self.first, indices_are_sorted=True) + add(to_second, self.second)

    def at_receivers(self, per_atom: Float[Array, "atoms *rest"]) -> Float[Array, "2 edges *rest"]:
        """Values of the atom that receives: the first of each edge, then the second."""
        return self._at(per_atom, jnp.stack([self.first, self.second]))

    def at_senders(self, per_atom: Float[Array, "atoms *rest"]) -> Float[Array, "2 edges *rest"]:
        """Values of the other atom: the second of each edge, then the first."""
        return self._at(per_atom, jnp.stack([self.second, self.first]))

    def sum_received(self, sent: Float[Array, "2 edges *rest"]) -> Float[Array, "atoms *rest"]:
        """Sum of what each atom receives, in the order of :meth:`at_receivers`, at one go."""
        index = jnp.concatenate([self.first, self.second])
        return jax.ops.segment_sum(
            sent.reshape(-1, *sent.shape[2:]),
            index,
            num_segments=self.atoms,
            mode=jax.lax.GatherScatterMode.PROMISE_IN_BOUNDS,
        )

    def _at(self, per_atom: Array, index: Array) -> Array:
        return per_atom.at[index].get(mode="promise_in_bounds")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Graph:
    """Pairs within one cutoff, with their geometry in the precision of the network.

    Compiled code computes only what a module uses: directed pairs, or edges.

    Attributes:
        pairs: The directed pairs, sorted by center.
        vectors: From each center to its neighbour, Å; a harmless constant for padding.
        distances: Their lengths, Å.
        mask: True where the pair is real.
        edges: The same pairs, each once.
    """

    pairs: Pairs
    vectors: Float[Array, "pairs 3"]
    distances: Float[Array, " pairs"]
    mask: Bool[Array, " pairs"]
    edges: Edges

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
    return Graph(pairs, vectors, safe_norm(vectors), mask, _edges(system, pairs, mask, dtype))


def _edges(system: System, pairs: Pairs, mask: Bool[Array, " pairs"], dtype: Any) -> Edges:
    """One direction of each pair: towards the later atom, or, of images, the later cell."""
    sign = pairs.shifts[:, 2]
    for axis in (1, 0):
        sign = jnp.where(pairs.shifts[:, axis] == 0, sign, pairs.shifts[:, axis])
    itself = pairs.others == pairs.centers
    chosen = mask & jnp.where(itself, sign > 0, pairs.others > pairs.centers)
    # Both directions are listed, so that half the room is enough.
    room = max(1, pairs.room // 2)
    place = jnp.cumsum(chosen) - 1
    target = jnp.where(chosen, place, room)
    index = jnp.full(room, len(pairs.others), jnp.int32)
    index = index.at[target].set(jnp.arange(len(chosen), dtype=jnp.int32), mode="drop")
    once = Pairs(
        jnp.take(pairs.centers, index, mode="fill", fill_value=pairs.atoms),
        jnp.take(pairs.others, index, mode="fill", fill_value=pairs.atoms),
        jnp.take(pairs.shifts, index, axis=0, mode="fill", fill_value=0),
        pairs.atoms,
    )
    vectors, real = displacements(system, once)
    vectors = vectors.astype(dtype)
    last = pairs.atoms - 1
    first, second = jnp.minimum(once.centers, last), jnp.minimum(once.others, last)
    return Edges(first, second, vectors, safe_norm(vectors), real, pairs.atoms)


def all_pairs(system: System) -> Pairs:
    """Every two real atoms of one structure, both directions, in rows; of molecules only.

    In a pack the atoms of other structures take slots too: stacks, or a list with a long cutoff,
    are faster for many molecules.

    Raises:
        ValueError: If the system is periodic: the images of an atom are without number.
    """
    if system.cell is not None:
        raise ValueError(
            "without a cutoff only molecules can be computed, and this system has a cell: give the "
            "network a cutoff, or remove the cell"
        )
    atoms = system.atom_count
    width = max(atoms - 1, 1)
    centers = np.repeat(np.arange(atoms, dtype=np.int32), width)
    others = np.tile(np.arange(width, dtype=np.int32), atoms)
    others = jnp.asarray(np.minimum(others + (others >= centers), atoms))
    safe = jnp.minimum(others, atoms - 1)
    real = (others < atoms) & (system.numbers[centers] > 0) & (system.numbers[safe] > 0)
    if system.structure is not None:
        real &= system.structure[centers] == system.structure[safe]
    others = jnp.where(real, others, atoms)
    return Pairs(
        jnp.asarray(centers), others, jnp.zeros((len(centers), 3), jnp.int32), atoms, width
    )
