"""Physical quantities as transformations of an energy function.

Each takes an energy function of ``(system, neighbors)`` and returns a function of the same
arguments, a ``jax.tree_util.Partial`` that can itself be passed to ``jit``. Single systems, stacks
and (where it makes sense) packs are accepted. Signs: forces are minus the gradient; stress is
positive under tension; the dipole is minus the derivative with respect to the electric field.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.tree_util import Partial

from jaxff.cell import volume
from jaxff.potential import EnergyFn, as_pytree
from jaxff.quantities import QUANTITIES
from jaxff.system import System, strain
from jaxff.types import Array

__all__ = [
    "born_charges",
    "dipole",
    "energy_and_forces",
    "forces",
    "hessian",
    "hessian_vector",
    "observe",
    "polarizability",
    "require_strain",
    "stress",
    "virial",
]


def forces(energy_fn: EnergyFn) -> Callable[..., Array]:
    r"""Forces :math:`-\partial E/\partial r` in eV/Å, shape ``(*batch, atoms, 3)``."""
    return Partial(_forces, as_pytree(energy_fn))


def energy_and_forces(energy_fn: EnergyFn) -> Callable[..., tuple[Array, Array]]:
    """Energy in eV and forces in eV/Å from one pass."""
    return Partial(_energy_and_forces, as_pytree(energy_fn))


def hessian(energy_fn: EnergyFn) -> Callable[..., Array]:
    r"""Hessian :math:`\partial^2 E/\partial r\,\partial r'` in eV/Å².

    Its shape is ``(*batch, atoms, 3, atoms, 3)``.

    Raises:
        ValueError: For a pack: its structures differ in size; use ``stack`` or one system at a
            time.
    """
    return Partial(_hessian, as_pytree(energy_fn))


def hessian_vector(energy_fn: EnergyFn) -> Callable[..., Array]:
    """Product of the Hessian with a vector field, in eV/Å² times its unit, without the Hessian.

    The returned function takes ``(system, vector, neighbors=None)``; ``vector`` has the shape of
    the positions.
    """
    return Partial(_hessian_vector, as_pytree(energy_fn))


def virial(energy_fn: EnergyFn) -> Callable[..., Array]:
    r"""Virial :math:`-\partial E/\partial\varepsilon` in eV, symmetric, ``(*structures, 3, 3)``.

    The strain acts on positions and cell alike; defined for molecules too.
    """
    return Partial(_virial, as_pytree(energy_fn))


def stress(energy_fn: EnergyFn) -> Callable[..., Array]:
    r"""Stress :math:`\sigma = V^{-1}\,\partial E/\partial\varepsilon` in eV/Å³.

    It is positive under tension. The symmetric strain acts on positions and cell alike, so periodic
    and reciprocal-space terms are included.

    Raises:
        ValueError: If ``system.cell`` is ``None``, or the potential was fitted to what does not
            determine it, as are global kernels by forces in a single cell.

    Reference:
        Knuth et al., Comput. Phys. Commun. 190, 33 (2015), doi:10.1016/j.cpc.2015.01.003.
    """
    return Partial(_stress, as_pytree(energy_fn))


def dipole(energy_fn: EnergyFn) -> Callable[..., Array]:
    r"""Dipole moment :math:`\mu = -\partial E/\partial\mathcal{E}` in e·Å.

    Its shape is ``(*structures, 3)``. A system without ``electric_field`` is taken at zero field.

    Raises:
        ValueError: If the potential does not depend on the field.
    """
    return Partial(_dipole, as_pytree(energy_fn))


def polarizability(energy_fn: EnergyFn) -> Callable[..., Array]:
    r"""Polarizability :math:`-\partial^2 E/\partial\mathcal{E}^2` in e·Å²/V.

    Its shape is ``(*structures, 3, 3)``.

    Raises:
        ValueError: If the potential does not depend on the field.
    """
    return Partial(_polarizability, as_pytree(energy_fn))


def born_charges(energy_fn: EnergyFn) -> Callable[..., Array]:
    r"""Born effective charges in e, shape ``(*batch, atoms, 3, 3)``.

    Entry :math:`[i, \alpha, \beta] = \partial\mu_\beta/\partial r_{i\alpha}`, which is the force on
    atom i along α per unit field along β.

    Raises:
        ValueError: If the potential does not depend on the field.

    Reference:
        Gonze & Lee, Phys. Rev. B 55, 10355 (1997), doi:10.1103/PhysRevB.55.10355.
    """
    return Partial(_born_charges, as_pytree(energy_fn))


def observe(energy_fn: EnergyFn, names: Iterable[str]) -> Callable[..., dict[str, Array]]:
    """Several observables by name, evaluated together where they share a derivative.

    Args:
        energy_fn: Energy function; other outputs of its potential (``partial_charges``, …) can be
            named too.
        names: Any of the transformations of this module, ``"energy"``, or outputs of the potential.

    Returns:
        Function of ``(system, neighbors=None)`` giving ``{name: value}``.

    Raises:
        ValueError: For a name that is neither a transformation nor an output of the potential.
        TypeError: If ``names`` is a single string.
    """
    if isinstance(names, str):
        raise TypeError(f"names must be several, such as [{names!r}], got one string")
    return Partial(_Observe(tuple(names)), as_pytree(energy_fn))


# Implementations are at module level, so that Partials of them compare equal and jit caches.


def _total(positions: Array, energy_fn: EnergyFn, system: System, neighbors: Any) -> Array:
    return jnp.sum(energy_fn(system.replace(positions=positions), neighbors))


def _forces(energy_fn: EnergyFn, system: System, neighbors: Any = None) -> Array:
    return -jax.grad(_total)(system.positions, energy_fn, system, neighbors)


def _energy_and_forces(
    energy_fn: EnergyFn, system: System, neighbors: Any = None
) -> tuple[Array, Array]:
    def total(positions):
        energy = energy_fn(system.replace(positions=positions), neighbors)
        return jnp.sum(energy), energy

    (_, energy), gradient = jax.value_and_grad(total, has_aux=True)(system.positions)
    return energy, -gradient


def _hessian(energy_fn: EnergyFn, system: System, neighbors: Any = None) -> Array:
    if system.is_packed:
        raise ValueError(
            "the Hessian of a pack has no rectangular shape: use stack, or one system each"
        )
    gradient = jax.grad(_total)
    shape = system.positions.shape
    flat = shape[-2] * 3

    # Structures of a stack do not interact, so one tangent probes all of them at once.
    def column(direction):
        tangent = jnp.broadcast_to(direction.reshape(shape[-2:]), shape)
        return jax.jvp(
            lambda r: gradient(r, energy_fn, system, neighbors), (system.positions,), (tangent,)
        )[1]

    columns = jax.vmap(column)(jnp.eye(flat, dtype=system.positions.dtype))
    return jnp.moveaxis(columns, 0, -1).reshape(*shape, *shape[-2:])


def _hessian_vector(
    energy_fn: EnergyFn, system: System, vector: Array, neighbors: Any = None
) -> Array:
    if vector.shape != system.positions.shape:
        raise ValueError(
            f"vector must have the shape of the positions, {system.positions.shape}, "
            f"got {vector.shape}"
        )
    return jax.jvp(
        lambda r: jax.grad(_total)(r, energy_fn, system, neighbors), (system.positions,), (vector,)
    )[1]


def require_strain(energy_fn: EnergyFn, system: System) -> None:
    """Refuse a strain of the cell for energies that were not fitted to depend on it.

    Raises:
        ValueError: If the energy function says so in an attribute ``refused``.
    """
    reason = getattr(energy_fn, "refused", {}).get("stress")
    if reason is not None and system.cell is not None:
        raise ValueError(reason)


def _strain_gradient(energy_fn: EnergyFn, system: System, neighbors: Any) -> Array:
    require_strain(energy_fn, system)

    def total(deformation):
        return jnp.sum(energy_fn(strain(system, deformation), neighbors))

    zero = jnp.zeros((*system.batch_shape, 3, 3), system.positions.dtype)
    return jax.grad(total)(zero)


def _virial(energy_fn: EnergyFn, system: System, neighbors: Any = None) -> Array:
    return -_strain_gradient(energy_fn, system, neighbors)


def _stress(energy_fn: EnergyFn, system: System, neighbors: Any = None) -> Array:
    cell = _require_cell(system)
    return _strain_gradient(energy_fn, system, neighbors) / volume(cell)[..., None, None]


def _require_cell(system: System) -> Array:
    if system.cell is None:
        raise ValueError("stress needs system.cell, which is None; for a molecule use virial")
    if not isinstance(system.cell, Tracer) and not bool(jnp.all(volume(system.cell) > 0.0)):
        raise ValueError(
            "stress needs a cell of finite volume: give non-periodic directions a lattice vector, "
            "or use virial"
        )
    return system.cell


def _with_field(energy_fn: EnergyFn, system: System, neighbors: Any) -> tuple[System, Array]:
    """The system with a field to differentiate by, and that; refuses energies that ignore it."""
    field = system.electric_field
    if field is None:
        field = jnp.zeros((*system.batch_shape, 3), system.positions.dtype)
        system = system.replace(electric_field=field)
    uses = getattr(energy_fn, "uses", None)
    if uses is None:
        depends = _depends(lambda f: energy_fn(system.replace(electric_field=f), neighbors), system)
    else:
        depends = "electric_field" in uses
    if not depends:
        raise ValueError(
            "this potential does not depend on system.electric_field, so its derivative by the "
            "field is undefined, not zero; add a potential that reads the field, or, for a dipole, "
            "take a network with outputs=['dipole']"
        )
    return system, field


_CALLS = frozenset({"jit", "pjit", "checkpoint", "remat", "remat2", "closed_call"})


def _depends(function: Callable[[Array], Array], system: System) -> bool:
    """Whether the output is reachable from the field in the traced program."""
    jaxpr = jax.make_jaxpr(function)(system.electric_field).jaxpr
    return any(_reached(jaxpr, [True] * len(jaxpr.invars)))


def _reached(jaxpr: Any, inputs: list[bool]) -> list[bool]:
    """Which outputs of a program can be reached from the marked inputs."""
    marked = {v for v, mark in zip(jaxpr.invars, inputs, strict=True) if mark}

    def marks(variables):
        return [not hasattr(v, "val") and v in marked for v in variables]

    for equation in jaxpr.eqns:
        # A compiled function takes whole systems: look inside which parts of them it uses.
        inner = equation.params.get("jaxpr") if equation.primitive.name in _CALLS else None
        inputs = marks(equation.invars)
        outputs = [any(inputs)] * len(equation.outvars)
        if inner is not None:
            outputs = _reached(getattr(inner, "jaxpr", inner), inputs)
        marked.update(v for v, mark in zip(equation.outvars, outputs, strict=True) if mark)
    return marks(jaxpr.outvars)


def _field_total(field: Array, energy_fn: EnergyFn, system: System, neighbors: Any) -> Array:
    return jnp.sum(energy_fn(system.replace(electric_field=field), neighbors))


def _dipole(energy_fn: EnergyFn, system: System, neighbors: Any = None) -> Array:
    system, field = _with_field(energy_fn, system, neighbors)
    return -jax.grad(_field_total)(field, energy_fn, system, neighbors)


def _field_columns(function: Callable[[Array], Array], field: Array) -> Array:
    """Derivatives of ``function`` of the field along x, y, z, stacked on a new last axis."""

    def along(direction):
        return jax.jvp(function, (field,), (jnp.broadcast_to(direction, field.shape),))[1]

    return jnp.moveaxis(jax.vmap(along)(jnp.eye(3, dtype=field.dtype)), 0, -1)


def _polarizability(energy_fn: EnergyFn, system: System, neighbors: Any = None) -> Array:
    system, field = _with_field(energy_fn, system, neighbors)
    gradient = jax.grad(_field_total)
    return -_field_columns(lambda f: gradient(f, energy_fn, system, neighbors), field)


def _born_charges(energy_fn: EnergyFn, system: System, neighbors: Any = None) -> Array:
    system, field = _with_field(energy_fn, system, neighbors)
    return _field_columns(
        lambda f: _forces(energy_fn, system.replace(electric_field=f), neighbors), field
    )


_SEPARATE = {
    "hessian": _hessian,
    "dipole": _dipole,
    "polarizability": _polarizability,
    "born_charges": _born_charges,
}


@dataclass(frozen=True)
class _Observe:
    """The function behind :func:`observe`; equal names compare equal, as jit's cache needs."""

    names: tuple[str, ...]

    def __call__(
        self, energy_fn: EnergyFn, system: System, neighbors: Any = None
    ) -> dict[str, Array]:
        return _observe(self.names, energy_fn, system, neighbors)


def _observe(
    names: tuple[str, ...], energy_fn: EnergyFn, system: System, neighbors: Any
) -> dict[str, Array]:
    wanted = set(names)
    results: dict[str, Array] = dict(_outputs(energy_fn, system, neighbors, wanted))
    # A potential may give a dipole itself, from its charges; only what it lacks is differentiated.
    for name in sorted((wanted & set(_SEPARATE)) - set(results)):
        results[name] = _SEPARATE[name](energy_fn, system, neighbors)
    missing = wanted - set(results)
    if missing:
        known = sorted({"energy", "forces", "virial", "stress", *_SEPARATE} | set(results))
        raise ValueError(
            f"cannot observe {sorted(missing)}: the potential offers {known}; "
            f"names are those of jaxff.quantities: {sorted(QUANTITIES)}"
        )
    return {name: results[name] for name in names}


def _outputs(energy_fn: EnergyFn, system: System, neighbors: Any, wanted: set[str]):
    """Plain outputs, and the first derivatives from a single reverse pass."""
    strained = bool(wanted & {"stress", "virial"})
    if strained:
        require_strain(energy_fn, system)
    if "stress" in wanted:
        _require_cell(system)

    def total(positions, deformation):
        moved = system.replace(positions=positions)
        if strained:
            moved = strain(moved, deformation)
        all_outputs = getattr(energy_fn, "outputs", None)
        if all_outputs is None:
            outputs = {"energy": energy_fn(moved, neighbors)}
        else:
            outputs = all_outputs(moved, neighbors)
        return jnp.sum(outputs["energy"]), outputs

    zero = jnp.zeros((*system.batch_shape, 3, 3), system.positions.dtype)
    if not wanted & {"forces", "stress", "virial"}:
        return total(system.positions, zero)[1]
    (_, outputs), (gradient, by_strain) = jax.value_and_grad(total, (0, 1), has_aux=True)(
        system.positions, zero
    )
    results = {**outputs, "forces": -gradient}
    if strained:
        results["virial"] = -by_strain
    if "stress" in wanted:
        results["stress"] = by_strain / volume(_require_cell(system))[..., None, None]
    return results
