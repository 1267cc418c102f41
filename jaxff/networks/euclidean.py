"""Euclidean variables, one vector per degree of rotation, and the attention that moves them."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxff.descriptors.harmonics import solid_harmonics
from jaxff.networks.blocks import Dense, Stack
from jaxff.networks.graph import Edges
from jaxff.networks.splines import Spline
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
        return _product(variables**2, self._table().T * np.asarray(scale))

    def spread(self, per_degree: Float[Array, "*shape _"]) -> Float[Array, "*shape orders"]:
        """The value of its degree for each variable."""
        return _product(per_degree, self._table())

    def _table(self) -> Float[np.ndarray, "degrees orders"]:
        return np.repeat(np.eye(len(self.degrees)), [2 * n + 1 for n in self.degrees], axis=1)


def _product(values: Array, table: np.ndarray) -> Array:
    """Product with a table of constants: sums and copies of columns, fast in both directions.

    Accelerators would round the factors, unless told not to.
    """
    return jnp.matmul(values, jnp.asarray(table, values.dtype), precision="highest")


def _head_table(features: int, heads: int) -> Float[np.ndarray, "features heads"]:
    """One for the features of each head."""
    return np.repeat(np.eye(heads), features // heads, axis=0)


class HeadDense(nn.Module):
    """A linear map of the features of each head by itself.

    Attributes:
        heads: Their number.
    """

    heads: int

    @nn.compact
    def __call__(self, x: Float[Array, "atoms features"]) -> Float[Array, "atoms features"]:
        """Features of the same size."""
        size = x.shape[-1] // self.heads
        start = nn.initializers.xavier_uniform(batch_axis=(0,))
        kernel = self.param("kernel", start, (self.heads, size, size)).astype(x.dtype)
        parts = x.reshape(-1, self.heads, size)
        return jnp.einsum("nhi,hij->nhj", parts, kernel).reshape(x.shape)


class Coefficients(nn.Module):
    r"""Attention of neighbours to each other, :math:`\phi(r)\,q_i\cdot(w_{ij}\circ k_j)` by heads.

    The filters w depend on the distance and on how the Euclidean variables of the two differ. They
    are the same in both directions, and computed once.

    Attributes:
        heads: Number of heads.
        norm: Divisor; the root of the features of a head if ``None``.
        table: Intervals and end in Å of a table of the filters' radial part, see
            :func:`jaxff.networks.tabulated`; ``None`` to compute it.
    """

    heads: int
    norm: float | None
    table: tuple[int, float] | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "atoms features"],
        edges: Edges,
        radial: Float[Array, "edges functions"],
        cutoffs: _Both,
        change: Float[Array, "_ degrees"],
    ) -> _Both:
        """Of each head, for the first atom of each edge and for the second; zero for padding."""
        size = x.shape[-1]
        if self.table is None:
            filters = Stack((size, size), "silu", name="radial")(radial)
        else:
            filters = Spline(*self.table, size, name="table")(edges.distances)
        filters += Stack((max(1, size // 4), size), "silu", name="spherical")(change)
        query = HeadDense(self.heads, name="query")(x)
        key = HeadDense(self.heads, name="key")(x)
        norm = math.sqrt(size / self.heads) if self.norm is None else self.norm
        heads = _head_table(size, self.heads)
        first = edges.at_first(query) * filters * edges.at_second(key)
        second = edges.at_second(query) * filters * edges.at_first(key)
        return (
            _product(first, heads) * (cutoffs[0] / norm),
            _product(second, heads) * (cutoffs[1] / norm),
        )


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
    """What features and Euclidean variables receive from the neighbours; there is no softmax.

    Attributes:
        layout: Of the Euclidean variables; they have one head for each degree.
        heads: Heads of the features.
        norm: Divisor of the coefficients, see :class:`Coefficients`.
        nonlocal_attention: Whether atoms whose Euclidean variables are alike attend to each other
            at any distance, see :func:`alike`.
        table: Of radial filters, see :class:`Coefficients`.
    """

    layout: Layout
    heads: int
    norm: float | None
    nonlocal_attention: bool
    table: tuple[int, float] | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "atoms features"],
        variables: Float[Array, "atoms orders"] | None,
        edges: Edges,
        harmonics: Float[Array, "edges orders"],
        radial: Float[Array, "edges functions"],
        cutoff: Float[Array, "edges 1"],
    ) -> tuple[Float[Array, "atoms features"], Float[Array, "atoms orders"]]:
        """Changes of both; variables are ``None`` while they are zero."""
        degrees, near, far = len(self.layout.degrees), (cutoff, cutoff), (cutoff, cutoff)
        if variables is None:
            change = jnp.zeros((1, degrees), x.dtype)
        else:
            difference = edges.at_second(variables) - edges.at_first(variables)
            change = self.layout.invariants(difference)
            if self.nonlocal_attention:
                first, second = alike(edges, difference)
                far = (cutoff + first, cutoff + second)
        coefficients = Coefficients(self.heads, self.norm, self.table, name="features")
        first, second = coefficients(x, edges, radial, near, change)
        self.sow("intermediates", "features_attention", (first, second))
        value = HeadDense(self.heads, name="value")(x)
        table = _head_table(x.shape[-1], self.heads).T
        received = edges.sum(
            _product(first, table) * edges.at_second(value),
            _product(second, table) * edges.at_first(value),
        )
        coefficients = Coefficients(degrees, self.norm, self.table, name="variables")
        first, second = coefficients(x, edges, radial, far, change)
        self.sow("intermediates", "variables_attention", (first, second))
        reverse = harmonics * jnp.asarray(self.layout.parity, x.dtype)
        turned = edges.sum(
            self.layout.spread(first) * harmonics, self.layout.spread(second) * reverse
        )
        return received, turned


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
