r"""Inverses of regularised low-rank matrices, :math:`(L L^T + D)^{-1}`, applied to vectors.

Two forms are offered. Woodbury's is exact for any positive diagonal :math:`D`; its factor costs one
Gram matrix and one triangular solve. The spectral form needs the eigenvectors of :math:`L L^T` and
one value on the diagonal; it does not divide by the regularization.

Reference:
    Blücher, Müller & Chmiela, J. Chem. Theory Comput. 19, 4619 (2023),
    doi:10.1021/acs.jctc.2c01304; Frangella, Tropp & Udell, SIAM J. Matrix Anal. Appl. 44, 718
    (2023), doi:10.1137/21M1466244 (spectral form).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.types import Array, Float

__all__ = ["LowRank", "back", "leverage_scores", "nystroem_factor", "spectral", "woodbury"]

JITTERS = (0.0, 1e-15, 1e-14, 1e-13, 1e-12, 1e-11, 1e-10, 1e-9, 1e-8, 1e-6, 1e-4, 1e-2, 1.0)
"""Added to a diagonal, relative to its mean, until a Cholesky factorisation succeeds."""

_PANEL = 4096
"""Rows that are worked on at once where a copy is made."""


class LowRank(NamedTuple):
    """An approximate inverse.

    Attributes:
        apply: ``(n,)`` or ``(n, m)`` to the same shape.
        rank: Columns of the factor.
        jitter: What had to be added to a diagonal, relative to its mean, for a factorisation.
        scores: Ridge leverage scores of the approximation, ``(n,)``.
        columns: Indices of the columns that were used, if it was made from columns.
        kept_bytes: Memory that it holds.
        spare_bytes: What is left of the memory that was allowed.
    """

    apply: Callable[[Array], Array]
    rank: int
    jitter: float
    scores: Float[np.ndarray, " n"]
    columns: np.ndarray | None
    kept_bytes: int
    spare_bytes: float = np.inf


def nystroem_factor(
    columns: Float[np.ndarray, "n k"], index: np.ndarray
) -> tuple[Float[np.ndarray, "n k"], float]:
    """Factor L of the Nyström approximation from columns of the matrix; overwrites them.

    Args:
        columns: The columns ``index`` of the matrix, in column order.
        index: Their indices.

    Returns:
        L with :math:`L L^T = K_{nm} K_{mm}^{-1} K_{mn}`, and the relative jitter that the
        factorisation of :math:`K_{mm}` needed.
    """
    from scipy.linalg import get_blas_funcs

    (trsm,) = get_blas_funcs(("trsm",), dtype=np.float64)
    lower, jitter = cholesky_with_jitter(columns[index])
    factor = trsm(1.0, lower, columns, side=1, lower=1, trans_a=1, overwrite_b=1)
    return factor, jitter


def cholesky_with_jitter(matrix: Float[np.ndarray, "k k"]) -> tuple[np.ndarray, float]:
    """Lower Cholesky factor, with as little added to the diagonal as makes one possible.

    Only the lower triangle of the matrix is read.

    Raises:
        numpy.linalg.LinAlgError: If the matrix holds numbers that are not finite.
    """
    from scipy.linalg import cholesky

    if not np.isfinite(matrix).all():
        raise np.linalg.LinAlgError("the kernel matrix holds numbers that are not finite")
    scale = float(np.mean(np.diagonal(matrix))) or 1.0
    for jitter in JITTERS:
        shifted = np.array(matrix, order="F")
        shifted[np.diag_indices(len(matrix))] += jitter * scale
        try:
            return cholesky(shifted, lower=True, overwrite_a=True, check_finite=False), jitter
        except np.linalg.LinAlgError:
            continue
    raise np.linalg.LinAlgError(
        "the kernel matrix between the chosen columns is not positive semidefinite"
    )


def woodbury(
    factor: Float[np.ndarray, "n k"],
    diagonal: Float[np.ndarray, " n"],
    index: np.ndarray | None = None,
    jitter: float = 0.0,
) -> LowRank:
    r"""Inverse of :math:`L L^T + D` by the identity of Woodbury; overwrites L.

    :math:`D^{-1/2} (1 - T^T T) D^{-1/2}` with :math:`T = C^{-1} L^T D^{-1/2}` and
    :math:`C C^T = 1 + L^T D^{-1} L`. The squared column norms of T are the ridge leverage scores.
    """
    root = np.sqrt(diagonal)
    factor /= root[:, None]
    thin, more = _thin(factor)
    scores = np.einsum("nk,nk->n", thin, thin)
    # Rows of n numbers: both products run along them.
    stored = jax.device_put(thin.T), jnp.asarray(1.0 / root)
    return LowRank(
        jax.tree_util.Partial(_apply_woodbury, stored),
        thin.shape[1], max(jitter, more), scores, index, thin.nbytes,
    )  # fmt: skip


def _thin(whitened: Float[np.ndarray, "n k"]) -> tuple[Float[np.ndarray, "n k"], float]:
    r""":math:`T^T = D^{-1/2} L C^{-T}` in place of :math:`D^{-1/2} L`, and the jitter of C."""
    from scipy.linalg import get_blas_funcs

    (trsm, syrk) = get_blas_funcs(("trsm", "syrk"), dtype=np.float64)
    gram = syrk(1.0, whitened, trans=1, lower=1)
    gram[np.diag_indices(len(gram))] += 1.0
    lower, jitter = cholesky_with_jitter(gram)
    # Rows of the transposed factor are solved as columns on the right.
    return trsm(1.0, lower, whitened, side=1, lower=1, trans_a=1, overwrite_b=1), jitter


@jax.jit
def _apply_woodbury(stored: Any, vector: Array) -> Array:
    thin, inverse_root = stored

    def apply(vector: Array) -> Array:
        weight = inverse_root.reshape(-1, *(1,) * (vector.ndim - 1))
        whitened = weight * vector
        return weight * (whitened - back(thin, thin @ whitened))

    return _without_unit_axis(apply, vector)


def back(thin: Array, inner: Array) -> Array:
    """Product of the transpose with one vector or several.

    A vector is multiplied from the left: XLA's product of the transpose takes 3.7 times as long.
    """
    return inner @ thin if inner.ndim == 1 else thin.T @ inner


def _without_unit_axis(function: Callable[[Array], Array], vector: Array) -> Array:
    """A product with one column is slower than one with a vector."""
    if vector.ndim == 2 and vector.shape[1] == 1:
        return function(vector[:, 0])[:, None]
    return function(vector)


def spectral(
    factor: Float[np.ndarray, "n k"],
    diagonal: Float[np.ndarray, " n"],
    index: np.ndarray | None = None,
    jitter: float = 0.0,
) -> LowRank:
    r"""The same inverse up to a factor, from the eigenvectors of :math:`L L^T`; overwrites L.

    :math:`W (U\,\mathrm{diag}[(s_k + \lambda)/(s + \lambda)]\,U^T + 1 - U U^T) W` with the
    geometric mean :math:`\lambda` of the diagonal, :math:`W = (\lambda/D)^{1/2}`, and the
    eigenvectors of :math:`W L L^T W`.

    Args:
        factor: L.
        diagonal: D.
        index: Columns from which L was made.
        jitter: That of L.
    """
    from scipy.linalg import qr, svd

    regularization = float(np.exp(np.mean(np.log(diagonal))))
    outer = np.sqrt(regularization / diagonal)
    factor *= outer[:, None]
    basis, triangle = map(
        np.asarray, qr(factor, mode="economic", overwrite_a=True, check_finite=False)
    )
    rotation, singular, _ = svd(triangle, check_finite=False)
    for start in range(0, len(basis), _PANEL):
        basis[start : start + _PANEL] = basis[start : start + _PANEL] @ rotation
    values = singular**2
    floor = values[-1] + regularization if len(values) else 1.0
    weights = floor / (values + regularization) - 1.0
    scores = np.einsum("nk,k,nk->n", basis, values / (values + regularization), basis)
    stored = jax.device_put(basis.T), jnp.asarray(weights), jnp.asarray(outer)
    return LowRank(
        jax.tree_util.Partial(_apply_spectral, stored),
        len(values), jitter, scores, index, basis.nbytes,
    )  # fmt: skip


@jax.jit
def _apply_spectral(stored: Any, vector: Array) -> Array:
    vectors, weights, outer = stored

    def apply(vector: Array) -> Array:
        weight, scale = (x.reshape(-1, *(1,) * (vector.ndim - 1)) for x in (weights, outer))
        scaled = scale * vector
        return scale * (scaled + back(vectors, weight * (vectors @ scaled)))

    return _without_unit_axis(apply, vector)


def leverage_scores(
    factor: Float[np.ndarray, "n k"], diagonal: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    r"""Ridge leverage scores :math:`\mathrm{diag}[L L^T (L L^T + D)^{-1}]`; L is kept."""
    thin, _ = _thin(factor / np.sqrt(diagonal)[:, None])
    return np.einsum("nk,nk->n", thin, thin)
