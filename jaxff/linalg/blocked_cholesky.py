"""Cholesky factorisation in place, block column by block column.

LAPACK's factorisation in OpenBLAS, run on two threads, was seen to crash at 27 000 rows (the cause
is not established), while matrix products of that size run. This left-looking form spends all but a
vanishing part of its operations in products, needs one block column of work space, touches nothing
above the diagonal blocks, and can say how far it is.

Reference:
    Golub & Van Loan, Matrix Computations, 4th ed. (Johns Hopkins, 2013), section 4.2.9.
"""

from collections.abc import Callable

import numpy as np

from jaxff.types import Float

__all__ = ["factorize", "solve"]

_WIDEST = 768
"""Columns of a block with which products reach full speed."""


def _width(size: int) -> int:
    """Columns per block: work space of a few percent of the matrix, also where it is small."""
    return max(32, min(_WIDEST, size // 32))


def factorize(
    matrix: Float[np.ndarray, "n n"],
    *,
    block: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> None:
    """Overwrite the lower triangle of a symmetric matrix by its Cholesky factor.

    Args:
        matrix: In column order; entries above the diagonal blocks are neither read nor written.
        block: Columns per block; default by the size.
        progress: Called with the part of the work that is done.

    Raises:
        numpy.linalg.LinAlgError: If the matrix is not positive definite; names the row.
    """
    from scipy.linalg import get_blas_funcs, get_lapack_funcs

    (trsm,), (potrf,) = (
        get_blas_funcs(("trsm",), dtype=np.float64),
        get_lapack_funcs(("potrf",), dtype=np.float64),
    )
    size = len(matrix)
    block = block or _width(size)
    for start in range(0, size, block):
        stop = min(start + block, size)
        panel = matrix[start:, start:stop]
        if start:
            # The transposed product is the panel in column order, written without a copy.
            panel -= (matrix[start:stop, :start] @ matrix[start:, :start].T).T
        corner, failed = potrf(np.asfortranarray(panel[: stop - start]), lower=1)
        if failed > 0:
            raise np.linalg.LinAlgError(f"not positive definite at row {start + failed - 1}")
        panel[: stop - start] = corner
        if stop < size:
            below = np.asfortranarray(panel[stop - start :])
            panel[stop - start :] = trsm(
                1.0, corner, below, side=1, lower=1, trans_a=1, overwrite_b=1
            )
        if progress is not None:
            left = 1.0 - stop / size
            progress(1.0 - left * left * (3.0 - 2.0 * left))


def solve(
    factor: Float[np.ndarray, "n n"], rhs: Float[np.ndarray, " n"], *, block: int | None = None
) -> Float[np.ndarray, " n"]:
    """Solve with a factor from :func:`factorize`."""
    from scipy.linalg import solve_triangular

    solution = np.array(rhs, np.float64)
    size = len(factor)
    block = block or _width(size)
    starts = range(0, size, block)
    for start in starts:
        stop = min(start + block, size)
        corner = factor[start:stop, start:stop]
        solution[start:stop] = solve_triangular(
            corner, solution[start:stop], lower=True, check_finite=False
        )
        solution[stop:] -= factor[stop:, start:stop] @ solution[start:stop]
    for start in reversed(starts):
        stop = min(start + block, size)
        corner = factor[start:stop, start:stop]
        solution[start:stop] -= factor[stop:, start:stop].T @ solution[stop:]
        solution[start:stop] = solve_triangular(
            corner, solution[start:stop], lower=True, trans=1, check_finite=False
        )
    return solution
