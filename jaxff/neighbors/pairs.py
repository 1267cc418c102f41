"""Pairs of atoms as integers, and what compiled code makes of them."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.system import System
from jaxff.types import Array, Bool, Float, Int

__all__ = ["Neighbors", "Pairs", "displacements", "sum_pairs"]


@dataclass(frozen=True)
class Pairs:
    """Directed pairs of atoms, sorted by center; padding has ``others == atoms``, past the last.

    Attributes:
        centers: Index of the atom that has the neighbour. Padding of a list without rows is at its
            end and has ``atoms`` here too.
        others: Index of the neighbour.
        shifts: Lattice vectors from the neighbour to the image that is meant.
        atoms: Number of atoms of the system that the list belongs to (static).
        width: Slots of each atom (static) if the list has rows: pair ``i * width + k`` is the k-th
            of atom i. ``None`` if atoms have only as many pairs as they need.
        most: Largest number of real pairs (static), where a list with rows promises fewer than it
            has slots; whoever makes the list sees to it.
    """

    centers: Int[Array, "*batch pairs"]
    others: Int[Array, "*batch pairs"]
    shifts: Int[Array, "*batch pairs 3"]
    atoms: int
    width: int | None = None
    most: int | None = None

    @property
    def room(self) -> int:
        """The number of pairs that there can be."""
        slots = self.others.shape[-1]
        return slots if self.most is None else min(self.most, slots)

    def resized(self, room: int) -> "Pairs":
        """The pairs in buffers of this length, or as they are if they have more: outside ``jit``.

        Buffers of the same length run the same compiled program. None is shorter than one pair.
        """
        real = np.flatnonzero(np.asarray(self.others) < self.atoms)
        if len(real) > room or room < 1:
            return self
        grow = room - len(real)
        centers, others, shifts = (
            np.asarray(x)[real] for x in (self.centers, self.others, self.shifts)
        )
        return Pairs(
            jnp.asarray(np.pad(centers, (0, grow), constant_values=self.atoms)),
            jnp.asarray(np.pad(others, (0, grow), constant_values=self.atoms)),
            jnp.asarray(np.pad(shifts, ((0, grow), (0, 0)))),
            self.atoms,
        )


@dataclass(frozen=True)
class Neighbors:
    """One list of pairs per cutoff.

    Attributes:
        pairs: The lists, in the order of ``cutoffs``.
        overflow: True if a list has no room for all pairs, or was made in a way that no longer
            finds all of them; results are then wrong, allocate again.
        cutoffs: Radii in Å (static).
        skins: Margin in Å by which each list reaches beyond its cutoff (static).
        plan: How to renew the lists inside compiled code (static, hashable), if they were made by
            :func:`jaxff.dynamics.neighbor_update.allocate`.
    """

    pairs: tuple[Pairs, ...]
    overflow: Bool[Array, "*batch"]
    cutoffs: tuple[float, ...]
    skins: tuple[float, ...]
    plan: Any = None

    def within(self, cutoff: float) -> Pairs:
        """The pairs for a cutoff in Å.

        With a skin there are also some beyond it, which the caller's cutoff function removes.

        Raises:
            ValueError: If there is no list for this cutoff.
        """
        if cutoff not in self.cutoffs:
            raise ValueError(
                f"no neighbor list for a cutoff of {cutoff} Å: available are {self.cutoffs} Å; "
                "allocate with neighbor_list(energy_fn.cutoffs)"
            )
        return self.pairs[self.cutoffs.index(cutoff)]


def _register(cls: type, data: tuple[str, ...], static: tuple[str, ...]) -> None:
    """Register as a pytree that is rebuilt without ``__init__``: JAX fills in placeholders."""

    def flatten(node):
        return [getattr(node, n) for n in data], tuple(getattr(node, n) for n in static)

    def flatten_with_keys(node):
        leaves, aux = flatten(node)
        return [(jax.tree_util.GetAttrKey(n), v) for n, v in zip(data, leaves, strict=True)], aux

    def unflatten(aux, leaves):
        node = object.__new__(cls)
        for name, value in zip((*data, *static), (*leaves, *aux), strict=True):
            object.__setattr__(node, name, value)
        return node

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)


_register(Pairs, ("centers", "others", "shifts"), ("atoms", "width", "most"))
_register(Neighbors, ("pairs", "overflow"), ("cutoffs", "skins", "plan"))


def displacements(
    system: System, pairs: Pairs
) -> tuple[Float[Array, "pairs 3"], Bool[Array, " pairs"]]:
    """Vectors in Å from each center to its neighbour's image, and True where the pair is real.

    Padding gives a constant vector of length 1 Å: whatever is computed from it is finite and has
    zero gradient, and ``jnp.where(mask, ..., 0)`` drops it. Coincident atoms give the null vector.

    Raises:
        ValueError: If the pairs belong to a system of another size, or the system is a stack.
    """
    if system.positions.ndim != 2:
        raise ValueError(
            f"a stack of shape {system.batch_shape} has no common pairs: use pack, or jax.vmap"
        )
    if pairs.atoms != system.atom_count:
        raise ValueError(
            f"the pairs were allocated for {pairs.atoms} atoms, the system has "
            f"{system.atom_count}: allocate neighbors for this system"
        )
    mask = pairs.others < pairs.atoms
    centers = jnp.where(mask, pairs.centers, 0)
    others = jnp.where(mask, pairs.others, 0)
    vectors = system.positions[others] - system.positions[centers]
    if system.cell is not None:
        shifts = pairs.shifts.astype(vectors.dtype)
        if system.structure is None:
            vectors = vectors + shifts @ system.cell
        else:
            cells = system.cell[system.structure[centers]]
            vectors = vectors + jnp.einsum("pa,pab->pb", shifts, cells)
    harmless = jnp.asarray([0.6, 0.0, 0.8], vectors.dtype)
    return jnp.where(mask[:, None], vectors, harmless), mask


def sum_pairs(pairs: Pairs, per_pair: Float[Array, "pairs *rest"]) -> Float[Array, "atoms *rest"]:
    """Sum over the neighbours of each atom; padding must contribute zero."""
    if pairs.width is not None:
        rest = per_pair.shape[1:]
        return jnp.sum(per_pair.reshape(pairs.atoms, pairs.width, *rest), axis=1)
    return jax.ops.segment_sum(per_pair, pairs.centers, pairs.atoms, indices_are_sorted=True)
