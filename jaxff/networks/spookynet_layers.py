"""Interactions of SpookyNet: with neighbours, by distance and direction, and with all atoms."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxff.networks.blocks import SplitDense
from jaxff.networks.graph import Edges
from jaxff.networks.spookynet_blocks import Branches, ResidualMLP, Residuals, orthogonal_parts
from jaxff.system import System, sum_atoms, to_atoms
from jaxff.types import Array, Bool, Float

__all__ = [
    "ATTENTION",
    "FLOOR",
    "Interaction",
    "LocalInteraction",
    "directions",
    "exact_attention",
    "feature_attention",
    "harmonics",
    "together",
]

ATTENTION = ("exact", "features", "none")
"""Forms of the nonlocal attention: all pairs of atoms, random features at linear cost, neither."""

FLOOR = 1e-4
"""Added to random features, as published."""

_Rows = Float[Array, "atoms features"]
_NO_WEIGHT = 1e-8  # added to sums of weights, as published


def harmonics(vectors: Float[Array, "edges 3"]) -> tuple[Array, Array]:
    """Directions, and the five harmonics of degree 2 whose squares add up to one."""
    x, y, z = vectors[:, 0], vectors[:, 1], vectors[:, 2]
    root = math.sqrt(3.0)
    second = [root * x * y, root * x * z, root * y * z]
    second += [z * z - 0.5 * (x * x + y * y), 0.5 * root * (x * x - y * y)]
    return vectors, jnp.stack(second, axis=-1)


class LocalInteraction(nn.Module):
    r"""What atoms receive from neighbours in s, p and d orbitals, so to say.

    :math:`s_i = h(x_i) + \sum_j g_s(r_{ij}) \circ h_s(x_j)`, and vectors :math:`p_i` and
    :math:`d_i` with the harmonics of the direction besides. Scalars are made of the vectors by
    products of two linear maps of them.

    Attributes:
        count: Number of residual blocks in each stack.
    """

    count: int

    @nn.compact
    def __call__(
        self,
        x: _Rows,
        edges: Edges,
        radial: Float[Array, "edges functions"],
        shapes: tuple[Array, Array],
    ) -> _Rows:
        """Changes of the features."""
        size = x.shape[-1]
        total, *sent = Branches(4, self.count, "branches")(x)
        filters = SplitDense(size, 3, False, orthogonal_parts(3), name="radial")(radial)
        first, second = filters[0] * edges.at_second(sent[0]), filters[0] * edges.at_first(sent[0])
        total = total + edges.sum(first, second)
        for degree in (1, 2):
            shape = shapes[degree - 1][:, :, None]
            first = (filters[degree] * edges.at_second(sent[degree]))[:, None, :] * shape
            second = (filters[degree] * edges.at_first(sent[degree]))[:, None, :] * shape
            # Seen from the other end odd harmonics point the other way.
            vectors = edges.sum(first, -second if degree == 1 else second)
            one, other = SplitDense(size, 2, False, orthogonal_parts(1), name=f"product_{degree}")(
                vectors
            )
            total = total + jnp.sum(one * other, axis=1)
        return ResidualMLP(self.count, zero=True, name="mlp")(total)


def together(system: System) -> Bool[Array, "atoms atoms"]:
    """Which two real atoms are of one structure, each with itself among them."""
    real = system.numbers > 0
    mask = real[:, None] & real[None, :]
    if system.structure is not None:
        mask &= system.structure[:, None] == system.structure[None, :]
    return mask


def exact_attention(
    mask: Bool[Array, "atoms atoms"], query: _Rows, key: _Rows, value: _Rows
) -> _Rows:
    r"""Softmax attention, :math:`\sum_j e^{q_i\cdot k_j/\sqrt F} v_j` over the sum of weights.

    Args:
        mask: Which atoms see each other, from :func:`together`.
        query: Of each atom.
        key: Of each atom.
        value: Of each atom.
    """
    scores = query @ key.T / math.sqrt(query.shape[-1])
    largest = jnp.max(jnp.where(mask, scores, -jnp.inf), axis=1, keepdims=True)
    largest = jax.lax.stop_gradient(jnp.where(jnp.isfinite(largest), largest, 0.0))
    weights = jnp.where(mask, jnp.exp(jnp.where(mask, scores - largest, 0.0)), 0.0)
    total = jnp.sum(weights, axis=1, keepdims=True)
    return weights @ value / jnp.where(total > 0.0, total, 1.0)


@functools.lru_cache(maxsize=64)
def directions(features: int, count: int, seed: int) -> Float[np.ndarray, "features count"]:
    """Random directions in blocks of orthogonal ones, of the lengths of normal vectors.

    The numbers are those of a generator that NumPy keeps as it is, so that files need not hold
    them.
    """
    random = np.random.RandomState(seed)
    blocks = [
        np.linalg.qr(random.standard_normal((features, features)))
        for _ in range(-(-count // features))
    ]
    # The sign of each row makes the factorisation unique.
    rows = np.concatenate([(q * np.sign(np.diag(r))).T for q, r in blocks])[:count]
    lengths = np.linalg.norm(random.standard_normal((count, features)), axis=1)
    return np.ascontiguousarray((rows * lengths[:, None]).T)


def feature_attention(
    system: System,
    query: _Rows,
    key: _Rows,
    value: _Rows,
    table: Float[Array, "features count"],
    floor: Any = FLOOR,
) -> _Rows:
    r"""As :func:`exact_attention`, with positive random features: cost linear in the atoms.

    :math:`e^{q\cdot k/\sqrt F}` is the mean of :math:`\phi_\omega(q)\,\phi_\omega(k)` with
    :math:`\phi_\omega(x) = e^{\omega\cdot x/F^{1/4} - |x|^2/2\sqrt F}` over normal vectors ω. The
    error falls with the root of their number once it is above :math:`e^{|q + k|^2/\sqrt F}`, the
    relative variance of one of them, down to what the floor makes of it.

    Args:
        system: A single system or a pack.
        query: Of each atom.
        key: Of each atom.
        value: Of each atom.
        table: The vectors ω as columns, from :func:`directions`.
        floor: Added to the features, whose largest are near one: keeps sums of weights from zero.

    Reference:
        Choromanski et al., International Conference on Learning Representations (2021),
        arXiv:2009.14794.
    """

    def projected(x: _Rows) -> tuple[Array, Array]:
        square = jnp.sum(x * x, axis=-1, keepdims=True) / (2.0 * math.sqrt(x.shape[-1]))
        return x @ table / x.shape[-1] ** 0.25, square

    # Factors that cancel keep exponentials in range: one of each query, one of all keys. Where they
    # meet the floor they count, also in derivatives.
    of_queries, square = projected(query)
    one = jnp.exp(of_queries - square - jnp.max(of_queries, axis=1, keepdims=True)) + floor
    of_keys, square = projected(key)
    real = (system.numbers > 0)[:, None]
    exponents = jnp.where(real, of_keys - square - _largest(system, of_keys), 0.0)
    other = jnp.where(real, jnp.exp(exponents) + floor, 0.0) / table.shape[-1]
    weights = to_atoms(system, sum_atoms(system, other))
    if system.structure is None:
        summed = one @ (other.T @ value)
    else:
        products = sum_atoms(system, other[:, :, None] * value[:, None, :])
        summed = jnp.einsum("nm,nmf->nf", one, to_atoms(system, products))
    return summed / (jnp.sum(one * weights, axis=1, keepdims=True) + _NO_WEIGHT)


def _largest(system: System, values: Float[Array, "atoms count"]) -> Float[Array, "atoms 1"]:
    """The largest number of each structure."""
    rows = jnp.where(system.numbers > 0, jnp.max(values, axis=1), -jnp.inf)
    if system.structure is None or system.structure_mask is None:
        top = jnp.max(rows)
    else:
        fixed = jax.lax.stop_gradient(rows)
        top = jax.ops.segment_max(fixed, system.structure, len(system.structure_mask))
    # As the mean of the largest, so that there is a derivative.
    top = to_atoms(system, jax.lax.stop_gradient(top))
    chosen = (rows == top) & jnp.isfinite(rows)
    found = sum_atoms(system, jnp.where(chosen, rows, 0.0))
    count = sum_atoms(system, chosen.astype(values.dtype))
    return to_atoms(system, found / jnp.maximum(count, 1.0))[:, None]


class NonlocalInteraction(nn.Module):
    """What atoms receive from all others of the structure, near or far.

    Attributes:
        count: Number of residual blocks in each stack.
        table: Directions of the random features as columns; ``None`` with exact attention.
    """

    count: int
    table: Any

    @nn.compact
    def __call__(self, x: _Rows, system: System) -> _Rows:
        """Changes of the features."""
        query, key, value = Branches(3, self.count, "branches", zero=True)(x)
        if self.table is None:
            return exact_attention(together(system), query, key, value)
        return feature_attention(system, query, key, value, jnp.asarray(self.table, x.dtype))


class Interaction(nn.Module):
    """One module of the network: local and nonlocal interaction between residual blocks.

    Attributes:
        count: Number of residual blocks in each stack.
        far: Whether there is nonlocal interaction.
        table: Directions of its random features as columns; ``None`` with exact attention.
    """

    count: int
    far: bool
    table: Any

    @nn.compact
    def __call__(
        self,
        x: _Rows,
        system: System,
        edges: Edges,
        radial: Float[Array, "edges functions"],
        shapes: tuple[Array, Array],
    ) -> tuple[_Rows, _Rows]:
        """Features for the next module, and what this one contributes to the result."""
        inner = Residuals(self.count, name="before")(x)
        local = LocalInteraction(self.count, name="local")(inner, edges, radial, shapes)
        self.sow("intermediates", "local_change", local)
        x = inner + local
        if self.far:
            far = NonlocalInteraction(self.count, self.table, name="nonlocal")(inner, system)
            self.sow("intermediates", "nonlocal_change", far)
            x = x + far
        x = Residuals(self.count, name="after")(x)
        return x, ResidualMLP(self.count, name="mlp")(x)
