"""From features of atoms to physical quantities."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxff.networks.blocks import ACTIVATIONS, Dense, ElementEmbedding, Stack
from jaxff.system import System, sum_atoms, to_atoms
from jaxff.types import Array, Float, Int

__all__ = [
    "OUTPUTS",
    "AtomicValues",
    "ElementCharges",
    "GatedEquivariant",
    "HirshfeldRatios",
    "VectorReadout",
    "conserve_charge",
    "dipole",
    "dipole_about_origin",
    "electrostatic_outputs",
]

OUTPUTS = ("dipole", "features", "partial_charges")
"""What all networks give on request besides energies."""


class AtomicValues(nn.Module):
    """One number per atom by a pyramid of dense layers, features to half of them to one.

    Attributes:
        activation: Name in :data:`jaxff.networks.blocks.ACTIVATIONS`.
    """

    activation: str = "silu"

    @nn.compact
    def __call__(self, features: Float[Array, "atoms features"]) -> Float[Array, " atoms"]:
        """The numbers, in the unit in which the network is trained."""
        return Stack((max(1, features.shape[-1] // 2), 1), self.activation, name="stack")(features)[
            :, 0
        ]


class ElementCharges(nn.Module):
    """Charges by two dense layers and a constant of the element.

    Attributes:
        max_number: Last atomic number.
    """

    max_number: int

    @nn.compact
    def __call__(
        self, numbers: Int[Array, " atoms"], features: Float[Array, "atoms features"]
    ) -> Float[Array, " atoms"]:
        """Charges before conservation, in e."""
        own = ElementEmbedding(1, self.max_number, name="elements")(numbers)
        return (Stack((features.shape[-1], 1), "silu", name="stack")(features) + own)[:, 0]


class HirshfeldRatios(nn.Module):
    r"""Volumes of atoms relative to free ones, :math:`|v_Z + q_Z\cdot k/\sqrt{n}|`.

    The vectors q and the numbers v belong to elements, k are two dense layers on the features.

    Attributes:
        max_number: Last atomic number.

    Reference:
        Kabylda et al., J. Am. Chem. Soc. 147, 33723 (2025), doi:10.1021/jacs.5c09558.
    """

    max_number: int

    @nn.compact
    def __call__(
        self, numbers: Int[Array, " atoms"], features: Float[Array, "atoms features"]
    ) -> Float[Array, " atoms"]:
        """Ratios; zero for padding."""
        size = max(1, features.shape[-1] // 2)
        own = ElementEmbedding(1, self.max_number, name="elements")(numbers)[:, 0]
        query = ElementEmbedding(size, self.max_number, name="query")(numbers)
        key = Stack((size, size), "silu", name="key")(features)
        ratios = jnp.abs(own + jnp.sum(query * key, axis=-1) / np.sqrt(size).item())
        return jnp.where(numbers > 0, ratios, 0.0)


class GatedEquivariant(nn.Module):
    """Scalars and vectors of fewer channels, vectors gated by scalars.

    Attributes:
        features: Channels of the result.
        activate: Whether the scalars are activated.

    Reference:
        Schütt, Unke & Gastegger, Proc. Mach. Learn. Res. 139, 9377 (2021), arXiv:2102.03150,
        fig. 3.
    """

    features: int
    activate: bool

    @nn.compact
    def __call__(
        self, scalars: Float[Array, "atoms features"], vectors: Float[Array, "atoms 3 features"]
    ) -> tuple[Float[Array, "atoms _"], Float[Array, "atoms 3 _"]]:
        """Scalars and vectors."""
        size = scalars.shape[-1]
        mixed = Dense(size + self.features, use_bias=False, name="mix")(vectors)
        # The small number keeps derivatives of all orders finite where a vector vanishes.
        norm = jnp.sqrt(jnp.sum(mixed[..., :size] ** 2, axis=1) + 1e-8)
        both = jnp.concatenate([scalars, norm], axis=-1)
        out = Stack((size, 2 * self.features), "silu", name="stack")(both)
        scalars, gate = jnp.split(out, 2, axis=-1)
        vectors = gate[:, None] * mixed[..., size:]
        return (ACTIVATIONS["silu"](scalars) if self.activate else scalars), vectors


class VectorReadout(nn.Module):
    """One number and one vector per atom, by two gated blocks."""

    @nn.compact
    def __call__(
        self, scalars: Float[Array, "atoms features"], vectors: Float[Array, "atoms 3 features"]
    ) -> tuple[Float[Array, " atoms"], Float[Array, "atoms 3"]]:
        """Charges before conservation, and atomic dipoles."""
        half = max(1, scalars.shape[-1] // 2)
        scalars, vectors = GatedEquivariant(half, True, name="gated_0")(scalars, vectors)
        scalars, vectors = GatedEquivariant(1, False, name="gated_1")(scalars, vectors)
        return scalars[:, 0], vectors[:, :, 0]


def conserve_charge(system: System, charges: Float[Array, " atoms"]) -> Float[Array, " atoms"]:
    r"""Spread what is missing to the total charge evenly, :math:`q_i + (Q - \sum_j q_j)/N`.

    Structures without a ``charge`` are neutral; padding atoms have no charge.

    Reference:
        Unke & Meuwly, J. Chem. Theory Comput. 15, 3678 (2019), doi:10.1021/acs.jctc.9b00181.
    """
    real = system.numbers > 0
    count = jnp.maximum(sum_atoms(system, jnp.ones_like(charges)), 1.0)
    excess = sum_atoms(system, charges)
    if system.charge is not None:
        excess = excess - system.charge.astype(charges.dtype)
    return jnp.where(real, charges - to_atoms(system, excess / count), 0.0)


def dipole(
    system: System,
    charges: Float[Array, " atoms"],
    atomic_dipoles: Float[Array, "atoms 3"] | None = None,
) -> Float[Array, "*structures 3"]:
    r"""Dipole moment :math:`\sum_i q_i r_i + \mu_i` in e·Å, about the mean of the positions.

    The origin matters for charged structures only.

    Raises:
        ValueError: If the system is periodic, where the sum depends on the choice of images.
    """
    if system.cell is not None:
        raise ValueError(
            "the dipole moment of a periodic system is not defined by charges and positions: "
            "leave 'dipole' out of the outputs of the network, or remove the cell"
        )
    count = jnp.maximum(sum_atoms(system, jnp.ones_like(charges)[:, None]), 1.0)
    mean = sum_atoms(system, system.positions) / count
    moments = charges[:, None] * (system.positions - to_atoms(system, mean))
    if atomic_dipoles is not None:
        moments = moments + atomic_dipoles
    return sum_atoms(system, moments)


def dipole_about_origin(
    system: System, charges: Float[Array, " atoms"]
) -> Float[Array, "*structures 3"]:
    r"""Dipole moment :math:`\sum_i q_i r_i` in e·Å of charges that add up to the total charge.

    Far from the origin it keeps its digits: the exact total charge counts there, not the rounded
    sum. Structures without a ``charge`` are neutral.

    Raises:
        ValueError: If the system is periodic.
    """
    about_mean = dipole(system, charges)
    if system.charge is None:
        return about_mean
    count = jnp.maximum(sum_atoms(system, jnp.ones_like(charges)), 1.0)
    mean = sum_atoms(system, system.positions) / count[..., None]
    return about_mean + system.charge[..., None] * mean


def electrostatic_outputs(
    system: System,
    outputs: Sequence[str],
    charges: Float[Array, " atoms"],
    atomic_dipoles: Float[Array, "atoms 3"] | None = None,
) -> dict[str, Array]:
    """Those of ``partial_charges`` and ``dipole`` that are asked for, from raw charges."""
    charges = conserve_charge(system, charges)
    result: dict[str, Array] = {}
    if "partial_charges" in outputs:
        result["partial_charges"] = charges
    if "dipole" in outputs:
        result["dipole"] = dipole(system, charges, atomic_dipoles)
    return result
