r"""Solvers of regularised symmetric systems :math:`(K + D)\,c = y`, diagonal :math:`D > 0`."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
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


def cholesky(*, progress: Callable[[float], None] | None = None) -> Solver:
    """Direct solution by a Cholesky factorisation in place.

    Only the lower triangle is assembled and factorised, in one column-ordered array, so that the
    peak is that of one matrix. (Pages of the upper triangle alone are never touched, but where the
    system hands out huge pages of 2 MiB, as Linux does for NumPy, there are none.)

    Args:
        progress: Called with the part that is done, between 0 and 1; the assembly ends at one half.

    Raises:
        MemoryError: From the solver, if the matrix exceeds the free memory.
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
    from scipy.linalg import get_lapack_funcs

    factorize, substitute = get_lapack_funcs(("potrf", "potrs"), dtype=np.float64)
    size = operator.size
    _check_memory(size)
    matrix = operator.dense(lower=True, progress=lambda part: progress(0.5 * part))
    matrix[np.diag_indices(size)] += diagonal
    factor, info = factorize(matrix, lower=1, clean=0, overwrite_a=1)
    if info > 0:
        raise np.linalg.LinAlgError(
            f"the regularised kernel matrix is not positive definite at row {info - 1} of {size}: "
            "raise the regularization, remove duplicate geometries, or shorten the length scale"
        )
    value, _ = substitute(factor, rhs, lower=1)
    if not np.all(np.isfinite(value)):
        raise np.linalg.LinAlgError(
            "the kernel matrix or the labels hold numbers that are not finite: look for atoms in "
            "the same place"
        )
    del matrix, factor
    progress(1.0)
    residual = rhs - np.asarray(operator.matvec(jnp.asarray(value))) - diagonal * value
    relative = float(np.linalg.norm(residual) / max(np.linalg.norm(rhs), np.finfo(float).tiny))
    return Solution(value, relative, 0, bool(np.isfinite(relative)))


def _check_memory(size: int) -> None:
    needed, free = int(size * size * 8 * 1.05), available_bytes()
    if needed > free:
        raise MemoryError(
            f"a dense solve of {size} equations needs {format_bytes(needed)}, "
            f"{format_bytes(free)} are free: use fewer training geometries, or an iterative solver"
        )
