r"""Single columns of the kernel matrix: predictions of models of one reference and one coefficient.

With the features :math:`x_b` of its reference and :math:`w_b`, the derivative of these along its
coordinate, the column of a force label predicts the energy :math:`\sum_p \frac{2}{\ell^2} h'(s_p)\,
(x_p - x_b)\cdot w_b`, and that of an energy label :math:`\sum_p h(s_p)`. Some 9 P D operations per
query and column, where a whole block takes 60 P M² for 3 M of them.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.gdml.blocks import (
    features_and_jacobians,
    is_pairwise,
    pair_field,
    permutes_features,
)
from jaxff.kernels.kernel import Kernel
from jaxff.system import System
from jaxff.types import Array, Float

__all__ = [
    "QUERIES",
    "WIDTH",
    "column_tile",
    "mean_features",
    "prepare_batch",
    "prepare_queries",
    "queries_of",
]

WIDTH, QUERIES = 128, 32
"""Columns and queries that are computed at once: their factors stay in the cache."""


@partial(jax.jit, static_argnums=0)
def mean_features(kernel: Kernel, hyper: Any, references: System) -> Array:
    """Mean features of all references: centring keeps products as accurate as differences."""
    return jnp.mean(jax.vmap(lambda s: kernel.features(hyper, s))(references), axis=0)


@partial(jax.jit, static_argnums=0)
def prepare_queries(
    kernel: Kernel, hyper: dict[str, Array], systems: System, center: Array
) -> dict[str, Array]:
    """What columns need of the references as queries; leading axis: reference."""
    if permutes_features(kernel):
        return queries_of(kernel, *features_and_jacobians(kernel, hyper, systems), center)

    def one(system: System) -> dict[str, Array]:
        def features(flat: Array) -> Array:
            moved = system.replace(positions=flat.reshape(-1, 3))
            return kernel.permuted_features(hyper, moved)

        flat = system.positions.ravel()
        x = features(flat)
        return {"x": x, "centred": x - center, "jacobian": jax.jacfwd(features)(flat)}

    return jax.vmap(one)(systems)


def queries_of(
    kernel: Kernel,
    x: Float[Array, "I D"],
    jacobian: Float[Array, "I D components"],
    center: Float[Array, " D"],
) -> dict[str, Array]:
    """The same from features and Jacobians, for kernels whose features permute."""
    index = kernel.feature_permutations
    permuted = x[:, None] if index is None else x[:, index]
    queries = {"x": x[:, None], "centred": permuted - center}
    if is_pairwise(kernel):
        field = pair_field(kernel, jacobian, jacobian.shape[2] // 3)
        queries["field"] = jnp.swapaxes(field, 2, 3)  # (I, a, vector, b)
    else:
        queries["jacobian"] = jacobian[:, None]
    return queries


@partial(jax.jit, static_argnums=0)
def prepare_batch(
    kernel: Kernel,
    hyper: dict[str, Array],
    systems: System,
    tangents: Float[Array, "columns atoms 3"],
    energy_weights: Float[Array, " columns"],
    center: Array,
) -> dict[str, Array]:
    """What a batch of columns is; *last* axis: column.

    Args:
        kernel: The kernel.
        hyper: Its hyperparameters.
        systems: The reference of each column.
        tangents: Its coefficient, if it is that of a force label.
        energy_weights: Its coefficient, if it is that of an energy label.
        center: Mean features of all references.
    """

    def contract(system: System, tangent: Array) -> tuple[Array, Array]:
        def features(positions: Array) -> Array:
            return kernel.features(hyper, system.replace(positions=positions))

        return jax.jvp(features, (system.positions,), (tangent,))

    raw, w = (leaf.T for leaf in jax.vmap(contract)(systems, tangents))
    x = raw - center[:, None]
    batch = {
        "x": x,
        "w": w,
        "squares": jnp.sum(x**2, axis=0),
        "offsets": jnp.sum(x * w, axis=0),
        "energy_weights": energy_weights,
    }
    if kernel.feature_permutations is not None:
        inverse = np.argsort(kernel.feature_permutations, axis=1)
        batch["x_permuted"], batch["w_permuted"] = raw[inverse], w[inverse]
    return batch


@partial(jax.jit, static_argnums=(0, 1))
def column_tile(
    kernel: Kernel, energies: bool, lengthscale: Array, queries: dict[str, Array], batch: dict
) -> Array:
    """Entries ``(queries, block [+1], columns)`` of the matrix."""
    return jax.vmap(lambda query: _entries(kernel, energies, lengthscale, query, batch))(queries)


def _entries(kernel: Kernel, energies: bool, lengthscale: Array, query: dict, batch: dict) -> Array:
    index = kernel.feature_permutations
    x = query["centred"]
    scaled = (
        jnp.sum(x**2, 1)[:, None] + batch["squares"] - 2.0 * (x @ batch["x"])
    ) / lengthscale**2
    along = x @ batch["w"] - batch["offsets"]
    slope = (2.0 / lengthscale**2) * kernel.base.derivative(1, scaled)
    curvature = (4.0 / lengthscale**4) * kernel.base.derivative(2, scaled)
    radial = curvature * along + slope * batch["energy_weights"]
    if index is None:
        gradient = slope[:, None] * batch["w"] + radial[:, None] * (x[:, :, None] - batch["x"])
    else:
        # The gradient by features under a permutation, put back in their own order and added up.
        gradient = jnp.sum(
            slope[:, None] * batch["w_permuted"] - radial[:, None] * batch["x_permuted"], axis=0
        )
        gradient = (gradient + jnp.sum(radial, axis=0) * query["x"][0][:, None])[None]
    forces = -_pull_back(kernel, query, gradient)
    if not energies:
        return forces
    value = slope * along + kernel.base.derivative(0, scaled) * batch["energy_weights"]
    return jnp.concatenate([forces, jnp.sum(value, axis=0)[None]])


def _pull_back(kernel: Kernel, query: dict, gradient: Array) -> Array:
    """From derivatives by features ``(P, D, columns)`` to those by positions."""
    if "field" not in query:
        return jnp.einsum("pda,pdb->ab", query["jacobian"], gradient)
    atoms = query["field"].shape[0]
    first, second = getattr(kernel.descriptor, "pairs")(atoms)  # noqa: B009  declared by some
    of = np.zeros((atoms, atoms), int)
    of[first, second] = of[second, first] = np.arange(len(first))
    # The diagonal reads some feature, times a field that is zero there.
    forces = jnp.einsum("avc,acb->avb", query["field"], gradient[0][of])
    return forces.reshape(3 * atoms, -1)
