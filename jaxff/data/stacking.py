"""Batches as stacks: every structure takes the room of the largest, along a leading axis.

Potentials without a cutoff see all pairs of a structure; in a pack they would see those between
structures too, only to drop them.
"""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.data.batch import Batch
from jaxff.data.packing import Prepared
from jaxff.neighbors import Neighbors, Pairs
from jaxff.quantities import quantity

__all__ = ["as_stack", "padded"]


def padded(item: Prepared, most: int) -> Prepared:
    """The frame with atoms of number 0 up to ``most``; pairs are as they were."""
    frame = item.frame
    spare = most - len(frame.numbers)
    if not spare:
        return item
    labels = {name: _padded_label(name, value, spare) for name, value in frame.labels.items()}
    numbers = np.pad(frame.numbers, (0, spare))
    positions = np.pad(frame.positions, ((0, spare), (0, 0)))
    return Prepared(replace(frame, numbers=numbers, positions=positions, labels=labels), item.pairs)


def _padded_label(name: str, value: np.ndarray, spare: int) -> np.ndarray:
    axes = [word == "atoms" for word in quantity(name).shape.split()]
    return np.pad(value, [(0, spare if axis else 0) for axis in axes]) if any(axes) else value


def as_stack(batch: Batch, most: int) -> Batch:
    """A pack of structures of ``most`` atoms each, its lists with rows, as a stack."""
    system, count = batch.system, len(batch.indices)
    shape = (count, most)
    system = system.replace(
        positions=system.positions.reshape(*shape, 3),
        numbers=system.numbers.reshape(shape),
        structure=None,
        structure_mask=None,
    )
    labels = {
        name: value.reshape(*shape, *value.shape[1:]) if quantity(name).per_atom else value
        for name, value in batch.labels.items()
    }
    neighbors = batch.neighbors
    if neighbors is not None:
        neighbors = _stacked_lists(neighbors, count, most)
    return Batch(system, neighbors, labels, batch.masks, batch.indices)


def _stacked_lists(neighbors: Neighbors, count: int, most: int) -> Neighbors:
    leaves, widths = [], []
    for pairs in neighbors.pairs:
        shape = (count, len(pairs.others) // count)
        others = np.asarray(pairs.others).reshape(shape)
        local = others - most * np.arange(count, dtype=np.int32)[:, None]
        centers = np.asarray(pairs.centers)[: shape[1]]
        leaves += [
            np.broadcast_to(centers, shape),
            np.where(others == pairs.atoms, np.int32(most), local),
            np.asarray(pairs.shifts).reshape(*shape, 3),
        ]
        widths.append(pairs.width)
    none, shifts = jnp.zeros((1, 0), jnp.int32), jnp.zeros((1, 0, 3), jnp.int32)
    lists = tuple(Pairs(none, none, shifts, most, width) for width in widths)
    form = Neighbors(lists, jnp.zeros(1, bool), neighbors.cutoffs, neighbors.skins)
    return jax.tree.unflatten(jax.tree.structure(form), [*leaves, np.zeros(count, bool)])
