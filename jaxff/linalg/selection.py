"""Which columns of a kernel matrix make a preconditioner: the rules, by name.

Every rule takes the operator, the diagonal that is added, the number of columns and a random
generator, and returns indices of columns, without repetition.

Reference:
    Blücher, Müller & Chmiela, J. Chem. Theory Comput. 19, 4619 (2023),
    doi:10.1021/acs.jctc.2c01304, section 3.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from jaxff.linalg import sharded_low_rank
from jaxff.linalg.low_rank import leverage_scores, nystroem_factor
from jaxff.linalg.operators import KernelOperator
from jaxff.linalg.parallel import mesh_of
from jaxff.linalg.pivoting import greedy, randomly
from jaxff.types import Float, Int

__all__ = ["RULES", "Rule", "by_scores", "exact_leverage_scores", "sample"]

Rule = Callable[
    [KernelOperator, Float[np.ndarray, " n"], int, np.random.Generator], Int[np.ndarray, " k"]
]

_TRUNCATION = 1500
"""Pivots of the truncated Cholesky rule, as in the paper."""


def sample(
    scores: Float[np.ndarray, " n"], count: int, rng: np.random.Generator
) -> Int[np.ndarray, " k"]:
    """So many indices without repetition, with probabilities proportional to the scores.

    By the trick of Efraimidis and Spirakis: the largest of ``log(u) / score`` are such a sample,
    for random numbers u. Indices without a score come last, in random order.

    Reference:
        Efraimidis & Spirakis, Inf. Process. Lett. 97, 181 (2006), doi:10.1016/j.ipl.2005.11.003.
    """
    tiny = np.finfo(float).tiny
    negative = -np.log(np.maximum(rng.random(len(scores)), tiny))
    # Compared by their logarithms: a quotient by a tiny score would overflow.
    keys = np.log(negative) - np.log(np.maximum(scores, tiny))
    return np.sort(np.argpartition(keys, count - 1)[:count])


def uniform(
    operator: KernelOperator, diagonal: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Columns drawn uniformly."""
    del diagonal
    return np.sort(rng.choice(operator.size, count, replace=False))


def exact_leverage_scores(operator: KernelOperator, diagonal: np.ndarray) -> np.ndarray:
    r"""Ridge leverage scores :math:`\mathrm{diag}[K (K + D)^{-1}]` from the dense matrix.

    For study: as dear as solving the system.
    """
    from scipy.linalg import eigh

    matrix = operator.dense() / np.sqrt(diagonal)[:, None] / np.sqrt(diagonal)
    values, vectors = eigh(matrix, overwrite_a=True, check_finite=False)
    values = np.maximum(values, 0.0)
    return np.einsum("nk,k,nk->n", vectors, values / (values + 1.0), vectors)


def estimated_leverage_scores(
    operator: KernelOperator, diagonal: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Scores of a Nyström approximation with a quarter as many uniform columns."""
    return _nystroem_scores(
        operator, diagonal, uniform(operator, diagonal, max(1, count // 4), rng)
    )


def _nystroem_scores(
    operator: KernelOperator, diagonal: np.ndarray, index: np.ndarray
) -> np.ndarray:
    """Scores of the approximation from some columns, on one device or a mesh."""
    if mesh_of(operator) is not None:
        shared, _ = sharded_low_rank.nystroem_factor(operator, index)
        return sharded_low_rank.leverage_scores(shared, diagonal)
    factor, _ = nystroem_factor(operator.columns(index), index)
    return leverage_scores(factor, diagonal)


def recursive_leverage_scores(
    operator: KernelOperator, diagonal: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Scores from a chain of approximations, each sampled by the scores of the one before.

    Reference:
        Musco & Musco, Advances in Neural Information Processing Systems 30 (2017),
        arXiv:1605.07583 (the idea; sizes double here from a sixteenth of the final number).
    """
    index = uniform(operator, diagonal, max(1, count // 16), rng)
    for size in (count // 8, count // 4, 0):
        scores = _nystroem_scores(operator, diagonal, index)
        # Directions that the small sample does not see at all still count.
        unseen = np.maximum(operator_diagonal(operator) / diagonal - scores, 0.0)
        scores = scores + unseen / max(1.0, unseen.sum()) * scores.sum()
        if size:
            index = sample(scores, max(1, size), rng)
    return scores


def operator_diagonal(operator: KernelOperator) -> np.ndarray:
    """Diagonal on the host."""
    return np.array(operator.diagonal())


def by_scores(
    name: str, scores: Float[np.ndarray, " n"], count: int, rng: np.random.Generator
) -> Int[np.ndarray, " k"]:
    """The columns that a rule of leverage takes, from scores that are known."""
    if name not in ("leverage_largest", "leverage_smallest"):
        return sample(scores, count, rng)
    order = np.argsort(scores, kind="stable")
    return np.sort(order[-count:] if name == "leverage_largest" else order[:count])


def _by_scores(
    name: str, operator: KernelOperator, diagonal: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    return by_scores(name, _SCORES[name](operator, diagonal, count, rng), count, rng)


def _exact(operator, diagonal, count, rng):
    del count, rng
    return exact_leverage_scores(operator, diagonal)


def _rank_scores(operator, diagonal, count, rng):
    """Norms of the rows of the leading eigenvectors."""
    from scipy.linalg import eigh

    del diagonal, rng
    size = operator.size
    _, vectors = eigh(operator.dense(), subset_by_index=(size - count, size - 1))
    return np.linalg.norm(vectors, axis=1)


def _greedy(operator, diagonal, count, rng):
    del diagonal, rng
    return greedy(operator, count).pivots


def _randomly(operator, diagonal, count, rng):
    del diagonal
    return randomly(operator, count, rng).pivots


def _truncated(operator, diagonal, count, rng):
    del diagonal
    pivots = greedy(operator, min(count, _TRUNCATION)).pivots
    rest = np.setdiff1d(np.arange(operator.size), pivots)
    return np.concatenate([pivots, rng.choice(rest, count - len(pivots), replace=False)])


_SCORES: dict[str, Callable[..., np.ndarray]] = {
    "leverage": estimated_leverage_scores,
    "leverage_recursive": recursive_leverage_scores,
    "leverage_exact": _exact,
    "leverage_largest": estimated_leverage_scores,
    "leverage_smallest": estimated_leverage_scores,
    "svd_leverage": _rank_scores,
}

RULES: dict[str, Rule] = {
    "uniform": uniform,
    **{name: partial(_by_scores, name) for name in _SCORES},
    "pivoted_cholesky": _greedy,
    "truncated_cholesky": _truncated,
    "random_pivoted_cholesky": _randomly,
}
"""Rules by name; ``leverage_largest`` and ``leverage_smallest`` are for study: the first is worse
than sampling, the second a control."""
