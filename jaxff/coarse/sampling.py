"""Which frames of a trajectory go where: folds by blocks, and batches spread over its states.

Neighbouring frames of a trajectory are alike, so that folds are contiguous blocks. Frames gather in
the deepest states, so that batches are drawn evenly over the occupied cells of a grid of collective
variables.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from jaxff.types import Float, Int

__all__ = [
    "Fold",
    "Sizes",
    "block_folds",
    "cells",
    "check_occupied",
    "draw",
    "draw_batches",
    "noise_ratio",
    "sizes",
]


def cells(
    values: Any,
    bins: int | Sequence[int] = 300,
    limits: Sequence[tuple[float, float]] | None = None,
) -> Int[np.ndarray, " frames"]:
    """Number of the occupied cell of each frame in a grid of collective variables.

    Args:
        values: ``(frames, variables)``, for instance dihedrals in degrees
            (:func:`jaxff.analysis.dihedrals`).
        bins: Cells along each variable.
        limits: First and last edge along each; by default -180 and 180.

    Raises:
        ValueError: For values that are not finite or outside the limits.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or len(values) == 0:
        raise ValueError(f"expected values (frames, variables), got {values.shape}")
    count = values.shape[1]
    each = np.broadcast_to(bins, (count,))
    given = [(-180.0, 180.0)] if limits is None else limits
    edges = np.broadcast_to(given, (count, 2)).astype(float)
    inside = (values >= edges[:, 0]) & (values <= edges[:, 1])  # False for NaN
    if not inside.all():
        frame, variable = np.argwhere(~inside)[0]
        raise ValueError(
            f"variable {variable} of frame {frame} is {values[frame, variable]}, expected within "
            f"{edges[variable].tolist()}: give limits"
        )
    place = (values - edges[:, 0]) / (edges[:, 1] - edges[:, 0]) * each
    place = np.minimum(place.astype(int), each - 1)  # the last edge belongs to the last cell
    return np.unique(np.ravel_multi_index(tuple(place.T), tuple(each)), return_inverse=True)[1]


def check_occupied(occupied: Int[np.ndarray, " frames"], frames: int) -> None:
    """Refuse cells that are not those of the frames.

    Raises:
        ValueError: If their number differs.
    """
    if np.shape(occupied) != (frames,):
        raise ValueError(
            f"the cells must be those of all {frames} frames, got shape {np.shape(occupied)}"
        )


def draw(
    occupied: Int[np.ndarray, " frames"], count: int, rng: np.random.Generator
) -> Int[np.ndarray, " count"]:
    """Different frames, drawn as evenly over the cells as they allow.

    One frame of each cell, in random order; where that is not enough, a second one of each that has
    one, and so on.

    Args:
        occupied: Cell of each frame, from :func:`cells`.
        count: Number of frames.
        rng: Random generator.

    Raises:
        ValueError: If there are fewer frames.
    """
    return _draw(_grouped(occupied), count, rng)


def draw_batches(
    occupied: Int[np.ndarray, " frames"], size: int, count: int, rng: np.random.Generator
) -> Int[np.ndarray, "batches size"]:
    """Batches of one size, each drawn anew from all frames by :func:`draw`."""
    if count < 1:
        raise ValueError(f"at least 1 batch is needed, got {count}")
    groups = _grouped(occupied)
    return np.stack([_draw(groups, size, rng) for _ in range(count)])


class _Groups(NamedTuple):
    """Frames cell by cell, where each cell begins, and how many frames it has."""

    order: np.ndarray
    begins: np.ndarray
    counts: np.ndarray


def _grouped(occupied: np.ndarray) -> _Groups:
    order = np.argsort(occupied, kind="stable")
    _, begins, counts = np.unique(occupied[order], return_index=True, return_counts=True)
    return _Groups(order, begins, counts)


def _draw(groups: _Groups, count: int, rng: np.random.Generator) -> np.ndarray:
    frames, occupied = len(groups.order), len(groups.counts)
    if not 1 <= count <= frames:
        raise ValueError(f"{count} frames are to be drawn from {frames}: give 1 to {frames}")
    if count <= occupied:
        chosen = rng.choice(occupied, count, replace=False)
        return groups.order[groups.begins[chosen] + rng.integers(groups.counts[chosen])]
    # In random order within each cell, the place in it is the round in which a frame is taken.
    cell = np.repeat(np.arange(occupied), groups.counts)
    shuffled = groups.order[np.lexsort((rng.random(frames), cell))]
    rounds = np.arange(frames) - groups.begins[cell]
    return shuffled[np.lexsort((rng.random(frames), rounds))[:count]]


class Sizes(NamedTuple):
    """Frames of a batch of the first layer, number of batches, frames of the second layer."""

    batch: int
    batches: int
    second: int


def sizes(frames: int, *, batch: int = 1000, batches: int = 1000, second: int = 3000) -> Sizes:
    """Sizes for a number of training frames, those of the paper where there are enough.

    A batch is never more than half of the frames, so that batches differ; the second layer never
    more than all of them.

    Raises:
        ValueError: For fewer than four frames, or sizes that are not positive.
    Reference:
        Wang et al., J. Chem. Phys. 152, 194106 (2020), doi:10.1063/5.0007276 (the sizes); Bühlmann
        & Yu, Ann. Stat. 30, 927 (2002), doi:10.1214/aos/1031689014 (half samples for bagging).
    """
    if frames < 4:
        raise ValueError(f"an ensemble needs at least 4 frames, got {frames}")
    if min(batch, batches, second) < 1:
        raise ValueError(f"sizes must be positive, got {(batch, batches, second)}")
    return Sizes(min(batch, frames // 2), batches, min(second, frames))


class Fold(NamedTuple):
    """Frames to train on and frames held out, both ascending."""

    train: Int[np.ndarray, " train"]
    held_out: Int[np.ndarray, " held_out"]


def block_folds(
    frames: int | Sequence[int], folds: int = 5, *, blocks: int = 1, gap: int = 0
) -> list[Fold]:
    """Folds of contiguous blocks of a trajectory.

    Args:
        frames: Number of frames, or those of each of several trajectories, one after the other.
        folds: Number of folds.
        blocks: Blocks of each trajectory that a fold holds out.
        gap: Frames on both sides of a held-out block that are left out of the training set, about
            the correlation time.

    Raises:
        ValueError: If a fold would be empty.
    """
    lengths = np.atleast_1d(np.asarray(frames, int))
    if folds < 2 or blocks < 1 or gap < 0:
        raise ValueError(f"need 2 folds or more, 1 block or more, a gap of 0 or more; got "
                         f"{folds}, {blocks} and {gap}")  # fmt: skip
    if (lengths < folds * blocks).any():
        raise ValueError(
            f"{folds * blocks} blocks need trajectories of as many frames, got {lengths.tolist()}"
        )
    begins = np.concatenate([[0], np.cumsum(lengths)])
    held = [np.zeros(begins[-1], bool) for _ in range(folds)]
    near = [np.zeros(begins[-1], bool) for _ in range(folds)]
    for begin, length in zip(begins[:-1], lengths, strict=True):
        edges = np.linspace(0, length, folds * blocks + 1).round().astype(int)
        for block, (first, last) in enumerate(pairwise(edges)):
            held[block % folds][begin + first : begin + last] = True
            wide = slice(begin + max(0, first - gap), begin + min(length, last + gap))
            near[block % folds][wide] = True
    made = [Fold(np.flatnonzero(~n), np.flatnonzero(h)) for h, n in zip(held, near, strict=True)]
    if any(len(fold.train) == 0 for fold in made):
        raise ValueError(f"a gap of {gap} frames leaves nothing to train on: take a shorter one")
    return made


def noise_ratio(forces: Float[np.ndarray, "..."], noise: float, share: float = 1.0) -> float:
    r"""Regularisation at the level of the noise, relative to the mean diagonal of the kernel.

    :math:`\sigma^2 / (\mathrm{var}(F) - \sigma^2)`: with it the kernel, times an amplitude, expects
    mean forces of the variance that the noise leaves. That is where a search begins, not where it
    ends: a kernel that expects as much in directions that hold no mean force, such as bonds whose
    prior is subtracted, wants far less. Held-out folds tell: :func:`jaxff.coarse.descend` goes on
    from here, as :func:`jaxff.coarse.regularize` and, by itself,
    :func:`jaxff.coarse.fit_inducing` do.

    A model that is averaged with others is to be regularised as all frames together would be, by
    ``share``, the part of them that it sees. This holds for any regularization.

    Args:
        forces: Labels, with their noise, in eV/Å.
        noise: Standard deviation of the noise of a component, eV/Å.
        share: Frames of a batch over those of the training set.

    Raises:
        ValueError: If the noise is not positive, or above all that the forces vary.
    Reference:
        Zhang, Duchi & Wainwright, J. Mach. Learn. Res. 16, 3299 (2015) (the share).
    """
    variance = float(np.var(forces))
    if not 0.0 < noise**2 < variance:
        raise ValueError(
            f"noise must be positive and below the standard deviation of the forces, "
            f"{np.sqrt(variance):.3g} eV/Å, got {noise}"
        )
    if not 0.0 < share <= 1.0:
        raise ValueError(f"share must be above 0 and at most 1, got {share}")
    return share * noise**2 / (variance - noise**2)
