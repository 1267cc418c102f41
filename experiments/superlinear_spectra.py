"""The systems of ``superlinear_convergence.py``, their spectra, and bases where products are cheap.

In the basis of the eigenvectors the matrix and the preconditioner of leading eigenvectors are
diagonal, so that iterations cost next to nothing; where the matrix is banded, they cost no more
than the factor of a preconditioner.
"""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import blas, eigh, eigvalsh, solve_triangular

import jaxff
from jaxff.descriptors import inverse_distances
from jaxff.gdml.operator import GdmlOperator
from jaxff.kernels import Kernel, matern52, permutations
from jaxff.linalg import low_rank

COUNTS = {
    "ethanol": 583, "aspirin": 250, "toluene": 350, "uracil": 437, "aspirin40": 40,
    "aspirin100": 100,
}  # fmt: skip
SCALE = 10.0
LEVELS = (1e-5, 1e-8, 1e-10, 1e-12)


def load(system):
    """Operator and scaled labels; ``aspirin/2`` has the frames of the second split."""
    if system == "ethanol100":
        folder = Path(os.environ.get("JAXFF_REFERENCE", "../shared/reference"))
        stored = np.load(folder / "preconditioner_ethanol100.npz")
        frames = jaxff.System(stored["R"], stored["Z"])
        group, labels = stored["perms"], stored["F"]
    else:
        folder = Path(os.environ.get("JAXFF_DATA", "../shared/data")) / "rmd17"
        system, _, split = system.partition("/")
        file = folder / f"rmd17_{system.rstrip('0123456789')}.npz"
        data = jaxff.data.npz.read(file, energy_key="E_md17", forces_key="F_md17")
        order = data.splits[f"split_train_0{split or 1}"]  # in random order
        group = permutations.recover(data[order].systems)
        chosen = data[order[: COUNTS[system]]]
        frames, labels = chosen.systems, chosen.values["forces"]
    kernel = Kernel(inverse_distances, matern52, group)
    return GdmlOperator(kernel, {"lengthscale": jnp.asarray(SCALE)}, frames), labels.ravel() / (
        labels.std()
    )


def leading_factor(operator, most, seed=0):
    """Leading eigenvectors times the roots of their eigenvalues, ``(n, most)``.

    From columns of the matrix comes a first subspace, of half as many dimensions again; the matrix
    is applied to it, and Nyström's approximation from the result is diagonalised.
    """
    wide = min(operator.size, 3 * most // 2)
    index = np.sort(np.random.default_rng(seed).choice(operator.size, wide, replace=False))
    first, _ = low_rank.nystroem_factor(operator.columns(index), index)
    basis = principal(first, wide)
    for _ in range(2):  # twice is enough (for a basis orthonormal to working precision)
        lower, _ = low_rank.cholesky_with_jitter(basis.T @ basis)
        basis = solve_triangular(lower, basis.T, lower=True, check_finite=False).T
    image = operator.dense() @ basis
    corner = basis.T @ image
    lower, _ = low_rank.cholesky_with_jitter(0.5 * (corner + corner.T))
    return principal(solve_triangular(lower, image.T, lower=True, check_finite=False).T, most, 0.0)


def principal(factor, count, power=0.5):
    """A factor of as many leading principal directions, their lengths divided by a power."""
    squares, turns = eigh(factor.T @ factor, check_finite=False)
    squares = np.maximum(squares[::-1][:count], squares[-1] * 1e-18)
    return factor @ (turns[:, ::-1][:, :count] / squares**power)


class Banded:
    """A banded matrix, turned by a reflection, as is the one below."""

    def __init__(self, band, seed=0):
        self.size, self.band = band.shape[1], np.asfortranarray(band)
        self.normal = _unit(self.size, seed)

    def turn(self, columns):
        """Into the turned basis, and back."""
        return columns - np.multiply.outer(2.0 * self.normal, self.normal @ columns)

    def matvec(self, vector):
        """The product."""
        inner = self.turn(np.asarray(vector))
        image = blas.dsbmv(len(self.band) - 1, 1.0, self.band, inner, lower=1)
        return jnp.asarray(self.turn(image))


def turned(reduced, banded, rows):
    """Rows ``(k, n)`` in the basis of a banded matrix; what has one axis alone is a scale."""
    if rows.ndim == 1:
        return rows
    columns = np.array(rows).T
    return jnp.asarray(np.ascontiguousarray(banded.turn(reduced.turn(columns)).T))


class Turned:
    """A matrix in the basis of its eigenvectors, turned by a reflection.

    In the basis itself rounding would be smaller than it is in any other, and iterations fewer.
    """

    def __init__(self, values, seed=0):
        self.size, self.values = len(values), jnp.asarray(np.maximum(values, 0.0))
        self.normal = jnp.asarray(_unit(self.size, seed))

    def turn(self, vector):
        """Into the turned basis, and back."""
        return _reflect(self.normal, vector)

    def matvec(self, vector):
        """The product."""
        return _scale(self.normal, self.values, vector)


def _unit(size, seed):
    normal = np.random.default_rng(seed).normal(size=size)
    return normal / np.linalg.norm(normal)


@jax.jit
def _reflect(normal, vector):
    return vector - 2.0 * normal * (normal @ vector)


@jax.jit
def _scale(normal, values, vector):
    return _reflect(normal, values * _reflect(normal, vector))


@jax.jit
def _woodbury(stored, vector):
    normal, shares, diagonal = stored
    return ((vector[:, 0] - _scale(normal, shares, vector[:, 0])) / diagonal)[:, None]


def leading(rank, operator, diagonal, **_):
    """The preconditioner of the leading eigenvectors, as Woodbury's identity has it."""
    kept = jnp.where(jnp.arange(operator.size) < rank, operator.values, 0.0)
    stored = operator.normal, kept / (kept + diagonal), jnp.asarray(diagonal)
    return low_rank.LowRank(
        jax.tree_util.Partial(_woodbury, stored), rank, 0.0, np.zeros(operator.size), None, 0
    )


def spectrum(values, rhs, regularization):
    """Eigenvalues at places that look even on a logarithmic axis, and effective dimensions."""
    places = np.unique(np.geomspace(1, len(values), 150).round()).astype(int)
    squares = values**2
    return {
        "place": places.tolist(), "eigenvalue": values[places - 1].tolist(),
        "share_of_labels": (np.cumsum(rhs**2)[places - 1] / np.sum(rhs**2)).tolist(),
        # As in the published data the level is compared with the square.
        "effective_dimension": {
            f"{level:g}": float(np.sum(squares / (squares + level))) for level in LEVELS
        },
        "ridge_dimension": float(np.sum(values / (values + regularization))),
    }  # fmt: skip


def after(operator, preconditioner, regularization):
    """Eigenvalues of the preconditioned matrix, descending; dense, for the small system."""
    size = operator.size
    built = preconditioner(operator, np.full(size, regularization))
    lower = np.linalg.cholesky(operator.dense() + regularization * np.eye(size))
    values = eigvalsh(lower.T @ np.asarray(built.apply(jnp.asarray(lower))))[::-1]
    places = np.unique(np.geomspace(1, size, 100).round()).astype(int)
    return {"place": places.tolist(), "eigenvalue": values[places - 1].tolist()}
