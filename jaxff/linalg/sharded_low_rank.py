r"""Low-rank inverses whose factor is spread by rows over the devices of a mesh.

The same algebra as in :mod:`jaxff.linalg.low_rank`. Every process computes the rows of its own
devices; Gram matrices and corners, of k x k numbers, are summed over the processes; an application
is a local product, a sum of k numbers over the devices, and another local product.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxff.linalg.low_rank import LowRank, back, cholesky_with_jitter
from jaxff.linalg.memory import column_ordered
from jaxff.linalg.operators import KernelOperator
from jaxff.linalg.parallel import axis, local, own_devices, replicate, spread, total
from jaxff.types import Array, Float

__all__ = ["Factor", "leverage_scores", "nystroem_factor", "share_out", "spectral", "woodbury"]


class Factor(NamedTuple):
    """A tall matrix L of which this process holds the rows of its own devices.

    Attributes:
        mesh: The devices.
        rows: Rows of every device of the mesh.
        parts: Those of L that belong to the devices of this process, in column order.
    """

    mesh: Mesh
    rows: list[np.ndarray]
    parts: list[np.ndarray]

    @property
    def own(self) -> list[np.ndarray]:
        """Rows of the devices of this process."""
        return [self.rows[place] for place in own_devices(self.mesh)]

    @property
    def size(self) -> int:
        """Number of rows on all devices."""
        return sum(len(rows) for rows in self.rows)


def share_out(operator: KernelOperator, whole: Float[np.ndarray, "n k"]) -> Factor:
    """Own rows of a factor that every process holds whole."""
    mesh, rows = _layout(operator)
    own = [np.asfortranarray(whole[rows[place]]) for place in own_devices(mesh)]
    return Factor(mesh, rows, own)


def _layout(operator: Any) -> tuple[Mesh, list[np.ndarray]]:
    return operator.mesh, operator.shares()


def nystroem_factor(operator: Any, index: np.ndarray) -> tuple[Factor, float]:
    """Factor of the Nyström approximation from columns, and the relative jitter that it needed."""
    mesh, rows = _layout(operator)
    own = own_devices(mesh)
    parts = [operator.columns(index, share=place) for place in own]
    corner = np.zeros((len(index), len(index)))
    for place, part in zip(own, parts, strict=True):
        found = np.minimum(np.searchsorted(rows[place], index), len(rows[place]) - 1)
        here = rows[place][found] == index
        corner[here] = part[found[here]]
    corner = total(mesh, corner)
    lower, jitter = cholesky_with_jitter(corner)
    return Factor(mesh, rows, [_solve(lower, part) for part in parts]), jitter


def _solve(lower: np.ndarray, part: np.ndarray) -> np.ndarray:
    """The part times the inverse transpose of a lower triangle; overwrites the part."""
    from scipy.linalg import get_blas_funcs

    (trsm,) = get_blas_funcs(("trsm",), dtype=np.float64)
    return trsm(1.0, lower, part, side=1, lower=1, trans_a=1, overwrite_b=1)


def _thin(factor: Factor, diagonal: np.ndarray) -> tuple[list[np.ndarray], float]:
    """Own rows of :math:`D^{-1/2} L C^{-T}`; overwrites the factor."""
    from scipy.linalg import get_blas_funcs

    (syrk,) = get_blas_funcs(("syrk",), dtype=np.float64)
    rank = factor.parts[0].shape[1]
    gram = np.zeros((rank, rank))
    for part, rows in zip(factor.parts, factor.own, strict=True):
        part /= np.sqrt(diagonal[rows])[:, None]
        gram += syrk(1.0, part, trans=1, lower=1)
    gram = total(factor.mesh, gram)
    gram[np.diag_indices(rank)] += 1.0
    lower, jitter = cholesky_with_jitter(gram)
    return [_solve(lower, part) for part in factor.parts], jitter


def _collect(factor: Factor, values: list[np.ndarray]) -> np.ndarray:
    """One number per row, on all processes."""
    result = np.zeros(factor.size)
    for rows, value in zip(factor.own, values, strict=True):
        result[rows] = value
    return total(factor.mesh, result)


def _squares(parts: list[np.ndarray]) -> list[np.ndarray]:
    return [np.einsum("nk,nk->n", part, part) for part in parts]


def leverage_scores(factor: Factor, diagonal: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Ridge leverage scores; overwrites the factor."""
    thin, _ = _thin(factor, diagonal)
    return _collect(factor, _squares(thin))


def woodbury(
    factor: Factor,
    diagonal: Float[np.ndarray, " n"],
    index: np.ndarray | None = None,
    jitter: float = 0.0,
) -> LowRank:
    """As :func:`jaxff.linalg.low_rank.woodbury`."""
    parts, more = _thin(factor, diagonal)
    scores = _collect(factor, _squares(parts))
    weights = -np.ones(parts[0].shape[1])
    return _finish(
        factor, parts, weights, 1.0 / np.sqrt(diagonal), scores, index, max(jitter, more)
    )


def spectral(
    factor: Factor,
    diagonal: Float[np.ndarray, " n"],
    index: np.ndarray | None = None,
    jitter: float = 0.0,
) -> LowRank:
    """As :func:`jaxff.linalg.low_rank.spectral`, by a QR decomposition in two steps.

    Reference:
        Demmel, Grigori, Hoemmen & Langou, SIAM J. Sci. Comput. 34, A206 (2012),
        doi:10.1137/080731992 (orthogonalisation of tall matrices in parts).
    """
    from scipy.linalg import svd

    regularization = float(np.exp(np.mean(np.log(diagonal))))
    rank = factor.parts[0].shape[1]
    outer = np.sqrt(regularization / diagonal)
    local_parts = [
        np.linalg.qr(outer[rows][:, None] * part)
        for part, rows in zip(factor.parts, factor.own, strict=True)
    ]
    triangles = np.zeros((factor.mesh.size, rank, rank))
    own = own_devices(factor.mesh)
    for place, (_, triangle) in zip(own, local_parts, strict=True):
        triangles[place, : len(triangle)] = triangle
    basis, triangle = np.linalg.qr(total(factor.mesh, triangles).reshape(-1, rank))
    rotation, singular, _ = svd(triangle, check_finite=False)
    turned = (basis @ rotation).reshape(-1, rank, rank)
    parts = [
        q @ turned[place, : q.shape[1]] for place, (q, _) in zip(own, local_parts, strict=True)
    ]
    values = singular**2
    weights = (values[-1] + regularization) / (values + regularization) - 1.0
    kept = values / (values + regularization)
    scores = _collect(factor, [np.einsum("nk,k,nk->n", part, kept, part) for part in parts])
    return _finish(factor, parts, weights, outer, scores, index, jitter)


def _finish(
    factor: Factor,
    parts: list[np.ndarray],
    weights: np.ndarray,
    outer: np.ndarray,
    scores: np.ndarray,
    index: np.ndarray | None,
    jitter: float,
) -> LowRank:
    """``outer (1 + U weights U^T) outer`` with the rows of U on their devices."""
    mesh, rank = factor.mesh, len(weights)
    length = max(len(rows) for rows in factor.rows)
    padded = [_padded(part, length) for part in parts]
    slots = np.stack([np.resize(rows, length) for rows in factor.rows])
    places = np.empty(factor.size, int)
    for device, rows in enumerate(factor.rows):
        places[rows] = device * length + np.arange(len(rows))
    stored = (
        spread(mesh, padded, along=1),
        *(replicate(mesh, jnp.asarray(x)) for x in (weights, outer, slots.ravel(), places)),
    )
    kept = sum(part.nbytes for part in padded)
    apply = jax.tree_util.Partial(partial(_apply, mesh), stored)
    return LowRank(apply, rank, jitter, scores, index, kept)


def _padded(part: np.ndarray, length: int) -> np.ndarray:
    """The transpose of a part, with columns of zeros up to a length."""
    if len(part) == length:
        return part.T
    filled = column_ordered(length, part.shape[1])
    filled[: len(part)], filled[len(part) :] = part, 0.0
    return filled.T


def _apply(mesh: Mesh, stored: Any, vector: Array) -> Array:
    flat = vector[:, 0] if vector.ndim == 2 and vector.shape[1] == 1 else vector
    return local(_apply_rows(mesh, stored, replicate(mesh, flat))).reshape(vector.shape)


@partial(jax.jit, static_argnums=0)
def _apply_rows(mesh: Mesh, stored: Any, vector: Array) -> Array:
    factor, weights, outer, slots, places = stored
    name = axis(mesh)
    tail = (1,) * (vector.ndim - 1)
    weights, outer = weights.reshape(-1, *tail), outer.reshape(-1, *tail)
    scaled = outer * vector

    def of_rows(factor, mine, weights):
        return back(factor, weights * jax.lax.psum(factor @ mine, name))

    projected = jax.shard_map(
        of_rows, mesh=mesh, in_specs=(P(None, name), P(name), P()), out_specs=P(name)
    )(factor, scaled[slots], weights)
    projected = jax.lax.with_sharding_constraint(projected, NamedSharding(mesh, P()))
    return outer * (scaled + projected[places])
