"""Gradient-domain kernel potentials: GDML, sGDML and kin, any descriptor and any kernel."""

import functools
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxff.cell import lattice_norms
from jaxff.gdml import expansion as exp
from jaxff.gdml import jets, prediction
from jaxff.gdml.recipe import kernel_spec
from jaxff.gdml.trial import try_descriptors
from jaxff.kernels.listed import listed
from jaxff.kernels.protocol import SystemKernel, is_kernel, of_features, stage
from jaxff.neighbors import neighbor_list
from jaxff.numerics import require_float64
from jaxff.potential import Potential
from jaxff.system import System, flatten_batch
from jaxff.types import Array, Outputs, Params

__all__ = [
    "OTHER_CELL",
    "KernelPotential",
    "is_of_one_cell",
    "potential",
    "references_of",
    "same_atoms",
]


@dataclass(frozen=True, eq=False)
class KernelPotential(Potential):
    """A potential that is linear in its coefficients.

    :func:`jaxff.gdml.fit` needs to know its kernel.

    Attributes:
        kernel: The kernel.
    """

    kernel: Any = field(kw_only=True)


@functools.lru_cache(maxsize=64)
def potential(kernel: Any) -> KernelPotential:
    r"""Gradient-domain kernel potential.

    Parameters are a dict: ``hyper`` (length scale and descriptor parameters), ``numbers`` (atoms),
    ``references`` (stack of systems), ``coefficients`` (by label), ``expansion`` (what prediction
    reads, see :mod:`jaxff.gdml.expansion` and, for other than radial kernels,
    :mod:`jaxff.gdml.jets`) and ``constant`` (eV).
    If the references have a cell and the kernel declares ``cutoffs``, there are also their
    ``reference_neighbors``, and predictions need neighbour lists as those of any other potential
    do; for a stack they come from ``neighbor_list(cutoffs).allocate_stack(systems)``.
    Global kernels that were fitted in a single cell, without stress labels, hold an empty
    ``one_cell``: they refuse to give a stress, and other cells like other atoms.
    ``init`` takes ``hyper`` by name and places references with zero coefficients;
    :func:`jaxff.gdml.fit` fills them in. It tries descriptors that are not of this library once on
    the first reference, see :func:`jaxff.descriptors.check`.

    One potential accepts single systems and stacks; packs are refused. Atoms in another order or of
    other elements than the references give NaN inside ``jit`` and an error outside.

    Equal kernels give the same object, so that refitting or loading a model compiles nothing anew.

    Args:
        kernel: A :class:`jaxff.kernels.Kernel`, or anything that offers what
            :class:`jaxff.kernels.SystemKernel` does.

    Raises:
        TypeError: If it does not.

    Reference:
        Chmiela et al., Sci. Adv. 3, e1603015 (2017), doi:10.1126/sciadv.1603015;
        Chmiela et al., Nat. Commun. 9, 3887 (2018), doi:10.1038/s41467-018-06169-2.
    """
    if not is_kernel(kernel):
        raise TypeError(f"a kernel on systems is needed, got {type(kernel).__name__}")

    def init(
        key: Array, system: System, neighbors: Any = None, *, hyper: dict[str, Any], **named: Any
    ) -> Params:
        del key, neighbors  # nothing random; references get lists of their own
        if named:
            raise TypeError(f"init takes hyper={{...}} only, got also {sorted(named)}")
        return _place(kernel, system, hyper)

    def apply(params: Params, system: System, neighbors: Any = None) -> Outputs:
        return {"energy": _energy(kernel, params, system, neighbors)}

    cutoffs = cutoffs_of(kernel)
    return KernelPotential(
        init,
        apply,
        cutoffs=cutoffs,
        uses=frozenset(getattr(kernel, "uses", ())),
        spec=kernel_spec(kernel),
        needs=lambda params: cutoffs if "reference_neighbors" in params else (),
        padding=False,
        refuses=_refuses,
        kernel=kernel,
    )


_ONE_CELL = (
    "forces in a single cell do not determine how the energy of a global kernel depends on the "
    "cell: its stress, virial and pressure would be numbers without meaning. Fit it to stress "
    "labels, or to frames of several cells"
)


def _refuses(params: Params) -> dict[str, str]:
    return {"stress": _ONE_CELL} if "one_cell" in params else {}


OTHER_CELL = 1e-3
"""Relative change of a squared lattice vector above which a cell counts as another one."""


def is_of_one_cell(kernel: Any, references: System, labels: Iterable[Any]) -> bool:
    """Whether a fit leaves open how the energy changes with the cell.

    Kernels with a cutoff see the same surroundings in strained cells; global ones do not. Cells of
    other vectors of the same lattice, and turned ones, are one cell; so are those whose squared
    lengths differ by less than a thousandth. Along which strains the others differ is not looked
    at: a stress has a meaning along these.
    """
    if references.cell is None or cutoffs_of(kernel) or {"stress", "virial"} & set(labels):
        return False
    norms = np.asarray(jax.vmap(lattice_norms)(references.cell, _pbc(references)))
    return bool(np.all(np.abs(norms - norms[0]) <= OTHER_CELL * norms[0]))


def _pbc(systems: System) -> Array:
    assert systems.cell is not None
    if systems.pbc is None:
        return jnp.ones(systems.cell.shape[:-1], bool)
    return jnp.broadcast_to(systems.pbc, systems.cell.shape[:-1])


def cutoffs_of(kernel: Any) -> tuple[float, ...]:
    """Radii in Å of the lists that a kernel needs of periodic systems."""
    return tuple(getattr(kernel, "cutoffs", ()))


def references_of(params: Params) -> System:
    """The references of a kernel potential, with their neighbour lists if they have some.

    Raises:
        ValueError: If the parameters hold none.
    """
    if "references" not in params:
        raise ValueError(
            "these parameters hold no reference geometries (models read from sGDML files lack "
            "them): start again from potential.init"
        )
    return listed(params["references"], params.get("reference_neighbors"))


def _place(kernel: Any, systems: System, hyper: dict[str, Any]) -> Params:
    if systems.is_packed or len(systems.batch_shape) != 1:
        raise ValueError(
            "references must be a stack of systems with one leading axis (jaxff.system.stack), got "
            f"positions of shape {systems.positions.shape}"
        )
    require_float64("a kernel fit")
    if systems.positions.dtype != jnp.float64:
        raise TypeError(f"kernel fits need float64 positions, got {systems.positions.dtype}")
    if systems.atom_count < 2 and (systems.cell is None or not cutoffs_of(kernel)):
        raise ValueError(
            "a kernel on interatomic geometry needs at least two atoms, got one; in a cell, a "
            "descriptor with a cutoff sees its images"
        )
    numbers = np.asarray(systems.numbers)
    if (numbers != numbers[0]).any():
        raise ValueError("all references must list the same atoms in the same order")
    if isinstance(kernel, SystemKernel):
        kernel.check_numbers(numbers[0])
    kernel.check_hyper(hyper)
    hyper = {name: jnp.asarray(value, jnp.float64) for name, value in hyper.items()}
    neighbors = None
    if systems.cell is not None and cutoffs_of(kernel):
        neighbors = neighbor_list(cutoffs_of(kernel)).allocate_stack(systems)
    references = listed(systems, neighbors)
    try_descriptors(kernel, hyper, references)
    _check_features(kernel, hyper, references)
    if isinstance(kernel, SystemKernel):
        kernel.check_systems(hyper, references)
    if exp.supports(kernel):
        coefficients = {"forces": jnp.zeros_like(systems.positions)}
        expand = exp.expand_compiled
    else:
        coefficients = {"energy": jnp.zeros(systems.batch_shape)}
        expand = jets.expand_compiled
    expansion = expand(kernel, hyper, references, coefficients, None)  # as fit calls it
    params = {
        "hyper": hyper,
        "numbers": systems.numbers[0],
        "references": systems,
        "coefficients": coefficients,
        "expansion": expansion,
        "constant": jnp.zeros((), jnp.float64),
    }
    if systems.cell is not None:
        params["cell"] = systems.cell[0]
    if neighbors is not None:
        params["reference_neighbors"] = neighbors
    return params


@functools.partial(jax.jit, static_argnums=0)
def _features(kernel: Any, hyper: dict[str, Array], systems: System) -> Any:
    return jax.vmap(lambda system: stage(kernel, "reference")(hyper, system))(systems)


def _check_features(kernel: Any, hyper: dict[str, Array], systems: System) -> None:
    for features in jax.tree.leaves(_features(kernel, hyper, systems)):
        rows = np.asarray(features).reshape(len(features), -1)
        bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if len(bad):
            raise ValueError(
                f"the descriptor of reference geometry {bad[0]} is not finite ({len(bad)} such "
                "geometries): look for atoms in the same place, or coordinates that are not "
                "numbers"
            )


def _energy(kernel: Any, params: Params, system: System, neighbors: Any) -> Array:
    if system.is_packed:
        raise ValueError(
            "a global kernel takes single systems or stacks of equal size, not packs: use stack"
        )
    atoms = params["numbers"].shape[0]
    if system.atom_count != atoms:
        raise ValueError(f"the kernel was made for {atoms} atoms, got {system.atom_count}")
    if (system.cell is None) != ("cell" not in params):
        raise ValueError(
            "the kernel was fitted to periodic geometries: give the system its cell"
            if system.cell is None
            else "the kernel was fitted to molecules without a cell: drop the cell of the system"
        )
    if 0 in system.batch_shape:
        return jnp.zeros(system.batch_shape)
    query = _listed_query(kernel, params, system, neighbors)
    flat = flatten_batch(query)
    expansion = _expansion(kernel, params)
    kind = jets.Expanded if jets.is_jet(expansion) else prediction.Predicted
    energy = kind(kernel, params["hyper"], expansion)(flat)
    energy = energy.reshape(system.batch_shape) + params["constant"]
    _check_finite(energy)
    energy = energy * same_atoms(system.numbers, params["numbers"])
    return energy * _same_cell(system, params["cell"]) if "one_cell" in params else energy


def _listed_query(kernel: Any, params: Params, system: System, neighbors: Any) -> System:
    """The system with its lists if the references have some; molecules need none."""
    if "reference_neighbors" not in params:
        return system
    if neighbors is None:
        raise ValueError(
            f"this kernel needs neighbors of periodic systems within {cutoffs_of(kernel)} Å: pass "
            "neighbor_list(energy_fn.cutoffs).allocate(system), or .allocate_stack(systems)"
        )
    return listed(system, neighbors)


def _expansion(kernel: Any, params: Params) -> dict[str, Any]:
    """The stored expansion, made anew where it depends on given hyperparameters of the descriptor.

    Otherwise a derivative by those would see the queries alone, and changed values the old
    references.
    """
    given = set(of_features(kernel)) & set(params["hyper"])
    if not given or "references" not in params:
        return params["expansion"]
    expand = jets.expand if jets.is_jet(params["expansion"]) else exp.expand
    return expand(
        kernel, params["hyper"], references_of(params), params["coefficients"],
        params.get("directions"),
    )  # fmt: skip


def _check_finite(energy: Array) -> None:
    """Outside ``jit``, say so where inside it the energy is NaN."""
    if isinstance(energy, Tracer) or bool(jnp.all(jnp.isfinite(energy))):
        return
    bad = np.flatnonzero(~np.isfinite(np.ravel(energy)))
    raise ValueError(
        f"the energy of geometry {bad[0]} is not finite ({len(bad)} such geometries): look for "
        "atoms in the same place, or coordinates that are not numbers"
    )


def same_atoms(numbers: Array, expected: Array) -> Array:
    """One where atoms agree, NaN where not: an energy for other atoms must not look like one."""
    same = jnp.all(numbers == expected, axis=-1)
    if not isinstance(same, Tracer) and not bool(jnp.all(same)):
        raise ValueError(
            f"the kernel was made for atoms {expected.tolist()} in this order, "
            f"got {np.asarray(numbers)[~np.asarray(same)][0].tolist()}"
        )
    return jnp.where(same, 1.0, jnp.nan)


def _same_cell(system: System, expected: Array) -> Array:
    """One where the lattice is the expected one, by whatever vectors; NaN where not."""
    assert system.cell is not None
    pbc = _pbc(system)
    norms = jnp.vectorize(lattice_norms, signature="(3,3),(3)->(7)")
    own, wanted = norms(system.cell, pbc), norms(expected.astype(system.cell.dtype), pbc)
    same = jnp.all(jnp.abs(own - wanted) <= OTHER_CELL * wanted, axis=-1)
    if not isinstance(same, Tracer) and not bool(jnp.all(same)):
        found = np.asarray(system.cell)[~np.asarray(same)] if same.ndim else system.cell[None]
        raise ValueError(
            f"the kernel was fitted in the single cell {np.round(expected, 4).tolist()} Å, which "
            "says nothing about energies and forces in another one, got "
            f"{np.round(found[0], 4).tolist()}: fit frames of several cells, or stress labels"
        )
    return jnp.where(same, 1.0, jnp.nan)
