"""Splits of frames of any composition, and whether parts share structures."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from jaxff.data.frame import Frame
from jaxff.data.frames import Frames, Subset, as_frames, kind
from jaxff.elements import formula

__all__ = ["FrameSplit", "by_composition", "by_group", "random", "shared_structures"]


class FrameSplit(NamedTuple):
    """Three disjoint parts; ``.indices`` of each says which frames they are."""

    train: Subset
    valid: Subset
    test: Subset


def random(
    frames: Any, train: int, valid: int, test: int | None = None, *, seed: int
) -> FrameSplit:
    """Uniformly drawn disjoint parts.

    Args:
        frames: What :func:`jaxff.data.as_frames` accepts.
        train: Number of training frames.
        valid: Number of validation frames.
        test: Number of test frames; ``None`` takes all that remain.
        seed: Seed of the draw.

    Raises:
        ValueError: If there are too few frames.
    """
    frames = as_frames(frames)
    return _cut(frames, np.random.default_rng(seed).permutation(len(frames)), train, valid, test)


def by_composition(
    frames: Any, train: int, valid: int, test: int | None = None, *, seed: int
) -> FrameSplit:
    """Parts in which the compositions have their shares, but for what whole frames do not allow.

    Arguments and errors as for :func:`random`.
    """
    frames, rng = as_frames(frames), np.random.default_rng(seed)
    names = np.array([formula(kind(frames, i)[0]) for i in range(len(frames))])
    # The frames of a composition stand at equal distances on the unit interval, in random order
    # and from a random start on: any stretch of it holds its share of them.
    place = np.zeros(len(frames))
    for name in np.unique(names):
        own = rng.permutation(np.flatnonzero(names == name))
        place[own] = (np.arange(len(own)) + rng.random()) / len(own)
    return _cut(frames, np.argsort(place, kind="stable"), train, valid, test)


def by_group(
    frames: Any,
    train: int,
    valid: int,
    test: int | None = None,
    *,
    seed: int,
    groups: Sequence[Any] | None = None,
) -> FrameSplit:
    """Parts of whole groups, so that conformers of one molecule stay together.

    Groups in random order fill first the training, then the validation, then the test part, each
    until it has at least the number of frames asked for: it exceeds it by less than a group.

    Args:
        frames: What :func:`jaxff.data.as_frames` accepts.
        train: Least number of training frames.
        valid: Least number of validation frames.
        test: Least number of test frames; ``None`` takes all groups that remain.
        seed: Seed of the order.
        groups: Group of each frame; default :attr:`jaxff.data.Frame.group`, and the composition
            where a frame has none (isomers then stay together too).

    Raises:
        ValueError: If the groups do not suffice.
    """
    frames = as_frames(frames)
    if groups is None:
        groups = [_group(frames, index) for index in range(len(frames))]
    if len(groups) != len(frames):
        raise ValueError(f"expected a group for each of {len(frames)} frames, got {len(groups)}")
    _, member = np.unique(np.asarray([str(group) for group in groups]), return_inverse=True)
    count = int(member.max()) + 1 if len(member) else 0
    order = np.random.default_rng(seed).permutation(count)
    sizes = np.bincount(member, minlength=count)[order]
    ends, taken = [], 0
    for name, wanted in (("train", train), ("valid", valid), ("test", test or 0)):
        begin = int(sizes[:taken].sum())
        while sizes[:taken].sum() - begin < wanted:
            if taken == count:
                raise ValueError(
                    f"{wanted} frames are asked for {name}, but of {len(frames)} frames in {count} "
                    f"groups {len(frames) - begin} are left; ask for fewer"
                )
            taken += 1
        ends.append(taken)
    if test is None:
        ends[2] = count
    rank = np.argsort(order)[member]
    parts = [np.flatnonzero((rank >= a) & (rank < b)) for a, b in pairwise([0, *ends])]
    return FrameSplit(*(Subset(frames, part) for part in parts))


def _group(frames: Frames, index: int) -> str:
    numbers, group = kind(frames, index)
    return formula(numbers) if group is None else group


def _cut(frames: Frames, order: np.ndarray, train: int, valid: int, test: int | None) -> FrameSplit:
    wanted = train + valid + (test or 0)
    if min(train, valid, test or 0) < 0 or wanted > len(frames):
        raise ValueError(
            f"train {train}, valid {valid} and test {test or 0} frames are asked for, but there "
            f"are {len(frames)}"
        )
    ends = (0, train, train + valid, len(frames) if test is None else wanted)
    return FrameSplit(*(Subset(frames, np.sort(order[a:b])) for a, b in pairwise(ends)))


def shared_structures(
    one: Any, other: Any, *, tolerance: float = 1e-4
) -> Int[np.ndarray, "pairs 2"]:
    """Frames of two sets that are the same structure: pairs of indices (in one, in the other).

    Structures are compared by their interatomic distances, sorted within each pair of elements:
    turned, shifted, mirrored copies and those with equal atoms in another order are found. Cells
    are compared as they are given, distances in them to the nearest image.

    Args:
        one: What :func:`jaxff.data.as_frames` accepts.
        other: The same; the same object twice finds repeats within it.
        tolerance: Largest difference of distances in Å.
    """
    first = as_frames(one)
    second = first if other is one else as_frames(other)
    here = _by_formula(first)
    there = here if second is first else _by_formula(second)
    pairs = []
    for name in sorted(set(here) & set(there)):
        rows, means = there[name]
        for index, mean in zip(*here[name], strict=True):
            low, high = np.searchsorted(means, [mean - tolerance, mean + tolerance])
            if high - low <= (second is first):
                continue
            own = _distances(first[int(index)])
            for row in rows[low:high].tolist():
                if second is first and row <= index:
                    continue
                if np.abs(own - _distances(second[row])).max(initial=0.0) <= tolerance:
                    pairs.append((int(index), row))
    return np.array(sorted(pairs), int).reshape(-1, 2)


def _by_formula(frames: Frames) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Frames of each composition, sorted by their mean distance, with these."""
    found: dict[str, list[tuple[float, int]]] = {}
    for index in range(len(frames)):
        frame = frames[index]
        name = formula(frame.numbers) + ("" if frame.cell is None else " in a cell")
        found.setdefault(name, []).append((float(_distances(frame).mean()), index))
    return {
        name: (np.array([i for _, i in sorted(rows)]), np.array([d for d, _ in sorted(rows)]))
        for name, rows in found.items()
    }


def _distances(frame: Frame) -> np.ndarray:
    """What does not depend on place, orientation and order: distances, and those of the cell."""
    numbers = np.asarray(frame.numbers)
    first, second = np.triu_indices(len(numbers), 1)
    steps = frame.positions[first] - frame.positions[second]
    metric = np.zeros(1)
    if frame.cell is not None and frame.pbc is not None:
        vectors = frame.cell[frame.pbc]
        steps = steps - np.round(steps @ np.linalg.pinv(vectors)) @ vectors
        diagonals = vectors - np.roll(vectors, 1, axis=0)
        metric = np.linalg.norm(np.concatenate([vectors, diagonals]), axis=1)
    low, high = np.sort([numbers[first], numbers[second]], axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    return np.concatenate([metric, lengths[np.lexsort((lengths, high, low))]])
