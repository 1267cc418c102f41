"""Preconditioners of kernel systems, each a named choice.

A preconditioner is a recipe: called with the operator and the diagonal that is added to it, it is
built. The recipe of low rank may be asked for a larger factor, with which
:func:`jaxff.linalg.solvers.conjugate_gradient` begins anew when progress stalls.
"""

import functools
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.linalg import low_rank, selection, sharded_low_rank
from jaxff.linalg.cost import Rank, resolve_rank, spare_bytes
from jaxff.linalg.low_rank import LowRank
from jaxff.linalg.memory import check_limit
from jaxff.linalg.operators import KernelOperator
from jaxff.linalg.parallel import agree, mesh_of, process_count
from jaxff.linalg.pivoting import greedy, randomly
from jaxff.types import Array, Float

__all__ = ["Preconditioner", "block_jacobi", "identity", "nystroem", "svd"]


class Preconditioner(Protocol):
    """A recipe for an approximate inverse of :math:`K + D`."""

    def __call__(
        self,
        operator: KernelOperator,
        diagonal: Float[np.ndarray, " n"],
        *,
        growth: float = 1.0,
        scores: Float[np.ndarray, " n"] | None = None,
    ) -> LowRank:
        """Build it.

        Args:
            operator: K.
            diagonal: D.
            growth: Factor by which a rank is raised after a failure.
            scores: Leverage scores of an earlier, smaller approximation.
        """
        ...


def nystroem(
    columns: str = "leverage",
    *,
    rank: Rank = "auto",
    form: str = "woodbury",
    memory: float | None = None,
    seed: int = 0,
) -> Preconditioner:
    """Preconditioner of low rank from columns of the matrix.

    For an operator on a mesh its factor is spread over the devices by rows.

    Args:
        columns: Rule by which columns are chosen, see :data:`jaxff.linalg.selection.RULES`:
            ``"uniform"``, ``"leverage"`` (estimated ridge leverage scores; recommended by the
            paper), ``"pivoted_cholesky"``, ``"random_pivoted_cholesky"``, ….
        rank: Number of columns, a fraction of them (a float below 1), ``"auto"`` (from a model of
            the cost on this machine, see :mod:`jaxff.linalg.cost`) or ``"rule_of_thumb"``.
        form: ``"woodbury"``, or ``"spectral"``, which costs a QR decomposition more and stays
            accurate where the regularization is near working precision.
        memory: Bytes that the factor may take; default half of what is free.
        seed: Of the random choice.

    Raises:
        ValueError: For an unknown rule, form or rank, and a limit that is no positive number.
    Reference:
        Blücher, Müller & Chmiela, J. Chem. Theory Comput. 19, 4619 (2023),
        doi:10.1021/acs.jctc.2c01304.
    """
    if columns not in selection.RULES:
        raise ValueError(f"columns must be one of {sorted(selection.RULES)}, got {columns!r}")
    if form not in _SQUARES:
        raise ValueError(f"form must be 'woodbury' or 'spectral', got {form!r}")
    check_limit(memory)
    return functools.partial(_nystroem, columns, rank, form, memory, seed)


def _nystroem(
    columns: str,
    wanted: Rank,
    form: str,
    memory: float | None,
    seed: int,
    operator: KernelOperator,
    diagonal: Float[np.ndarray, " n"],
    *,
    growth: float = 1.0,
    scores: Float[np.ndarray, " n"] | None = None,
) -> LowRank:
    """Choose the columns, fetch and factorise them."""
    rank = resolve_rank(
        wanted, operator, growth=growth, memory=memory,
        regularization=float(np.exp(np.mean(np.log(diagonal)))), squares=_SQUARES[form],
    )  # fmt: skip
    rng = np.random.default_rng(seed if growth == 1.0 else [seed, round(growth * 64)])
    factor, index, jitter = _factor(columns, operator, diagonal, rank, rng, scores)
    if len(index) == 0:  # no pivot at all: the matrix vanishes
        return _identity(operator, diagonal)
    where: Any = low_rank if mesh_of(operator) is None else sharded_low_rank
    build = where.woodbury if form == "woodbury" else where.spectral
    built = build(factor, diagonal, index, jitter)
    return built._replace(spare_bytes=spare_bytes(memory, built.kept_bytes, mesh_of(operator)))


_SQUARES = {"woodbury": 3, "spectral": 8}
"""Square matrices on the way to a factor: with its singular values there are more."""


def _factor(
    columns: str,
    operator: KernelOperator,
    diagonal: Float[np.ndarray, " n"],
    rank: int,
    rng: np.random.Generator,
    scores: Float[np.ndarray, " n"] | None,
) -> tuple[Any, Any, float]:
    """A factor of the approximation, its columns and the jitter it needed."""
    # Where a factor is at hand already, its columns are not computed a second time.
    if columns in ("pivoted_cholesky", "random_pivoted_cholesky"):
        _check_one_process(columns, operator)
        found = greedy(operator, rank) if columns[0] == "p" else randomly(operator, rank, rng)
        return _shared(operator, found.factor), found.pivots, 0.0
    if scores is not None and columns.startswith("leverage"):
        index = selection.by_scores(columns, scores, rank, rng)
    else:
        index = selection.RULES[columns](operator, diagonal, rank, rng)
    index = agree(mesh_of(operator), index)
    if mesh_of(operator) is not None:
        factor, jitter = sharded_low_rank.nystroem_factor(operator, index)
    else:
        factor, jitter = low_rank.nystroem_factor(operator.columns(index), index)
    return factor, index, jitter


def _shared(operator: KernelOperator, factor: np.ndarray) -> Any:
    """Spread over the devices of the operator, if it has some."""
    return factor if mesh_of(operator) is None else sharded_low_rank.share_out(operator, factor)


def _check_one_process(columns: str, operator: KernelOperator) -> None:
    """Refuse rules that need a whole factor in one place."""
    processes = process_count(mesh_of(operator))
    if processes > 1:
        raise ValueError(
            f"columns={columns!r} eliminates pivots one by one in one process, the mesh spans "
            f"{processes}: use 'leverage' or 'uniform'"
        )


def svd(rank: int | float) -> Preconditioner:
    r"""The best preconditioner of a rank, from the leading eigenvectors of the dense matrix.

    For study: it costs more than solving the system directly. With equal diagonal entries λ, the
    largest eigenvalue of the preconditioned system is :math:`1 + s_{k+1}/\lambda`.
    """
    return functools.partial(_svd, rank)


def _svd(
    wanted: int | float,
    operator: KernelOperator,
    diagonal: Float[np.ndarray, " n"],
    *,
    growth: float = 1.0,
    scores: Float[np.ndarray, " n"] | None = None,
) -> LowRank:
    from scipy.linalg import eigh

    del scores
    size = operator.size
    rank = resolve_rank(wanted, operator, growth=growth)
    values, vectors = eigh(operator.dense(), subset_by_index=(size - rank, size - 1))
    factor = vectors * np.sqrt(np.maximum(values, 0.0))
    if mesh_of(operator) is not None:
        return sharded_low_rank.woodbury(sharded_low_rank.share_out(operator, factor), diagonal)
    return low_rank.woodbury(np.asfortranarray(factor), diagonal)


def block_jacobi(block: int | None = None) -> Preconditioner:
    """Inverses of the blocks on the diagonal, one per reference unless a size is given.

    Raises:
        ValueError: For a size that is not positive.
    """
    if block is not None and block < 1:
        raise ValueError(f"block must be a positive number of rows, got {block}")
    return functools.partial(_block_jacobi, block)


def _block_jacobi(
    block: int | None,
    operator: KernelOperator,
    diagonal: Float[np.ndarray, " n"],
    *,
    growth: float = 1.0,
    scores: Float[np.ndarray, " n"] | None = None,
) -> LowRank:
    del growth, scores  # there is no rank to raise
    size = operator.size
    length: int = block or getattr(operator, "block", 1)
    known = getattr(operator, "diagonal_blocks", None) if block is None else None
    corners = iter(() if known is None else known())
    inverses = []
    for start in range(0, size, length):
        index = np.arange(start, min(start + length, size))
        corner = next(corners, None)
        if corner is None:
            corner = operator.columns(index)[index]
        corner = 0.5 * (corner + corner.T) + np.diag(diagonal[index])
        lower, _ = low_rank.cholesky_with_jitter(corner)
        inverse = np.linalg.inv(lower)
        inverses.append(np.pad(inverse.T @ inverse, (0, length - len(index))))
    stored = jnp.asarray(np.stack(inverses))
    apply = jax.tree_util.Partial(_apply_blocks, stored)
    return LowRank(apply, 0, 0.0, np.zeros(size), None, stored.nbytes)


@jax.jit
def _apply_blocks(inverses: Array, vector: Array) -> Array:
    count, block, _ = inverses.shape
    tail = vector.shape[1:]
    filled = jnp.pad(vector, [(0, count * block - len(vector)), *[(0, 0)] * len(tail)])
    result = jnp.einsum("iab,ib...->ia...", inverses, filled.reshape(count, block, *tail))
    return result.reshape(count * block, *tail)[: len(vector)]


def identity() -> Preconditioner:
    """No preconditioner but the diagonal that is added: for comparison."""
    return _identity


def _identity(
    operator: KernelOperator,
    diagonal: Float[np.ndarray, " n"],
    *,
    growth: float = 1.0,
    scores: Float[np.ndarray, " n"] | None = None,
) -> LowRank:
    del growth, scores
    apply = jax.tree_util.Partial(_divide, jnp.asarray(diagonal))
    return LowRank(apply, 0, 0.0, np.zeros(operator.size), None, 0)


@jax.jit
def _divide(diagonal: Array, vector: Array) -> Array:
    return vector / diagonal.reshape(-1, *(1,) * (vector.ndim - 1))


Choice = Literal[
    "leverage", "uniform", "pivoted-cholesky", "random-pivoted-cholesky", "svd", "block-jacobi"
]
"""Names on the command line."""
