"""How lists are built for a system, a pack or a stack."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxff.neighbors.pairs import Neighbors
from jaxff.neighbors.search import pad, rows, search, structures
from jaxff.system import System

__all__ = ["NeighborListFns", "lists_to_keep", "neighbor_list"]


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
        found = structures(system)
        pairs = tuple(
            pad([search(*s, cutoff + skin) for s in found], capacity, system.atom_count)
            for cutoff, skin, capacity in zip(
                self.cutoffs, self.skins, self.capacities, strict=True
            )
        )
        return Neighbors(pairs, jnp.zeros((), bool), self.cutoffs, self.skins)

    def allocate_stack(self, systems: System, least: Sequence[int] | None = None) -> Neighbors:
        """Build the lists of all systems of a stack, with rows of one length, on the host.

        Every leaf has the leading axes of the stack, for ``vmap``. Rows have room for the pairs
        that are there.

        Args:
            systems: The stack.
            least: The fewest slots for each atom, one number per cutoff: stacks whose rows are
                equally long run the same compiled program.

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
            structures(jax.tree.map(lambda leaf, i=i: leaf[i], flat))[0]
            for i in range(math.prod(shape))
        ]
        pairs = tuple(
            rows([search(*s, cutoff + skin) for s in single], shape, systems.atom_count, slots)
            for cutoff, skin, slots in zip(
                self.cutoffs, self.skins, least or [1] * len(self.cutoffs), strict=True
            )
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
            cutoff. The result is rounded up to a bucket: whole eighths of a power of two.

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
