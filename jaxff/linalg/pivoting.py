"""Partial Cholesky factorisations with pivots chosen by the residual diagonal.

The factor of a partial factorisation *is* the Nyström approximation on its pivots, so that no
column is computed twice.
"""

from typing import NamedTuple

import numpy as np

from jaxff.linalg.memory import column_ordered
from jaxff.linalg.operators import KernelOperator
from jaxff.types import Float, Int

__all__ = ["Partial", "greedy", "randomly"]


class Partial(NamedTuple):
    """A partial Cholesky factorisation.

    Attributes:
        pivots: Pivots in the order of the columns of the factor, ``(k,)``.
        factor: ``(n, k)`` in column order, with ``factor @ factor.T`` near the matrix.
        trace: What is left of the trace, relative to that of the matrix.
    """

    pivots: Int[np.ndarray, " k"]
    factor: Float[np.ndarray, "n k"]
    trace: float


def greedy(operator: KernelOperator, count: int, *, block: int | None = None) -> Partial:
    """Pivots at the largest entries of the residual diagonal, one after the other.

    Columns are fetched one by one, as the next pivot depends on the last; ``block`` fetches several
    of the largest entries at once, ahead of their turn, which is cheaper where a column alone is
    dear; the pivots stay those of the plain rule.

    Args:
        operator: The matrix.
        count: Number of pivots; fewer are returned if the residual vanishes.
        block: Columns fetched at once.

    Reference:
        Harbrecht, Peters & Schneider, Appl. Numer. Math. 62, 428 (2012),
        doi:10.1016/j.apnum.2011.10.001.
    """
    residual = np.array(operator.diagonal(), np.float64)
    total = residual.sum()
    factor = column_ordered(operator.size, count)
    index: list[int] = []
    fetched: dict[int, np.ndarray] = {}
    while len(index) < count:
        pivot = int(np.argmax(residual))
        if not residual[pivot] > _negligible(total, operator.size):
            break
        if pivot not in fetched:
            fetched = _fetch(operator, residual, pivot, block or 16)
        column = fetched.pop(pivot)
        _append(factor, index, residual, pivot, column)
    rank = len(index)
    return Partial(np.array(index, int), factor[:, :rank], float(residual.sum() / (total or 1.0)))


def randomly(
    operator: KernelOperator, count: int, rng: np.random.Generator, *, block: int | None = None
) -> Partial:
    """Pivots drawn with probability proportional to the residual diagonal, in blocks.

    Within a block, proposals are accepted with the ratio of the present residual to that at the
    start of the block, which makes the result that of drawing one by one.

    Args:
        operator: The matrix.
        count: Number of pivots; fewer are returned if the residual vanishes.
        rng: Random generator.
        block: Proposals in a block; default an eighth of the pivots, at most 256.

    Reference:
        Chen, Epperly, Tropp & Webber, Commun. Pure Appl. Math. 78, 995 (2025),
        doi:10.1002/cpa.22234; Epperly, Tropp & Webber, arXiv:2410.03969 (rejection in blocks).
    """
    residual = np.array(operator.diagonal(), np.float64)
    total = residual.sum()
    factor = column_ordered(operator.size, count)
    index: list[int] = []
    block = block or int(np.clip(count // 8, 1, 256))
    while len(index) < count:
        left = residual.sum()
        if not left > operator.size * _negligible(total, operator.size):
            break
        before = residual.copy()
        proposed = rng.choice(operator.size, block, p=before / left)
        distinct = np.unique(proposed)
        columns = dict(zip(distinct, operator.columns(distinct).T, strict=True))
        for pivot in proposed:
            if len(index) == count or pivot not in columns:
                continue
            if rng.random() * before[pivot] < residual[pivot]:
                _append(factor, index, residual, int(pivot), columns.pop(pivot))
    rank = len(index)
    return Partial(np.array(index, int), factor[:, :rank], float(residual.sum() / (total or 1.0)))


def _negligible(total: float, size: int) -> float:
    """Residual of one row that is rounding."""
    return 4.0 * np.finfo(float).eps * total / size


def _fetch(
    operator: KernelOperator, residual: np.ndarray, pivot: int, block: int
) -> dict[int, np.ndarray]:
    block = min(block, len(residual))
    largest = np.argpartition(-residual, block - 1)[:block]
    wanted = np.union1d(largest, [pivot])
    return dict(zip(wanted.tolist(), operator.columns(wanted).T, strict=True))


def _append(
    factor: np.ndarray, index: list[int], residual: np.ndarray, pivot: int, column: np.ndarray
) -> None:
    """Eliminate one pivot: a new column of the factor, and what it leaves of the diagonal."""
    rank = len(index)
    new = column - factor[:, :rank] @ factor[pivot, :rank]
    # What earlier pivots leave at their own rows is rounding.
    new[index] = 0.0
    new /= np.sqrt(new[pivot]) if new[pivot] > 0 else np.inf
    factor[:, rank] = new
    residual -= new**2
    np.maximum(residual, 0.0, out=residual)
    residual[pivot] = 0.0
    index.append(pivot)
