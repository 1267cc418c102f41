r"""Products with the kernel matrix from stored values of all pairs.

What a product needs of a pair besides its coefficients, :math:`f h'(s)` and :math:`f^2 h''(s)`, is
the same in every iteration of a solver. Kept, it saves one of four matrix products and all
exponentials, for 16 bytes per pair of references and permutation: 2 P / (3 M)² of the dense matrix.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxff.gdml import expansion as exp
from jaxff.gdml.prediction import in_own_order, permuted_queries, query_features
from jaxff.kernels.kernel import Kernel
from jaxff.system import System
from jaxff.types import Array, Float

__all__ = ["StoredPairs", "product", "store", "stored_bytes"]

_QUERIES = 64
"""Permuted queries of a block: its values and products stay in the caches."""


class StoredPairs(NamedTuple):
    r"""Derivatives of the kernel between all references, by blocks of queries; rows are references.

    Attributes:
        values: :math:`h`, for energy labels only.
        slopes: :math:`f h'`, with :math:`f = 2/\ell^2`.
        curvatures: :math:`f^2 h''`.
    """

    values: Float[Array, "blocks N queries"] | None
    slopes: Float[Array, "blocks N queries"]
    curvatures: Float[Array, "blocks N queries"]


def stored_bytes(kernel: Kernel, count: int, energies: bool) -> int:
    """Memory that the values of all pairs take."""
    block, blocks = _layout(kernel, count)
    return 8 * (3 if energies else 2) * blocks * block * count * kernel.order


def _layout(kernel: Kernel, count: int) -> tuple[int, int]:
    """Queries of a block, and number of blocks."""
    blocks = -(-count // max(1, _QUERIES // kernel.order))
    return -(-count // blocks), blocks


def _blocks(kernel: Kernel, rows: Array) -> Array:
    """Rows of the references by blocks, the last one filled up with repeats."""
    block, blocks = _layout(kernel, len(rows))
    return jnp.resize(rows, (blocks * block, *rows.shape[1:])).reshape(
        blocks, block, *rows.shape[1:]
    )


@partial(jax.jit, static_argnums=(0, 1))
def store(
    kernel: Kernel, energies: bool, hyper: dict[str, Array], references: System
) -> StoredPairs:
    """Evaluate the kernel between all references."""
    queries = query_features(kernel, hyper, references)
    features, _ = exp.contract(kernel, hyper, references, jnp.zeros_like(references.positions))
    expansion = exp.assemble(features, jnp.zeros_like(features))
    factor = 2.0 / hyper["lengthscale"] ** 2

    def block(rows: Array) -> StoredPairs:
        permuted = permuted_queries(kernel, expansion, rows)
        squares = jnp.sum(permuted**2, axis=0) + expansion["squares"][:, None]
        scaled = 0.5 * factor * (squares - 2.0 * (expansion["features"] @ permuted))
        return StoredPairs(
            kernel.base.derivative(0, scaled) if energies else None,
            factor * kernel.base.derivative(1, scaled),
            factor**2 * kernel.base.derivative(2, scaled),
        )

    return jax.lax.map(block, _blocks(kernel, queries))


@partial(jax.jit, static_argnums=0)
def product(
    kernel: Kernel,
    hyper: dict[str, Array],
    references: System,
    stored: StoredPairs,
    tangents: Float[Array, "N atoms 3"],
    energy_weights: Float[Array, " N"] | None,
) -> tuple[Float[Array, " N"], Float[Array, "N atoms 3"]]:
    """Energies and forces at the references of the expansion with these coefficients."""

    def features(positions: Array) -> Array:
        return query_features(kernel, hyper, references.replace(positions=positions))

    queries, pull_back = jax.vjp(features, references.positions)
    expansion = exp.assemble(*exp.contract(kernel, hyper, references, tangents), energy_weights)

    def block(given: tuple[Array, StoredPairs]) -> tuple[Array, Array]:
        rows, pairs = given
        permuted = permuted_queries(kernel, expansion, rows)
        projections = expansion["weights"] @ permuted - expansion["offsets"][:, None]
        radial = pairs.curvatures * projections
        energy = jnp.zeros(len(rows))
        if energy_weights is not None and pairs.values is not None:
            radial += pairs.slopes * energy_weights[:, None]
            each = energy_weights @ pairs.values + jnp.sum(pairs.slopes * projections, axis=0)
            energy = jnp.sum(each.reshape(len(rows), -1), axis=1)
        gradient = expansion["weights_t"] @ pairs.slopes - expansion["features_t"] @ radial
        gradient += jnp.sum(radial, axis=0) * permuted
        return energy, in_own_order(kernel, rows, gradient)

    energy, gradient = jax.lax.map(block, (_blocks(kernel, queries), stored))
    count = len(queries)
    (forces,) = pull_back(-gradient.reshape(-1, *queries.shape[1:])[:count])
    return energy.ravel()[:count], forces
