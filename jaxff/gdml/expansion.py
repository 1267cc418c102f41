r"""Kernel energies as an expansion in reference features: the fast path of prediction and solvers.

With features :math:`x`, references :math:`x_j`, contracted Jacobians :math:`w_j = J_j\beta_j` and
energy coefficients :math:`b_j`, a radial kernel :math:`h(s)`, :math:`s = \lVert d\rVert^2/\ell^2`,
:math:`d = x_p - x_j`, gives

.. math:: E = c + \sum_{jp} \frac{2}{\ell^2} h'(s)\, d\cdot w_j + h(s)\, b_j .

The descriptor is differentiated once per reference (a Jacobian-vector product) and once per query
(a vector-Jacobian product); all pair work is matrix products between centred features. Centring
keeps the product form of the distance as accurate as direct differences.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from jaxff.kernels.base import BaseKernel
from jaxff.kernels.kernel import Kernel
from jaxff.system import System
from jaxff.types import Array, Float

__all__ = [
    "assemble",
    "contract",
    "energies",
    "energies_and_gradients",
    "evaluate",
    "expand",
    "expand_compiled",
    "lowered",
    "predict_labels",
    "query_features",
    "supports",
]

Expansion = dict[str, Array]

_BLOCK_ELEMENTS = 48_000
"""Entries of one query-reference block: small enough for the second-level cache of a CPU core."""


def supports(kernel: Any) -> bool:
    """Whether this path holds for a kernel: others take that of :mod:`jaxff.gdml.jets`.

    Its products round the distance of coincident points to some 1e-16, of which kernels that are
    only just smooth enough for forces see the square root.
    """
    return (
        isinstance(kernel, Kernel)
        and isinstance(kernel.base, BaseKernel)
        and kernel.base.smoothness >= 4
    )


def expand(
    kernel: Kernel, hyper: dict[str, Array], references: System, coefficients: dict[str, Array]
) -> Expansion:
    """Features of the references and their contraction with the coefficients.

    Args:
        kernel: Kernel.
        hyper: Its hyperparameters.
        references: Stack of N systems.
        coefficients: ``"forces"`` ``(N, atoms, 3)`` and, optionally, ``"energy"`` ``(N,)``.

    Returns:
        See :func:`assemble`.
    """
    features, weights = contract(kernel, hyper, references, coefficients["forces"])
    return assemble(features, weights, coefficients.get("energy"))


def contract(
    kernel: Kernel, hyper: dict[str, Array], references: System, tangents: Array
) -> tuple[Array, Array]:
    """Features of the references and their derivatives along the tangents, both ``(N, D)``."""

    def one(system: System, tangent: Array) -> tuple[Array, Array]:
        def features(positions: Array) -> Array:
            return kernel.features(hyper, system.replace(positions=positions))

        return jax.jvp(features, (system.positions,), (tangent,))

    return jax.vmap(one)(references, tangents)


expand_compiled = jax.jit(expand, static_argnums=0)
"""The same, compiled once per kernel and shape."""


def assemble(features: Array, weights: Array, energy_weights: Array | None = None) -> Expansion:
    """Expansion from raw features and contracted Jacobians, both ``(N, D)``.

    Holds ``center (D,)``, ``features`` and ``weights (N, D)`` and, if given, ``energy_weights``.
    Transposes and inner products that every prediction needs are kept beside them.
    """
    center = jnp.mean(features, axis=0)
    features = features - center
    expansion = {
        "center": center,
        "features": features,
        "weights": weights,
        "features_t": features.T,
        "weights_t": weights.T,
        "squares": jnp.sum(features**2, axis=1),
        "offsets": jnp.sum(features * weights, axis=1),
    }
    if energy_weights is not None:
        expansion["energy_weights"] = energy_weights
    return expansion


def lowered(expansion: Expansion) -> Expansion:
    """The same in float32, but for the center, so that queries are centred before they are rounded.

    All work on pairs then runs in float32.
    """
    kept = {"center": expansion["center"]}
    return {name: leaf.astype(jnp.float32) for name, leaf in expansion.items()} | kept


def query_features(kernel: Kernel, hyper: dict[str, Array], systems: System) -> Array:
    """Features of a stack of queries, ``(Q, D)``.

    ``(Q, P, D)`` if the descriptor does not declare how its features permute.
    """
    if kernel.feature_permutations is not None or kernel.permutations is None:
        return jax.vmap(lambda s: kernel.features(hyper, s))(systems)
    return jax.vmap(lambda s: kernel.permuted_features(hyper, s))(systems)


def predict_labels(
    kernel: Kernel, hyper: dict[str, Array], expansion: Expansion, systems: System
) -> tuple[Float[Array, " queries"], Float[Array, "queries atoms 3"]]:
    """Energies, without the constant, and forces of a stack of systems."""

    def predicted(positions: Array) -> tuple[Array, Array]:
        queries = query_features(kernel, hyper, systems.replace(positions=positions))
        energy = evaluate(kernel, hyper, expansion, queries)
        return jnp.sum(energy), energy

    (_, energy), gradient = jax.value_and_grad(predicted, has_aux=True)(systems.positions)
    return energy, -gradient


def evaluate(
    kernel: Kernel, hyper: dict[str, Array], expansion: Expansion, queries: Array
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
    kernel: Kernel, lengthscale: Array, expansion: Expansion, queries: Array
) -> Float[Array, " queries"]:
    """Energies of query features, without the constant."""
    lengthscale = lengthscale.astype(expansion["features"].dtype)

    def block(queries: Array) -> Array:
        permuted = _permuted(kernel, expansion, queries)
        scaled, projections = _pairs(lengthscale, expansion, permuted)
        energy = _sum_terms(kernel, lengthscale, expansion, scaled, projections)
        return jnp.sum(energy.reshape(len(queries), -1), axis=1).astype(queries.dtype)

    return _by_blocks(kernel, expansion, block, queries)


def energies_and_gradients(
    kernel: Kernel, lengthscale: Array, expansion: Expansion, queries: Array
) -> tuple[Array, Array]:
    """Energies and their gradients with respect to the query features."""
    index = kernel.feature_permutations
    lengthscale = lengthscale.astype(expansion["features"].dtype)

    def block(queries: Array) -> tuple[Array, Array]:
        permuted = _permuted(kernel, expansion, queries)
        scaled, projections = _pairs(lengthscale, expansion, permuted)
        factor = 2.0 / lengthscale**2
        slope = factor * kernel.base.derivative(1, scaled)
        radial = factor**2 * kernel.base.derivative(2, scaled) * projections
        energy = _sum_terms(kernel, lengthscale, expansion, scaled, projections)
        if "energy_weights" in expansion:
            radial += slope * expansion["energy_weights"][:, None]
        gradient = expansion["weights_t"] @ slope - expansion["features_t"] @ radial
        gradient += jnp.sum(radial, axis=0) * permuted
        gradient = gradient.T.reshape(len(queries), -1, gradient.shape[0])
        if index is not None:
            inverse = np.argsort(index, axis=1)
            gradient = jnp.sum(gradient[:, np.arange(len(index))[:, None], inverse], axis=1)
        return (
            jnp.sum(energy.reshape(len(queries), -1), axis=1).astype(queries.dtype),
            gradient.reshape(queries.shape).astype(queries.dtype),
        )

    return _by_blocks(kernel, expansion, block, queries)


def _permuted(kernel: Kernel, expansion: Expansion, queries: Array) -> Array:
    """Centred queries under every permutation, as columns: ``(D, queries · P)``."""
    index = kernel.feature_permutations
    rows = queries if index is None else queries[:, index]
    centred = rows.reshape(-1, rows.shape[-1]).T - expansion["center"][:, None]
    return centred.astype(expansion["features"].dtype)


def _pairs(lengthscale: Array, expansion: Expansion, permuted: Array) -> tuple[Array, Array]:
    """Scaled squared distances and projections ``d·w``, both ``(N, queries · P)``.

    References are rows: the product of a tall and a narrow matrix is the fastest one on CPUs.
    """
    squares = jnp.sum(permuted**2, axis=0) + expansion["squares"][:, None]
    scaled = (squares - 2.0 * (expansion["features"] @ permuted)) / lengthscale**2
    return scaled, expansion["weights"] @ permuted - expansion["offsets"][:, None]


def _sum_terms(
    kernel: Kernel, lengthscale: Array, expansion: Expansion, scaled: Array, projections: Array
) -> Array:
    """Energy of each permuted query, summed over references."""
    slope = (2.0 / lengthscale**2) * kernel.base.derivative(1, scaled)
    energy = jnp.sum(slope * projections, axis=0)
    if "energy_weights" in expansion:
        energy += expansion["energy_weights"] @ kernel.base.derivative(0, scaled)
    return energy


def _by_blocks(kernel: Kernel, expansion: Expansion, function: Any, queries: Array) -> Any:
    """Map over blocks of queries that fit the cache; the last block is filled up."""
    entries = kernel.order * expansion["features"].shape[0]
    block = max(1, _BLOCK_ELEMENTS // entries)
    count = len(queries)
    if count <= block:
        return function(queries)
    blocks = -(-count // block)
    block = -(-count // blocks)
    filled = jnp.resize(queries, (blocks * block, *queries.shape[1:]))
    results = jax.lax.map(function, filled.reshape(blocks, block, *queries.shape[1:]))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:count], results)
