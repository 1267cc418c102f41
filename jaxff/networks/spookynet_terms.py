"""What SpookyNet adds to its network: repulsion of nuclei, electrostatics and dispersion."""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxff import physics, units
from jaxff.physics.d4 import in_precision, reference_polarizabilities
from jaxff.physics.zbl import UNIVERSAL
from jaxff.radial.cutoffs import bump
from jaxff.system import System
from jaxff.types import Array, Float, Params

__all__ = ["Terms"]

_COULOMB = 14.399645351950548  # eV Å, CODATA 2014
_HARTREE = 27.211386024367243  # eV, likewise
_DISPERSION = {"s8": 1.61679827, "a1": 0.44959224, "a2": 3.35743605, "charge_scale": 1.0}
"""Where damping (of Hartree-Fock) and the scale of charges in reference systems start."""


@dataclass(frozen=True, eq=False)
class Terms:
    """Which terms there are, and how they are computed.

    Attributes:
        cutoff: Of the network, Å: that of the repulsion, and where charges are softened.
        far: Cutoff of electrostatics and dispersion, Å; ``None`` for all pairs of molecules.
        repulsion: Whether nuclei repel each other.
        electrostatics: Whether charges interact.
        ewald: Plan of electrostatics with all periodic images.
        tables: Reference data of D4; ``None`` without dispersion.
    """

    cutoff: float
    far: float | None
    repulsion: bool
    electrostatics: bool
    ewald: physics.EwaldPlan | None
    tables: physics.D4Tables | None

    def init(self) -> Params:
        """Parameters that may take any value."""
        params: dict[str, Params] = {}
        if self.repulsion:
            params["repulsion"] = UNIVERSAL.to_raw()
        if self.tables is not None:
            params["dispersion"] = {
                name: jnp.asarray(np.log(np.expm1(value))) for name, value in _DISPERSION.items()
            }
        return params

    def evaluate(
        self, params: Params, charges: Float[Array, " atoms"], system: System, neighbors: Any
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Energies of atoms by name of the term, and what dispersion knows of the atoms."""
        pairs = None if self.far is None else neighbors.within(self.far)
        energies: dict[str, Array] = {}
        others: dict[str, Array] = {}
        if self.repulsion:
            energies["repulsion_energy"] = physics.repulsion_energies(
                physics.screening_of(params["repulsion"]),
                system,
                neighbors.within(self.cutoff),
                functools.partial(bump, cutoff=self.cutoff),
                constant=_COULOMB,
            )
        if self.electrostatics:
            energies["electrostatic_energy"] = self._electrostatics(charges, system, pairs)
        if self.tables is not None:
            energies["dispersion_energy"], others = _dispersion(
                self.tables, params["dispersion"], charges, system, pairs, self.far
            )
        return energies, others

    def _electrostatics(self, charges: Array, system: System, pairs: Any) -> Array:
        softened = functools.partial(physics.softened, reach=self.cutoff)
        if self.ewald is not None:
            return physics.ewald_energies(
                charges, system, self.ewald, pairs, softened, constant=_COULOMB
            )
        softened = functools.partial(softened, cutoff=self.far)
        return physics.coulomb_energies(charges, system, pairs, softened, constant=_COULOMB)


def _dispersion(
    tables: physics.D4Tables,
    params: Params,
    charges: Float[Array, " atoms"],
    system: System,
    pairs: Any,
    cutoff: float | None,
) -> tuple[Float[Array, " atoms"], dict[str, Array]]:
    """Energies of atoms, and their polarizabilities and dispersion coefficients."""
    tables = in_precision(tables, charges.dtype)
    positive = {name: jax.nn.softplus(jnp.asarray(params[name])) for name in _DISPERSION}
    scale = positive.pop("charge_scale")
    found = physics.d4_dispersion(
        charges,
        system,
        pairs,
        tables,
        physics.BeckeJohnson(s6=1.0, **positive),
        charge_scale=scale,
        cutoff=cutoff,
        hartree=_HARTREE,
    )
    numbers = jnp.minimum(system.numbers, len(tables.radii) - 1)
    # Static ones as published: reference systems with the charges that they have.
    references = reference_polarizabilities(tables)[:, :, 0]
    static = jnp.sum(found.weights * references[numbers], axis=1) * units.BOHR**3
    weights = 3.0 / jnp.pi * tables.frequency_weights
    c6 = jnp.sum(weights * found.polarizabilities**2, axis=1) * (_HARTREE * units.BOHR**6)
    real = system.numbers > 0
    return found.energies, {
        "atomic_polarizabilities": jnp.where(real, static, 0.0),
        "atomic_c6": jnp.where(real, c6, 0.0),
    }
