"""Blocks that several networks share: activations, dense stacks, embeddings, radial bases."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxff.radial import basis, cutoffs
from jaxff.system import System, sum_atoms, to_atoms
from jaxff.types import Array, Float, Int

__all__ = [
    "ACTIVATIONS",
    "CUTOFF_FUNCTIONS",
    "RADIAL_BASES",
    "AffineWeights",
    "Dense",
    "ElementEmbedding",
    "RadialBasis",
    "SplitDense",
    "SplitStack",
    "Stack",
    "TotalEmbedding",
    "computed_once",
    "cutoff_values",
    "require_choice",
    "require_positive",
    "shifted_softplus",
]

CUTOFF_FUNCTIONS = ("bump", "cosine", "polynomial", "smoothstep")
"""Names of cutoff functions; all but the cosine have two continuous derivatives."""
RADIAL_BASES = ("bernstein", "bessel", "gaussian", "physnet")
"""Names of radial bases."""

_INITIAL_DECAY = 0.5 / 0.529177210903
"""Exponent of the Bernstein basis in 1/Å, half an inverse Bohr radius as in SpookyNet."""


def _log1p_coefficients(degree: int = 11) -> list[float]:
    """Of a polynomial for log(1 + t), t from 0 to 1, to 1e-8 and exact at zero."""
    points = 0.5 + 0.5 * np.cos(np.pi * (np.arange(200) + 0.5) / 200)
    fitted = np.polynomial.Polynomial.fit(points, np.log1p(points) / points, degree, domain=[0, 1])
    return fitted.convert().coef.tolist()


_LOG1P = _log1p_coefficients()


@jax.custom_jvp
def shifted_softplus(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    r"""Activation :math:`\ln(\tfrac12 e^x + \tfrac12)`, smooth and zero at zero.

    Reference:
        Schütt et al., Adv. Neural Inf. Process. Syst. 30 (2017), arXiv:1706.08566.
    """
    decay = jnp.exp(-jnp.abs(x))
    if x.dtype == jnp.float64:
        tail = jnp.log1p(decay)
    else:  # exact to the last digit of single precision, in half the time of a logarithm
        tail = jnp.asarray(_LOG1P[-1], x.dtype)
        for coefficient in _LOG1P[-2::-1]:
            tail = tail * decay + coefficient
        tail = tail * decay
    return jnp.maximum(x, 0) + tail - np.log(2.0).item()


@shifted_softplus.defjvp
def _shifted_softplus_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    (x,), (slope,) = primals, tangents
    return shifted_softplus(x), 0.5 * (1.0 + jnp.tanh(0.5 * x)) * slope


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "shifted_softplus": shifted_softplus,
    "silu": nn.silu,
    "tanh": jnp.tanh,
}
"""Activations by name."""


def require_choice(what: str, value: Any, known: Sequence[str] | dict[str, Any]) -> None:
    """Refuse a name that means nothing.

    Raises:
        ValueError: Naming what is known.
    """
    if value not in known:
        raise ValueError(f"{what} must be one of {sorted(known)}, got {value!r}")


def require_positive(**counts: int) -> None:
    """Refuse numbers of features, layers and the like below one.

    Raises:
        ValueError: Naming the number.
    """
    for name, count in counts.items():
        if not isinstance(count, int | np.integer) or count < 1:
            raise ValueError(f"{name} must be a whole number from 1 on, got {count!r}")


def cutoff_values(
    function: str | None, distances: Float[Array, "*shape"], cutoff: float | None
) -> Float[Array, "*shape"]:
    """Cutoff function of this name, see :mod:`jaxff.radial.cutoffs`; one without."""
    if function is None or cutoff is None:
        return jnp.ones_like(distances)
    return getattr(cutoffs, function)(distances, cutoff)


class Dense(nn.Dense):
    """Affine map whose weights start as in the published models: Glorot uniform, bias zero."""

    kernel_init: Callable[..., Array] = nn.initializers.xavier_uniform()


class AffineWeights(nn.Module):
    """Weights and bias of a :class:`Dense` layer, for those who do the product themselves.

    Attributes:
        features: Size of the result.
    """

    features: int

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "*batch size"]
    ) -> tuple[Float[Array, "size features"], Float[Array, " features"]]:
        """Both, in the precision of the inputs."""
        start = nn.initializers.xavier_uniform()
        kernel = self.param("kernel", start, (inputs.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return kernel.astype(inputs.dtype), bias.astype(inputs.dtype)


class SplitDense(nn.Module):
    """Affine map whose result is taken in equal parts, one product for each.

    Slices of large arrays, and the padding that is their derivative, cost more than products with
    slices of the weights.

    Attributes:
        features: Size of each part.
        parts: Their number.
        use_bias: Whether something is added.
        start: Initializer of the weights of all parts together.
    """

    features: int
    parts: int
    use_bias: bool = True
    start: Callable[..., Array] = nn.initializers.xavier_uniform()

    @nn.compact
    def __call__(self, *inputs: Float[Array, "*batch _"]) -> tuple[Float[Array, "*batch _"], ...]:
        """The parts; several inputs stand for their concatenation."""
        size = self.features
        ends = np.cumsum([0, *(x.shape[-1] for x in inputs)])
        kernel = self.param("kernel", self.start, (int(ends[-1]), self.parts * size))
        kernel = kernel.astype(inputs[0].dtype)
        results = []
        for part in range(self.parts):
            columns = kernel[:, part * size : (part + 1) * size]
            products = [x @ columns[a:b] for x, a, b in zip(inputs, ends, ends[1:], strict=False)]
            results.append(functools.reduce(jnp.add, products))
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.parts * size,))
            bias = bias.astype(kernel.dtype).reshape(self.parts, size)
            results = [result + row for result, row in zip(results, bias, strict=True)]
        return tuple(results)


class SplitStack(nn.Module):
    """Two dense layers on several inputs, with the result in parts; see :class:`SplitDense`.

    Attributes:
        features: Size of the hidden layer and of each part.
        parts: Number of parts.
    """

    features: int
    parts: int

    @nn.compact
    def __call__(self, *inputs: Float[Array, "*batch _"]) -> tuple[Float[Array, "*batch _"], ...]:
        """The parts."""
        (hidden,) = SplitDense(self.features, 1, name="dense_0")(*inputs)
        return SplitDense(self.features, self.parts, name="dense_1")(nn.silu(hidden))


def computed_once(columns: Float[Array, "rows columns"]) -> Float[Array, "rows columns"]:
    """The same numbers, as the result of a product.

    XLA fuses a broadcast with whatever made the entries, and then computes sines and roots anew for
    each copy. It does not look into a product (of more than one column: those of one are undone).
    """
    count = columns.shape[-1]
    wide = np.eye(count, max(count, 2), dtype=columns.dtype)
    if count == 1:
        columns = columns * wide
    # Accelerators round the factors of products in single precision, unless told not to.
    return jnp.matmul(columns, wide.T, precision="highest")


class Stack(nn.Module):
    """Dense layers with activations between them.

    Attributes:
        sizes: Features after each layer.
        activation: Name in :data:`ACTIVATIONS`.
    """

    sizes: Sequence[int]
    activation: str

    @nn.compact
    def __call__(self, x: Float[Array, "*batch _"]) -> Float[Array, "*batch _"]:
        """Features after the last layer, to which no activation is applied."""
        for index, size in enumerate(self.sizes):
            x = Dense(size, name=f"dense_{index}")(x)
            if index + 1 < len(self.sizes):
                x = ACTIVATIONS[self.activation](x)
        return x


class ElementEmbedding(nn.Module):
    """One vector per element; NaN for elements beyond the table.

    Attributes:
        features: Their length.
        max_number: Last atomic number of the table.
    """

    features: int
    max_number: int = 118

    @nn.compact
    def __call__(self, numbers: Int[Array, " atoms"]) -> Float[Array, "atoms features"]:
        """Vectors of the atoms."""
        shape = (self.max_number + 1, self.features)
        table = self.param("table", nn.initializers.normal(1.0), shape)
        return jnp.take(table, numbers, axis=0, mode="fill", fill_value=jnp.nan)


class TotalEmbedding(nn.Module):
    r"""Vector of each atom for its share of a total: of the charge, or of the unpaired electrons.

    Atoms attract the total by a softmax-like weight :math:`a_i = \ln(1 + e^{q_i\cdot k/\sqrt F})`,
    normalised in each structure; a total of zero gives zero vectors. Different vectors stand for
    positive and negative totals.

    Attributes:
        name_of_total: ``"charge"`` or ``"spin"``, a field of the system.
        query_given: Whether what it is called with are the vectors q themselves, rather than
            features of which a dense layer makes them.
        floor: Added to the sum of the weights.

    Reference:
        Unke et al., Nat. Commun. 12, 7273 (2021), doi:10.1038/s41467-021-27504-0.
    """

    name_of_total: str
    query_given: bool = False
    floor: float = 1e-8

    @nn.compact
    def __call__(
        self, system: System, embedded: Float[Array, "atoms features"]
    ) -> Float[Array, "atoms features"]:
        """Vectors to be added to those of the elements."""
        size = embedded.shape[-1]
        total = to_atoms(system, getattr(system, self.name_of_total))[:, None].astype(
            embedded.dtype
        )
        signed = jnp.concatenate([nn.relu(total), nn.relu(-total)], axis=-1)
        query = embedded if self.query_given else Dense(size, name="query")(embedded)
        key = Dense(size, use_bias=False, name="key")(signed / jnp.maximum(signed, 1.0))
        value = Dense(size, use_bias=False, name="value")(signed)
        weight = nn.softplus(jnp.sum(query * key, axis=-1, keepdims=True) / np.sqrt(size).item())
        whole = sum_atoms(system, weight) + self.floor
        # Structures of padding have no weights.
        weight /= to_atoms(system, jnp.where(whole > 0.0, whole, 1.0))
        share = weight * value
        inner = Dense(size, use_bias=False, name="inner")(nn.silu(share))
        return share + Dense(size, use_bias=False, name="outer")(nn.silu(inner))


class RadialBasis(nn.Module):
    """Radial functions whose parameters are fixed or trained.

    Attributes:
        kind: Name in :data:`RADIAL_BASES`.
        count: Number of functions.
        cutoff: Radius in Å up to which they are spread.
        trainable: Whether centres, widths, frequencies or decay are parameters.
        centers: Take the place of the usual centres (Gaussian, PhysNet) or frequencies (Bessel).
        widths: Take the place of the usual widths.
        decay: Takes the place of the usual exponent of the Bernstein basis, 1/Å.
    """

    kind: str
    count: int
    cutoff: float
    trainable: bool = False
    centers: tuple[float, ...] | None = None
    widths: tuple[float, ...] | None = None
    decay: float | None = None

    @nn.compact
    def __call__(self, distances: Float[Array, "*shape"]) -> Float[Array, "*shape functions"]:
        """Values of all functions."""
        table = {
            name: self._value(name, value, distances.dtype) for name, value in self._table().items()
        }
        if self.kind == "bernstein":
            return basis.bernstein(distances, table["decay"], self.count)
        if self.kind == "bessel":
            return basis.bessel(distances, table["frequencies"])
        return getattr(basis, self.kind)(distances, table["centers"], table["widths"])

    def _value(self, name: str, value: Any, dtype: Any) -> Array:
        value = jnp.asarray(value, dtype)
        return self.param(name, lambda _: value) if self.trainable else value

    def _table(self) -> dict[str, Any]:
        if self.kind == "bernstein":
            return {"decay": _INITIAL_DECAY if self.decay is None else self.decay}
        if self.kind == "bessel":
            usual = basis.bessel_frequencies(self.cutoff, self.count)
            return {"frequencies": usual if self.centers is None else self.centers}
        rule = basis.gaussian_centers if self.kind == "gaussian" else basis.physnet_centers
        centers, widths = rule(self.cutoff, self.count)
        return {
            "centers": centers if self.centers is None else self.centers,
            "widths": widths if self.widths is None else self.widths,
        }
