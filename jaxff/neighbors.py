"""Neighbour lists: which atoms, and which of their periodic images, lie within a cutoff.

A list is built on the host by vesin and handed to compiled code as integers: both directions of
every pair, and the whole number of lattice vectors to the image. Distances are computed anew from
positions and cell, so that forces and stress flow through them. The number of pairs is padded to a
bucket, so that similar systems share compiled code.

Lists that are made inside compiled code (:mod:`jaxff.dynamics.neighbor_update`) have *rows*: each
atom has the same number of slots, so that a sum over neighbours is a plain reduction. On a CPU that
is several times faster than adding up scattered pairs; :func:`sum_pairs` takes what there is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxff.system import System
from jaxff.types import Array, Bool, Float, Int

__all__ = [
    "NeighborListFns",
    "Neighbors",
    "Pairs",
    "displacements",
    "lists_to_keep",
    "neighbor_list",
    "sum_pairs",
]


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
    """

    centers: Int[Array, "*batch pairs"]
    others: Int[Array, "*batch pairs"]
    shifts: Int[Array, "*batch pairs 3"]
    atoms: int
    width: int | None = None

    def resized(self, room: int) -> "Pairs":
        """The pairs in buffers of this length, or as they are if they have more: outside ``jit``.

        Buffers of the same length run the same compiled program.
        """
        real = np.flatnonzero(np.asarray(self.others) < self.atoms)
        if len(real) > room:
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


_register(Pairs, ("centers", "others", "shifts"), ("atoms", "width"))
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


@dataclass(frozen=True)
class NeighborListFns:
    """How to build neighbour lists; made by :func:`neighbor_list`.

    Attributes:
        cutoffs: Radii in Å.
        skins: Margin in Å beyond each cutoff.
        capacities: Room for pairs, as a multiple of those found at allocation.
    """

    cutoffs: tuple[float, ...]
    skins: tuple[float, ...]
    capacities: tuple[float, ...]

    def allocate(self, system: System) -> Neighbors:
        """Build the lists for a single system or a pack, on the host.

        Padding atoms have no neighbours.

        Raises:
            ValueError: For a stack, for positions or cells that are not finite, and for periodic
                directions whose lattice vectors are empty or dependent.
            TypeError: If called within a traced function, where the number of pairs cannot be
                known.
        """
        structures = _structures(system)
        pairs = tuple(
            _pad([_search(*s, cutoff + skin) for s in structures], capacity, system.atom_count)
            for cutoff, skin, capacity in zip(
                self.cutoffs, self.skins, self.capacities, strict=True
            )
        )
        return Neighbors(pairs, jnp.zeros((), bool), self.cutoffs, self.skins)

    def allocate_stack(self, systems: System) -> Neighbors:
        """Build the lists of all systems of a stack, with rows of one length, on the host.

        Every leaf has the leading axes of the stack, for ``vmap``. Rows have room for the pairs
        that are there.

        Raises:
            ValueError: If it is no stack; otherwise as :meth:`allocate`.
            TypeError: If called within a traced function.
        """
        shape = systems.batch_shape
        if systems.is_packed or not shape:
            raise ValueError(
                f"allocate_stack needs systems with leading axes, got positions of shape "
                f"{systems.positions.shape}: use allocate"
            )
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(systems)):
            raise TypeError("allocate_stack counts pairs on the host: call it outside jit and vmap")
        flat = jax.tree.map(
            lambda leaf: np.asarray(leaf).reshape(-1, *leaf.shape[len(shape) :]), systems
        )
        single = [
            _structures(jax.tree.map(lambda leaf, i=i: leaf[i], flat))[0]
            for i in range(math.prod(shape))
        ]
        pairs = tuple(
            _rows([_search(*s, cutoff + skin) for s in single], shape, systems.atom_count)
            for cutoff, skin in zip(self.cutoffs, self.skins, strict=True)
        )
        return Neighbors(pairs, jnp.zeros(shape, bool), self.cutoffs, self.skins)


def neighbor_list(
    cutoffs: Sequence[float] | float,
    *,
    skin: Sequence[float] | float = 0.0,
    capacity: Sequence[float] | float = 1.25,
) -> NeighborListFns:
    """Prepare neighbour lists for the given cutoffs.

    Args:
        cutoffs: Radii in Å, usually ``energy_fn.cutoffs``; none is allowed and gives empty
            ``Neighbors``.
        skin: Margin in Å by which a list reaches farther, so that it stays valid while atoms move
            less than half of it; one number or one per cutoff.
        capacity: Room for pairs as a multiple of those found, at least 1; one number or one per
            cutoff. The result is rounded up to a bucket (1, 1.25, 1.5 or 1.75 times a power of
            two).

    Raises:
        ValueError: If a cutoff is not positive and finite, a skin negative, a capacity below 1, or
            their number differs from that of the cutoffs.
    """
    radii = tuple(float(c) for c in np.atleast_1d(np.asarray(cutoffs, float)))
    skins = _one_each("skin", skin, len(radii))
    capacities = _one_each("capacity", capacity, len(radii))
    for name, values, least in (("skin", skins, 0.0), ("capacity", capacities, 1.0)):
        if any(not (math.isfinite(v) and v >= least) for v in values):
            raise ValueError(f"{name} must be finite and at least {least}, got {values}")
    if any(not (math.isfinite(c) and c > 0) for c in radii):
        raise ValueError(f"cutoffs must be positive and finite (Å), got {radii}")
    return NeighborListFns(radii, skins, capacities)


def _one_each(name: str, value: Sequence[float] | float, count: int) -> tuple[float, ...]:
    values = np.asarray(value, float)
    if values.ndim == 0:
        return (float(values),) * count
    if values.shape != (count,):
        raise ValueError(f"{name} must be one number or one per cutoff ({count}), got {value}")
    return tuple(values.tolist())


_Structure = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Indices of the real atoms of a structure, their positions, lattice vectors, and pbc."""


def _structures(system: System) -> list[_Structure]:
    """The structures of a system as host arrays, checked."""
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(system)):
        raise TypeError("allocate counts pairs on the host: call it outside jit, grad and vmap")
    if system.positions.ndim != 2:
        raise ValueError(
            f"neighbor lists need a single system or a pack, got a stack of shape "
            f"{system.batch_shape}: use pack"
        )
    positions = np.asarray(system.positions, np.float64)
    real = np.asarray(system.numbers) > 0
    wrong = np.flatnonzero(real & ~np.isfinite(positions).all(axis=1))
    if len(wrong):
        raise ValueError(
            f"positions must be finite: atom {wrong[0]} is at {positions[wrong[0]].tolist()} "
            f"({len(wrong)} such in all)"
        )
    if system.structure is None or system.structure_mask is None:
        cell, pbc = _cell(system, ())
        return [(np.flatnonzero(real), positions[real], cell, pbc)]
    owner = np.asarray(system.structure)
    result = []
    for index in np.flatnonzero(np.asarray(system.structure_mask)):
        atoms = np.flatnonzero(real & (owner == index))
        result.append((atoms, positions[atoms], *_cell(system, (int(index),))))
    return result


def _cell(system: System, index: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Lattice vectors of one structure, null where it does not repeat, and its pbc."""
    if system.cell is None or system.pbc is None:
        return np.zeros((3, 3)), np.zeros(3, bool)
    pbc = np.asarray(system.pbc)[index]
    if not pbc.any():
        return np.zeros((3, 3)), pbc
    # A vector along a direction that does not repeat means nothing here; it may even depend on the
    # others.
    cell = np.where(pbc[:, None], np.asarray(system.cell, np.float64)[index], 0.0)
    vectors = cell[pbc]
    lengths = np.linalg.norm(vectors, axis=1)
    where = f" of structure {index[0]}" if index else ""
    if not np.isfinite(lengths).all():
        raise ValueError(f"the cell{where} must be finite, got {cell.tolist()}")
    if not lengths.all() or np.linalg.matrix_rank(vectors / lengths[:, None]) < len(vectors):
        raise ValueError(
            f"the periodic lattice vectors{where} must be independent, got {vectors.tolist()}: "
            "set pbc=False for directions that do not repeat"
        )
    return cell, pbc


def _search(
    atoms: np.ndarray, positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both directions of all pairs within ``radius``, by index in the whole system."""
    from vesin import NeighborList

    search = NeighborList(cutoff=radius, full_list=True)
    first, second, shifts = search.compute(positions, cell, pbc, "ijS")
    return atoms[first.astype(np.int64)], atoms[second.astype(np.int64)], shifts


def _pad(
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]], capacity: float, atoms: int
) -> Pairs:
    """Join the pairs of all structures, sort them by center and fill up to a bucket."""
    centers = np.concatenate([np.zeros(0, int), *(f[0] for f in found)])
    others = np.concatenate([np.zeros(0, int), *(f[1] for f in found)])
    shifts = np.concatenate([np.zeros((0, 3), int), *(f[2] for f in found)])
    order = np.lexsort((*shifts.T[::-1], others, centers))
    fill = _bucket(math.ceil(capacity * len(order))) - len(order)
    return Pairs(
        jnp.asarray(np.pad(centers[order], (0, fill), constant_values=atoms), jnp.int32),
        jnp.asarray(np.pad(others[order], (0, fill), constant_values=atoms), jnp.int32),
        jnp.asarray(np.pad(shifts[order], ((0, fill), (0, 0))), jnp.int32),
        atoms,
    )


def _rows(
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]], shape: tuple[int, ...], atoms: int
) -> Pairs:
    """The pairs of each system of a stack, with as many slots for each atom as the most need."""
    width = max([1, *(int(np.bincount(f[0], minlength=1).max()) for f in found)])
    others = np.full((len(found), atoms * width), atoms, np.int32)
    shifts = np.zeros((len(found), atoms * width, 3), np.int32)
    for i, (centers, own, images) in enumerate(found):
        order = np.lexsort((*images.T[::-1], own, centers))
        ranked = centers[order]
        slot = ranked * width + np.arange(len(ranked)) - np.searchsorted(ranked, ranked)
        others[i, slot], shifts[i, slot] = own[order], images[order]
    centers = np.broadcast_to(np.repeat(np.arange(atoms, dtype=np.int32), width), others.shape)
    centers, others, shifts = (
        jnp.asarray(x.reshape(*shape, *x.shape[1:])) for x in (centers, others, shifts)
    )
    return Pairs(centers, others, shifts, atoms, width)


def _bucket(count: int) -> int:
    """The smallest of 8, 10, 12, 14, 16, 20, 24, ... that holds ``count``."""
    step = max(1, 2 ** (max(count, 8) - 1).bit_length() // 8)
    return max(8, -(-count // step) * step)


def lists_to_keep(
    cutoffs: Sequence[float], given: NeighborListFns | None
) -> NeighborListFns | None:
    """How to build lists that serve for many geometries.

    Args:
        cutoffs: Radii in Å for which the potential needs neighbours.
        given: What the caller asks for; by default a skin of 1 Å.

    Returns:
        ``None`` for a potential that needs no list.

    Raises:
        ValueError: If a skin is not positive: every motion would need another list.
    """
    if given is None:
        return neighbor_list(cutoffs, skin=1.0) if cutoffs else None
    if not all(skin > 0 for skin in given.skins):
        raise ValueError(
            f"atoms that move need neighbor lists with a positive skin, got {given.skins} Å: "
            "neighbor_list(cutoffs, skin=1.0)"
        )
    return given
