r"""Parts of the kernel matrix for large groups, a few permutations at a time.

The factors of a block grow with the number of permutations, and those of a crystal's group would
not fit in memory. With a small subgroup S, every permutation is a product :math:`p = g s`, so that

.. math:: \sum_p \kappa(x(r_p), x') = \sum_g \sum_{s \in S} \kappa(x((r_g)_s), x')

is a sum over permuted geometries :math:`r_g` of kernels that are symmetric under S alone.
"""

import functools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.gdml.blocks import (
    blocks,
    columns_of,
    features_and_jacobians,
    prepare_columns,
    prepare_rows,
    terms,
)
from jaxff.gdml.columns import column_tile, prepare_queries, queries_of
from jaxff.kernels.abelian import cosets, cycle_length, elements
from jaxff.kernels.kernel import Kernel
from jaxff.kernels.listed import permuted
from jaxff.system import System
from jaxff.types import Array, Int

__all__ = ["Representatives", "column_sum", "diagonal", "parts_of", "tile_sum"]

_WHOLE = 16
"""Groups up to this order are summed at once."""

_PART = 8
"""Largest order of the subgroup of larger ones."""


class Representatives(NamedTuple):
    """One permutation of each coset, or a single one.

    Attributes:
        atoms: Permutations of the atoms.
        features: The same of the features, ``None`` if features do not permute.
    """

    atoms: Int[Array | np.ndarray, "*parts atoms"]
    features: Int[Array | np.ndarray, "*parts features"] | None


@functools.lru_cache(maxsize=64)
def parts_of(kernel: Kernel) -> tuple[Kernel, Representatives | None]:
    """The kernel of a small subgroup, and one permutation of each of its cosets.

    For groups that are small already the kernel itself, and ``None``.
    """
    if kernel.permutations is None or kernel.order <= _WHOLE:
        return kernel, None
    lengths = np.array([cycle_length(row) for row in kernel.permutations])
    generator = kernel.permutations[np.argmax(np.where(lengths <= _PART, lengths, 0))]
    subgroup = elements(generator[None])
    part = Kernel(kernel.descriptor, kernel.base, subgroup)
    atoms = cosets(kernel.permutations, subgroup)
    permute = getattr(kernel.descriptor, "permute", None)
    if part.feature_permutations is None or permute is None:
        return part, Representatives(atoms, None)
    return part, Representatives(atoms, permute(atoms))


def _back(values: Array, permutation: Array, axis: int) -> Array:
    """Labels along an axis, of permuted atoms, in the order of the atoms themselves."""
    inverse = jnp.argsort(permutation)
    forces = (3 * inverse[:, None] + jnp.arange(3)).ravel()
    rest = jnp.arange(len(forces), values.shape[axis])
    return jnp.take(values, jnp.concatenate([forces, rest]), axis=axis)


def _prepared(
    kernel: Kernel,
    hyper: dict[str, Array],
    systems: System,
    center: Array,
    prepare: Callable[..., dict[str, Array]],
    assemble: Callable[..., dict[str, Array]],
) -> Callable[[Representatives], dict[str, Array]]:
    """What is needed of systems under a permutation.

    Where features permute they are differentiated once, and their Jacobians gathered.
    """
    x, jacobian = features_and_jacobians(kernel, hyper, systems)

    def one(which: Representatives) -> dict[str, Array]:
        if which.features is None:
            atoms = jnp.asarray(which.atoms)
            moved = jax.vmap(lambda system: permuted(system, atoms))(systems)
            return prepare(kernel, hyper, moved, center)
        columns = (3 * which.atoms[:, None] + jnp.arange(3)).ravel()
        own = jnp.take(jnp.take(jacobian, which.features, axis=1), columns, axis=2)
        return assemble(kernel, jnp.take(x, which.features, axis=1), own, center)

    return one


def _sum(
    function: Callable[[dict[str, Array]], Array],
    prepared: Callable[[Representatives], dict[str, Array]],
    representatives: Representatives,
    axis: int,
) -> Array:
    """Sum of what a function gives for permuted systems, its labels put back in order."""
    representatives = jax.tree.map(jnp.asarray, representatives)

    def one(index: Any) -> Array:
        which = jax.tree.map(lambda leaf: leaf[index], representatives)
        return _back(function(prepared(which)), which.atoms, axis)

    count = len(representatives.atoms)
    return jax.lax.fori_loop(1, count, lambda i, total: total + one(i), one(0))


@partial(jax.jit, static_argnums=(0, 1))
def tile_sum(
    kernel: Kernel,
    energies: bool,
    hyper: dict[str, Array],
    systems: System,
    rows: dict[str, Array],
    center: Array,
    representatives: Representatives,
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

    def tile(columns: dict[str, Array]) -> Array:
        def one(query: dict[str, Array]) -> Array:
            found = terms(kernel, energies, hyper["lengthscale"], query, rows)
            return blocks(kernel, query, rows, found)

        return jax.vmap(one)(columns)

    prepared = _prepared(kernel, hyper, systems, center, prepare_columns, columns_of)
    return _sum(tile, prepared, representatives, 1)


@partial(jax.jit, static_argnums=(0, 1))
def column_sum(
    kernel: Kernel,
    energies: bool,
    hyper: dict[str, Array],
    systems: System,
    batch: dict[str, Array],
    center: Array,
    representatives: Representatives,
) -> Array:
    """Entries ``(systems, block [+1], columns)`` of a batch of columns, for a large group."""

    def tile(queries: dict[str, Array]) -> Array:
        return column_tile(kernel, energies, hyper["lengthscale"], queries, batch)

    prepared = _prepared(kernel, hyper, systems, center, prepare_queries, queries_of)
    return _sum(tile, prepared, representatives, 1)


def diagonal(kernel: Kernel, energies: bool, hyper: Any, references: System) -> Array:
    """Diagonal of the matrix, in the order of the labels."""
    part, representatives = parts_of(kernel)
    if representatives is None:
        representatives = Representatives(np.arange(references.atom_count)[None], None)
    return _diagonal(part, energies, hyper, references, representatives)


@partial(jax.jit, static_argnums=(0, 1))
def _diagonal(
    kernel: Kernel,
    energies: bool,
    hyper: Any,
    references: System,
    representatives: Representatives,
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
