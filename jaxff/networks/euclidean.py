"""Euclidean variables, one vector per degree of rotation, and the attention that moves them."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxff.descriptors.harmonics import solid_harmonics
from jaxff.networks.blocks import Dense
from jaxff.networks.graph import Edges
from jaxff.numerics import safe_norm
from jaxff.radial.cutoffs import polynomial
from jaxff.types import Array, Float

__all__ = ["Attention", "Exchange", "Layout", "alike"]

_Both = tuple[Float[Array, "edges _"], Float[Array, "edges _"]]
"""What the first atom of each edge receives, and what the second does."""


@dataclass(frozen=True)
class Layout:
    """Order of the Euclidean variables of an atom: all orders of one degree, then of the next.

    Attributes:
        degrees: Degrees of rotation l, each with 2 l + 1 variables. Degree 0 alone is the ablation
            without directions.

    Raises:
        ValueError: Unless they are different whole numbers, none negative.
    """

    degrees: tuple[int, ...]

    def __post_init__(self):
        if not self.degrees or len(set(self.degrees)) != len(self.degrees) or min(self.degrees) < 0:
            raise ValueError(
                f"degrees must be different numbers from 0 on, such as (1, 2, 3), got "
                f"{self.degrees}"
            )

    @property
    def size(self) -> int:
        """Number of variables of an atom."""
        return sum(2 * degree + 1 for degree in self.degrees)

    @property
    def parity(self) -> Float[np.ndarray, " orders"]:
        """Factor of the harmonics when the direction is reversed."""
        return np.concatenate([np.full(2 * n + 1, 1.0 - 2.0 * (n % 2)) for n in self.degrees])

    def harmonics(self, directions: Float[Array, "*shape 3"]) -> Float[Array, "*shape orders"]:
        """Real spherical harmonics of unit vectors, orthonormal, orders from -l to l."""
        table = solid_harmonics(directions, max(self.degrees))
        return jnp.concatenate([table[degree] for degree in self.degrees], axis=-1)

    def invariants(self, variables: Float[Array, "*shape orders"]) -> Float[Array, "*shape _"]:
        r"""Each degree coupled with itself to a scalar, :math:`\|\chi_l\|^2/\sqrt{2l + 1}`."""
        scale = [1.0 / math.sqrt(2 * degree + 1) for degree in self.degrees]
        return _product(variables**2, self.table.T * np.asarray(scale))

    def spread(self, per_degree: Float[Array, "*shape _"]) -> Float[Array, "*shape orders"]:
        """The value of its degree for each variable."""
        return _product(per_degree, self.table)

    @property
    def table(self) -> Float[np.ndarray, "degrees orders"]:
        """One for the orders of each degree."""
        return np.repeat(np.eye(len(self.degrees)), [2 * n + 1 for n in self.degrees], axis=1)


def _product(values: Array, table: np.ndarray) -> Array:
    """Product with a table of constants: sums and copies of columns, fast in both directions.

    Accelerators would round the factors, unless told not to.
    """
    return jnp.matmul(values, jnp.asarray(table, values.dtype), precision="highest")


def _head_table(features: int, heads: int) -> Float[np.ndarray, "features heads"]:
    """One for the features of each head."""
    return np.repeat(np.eye(heads), features // heads, axis=0)


class _Kernel(nn.Module):
    """Weights of linear maps without bias, one for each head."""

    @nn.compact
    def __call__(self, heads: int, size: int) -> Float[Array, "heads size size"]:
        start = nn.initializers.xavier_uniform(batch_axis=(0,))
        return self.param("kernel", start, (heads, size, size))


class _Affine(nn.Module):
    """Weights and bias of a :class:`jaxff.networks.blocks.Dense` layer."""

    @nn.compact
    def __call__(self, dtype: Any, before: int, size: int) -> tuple[Array, Array]:
        start = nn.initializers.xavier_uniform()
        kernel = self.param("kernel", start, (before, size), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (size,), jnp.float32)
        return kernel.astype(dtype), bias.astype(dtype)


class _Layers(nn.Module):
    """Weights of a :class:`jaxff.networks.blocks.Stack`, for those who do the products."""

    @nn.compact
    def __call__(self, dtype: Any, *sizes: int) -> list[tuple[Array, Array]]:
        return [
            _Affine(name=f"dense_{index}")(dtype, before, size)
            for index, (before, size) in enumerate(itertools.pairwise(sizes))
        ]


class _Linear(nn.Module):
    """Weights of one linear map without bias."""

    @nn.compact
    def __call__(self, inputs: int, size: int) -> Float[Array, "inputs size"]:
        return self.param("kernel", nn.initializers.xavier_uniform(), (inputs, size))


class _Branch(nn.Module):
    """Filters, queries and keys of one of the two attentions.

    Attributes:
        heads: Number of heads.
        tabulated: Whether radial filters are linear in what is looked up.
    """

    heads: int
    tabulated: bool

    @nn.compact
    def __call__(
        self, x: Array, radial: Array, change: Array | None, degrees: int
    ) -> tuple[Float[Array, "edges features"], list[Float[Array, "heads size size"]]]:
        """Filters of the edges, and the weights of queries and keys."""
        size, hidden = x.shape[-1], max(1, x.shape[-1] // 4)
        spherical = _Layers(name="spherical")
        (into, offset), (outof, constant) = spherical(x.dtype, degrees, hidden, size)
        if self.tabulated:
            rows = radial
            columns = _Linear(name="radial")(radial.shape[-1], size).astype(x.dtype)
        else:
            layers = _Layers(name="radial")(x.dtype, radial.shape[-1], size, size)
            (first, shift), (columns, last) = layers
            rows, constant = nn.silu(radial @ first + shift), constant + last
        if change is None:
            filters = rows @ columns + (nn.silu(offset) @ outof + constant)
        else:
            # One product of both parts: sums of large arrays cost as much as products.
            rows = jnp.concatenate([rows, nn.silu(change @ into + offset)], axis=-1)
            filters = rows @ jnp.concatenate([columns, outof]) + constant
        kernels = [_Kernel(name=n)(self.heads, size // self.heads) for n in ("query", "key")]
        return filters, [kernel.astype(x.dtype) for kernel in kernels]


def _by_heads(x: Array, *kernels: Array) -> list[Array]:
    """Linear maps of the features of each head by itself, all in one product."""
    atoms, (heads, size, _) = len(x), kernels[0].shape
    parts = x.reshape(atoms, heads, size)
    found = jnp.einsum("nhi,khij->nkhj", parts, jnp.stack(kernels))
    return [found[:, k].reshape(x.shape) for k in range(len(kernels))]


def alike(edges: Edges, difference: Float[Array, "edges orders"]) -> _Both:
    r"""Cutoff function of atoms that differ in their Euclidean variables, in both directions.

    Distances :math:`\|\chi_j - \chi_i\|` are made shares of one by a softmax over all j, and
    shares above :math:`1/n`, for n atoms, are cut off smoothly.

    Args:
        edges: All pairs of each structure.
        difference: Of the variables of the second and the first atom.

    Reference:
        Frank, Unke & Müller, Adv. Neural Inf. Process. Syst. 35 (2022), arXiv:2205.14276.
    """
    distances, mask = safe_norm(difference)[:, None], edges.mask[:, None]
    count = edges.sum(mask.astype(distances.dtype), mask.astype(distances.dtype))
    largest = jnp.zeros_like(count)  # the shares do not depend on it, but overflow without
    for index in (edges.first, edges.second):
        largest = largest.at[index].max(jnp.where(mask, distances, 0.0))
    largest = jax.lax.stop_gradient(largest)

    def weights(receiver: Callable[[Array], Array]) -> Array:
        return jnp.where(mask, jnp.exp(distances - receiver(largest)), 0.0)

    first, second = weights(edges.at_first), weights(edges.at_second)
    total = edges.sum(first, second)
    # In units of 1/n; atoms that are alone have no weights.
    scale = (count + 1.0) / jnp.where(total > 0.0, total, 1.0)
    shares = first * edges.at_first(scale), second * edges.at_second(scale)
    one, other = (jnp.where(mask, polynomial(share, 1.0), 0.0) for share in shares)
    return one, other


class Attention(nn.Module):
    r"""What features and Euclidean variables receive from the neighbours.

    There is no softmax: coefficients are :math:`\phi(r)\,q_i\cdot(w_{ij}\circ k_j)` by heads.
    The filters w depend on the distance and on how the Euclidean variables of the two differ. They
    are the same in both directions, and computed once.

    Attributes:
        layout: Of the Euclidean variables; they have one head for each degree.
        heads: Heads of the features.
        norm: Divisor of the coefficients; the root of the features of a head if ``None``.
        nonlocal_attention: Whether atoms whose Euclidean variables are alike attend to each other
            at any distance, see :func:`alike`.
        tabulated: Whether the radial functions are those of a table, in which the radial filters
            are linear, see :func:`jaxff.networks.tabulated`.
    """

    layout: Layout
    heads: int
    norm: float | None
    nonlocal_attention: bool
    tabulated: bool = False

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "atoms features"],
        variables: Float[Array, "atoms orders"] | None,
        edges: Edges,
        harmonics: Float[Array, "2 edges orders"],
        radial: Float[Array, "edges functions"],
        cutoff: Float[Array, "edges 1"],
    ) -> tuple[Float[Array, "atoms features"], Float[Array, "atoms orders"]]:
        """Changes of both; variables are ``None`` while they are zero.

        Harmonics are those of the directions from the receivers to the senders.
        """
        size, degrees = x.shape[-1], len(self.layout.degrees)
        change, far = None, cutoff[None]
        if variables is not None:
            difference = edges.at_second(variables) - edges.at_first(variables)
            change = self.layout.invariants(difference)
            if self.nonlocal_attention:
                far = far + jnp.stack(alike(edges, difference))
        counts = {"features": self.heads, "variables": degrees}
        branches = [
            _Branch(count, self.tabulated, name=name)(x, radial, change, degrees)
            for name, count in counts.items()
        ]
        filters = jnp.concatenate([found[0] for found in branches], axis=-1)
        kernel = _Kernel(name="value")(self.heads, size // self.heads).astype(x.dtype)
        query, key, value = _by_heads(x, *branches[0][1], kernel)
        others = _by_heads(x, *branches[1][1])
        queries = jnp.concatenate([query, others[0]], axis=-1)
        keys = jnp.concatenate([key, others[1]], axis=-1)
        products = edges.at_receivers(queries) * filters * edges.at_senders(keys)
        scale = self._scales(cutoff[None], far) if self.nonlocal_attention else cutoff
        attention = _product(products, self._table(size)) * scale
        self.sow("intermediates", "features_attention", attention[..., : self.heads])
        self.sow("intermediates", "variables_attention", attention[..., self.heads :])
        none = np.zeros((degrees, size))
        spread = np.concatenate([_head_table(size, self.heads).T, none])
        received = edges.sum_received(_product(attention, spread) * edges.at_senders(value))
        spread = np.concatenate([np.zeros((self.heads, self.layout.size)), self.layout.table])
        turned = edges.sum_received(_product(attention, spread) * harmonics)
        return received, turned

    def _scales(self, near: Array, far: Array) -> Array:
        """Cutoff functions of all heads."""
        counts = (self.heads, len(self.layout.degrees))
        shape = far.shape[:-1]
        parts = [
            jnp.broadcast_to(values, (*shape, count))
            for values, count in zip((near, far), counts, strict=True)
        ]
        return jnp.concatenate(parts, axis=-1)

    def _table(self, size: int) -> Float[np.ndarray, "features heads"]:
        """Sums over the features of each head, divided by the norm."""
        tables = [
            _head_table(size, heads) / (math.sqrt(size / heads) if self.norm is None else self.norm)
            for heads in (self.heads, len(self.layout.degrees))
        ]
        none = [np.zeros_like(tables[1]), np.zeros_like(tables[0])]
        return np.block([[tables[0], none[0]], [none[1], tables[1]]])


class Exchange(nn.Module):
    """Features and Euclidean variables of each atom exchange what they know, by one linear map.

    Attributes:
        layout: Of the Euclidean variables.
    """

    layout: Layout

    @nn.compact
    def __call__(
        self, x: Float[Array, "atoms features"], variables: Float[Array, "atoms orders"]
    ) -> tuple[Float[Array, "atoms features"], Float[Array, "atoms orders"]]:
        """Changes of both."""
        both = jnp.concatenate([x, self.layout.invariants(variables)], axis=-1)
        mixed = Dense(both.shape[-1], name="mix")(both)
        size = x.shape[-1]
        return mixed[:, :size], self.layout.spread(mixed[:, size:]) * variables
