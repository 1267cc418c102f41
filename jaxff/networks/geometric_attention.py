"""The flax modules of geometric attention, on dense pairs of one molecule."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.linen.initializers import xavier_uniform
from jax.core import Tracer

from jaxff.numerics import safe_norm
from jaxff.system import System
from jaxff.types import Array, Bool, Float, Int

__all__ = ["GeometricAttention"]


class GeometricAttention(nn.Module):
    """The network behind :func:`jaxff.networks.geomatt`, whose arguments are its fields.

    Attributes:
        analysis: Whether attention and features of the atoms are among the outputs.
    """

    elements: tuple[int, ...]
    orders: tuple[int, ...]
    features: int
    filters: int
    layers: int
    shared: bool
    gamma: float
    spacing: float
    extent: float
    analysis: bool = False

    @nn.compact
    def __call__(self, system: System, graphs: tuple = ()) -> dict[str, Array]:
        """Atomic energies of one molecule; ``graphs`` are not needed."""
        _require_molecule(system)
        _require_elements(self.elements, system.numbers)
        real = system.numbers > 0
        pairs = real[:, None] & real[None, :]
        basis = _gaussians(_distances(system.positions, pairs), pairs, *self._centres())
        table = self.param("embedding", xavier_uniform(), (len(self.elements), self.features))
        species = _species(self.elements, system.numbers)
        outputs, vertices = {}, []
        for order in self.orders:
            stream = Stream(
                order, self.layers, self.filters // 2 ** (order - 2), self.shared,
                name=f"order_{order}",
            )  # fmt: skip
            alpha, last = stream(
                basis, pairs, table, species, at_zero=_gaussians(0.0, True, *self._centres()),
                factor=self.spacing / len(self.orders),
            )  # fmt: skip
            outputs[f"attention_{order}"] = alpha
            vertices.append(last)
        features = jnp.where(real[:, None], jnp.concatenate(vertices, axis=-1), 0.0)
        hidden = _dense(features, max(features.shape[-1] // 2, 1), "hidden")
        energies = _dense(jax.nn.softplus(hidden) - jnp.log(2.0), 1, "energy")[:, 0]
        outputs = {**outputs, "features": features} if self.analysis else {}
        return {"atomic_energies": jnp.where(real, energies, 0.0), **outputs}

    def _centres(self) -> tuple[Float[np.ndarray, " basis"], float]:
        count = round(self.extent / self.spacing)
        return self.spacing * np.arange(count), self.gamma


class Stream(nn.Module):
    """One order: its attention, and the features of the atoms that it leads to.

    Attributes:
        order: Number of atoms on a path.
        layers: Number of layers.
        features: Length of a filter.
        shared: Whether all steps of a path have the same filter.
    """

    order: int
    layers: int
    features: int
    shared: bool

    @nn.compact
    def __call__(
        self,
        basis: Float[Array, "atoms atoms basis"],
        pairs: Bool[Array, "atoms atoms"],
        table: Float[Array, "elements features"],
        species: Int[Array, " atoms"],
        *,
        at_zero: Float[Array, " basis"],
        factor: float,
    ) -> tuple[Float[Array, "layers atoms atoms"], Float[Array, "atoms features"]]:
        """Attention of all layers, and features after the last."""
        slots = 1 if self.shared else self.order - 1
        attention = Attention(self.order, self.layers, slots, self.features, name="attention")
        alpha = factor * attention(basis, pairs, at_zero)
        kernel, bias = Values(self.layers, table.shape[-1], name="values")()
        # Atoms of an element start alike: the first product is one row per element.
        vertices, values = (_at_atoms(x, species) for x in (table, table @ kernel[0] + bias[0]))
        for layer in range(self.layers):
            if layer:
                values = vertices @ kernel[layer] + bias[layer]
            vertices = vertices + alpha[layer] @ values
        return alpha, vertices


class Attention(nn.Module):
    r"""Sums over all paths between two atoms, for all layers at once.

    A filter is :math:`(Q_0\,g(0) + b_0) \odot (Q\,g(d) + b)` with the Gaussians g.

    Attributes:
        order: Number of atoms on a path.
        layers: Number of layers.
        slots: Filters of a layer: one per step of a path, or a single one for all.
        features: Length of a filter.
    """

    order: int
    layers: int
    slots: int
    features: int

    @nn.compact
    def __call__(
        self,
        basis: Float[Array, "atoms atoms basis"],
        pairs: Bool[Array, "atoms atoms"],
        at_zero: Float[Array, " basis"],
    ) -> Float[Array, "layers atoms atoms"]:
        """Attention without the factor in front; zero for padding."""
        shape = (self.layers, self.slots, self.features)
        uniform = _uniform(len(at_zero))
        names = "scale_kernel", "kernel"
        scale_kernel, kernel = (self.param(n, uniform, (len(at_zero), *shape)) for n in names)
        scale_bias, bias = (self.param(n, uniform, shape) for n in ("scale_bias", "bias"))
        scale = jnp.einsum("b,blsf->lsf", at_zero, scale_kernel) + scale_bias
        if self.order == 2:  # features are summed before pairs enter
            kernel = jnp.einsum("blsf,lsf->bl", kernel, scale)
            return jnp.moveaxis(
                _on_pairs(basis, pairs, kernel, jnp.sum(bias * scale, (1, 2))), 2, 0
            )
        filters = _on_pairs(basis, pairs, kernel * scale, bias * scale)
        steps = jnp.moveaxis(filters, (0, 1), (-2, -1))  # (layers, slots, features, atoms, atoms)
        return _paths([steps[:, slot % self.slots] for slot in range(self.order - 1)])


class Values(nn.Module):
    """Linear maps of the features, one per layer."""

    layers: int
    features: int

    @nn.compact
    def __call__(
        self,
    ) -> tuple[Float[Array, "layers features features"], Float[Array, "layers features"]]:
        """Kernel and bias."""
        uniform = _uniform(self.features)
        square = (self.layers, self.features, self.features)
        return self.param("kernel", uniform, square), self.param("bias", uniform, square[:2])


def _on_pairs(
    basis: Float[Array, "atoms atoms basis"],
    pairs: Bool[Array, "atoms atoms"],
    kernel: Float[Array, "basis *shape"],
    bias: Float[Array, "*shape"],
) -> Float[Array, "atoms atoms *shape"]:
    """All filters of an order in one matrix product; the basis is zero for padding already."""
    mask = pairs.reshape(*pairs.shape, *(1,) * bias.ndim)
    return jnp.tensordot(basis, kernel, 1) + jnp.where(mask, bias, 0.0)


def _paths(
    steps: Sequence[Float[Array, "layers features atoms atoms"]],
) -> Float[Array, "layers atoms atoms"]:
    """Sum over all paths and features: two halves, joined where features are summed.

    Steps are symmetric, so that the second half is taken from its end; no product costs more than
    features times the cube of the atoms.
    """
    middle = len(steps) // 2 + len(steps) % 2
    halves = steps[:middle], steps[: middle - 1 : -1]
    first, second = (functools.reduce(jnp.matmul, half) for half in halves)
    return jnp.einsum("lfni,lfji->lnj", first, second)


def _distances(
    positions: Float[Array, "atoms 3"], pairs: Bool[Array, "atoms atoms"]
) -> Float[Array, "atoms atoms"]:
    vectors = positions[:, None] - positions[None, :]
    return safe_norm(jnp.where(pairs[..., None], vectors, 0.0))


def _gaussians(
    distances: Any, pairs: Any, centres: Float[np.ndarray, " basis"], gamma: float
) -> Float[Array, "*pairs basis"]:
    """Gaussians of distances, zero for padding."""
    distances, pairs = jnp.asarray(distances)[..., None], jnp.asarray(pairs)[..., None]
    shifted = distances - jnp.asarray(centres, distances.dtype)
    return jnp.where(pairs, jnp.exp(-gamma * shifted**2), 0.0)


def _species(elements: tuple[int, ...], numbers: Int[Array, " atoms"]) -> Int[Array, " atoms"]:
    """Row of each atom in a table; one past the end for unknown elements, any for padding."""
    index = np.full(119, len(elements), np.int32)
    index[[0, *elements]] = [0, *range(len(elements))]
    return jnp.take(jnp.asarray(index), numbers, mode="fill", fill_value=len(elements))


def _at_atoms(
    table: Float[Array, "elements features"], species: Int[Array, " atoms"]
) -> Float[Array, "atoms features"]:
    """Rows of a table; NaN for unknown elements."""
    return jnp.take(table, species, axis=0, mode="fill", fill_value=jnp.nan)


def _dense(inputs: Float[Array, "atoms inputs"], size: int, name: str) -> Array:
    uniform = _uniform(inputs.shape[-1])
    return nn.Dense(size, kernel_init=uniform, bias_init=uniform, name=name)(inputs)


def _uniform(inputs: int) -> Any:
    """Uniform between minus and plus the inverse square root of the number of inputs."""

    def draw(key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        return jax.random.uniform(key, tuple(shape), dtype, -(inputs**-0.5), inputs**-0.5)

    return draw


def _require_molecule(system: System) -> None:
    if system.is_packed or system.batch_shape:
        raise ValueError(
            "geometric attention couples all atoms that it sees: it takes single molecules and "
            "stacks, no packs; use stack, with padding (number 0) for molecules of different sizes"
        )
    if system.cell is not None:
        raise ValueError(
            "geometric attention is for molecules: it has no cutoff, and images would be missing; "
            "drop the cell with system.replace(cell=None, pbc=None), or take a network with a "
            "cutoff"
        )


def _require_elements(elements: tuple[int, ...], numbers: Array) -> None:
    """Refuse unknown elements where numbers are known; where traced, they give NaN."""
    if isinstance(numbers, Tracer):
        return
    unknown = sorted(set(np.unique(numbers).tolist()) - {0, *elements})
    if unknown:
        raise ValueError(
            f"this network was made for the elements {list(elements)}, the system also has "
            f"{unknown}: name all of them in geomatt(elements=...)"
        )
