"""SchNet: continuous-filter convolutions."""

import math
from collections.abc import Sequence
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
    shifted_softplus,
)
from jaxff.networks.graph import Edges, Graph, all_pairs, graph
from jaxff.networks.linen import from_linen
from jaxff.networks.options import AtomEmbedding, RadialOptions, check_outputs, dtype_name, uses
from jaxff.networks.readouts import AtomicValues, electrostatic_outputs
from jaxff.potential import Potential, Spec
from jaxff.system import System
from jaxff.types import Array, Float

__all__ = ["SchNet", "schnet", "schnet_2017"]

_SOFTPLUS_IS_ONE = math.log(2.0 * math.e - 1.0)
"""Where the shifted softplus is one."""


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
        radial: Float[Array, "edges functions"],
        cutoff: Float[Array, "edges 1"],
    ) -> Float[Array, "atoms features"]:
        """What is added to the vectors."""
        # A function of the distance: the same in both directions. The bias of the second layer is
        # the weight of one more hidden unit, which is always one: so the cutoff function enters
        # once, before a product, and its derivative is one sum.
        inner, offset = AffineWeights(self.filters, name="filter_0")(radial)
        outer, bias = AffineWeights(self.filters, name="filter_1")(inner)
        inner, offset = jnp.pad(inner, ((0, 0), (0, 1))), jnp.append(offset, _SOFTPLUS_IS_ONE)
        hidden = shifted_softplus(radial @ inner + offset) * cutoff
        filters = hidden @ jnp.concatenate([outer, bias[None]])
        h = Dense(self.filters, use_bias=False, name="inward")(x)
        summed = edges.sum(filters * edges.at_second(h), filters * edges.at_first(h))
        outward = shifted_softplus(Dense(self.features, name="outward_0")(summed))
        return Dense(self.features, name="outward_1")(outward)


class SchNet(nn.Module):
    """The network; see :func:`schnet` for the meaning of its attributes."""

    radial: RadialOptions
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
        radial, cutoff = self.radial.evaluate(edges)
        cutoff = computed_once(cutoff)
        x = AtomEmbedding(self.features, self.max_number, self.totals, name="embedding")(system)
        self.sow("intermediates", "embedded", x)
        for index in range(self.interactions):
            block = Interaction(self.features, self.filters, name=f"interaction_{index}")
            change = block(x, edges, radial, cutoff)
            self.sow("intermediates", f"change_{index}", change)
            x = x + change
        result = {"atomic_energies": AtomicValues(self.head_activation, name="energy")(x)}
        if {"dipole", "partial_charges"} & set(self.outputs):
            charges = AtomicValues(self.head_activation, name="charges")(x)
            result |= electrostatic_outputs(system, self.outputs, charges)
        if "features" in self.outputs:
            result["features"] = x
        return result


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
    module = SchNet(
        radial, features, channels, interactions, head_activation, totals, asked, max_number
    )
    arguments = {
        **radial.arguments(),
        "features": features,
        "interactions": interactions,
        "filters": channels,
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
