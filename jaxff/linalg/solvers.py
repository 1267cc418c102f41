r"""Solvers of regularised symmetric systems :math:`(K + D)\,c = y`, diagonal :math:`D > 0`."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxff.linalg.blocked_cholesky import factorize, solve
from jaxff.linalg.memory import available_bytes, dense_bytes, format_bytes
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


def cholesky(*, progress: Callable[[float], None] | None = None) -> Solver:
    """Direct solution by a Cholesky factorisation in place.

    Only the lower triangle is assembled and factorised, in one column-ordered array, whose
    untouched pages take no memory: the peak is little more than half of the full matrix.

    Args:
        progress: Called with the part that is done, between 0 and 1; the assembly ends at one half.

    Raises:
        MemoryError: From the solver, if half the matrix exceeds the free memory.
        numpy.linalg.LinAlgError: From the solver, if the matrix is not positive definite to working
            precision.
    """
    return partial(_cholesky, progress or _silent)


def _silent(part: float) -> None:
    del part


def _cholesky(
    progress: Callable[[float], None],
    operator: KernelOperator,
    rhs: np.ndarray,
    diagonal: np.ndarray,
) -> Solution:
    size = operator.size
    _check_memory(size)
    matrix = operator.dense(lower=True, progress=lambda part: progress(0.5 * part))
    matrix[np.diag_indices(size)] += diagonal
    try:
        factorize(matrix, progress=lambda part: progress(0.5 + 0.5 * part))
    except np.linalg.LinAlgError as error:
        raise np.linalg.LinAlgError(
            f"the regularised kernel matrix is {error} of {size}: raise the regularization, remove "
            "duplicate geometries, or shorten the length scale"
        ) from error
    value = solve(matrix, rhs)
    del matrix
    if not np.isfinite(value).all():
        raise np.linalg.LinAlgError(
            f"the solution of {size} equations is not finite: the matrix or the right-hand side is "
            "not, or they are beyond working precision; check the geometries and labels"
        )
    residual = rhs - np.asarray(operator.matvec(jnp.asarray(value))) - diagonal * value
    relative = float(np.linalg.norm(residual) / max(np.linalg.norm(rhs), np.finfo(float).tiny))
    return Solution(value, relative, 0, bool(np.isfinite(relative)))


def _check_memory(size: int) -> None:
    needed, free = dense_bytes(size), available_bytes()
    if needed > free:
        raise MemoryError(
            f"a dense solve of {size} equations needs {format_bytes(needed)}, "
            f"{format_bytes(free)} are free: use fewer training geometries, or an iterative solver"
        )
