"""SpookyNet: a network with charge, spin and nonlocal effects, and known interactions beside it."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxff import physics
from jaxff.networks.blocks import computed_once, require_positive
from jaxff.networks.electrons import LAST
from jaxff.networks.graph import Graph
from jaxff.networks.linen import from_linen
from jaxff.networks.options import check_outputs, dtype_name, uses
from jaxff.networks.readouts import conserve_charge, dipole_about_origin
from jaxff.networks.spookynet_blocks import (
    ElectronicEmbedding,
    NuclearEmbedding,
    RadialFunctions,
    linear,
)
from jaxff.networks.spookynet_layers import Interaction, harmonics
from jaxff.networks.spookynet_options import (
    check_range,
    directions_of,
    require_probability,
    tables_of,
)
from jaxff.networks.spookynet_terms import Terms
from jaxff.potential import Potential, Spec
from jaxff.system import System, sum_atoms, to_atoms
from jaxff.types import Array, Float, Outputs, Params

__all__ = ["SpookyNet", "spookynet"]

_TEN_BOHR = 5.291772105638412  # Å, CODATA 2014


class SpookyNet(nn.Module):
    """The network; see :func:`spookynet` for the meaning of its attributes."""

    cutoff: float
    features: int
    radial_functions: int
    modules: int
    residuals: int
    keep_last_module: float
    totals: Sequence[str]
    far: bool
    directions: Any
    outputs: Sequence[str]
    max_number: int
    zero_start: bool = True

    @nn.compact
    def __call__(self, system: System, graphs: tuple[Graph, ...]) -> dict[str, Array]:
        """Atomic energies, and charges that need not add up to the total one."""
        edges = graphs[0].edges
        radial = RadialFunctions(self.radial_functions, self.cutoff, name="radial")(edges.distances)
        radial = computed_once(jnp.where(edges.mask[:, None], radial, 0.0))
        lengths = jnp.where(edges.distances == 0.0, 1.0, edges.distances)[:, None]
        first, second = harmonics(edges.vectors / lengths)
        shapes = computed_once(first), computed_once(second)
        x = elements = NuclearEmbedding(
            self.features, self.max_number, self.zero_start, name="nuclei"
        )(system.numbers)
        self.sow("intermediates", "nuclei_embedded", elements)
        for name in self.totals:
            share = ElectronicEmbedding(name, self.residuals, name=name)(system, elements)
            self.sow("intermediates", f"{name}_embedded", share)
            x = x + share
        total, kept = jnp.zeros_like(x), self._kept(system)
        for index in range(self.modules):
            table = None if self.directions is None else self.directions[index]
            module = Interaction(self.residuals, self.far, table, name=f"module_{index}")
            x, share = module(x, system, edges, radial, shapes)
            self.sow("intermediates", f"after_{index}", (x, share))
            if kept is not None and index:
                share = to_atoms(system, kept[index - 1])[:, None] * share
            total = total + share
        start = nn.initializers.zeros
        table = self.param("elements", start, (self.max_number + 1, 2)).astype(x.dtype)
        values = linear(2, "readout")(total) + table.at[system.numbers].get(
            mode="fill", fill_value=jnp.nan
        )
        result = {"atomic_energies": values[:, 0], "partial_charges": values[:, 1]}
        return result | ({"features": total} if "features" in self.outputs else {})

    def _kept(self, system: System) -> Float[Array, "modules *structures"] | None:
        """Which of the modules after the first count; ``None`` if all of them do.

        With one module all that follow it are left out, so that what they add becomes small.
        """
        count = self.modules - 1
        if not count or self.keep_last_module == 1.0 or not self.has_rng("dropout"):
            return None
        each = self.keep_last_module ** (1.0 / count)
        shape = (count, *system.batch_shape)
        drawn = jax.random.bernoulli(self.make_rng("dropout"), each, shape)
        return jnp.cumprod(drawn.astype(system.positions.dtype), axis=0)


def spookynet(
    cutoff: float = _TEN_BOHR,
    *,
    features: int = 64,
    radial_functions: int = 16,
    modules: int = 3,
    residuals: int = 1,
    keep_last_module: float = 0.9,
    nonlocal_attention: str = "exact",
    random_features: int | None = None,
    seed: int = 0,
    directions: Any = None,
    charge_embedding: bool = True,
    spin_embedding: bool = True,
    repulsion: bool = True,
    electrostatics: bool = True,
    dispersion: bool = True,
    long_range_cutoff: float | None = None,
    ewald: physics.EwaldPlan | None = None,
    dispersion_tables: Any = None,
    outputs: Sequence[str] = (),
    max_number: int = LAST,
    zero_start: bool = True,
    dtype: Any = "float32",
) -> Potential:
    r"""SpookyNet, for molecules and crystals of any charge and spin.

    Atoms start with what their element, the total charge and the unpaired electrons make of them.
    In each module they receive, through filters of distance and direction, from neighbours, and
    through attention from all atoms of the structure. Energies and charges of atoms are read from
    the sum of what the modules give; charges add up to the total charge exactly. To the network are
    added repulsion of screened nuclei with trained screening, electrostatics of the charges, and
    D4 dispersion with them, whose damping is trained.

    Both ``charge`` and ``spin`` of a system must be given, unless an option leaves the latter out.
    Outputs besides ``energy``, ``atomic_energies`` and ``partial_charges`` (e): ``network_energy``,
    ``repulsion_energy``, ``electrostatic_energy``, ``dispersion_energy`` (eV), of D4
    ``atomic_polarizabilities`` (Å³) and ``atomic_c6`` (eV Å⁶), and for molecules ``dipole`` (e·Å,
    as published about the origin, which matters for ions). Parameters are ``{"network": ...}``,
    ``"repulsion"`` and ``"dispersion"``.

    Nonlocal attention is not size-consistent: what it gives to an atom is a mean over the
    structure, so that molecules at any distance know of each other. Weights start orthogonal; those
    that lead out of a block, and embeddings of elements, start at zero. In training the
    last modules are left out at random, of each structure by itself; in all else they count.

    Args:
        cutoff: Radius of the network in Å.
        features: Their number (the paper's models of molecules: 128).
        radial_functions: Number of radial functions.
        modules: Number of modules (the paper's models of molecules: 6).
        residuals: Residual blocks in each stack.
        keep_last_module: Probability p with which the last of M modules counts in a step of
            training. A module is left out where the one before it is, or else with probability
            :math:`1 - p^{1/(M-1)}`; the first one never is. 1 leaves none out.
        nonlocal_attention: ``"exact"``, whose cost grows with the square of the atoms of a
            structure or pack, ``"features"``, random ones (as published), with linear cost, or
            ``"none"``.
        random_features: Their number; by default as many as features.
        seed: They are drawn with it; part of the model.
        directions: In place of those drawn, of shape ``(modules, features, random features)``.
        charge_embedding: Whether atoms know the total charge. It is conserved in any case.
        spin_embedding: Whether atoms know the number of unpaired electrons.
        repulsion: Whether nuclei repel each other.
        electrostatics: Whether charges interact.
        dispersion: Whether there is D4 dispersion.
        long_range_cutoff: Of electrostatics and dispersion, Å; ``None`` for all pairs of molecules.
            With a cutoff energies are shifted to zero there: they differ from those without.
        ewald: For crystals and liquids: electrostatics with all periodic images by this plan,
            ``jaxff.physics.ewald_plan(cell, cutoff=long_range_cutoff)``. Single systems and stacks,
            no packs.
        dispersion_tables: Reference data of D4 other than :func:`jaxff.physics.d4_tables`.
        outputs: Besides the above ``"features"``, the sum of what the modules give.
        max_number: Highest atomic number; others give NaN.
        zero_start: Whether embeddings of elements start at zero, as published. All atoms are alike
            then, and the first thousand steps of a training tell them apart.
        dtype: Precision of the network.

    Raises:
        ValueError: For options that make no sense.
    Reference:
        Unke et al., Nat. Commun. 12, 7273 (2021), doi:10.1038/s41467-021-27504-0.
    """
    require_positive(
        features=features, radial_functions=radial_functions, modules=modules,
        residuals=residuals, max_number=max_number,
    )  # fmt: skip
    require_probability(keep_last_module=keep_last_module)
    drawn = directions_of(nonlocal_attention, modules, features, random_features, seed, directions)
    if max_number > LAST:
        raise ValueError(f"max_number must be at most {LAST}, got {max_number}: SpookyNet reads "
                         "electron configurations, which are tabulated up to radon")  # fmt: skip
    cutoff = float(cutoff)
    if not 0.0 < cutoff < float("inf"):
        raise ValueError(f"cutoff must be a positive number in Å, got {cutoff}")
    far = None if long_range_cutoff is None else float(long_range_cutoff)
    check_range(cutoff, far, electrostatics, dispersion, ewald)
    tables = tables_of(dispersion, dispersion_tables)
    terms = Terms(cutoff, far, repulsion, electrostatics, ewald, tables)
    asked = check_outputs(outputs, ("features",))
    totals = uses(charge_embedding, spin_embedding)
    module = SpookyNet(
        cutoff, features, radial_functions, modules, residuals, keep_last_module, totals,
        nonlocal_attention != "none", drawn, asked, max_number, zero_start,
    )  # fmt: skip
    random = modules > 1 and keep_last_module < 1.0
    network = from_linen(module, (cutoff,), dtype=jnp.dtype(dtype), random=random)

    def init(key: Array, system: System, neighbors: Any = None, **named: Any) -> Params:
        return {"network": network.init(key, system, neighbors, **named), **terms.init()}

    def apply(
        params: Params, system: System, neighbors: Any = None, key: Array | None = None
    ) -> Outputs:
        if system.batch_shape and not system.is_packed:
            keys = None if key is None else jax.random.split(key, system.batch_shape[0])
            return jax.vmap(lambda s, n, k: apply(params, s, n, k))(system, neighbors, keys)
        given = (params["network"], system, neighbors)
        if key is None or network.random_apply is None:
            result = dict(network.apply(*given))
        else:
            result = dict(network.random_apply(*given, key))
        charges = conserve_charge(system, result["partial_charges"])
        energies, others = terms.evaluate(params, charges, system, neighbors)
        result |= {"network_energy": result["energy"], "partial_charges": charges, **others}
        for name, atomic in energies.items():
            result[name] = sum_atoms(system, atomic)
            result["energy"] = result["energy"] + result[name]
            result["atomic_energies"] = result["atomic_energies"] + atomic
        if system.cell is None:
            result["dipole"] = dipole_about_origin(system, charges)
        return result

    arguments = {
        "cutoff": cutoff,
        "features": features,
        "radial_functions": radial_functions,
        "modules": modules,
        "residuals": residuals,
        "keep_last_module": keep_last_module,
        "nonlocal_attention": nonlocal_attention,
        "random_features": random_features,
        "seed": seed,
        "directions": None if directions is None else np.stack(drawn or ()),
        "charge_embedding": charge_embedding,
        "spin_embedding": spin_embedding,
        "repulsion": repulsion,
        "electrostatics": electrostatics,
        "dispersion": dispersion,
        "long_range_cutoff": far,
        "ewald": None if ewald is None else Spec("ewald_plan", asdict(ewald)),
        "dispersion_tables": None if dispersion_tables is None or tables is None
        else tables._asdict(),
        "outputs": asked,
        "max_number": max_number,
        "zero_start": zero_start,
        "dtype": dtype_name(dtype),
    }  # fmt: skip
    return Potential(
        init,
        apply,
        (cutoff,) if far is None else tuple(sorted({cutoff, far})),
        frozenset({"charge", *totals}),
        Spec("spookynet", arguments),
        random_apply=apply if random else None,
    )
