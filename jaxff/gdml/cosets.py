r"""Parts of the kernel matrix for large groups, a few permutations at a time.

The factors of a block grow with the number of permutations, and those of a crystal's group would
not fit in memory. With a small subgroup S, every permutation is a product :math:`p = g s`, so that

.. math:: \sum_p \kappa(x(r_p), x') = \sum_g \sum_{s \in S} \kappa(x((r_g)_s), x')

is a sum over permuted geometries :math:`r_g` of kernels that are symmetric under S alone.
"""

import functools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.gdml.blocks import blocks, prepare_columns, prepare_rows, terms
from jaxff.gdml.columns import column_tile, prepare_queries
from jaxff.kernels.abelian import cosets, cycle_length, elements
from jaxff.kernels.kernel import Kernel
from jaxff.kernels.listed import permuted
from jaxff.system import System
from jaxff.types import Array, Int

__all__ = ["column_sum", "diagonal", "parts_of", "tile_sum"]

_WHOLE = 16
"""Groups up to this order are summed at once."""

_PART = 8
"""Largest order of the subgroup of larger ones."""


@functools.lru_cache(maxsize=64)
def parts_of(kernel: Kernel) -> tuple[Kernel, Int[np.ndarray, "parts atoms"] | None]:
    """The kernel of a small subgroup, and one permutation of each of its cosets.

    For groups that are small already the kernel itself, and ``None``.
    """
    if kernel.permutations is None or kernel.order <= _WHOLE:
        return kernel, None
    lengths = np.array([cycle_length(row) for row in kernel.permutations])
    generator = kernel.permutations[np.argmax(np.where(lengths <= _PART, lengths, 0))]
    subgroup = elements(generator[None])
    part = Kernel(kernel.descriptor, kernel.base, subgroup)
    return part, cosets(kernel.permutations, subgroup)


def _back(values: Array, permutation: Array, axis: int) -> Array:
    """Labels along an axis, of permuted atoms, in the order of the atoms themselves."""
    inverse = jnp.argsort(permutation)
    forces = (3 * inverse[:, None] + jnp.arange(3)).ravel()
    rest = jnp.arange(len(forces), values.shape[axis])
    return jnp.take(values, jnp.concatenate([forces, rest]), axis=axis)


def _sum(function: Any, systems: System, representatives: Array, axis: int) -> Array:
    """Sum of what a function gives for permuted systems, its labels put back in order."""

    def one(permutation: Array) -> Array:
        moved = jax.vmap(lambda system: permuted(system, permutation))(systems)
        return _back(function(moved), permutation, axis)

    first = one(representatives[0])
    return jax.lax.fori_loop(
        1, len(representatives), lambda i, total: total + one(representatives[i]), first
    )


@partial(jax.jit, static_argnums=(0, 1))
def tile_sum(
    kernel: Kernel,
    energies: bool,
    hyper: dict[str, Array],
    systems: System,
    rows: dict[str, Array],
    center: Array,
    representatives: Int[Array | np.ndarray, "parts atoms"],
) -> Array:
    """Tile ``(column references, block [+1], block [+1], row references)`` of a large group.

    Args:
        kernel: That of the subgroup, from :func:`parts_of`.
        energies: Whether energies are labels.
        hyper: Hyperparameters.
        systems: The references of the columns.
        rows: Those of the rows, from :func:`jaxff.gdml.blocks.tile_rows` with the same kernel.
        center: Mean features.
        representatives: From :func:`parts_of`.
    """

    def tile(moved: System) -> Array:
        columns = prepare_columns(kernel, hyper, moved, center)

        def one(query: dict[str, Array]) -> Array:
            found = terms(kernel, energies, hyper["lengthscale"], query, rows)
            return blocks(kernel, query, rows, found)

        return jax.vmap(one)(columns)

    return _sum(tile, systems, jnp.asarray(representatives), 1)


@partial(jax.jit, static_argnums=(0, 1))
def column_sum(
    kernel: Kernel,
    energies: bool,
    hyper: dict[str, Array],
    systems: System,
    batch: dict[str, Array],
    center: Array,
    representatives: Int[Array | np.ndarray, "parts atoms"],
) -> Array:
    """Entries ``(systems, block [+1], columns)`` of a batch of columns, for a large group."""

    def tile(moved: System) -> Array:
        queries = prepare_queries(kernel, hyper, moved, center)
        return column_tile(kernel, energies, hyper["lengthscale"], queries, batch)

    return _sum(tile, systems, jnp.asarray(representatives), 1)


def diagonal(kernel: Kernel, energies: bool, hyper: Any, references: System) -> Array:
    """Diagonal of the matrix, in the order of the labels."""
    part, representatives = parts_of(kernel)
    if representatives is None:
        representatives = np.arange(references.atom_count)[None]
    return _diagonal(part, energies, hyper, references, representatives)


@partial(jax.jit, static_argnums=(0, 1))
def _diagonal(
    kernel: Kernel, energies: bool, hyper: Any, references: System, representatives: Array
) -> Array:
    def one(system: System) -> Array:
        single = jax.tree.map(lambda leaf: leaf[None], system)
        center = kernel.features(hyper, system)
        rows = prepare_rows(kernel, hyper, single, center)
        found = tile_sum(kernel, energies, hyper, single, rows, center, representatives)
        return jnp.diagonal(found[0, ..., 0])

    found = jax.lax.map(one, references)
    if not energies:
        return found.ravel()
    return jnp.concatenate([found[:, :-1].ravel(), found[:, -1]])
