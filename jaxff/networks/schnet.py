"""SchNet: continuous-filter convolutions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxff.networks.blocks import (
    ACTIVATIONS,
    AffineWeights,
    Dense,
    computed_once,
    require_choice,
    require_positive,
    shifted_softplus,
)
from jaxff.networks.graph import Edges, Graph, all_pairs, graph
from jaxff.networks.linen import from_linen
from jaxff.networks.options import AtomEmbedding, RadialOptions, check_outputs, dtype_name, uses
from jaxff.networks.readouts import AtomicValues, electrostatic_outputs
from jaxff.potential import Potential, Spec
from jaxff.radial.interpolation import Chebyshev
from jaxff.system import System
from jaxff.types import Array, Float

__all__ = ["SchNet", "schnet", "schnet_2017"]

_SOFTPLUS_IS_ONE = math.log(2.0 * math.e - 1.0)
"""Where the shifted softplus is one."""


@dataclass(frozen=True)
class Seen:
    """What filter networks see, and how filters come from what they return.

    Attributes:
        radial: Radial functions at the distances where the networks are evaluated.
        cutoff: Cutoff function of each edge.
        interpolation: From those distances to the edges; ``None`` if they are the edges.
        polynomials: Of the interpolation, times the cutoff function.
    """

    radial: Float[Array, "distances functions"]
    cutoff: Float[Array, "edges 1"]
    interpolation: Chebyshev | None = None
    polynomials: Float[Array, "edges polynomials"] | None = None

    def filters(
        self,
        inner: tuple[Float[Array, "functions filters"], Float[Array, " filters"]],
        outer: tuple[Float[Array, "filters filters"], Float[Array, " filters"]],
    ) -> Float[Array, "edges filters"]:
        """Filters of all edges by weights and biases of two layers."""
        (weights, offset), (last, bias) = inner, outer
        # The bias of the second layer is the weight of one more hidden unit, which is always one:
        # so the cutoff function enters once, before a product, and its derivative is one sum.
        weights, offset = jnp.pad(weights, ((0, 0), (0, 1))), jnp.append(offset, _SOFTPLUS_IS_ONE)
        last = jnp.concatenate([last, bias[None]])
        hidden = shifted_softplus(self.radial @ weights + offset)
        if self.interpolation is None or self.polynomials is None:
            return (hidden * self.cutoff) @ last
        transform = jnp.asarray(self.interpolation.transform, hidden.dtype)
        # Accelerators round the factors of products in single precision, unless told not to.
        coefficients = jnp.matmul(transform, hidden @ last, precision="highest")
        return self.polynomials @ coefficients


class Interaction(nn.Module):
    """One continuous-filter convolution and what is made of it.

    Attributes:
        features: Length of the vectors of atoms.
        filters: Channels of the convolution.
    """

    features: int
    filters: int

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "atoms features"],
        edges: Edges,
        seen: Seen,
    ) -> Float[Array, "atoms features"]:
        """What is added to the vectors."""
        # A function of the distance: the same in both directions.
        inner = AffineWeights(self.filters, name="filter_0")(seen.radial)
        filters = seen.filters(inner, AffineWeights(self.filters, name="filter_1")(inner[0]))
        h = Dense(self.filters, use_bias=False, name="inward")(x)
        summed = edges.sum(filters * edges.at_second(h), filters * edges.at_first(h))
        outward = shifted_softplus(Dense(self.features, name="outward_0")(summed))
        return Dense(self.features, name="outward_1")(outward)


class SchNet(nn.Module):
    """The network; see :func:`schnet` for the meaning of its attributes."""

    radial: RadialOptions
    nodes: int | None
    features: int
    filters: int
    interactions: int
    head_activation: str
    totals: Sequence[str]
    outputs: Sequence[str]
    max_number: int

    @nn.compact
    def __call__(self, system: System, graphs: tuple[Graph, ...]) -> dict[str, Array]:
        """Atomic energies and what else is asked for."""
        own = graphs or (graph(system, all_pairs(system), system.positions.dtype),)
        edges = own[0].edges
        seen = self._seen(edges)
        x = AtomEmbedding(self.features, self.max_number, self.totals, name="embedding")(system)
        self.sow("intermediates", "embedded", x)
        for index in range(self.interactions):
            block = Interaction(self.features, self.filters, name=f"interaction_{index}")
            change = block(x, edges, seen)
            self.sow("intermediates", f"change_{index}", change)
            x = x + change
        result = {"atomic_energies": AtomicValues(self.head_activation, name="energy")(x)}
        if {"dipole", "partial_charges"} & set(self.outputs):
            charges = AtomicValues(self.head_activation, name="charges")(x)
            result |= electrostatic_outputs(system, self.outputs, charges)
        if "features" in self.outputs:
            result["features"] = x
        return result

    def _seen(self, edges: Edges) -> Seen:
        cutoff = self.radial.cutoff_of(edges)
        if self.nodes is None or self.radial.cutoff is None:
            return Seen(self.radial.functions_at(edges.distances), computed_once(cutoff))
        # A little longer, for at the end of an interpolation derivatives have no limit.
        interpolation = Chebyshev(1.02 * self.radial.cutoff, self.nodes)
        nodes = jnp.asarray(interpolation.nodes, edges.distances.dtype)
        inside = jnp.where(
            edges.distances < self.radial.cutoff, edges.distances, 0.5 * self.radial.cutoff
        )
        polynomials = interpolation.polynomials(inside) * cutoff
        return Seen(self.radial.functions_at(nodes), cutoff, interpolation, polynomials)


def schnet(
    cutoff: float | None = 5.0,
    *,
    features: int = 128,
    interactions: int = 3,
    filters: int | None = None,
    radial_functions: int = 20,
    radial_basis: str = "gaussian",
    cutoff_function: str | None = "polynomial",
    trainable_basis: bool = False,
    radial_centers: Any = None,
    radial_widths: Any = None,
    filter_nodes: int | str | None = "auto",
    head_activation: str = "silu",
    charge: bool = False,
    spin: bool = False,
    outputs: Sequence[str] = (),
    max_number: int = 118,
    dtype: Any = "float32",
) -> Potential:
    r"""SchNet, for molecules and crystals.

    Vectors of atoms start from their elements and change by sums over neighbours,
    :math:`x_i \leftarrow x_i + V\,\sigma(U \sum_j h_j \circ W(r_{ij}))` with filters W that are
    dense layers on radial functions of the distance.

    Args:
        cutoff: Radius in Å; ``None`` for all pairs of molecules, without a cutoff function.
        features: Length of the vectors.
        interactions: Number of convolutions.
        filters: Channels of the convolutions; as many as features by default.
        radial_functions: Number of radial functions.
        radial_basis: ``"gaussian"``, ``"bessel"``, ``"bernstein"`` or ``"physnet"``, see
            :mod:`jaxff.radial.basis`.
        cutoff_function: ``"polynomial"``, ``"smoothstep"``, ``"bump"`` (second derivatives of the
            energy are continuous) or ``"cosine"`` (only first ones); ``None`` without a cutoff.
        trainable_basis: Whether the radial functions are trained too.
        radial_centers: Centres or frequencies other than the usual ones.
        radial_widths: Widths other than the usual ones.
        filter_nodes: Number of distances at which filter networks are evaluated; between them
            filters are polynomials (:class:`jaxff.radial.interpolation.Chebyshev`), which costs a
            third of the arithmetic and no exponentials. ``None``: at the distance of every pair.
            ``"auto"``: four for each of the usual Gaussians, where that is less work; forces of
            water then differ by 3e-6 of the largest in single precision
            (``experiments/benchmarks/networks.json``). Bessel functions need more. In any case
            energy and derivatives belong together: it is another filter, not a rounded one.
        head_activation: ``"silu"`` or ``"shifted_softplus"`` (as in the paper).
        charge: Whether it reads the total charge.
        spin: Whether it reads the number of unpaired electrons.
        outputs: Besides energies: ``"partial_charges"`` (e), ``"dipole"`` (e·Å, from the charges)
            and ``"features"`` (the last vectors).
        max_number: Highest atomic number; others give NaN.
        dtype: Precision of the network.

    Raises:
        ValueError: For options that make no sense.
    Reference:
        Schütt et al., J. Chem. Phys. 148, 241722 (2018), doi:10.1063/1.5019779; Schütt et al.,
        J. Chem. Theory Comput. 19, 1 (2023), doi:10.1021/acs.jctc.2c00851.
    """
    radial = RadialOptions.of(
        cutoff, cutoff_function, radial_basis, radial_functions, trainable_basis, radial_centers,
        radial_widths,
    )  # fmt: skip
    require_choice("head_activation", head_activation, ACTIVATIONS)
    totals, asked = uses(charge, spin), check_outputs(outputs)
    channels = features if filters is None else filters
    require_positive(
        features=features, interactions=interactions, filters=channels, max_number=max_number
    )
    nodes = _filter_nodes(filter_nodes, radial, channels)
    module = SchNet(
        radial, nodes, features, channels, interactions, head_activation, totals, asked, max_number
    )
    arguments = {
        **radial.arguments(),
        "features": features,
        "interactions": interactions,
        "filters": channels,
        "filter_nodes": nodes,
        "head_activation": head_activation,
        "charge": charge,
        "spin": spin,
        "outputs": asked,
        "max_number": max_number,
        "dtype": dtype_name(dtype),
    }
    cutoffs = () if radial.cutoff is None else (radial.cutoff,)
    return from_linen(
        module, cutoffs, uses=totals, dtype=jnp.dtype(dtype), spec=Spec("schnet", arguments)
    )


def _filter_nodes(given: int | str | None, radial: RadialOptions, channels: int) -> int | None:
    if given == "auto":
        nodes = 4 * radial.functions
        usual = radial.basis == "gaussian" and not radial.trainable
        usual &= radial.centers is None and radial.widths is None and radial.cutoff is not None
        return nodes if usual and nodes < radial.functions + channels else None
    if given is not None and (isinstance(given, (bool, str)) or given != int(given) or given < 2):
        raise ValueError(
            f'filter_nodes must be "auto", None or a number of at least two, got {given!r}'
        )
    if given is not None and radial.cutoff is None:
        raise ValueError(
            f"filter_nodes is {given}, but without a cutoff distances have no end: set it to None"
        )
    return None if given is None else int(given)


def schnet_2017(**options: Any) -> Potential:
    r"""SchNet as it was published: all pairs of a molecule, and no cutoff function.

    300 Gaussians from 0 to 30 Å with :math:`\gamma = 10/Å^2`, 64 features, 3 interactions, shifted
    softplus everywhere.

    Args:
        **options: Take the place of these options, see :func:`schnet`.

    Reference:
        Schütt et al., Adv. Neural Inf. Process. Syst. 30 (2017), arXiv:1706.08566.
    """
    published = {
        "cutoff": None,
        "cutoff_function": None,
        "features": 64,
        "interactions": 3,
        "radial_functions": 300,
        "radial_centers": np.linspace(0.0, 30.0, 300),
        "radial_widths": np.full(300, 20.0**-0.5),
        "head_activation": "shifted_softplus",
    }
    return schnet(**(published | options))
