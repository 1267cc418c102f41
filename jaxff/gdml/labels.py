r"""Labels of a fit as linear functionals of an energy: their shapes, order and adjoints.

A label is a linear observation :math:`O` of the energy at a reference. Its coefficients
:math:`\alpha` act through :math:`\langle O f, \alpha\rangle`, a number for any function f of a
system. For all labels together that is

.. math:: b\,f + Df[t] + \sum_m D^2 f[l_m, r_m]

with one weight b, one direction t in the space of positions, strain and field, and pairs of
directions of the positions: at most one first derivative and some second ones along given
directions, never a tensor of derivatives.

Symmetric labels (Hessian, stress, virial) count each entry of their upper triangle once. Labels
that users define (:class:`jaxff.gdml.observable.Observable`) follow those named here.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.cell import volume
from jaxff.gdml.observable import Observable, functional
from jaxff.system import System, strain
from jaxff.types import Array

__all__ = [
    "LABELS",
    "Adjoint",
    "Label",
    "adjoint",
    "moved",
    "name_of",
    "order_of",
    "ordered",
    "pack",
    "packed_shapes",
    "resolved",
    "rigid_motions",
    "squares",
    "unit",
    "value_weights",
]

Label = str | Observable
"""One of :data:`LABELS`, or what a user defined."""

LABELS = ("forces", "energy", "hessian", "hessian_vector", "stress", "virial", "dipole")
"""Names of labels in the order of the rows of a kernel matrix."""

ORDERS = {"energy": 0, "hessian": 2, "hessian_vector": 2}
"""Derivatives of the energy in each label; one where not named."""

SYMMETRIC = ("hessian", "stress", "virial")
"""Labels of which the upper triangle counts."""

OBSERVED = "observed"
"""Among coefficients by label: the functional of all labels that users defined, in one."""


class Adjoint(NamedTuple):
    """The functional of one reference.

    Attributes:
        value: Weight b of the energy, or ``None``.
        along: Direction t by ``positions``, ``strain``, ``cell``, ``electric_field``, or empty.
        pairs: Directions ``(m, atoms, 3)`` of second derivatives, two of them, or ``None``.
    """

    value: Array | None
    along: dict[str, Array]
    pairs: tuple[Array, Array] | None


def ordered(labels: Any) -> tuple[Label, ...]:
    """Labels in the order of the rows."""
    named = tuple(name for name in LABELS if name in labels)
    return (*named, *(label for label in labels if isinstance(label, Observable)))


def name_of(label: Label) -> str:
    """The name of a label."""
    return label.name if isinstance(label, Observable) else label


def order_of(label: Label) -> int:
    """Derivatives of the energy in a label."""
    return ORDERS.get(label, 1) if isinstance(label, str) else label.order


def packed_shapes(
    names: tuple[Label, ...], atoms: int, directions: int = 0
) -> dict[str, tuple[int, ...]]:
    """Shape of the independent components of each label of one reference."""
    side = 3 * atoms
    shapes = {
        "forces": (atoms, 3),
        "energy": (),
        "hessian": (side * (side + 1) // 2,),
        "hessian_vector": (directions, atoms, 3),
        "stress": (6,),
        "virial": (6,),
        "dipole": (3,),
    }
    return {
        name_of(label): shapes[label] if isinstance(label, str) else label.dims(atoms)
        for label in names
    }


def pack(name: str, value: Any, atoms: int) -> Any:
    """Independent components of a label ``(*batch, ...)``: a triangle of a symmetric one."""
    if name not in SYMMETRIC:
        return value
    side = 3 * atoms if name == "hessian" else 3
    rows, columns = np.triu_indices(side)
    batch = value.shape[: value.ndim - (4 if name == "hessian" else 2)]
    return value.reshape(*batch, side, side)[..., rows, columns]


def rigid_motions(references: System) -> tuple[np.ndarray, int]:
    """Orthonormal axes of each reference, translations and rotations first, and their number.

    A molecule has 3 rotations, or 2 if it is linear; a periodic system none. An energy that these
    leave alone has no force along them. Where references differ, their least number counts.

    Returns:
        Axes as columns, ``(N, 3 atoms, 3 atoms)``, and how many of them are rigid motions.
    """
    positions = np.asarray(references.positions)
    count, atoms = positions.shape[:2]
    arms = positions - positions.mean(axis=1, keepdims=True)
    motions = [np.broadcast_to(np.eye(3)[:, None], (count, 3, atoms, 3))]
    if references.cell is None:
        turns = np.cross(np.eye(3)[:, None], arms[:, None])
        motions.append(turns / np.sqrt(np.mean(arms**2) + np.finfo(float).tiny))
    flat = np.concatenate(motions, axis=1).reshape(count, -1, 3 * atoms)
    axes, sizes, _ = np.linalg.svd(flat.swapaxes(1, 2))
    return axes, int(np.min(np.sum(sizes > 1e-6 * sizes[:, :1], axis=1)))


def moved(system: System, shift: dict[str, Array]) -> System:
    """A system with displaced positions, strained, in another field."""
    if "positions" in shift:
        system = system.replace(positions=system.positions + shift["positions"])
    if "electric_field" in shift:
        field = jnp.asarray(system.electric_field) + shift["electric_field"]
        system = system.replace(electric_field=field)
    if "cell" in shift:
        system = system.replace(cell=jnp.asarray(system.cell) + shift["cell"])
    return strain(system, shift["strain"]) if "strain" in shift else system


def resolved(
    labels: tuple[Label, ...], systems: System, coefficients: dict[str, Any]
) -> dict[str, Any]:
    """Coefficients with the functional of those labels that users defined, if there are some.

    With it the operators themselves are needed no more.

    Args:
        labels: All labels.
        systems: Stack of references.
        coefficients: By name, leading axis: reference.
    """
    defined = tuple(label for label in labels if isinstance(label, Observable))
    if not defined:
        return coefficients
    own = {label.name: jnp.asarray(coefficients[label.name]) for label in defined}
    return {**coefficients, OBSERVED: _functionals(defined, systems, own)}


@partial(jax.jit, static_argnums=0)
def _functionals(observables: tuple[Observable, ...], systems: System, own: Any) -> dict[str, Any]:
    return jax.vmap(partial(functional, observables))(systems, own)


def value_weights(coefficients: dict[str, Any]) -> Array | None:
    """Weights b of the energies, of packed coefficients as for :func:`adjoint`, or ``None``."""
    value = coefficients.get("energy")
    if OBSERVED in coefficients:
        own = coefficients[OBSERVED]["value"]
        return own if value is None else value + own
    return value


def adjoint(
    system: System,
    coefficients: dict[str, Any],
    directions: Array | None = None,
    pairs: tuple[Array, Array] | None = None,
) -> Adjoint:
    """The functional of packed coefficients at one reference.

    Args:
        system: The reference, single.
        coefficients: By label, of the shapes of :func:`packed_shapes`; those of users' as
            :func:`resolved` gives them.
        directions: Of ``hessian_vector``, ``(directions, atoms, 3)``.
        pairs: Further directions of second derivatives.
    """
    own = coefficients.get(OBSERVED, {})
    along = {name: own[name] for name in ("positions", "cell", "electric_field") if name in own}
    if "forces" in coefficients:
        along["positions"] = along.get("positions", 0.0) - coefficients["forces"]
    deformation = _deformation(system, coefficients)
    if deformation is not None:
        along["strain"] = deformation
    if "dipole" in coefficients:
        along["electric_field"] = along.get("electric_field", 0.0) - coefficients["dipole"]
    left, right = ([], []) if pairs is None else ([pairs[0]], [pairs[1]])
    side = 3 * system.atom_count
    if "hessian" in coefficients:
        upper = jnp.zeros((side, side)).at[np.triu_indices(side)].set(coefficients["hessian"])
        left.append(jnp.eye(side).reshape(side, -1, 3))
        right.append(upper.reshape(side, -1, 3))
    if "bent" in own:
        left.append(jnp.eye(side).reshape(side, -1, 3))
        right.append(own["bent"].reshape(side, -1, 3))
    if "hessian_vector" in coefficients and directions is not None:
        left.append(directions)
        right.append(coefficients["hessian_vector"])
    joined = (jnp.concatenate(left), jnp.concatenate(right)) if left else None
    return Adjoint(value_weights(coefficients), along, joined)


def squares(left: Array, right: Array) -> tuple[Array, Array]:
    r"""Directions ``(M, atoms, 3)`` and weights with the same second derivatives as some pairs.

    .. math:: \sum_m \lambda_m D^2 f[e_m, e_m] = \sum_m D^2 f[l_m, r_m]

    A few pairs become sums and differences of their members, many the eigenvectors of the sum of
    their symmetric products: 2 per pair or one per coordinate, whichever are fewer.
    """
    count, atoms = left.shape[:2]
    if 2 * count <= 3 * atoms:
        weights = jnp.repeat(jnp.array([0.25, -0.25]), count)
        return jnp.concatenate([left + right, left - right]), weights
    product = left.reshape(count, -1).T @ right.reshape(count, -1)
    weights, vectors = jnp.linalg.eigh(0.5 * (product + product.T))
    return vectors.T.reshape(-1, atoms, 3), weights


def _deformation(system: System, coefficients: dict[str, Any]) -> Array | None:
    rows, columns = np.triu_indices(3)
    total = None
    if "stress" in coefficients:
        upper = jnp.zeros((3, 3)).at[rows, columns].set(coefficients["stress"])
        total = upper / volume(jnp.asarray(system.cell))
    if "virial" in coefficients:
        upper = jnp.zeros((3, 3)).at[rows, columns].set(-coefficients["virial"])
        total = upper if total is None else total + upper
    return total


def unit(
    names: tuple[Label, ...], systems: System, component: np.ndarray, directions: Any = None
) -> tuple[dict[str, Any], tuple[Any, Any] | None]:
    """Coefficients of single label components: of first order, and pairs of directions beyond.

    A component of a Hessian needs one second derivative, not all of them.

    Args:
        names: Label names.
        systems: Stack of W references, one per component.
        component: Index ``(W,)`` among the packed components of one reference.
        directions: Of ``hessian_vector`` at those references.

    Returns:
        Packed coefficients by label, ``(W, ...)``, and two arrays ``(W, 1, atoms, 3)`` or ``None``.
    """
    width, atoms = systems.positions.shape[:2]
    count = 0 if directions is None else directions.shape[1]
    shapes = packed_shapes(names, atoms, count)
    coefficients: dict[str, np.ndarray] = {}
    second = any(name in shapes for name in ORDERS if ORDERS[name] == 2)
    left, right = np.zeros((2, width, 1, 3 * atoms))
    start = 0
    for name, shape in shapes.items():
        size = int(np.prod(shape))
        mine = np.flatnonzero((component >= start) & (component < start + size))
        own = component[mine] - start
        if name == "hessian":
            rows, columns = np.triu_indices(3 * atoms)
            left[mine, 0, rows[own]] = right[mine, 0, columns[own]] = 1.0
        elif name == "hessian_vector":
            which, entry = np.divmod(own, 3 * atoms)
            chosen = jnp.asarray(directions)[mine, which].reshape(-1, 3 * atoms)
            left = jnp.asarray(left).at[mine, 0].set(chosen)
            right[mine, 0, entry] = 1.0
        else:
            values = np.zeros((width, size))
            values[mine, own] = 1.0
            coefficients[name] = values.reshape(width, *shape)
        start += size
    shape = (width, 1, atoms, 3)
    pairs = (left.reshape(shape), right.reshape(shape)) if second else None
    return resolved(names, systems, coefficients), pairs
