"""Labels as users give them: what they must be before they are fitted."""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.gdml.labels import (
    LABELS,
    OBSERVED,
    SYMMETRIC,
    Label,
    name_of,
    order_of,
    ordered,
    pack,
)
from jaxff.gdml.observable import Observable, constant_part, functional, verify
from jaxff.quantities import QUANTITIES
from jaxff.system import System

__all__ = ["check", "check_kernel", "check_noise", "defined", "shown", "without_constant"]

_ASYMMETRY = 0.05
"""Asymmetry, relative to the largest entry, above which a symmetric label is refused."""


def check(labels: Mapping[Any, Any], references: System) -> tuple[dict[str, np.ndarray], Any]:
    """Labels as finite arrays of independent components, and directions of Hessian products.

    Raises:
        ValueError: For labels that are missing, unknown, of wrong shape, not symmetric or not
            finite, and for stress without a cell.
    """
    named = {label for label in labels if not isinstance(label, Observable)}
    if named - set(LABELS) or not labels:
        raise ValueError(f"labels must be some of {LABELS}, or an Observable, got {shown(labels)}")
    count, atoms = references.positions.shape[:2]
    if "stress" in labels and references.cell is None:
        raise ValueError("stress labels need references with a cell; for molecules use virial")
    _check_observables(defined(tuple(labels)), references)
    directions, checked = None, {}
    for label in ordered(labels):
        name, value = name_of(label), labels[label]
        if name == "hessian_vector":
            directions, value = _products(value, count, atoms)
            shape = directions.shape
        else:
            of = QUANTITIES[label] if isinstance(label, str) else label
            shape = (count, *of.dims(atoms))
        array = np.asarray(value, float)
        if array.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
        bad = np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))
        if len(bad):
            raise ValueError(f"{name} of frame {bad[0]} is not finite ({len(bad)} such frames)")
        checked[name] = pack(name, _symmetric(name, array, atoms), atoms)
    return checked, directions


def _check_observables(observables: tuple[Observable, ...], references: System) -> None:
    """Try what users defined on the first reference."""
    taken = {*LABELS, OBSERVED}
    for observable in observables:
        if observable.name in taken:
            raise ValueError(f"two labels have the name {observable.name!r}: give another")
        taken.add(observable.name)
        verify(observable, jax.tree.map(lambda leaf: leaf[0], references))


def _products(value: Any, count: int, atoms: int) -> tuple[np.ndarray, np.ndarray]:
    """Directions and products ``(N, directions, atoms, 3)`` from a pair of arrays."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise ValueError(
            "hessian_vector must be two arrays, directions and the products of the Hessian with "
            f"them, got {type(value).__name__}"
        )
    directions, products = (np.asarray(part, float) for part in value)
    if directions.shape == (count, atoms, 3):
        directions, products = directions[:, None], products[:, None]
    if directions.ndim != 4 or directions.shape != (count, directions.shape[1], atoms, 3):
        raise ValueError(
            f"directions of hessian_vector must have shape ({count}, {atoms}, 3), or "
            f"({count}, directions, {atoms}, 3) for several, got {directions.shape}"
        )
    if not np.isfinite(directions).all():
        raise ValueError("directions of hessian_vector are not finite")
    return directions, products


def _symmetric(name: str, array: np.ndarray, atoms: int) -> np.ndarray:
    """The symmetric part: numerical Hessians are symmetric only to their own accuracy."""
    if name not in SYMMETRIC:
        return array
    side = 3 * atoms if name == "hessian" else 3
    matrix = array.reshape(len(array), side, side)
    difference = np.abs(matrix - matrix.swapaxes(1, 2)).max()
    if difference > _ASYMMETRY * np.abs(matrix).max():
        raise ValueError(
            f"{name} must be symmetric, entries differ from their transposes by up to "
            f"{difference:.3g}: check the order of its axes and its accuracy"
        )
    return (0.5 * (matrix + matrix.swapaxes(1, 2))).reshape(array.shape)


def defined(labels: tuple[Label, ...]) -> tuple[Observable, ...]:
    """Those that users defined."""
    return tuple(label for label in labels if isinstance(label, Observable))


def shown(labels: Iterable[Label]) -> list[str]:
    """Names for messages."""
    return sorted(str(name_of(label)) for label in labels)


def without_constant(
    checked: dict[str, np.ndarray], labels: tuple[Label, ...], references: System, constant: Any
) -> tuple[dict[str, np.ndarray], Any]:
    """Labels without what a constant energy gives them, and the constant: the mean of energies.

    Args:
        checked: Labels by name.
        labels: The labels.
        references: Their systems.
        constant: What it is without energies among the labels.
    """
    rest = dict(checked)
    if "energy" in checked:
        constant = jnp.asarray(np.mean(checked["energy"]))
        rest["energy"] = checked["energy"] - np.mean(checked["energy"])
    for label in defined(labels):
        rest[label.name] = checked[label.name] - np.asarray(
            constant * constant_part(label, references)
        )
    return rest, constant


def check_kernel(potential: Any, references: System, labels: tuple[Label, ...]) -> None:
    """Refuse labels for which the kernel lacks derivatives at its references, or a field.

    Raises:
        ValueError: If there are such.
    """
    kernel = potential.kernel
    needed = 2 * max(order_of(label) for label in labels)
    if kernel.smoothness < needed:
        name = getattr(getattr(kernel, "base", None), "name", type(kernel).__name__)
        raise ValueError(
            f"labels {shown(labels)} need a kernel with {needed} derivatives at coincident "
            f"points, {name} has {kernel.smoothness}"
        )
    asking = [label for label in labels if label == "dipole" or _reads_field(label, references)]
    if not asking:
        return
    if "electric_field" not in potential.uses:
        raise ValueError(
            f"{name_of(asking[0])} labels need a kernel that reads the electric field: give its "
            'descriptor an attribute uses = frozenset({"electric_field"})'
        )
    if references.electric_field is None:
        raise ValueError(
            "dipole labels need references with an electric_field (zero is one): "
            "System(..., electric_field=...)"
        )


def _reads_field(label: Label, references: System) -> bool:
    """Whether a label that a user defined contains a derivative by the electric field."""
    if isinstance(label, str) or references.electric_field is None:
        return False
    system = jax.tree.map(lambda leaf: leaf[0], references)
    shape = label.dims(references.atom_count)
    weights = {label.name: jnp.asarray(np.random.default_rng(0).normal(size=shape))}
    own = functional((label,), system, weights)
    return bool(np.any(np.asarray(own.get("electric_field", 0.0)) != 0.0))


def check_noise(noise: Mapping[str, float], labels: Mapping[str, Any]) -> None:
    """Refuse noise of labels that are not fitted, and levels that are not positive.

    Raises:
        ValueError: If there are such.
    """
    for name, value in noise.items():
        if name not in labels or not 0 < value < np.inf:
            raise ValueError(
                f"noise must name fitted labels {sorted(labels)} with finite positive values, "
                f"got {name}: {value}"
            )
