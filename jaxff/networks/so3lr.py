"""SO3LR: a SO3krates with repulsion of nuclei, electrostatics and dispersion beside it."""

import functools
import math
from dataclasses import asdict
from typing import Any

import jax

from jaxff import physics
from jaxff.networks.readouts import dipole_about_origin
from jaxff.networks.so3krates import so3krates
from jaxff.physics.zbl import UNIVERSAL
from jaxff.potential import Potential, Spec
from jaxff.radial.cutoffs import smooth_switching, smoothstep
from jaxff.system import System, sum_atoms
from jaxff.types import Array, Outputs, Params

__all__ = ["so3lr"]

_COULOMB = 14.399645351950548  # eV Å, CODATA 2014
_BONDED = 1.5  # Å: where the repulsion ends
_NEEDED = {"hirshfeld_ratios", "partial_charges"}


def so3lr(
    long_range_cutoff: float | None = 12.0,
    *,
    charge_width: float = 4.0,
    dispersion_damping: float = 1.2,
    taper: float = 2.0,
    ewald: physics.EwaldPlan | None = None,
    **options: Any,
) -> Potential:
    r"""A SO3krates whose charges and Hirshfeld ratios enter known interactions.

    :math:`E = E_{nn} + E_{rep} + E_{ele} + E_{disp}`: repulsion of screened nuclei up to 1.5 Å,
    damped electrostatics, and dispersion of quantum Drude oscillators. Outputs besides ``energy``
    and ``atomic_energies``: ``network_energy``, ``repulsion_energy``, ``electrostatic_energy``,
    ``dispersion_energy`` (eV), ``partial_charges`` (e), ``hirshfeld_ratios``, and for molecules
    ``dipole`` (e·Å, as published about the origin, which matters for ions). Parameters are
    ``{"network": ..., "repulsion": ...}``.

    Args:
        long_range_cutoff: Of electrostatics and dispersion, Å; ``None`` for all pairs of molecules.
            With a cutoff energies are shifted to zero there: they differ from those without.
        charge_width: Width of the charges in Å, see :func:`jaxff.physics.erf_damped`.
        dispersion_damping: Scale of the damping of dispersion.
        taper: Dispersion is switched off over this many Å before the cutoff.
        ewald: For crystals and liquids: electrostatics with all periodic images by this plan,
            ``jaxff.physics.ewald_plan(cell, width=charge_width)``; the cutoff is that of dispersion
            alone. The energy in a growing box goes to that of the molecule without a cutoff, with
            the dipole as :math:`-2 \pi k \mu^2 / 3V`, with a total charge Q, against which there is
            a uniform background, as :math:`-1.4186\,k Q^2/L` in a cube. Single systems and stacks,
            no packs.
        **options: Of the network, see :func:`jaxff.networks.so3krates`; those of SO3LR by default,
            total charge and spin among them.

    Raises:
        ValueError: For options that make no sense.
    Reference:
        Kabylda et al., J. Am. Chem. Soc. 147, 33723 (2025), doi:10.1021/jacs.5c09558.
    """
    published = {
        "cutoff": 4.5,
        "features": 128,
        "degrees": (1, 2, 3, 4),
        "radial_basis": "bernstein",
        "cutoff_function": "smoothstep",
        "attention_norm": 13.168995780096482,  # mean number of neighbours of its training data
        "layer_norm": "post",
        "residual_mlps": ("added", "none"),
        "element_energies": True,
        "charge": True,
        "spin": True,
    }
    outputs = options.pop("outputs", ())
    if isinstance(outputs, str):
        raise ValueError(f"outputs must be a sequence of names, got {outputs!r}: ({outputs!r},)")
    asked = set(outputs)
    given = {
        "charge_width": charge_width, "dispersion_damping": dispersion_damping, "taper": taper
    }  # fmt: skip
    for name, value in given.items():
        if not 0.0 < value < math.inf:
            raise ValueError(f"{name} must be a positive number, got {value}")
    network = so3krates(
        **(published | options), outputs=tuple(sorted((asked - {"dipole"}) | _NEEDED))
    )
    if not network.cutoffs:
        raise ValueError("so3lr has long-range terms instead of nonlocal_attention: leave it out")
    (cutoff,) = network.cutoffs
    far = None if long_range_cutoff is None else float(long_range_cutoff)
    if far is not None and not max(cutoff, taper) <= far < float("inf"):
        raise ValueError(
            f"long_range_cutoff must be at least the cutoff, {cutoff} Å, and the taper, {taper} Å; "
            f"got {long_range_cutoff}"
        )

    if ewald is not None:
        _check_plan(ewald, charge_width, far)

    def init(key: Array, system: System, neighbors: Any = None, **named: Any) -> Params:
        start = network.init(key, system, neighbors, **named)
        return {"network": start, "repulsion": UNIVERSAL.to_raw()}

    def apply(params: Params, system: System, neighbors: Any = None) -> Outputs:
        if system.batch_shape and not system.is_packed:
            return jax.vmap(lambda s, n: apply(params, s, n))(system, neighbors)
        outputs = dict(network.apply(params["network"], system, neighbors))
        terms = _terms(params["repulsion"], outputs, system, neighbors)
        outputs["network_energy"] = outputs["energy"]
        for name, atomic in terms.items():
            outputs[name] = sum_atoms(system, atomic)
            outputs["energy"] = outputs["energy"] + outputs[name]
            outputs["atomic_energies"] = outputs["atomic_energies"] + atomic
        if system.cell is None:
            outputs["dipole"] = dipole_about_origin(system, outputs["partial_charges"])
        return outputs

    def _terms(
        repulsion: Params, outputs: Outputs, system: System, neighbors: Any
    ) -> dict[str, Array]:
        """Energies of atoms."""
        near = neighbors.within(cutoff)
        pairs = None if far is None else neighbors.within(far)
        envelope = functools.partial(_envelope, cutoff=cutoff)
        charges, ratios = outputs["partial_charges"], outputs["hirshfeld_ratios"]
        if ewald is None:
            damped = functools.partial(physics.erf_damped, width=charge_width, cutoff=far)
            electrostatic = physics.coulomb_energies(
                charges, system, pairs, damped, constant=_COULOMB
            )
        else:
            electrostatic = physics.ewald_energies(charges, system, ewald, constant=_COULOMB)
        return {
            "repulsion_energy": physics.repulsion_energies(
                physics.screening_of(repulsion), system, near, envelope, constant=_COULOMB
            ),
            "electrostatic_energy": electrostatic,
            "dispersion_energy": physics.dispersion_energies(
                ratios, system, pairs, damping=dispersion_damping, cutoff=far, taper=taper
            ),
        }

    own = {
        "long_range_cutoff": far,
        "charge_width": charge_width,
        "dispersion_damping": dispersion_damping,
        "taper": taper,
        "ewald": None if ewald is None else Spec("ewald_plan", asdict(ewald)),
    }
    arguments = {} if network.spec is None else network.spec.arguments
    return Potential(
        init,
        apply,
        (cutoff,) if far is None else tuple(sorted({cutoff, far})),
        network.uses | {"charge"},  # which the charges add up to
        Spec("so3lr", {**arguments, **own}),
    )


def _check_plan(plan: physics.EwaldPlan, width: float, cutoff: float | None) -> None:
    if not isinstance(plan, physics.EwaldPlan):
        raise TypeError(f"ewald must be a plan of ewald_plan(cell, width={width}), got {plan!r}")
    if cutoff is None:
        raise ValueError("an Ewald sum leaves dispersion to a cutoff: give long_range_cutoff")
    if not math.isclose(plan.smearing, width / math.sqrt(2.0), rel_tol=1e-12):
        raise ValueError(
            f"the Ewald plan is for charges of the width {plan.smearing * math.sqrt(2.0):.6g} Å, "
            f"those here have {width} Å: make it by ewald_plan(cell, width={width})"
        )


def _envelope(distances: Array, cutoff: float) -> Array:
    return smoothstep(distances, cutoff) * smooth_switching(distances, 0.0, _BONDED)
