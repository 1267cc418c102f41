"""PaiNN: messages of scalars and vectors."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxff.networks.blocks import (
    ACTIVATIONS,
    SplitDense,
    SplitStack,
    computed_once,
    require_choice,
    require_positive,
)
from jaxff.networks.graph import Edges, Graph
from jaxff.networks.linen import from_linen
from jaxff.networks.options import AtomEmbedding, RadialOptions, check_outputs, dtype_name, uses
from jaxff.networks.readouts import AtomicValues, VectorReadout, electrostatic_outputs
from jaxff.potential import Potential, Spec
from jaxff.system import System
from jaxff.types import Array, Float

__all__ = ["PaiNN", "painn"]

_Scalars = Float[Array, "atoms features"]
_Vectors = Float[Array, "atoms 3 features"]


class Message(nn.Module):
    """What atoms receive from their neighbours.

    Attributes:
        features: Channels.
    """

    features: int

    @nn.compact
    def __call__(
        self,
        scalars: _Scalars,
        vectors: _Vectors | None,
        edges: Edges,
        directions: Float[Array, "edges 3 1"],
        radial: Float[Array, "edges functions"],
    ) -> tuple[_Scalars, _Vectors]:
        """Scalars and vectors with the messages added; vectors are ``None`` while they are zero."""
        parts = 2 if vectors is None else 3
        x = SplitStack(self.features, 3, name="context")(scalars)[:parts]
        # The cutoff function is among the radial functions, with the bias as its weight.
        filters = SplitDense(self.features, 3, use_bias=False, name="filter")(radial)[:parts]
        carried = None if vectors is None else x[2][:, None] * vectors

        def sent(at: Any, sign: float) -> tuple[Array, Array]:
            """To the scalars, and to the vectors."""
            arrow = (sign * directions) * (filters[1] * at(x[1]))[:, None]
            if carried is not None:
                arrow += filters[2][:, None] * at(carried)
            return filters[0] * at(x[0]), arrow

        there, back = sent(edges.at_second, 1.0), sent(edges.at_first, -1.0)
        scalars = scalars + edges.sum(there[0], back[0])
        change = edges.sum(there[1], back[1])
        return scalars, change if vectors is None else vectors + change


class Update(nn.Module):
    """Scalars and vectors of each atom exchange what they know.

    Attributes:
        features: Channels.
    """

    features: int

    @nn.compact
    def __call__(self, scalars: _Scalars, vectors: _Vectors) -> tuple[_Scalars, _Vectors]:
        """Both after the exchange."""
        v, w = SplitDense(self.features, 2, use_bias=False, name="mix")(vectors)
        # The small number keeps derivatives of all orders finite where a vector vanishes.
        norm = jnp.sqrt(jnp.sum(v**2, axis=1) + 1e-8)
        own, gate, inner = SplitStack(self.features, 3, name="context")(scalars, norm)
        return scalars + own + inner * jnp.sum(v * w, axis=1), vectors + gate[:, None] * w


class PaiNN(nn.Module):
    """The network; see :func:`painn` for the meaning of its attributes."""

    radial: RadialOptions
    features: int
    interactions: int
    head_activation: str
    totals: Sequence[str]
    outputs: Sequence[str]
    max_number: int

    @nn.compact
    def __call__(self, system: System, graphs: tuple[Graph, ...]) -> dict[str, Array]:
        """Atomic energies and what else is asked for."""
        edges = graphs[0].edges
        radial, cutoff = self.radial.evaluate(edges)
        lengths = jnp.where(edges.distances == 0.0, 1.0, edges.distances)
        directions = computed_once(edges.vectors / lengths[:, None])[..., None]
        radial = jnp.concatenate([radial * cutoff, cutoff], axis=-1)
        scalars = AtomEmbedding(self.features, self.max_number, self.totals, name="embedding")(
            system
        )
        self.sow("intermediates", "embedded", scalars)
        vectors: Any = None
        for index in range(self.interactions):
            message = Message(self.features, name=f"message_{index}")
            scalars, vectors = message(scalars, vectors, edges, directions, radial)
            self.sow("intermediates", f"received_{index}", (scalars, vectors))
            scalars, vectors = Update(self.features, name=f"update_{index}")(scalars, vectors)
            self.sow("intermediates", f"updated_{index}", (scalars, vectors))
        result = {"atomic_energies": AtomicValues(self.head_activation, name="energy")(scalars)}
        if {"dipole", "partial_charges"} & set(self.outputs):
            charges, dipoles = VectorReadout(name="charges")(scalars, vectors)
            result |= electrostatic_outputs(system, self.outputs, charges, dipoles)
        if "features" in self.outputs:
            result["features"] = scalars
        return result


def painn(
    cutoff: float | None = 5.0,
    *,
    features: int = 128,
    interactions: int = 3,
    radial_functions: int = 20,
    radial_basis: str = "bessel",
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
    r"""PaiNN, the polarizable atom interaction network, for molecules and crystals.

    Each atom has scalars s and vectors v, which turn with the molecule. Messages
    :math:`s_i \mathrel{+}= \sum_j a_{ij}`, :math:`v_i \mathrel{+}= \sum_j b_{ij}\hat r_{ij} +
    c_{ij}\circ v_j` have :math:`(a, b, c) = W(r_{ij}) \circ \phi(s_j)`; updates mix both by the
    norms and inner products of the vectors.

    Args:
        cutoff: Radius in Å; there is no form without.
        features: Channels of scalars and of vectors.
        interactions: Number of messages and updates.
        radial_functions: Number of radial functions.
        radial_basis: ``"bessel"`` (as in the paper), ``"gaussian"``, ``"bernstein"`` or
            ``"physnet"``, see :mod:`jaxff.radial.basis`.
        cutoff_function: ``"polynomial"``, ``"smoothstep"``, ``"bump"`` (second derivatives of the
            energy are continuous) or ``"cosine"`` (as in the paper: only first ones).
        trainable_basis: Whether the radial functions are trained too.
        radial_centers: Centres or frequencies other than the usual ones.
        radial_widths: Widths other than the usual ones.
        head_activation: ``"silu"`` or ``"shifted_softplus"``.
        charge: Whether it reads the total charge.
        spin: Whether it reads the number of unpaired electrons.
        outputs: Besides energies: ``"partial_charges"`` (e), ``"dipole"`` (e·Å, from charges and
            atomic dipoles) and ``"features"`` (the last scalars).
        max_number: Highest atomic number; others give NaN.
        dtype: Precision of the network.

    Raises:
        ValueError: For options that make no sense.
    Reference:
        Schütt, Unke & Gastegger, Proc. Mach. Learn. Res. 139, 9377 (2021), arXiv:2102.03150.
    """
    radial = RadialOptions.of(
        cutoff, cutoff_function, radial_basis, radial_functions, trainable_basis, radial_centers,
        radial_widths,
    )  # fmt: skip
    if radial.cutoff is None:
        raise ValueError("PaiNN needs a cutoff in Å, got None")
    require_choice("head_activation", head_activation, ACTIVATIONS)
    totals, asked = uses(charge, spin), check_outputs(outputs)
    require_positive(features=features, interactions=interactions, max_number=max_number)
    module = PaiNN(radial, features, interactions, head_activation, totals, asked, max_number)
    arguments = {
        **radial.arguments(),
        "features": features,
        "interactions": interactions,
        "head_activation": head_activation,
        "charge": charge,
        "spin": spin,
        "outputs": asked,
        "max_number": max_number,
        "dtype": dtype_name(dtype),
    }
    return from_linen(
        module, (radial.cutoff,), uses=totals, dtype=jnp.dtype(dtype), spec=Spec("painn", arguments)
    )
