"""Potentials of charges that another potential gives, to be added to it.

``add(network, electrostatics(reach=5.0), d4())`` is a sum like any other: whatever has an output
``partial_charges`` will do, and forces flow through the charges. :func:`fixed_charges` gives those
of a classical force field to models without.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxff.elements import distinct_numbers
from jaxff.physics.coulomb import coulomb_energies, erf_damped, softened
from jaxff.physics.d4 import d4_dispersion, d4_tables
from jaxff.physics.dispersion import BeckeJohnson
from jaxff.physics.ewald import EwaldPlan, ewald_energies
from jaxff.physics.species import named_parameters
from jaxff.potential import Potential, Spec
from jaxff.system import System, sum_atoms
from jaxff.types import Array, Outputs, Params

__all__ = ["d4", "electrostatics", "fixed_charges"]

_CHARGES = frozenset({"partial_charges"})


def electrostatics(
    *,
    reach: float | None = None,
    width: float | None = None,
    cutoff: float | None = None,
    ewald: EwaldPlan | None = None,
) -> Potential:
    r"""Coulomb energy of the charges of another potential, which :func:`jaxff.add` hands over.

    Outputs: ``energy``, ``atomic_energies`` and ``electrostatic_energy``. There are no parameters.

    Args:
        reach: Of the short-range part of the model, Å: below three quarters of it charges are
            softened, :func:`jaxff.physics.softened`.
        width: σ in Å, in place of the reach: Gaussian charges,
            :func:`jaxff.physics.erf_damped`.
        cutoff: Radius in Å at which energy and force are shifted to zero, or where the real part
            of an Ewald sum ends; ``None`` for all pairs of molecules.
        ewald: Plan of a sum over all periodic images, ``ewald_plan(cell, cutoff=cutoff)`` with a
            reach and ``ewald_plan(cell, width=width)`` with a width. For single systems.

    Raises:
        ValueError: Unless one of reach and width is given; for lengths that are not positive, a
            cutoff below the reach, or a plan that does not belong to them.
    Reference:
        Unke et al., Nat. Commun. 12, 7273 (2021), doi:10.1038/s41467-021-27504-0; Kabylda et al.,
        J. Am. Chem. Soc. 147, 33723 (2025).
    """
    if (reach is None) == (width is None):
        raise ValueError(
            f"give either the reach of softened charges or the width of Gaussian ones, got "
            f"reach={reach}, width={width}"
        )
    for name, length in (("reach", reach), ("width", width), ("cutoff", cutoff)):
        if length is not None and not 0.0 < length < float("inf"):
            raise ValueError(f"{name} must be a positive number in Å, got {length}")
    if reach is not None and cutoff is not None and cutoff < reach:
        raise ValueError(f"cutoff must be at least the reach, {reach} Å; got {cutoff} Å")
    if ewald is not None:
        _check_plan(ewald, reach, width, cutoff)
    return _electrostatics(reach, width, cutoff, ewald)


def _check_plan(
    plan: EwaldPlan, reach: float | None, width: float | None, cutoff: float | None
) -> None:
    if reach is not None and cutoff is None:
        raise ValueError("the real part of an Ewald sum ends at a cutoff: give that of the plan")
    if width is not None and cutoff is not None:
        raise ValueError("an Ewald sum of Gaussian charges is a sum over waves: give no cutoff")
    if width is not None and not math.isclose(plan.smearing, width / math.sqrt(2), rel_tol=1e-12):
        raise ValueError(
            f"the Ewald plan is for charges of the width {plan.smearing * math.sqrt(2):.6g} Å, "
            f"those here have {width} Å: make it by ewald_plan(cell, width={width})"
        )


@functools.lru_cache(maxsize=64)
def _electrostatics(
    reach: float | None, width: float | None, cutoff: float | None, ewald: EwaldPlan | None
) -> Potential:
    if reach is not None:
        interaction = functools.partial(softened, reach=reach)
    else:
        assert width is not None
        interaction = functools.partial(erf_damped, width=width)

    def energies(charges: Array, system: System, neighbors: Any) -> Array:
        pairs = None if cutoff is None else neighbors.within(cutoff)
        if ewald is None:
            own = functools.partial(interaction, cutoff=cutoff)
            return coulomb_energies(charges, system, pairs, own)
        if width is not None:
            return ewald_energies(charges, system, ewald)
        return ewald_energies(charges, system, ewald, pairs, interaction)

    def apply(
        params: Params, system: System, neighbors: Any = None, given: Outputs | None = None
    ) -> Outputs:
        del params
        found = energies(_charges(given, system, "electrostatics"), system, neighbors)
        return _outputs(system, found, "electrostatic_energy")

    arguments = {
        "reach": reach, "width": width, "cutoff": cutoff,
        "ewald": None if ewald is None else Spec("ewald_plan", asdict(ewald)),
    }  # fmt: skip
    return Potential(
        _nothing, apply, () if cutoff is None else (cutoff,), reads=_CHARGES,
        spec=Spec("electrostatics", arguments),
    )  # fmt: skip


def d4(cutoff: float | None = None) -> Potential:
    """D4 dispersion with the charges of another potential, which :func:`jaxff.add` hands over.

    ``init`` takes ``s6``, ``s8``, ``a1`` and ``a2`` (Bohr) by name, the parameters of a functional;
    they can be fitted. Two-body terms only; elements beyond radon give NaN. Outputs: ``energy``,
    ``atomic_energies``, ``dispersion_energy`` and ``coordination_numbers``.

    Args:
        cutoff: Radius in Å at which energy and force are shifted to zero; ``None`` for all pairs
            of molecules.

    Raises:
        ValueError: For a cutoff that is not positive.
    Reference:
        Caldeweyher et al., J. Chem. Phys. 150, 154122 (2019), doi:10.1063/1.5090222.
    """
    if cutoff is not None and not 0.0 < cutoff < float("inf"):
        raise ValueError(f"cutoff must be a positive number in Å, got {cutoff}")
    return _d4(None if cutoff is None else float(cutoff))


@functools.lru_cache(maxsize=64)
def _d4(cutoff: float | None) -> Potential:
    tables = d4_tables()

    def init(key: Any = None, system: Any = None, neighbors: Any = None, **named: Any) -> Params:
        del key, system, neighbors
        given = named_parameters(named, BeckeJohnson._fields)
        return {name: jnp.asarray(float(value)) for name, value in given.items()}

    def apply(
        params: Params, system: System, neighbors: Any = None, given: Outputs | None = None
    ) -> Outputs:
        pairs = None if cutoff is None else neighbors.within(cutoff)
        charges = _charges(given, system, "d4")
        found = d4_dispersion(charges, system, pairs, tables, BeckeJohnson(**params), cutoff=cutoff)
        outputs = _outputs(system, found.energies, "dispersion_energy")
        return {**outputs, "coordination_numbers": found.coordination}

    cutoffs = () if cutoff is None else (cutoff,)
    return Potential(init, apply, cutoffs, reads=_CHARGES, spec=Spec("d4", {"cutoff": cutoff}))


def fixed_charges(elements: Sequence[str | int] | str | int) -> Potential:
    """Charges of the elements as an output; its energy is zero.

    ``init`` takes ``charges`` by name, one number in e per element, which can be fitted. They add
    up to what they do: the total charge of the system is not read. Other elements give NaN.

    Args:
        elements: Symbols or atomic numbers.
    """
    return _fixed_charges(distinct_numbers(elements))


@functools.lru_cache(maxsize=64)
def _fixed_charges(elements: tuple[int, ...]) -> Potential:
    def init(key: Any = None, system: Any = None, neighbors: Any = None, **named: Any) -> Params:
        del key, system, neighbors
        charges = np.asarray(named_parameters(named, ("charges",))["charges"], float)
        if charges.shape != (len(elements),):
            raise ValueError(
                f"charges must be one number for each of {len(elements)} elements, got the shape "
                f"{charges.shape}"
            )
        return {"charges": jnp.asarray(charges)}

    def apply(params: Params, system: System, neighbors: Any = None) -> Outputs:
        del neighbors
        own = system.numbers[..., None] == jnp.asarray(elements)
        charges = jnp.sum(jnp.where(own, params["charges"], 0.0), axis=-1)
        known = own.any(axis=-1) | (system.numbers == 0)
        # Positions keep derivatives by them in place, all of them zero.
        zeros = 0.0 * jnp.sum(system.positions, axis=-1)
        return {
            "energy": sum_atoms(system, zeros),
            "atomic_energies": zeros,
            "partial_charges": jnp.where(known, charges, jnp.nan),
        }

    return Potential(init, apply, spec=Spec("fixed_charges", {"elements": list(elements)}))


def _nothing(key: Any = None, system: Any = None, neighbors: Any = None, **named: Any) -> Params:
    """There are no parameters."""
    del key, system, neighbors
    return named_parameters(named, ())


def _charges(given: Outputs | None, system: System, name: str) -> Array:
    if system.batch_shape and not system.is_packed:
        raise ValueError(
            f"a stack of shape {system.batch_shape} has no common pairs: use pack, or jax.vmap"
        )
    if given is None or "partial_charges" not in given:
        raise ValueError(
            f"this potential reads partial_charges of another one: use "
            f"add(potential, {name}(...)), with one that gives them"
        )
    return given["partial_charges"]


def _outputs(system: System, energies: Array, name: str) -> Outputs:
    total = sum_atoms(system, energies)
    return {"energy": total, "atomic_energies": energies, name: total}
