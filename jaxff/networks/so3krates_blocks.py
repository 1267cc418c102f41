"""Layers, embedding and energies of SO3krates."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxff.networks.blocks import Dense, ElementEmbedding, Stack, TotalEmbedding
from jaxff.networks.euclidean import Attention, Exchange, Layout
from jaxff.networks.graph import Edges
from jaxff.system import System
from jaxff.types import Array, Float

__all__ = ["LAYER_NORMS", "RESIDUAL_MLPS", "Embedding", "Energies", "Layer"]

LAYER_NORMS = ("none", "pre", "post")
"""Whether features are normalised, before each block or after it."""
RESIDUAL_MLPS = ("none", "added", "projected")
"""Dense layers on the features of each atom: none, added, or followed by a linear map."""

_Features = Float[Array, "atoms features"]
_Variables = Float[Array, "atoms orders"]


class ResidualMLP(nn.Module):
    """Two dense layers, whose result is added.

    Attributes:
        projected: Whether an activation and a linear map follow; there are no biases then.
    """

    projected: bool

    @nn.compact
    def __call__(self, x: _Features) -> _Features:
        """Features of the same size."""
        size, bias = x.shape[-1], not self.projected
        inner = Dense(size, use_bias=bias, name="inner")(nn.silu(x))
        x = x + Dense(size, use_bias=bias, name="outer")(nn.silu(inner))
        return Dense(size, use_bias=False, name="projection")(nn.silu(x)) if self.projected else x


class Layer(nn.Module):
    """Attention to the neighbours, and exchange within each atom.

    Attributes:
        layout: Of the Euclidean variables.
        heads: Heads of the features.
        attention_norm: Divisor of the attention, see :class:`jaxff.networks.euclidean.Attention`.
        nonlocal_attention: Whether atoms that are alike attend to each other, likewise.
        layer_norm: Name in :data:`LAYER_NORMS`.
        residual_mlps: Names in :data:`RESIDUAL_MLPS`, after the attention and after the exchange.
        tabulated: Whether radial functions are those of a table, as in the attention.
    """

    layout: Layout
    heads: int
    attention_norm: float | None
    nonlocal_attention: bool
    layer_norm: str
    residual_mlps: tuple[str, str]
    tabulated: bool

    @nn.compact
    def __call__(
        self, x: _Features, variables: _Variables | None, edges: Edges, *pairs: Float[Array, "..."]
    ) -> tuple[_Features, _Variables]:
        """Both afterwards; variables are ``None`` while they are zero."""
        attention = Attention(
            self.layout, self.heads, self.attention_norm, self.nonlocal_attention, self.tabulated,
            name="attention",
        )  # fmt: skip
        received, turned = attention(self._norm("pre", 1, x), variables, edges, *pairs)
        x = self._refined(1, self._norm("post", 1, x + received))
        variables = turned if variables is None else variables + turned
        exchange = Exchange(self.layout, name="exchange")
        received, turned = exchange(self._norm("pre", 2, x), variables)
        return self._norm("post", 2, self._refined(2, x + received)), variables + turned

    def _norm(self, place: str, number: int, x: Array) -> Array:
        return (
            nn.LayerNorm(use_fast_variance=False, name=f"norm_{number}")(x)
            if self.layer_norm == place
            else x
        )

    def _refined(self, number: int, x: Array) -> Array:
        kind = self.residual_mlps[number - 1]
        return x if kind == "none" else ResidualMLP(kind == "projected", name=f"mlp_{number}")(x)


class Embedding(nn.Module):
    """Vectors of the atoms by their elements, and their shares of the totals.

    Attributes:
        features: Length of the vectors.
        max_number: Last atomic number.
        totals: Which of ``charge`` and ``spin`` are read.
    """

    features: int
    max_number: int
    totals: Sequence[str]

    @nn.compact
    def __call__(self, system: System) -> _Features:
        """The sum over the root of the number of terms."""
        x = ElementEmbedding(self.features, self.max_number, name="elements")(system.numbers)
        for name in self.totals:
            query = ElementEmbedding(self.features, self.max_number, name=f"{name}_query")
            share = TotalEmbedding(name, query_given=True, floor=0.0, name=name)
            x = x + share(system, query(system.numbers))
        return x / np.sqrt(1 + len(self.totals)).item()


class Energies(nn.Module):
    """Energies of atoms by two dense layers, perhaps with a factor and an offset per element.

    Attributes:
        features: Size of the hidden layer.
        max_number: Last atomic number of the tables; ``None`` without them.
    """

    features: int
    max_number: int | None

    @nn.compact
    def __call__(self, system: System, x: _Features) -> Float[Array, " atoms"]:
        """Energies in eV."""
        energies = Stack((self.features, 1), "silu", name="stack")(x)[:, 0]
        if self.max_number is None:
            return energies
        scale, shift = (
            self.param(name, start, (self.max_number + 1,)).at[system.numbers].get(
                mode="fill", fill_value=jnp.nan
            )
            for name, start in (("scale", nn.initializers.ones), ("shift", nn.initializers.zeros))
        )  # fmt: skip
        return scale.astype(x.dtype) * energies + shift.astype(x.dtype)
