"""What a training step sees: structures with their neighbours, labels, and which labels exist."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.system import System
from jaxff.types import Array, Bool

__all__ = ["Batch", "as_batch", "leading", "present", "stack_batches"]


class Batch(NamedTuple):
    """A pack, or a stack, of structures with labels.

    Several batches of one shape may be stacked along a leading axis of every leaf: they are then
    spread over devices or accumulated, and count together as one batch.

    Attributes:
        system: A pack (padded if need be), or a stack of systems of one size.
        neighbors: Its neighbour lists; ``None`` for potentials without cutoffs.
        labels: By the names of :mod:`jaxff.quantities`, in eV, Å, e: ``(structures, ...)``, or
            ``(atoms, ...)`` along the axis of the pack. Where there is no label, any finite number.
        masks: Which structures have the label, ``(structures,)``; labels without a mask are there
            for all of them.
    """

    system: System
    neighbors: Any
    labels: Mapping[str, Array]
    masks: Mapping[str, Bool[Array, "*structures"]]


def as_batch(record: Any) -> Batch:
    """A batch of any record with the attributes of one.

    Raises:
        TypeError: If an attribute is missing.
    """
    missing = [name for name in Batch._fields if not hasattr(record, name)]
    if missing:
        raise TypeError(
            f"a batch has the attributes {', '.join(Batch._fields)}; {type(record).__name__} lacks "
            f"{', '.join(missing)}"
        )
    values = (record.system, record.neighbors, dict(record.labels), dict(record.masks))
    return Batch(*values)


def leading(batch: Batch) -> int:
    """Length of the axis along which batches are stacked; 0 if there is none.

    Raises:
        ValueError: If there are more axes than one.
    """
    system = batch.system
    mask = system.structure_mask
    axes = np.ndim(system.numbers) - 2 if mask is None else np.ndim(mask) - 1
    if axes not in (0, 1):
        raise ValueError(
            "a batch is a pack or a stack, or several of one shape along one leading axis; got "
            f"positions of shape {system.positions.shape}"
        )
    return system.positions.shape[0] if axes else 0


def present(batch: Batch, name: str) -> Bool[Array, " structures"]:
    """Which structures of a single batch have a label; padding has none.

    Raises:
        ValueError: If no structure can have it.
    """
    if name not in batch.labels:
        raise ValueError(
            f"the loss needs labels of {name!r}, the batch has {sorted(batch.labels)}: read them "
            "with the data, or drop the term"
        )
    shape = batch.system.batch_shape
    mask = jnp.asarray(batch.masks[name]) if name in batch.masks else jnp.ones(shape, bool)
    if mask.shape != shape:
        raise ValueError(f"the mask of {name!r} must have shape {shape}, got {mask.shape}")
    real = batch.system.structure_mask
    return mask if real is None else mask & real


def stack_batches(batches: Sequence[Batch]) -> Batch:
    """Batches of one shape along a new leading axis.

    Raises:
        ValueError: If their shapes or fields differ.
    """
    shapes = [
        (jax.tree.structure(batch), [np.shape(leaf) for leaf in jax.tree.leaves(batch)])
        for batch in batches
    ]
    odd = [i for i, shape in enumerate(shapes) if shape != shapes[0]]
    if odd:
        raise ValueError(
            f"batches of different shapes cannot be stacked (batch {odd[0]} differs from batch 0): "
            "pad them to one shape, or let the data give them in groups"
        )
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *batches)
