"""Batches as steps look at them: leading axes, and which structures have a label."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.data.batch import Batch
from jaxff.types import Array, Bool

__all__ = ["leading", "present", "stack_batches"]


def leading(batch: Any) -> int:
    """Length of the axis along which batches are stacked; 0 if there is none.

    Raises:
        TypeError: If it is no batch.
        ValueError: If there are more axes than one.
    """
    if not isinstance(batch, Batch):
        raise TypeError(
            f"expected a jaxff.training.Batch, got {type(batch).__name__}: make batches with "
            "jaxff.data.batches, or Batch(system, neighbors, labels, masks)"
        )
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
