r"""Mean forces by an ensemble of kernel models, and one model of these: two layers.

Forces of beads at one instant are the mean force, which is wanted, with noise many times as large.
Each model of the first layer is fitted to a batch of frames, spread over the states of the
molecule; where noise has taught them different things, their average forgets it. The second layer
is one model of the averages at frames of its own, in place of all those of the first.

Reference:
    Wang, Chmiela, Müller, Noé & Clementi, J. Chem. Phys. 152, 194106 (2020),
    doi:10.1063/5.0007276.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from jaxff import gdml
from jaxff.coarse.priors import restore, subtract
from jaxff.coarse.sampling import Sizes, check_occupied, draw, draw_batches
from jaxff.derivatives import forces as forces_of
from jaxff.linalg import preconditioners, solvers
from jaxff.linalg.solvers import Solver
from jaxff.numerics import select
from jaxff.potential import Bound, EnergyFn, bind
from jaxff.system import System
from jaxff.types import Array, Float, Int

__all__ = ["Bagged", "Layer", "TwoLayers", "bag", "fit_two_layers", "predict_forces"]


def iterative() -> Solver:
    """Conjugate gradients with a preconditioner of the same size for every batch.

    At the level of the noise few iterations are left to it, and what was compiled for one batch
    serves all.
    """
    recipe = preconditioners.nystroem("uniform", rank=0.02)
    return solvers.conjugate_gradient(preconditioner=recipe)


@dataclass(frozen=True, eq=False)
class Layer:
    """How models of one layer are fitted.

    Attributes:
        kernel: Kernel on beads.
        hyper: Its hyperparameters.
        regularization: Added to the diagonal of the matrix, relative to its mean: see
            :func:`jaxff.coarse.noise_ratio` for the level of the noise.
        solver: By default conjugate gradients.
    """

    kernel: Any
    hyper: Mapping[str, Any]
    regularization: float
    solver: Solver | Literal["auto"] = field(default_factory=iterative)

    def fit(
        self, systems: System, forces: Float[np.ndarray, "frames beads 3"]
    ) -> tuple[Bound, gdml.FitInfo]:
        """A model of all these frames; of a single layer, without an ensemble, the baseline.

        Args:
            systems: Stack of frames.
            forces: Labels in eV/Å.
        """
        potential = gdml.potential(self.kernel)
        params = potential.init(jax.random.key(0), systems, hyper=dict(self.hyper))
        params, info = gdml.fit(
            potential, params, {"forces": forces},
            solver=self.solver, regularization=self.regularization, relative=True,
        )  # fmt: skip
        return bind(potential, params), info


class Bagged(NamedTuple):
    """Average of the models of a layer at some frames.

    Attributes:
        mean: Mean forces, ``(queries, beads, 3)`` in eV/Å.
        variance: Variance of the models about it, (eV/Å)²; NaN for a single model.
        contrast: Half the difference of the averages of every other model, eV/Å: what random errors
            of ``mean`` look like, with their covariance (of an odd number B less by 1/B²).
        models: Number of models.
        iterations: Of the solver, for each model.
        seconds: Wall time of each model, fit and prediction; the first with compilation.
    """

    mean: Float[np.ndarray, "queries beads 3"]
    variance: Float[np.ndarray, "queries beads 3"]
    contrast: Float[np.ndarray, "queries beads 3"]
    models: int
    iterations: Int[np.ndarray, " models"]
    seconds: Float[np.ndarray, " models"]

    @property
    def standard_error(self) -> Float[np.ndarray, "queries beads 3"]:
        """Of the mean, in eV/Å, over the draw of the batches."""
        return np.sqrt(self.variance / self.models)


def bag(
    layer: Layer,
    systems: System,
    forces: Float[np.ndarray, "frames beads 3"],
    batches: Iterable[Int[np.ndarray, " batch"]],
    queries: System,
    *,
    progress: Callable[[int], None] | None = None,
) -> Bagged:
    """Fit a model to every batch and average their forces at the queries.

    Models are not kept: memory holds one of them, and three arrays of the size of the result.
    All batches are of one size, so that they share what is compiled for the first.

    Args:
        layer: How to fit.
        systems: Stack of all frames.
        forces: Their labels, eV/Å.
        batches: Frames of each batch.
        queries: Stack of the frames where forces are averaged.
        progress: Called after each model with their number.

    Raises:
        ValueError: If there are no batches, or they differ in size.
    """
    mean = squares = signed = np.zeros(())
    iterations: list[int] = []
    seconds: list[float] = []
    size = None
    for index in batches:
        start = time.perf_counter()
        size = len(index) if size is None else size
        if len(index) != size:
            raise ValueError(
                f"batches must be of one size, for which programs are compiled once: got {size} "
                f"and {len(index)} frames"
            )
        model, info = layer.fit(select(systems, np.asarray(index)), forces[index])
        own = predict_forces(model, queries)
        signed = signed + (-1) ** len(seconds) * own
        change = own - mean
        mean = mean + change / (len(seconds) + 1)
        squares = squares + change * (change - change / (len(seconds) + 1))
        iterations.append(info.iterations)
        seconds.append(time.perf_counter() - start)
        if progress is not None:
            progress(len(seconds))
    count = len(seconds)
    if count == 0:
        raise ValueError("at least one batch is needed, got none")
    variance = squares / (count - 1) if count > 1 else np.full_like(mean, np.nan)
    contrast = (signed - count % 2 * mean) / count
    return Bagged(mean, variance, contrast, count, np.array(iterations), np.array(seconds))


def predict_forces(
    energy_fn: EnergyFn, systems: System, neighbors: Any = None
) -> Float[np.ndarray, "frames beads 3"]:
    """Forces in eV/Å of a stack; models of one shape share a compiled program."""
    return np.asarray(_forces(energy_fn, systems, neighbors))


@jax.jit
def _forces(energy_fn: EnergyFn, systems: System, neighbors: Any) -> Array:
    return forces_of(energy_fn)(systems, neighbors)


class TwoLayers(NamedTuple):
    """A model of mean forces and how it came about.

    Attributes:
        model: The model, with its prior if there is one.
        bagged: Averages of the first layer at the frames of the second.
        frames: These frames.
        info: Report of the second fit.
    """

    model: Bound
    bagged: Bagged
    frames: Int[np.ndarray, " second"]
    info: gdml.FitInfo


def fit_two_layers(
    systems: System,
    forces: Any,
    occupied: Int[np.ndarray, " frames"],
    first: Layer,
    second: Layer,
    *,
    sizes: Sizes,
    seed: int,
    prior: Bound | None = None,
    progress: Callable[[int], None] | None = None,
) -> TwoLayers:
    """Average an ensemble, then fit one model to its mean forces.

    Args:
        systems: Stack of frames.
        forces: Forces on the beads at each instant, eV/Å.
        occupied: Cell of each frame (:func:`jaxff.coarse.cells`).
        first: How models of the ensemble are fitted.
        second: How the model of their averages is fitted.
        sizes: From :func:`jaxff.coarse.sizes`.
        seed: Of the draws.
        prior: Energy that is subtracted from the labels and added back to the model.
        progress: Called after each model of the ensemble with their number.

    Raises:
        ValueError: For sizes that the frames do not allow, and arrays that do not fit together.
    """
    labels = subtract(prior, systems, forces)
    check_occupied(occupied, len(labels))
    rng = np.random.default_rng(seed)
    frames = draw(occupied, sizes.second, rng)
    batches = draw_batches(occupied, sizes.batch, sizes.batches, rng)
    queries = select(systems, frames)
    bagged = bag(first, systems, labels, batches, queries, progress=progress)
    model, info = second.fit(queries, bagged.mean)
    return TwoLayers(restore(prior, model.potential, model.params), bagged, frames, info)
