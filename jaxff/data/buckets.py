"""Few shapes for batches of mixed sizes: each shape is compiled once, padding is wasted work.

Structures are drawn into batches at random, so the sizes of batches spread around a mean. Shapes
are nested boxes (atoms, pairs of each list); the largest has room for every batch that could be
drawn, the others are placed so that the expected padding is least.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from jaxff.data.packing import Bucket

__all__ = ["Buckets", "choose", "group_sums", "largest"]

_LEVELS = 48
_GOOD_ENOUGH = 1.05  # of the least cost: each shape is compiled, which takes many steps


@dataclass(frozen=True, eq=False)
class Buckets:
    """The shapes of batches, the smallest first.

    Attributes:
        shapes: The shapes; the last has room for every batch.
        shares: Expected part of the batches that takes each shape.
        fill: Expected part of the slots that is used, by what is padded.
    """

    shapes: tuple[Bucket, ...]
    shares: tuple[float, ...]
    fill: dict[str, float]

    def fitting(self, needs: Sequence[int]) -> Bucket:
        """The smallest shape with room for so many atoms and pairs.

        Raises:
            ValueError: If there is none.
        """
        for shape in self.shapes:
            room = (shape.atoms, *shape.pairs)
            if all(need <= space for need, space in zip(needs, room, strict=True)):
                return shape
        raise ValueError(
            f"no shape has room for {tuple(needs)} atoms and pairs; the largest is "
            f"{self.shapes[-1]}: the frames have changed since the shapes were chosen"
        )


def choose(
    sums: Int[np.ndarray, "batches dims"],
    bound: Int[np.ndarray, " dims"],
    structures: int,
    limit: int,
    names: Sequence[str],
) -> Buckets:
    """Shapes for batches whose sizes are distributed as a sample of them.

    Args:
        sums: Atoms and pairs of each batch of the sample.
        bound: The most atoms and pairs that a batch can have.
        structures: Structures per batch.
        limit: The most shapes.
        names: What the columns of ``sums`` count.
    """
    levels = _levels(sums, bound)
    fits = np.array([(sums <= level).all(axis=1) for level in levels])
    reached = fits.mean(axis=1)
    cost = np.sum(levels / np.maximum(sums.mean(axis=0), 1.0), axis=1) / levels.shape[1]
    rows = _partition(reached, cost, limit)
    shapes = tuple(
        Bucket(structures, int(row[0]), tuple(int(pairs) for pairs in row[1:]))
        for row in levels[rows]
    )
    shares = np.diff(reached[rows], prepend=0.0)
    slots = np.maximum(shares @ levels[rows], 1e-300)
    fill = {n: float(f) for n, f in zip(names, sums.mean(axis=0) / slots, strict=True)}
    return Buckets(shapes, tuple(shares.tolist()), fill)


def _levels(
    sums: Int[np.ndarray, "batches dims"], bound: Int[np.ndarray, " dims"]
) -> Int[np.ndarray, "levels dims"]:
    """Nested boxes to choose from: joint quantiles of the sample, and the bound."""
    quantiles = 1.0 - np.geomspace(0.9, 1.0 / len(sums), _LEVELS)
    boxes = np.quantile(sums, [*quantiles, 1.0], axis=0, method="higher")
    return np.unique(np.concatenate([boxes, bound[None]]), axis=0)


def _partition(
    reached: Float[np.ndarray, " levels"], cost: Float[np.ndarray, " levels"], limit: int
) -> Int[np.ndarray, " chosen"]:
    """Rows of the levels with the least expected cost; the last level is always among them."""
    count = len(cost)
    best = reached * cost  # with one shape that ends at each level
    steps = [np.full(count, -1)]
    totals = [best]
    for _ in range(1, min(limit, count)):
        through = totals[-1][:, None] + (reached[None] - reached[:, None]) * cost[None]
        through[np.tril_indices(count)] = np.inf
        steps.append(through.argmin(axis=0))
        totals.append(through.min(axis=0))
    finals = [total[-1] for total in totals]
    used = next(k for k, value in enumerate(finals) if value <= _GOOD_ENOUGH * min(finals))
    rows = [count - 1]
    for k in range(used, 0, -1):
        rows.append(int(steps[k][rows[-1]]))
    return np.array(rows[::-1])


def largest(counts: Int[np.ndarray, "frames dims"], batch_size: int) -> Int[np.ndarray, " dims"]:
    """The most that any ``batch_size`` frames can have together."""
    kept = min(batch_size, len(counts))
    return np.sort(counts, axis=0)[len(counts) - kept :].sum(axis=0)


def group_sums(
    counts: Int[np.ndarray, "frames dims"], order: Int[np.ndarray, " frames"], batch_size: int
) -> Int[np.ndarray, "batches dims"]:
    """Sums over successive batches of an order of the frames."""
    return np.add.reduceat(counts[order], np.arange(0, len(order), batch_size), axis=0)
