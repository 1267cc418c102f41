"""SO3krates: a transformer on invariant features and Euclidean variables."""

import math
import operator
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxff.networks.blocks import computed_once, require_choice, require_positive
from jaxff.networks.euclidean import Layout
from jaxff.networks.graph import Edges, Graph, all_pairs, graph
from jaxff.networks.linen import from_linen
from jaxff.networks.options import RadialOptions, check_outputs, dtype_name, uses
from jaxff.networks.readouts import ElementCharges, HirshfeldRatios, electrostatic_outputs
from jaxff.networks.so3krates_blocks import (
    LAYER_NORMS,
    RESIDUAL_MLPS,
    Embedding,
    Energies,
    Layer,
)
from jaxff.networks.splines import Spline
from jaxff.potential import Potential, Spec
from jaxff.system import System
from jaxff.types import Array, Float

__all__ = ["OUTPUTS", "SO3krates", "so3krates"]

OUTPUTS = ("dipole", "euclidean_variables", "features", "hirshfeld_ratios", "partial_charges")
"""What it gives on request besides energies."""


class SO3krates(nn.Module):
    """The network; see :func:`so3krates` for the meaning of its attributes."""

    radial: RadialOptions
    features: int
    layers: int
    heads: int
    layout: Layout
    attention_norm: float | None
    nonlocal_attention: bool
    layer_norm: str
    residual_mlps: tuple[str, str]
    initial_norm: float | None
    head_features: int
    element_energies: bool
    totals: Sequence[str]
    outputs: Sequence[str]
    max_number: int
    radial_table: tuple[int, int] | None

    @nn.compact
    def __call__(self, system: System, graphs: tuple[Graph, ...]) -> dict[str, Array]:
        """Atomic energies and what else is asked for."""
        own = graphs or (graph(system, all_pairs(system), system.positions.dtype),)
        edges = own[0].edges
        radial = self._radial(edges)
        cutoff = computed_once(self.radial.cutoff_of(edges))
        x = Embedding(self.features, self.max_number, self.totals, name="embedding")(system)
        lengths = jnp.where(edges.distances == 0.0, 1.0, edges.distances)
        harmonics = computed_once(self.layout.harmonics(edges.vectors / lengths[:, None]))
        harmonics = jnp.stack([harmonics, harmonics * jnp.asarray(self.layout.parity, x.dtype)])
        variables: Any = None
        if self.initial_norm is not None:
            variables = edges.sum_received(harmonics * (cutoff / self.initial_norm))
        for index in range(self.layers):
            layer = Layer(
                self.layout, self.heads, self.attention_norm, self.nonlocal_attention,
                self.layer_norm, self.residual_mlps, self.radial_table is not None,
                name=f"layer_{index}",
            )  # fmt: skip
            x, variables = layer(x, variables, edges, harmonics, radial, cutoff)
            self.sow("intermediates", f"after_{index}", (x, variables))
        if self.layer_norm == "pre":
            x = nn.LayerNorm(use_fast_variance=False, name="norm")(x)
        return self._outputs(system, x, variables)

    def _radial(self, edges: Edges) -> Float[Array, "edges functions"]:
        """Radial functions, or those in which tabulated filters are linear."""
        if self.radial_table is None or self.radial.cutoff is None:
            return self.radial.functions_at(edges.distances)
        intervals, functions = self.radial_table
        table = Spline(intervals, self.radial.cutoff, functions, name="radial_table")
        return table(edges.distances)

    def _outputs(
        self, system: System, x: Float[Array, "atoms features"], variables: Any
    ) -> dict[str, Array]:
        table = self.max_number if self.element_energies else None
        energies = Energies(self.head_features, table, name="energy")
        result = {"atomic_energies": energies(system, x)}
        if {"dipole", "partial_charges"} & set(self.outputs):
            charges = ElementCharges(self.max_number, name="charges")(system.numbers, x)
            result |= electrostatic_outputs(system, self.outputs, charges)
        if "hirshfeld_ratios" in self.outputs:
            ratios = HirshfeldRatios(self.max_number, name="hirshfeld")
            result["hirshfeld_ratios"] = ratios(system.numbers, x)
        if "features" in self.outputs:
            result["features"] = x
        if "euclidean_variables" in self.outputs:
            result["euclidean_variables"] = variables
        return result


def so3krates(
    cutoff: float | None = 5.0,
    *,
    features: int = 132,
    layers: int = 3,
    heads: int = 4,
    degrees: Sequence[int] = (1, 2, 3),
    radial_functions: int = 32,
    radial_basis: str = "physnet",
    cutoff_function: str | None = "polynomial",
    trainable_basis: bool = False,
    radial_centers: Any = None,
    radial_widths: Any = None,
    radial_decay: float | None = None,
    attention_norm: float | None = None,
    nonlocal_attention: bool = False,
    layer_norm: str = "none",
    residual_mlps: Sequence[str] = ("none", "none"),
    initial_norm: float | None = None,
    head_features: int | None = None,
    element_energies: bool = False,
    charge: bool = False,
    spin: bool = False,
    outputs: Sequence[str] = (),
    max_number: int = 118,
    radial_table: Sequence[int] | None = None,
    dtype: Any = "float32",
) -> Potential:
    r"""SO3krates, a Euclidean transformer, for molecules and crystals.

    Atoms have features x, which do not change with orientation, and Euclidean variables
    :math:`\chi`, one vector per degree l, which turn with the molecule. Both attend to neighbours,
    :math:`x_i \mathrel{+}= \sum_j \alpha_{ij} v_j` and :math:`\chi_{il} \mathrel{+}= \sum_j
    \alpha_{ijl} Y_l(\hat r_{ij})`, with coefficients :math:`\alpha` of filters of the distance and
    of the scalars :math:`\|\chi_{jl} - \chi_{il}\|^2`; then they exchange what they know. The
    defaults are those of the papers but for the cutoff function.

    Args:
        cutoff: Radius in Å; there is no form without.
        features: Their number, a multiple of the number of heads and of that of degrees.
        layers: Number of layers.
        heads: Heads of the features; Euclidean variables have one per degree.
        degrees: Degrees of the Euclidean variables. ``(0,)`` is the ablation without directions.
        radial_functions: Number of radial functions.
        radial_basis: ``"physnet"`` (as in the papers), ``"bernstein"`` (as in SO3LR),
            ``"gaussian"`` or ``"bessel"``, see :mod:`jaxff.radial.basis`.
        cutoff_function: ``"polynomial"``, ``"smoothstep"`` (as in SO3LR), ``"bump"`` (second
            derivatives of the energy are continuous) or ``"cosine"`` (as in the papers: only first
            ones).
        trainable_basis: Whether the radial functions are trained too.
        radial_centers: Centres or frequencies other than the usual ones.
        radial_widths: Widths other than the usual ones.
        radial_decay: Exponent of the Bernstein basis in 1/Å, other than the usual one.
        attention_norm: Divisor of the attention, such as the mean number of neighbours (SO3LR); the
            root of the features of a head if ``None``.
        nonlocal_attention: Whether, as in the paper of 2022, Euclidean variables of atoms that are
            alike attend to each other at any distance, so that they can tell each other their
            orientation. Of molecules only; all pairs are computed, and no list is needed.
        layer_norm: ``"none"``, ``"pre"`` (before attention and exchange and at the end) or
            ``"post"`` (after both: SO3LR).
        residual_mlps: Two names, after the attention and after the exchange: ``"none"``,
            ``"added"`` (SO3LR, after the attention) or ``"projected"``.
        initial_norm: With a number Euclidean variables start as the sum of the neighbours'
            harmonics divided by it; with ``None`` they start from zero.
        head_features: Size of the hidden layer of the energies; as many as features by default.
        element_energies: Whether atomic energies have a trained factor and offset per element.
        charge: Whether it reads the total charge.
        spin: Whether it reads the number of unpaired electrons.
        outputs: Besides energies: ``"partial_charges"`` (e), ``"dipole"`` (e·Å, from the charges),
            ``"hirshfeld_ratios"`` (volumes of atoms relative to free ones), ``"features"`` and
            ``"euclidean_variables"`` (the last ones).
        max_number: Highest atomic number; others give NaN.
        radial_table: Intervals and functions of a table that takes the place of the radial
            functions; such a network is made of a trained one by :func:`jaxff.networks.tabulated`.
        dtype: Precision of the network.

    Raises:
        ValueError: For options that make no sense.
    Reference:
        Frank, Unke, Müller & Chmiela, Nat. Commun. 15, 6539 (2024),
        doi:10.1038/s41467-024-50620-6; Frank, Unke & Müller, Adv. Neural Inf. Process. Syst. 35
        (2022), arXiv:2205.14276; options of SO3LR: Kabylda et al., J. Am. Chem. Soc. 147, 33723
        (2025), doi:10.1021/jacs.5c09558.
    """
    radial = RadialOptions.of(
        cutoff, cutoff_function, radial_basis, radial_functions, trainable_basis, radial_centers,
        radial_widths, radial_decay,
    )  # fmt: skip
    if radial.cutoff is None:
        raise ValueError("SO3krates needs a cutoff in Å, got None")
    hidden = features if head_features is None else head_features
    require_positive(
        features=features, layers=layers, heads=heads, head_features=hidden, max_number=max_number
    )
    for name, norm in (("attention_norm", attention_norm), ("initial_norm", initial_norm)):
        if norm is not None and not 0.0 < norm < math.inf:
            raise ValueError(f"{name} must be a positive number or None, got {norm}")
    layout = Layout(_whole_numbers(degrees))
    for what, count in (("heads", heads), ("degrees", len(layout.degrees))):
        if count < 1 or features % count:
            raise ValueError(
                f"features must be a multiple of the number of {what}, got {features} and {count}"
            )
    require_choice("layer_norm", layer_norm, LAYER_NORMS)
    if isinstance(residual_mlps, str) or len(residual_mlps) != 2:
        raise ValueError(f"residual_mlps must be two names, got {residual_mlps!r}")
    for kind in residual_mlps:
        require_choice("residual_mlps", kind, RESIDUAL_MLPS)
    mlps = (residual_mlps[0], residual_mlps[1])
    table = None if radial_table is None else (int(radial_table[0]), int(radial_table[1]))
    if table is not None and min(table) < 1:
        raise ValueError(f"radial_table must be two positive numbers, got {radial_table}")
    totals, asked = uses(charge, spin), check_outputs(outputs, OUTPUTS)
    module = SO3krates(
        radial, features, layers, heads, layout, attention_norm, nonlocal_attention, layer_norm,
        mlps, initial_norm, hidden, element_energies, totals, asked, max_number, table,
    )  # fmt: skip
    arguments = {
        **radial.arguments(),
        "features": features,
        "layers": layers,
        "heads": heads,
        "degrees": layout.degrees,
        "attention_norm": attention_norm,
        "nonlocal_attention": nonlocal_attention,
        "layer_norm": layer_norm,
        "residual_mlps": mlps,
        "initial_norm": initial_norm,
        "head_features": hidden,
        "element_energies": element_energies,
        "charge": charge,
        "spin": spin,
        "outputs": asked,
        "max_number": max_number,
        "radial_table": table,
        "dtype": dtype_name(dtype),
    }
    return from_linen(
        module,
        () if nonlocal_attention else (radial.cutoff,),
        uses=totals,
        dtype=jnp.dtype(dtype),
        spec=Spec("so3krates", arguments),
    )


def _whole_numbers(degrees: Any) -> tuple[int, ...]:
    try:
        return tuple(operator.index(degree) for degree in degrees)
    except TypeError as error:
        raise ValueError(
            f"degrees must be different whole numbers from 0 on, such as (1, 2, 3), got {degrees!r}"
        ) from error
