"""Solvers of regularised symmetric systems :math:`(K + D)\\,c = y` with a diagonal :math:`D > 0`."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxff.linalg.memory import available_bytes, format_bytes
from jaxff.linalg.operators import KernelOperator

__all__ = ["Solution", "Solver", "cholesky"]


class Solution(NamedTuple):
    """Result of a solve.

    Attributes:
        value: The solution, ``(n,)``.
        residual_norm: Euclidean norm of the residual relative to that of the right-hand side.
        iterations: Number of iterations; 0 for a direct solver.
        converged: Whether the solver met its own criterion.
    """

    value: np.ndarray
    residual_norm: float
    iterations: int
    converged: bool


Solver = Callable[[KernelOperator, np.ndarray, np.ndarray], Solution]
"""Takes the operator, the right-hand side and the added diagonal (both ``(n,)``)."""


def cholesky() -> Solver:
    """Direct solution by a Cholesky factorisation in place.

    Only the lower triangle is assembled and factorised, in one column-ordered array; memory pages of the upper
    triangle are never touched, so that the peak is little more than half of the full matrix.

    Raises:
        MemoryError: From the solver, if half the matrix exceeds the free memory.
        numpy.linalg.LinAlgError: From the solver, if the matrix is not positive definite to working precision.
    """
    return _cholesky


def _cholesky(operator: KernelOperator, rhs: np.ndarray, diagonal: np.ndarray) -> Solution:
    from scipy.linalg import lapack

    size = operator.size
    _check_memory(size)
    matrix = operator.dense(lower=True)
    matrix[np.diag_indices(size)] += diagonal
    factor, info = lapack.dpotrf(matrix, lower=1, clean=0, overwrite_a=1)
    if info > 0:
        raise np.linalg.LinAlgError(
            f"the regularised kernel matrix is not positive definite at row {info - 1} of {size}: "
            "raise the regularization, remove duplicate geometries, or shorten the length scale"
        )
    value, _ = lapack.dpotrs(factor, rhs, lower=1)
    del matrix, factor
    residual = rhs - np.asarray(operator.matvec(value)) - diagonal * value
    relative = float(np.linalg.norm(residual) / max(np.linalg.norm(rhs), np.finfo(float).tiny))
    return Solution(value, relative, 0, bool(np.isfinite(relative)))


def _check_memory(size: int) -> None:
    needed, free = int(size * size * 8 * 0.55), available_bytes()
    if needed > free:
        raise MemoryError(
            f"a dense solve of {size} equations needs {format_bytes(needed)}, "
            f"{format_bytes(free)} are free: use fewer training geometries, or an iterative solver"
        )
