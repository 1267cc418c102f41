"""Blocks of SpookyNet: residual stacks, embeddings of elements and totals, radial functions."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxff import units
from jaxff.networks.electrons import configurations
from jaxff.radial.basis import bernstein
from jaxff.radial.cutoffs import bump
from jaxff.system import System, sum_atoms, to_atoms
from jaxff.types import Array, Float, Int

__all__ = [
    "Branches",
    "ElectronicEmbedding",
    "NuclearEmbedding",
    "RadialFunctions",
    "ResidualMLP",
    "Residuals",
    "Swish",
    "linear",
    "orthogonal_parts",
]

_Features = Float[Array, "*batch features"]
_INITIAL_DECAY = 0.5 / units.BOHR  # 1/Å
_NO_SHARE = 1e-8  # keeps structures without atoms finite


@jax.custom_batching.sequential_vmap
def _orthogonal_square(normal: Float[Array, "rows columns"]) -> Float[Array, "rows columns"]:
    """Q of the QR decomposition, whose R has a positive diagonal; rows are not fewer than columns.

    One after another also under ``jax.vmap``: several decompositions of batches in one program wait
    for each other for ever on CPUs with few threads (jax 0.10.1).
    """
    q, r = jnp.linalg.qr(normal)
    return q * jnp.where(jnp.diag(r) < 0, -1.0, 1.0).astype(q.dtype)


def _orthogonal(key: Array, shape: tuple[int, int], dtype: Any = float) -> Array:
    rows, columns = shape
    normal = jax.random.normal(key, (max(shape), min(shape)), dtype)
    q = _orthogonal_square(normal)
    return q if rows >= columns else q.T


def linear(features: int, name: str, use_bias: bool = False, zero: bool = False) -> nn.Dense:
    """An affine map that starts orthogonal, or at zero."""
    start = nn.initializers.zeros if zero else _orthogonal
    return nn.Dense(features, use_bias=use_bias, kernel_init=start, name=name)


def orthogonal_parts(parts: int) -> Callable[..., Array]:
    """Initializer of matrices side by side, each of which is orthogonal."""

    def init(key: Array, shape: tuple[int, int], dtype: Any = float) -> Array:
        size = (shape[0], shape[1] // parts)
        keys = jax.random.split(key, parts)
        return jnp.concatenate([_orthogonal(k, size, dtype) for k in keys], axis=1)

    return init


def _uniform(key: Array, shape: tuple[int, ...], dtype: Any = float) -> Array:
    return jax.random.uniform(key, shape, dtype, -(3.0**0.5), 3.0**0.5)


class Swish(nn.Module):
    r"""Generalised swish :math:`\alpha\,x\,\sigma(\beta x)`, both parameters trained per feature.

    Starts near the Gaussian error linear unit.
    """

    @nn.compact
    def __call__(self, x: _Features) -> _Features:
        """Activated features."""
        shape = (x.shape[-1],)
        alpha = self.param("alpha", nn.initializers.ones, shape).astype(x.dtype)
        beta = self.param("beta", nn.initializers.constant(1.702), shape).astype(x.dtype)
        return alpha * x * nn.sigmoid(beta * x)


class Residuals(nn.Module):
    """Residual blocks of two activated layers, of which the second starts at zero.

    Attributes:
        count: Number of blocks.
        use_bias: Whether the layers add something.
    """

    count: int
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: _Features) -> _Features:
        """Features of the same size."""
        size = x.shape[-1]
        for k in range(self.count):
            inner = linear(size, f"inner_{k}", self.use_bias)(Swish(name=f"swish_{2 * k}")(x))
            change = Swish(name=f"swish_{2 * k + 1}")(inner)
            x = x + linear(size, f"outer_{k}", self.use_bias, zero=True)(change)
        return x


class ResidualMLP(nn.Module):
    """Residual blocks, an activation, and an affine map.

    Attributes:
        count: Number of residual blocks.
        use_bias: Whether the layers add something.
        zero: Whether it starts as zero.
    """

    count: int
    use_bias: bool = True
    zero: bool = False

    @nn.compact
    def __call__(self, x: _Features) -> _Features:
        """Features of the same size."""
        x = Swish(name="swish")(Residuals(self.count, self.use_bias, name="residuals")(x))
        return linear(x.shape[-1], "linear", self.use_bias, self.zero)(x)


def Branches(number: int, count: int, name: str, zero: bool = False) -> Any:
    """Several :class:`ResidualMLP` of the same features, one program for all of them."""
    shared: Any = None  # all get the same features; flax's annotation knows numbers only
    mapped = nn.vmap(
        ResidualMLP,
        in_axes=shared,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        axis_size=number,
    )
    return mapped(count, zero=zero, name=name)


class NuclearEmbedding(nn.Module):
    """A free vector per element, and a linear map of its electron configuration.

    What elements that are alike learn is alike.

    Attributes:
        features: Length of the vectors.
        max_number: Last atomic number, at most 86.
        zero: Whether both start at zero, else uniform of variance one, and orthogonal.
    """

    features: int
    max_number: int
    zero: bool = True

    @nn.compact
    def __call__(self, numbers: Int[Array, " atoms"]) -> Float[Array, "atoms features"]:
        """Vectors of the atoms; NaN beyond the last element."""
        shape = (self.max_number + 1, self.features)
        free = self.param("elements", nn.initializers.zeros if self.zero else _uniform, shape)
        known = jnp.asarray(configurations()[: self.max_number + 1], free.dtype)
        table = free + linear(self.features, "electrons", zero=self.zero)(known)
        return jnp.take(table, numbers, axis=0, mode="fill", fill_value=jnp.nan)


class ElectronicEmbedding(nn.Module):
    r"""Vector of each atom for its share of the total charge, or of the unpaired electrons.

    Atoms attract the total by :math:`a_i = \ln(1 + e^{q_i\cdot k/\sqrt F})`, normalised in each
    structure. A total of zero gives exactly zero vectors. Positive and negative charges have keys
    and values of their own.

    Attributes:
        name_of_total: ``"charge"`` or ``"spin"``, a field of the system.
        count: Number of residual blocks.

    Reference:
        Unke et al., Nat. Commun. 12, 7273 (2021), doi:10.1038/s41467-021-27504-0.
    """

    name_of_total: str
    count: int

    @nn.compact
    def __call__(
        self, system: System, embedded: Float[Array, "atoms features"]
    ) -> Float[Array, "atoms features"]:
        """Vectors to be added to those of the elements, by which they are attracted."""
        size = embedded.shape[-1]
        total = to_atoms(system, getattr(system, self.name_of_total))[:, None]
        total = total.astype(embedded.dtype)
        if self.name_of_total == "charge":
            # The derivative at zero is the mean of those on both sides; of relu it would be zero.
            parts = jnp.maximum(jnp.concatenate([total, -total], axis=-1), 0.0)
        else:
            parts = jnp.abs(total)
        query = linear(size, "query", use_bias=True)(embedded)
        key = linear(size, "key")(parts / jnp.maximum(parts, 1.0))
        value = linear(size, "value")(parts)
        weight = nn.softplus(jnp.sum(query * key, axis=-1, keepdims=True) / np.sqrt(size).item())
        whole = to_atoms(system, sum_atoms(system, weight) + _NO_SHARE)
        return ResidualMLP(self.count, use_bias=False, zero=True, name="mlp")(
            weight / whole * value
        )


class RadialFunctions(nn.Module):
    r"""Bernstein polynomials of :math:`u = e^{-\gamma r}` times u and the bump function.

    The exponent γ is the softplus of a parameter, and starts at half an inverse Bohr radius: the
    functions decay as wave functions do.

    Attributes:
        count: Number of functions.
        cutoff: Radius in Å.

    Reference:
        Unke et al., Nat. Commun. 12, 7273 (2021), doi:10.1038/s41467-021-27504-0.
    """

    count: int
    cutoff: float

    @nn.compact
    def __call__(self, distances: Float[Array, " edges"]) -> Float[Array, "edges functions"]:
        """All functions, zero from the cutoff on."""
        start = nn.initializers.constant(np.log(np.expm1(_INITIAL_DECAY)))
        decay = nn.softplus(self.param("decay", start, ()).astype(distances.dtype))
        envelope = jnp.exp(-decay * distances) * bump(distances, self.cutoff)
        return bernstein(distances, decay, self.count) * envelope[:, None]
