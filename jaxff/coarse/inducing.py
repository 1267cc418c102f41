r"""A kernel model of all frames from a few of them, in one pass.

The model has the coefficients :math:`c` of inducing frames alone and is fitted to all labels:

.. math:: (K_{nm}^T K_{nm} + \lambda K_{mm})\, c = K_{nm}^T y ,

with :math:`\lambda` the variance of the noise, as the amplitude of the kernel sees it. The two
products are sums over frames: they are added up from a stream of them, and of what they were made
from nothing is kept. Sums of parts of a trajectory, subtracted, leave out a fold, whose error
follows from its own sums.

Reference:
    Smola & Schölkopf, ICML 2000, 911 (subsets of basis functions); Quiñonero-Candela & Rasmussen,
    J. Mach. Learn. Res. 6, 1939 (2005) (as a Gaussian process).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxff import gdml
from jaxff.coarse.priors import restore, subtract
from jaxff.coarse.sampling import Fold, check_occupied, draw
from jaxff.coarse.search import descend
from jaxff.gdml import expansion
from jaxff.gdml.blocks import tile_blocks as blocks_of
from jaxff.gdml.blocks import tile_columns, tile_rows, tile_terms
from jaxff.gdml.columns import mean_features
from jaxff.gdml.cosets import parts_of
from jaxff.gdml.operator import GdmlOperator
from jaxff.gdml.potential import KernelPotential, references_of
from jaxff.kernels.kernel import Kernel
from jaxff.linalg.low_rank import cholesky_with_jitter
from jaxff.linalg.memory import available_bytes, format_bytes
from jaxff.numerics import select
from jaxff.potential import Bound
from jaxff.system import System
from jaxff.types import Array, Float, Int, Params

__all__ = ["Inducing", "NormalEquations", "fit_inducing", "normal_equations", "solve"]

_ROWS, _COLUMNS = 64, 24
"""Frames and inducing frames of a tile of the matrix, which is computed at once."""


@dataclass(frozen=True)
class NormalEquations:
    """Sums over labels; those of more frames are added, those of fewer subtracted.

    Attributes:
        gram: :math:`K_{nm}^T K_{nm}`, its lower triangle, in column order.
        projection: :math:`K_{nm}^T y` in eV/Å.
        squares: :math:`y^T y` in (eV/Å)².
        count: Number of labels, components of forces.
    """

    gram: Float[np.ndarray, "k k"]
    projection: Float[np.ndarray, " k"]
    squares: float
    count: int

    def __add__(self, other: "NormalEquations") -> "NormalEquations":
        """Sums over the labels of both."""
        return self._combined(other, 1)

    def __sub__(self, other: "NormalEquations") -> "NormalEquations":
        """Sums over the labels that are not the other's."""
        return self._combined(other, -1)

    def _combined(self, other: "NormalEquations", sign: int) -> "NormalEquations":
        return NormalEquations(
            self.gram + sign * other.gram,
            self.projection + sign * other.projection,
            self.squares + sign * other.squares,
            self.count + sign * other.count,
        )

    def error(self, coefficients: Float[np.ndarray, " k"]) -> float:
        """Mean squared error of a model on these labels, (eV/Å)² per component."""
        from scipy.linalg import get_blas_funcs

        (symv,) = get_blas_funcs(("symv",), dtype=np.float64)
        image = symv(1.0, self.gram, coefficients, lower=1)
        left = self.squares - 2.0 * coefficients @ self.projection + coefficients @ image
        return float(left / self.count)


def normal_equations(
    potential: KernelPotential, params: Params, chunks: Iterable[tuple[System, Any]]
) -> NormalEquations:
    """Add up the normal equations of labelled frames for a model of inducing frames.

    Memory holds one matrix of k², the components of the inducing frames, and one tile.

    Args:
        potential: From :func:`jaxff.gdml.potential`, of one radial kernel.
        params: From its ``init``, whose references are the inducing frames.
        chunks: Stacks of frames and their forces in eV/Å, of any sizes; few sizes compile less.

    Raises:
        TypeError: For kernels of another kind.
        MemoryError: If the matrix does not fit.
        ValueError: If there are no frames, or forces are not those of the frames.
    """
    kernel = _radial(potential)
    inducing = references_of(params)
    hyper = params["hyper"]
    size = inducing.positions.size
    if 8 * size**2 > available_bytes():
        raise MemoryError(
            f"the normal equations of {size} components need {format_bytes(8 * size**2)}, "
            f"{format_bytes(available_bytes())} are free: take fewer inducing frames"
        )
    center = mean_features(kernel, hyper, inducing)
    count, width = len(inducing.positions), min(_COLUMNS, len(inducing.positions))
    columns = [
        tile_columns(kernel, hyper, select(inducing, np.arange(i, i + width) % count), center)
        for i in range(0, count, width)
    ]
    total = _Sums(np.zeros((size, size), order="F"), np.zeros(size))
    for systems, forces in chunks:
        forces = np.asarray(forces, np.float64)
        if forces.shape != systems.positions.shape or not np.isfinite(forces).all():
            raise ValueError(
                f"forces must be finite and of shape {systems.positions.shape}, got {forces.shape}"
            )
        frames = len(forces)
        for first in range(0, frames, _ROWS):
            index = np.arange(first, first + _ROWS)
            rows = tile_rows(kernel, hyper, select(systems, index % frames), center)
            found = [_tile(kernel, hyper["lengthscale"], own, rows) for own in columns]
            last = min(_ROWS, frames - first)
            own = np.concatenate([np.asarray(part)[:last] for part in found], axis=2)[:, :, :size]
            total.add(own.reshape(-1, size), forces[first : first + last].ravel())
    if total.count == 0:
        raise ValueError("a fit needs labelled frames, got none")
    return NormalEquations(total.gram, total.projection, total.squares, total.count)


@dataclass
class _Sums:
    gram: np.ndarray
    projection: np.ndarray
    squares: float = 0.0
    count: int = 0

    def add(self, matrix: np.ndarray, labels: np.ndarray) -> None:
        from scipy.linalg import get_blas_funcs

        (syrk,) = get_blas_funcs(("syrk",), dtype=np.float64)
        # Rows of a C-ordered matrix are columns of the transpose that the routine reads.
        self.gram = syrk(1.0, matrix.T, beta=1.0, c=self.gram, lower=1, overwrite_c=1)
        self.projection += matrix.T @ labels
        self.squares += float(labels @ labels)
        self.count += len(labels)


def _tile(kernel: Kernel, lengthscale: Array, columns: Any, rows: Any) -> Array:
    """Part ``(frames, block, columns)`` of the matrix."""
    found = tile_terms(kernel, False, lengthscale, columns, rows)
    return _frames_first(blocks_of(kernel, columns, rows, found))


@jax.jit
def _frames_first(values: Array) -> Array:
    count, block, _, frames = values.shape
    return jnp.transpose(values, (3, 2, 0, 1)).reshape(frames, -1, count * block)


def _radial(potential: KernelPotential) -> Kernel:
    kernel = getattr(potential, "kernel", None)
    if not (isinstance(kernel, Kernel) and expansion.supports(kernel)):
        raise TypeError(
            "inducing frames need one radial kernel on a descriptor, smooth enough for forces "
            f"(no sum or product of kernels), got {type(kernel).__name__}"
        )
    if parts_of(kernel)[1] is not None or kernel.translations is not None:
        raise TypeError(f"groups of more than 16 permutations are not served, got {kernel.order}")
    return kernel


def solve(
    potential: KernelPotential, params: Params, normal: NormalEquations, regularization: float
) -> Params:
    """Parameters of the model that fits the labels of normal equations.

    Args:
        potential: As for :func:`normal_equations`.
        params: Likewise.
        normal: From there.
        regularization: Variance of the noise over the square of the amplitude of the kernel,
            relative to the mean diagonal of the kernel matrix: see
            :func:`jaxff.coarse.noise_ratio`.

    Raises:
        ValueError: For a regularization that is not positive.
    """
    from scipy.linalg import cho_solve

    if not (np.isfinite(regularization) and regularization > 0):
        raise ValueError(f"regularization must be a positive number, got {regularization}")
    kernel, inducing = _radial(potential), references_of(params)
    own = GdmlOperator(kernel, params["hyper"], inducing).dense(lower=True)
    scale = regularization * float(np.mean(np.diagonal(own)))
    lower, _ = cholesky_with_jitter(normal.gram + scale * own)
    found = cho_solve((lower, True), normal.projection, check_finite=False)
    coefficients = {"forces": jnp.asarray(found.reshape(inducing.positions.shape))}
    expanded = expansion.expand_compiled(kernel, params["hyper"], inducing, coefficients, None)
    return {**params, "coefficients": coefficients, "expansion": expanded}


class Inducing(NamedTuple):
    """A model of inducing frames and how it came about.

    Attributes:
        model: The model, with its prior if there is one.
        frames: The inducing frames.
        regularization: The one that was taken.
        tried: All that were tried.
        errors: Mean squared errors on held-out folds for each regularization that was tried,
            (eV/Å)² per component, ``(regularizations, folds)``; empty without folds.
    """

    model: Bound
    frames: Int[np.ndarray, " inducing"]
    regularization: float
    tried: Float[np.ndarray, " regularizations"]
    errors: Float[np.ndarray, "regularizations folds"]


def fit_inducing(
    systems: System,
    forces: Any,
    occupied: Int[np.ndarray, " frames"],
    kernel: Kernel,
    hyper: Mapping[str, Any],
    *,
    inducing: int,
    regularization: float | Sequence[float] | None = None,
    seed: int,
    folds: Sequence[Fold] = (),
    prior: Bound | None = None,
    chunk: int = 4096,
) -> Inducing:
    """One model of all frames, by inducing frames that are spread over the states.

    Args:
        systems: Stack of frames.
        forces: Forces on the beads at each instant, eV/Å.
        occupied: Cell of each frame (:func:`jaxff.coarse.cells`).
        kernel: One radial kernel on beads.
        hyper: Its hyperparameters.
        inducing: Number of inducing frames.
        regularization: See :func:`solve`; of several, that of the least error on the folds. By
            default it is searched for on the folds, downhill from 1.
        seed: Of the draw.
        folds: Held-out parts that cover all frames once, for the choice: their sums are kept, one
            matrix each, and added up. Inducing frames are positions, not labels, and are drawn from
            all frames.
        prior: Energy that is subtracted from the labels and added back to the model.
        chunk: Frames in a chunk of the stream.

    Raises:
        ValueError: If several regularizations, or none, come without folds, or folds do not cover
            all frames.
    """
    if (regularization is None or np.size(regularization) > 1) and not folds:
        raise ValueError("to choose a regularization give folds, got none")
    labels = subtract(prior, systems, forces)
    check_occupied(occupied, len(labels))
    parts = [fold.held_out for fold in folds] or [np.arange(len(labels))]
    if not np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(labels))):
        raise ValueError(f"folds must hold out each of {len(labels)} frames once")
    frames = draw(occupied, inducing, np.random.default_rng(seed))
    potential = gdml.potential(kernel)
    params = potential.init(jax.random.key(0), select(systems, frames), hyper=dict(hyper))
    sums = [
        normal_equations(potential, params, _chunks(systems, labels, part, chunk)) for part in parts
    ]
    whole = sums[0]
    for more in sums[1:]:
        whole = whole + more
    errors: dict[float, list[float]] = {}

    def error(value: float) -> float:
        fitted = (solve(potential, params, whole - own, value) for own in sums)
        errors[value] = [
            own.error(np.ravel(each["coefficients"]["forces"]))
            for own, each in zip(sums, fitted, strict=True)
        ]
        return float(np.mean(errors[value]))

    if regularization is None:
        descend(error)
    elif folds:
        for value in np.atleast_1d(np.asarray(regularization, float)).tolist():
            error(value)
    tried = np.sort(list(errors) or [float(np.ravel(np.asarray(regularization))[0])])
    rows = np.array([errors[value] for value in tried.tolist()] if folds else np.zeros((1, 0)))
    chosen = float(tried[np.argmin(rows.mean(axis=1))]) if folds else float(tried[0])
    params = solve(potential, params, whole, chosen)
    return Inducing(restore(prior, potential, params), frames, chosen, tried, rows)


def _chunks(systems: System, labels: np.ndarray, index: np.ndarray, size: int) -> Iterable[Any]:
    for first in range(0, len(index), size):
        own = index[first : first + size]
        yield select(systems, own), labels[own]
