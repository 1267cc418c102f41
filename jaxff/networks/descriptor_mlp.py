"""Networks of the elements on any descriptor of the surroundings of atoms."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxff import descriptors
from jaxff.elements import distinct_numbers
from jaxff.neighbors import Neighbors
from jaxff.networks.blocks import ACTIVATIONS, require_choice
from jaxff.networks.graph import Graph
from jaxff.networks.linen import from_linen
from jaxff.networks.options import check_outputs, dtype_name
from jaxff.networks.readouts import electrostatic_outputs
from jaxff.potential import Potential, Spec
from jaxff.system import System
from jaxff.types import Array, Float, Int

__all__ = ["DescriptorMLP", "descriptor_mlp"]


class ElementStack(nn.Module):
    """Dense layers with other weights for each element.

    Attributes:
        sizes: Features after each layer.
        elements: Number of elements.
        activation: Name in :data:`jaxff.networks.blocks.ACTIVATIONS`.
    """

    sizes: Sequence[int]
    elements: int
    activation: str

    @nn.compact
    def __call__(
        self, x: Float[Array, "atoms features"], species: Float[Array, "atoms elements"]
    ) -> Float[Array, "atoms _"]:
        """Features after the last layer, for the element of each atom."""
        # Every atom goes through all networks: one product for all, and nothing is looked up.
        x = jnp.broadcast_to(x, (self.elements, *x.shape))
        for index, size in enumerate(self.sizes):
            if index > 0:
                x = ACTIVATIONS[self.activation](x)
            start = nn.initializers.xavier_uniform(batch_axis=(0,))
            shape = (self.elements, x.shape[-1], size)
            kernel = self.param(f"kernel_{index}", start, shape)
            bias = self.param(f"bias_{index}", nn.initializers.zeros, (self.elements, 1, size))
            x = x @ kernel.astype(x.dtype) + bias.astype(x.dtype)
        return jnp.einsum("eaf,ae->af", x, species)


class DescriptorMLP(nn.Module):
    """The network; see :func:`descriptor_mlp` for the meaning of its attributes."""

    descriptor: Callable[..., Array]
    elements: tuple[int, ...]
    hidden: Sequence[int]
    activation: str
    outputs: Sequence[str]

    @nn.compact
    def __call__(self, system: System, graphs: tuple[Graph, ...]) -> dict[str, Array]:
        """Atomic energies and what else is asked for."""
        features = self.descriptor(system, self._neighbors(graphs))
        if features.ndim != 2 or len(features) != system.atom_count:
            raise ValueError(
                f"descriptor_mlp needs features of each atom, ({system.atom_count}, features), "
                f"got {features.shape}: this descriptor is one of the whole system"
            )
        features = self._standardised(system, features)
        species = _species(self.elements, system.numbers, features.dtype)
        charged = bool({"dipole", "partial_charges"} & set(self.outputs))
        sizes = (*self.hidden, 2 if charged else 1)
        values = ElementStack(sizes, len(self.elements), self.activation, name="networks")(
            features, species
        )
        result = {"atomic_energies": values[:, 0]}
        if charged:
            result |= electrostatic_outputs(system, self.outputs, values[:, 1])
        if "features" in self.outputs:
            result["features"] = features
        return result

    def _neighbors(self, graphs: tuple[Graph, ...]) -> Neighbors | None:
        if not graphs:
            return None
        descriptor: Any = self.descriptor
        cutoffs = tuple(descriptor.cutoffs)
        # The margin of the lists plays no part in what a descriptor makes of them.
        margins = (0.0,) * len(cutoffs)
        return Neighbors(tuple(g.pairs for g in graphs), jnp.zeros((), bool), cutoffs, margins)

    def _standardised(
        self, system: System, features: Float[Array, "atoms features"]
    ) -> Float[Array, "atoms features"]:
        """Features less their mean, by their deviation, both over the atoms of ``init``."""
        real = (system.numbers > 0)[:, None]
        count = jnp.maximum(jnp.sum(real), 1)

        def mean() -> Array:
            return jnp.sum(jnp.where(real, features, 0.0), axis=0) / count

        def deviation() -> Array:
            spread = jnp.sum(jnp.where(real, (features - mean()) ** 2, 0.0), axis=0) / count
            spread = jnp.sqrt(spread)
            # What hardly varies here would be blown up elsewhere.
            return jnp.maximum(spread, 1e-2 * jnp.max(spread)) + jnp.where(
                jnp.max(spread) > 0, 0.0, 1.0
            )

        centre = jax.lax.stop_gradient(self.param("mean", lambda _: mean()))
        width = jax.lax.stop_gradient(self.param("deviation", lambda _: deviation()))
        return (features - centre) / width


def _species(
    elements: tuple[int, ...], numbers: Int[Array, " atoms"], dtype: Any
) -> Float[Array, "atoms elements"]:
    """1 at the place of the element; NaN for an atom of another one."""
    found = numbers[:, None] == jnp.asarray(elements, numbers.dtype)
    unknown = (numbers > 0) & ~jnp.any(found, axis=1)
    return jnp.where(unknown[:, None], jnp.nan, found.astype(dtype))


def descriptor_mlp(
    descriptor: Callable[..., Array],
    *,
    elements: Sequence[str | int] | None = None,
    hidden: Sequence[int] = (32, 32),
    activation: str = "tanh",
    outputs: Sequence[str] = (),
    dtype: Any = "float32",
) -> Potential:
    """One small network per element on a descriptor of the surroundings of each atom.

    Features are standardised by mean and deviation over the atoms given to ``init``: a pack of
    many geometries is best. Both stand in the parameters and are not trained.

    Args:
        descriptor: Function of ``(system, neighbors)`` with features ``(atoms, size)``, such as
            :func:`jaxff.descriptors.acsf`; ``cutoffs`` are its attribute if it needs lists.
        elements: Symbols or atomic numbers; by default those of the descriptor. Others give NaN.
        hidden: Sizes of the hidden layers.
        activation: ``"tanh"``, ``"silu"`` or ``"shifted_softplus"``.
        outputs: Besides energies: ``"partial_charges"`` (e), ``"dipole"`` (e·Å) and ``"features"``
            (standardised).
        dtype: Precision of descriptor and networks.

    Raises:
        ValueError: For options that make no sense.
    Reference:
        Behler & Parrinello, Phys. Rev. Lett. 98, 146401 (2007),
        doi:10.1103/PhysRevLett.98.146401.
    """
    named: Any = elements if elements is not None else getattr(descriptor, "elements", None)
    if named is None:
        raise ValueError("this descriptor does not name its elements: give elements=")
    require_choice("activation", activation, ACTIVATIONS)
    listed, asked = distinct_numbers(named), check_outputs(outputs)
    sizes = tuple(int(size) for size in hidden)
    if any(size < 1 for size in sizes):
        raise ValueError(f"hidden layers need at least one feature each, got {hidden}")
    module = DescriptorMLP(descriptor, listed, sizes, activation, asked)
    recipe = _recipe(descriptor)
    arguments = {
        "descriptor": recipe,
        "elements": list(listed),
        "hidden": sizes,
        "activation": activation,
        "outputs": asked,
        "dtype": dtype_name(dtype),
    }
    return from_linen(
        module,
        tuple(getattr(descriptor, "cutoffs", ())),
        dtype=jnp.dtype(dtype),
        spec=None if recipe is None else Spec("descriptor_mlp", arguments),
    )


def _recipe(descriptor: Callable[..., Array]) -> Any:
    """How a file names the descriptor."""
    known = descriptors.record(descriptor)
    if known is None:
        return getattr(descriptor, "name", None)
    return Spec(*known)
