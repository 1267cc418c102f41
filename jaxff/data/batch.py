"""What is trained on: structures with their neighbours, labels, and which labels exist."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxff.neighbors import Neighbors
from jaxff.system import System

__all__ = ["Batch"]


class Batch(NamedTuple):
    """A pack, or a stack, of structures with labels.

    Several batches of one shape may be stacked along a leading axis of every leaf: they are then
    spread over devices or accumulated, and count together as one batch.

    Attributes:
        system: A pack, if need be padded: atoms of number 0, structures where ``structure_mask`` is
            False. Or a stack of systems of one size; structures of padding have no atom.
        neighbors: Its neighbour lists; ``None`` for potentials without cutoffs.
        labels: By the names of :mod:`jaxff.quantities`, in eV, Å, e: ``(structures, ...)``, or
            ``(atoms, ...)`` along the axis of the pack (of a stack ``(structures, atoms, ...)``).
            The Hessian of a pack is ``(atoms, 3, most, 3)``: rows of atoms, columns of the atoms of
            the same structure, ``most`` the size of the largest structure. Where there is no label,
            any finite number.
        masks: Which structures have the label, ``(structures,)``; labels without a mask are there
            for all of them.
        indices: Index of each structure among the frames, -1 for padding; ``None`` if unknown.
            Messages name frames by them.
    """

    system: System
    neighbors: Neighbors | None
    labels: Mapping[str, Any]
    masks: Mapping[str, Any]
    indices: Any = None
