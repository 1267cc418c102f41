"""Disjoint, recorded splits into training, validation and test frames.

Every part is a :class:`jaxff.data.Dataset` whose ``indices`` name its frames in the source file.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxff.data.dataset import Dataset


class Split(NamedTuple):
    """Three disjoint parts of a data set; a part may be empty."""

    train: Dataset
    valid: Dataset
    test: Dataset


def by_energy(
    dataset: Dataset,
    train: int,
    valid: int,
    test: int | None = None,
    *,
    seed: int,
    exclude: Any = None,
) -> Split:
    """Training and validation frames spread over the energies as the data are.

    Energies are sorted into bins (:func:`energy_bins`), each bin gives its share of frames, at
    least one. Test frames are drawn uniformly from what remains.

    Args:
        dataset: Frames with energies.
        train: Number of training frames.
        valid: Number of validation frames.
        test: Number of test frames; ``None`` takes all that remain.
        seed: Seed of the draw; the same seed gives the same split.
        exclude: *Source* indices (or the name of an index array in ``dataset.splits``) of frames to
            keep out of all parts, such as those an earlier model was trained on.

    Raises:
        ValueError: If there are too few frames or no energies.
    Reference:
        Freedman & Diaconis, Z. Wahrscheinlichkeitstheorie verw. Gebiete 57, 453 (1981);
        Chmiela et al., Comput. Phys. Commun. 240, 38 (2019), doi:10.1016/j.cpc.2019.02.007.
    """
    if "energy" not in dataset.values:
        raise ValueError(
            f"{dataset.name!r} has no energies to split by (labels: {', '.join(dataset.values)}); "
            "use splits.random"
        )
    free = _available(dataset, exclude, train, valid, test)
    energies, rng = dataset.values["energy"], np.random.default_rng(seed)
    chosen = []
    for count in (train, valid):
        chosen.append(np.sort(free[stratified(energies[free], count, rng)]))
        free = np.setdiff1d(free, chosen[-1])
    chosen.append(free if test is None else np.sort(rng.choice(free, test, replace=False)))
    return Split(*(dataset[part] for part in chosen))


def random(
    dataset: Dataset,
    train: int,
    valid: int,
    test: int | None = None,
    *,
    seed: int,
    exclude: Any = None,
) -> Split:
    """Uniformly drawn disjoint parts; arguments and errors as for :func:`by_energy`."""
    free = _available(dataset, exclude, train, valid, test)
    order = np.random.default_rng(seed).permutation(free)
    ends = (train, train + valid, len(free) if test is None else train + valid + test)
    parts = (order[: ends[0]], order[ends[0] : ends[1]], order[ends[1] : ends[2]])
    return Split(*(dataset[np.sort(part)] for part in parts))


def by_indices(dataset: Dataset, train: Any, valid: Any = None, test: Any = None) -> Split:
    """Parts given by indices into the source file, such as published splits.

    Args:
        dataset: The frames.
        train: *Source* indices, a mask over the source frames, or the name of either in
            ``dataset.splits`` (``"split_train_01"``). The given order is kept.
        valid: The same for validation; ``None`` leaves it empty.
        test: The same for testing; ``None`` takes all that remain.

    Raises:
        ValueError: If parts overlap, repeat a frame, or name one that is not in ``dataset``.
    """
    found = {"train": _positions(dataset, train, "train")}
    found["valid"] = _positions(dataset, () if valid is None else valid, "valid")
    if test is not None:
        found["test"] = _positions(dataset, test, "test")
    names = list(found)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            common = np.intersect1d(found[one], found[other])
            if common.size:
                raise ValueError(
                    f"{one} and {other} must be disjoint, but share {common.size} frames, first "
                    f"source frame {dataset.indices[common[0]]}"
                )
    if test is None:
        used = np.concatenate([found["train"], found["valid"]])
        found["test"] = np.setdiff1d(np.arange(len(dataset)), used)
    return Split(*(dataset[found[name]] for name in ("train", "valid", "test")))


def _positions(dataset: Dataset, given: Any, part: str) -> np.ndarray:
    """Positions in the data set of frames named by source index."""
    source = _source_indices(dataset, given)
    if len(np.unique(source)) != len(source):
        values, counts = np.unique(source, return_counts=True)
        raise ValueError(f"{part} names source frame {values[counts > 1][0]} more than once")
    order = np.argsort(dataset.indices, kind="stable")
    spot = np.searchsorted(dataset.indices, source, sorter=order)
    spot = order[np.minimum(spot, len(order) - 1)] if len(order) else np.zeros(len(source), int)
    absent = source[dataset.indices[spot] != source] if len(order) else source
    if absent.size:
        raise ValueError(
            f"{part} names {absent.size} frames that are not in {dataset.name!r}, first source "
            f"frame {absent[0]}: it has {len(dataset)} of {dataset.source_length} source frames, "
            f"{len(dataset.skipped)} were left out when reading"
        )
    return spot


def _source_indices(dataset: Dataset, given: Any) -> np.ndarray:
    if isinstance(given, str):
        if given in dataset.metadata or given in dataset.per_frame:
            raise ValueError(
                f"{given!r} of {dataset.source or dataset.name!r} does not list frames: expected "
                f"whole numbers from 0 to {dataset.source_length - 1}, or a mask"
            )
        if given not in dataset.splits:
            raise ValueError(
                f"no split {given!r} in {dataset.source or dataset.name!r}; there are: "
                f"{', '.join(dataset.splits) or 'none'}"
            )
        given = dataset.splits[given]
    given = np.asarray(given)
    if given.dtype == bool:
        if given.shape != (dataset.source_length,):
            raise ValueError(
                f"a mask needs one entry per source frame, {dataset.source_length}, got "
                f"{given.shape}"
            )
        return np.flatnonzero(given)
    if given.size == 0:
        return np.zeros(0, int)
    if given.ndim != 1 or given.dtype.kind not in "iu":
        raise ValueError(f"indices must be a list of integers, got {given.dtype} {given.shape}")
    return given.astype(int)


def _available(
    dataset: Dataset, exclude: Any, train: int, valid: int, test: int | None
) -> np.ndarray:
    """Positions of the frames that may be drawn."""
    if min(train, valid, test or 0) < 0:
        raise ValueError(f"numbers of frames must not be negative: {train}, {valid}, {test}")
    keep = np.ones(len(dataset), bool)
    if exclude is not None:
        keep = ~np.isin(dataset.indices, _source_indices(dataset, exclude))
    free = np.flatnonzero(keep)
    wanted = train + valid + (test or 0)
    if wanted > len(free):
        raise ValueError(
            f"{wanted} frames are asked for (train {train}, valid {valid}, test {test or 0}), but "
            f"{dataset.name!r} has {len(free)} ({len(dataset)} less {len(dataset) - len(free)} "
            "excluded); ask for fewer"
        )
    return free


def energy_bins(energies: Float[np.ndarray, " frames"], count: int) -> Int[np.ndarray, " frames"]:
    """Bin of each energy for a draw of ``count`` frames.

    The width is that of Freedman and Diaconis for ``count`` points, twice the interquartile range
    times ``count**(-1/3)``; there are at most ``count / 2`` bins.
    """
    low, high = energies.min(), energies.max()
    quarter, three_quarters = np.percentile(energies, [25, 75])
    width = 2 * (three_quarters - quarter) * count ** (-1 / 3)
    most = max(count // 2, 1)
    # a few far outliers over a narrow bulk would ask for more bins than there are integers
    bins = int(min(np.ceil((high - low) / width), most)) if width > 0 else 1
    if bins <= 1 or high <= low:
        return np.zeros(len(energies), int)
    return np.minimum(((energies - low) / (high - low) * bins).astype(int), bins - 1)


def stratified(
    energies: Float[np.ndarray, " frames"], count: int, rng: np.random.Generator
) -> Int[np.ndarray, " count"]:
    """Positions of ``count`` frames, each energy bin with its share and none empty.

    Shares are rounded up; the surplus is taken from bins drawn with probability in proportion to
    what they give beyond one frame. Within a bin, frames are drawn uniformly.
    """
    if count == 0:
        return np.zeros(0, int)
    kinds, member, sizes = np.unique(
        energy_bins(energies, count), return_inverse=True, return_counts=True
    )
    quotas = -(-sizes * count // len(energies))  # rounded up, without the noise of division
    while (surplus := quotas.sum() - count) > 0:
        weights = (quotas - 1) / (quotas - 1).sum()
        for index in rng.choice(len(kinds), surplus, p=weights):
            quotas[index] = max(quotas[index] - 1, 1)
    drawn = [
        rng.choice(np.flatnonzero(member == index), quota, replace=False)
        for index, quota in enumerate(quotas)
    ]
    return np.concatenate(drawn)
