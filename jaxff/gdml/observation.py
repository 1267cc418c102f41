"""Labels of one system from an energy function, all at once."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.cell import volume
from jaxff.gdml.labels import ORDERS, Label, moved, pack
from jaxff.gdml.observable import Observable
from jaxff.system import System
from jaxff.types import Array

__all__ = ["observe_packed"]


def observe_packed(
    energy_fn: Any, names: tuple[Label, ...], system: System, directions: Array | None = None
) -> dict[str, Array]:
    """Independent components of labels of one system, by differentiating an energy function.

    What :func:`jaxff.derivatives.observe` gives, all from a single gradient and its derivatives
    along directions: it is compiled in half the time. Labels of users come from their operators.
    """
    named = tuple(label for label in names if isinstance(label, str))
    found = _named(energy_fn, named, system, directions) if named else {}
    defined = (label for label in names if isinstance(label, Observable))
    return found | {label.name: label(energy_fn, system) for label in defined}


def _named(
    energy_fn: Any, names: tuple[str, ...], system: System, directions: Array | None
) -> dict[str, Array]:
    zero = {}
    if set(names) - {"energy"}:
        zero["positions"] = jnp.zeros_like(system.positions)
    if {"stress", "virial"} & set(names):
        zero["strain"] = jnp.zeros((3, 3))
    if "dipole" in names:
        zero["electric_field"] = jnp.zeros(3)

    def first(positions: Array) -> tuple[Array, dict[str, Array]]:
        return jax.value_and_grad(lambda shift: energy_fn(moved(system, shift), None))(
            {**zero, "positions": positions} if zero else zero
        )

    if not any(ORDERS.get(name, 1) == 2 for name in names):
        energy, gradient = first(jnp.zeros_like(system.positions))
        return _first_order(names, system, energy, gradient)
    probes = []
    if "hessian" in names:
        probes.append(jnp.eye(3 * system.atom_count).reshape(-1, system.atom_count, 3))
    if directions is not None:
        probes.append(directions)

    def along(probe: Array) -> tuple[tuple[Array, dict[str, Array]], Array]:
        found, tangent = jax.jvp(first, (jnp.zeros_like(system.positions),), (probe,))
        return found, tangent[1]["positions"]

    (energy, gradient), second = jax.vmap(along, out_axes=(None, 0))(jnp.concatenate(probes))
    found = _first_order(names, system, energy, gradient)
    if "hessian" in names:
        side = 3 * system.atom_count
        matrix = second[:side].reshape(side, side)
        found["hessian"] = matrix[np.triu_indices(side)]
        second = second[side:]
    if "hessian_vector" in names:
        found["hessian_vector"] = second
    return found


def _first_order(
    names: tuple[str, ...], system: System, energy: Array, gradient: dict[str, Array]
) -> dict[str, Array]:
    found = {}
    for name in names:
        if name == "energy":
            found[name] = energy
        elif name == "forces":
            found[name] = -gradient["positions"]
        elif name == "dipole":
            found[name] = -gradient["electric_field"]
        elif name in ("stress", "virial"):
            packed = pack(name, gradient["strain"], system.atom_count)
            found[name] = packed / volume(jnp.asarray(system.cell)) if name == "stress" else -packed
    return found
