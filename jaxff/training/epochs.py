"""Where batches come from: their order follows from the seed and the number of the epoch."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

__all__ = ["Epochs", "Shuffled", "in_order"]


@runtime_checkable
class Epochs(Protocol):
    """Batches whose order follows from the number of the epoch alone."""

    def __len__(self) -> int:
        """Steps of an epoch."""
        ...

    def epoch(self, epoch: int, start: int) -> Iterable[Any]:
        """The batches of an epoch from step ``start`` on."""
        ...


class Shuffled:
    """A list of batches in an order that follows from (seed, epoch)."""

    def __init__(self, batches: Sequence[Any], seed: int):
        self._batches, self._seed = batches, seed

    def __len__(self) -> int:
        """Steps of an epoch."""
        return len(self._batches)

    def epoch(self, epoch: int, start: int) -> Iterator[Any]:
        """The batches of an epoch from step ``start`` on."""
        order = np.random.default_rng((self._seed, epoch)).permutation(len(self._batches))
        return (self._batches[int(i)] for i in order[start:])


def in_order(batches: Any) -> Iterable[Any]:
    """The batches of one pass."""
    return batches.epoch(0, 0) if isinstance(batches, Epochs) else batches
