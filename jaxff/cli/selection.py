"""Which frames train, validate and test: by number or by an index array of the file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jaxff.cli.files import Count, Name
from jaxff.data import Dataset, splits

__all__ = ["Selection", "select"]

_PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class Selection:
    """Which frames to use."""

    train: Count = None
    """Number of training frames, spread over the energies as the data are."""
    train_key: Name = None
    """Index array in the file that names the training frames."""
    valid: Count = None
    """Number of validation frames, drawn like the training frames, for the length scale."""
    valid_key: Name = None
    """Index array in the file that names the validation frames."""
    test: Count = None
    """Number of test frames, drawn uniformly from the rest, for the errors at the end."""
    test_key: Name = None
    """Index array in the file that names the test frames."""
    seed: int = 0
    """Seed of the draws."""


def select(data: Dataset, selection: Selection) -> splits.Split:
    """Disjoint parts; frames named by an index array are never drawn for another part.

    Raises:
        ValueError: If a part is given twice, training frames not at all, there are too few frames,
            or index arrays overlap.
    """
    counts = {part: getattr(selection, part) for part in _PARTS}
    keys = {part: getattr(selection, f"{part}_key") for part in _PARTS}
    for part in _PARTS:
        if counts[part] is not None and keys[part] is not None:
            raise ValueError(f"give --{part} or --{part}-key, not both")
    if counts["train"] is None and keys["train"] is None:
        raise ValueError(
            f"say how many frames to train on (--train, of {len(data)}) or which (--train-key; "
            f"index arrays in the file: {', '.join(data.splits) or 'none'})"
        )
    if counts["train"] is not None and counts["train"] < 1:
        raise ValueError(f"--train must be at least 1, got {counts['train']}")
    named = {part: _named(data, key) for part, key in keys.items() if key is not None}
    draw = splits.by_energy if "energy" in data.values else splits.random
    drawn = draw(
        data,
        *(counts[part] or 0 for part in _PARTS),
        seed=selection.seed,
        exclude=np.concatenate([*named.values(), np.zeros(0, int)]).astype(int),
    )
    chosen = {part: named.get(part, getattr(drawn, part).indices) for part in _PARTS}
    return splits.by_indices(data, **chosen)


def _named(data: Dataset, key: str) -> np.ndarray:
    return splits.by_indices(data, key, test=()).train.indices
