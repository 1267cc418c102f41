r"""Energies and forces from an expansion: see :mod:`jaxff.gdml.expansion`."""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from jaxff.gdml import fourier
from jaxff.gdml.expansion import Expansion, RadialKernel
from jaxff.kernels.algebra import Scaled, Sum, part
from jaxff.kernels.kernel import Kernel
from jaxff.kernels.symmetrized import AtomicSum
from jaxff.system import System, flatten_batch
from jaxff.types import Array, Float

__all__ = [
    "Predicted",
    "energies",
    "energies_and_gradients",
    "evaluate",
    "in_own_order",
    "permuted_queries",
    "predict_labels",
    "query_features",
]

_BLOCK_ELEMENTS = 48_000
"""Entries of one query-reference block: small enough for the second-level cache of a CPU core."""


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True, eq=False)
class Predicted:
    """Energy of an expansion: an energy function whose arrays are leaves.

    Attributes:
        kernel: The kernel, static.
        hyper: Its hyperparameters.
        expansion: From :func:`jaxff.gdml.expansion.expand`.
    """

    kernel: Any
    hyper: dict[str, Array]
    expansion: dict[str, Any]

    def __call__(self, system: System, neighbors: Any = None) -> Array:
        """Energies of a single system or a stack, without the constant."""
        del neighbors
        flat = flatten_batch(system)
        energy = _composed(self.kernel, self.hyper, self.expansion, flat)
        return energy.reshape(system.batch_shape)

    @property
    def elements(self) -> int:
        """Entries of the comparison of one query with all references."""
        return self.kernel.order * sum(leaf.size for leaf in jax.tree.leaves(self.expansion))

    def tree_flatten(self):
        """Hyperparameters and expansion are the children."""
        return (self.hyper, self.expansion), self.kernel

    @classmethod
    def tree_unflatten(cls, kernel, children) -> "Predicted":
        """Rebuild around (possibly placeholder) arrays."""
        return cls(kernel, *children)


def _composed(
    kernel: Any, hyper: dict[str, Array], expansion: dict[str, Any], systems: System
) -> Float[Array, " queries"]:
    """Energies of a stack of systems, for sums and multiples of radial kernels too."""
    if isinstance(kernel, Sum):
        parts = [
            _composed(own, part(hyper, name), expansion[name], systems)
            for name, own in kernel.parts
        ]
        return jnp.sum(jnp.stack(parts), axis=0)
    if isinstance(kernel, Scaled):
        own = kernel.own_hyper(hyper)
        return kernel.factor_of(hyper) * _composed(kernel.kernel, own, expansion, systems)
    return evaluate(kernel, hyper, expansion, query_features(kernel, hyper, systems))


def query_features(kernel: RadialKernel, hyper: dict[str, Array], systems: System) -> Array:
    """Features of a stack of queries, ``(Q, D)``.

    ``(Q, P, D)`` if the descriptor does not declare how its features permute, ``(Q, atoms, D)`` for
    sums over atoms.
    """
    if (
        isinstance(kernel, AtomicSum)
        or kernel.feature_permutations is not None
        or kernel.permutations is None
    ):
        return jax.vmap(lambda s: kernel.features(hyper, s))(systems)
    return jax.vmap(lambda s: kernel.permuted_features(hyper, s))(systems)


def predict_labels(
    kernel: RadialKernel, hyper: dict[str, Array], expansion: Expansion, systems: System
) -> tuple[Float[Array, " queries"], Float[Array, "queries atoms 3"]]:
    """Energies, without the constant, and forces of a stack of systems."""

    def predicted(positions: Array) -> tuple[Array, Array]:
        queries = query_features(kernel, hyper, systems.replace(positions=positions))
        energy = evaluate(kernel, hyper, expansion, queries)
        return jnp.sum(energy), energy

    (_, energy), gradient = jax.value_and_grad(predicted, has_aux=True)(systems.positions)
    return energy, -gradient


def evaluate(
    kernel: RadialKernel, hyper: dict[str, Array], expansion: Expansion, queries: Array
) -> Float[Array, " queries"]:
    """Energies of query features, differentiable to every order the kernel allows.

    The first derivative with respect to the queries is computed together with the energies, block
    by block, so that reverse mode stores one gradient per query instead of every block.
    """

    @jax.custom_jvp
    def energy(queries: Array, lengthscale: Array, expansion: Expansion) -> Array:
        return energies(kernel, lengthscale, expansion, queries)

    def rule(primals, tangents):
        queries, lengthscale, expansion = primals
        tangent, *others = tangents
        if not all(isinstance(t, SymbolicZero) for t in jax.tree.leaves(others)):
            dense = jax.tree.map(_instantiate, primals, tangents)
            return jax.jvp(lambda q, s, e: energies(kernel, s, e, q), primals, dense)
        value, gradient = energies_and_gradients(kernel, lengthscale, expansion, queries)
        if isinstance(tangent, SymbolicZero):
            return value, jnp.zeros_like(value)
        axes = tuple(range(1, gradient.ndim))
        return value, jnp.sum(gradient * tangent, axis=axes)

    energy.defjvp(rule, symbolic_zeros=True)
    return energy(queries, hyper["lengthscale"], expansion)


def _instantiate(primal: Array, tangent: Any) -> Array:
    return jnp.zeros_like(primal) if isinstance(tangent, SymbolicZero) else tangent


def energies(
    kernel: RadialKernel, lengthscale: Array, expansion: Expansion, queries: Array
) -> Float[Array, " queries"]:
    """Energies of query features, without the constant."""
    lengthscale = lengthscale.astype(expansion["features"].dtype)
    if isinstance(kernel, Kernel) and fourier.is_transformed(expansion):
        return _by_blocks(
            kernel,
            expansion,
            lambda q: fourier.block(kernel, lengthscale, expansion, q)[0],
            queries,
        )

    def block(queries: Array) -> Array:
        permuted = permuted_queries(kernel, expansion, queries)
        energy = _sum_terms(
            kernel, lengthscale, expansion, _pairs(lengthscale, expansion, permuted)
        )
        return jnp.sum(energy.reshape(len(queries), -1), axis=1).astype(queries.dtype)

    return _by_blocks(kernel, expansion, block, queries)


def energies_and_gradients(
    kernel: RadialKernel, lengthscale: Array, expansion: Expansion, queries: Array
) -> tuple[Array, Array]:
    """Energies and their gradients with respect to the query features."""
    lengthscale = lengthscale.astype(expansion["features"].dtype)
    if isinstance(kernel, Kernel) and fourier.is_transformed(expansion):
        return _by_blocks(
            kernel, expansion, partial(fourier.block, kernel, lengthscale, expansion), queries
        )

    def block(queries: Array) -> tuple[Array, Array]:
        permuted = permuted_queries(kernel, expansion, queries)
        pairs = _pairs(lengthscale, expansion, permuted)
        factor = 2.0 / lengthscale**2
        slope = factor * pairs.derivative(kernel, 1)
        curvature = factor**2 * pairs.derivative(kernel, 2)
        radial = curvature * pairs.projections
        energy = _sum_terms(kernel, lengthscale, expansion, pairs)
        if "energy_weights" in expansion:
            radial += slope * expansion["energy_weights"][:, None]
        if pairs.bends is not None:
            radial += factor**3 * pairs.derivative(kernel, 3) * pairs.bends
        gradient = expansion["weights_t"] @ slope - expansion["features_t"] @ radial
        gradient += jnp.sum(radial, axis=0) * permuted
        if pairs.along is not None:
            turned = 2.0 * curvature[:, None] * expansion["signs"][..., None] * pairs.along
            gradient += expansion["axes_t"] @ turned.reshape(-1, turned.shape[-1])
        return (
            jnp.sum(energy.reshape(len(queries), -1), axis=1).astype(queries.dtype),
            in_own_order(kernel, queries, gradient),
        )

    return _by_blocks(kernel, expansion, block, queries)


def _permutations(kernel: RadialKernel) -> np.ndarray | None:
    """How features permute, where rows of queries are not permuted already."""
    return None if isinstance(kernel, AtomicSum) else kernel.feature_permutations


def permuted_queries(kernel: RadialKernel, expansion: Expansion, queries: Array) -> Array:
    """Centred queries under every permutation, as columns: ``(D, queries · P)``."""
    index = _permutations(kernel)
    rows = queries if index is None else queries[:, index]
    centred = rows.reshape(-1, rows.shape[-1]).T - expansion["center"][:, None]
    return centred.astype(expansion["features"].dtype)


def in_own_order(kernel: RadialKernel, queries: Array, gradient: Array) -> Array:
    """Gradients by permuted queries, ``(D, queries · P)``, as those by the queries themselves."""
    gradient = gradient.T.reshape(len(queries), -1, gradient.shape[0])
    index = _permutations(kernel)
    if index is not None:
        inverse = np.argsort(index, axis=1)
        gradient = jnp.sum(gradient[:, np.arange(len(index))[:, None], inverse], axis=1)
    return gradient.reshape(queries.shape).astype(queries.dtype)


class _Pairs(NamedTuple):
    """Of every pair of reference and permuted query: rows are references.

    The product of a tall and a narrow matrix is the fastest one on CPUs.

    Attributes:
        scaled: Scaled squared distances s.
        projections: The factor of the slope.
        along: Projections ``d·u``, with an axis of u in the middle, where there are second
            derivatives.
        bends: Sum of their squares times λ.
        counted: In sums over atoms, 1 for pairs of the same element and 0 for others.
    """

    scaled: Float[Array, "N queries"]
    projections: Float[Array, "N queries"]
    along: Float[Array, "N M queries"] | None
    bends: Float[Array, "N queries"] | None
    counted: Float[Array, "N queries"] | None

    def derivative(self, kernel: RadialKernel, order: int) -> Array:
        """Derivative of the profile of each pair that counts."""
        values = kernel.base.derivative(order, self.scaled)
        return values if self.counted is None else values * self.counted


def _pairs(lengthscale: Array, expansion: Expansion, permuted: Array) -> _Pairs:
    counted = None
    if "species" in expansion:  # queries list the same atoms in the same order
        species = expansion["species"]
        same = (species.reshape(-1, 1) == species[0]) & (species[0] > 0)
        counted = jnp.tile(same.astype(permuted.dtype), permuted.shape[1] // species.shape[1])
    projections = expansion["weights"] @ permuted - expansion["offsets"][:, None]
    if "axes" not in expansion:
        squares = jnp.sum(permuted**2, axis=0) + expansion["squares"][:, None]
        scaled = (squares - 2.0 * (expansion["features"] @ permuted)) / lengthscale**2
        return _Pairs(scaled, projections, None, None, counted)
    # Direct differences: a kernel that is only just smooth enough would see the root of rounding.
    differences = expansion["features"][:, :, None] - permuted[None]
    scaled = jnp.sum(differences**2, axis=1) / lengthscale**2
    axes, signs = expansion["axes"], expansion["signs"]
    along = (axes.reshape(-1, axes.shape[-1]) @ permuted).reshape(*signs.shape, -1)
    along -= expansion["axis_offsets"][..., None]
    bends = jnp.sum(signs[..., None] * along**2, axis=1)
    return _Pairs(scaled, projections, along, bends, counted)


def _sum_terms(
    kernel: RadialKernel, lengthscale: Array, expansion: Expansion, pairs: _Pairs
) -> Array:
    """Energy of each permuted query, summed over references."""
    factor = 2.0 / lengthscale**2
    slope = factor * pairs.derivative(kernel, 1)
    energy = jnp.sum(slope * pairs.projections, axis=0)
    if "energy_weights" in expansion:
        energy += expansion["energy_weights"] @ pairs.derivative(kernel, 0)
    if pairs.bends is not None:
        curvature = factor**2 * pairs.derivative(kernel, 2)
        energy += jnp.sum(curvature * pairs.bends, axis=0)
    return energy


def _by_blocks(kernel: RadialKernel, expansion: Expansion, function: Any, queries: Array) -> Any:
    """Map over blocks of queries that fit the cache; the last block is filled up."""
    count = expansion["features"].shape[0]
    images = queries.shape[1] if queries.ndim == 3 else kernel.order
    room = _BLOCK_ELEMENTS
    if "species" in expansion:  # long features make wide products worth more than the cache
        room *= max(1, expansion["features"].shape[1] // 32)
    entries = images * (count + (expansion["signs"].size if "axes" in expansion else 0))
    block = max(1, room // entries)
    count = len(queries)
    if count <= block:
        return function(queries)
    blocks = -(-count // block)
    block = -(-count // blocks)
    filled = jnp.resize(queries, (blocks * block, *queries.shape[1:]))
    results = jax.lax.map(function, filled.reshape(blocks, block, *queries.shape[1:]))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:count], results)
