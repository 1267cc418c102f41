r"""Kernel energies of any kernel and any labels: the general path.

The energy :math:`E(r) = \sum_j \langle O\,k(r, \cdot)|_{r_j}, \alpha_j\rangle` is written in
*features* y of the references, in which the functional of :mod:`jaxff.gdml.labels` becomes

.. math:: b\,k + Dk[\tau] + \sum_m D^2 k[u_m, v_m],\qquad
   \tau = Dy[t] + \sum_m D^2 y[l_m, r_m],\quad u_m = Dy[l_m],\quad v_m = Dy[r_m].

Features and these derivatives along directions (a *jet*) are computed once per reference; every
prediction starts from them. Reference: Schmitz, Müller & Chmiela, J. Phys. Chem. Lett. 13, 10183
(2022), doi:10.1021/acs.jpclett.2c02632.
"""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxff.gdml.labels import Adjoint, adjoint, moved
from jaxff.kernels.protocol import stage
from jaxff.system import System, flatten_batch
from jaxff.types import Array

__all__ = ["Expanded", "by_blocks", "expand", "expand_compiled", "is_jet", "jet"]

Hyper = dict[str, Array]
Jet = dict[str, Any]

_ELEMENTS = 1_000_000
"""Entries of the comparison of one block of queries with all references, to bound memory."""


def jet(kernel: Any, hyper: Hyper, system: System, functional: Adjoint) -> Jet:
    """Features of one reference and their derivatives along the directions of its functional.

    Returns:
        ``points``, the features, and as needed ``values`` (b), ``tangents`` (τ), ``left`` (u) and
        ``right`` (v), lists over the floating leaves of the features. With pairs of directions
        each has its own part of τ.
    """
    reference = stage(kernel, "reference")
    result: Jet = {"points": reference(hyper, system)}
    if functional.value is not None:
        result["values"] = functional.value
    tangents = None
    if functional.along:
        zero = jax.tree.map(jnp.zeros_like, functional.along)
        features = lambda shift: _floats(reference(hyper, moved(system, shift)))  # noqa: E731
        tangents = jax.jvp(features, (zero,), (functional.along,))[1]
    if functional.pairs is not None:
        left, right, bent = _second(kernel, hyper, system, *functional.pairs)
        result["left"], result["right"] = left, right
        if tangents is not None:
            bent = jax.tree.map(lambda leaf, own: leaf.at[0].add(own), bent, tangents)
        tangents = bent
    if tangents is not None:
        result["tangents"] = tangents
    return result


def _second(kernel: Any, hyper: Hyper, system: System, left: Array, right: Array) -> tuple:
    """First derivatives of the features along pairs of directions, and second ones along both."""

    def features(positions: Array) -> list[Array]:
        return _floats(stage(kernel, "reference")(hyper, system.replace(positions=positions)))

    def pair(first: Array, second: Array) -> tuple:
        def along_second(positions: Array) -> tuple:
            return jax.jvp(features, (positions,), (second,))

        (_, v), (u, bent) = jax.jvp(along_second, (system.positions,), (first,))
        return u, v, bent

    return jax.vmap(pair)(left, right)


def _is_float(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)


def _floats(features: Any) -> list[Array]:
    """The leaves that have tangents."""
    return [leaf for leaf in jax.tree.leaves(features) if _is_float(leaf)]


def _with_floats(features: Any, floats: list[Array]) -> Any:
    leaves, treedef = jax.tree.flatten(features)
    exchanged = iter(floats)
    return jax.tree.unflatten(
        treedef, [next(exchanged) if _is_float(leaf) else leaf for leaf in leaves]
    )


def expand(
    kernel: Any,
    hyper: Hyper,
    references: System,
    coefficients: dict[str, Any],
    directions: Array | None = None,
) -> Jet:
    """Jets of all references for packed coefficients, leading axis: reference."""

    def one(system: System, own: dict[str, Any], along: Array | None) -> Jet:
        return jet(kernel, hyper, system, adjoint(system, own, along))

    return jax.vmap(one)(references, coefficients, directions)


expand_compiled = jax.jit(expand, static_argnums=0)
"""The same, compiled once per kernel, labels and shape."""


def is_jet(expansion: Any) -> bool:
    """Whether an expansion is one of this path."""
    return "points" in expansion


def _contribution(kernel: Any, hyper: Hyper, own: Jet, query: Any) -> Array:
    """Energy that one reference gives a query."""
    compare = stage(kernel, "compare")
    floats = _floats(own["points"])

    def value(floats: list[Array]) -> Array:
        return compare(hyper, query, _with_floats(own["points"], floats))

    def slope(floats: list[Array], tangents: list[Array]) -> tuple[Array, Array]:
        return jax.jvp(value, (floats,), (tangents,))

    def pair(u: list[Array], v: list[Array], tangents: list[Array]) -> tuple[Array, Array]:
        # The derivative along u of Dk[v], while v itself moves along τ: D²k[u, v] + Dk[τ].
        (found, _), (_, second) = jax.jvp(slope, (floats, v), (u, tangents))
        return found, second

    if "left" in own:
        both = jax.vmap(pair, out_axes=(None, 0))
        kernel_value, parts = both(own["left"], own["right"], own["tangents"])
        total = jnp.sum(parts)
    elif "tangents" in own:
        kernel_value, total = slope(floats, own["tangents"])
    else:
        kernel_value = value(floats)
        total = jnp.zeros_like(kernel_value)
    return total + own["values"] * kernel_value if "values" in own else total


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True, eq=False)
class Expanded:
    """Energy of jets: an energy function whose arrays are leaves.

    Attributes:
        kernel: The kernel, static.
        hyper: Its hyperparameters.
        jets: From :func:`expand`.
    """

    kernel: Any
    hyper: Hyper
    jets: Jet

    @property
    def uses(self) -> frozenset[str]:
        """Which fields of a system the kernel reads."""
        return frozenset(getattr(self.kernel, "uses", ()))

    def __call__(self, system: System, neighbors: Any = None) -> Array:
        """Energies of a single system or a stack, without the constant."""
        del neighbors
        if not system.batch_shape:
            return self._single(system)
        flat = flatten_batch(system)
        energy = by_blocks(jax.vmap(self._single), flat, self.elements)
        return energy.reshape(system.batch_shape)

    @property
    def elements(self) -> int:
        """Entries of the comparison of one query with all references."""
        return self.kernel.order * sum(leaf.size for leaf in jax.tree.leaves(self.jets))

    def _single(self, system: System) -> Array:
        query = stage(self.kernel, "query")(self.hyper, system)
        each = functools.partial(_contribution, self.kernel, self.hyper)
        return jnp.sum(jax.vmap(each, (0, None))(self.jets, query))

    def tree_flatten(self):
        """Hyperparameters and jets are the children."""
        return (self.hyper, self.jets), self.kernel

    @classmethod
    def tree_unflatten(cls, kernel, children) -> "Expanded":
        """Rebuild around (possibly placeholder) arrays."""
        return cls(kernel, *children)


def by_blocks(function: Any, queries: Any, elements: int) -> Any:
    """Map a batched function over blocks of queries that bound the memory of reverse mode too.

    Args:
        function: Takes a batch with a leading axis.
        queries: Pytree with a leading axis.
        elements: Entries that one query needs.
    """
    count = jax.tree.leaves(queries)[0].shape[0]
    block = max(1, _ELEMENTS // max(1, elements))
    if count <= block:
        return function(queries)
    blocks = -(-count // block)
    block = -(-count // blocks)
    index = jnp.minimum(jnp.arange(blocks * block), count - 1).reshape(blocks, block)
    checkpointed = jax.checkpoint(function)
    results = jax.lax.map(
        lambda own: checkpointed(jax.tree.map(lambda leaf: leaf[own], queries)), index
    )
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:count], results)
