r"""Blocks of the kernel matrix of a radial kernel between two references, for any labels.

In the features x of :mod:`jaxff.gdml.jets` every label component is a functional
:math:`b + \partial_\tau + \partial_u\partial_v` with fixed directions, and a radial kernel depends
on :math:`d = x_p - x'` alone. With :math:`c_k = (2/\ell^2)^k h^{(k)}(s)` and

.. math:: L = (b,\; d\cdot\tau + u\cdot v,\; (d\cdot u)(d\cdot v)),\qquad
   R = (b',\; -d\cdot\tau' + u'\cdot v',\; (d\cdot u')(d\cdot v'))

two functionals give, summed over permutations p,

.. math:: K = \sum_{ij} L_i\, c_{i+j}\, R_j
     + \begin{pmatrix}\tau & y\end{pmatrix}
       \begin{pmatrix}-c_1 & c_2\\ -c_2 & c_3\end{pmatrix}
       \begin{pmatrix}\tau' \\ y'\end{pmatrix}
     + c_2\,[(u\cdot u')(v\cdot v') + (u\cdot v')(v\cdot u')]

with :math:`y = (d\cdot v)\,u + (d\cdot u)\,v`: the derivatives of order two to four of a function
of :math:`\lVert d\rVert^2`, sorted by how many directions of the one side meet one of the other.
All u and v are columns of one Jacobian per reference, so that everything is matrix products.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.cell import volume
from jaxff.gdml.labels import ORDERS, moved
from jaxff.kernels.kernel import Kernel
from jaxff.kernels.listed import permuted
from jaxff.system import System
from jaxff.types import Array, Float

__all__ = [
    "Rows",
    "label_blocks",
    "order_of_rows",
    "pairs_of",
    "permutation_parts",
    "prepare",
    "prepare_query",
]

_TOGETHER = 30_000
"""Entries of the blocks that are computed together."""

_PART = 4_000_000
"""Entries of the functionals of one system under the permutations that are taken at once."""


class Rows(NamedTuple):
    """Functionals of the m label components of one system, those of second order last.

    Attributes:
        points: Features under each permutation.
        values: Weights b.
        traces: Products ``u·v`` of the components of second order.
        slopes: Directions τ.
        axes: Jacobian by the positions, and its products with the directions of
            ``hessian_vector``: what all u and v are taken from.
    """

    points: Float[Array, "*batch perms D"]
    values: Float[Array, "*batch m"]
    traces: Float[Array, "*batch late perms"]
    slopes: Float[Array, "*batch m perms D"]
    axes: Float[Array, "*batch axes perms D"]


def pairs_of(names: tuple[str, ...], atoms: int, directions: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices among the axes of u and v of the components of second order."""
    first, second = [np.zeros(0, int)], [np.zeros(0, int)]
    if "hessian" in names:
        rows, columns = np.triu_indices(3 * atoms)
        first.append(rows)
        second.append(columns)
    if "hessian_vector" in names:
        which, entry = np.divmod(np.arange(directions * 3 * atoms), 3 * atoms)
        first.append(3 * atoms + which)
        second.append(entry)
    return np.concatenate(first), np.concatenate(second)


def order_of_rows(names: tuple[str, ...]) -> list[str]:
    """Labels in the order of the rows of a block: those of second order last."""
    return sorted(names, key=lambda name: ORDERS.get(name, 1) == 2)


@partial(jax.jit, static_argnums=(0, 1))
def prepare(
    kernel: Kernel, names: tuple[str, ...], hyper: Any, systems: System, directions: Any
) -> Rows:
    """Functionals of a stack of references as the second argument: one permutation, itself."""

    def features(system: System) -> Array:
        return kernel.features(hyper, system)[None]

    return jax.vmap(lambda *own: _rows(features, names, *own))(systems, directions)


def permutation_parts(kernel: Kernel, entries: int) -> list[Array | None]:
    """The permutations in parts of equal size, as :func:`prepare_query` takes them.

    Args:
        kernel: The kernel.
        entries: Numbers that the functionals of one system take for each permutation.
    """
    if kernel.permutations is None:
        return [None]
    index = kernel.feature_permutations
    rows = kernel.permutations if index is None else index
    most = max(1, _PART // entries)
    size = max(n for n in range(1, min(most, len(rows)) + 1) if len(rows) % n == 0)
    return [jnp.asarray(rows[start : start + size]) for start in range(0, len(rows), size)]


@partial(jax.jit, static_argnums=(0, 1))
def prepare_query(
    kernel: Kernel,
    names: tuple[str, ...],
    hyper: Any,
    system: System,
    directions: Any,
    plain: Rows,
    part: Any,
) -> Rows:
    """Functionals of one system as the first argument, under a part of the permutations.

    Args:
        kernel: The kernel.
        names: The labels.
        hyper: Its hyperparameters.
        system: The system.
        directions: Of its ``hessian_vector``.
        plain: Of :func:`prepare`, for this system.
        part: One of :func:`permutation_parts`.
    """
    if part is None:
        return plain
    if kernel.feature_permutations is not None:
        traces = jnp.broadcast_to(plain.traces, (*plain.traces.shape[:-1], len(part)))
        points, slopes, axes = (
            leaf[..., 0, :][..., part] for leaf in (plain.points, plain.slopes, plain.axes)
        )
        return Rows(points, plain.values, traces, slopes, axes)

    def features(system: System) -> Array:
        return jax.vmap(lambda p: kernel.features(hyper, permuted(system, p)))(part)

    return _rows(features, names, system, directions)


def _rows(features: Any, names: tuple[str, ...], system: System, directions: Any) -> Rows:
    zero = {"positions": jnp.zeros_like(system.positions)}
    if {"stress", "virial"} & set(names):
        zero["strain"] = jnp.zeros((3, 3))
    if "dipole" in names:
        zero["electric_field"] = jnp.zeros(3)
    points = features(system)
    jacobian = jax.jacfwd(lambda shift: features(moved(system, shift)))(zero)
    by_position = jacobian["positions"].reshape(*points.shape, -1)
    values, slopes = [], []
    for name in order_of_rows(names):
        if name == "energy":
            slope = jnp.zeros((*points.shape, 1))
        elif name == "forces":
            slope = -by_position
        elif name == "dipole":
            slope = -jacobian["electric_field"]
        elif name in ("stress", "virial"):
            slope = jacobian["strain"][..., *np.triu_indices(3)]
            slope = slope / volume(jnp.asarray(system.cell)) if name == "stress" else -slope
        else:
            slope = _second(features, name, system, directions)
        values.append(jnp.full(slope.shape[-1], float(name == "energy")))
        slopes.append(slope)
    axes, count = by_position, 0
    if directions is not None:
        count = len(directions)
        axes = jnp.concatenate([axes, by_position @ directions.reshape(count, -1).T], axis=-1)
    axes = jnp.moveaxis(axes, -1, 0)
    first, second = pairs_of(names, system.atom_count, count)
    traces = jnp.einsum("apD,bpD->abp", axes, axes)[first, second]
    slopes = jnp.moveaxis(jnp.concatenate(slopes, axis=-1), -1, 0)
    return Rows(points, jnp.concatenate(values), traces, slopes, axes)


def _second(features: Any, name: str, system: System, directions: Any) -> Array:
    """Second derivatives of the features in the components of a label, ``(perms, D, m)``."""

    def slope(positions: Array) -> Array:
        return jax.jacfwd(lambda r: features(system.replace(positions=r)))(positions)

    if name == "hessian":
        found = jax.jacfwd(slope)(system.positions)
        side = 3 * system.atom_count
        return found.reshape(*found.shape[:2], side, side)[..., *np.triu_indices(side)]

    def along(direction: Array) -> Array:
        return jax.jvp(slope, (system.positions,), (direction,))[1]

    found = jnp.moveaxis(jax.vmap(along)(directions), 0, 2)
    return found.reshape(*found.shape[:2], -1)


@partial(jax.jit, static_argnums=(0, 1))
def label_blocks(
    kernel: Kernel,
    pairs: tuple[tuple[int, ...], tuple[int, ...]],
    lengthscale: Array,
    query: Rows,
    references: Rows,
) -> Float[Array, "references m m"]:
    """Blocks between one query (rows) and some references (columns): of those permutations alone.

    Args:
        kernel: Radial kernel.
        pairs: From :func:`pairs_of`.
        lengthscale: In the unit of the features.
        query: From :func:`prepare_query`.
        references: Some of :func:`prepare`.
    """
    # Small blocks are computed together: they would not keep a processor busy.
    together = max(1, _TOGETHER // len(query.values) ** 2)
    block = partial(_block, kernel, pairs, lengthscale, query)
    return jax.lax.map(block, references, batch_size=min(together, len(references.values)))


def _block(kernel: Kernel, pairs: Any, lengthscale: Array, query: Rows, reference: Rows) -> Array:
    first, second = (np.asarray(index) for index in pairs)
    late = len(query.values) - len(first)  # components of second order follow
    d = query.points - reference.points
    c = _slopes(kernel, lengthscale, d, 4 if len(first) else 2)
    a, b = jnp.einsum("apD,pD->ap", query.axes, d), reference.axes[:, 0] @ d.T
    left = _side(query, d, a, first, second, 1.0)
    right = _side(reference, d, b, first, second, -1.0)
    count = left.shape[0]
    table = jnp.stack([c[i : i + count] for i in range(count)])  # (3, 3, P), of Hankel form
    block = jnp.einsum("imp,ijp,jnp->mn", left, table, right, optimize=[(0, 1), (0, 1)])
    slopes = reference.slopes[:, 0]
    summed = jnp.einsum("p,mpD->mD", c[1], query.slopes)
    if not len(first):
        return block - summed @ slopes.T
    # What the first side turns into a vector: τ, and y for components of second order.
    turned = jnp.einsum("bp,apD->abD", c[2] * a, query.axes)
    summed = summed.at[late:].add(turned[first, second] + turned[second, first])
    block = block - summed @ slopes.T
    axes = reference.axes[:, 0]
    met = jnp.einsum("mpa,bp->mab", query.slopes @ axes.T, c[2] * b)
    block = block.at[:, late:].add(_chosen(met, first, second))
    fourth = _chosen(_fourth(c, a, b, query.axes, axes)[first, second], first, second)
    return block.at[late:, late:].add(fourth)


def _chosen(values: Array, first: np.ndarray, second: np.ndarray) -> Array:
    """Sums ``values[:, i, j] + values[:, j, i]`` of some pairs of indices."""
    both = values + jnp.swapaxes(values, 1, 2)
    flat = both.reshape(len(values), -1)
    # Rows are taken as a piece, single entries one by one.
    return jnp.take(flat.T, first * values.shape[2] + second, axis=0).T


def _fourth(c: Array, a: Array, b: Array, axes: Array, others: Array) -> Array:
    """Terms in which directions u, v of both sides meet, one or both: half of them, ``[a,b,c,d]``.

    The other half has c and d exchanged.
    """
    count = len(a)
    gram = jnp.einsum("apD,bD->abp", axes, others)
    inner = 0.5 * c[2] * gram + c[3] * a[:, None] * b[None]
    flat = (count * count, -1)
    product = gram.reshape(flat) @ inner.reshape(flat).T
    return jnp.swapaxes((product + product.T).reshape((count,) * 4), 1, 2)


def _slopes(kernel: Kernel, lengthscale: Array, difference: Array, order: int) -> Array:
    """The factors c up to an order, ``(order + 1, P)``."""
    factor = 2.0 / lengthscale**2
    scaled = jnp.sum(difference**2, axis=-1) / lengthscale**2
    return jnp.stack([factor**k * kernel.base.derivative(k, scaled) for k in range(order + 1)])


def _side(
    rows: Rows, d: Array, projected: Array, first: np.ndarray, second: np.ndarray, sign: float
) -> Array:
    """L or R, ``(3, m, P)``, or ``(2, m, P)`` without components of second order."""
    shape = (len(rows.values), len(d))
    values = jnp.broadcast_to(rows.values[:, None], shape)
    slopes = sign * jnp.einsum("mpD,pD->mp", jnp.broadcast_to(rows.slopes, (*shape, d.shape[1])), d)
    if not len(first):
        return jnp.stack([values, slopes])
    late = len(values) - len(first)
    slopes = slopes.at[late:].add(rows.traces)
    squares = jnp.zeros(shape).at[late:].set(projected[first] * projected[second])
    return jnp.stack([values, slopes, squares])
