r"""Force-matching errors on held-out frames, what they are made of, and length scales by them.

The squared error of a model f of noisy forces :math:`F = \bar F + \eta` is, in the mean,

.. math:: \langle (f - F)^2 \rangle = \langle\eta^2\rangle
   + \langle(\langle f\rangle - \bar F)^2\rangle + \mathrm{var} f :

noise, which is the same for all models, the square of the bias, and variance. Models of an ensemble
show their variance, of which an average of B of them keeps a B-th part; what a second layer, which
is linear in its labels, keeps of that, a fit to the contrast of two half ensembles tells. The noise
is known from elsewhere, or at most what the best model leaves.

Reference:
    Wang et al., ACS Cent. Sci. 5, 755 (2019), doi:10.1021/acscentsci.8b00913.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from jaxff.coarse.ensemble import Layer, bag, predict_forces
from jaxff.coarse.inducing import fit_inducing
from jaxff.coarse.priors import subtract
from jaxff.coarse.sampling import Fold, block_folds, check_occupied, draw, draw_batches, sizes
from jaxff.coarse.search import descend
from jaxff.kernels.kernel import Kernel
from jaxff.numerics import select
from jaxff.potential import Bound
from jaxff.system import System
from jaxff.types import Float, Int

__all__ = [
    "Parts",
    "Score",
    "best",
    "cross_validate",
    "decompose",
    "lengthscales",
    "regularize",
    "scan",
]


class Score(NamedTuple):
    """Errors of a pair of layers on held-out frames, (eV/Å)² per component, one entry per fold.

    Attributes:
        first: Index of the first layer among those that were tried.
        second: Index of the second layer.
        errors: Of the second layer.
        averaged: Of the average of the first layer.
        single: Of one model of the first layer.
        variance: Of models of the first layer about their average.
        kept: What the second layer keeps of the variance of that average; NaN for a single model.
        models: Number of models that were averaged.
    """

    first: int
    second: int
    errors: Float[np.ndarray, " folds"]
    averaged: Float[np.ndarray, " folds"]
    single: Float[np.ndarray, " folds"]
    variance: Float[np.ndarray, " folds"]
    kept: Float[np.ndarray, " folds"]
    models: int

    @property
    def error(self) -> float:
        """Mean of the errors of the second layer over the folds."""
        return float(np.mean(self.errors))

    @property
    def standard_error(self) -> float:
        """Of that mean; NaN for a single fold."""
        if len(self.errors) < 2:
            return float("nan")
        return float(np.std(self.errors, ddof=1) / np.sqrt(len(self.errors)))


class Parts(NamedTuple):
    """What an error is made of, (eV/Å)² per component.

    Attributes:
        noise: Of the labels.
        bias: Square of the bias.
        variance: What is left of the variance of the ensemble.
    """

    noise: float
    bias: float
    variance: float


def scan(
    firsts: Sequence[Layer],
    seconds: Sequence[Layer],
    systems: System,
    forces: Any,
    occupied: Int[np.ndarray, " frames"],
    folds: Sequence[Fold],
    *,
    batch: int = 1000,
    batches: int = 1000,
    second: int = 3000,
    held_out: int = 3000,
    seed: int = 0,
    prior: Bound | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Score]:
    """Errors of all pairs of layers; a first layer is fitted once for all second ones.

    The paper looks for the first length scale with some second one, then for the second with the
    best first: two calls, each with a single layer on one side.

    Args:
        firsts: First layers.
        seconds: Second layers.
        systems: Stack of frames.
        forces: Forces on the beads at each instant, eV/Å.
        occupied: Cell of each frame.
        folds: From :func:`jaxff.coarse.block_folds`; batches are drawn within their training
            frames.
        batch: Most frames of a batch, see :func:`jaxff.coarse.sizes`.
        batches: Models of the ensemble.
        second: Most frames of the second layer.
        held_out: Most held-out frames to test on, spread over the cells as batches are.
        seed: Of the draws, which are the same for all layers.
        prior: Energy that is subtracted first.
        progress: Called with the number of models fitted and that of all.

    Raises:
        ValueError: If there is nothing to try.
    """
    if not (len(firsts) and len(seconds) and len(folds)):
        raise ValueError("a scan needs layers of both kinds and folds, got an empty list")
    labels = subtract(prior, systems, forces)
    check_occupied(occupied, len(labels))
    found = {(i, j): [] for i in range(len(firsts)) for j in range(len(seconds))}
    total, done = len(firsts) * len(folds) * batches, 0
    for number, fold in enumerate(folds):
        rng = np.random.default_rng([seed, number])
        frames = sizes(len(fold.train), batch=batch, batches=batches, second=second)
        own = fold.train[draw(occupied[fold.train], frames.second, rng)]
        groups = fold.train[draw_batches(occupied[fold.train], frames.batch, frames.batches, rng)]
        count = min(held_out, len(fold.held_out))
        tests = fold.held_out[draw(occupied[fold.held_out], count, rng)]
        queries = select(systems, np.concatenate([own, tests]))
        for i, layer in enumerate(firsts):

            def tell(models: int, before: int = done) -> None:
                if progress is not None:
                    progress(before + models, total)

            bagged = bag(layer, systems, labels, groups, queries, progress=tell)
            done += batches
            averaged = np.mean((bagged.mean[len(own) :] - labels[tests]) ** 2)
            variance = np.mean(bagged.variance[len(own) :])
            # The mean of the errors of the models exceeds that of their mean by their spread.
            single = averaged + variance * (1.0 - 1.0 / bagged.models)
            for j, above in enumerate(seconds):
                points, places = select(systems, own), select(systems, tests)
                model, _ = above.fit(points, bagged.mean[: len(own)])
                error = np.mean((predict_forces(model, places) - labels[tests]) ** 2)
                kept = np.nan
                if bagged.models > 1:
                    model, _ = above.fit(points, bagged.contrast[: len(own)])
                    kept = np.mean(predict_forces(model, places) ** 2)
                found[i, j].append((error, averaged, single, variance, kept))
    names = ("errors", "averaged", "single", "variance", "kept")
    return [
        Score(i, j, **dict(zip(names, np.array(rows).T, strict=True)), models=batches)
        for (i, j), rows in found.items()
    ]


def regularize(
    below: Layer,
    above: Layer,
    systems: System,
    forces: Any,
    occupied: Int[np.ndarray, " frames"],
    folds: Sequence[Fold],
    **options: Any,
) -> tuple[Layer, dict[float, float]]:
    """The first layer with the regularization of least held-out error of the second.

    It is searched for downhill from that of ``below``, see :func:`jaxff.coarse.descend`. All are
    fitted to the same batches, so that a few tell which is better.

    Args:
        below: First layer, and where to begin.
        above: Second layer.
        systems: Stack of frames.
        forces: Forces on the beads at each instant, eV/Å.
        occupied: Cell of each frame.
        folds: See :func:`scan`.
        options: Of :func:`scan`: ``batch``, ``batches``, ``second``, ``held_out``, ``seed``,
            ``prior``.

    Returns:
        The layer, and errors in (eV/Å)² by regularization.
    """

    def error(value: float) -> float:
        tried = replace(below, regularization=value)
        return scan([tried], [above], systems, forces, occupied, folds, **options)[0].error

    errors = descend(error, below.regularization)
    return replace(below, regularization=min(errors, key=lambda value: errors[value])), errors


def lengthscales(
    kernel: Kernel,
    systems: System,
    forces: Any,
    occupied: Int[np.ndarray, " frames"],
    *,
    inducing: int = 100,
    frames: int = 10_000,
    seed: int = 0,
    prior: Bound | None = None,
) -> dict[float, float]:
    """Held-out errors of a kernel by its length scale, as models of few inducing frames tell them.

    Each length scale has the regularization that suits it best; it is searched for downhill from 4
    by factors of 4, then of 2. Ensembles see the same mean force through the same kernel, at many
    times the cost (:func:`scan`).

    Args:
        kernel: One radial kernel on beads.
        systems: Stack of frames.
        forces: Forces on the beads at each instant, eV/Å.
        occupied: Cell of each frame (:func:`jaxff.coarse.cells`).
        inducing: Number of inducing frames.
        frames: Most frames that are looked at, at equal distances; each third is held out once.
        seed: Of the draw of inducing frames.
        prior: Energy that is subtracted first.

    Returns:
        Errors in (eV/Å)² per component by length scale.
    """
    check_occupied(occupied, len(forces))
    count = min(frames, len(forces))
    index = np.linspace(0, len(forces) - 1, count).astype(int)
    part, labels = select(systems, index), np.asarray(forces)[index]
    folds = block_folds(count, 3)

    def error(value: float) -> float:
        found = fit_inducing(
            part, labels, occupied[index], kernel, {"lengthscale": value},
            inducing=min(inducing, count), seed=seed, folds=folds, prior=prior,
        )  # fmt: skip
        return float(found.errors.mean(axis=1).min())

    return descend(error, 4.0, factor=4.0)


def best(scores: Sequence[Score]) -> Score:
    """The score of the least error."""
    return min(scores, key=lambda score: score.error)


def decompose(scores: Sequence[Score], noise: float | None = None) -> list[Parts]:
    """Noise, bias and variance of the second layers of a scan.

    The variance is that over the draw of batches. That over trajectories counts as bias, as does
    all of it for ensembles of a single model.

    Args:
        scores: From one call of :func:`scan`.
        noise: Variance of the noise of a component, (eV/Å)²; by default the largest that the scan
            allows, with which the best model has no bias.
    """
    variances = [float(np.mean(score.kept)) if score.models > 1 else 0.0 for score in scores]
    left = [score.error - own for score, own in zip(scores, variances, strict=True)]
    noise = min(left) if noise is None else noise
    return [Parts(noise, rest - noise, own) for rest, own in zip(left, variances, strict=True)]


def cross_validate(
    fit: Callable[[System, Float[np.ndarray, "frames beads 3"], Int[np.ndarray, " train"]], Any],
    systems: System,
    forces: Any,
    folds: Sequence[Fold],
) -> Float[np.ndarray, " folds"]:
    """Mean squared errors of any kind of model on held-out frames, (eV/Å)² per component.

    Args:
        fit: ``(systems, forces, indices of these) -> energy function`` of the training frames.
        systems: Stack of frames.
        forces: Labels in eV/Å.
        folds: From :func:`jaxff.coarse.block_folds`.
    """
    forces = np.asarray(forces, np.float64)
    errors = []
    for train, held_out in folds:
        model = fit(select(systems, train), forces[train], train)
        left = predict_forces(model, select(systems, held_out)) - forces[held_out]
        errors.append(np.mean(left**2))
    return np.array(errors)
