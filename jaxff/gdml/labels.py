r"""Labels of a fit as linear functionals of an energy: their shapes, order and adjoints.

A label is a linear observation :math:`O` of the energy at a reference. Its coefficients
:math:`\alpha` act through :math:`\langle O f, \alpha\rangle`, a number for any function f of a
system. For all labels together that is

.. math:: b\,f + Df[t] + \sum_m D^2 f[l_m, r_m]

with one weight b, one direction t in the space of positions, strain and field, and pairs of
directions of the positions: at most one first derivative and some second ones along given
directions, never a tensor of derivatives.

Symmetric labels (Hessian, stress, virial) count each entry of their upper triangle once.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxff.cell import volume
from jaxff.quantities import QUANTITIES
from jaxff.system import System, strain
from jaxff.types import Array

__all__ = [
    "LABELS",
    "Adjoint",
    "adjoint",
    "check",
    "moved",
    "pack",
    "packed_shapes",
    "rigid_motions",
    "squares",
    "unit",
]

LABELS = ("forces", "energy", "hessian", "hessian_vector", "stress", "virial", "dipole")
"""Names of labels in the order of the rows of a kernel matrix."""

ORDERS = {"energy": 0, "hessian": 2, "hessian_vector": 2}
"""Derivatives of the energy in each label; one where not named."""

_SYMMETRIC = ("hessian", "stress", "virial")
_ASYMMETRY = 0.05
"""Asymmetry, relative to the largest entry, above which a symmetric label is refused."""


class Adjoint(NamedTuple):
    """The functional of one reference.

    Attributes:
        value: Weight b of the energy, or ``None``.
        along: Direction t by ``positions``, ``strain``, ``electric_field``; empty without first
            derivatives.
        pairs: Directions ``(m, atoms, 3)`` of second derivatives, two of them, or ``None``.
    """

    value: Array | None
    along: dict[str, Array]
    pairs: tuple[Array, Array] | None


def ordered(names: Any) -> tuple[str, ...]:
    """Label names in the order of the rows."""
    return tuple(name for name in LABELS if name in names)


def packed_shapes(
    names: tuple[str, ...], atoms: int, directions: int = 0
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
    return {name: shapes[name] for name in names}


def pack(name: str, value: Any, atoms: int) -> Any:
    """Independent components of a label ``(*batch, ...)``: a triangle of a symmetric one."""
    if name not in _SYMMETRIC:
        return value
    side = 3 * atoms if name == "hessian" else 3
    rows, columns = np.triu_indices(side)
    batch = value.shape[: value.ndim - (4 if name == "hessian" else 2)]
    return value.reshape(*batch, side, side)[..., rows, columns]


def check(labels: Mapping[str, Any], references: System) -> tuple[dict[str, np.ndarray], Any]:
    """Labels as finite arrays of independent components, and directions of Hessian products.

    Raises:
        ValueError: For labels that are missing, unknown, of wrong shape, not symmetric or not
            finite, and for stress without a cell.
    """
    unknown = set(labels) - set(LABELS)
    if unknown or not labels:
        raise ValueError(f"labels must be some of {LABELS}, got {sorted(labels)}")
    count, atoms = references.positions.shape[:2]
    if "stress" in labels and references.cell is None:
        raise ValueError("stress labels need references with a cell; for molecules use virial")
    directions, checked = None, {}
    for name in ordered(labels):
        value = labels[name]
        if name == "hessian_vector":
            directions, value = _products(value, count, atoms)
            shape = directions.shape
        else:
            shape = (count, *QUANTITIES[name].dims(atoms))
        array = np.asarray(value, float)
        if array.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
        bad = np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))
        if len(bad):
            raise ValueError(f"{name} of frame {bad[0]} is not finite ({len(bad)} such frames)")
        checked[name] = pack(name, _symmetric(name, array, atoms), atoms)
    return checked, directions


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
    if name not in _SYMMETRIC:
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
    return strain(system, shift["strain"]) if "strain" in shift else system


def adjoint(
    system: System, coefficients: dict[str, Array], directions: Array | None = None
) -> Adjoint:
    """The functional of packed coefficients at one reference.

    Args:
        system: The reference, single.
        coefficients: By label, of the shapes of :func:`packed_shapes`.
        directions: Of ``hessian_vector``, ``(directions, atoms, 3)``.
    """
    along = {}
    if "forces" in coefficients:
        along["positions"] = -coefficients["forces"]
    deformation = _deformation(system, coefficients)
    if deformation is not None:
        along["strain"] = deformation
    if "dipole" in coefficients:
        along["electric_field"] = -coefficients["dipole"]
    left, right = [], []
    if "hessian" in coefficients:
        side = 3 * system.atom_count
        upper = jnp.zeros((side, side)).at[np.triu_indices(side)].set(coefficients["hessian"])
        left.append(jnp.eye(side).reshape(side, -1, 3))
        right.append(upper.reshape(side, -1, 3))
    if "hessian_vector" in coefficients and directions is not None:
        left.append(directions)
        right.append(coefficients["hessian_vector"])
    pairs = (jnp.concatenate(left), jnp.concatenate(right)) if left else None
    return Adjoint(coefficients.get("energy"), along, pairs)


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


def _deformation(system: System, coefficients: dict[str, Array]) -> Array | None:
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
    names: tuple[str, ...], systems: System, component: np.ndarray, directions: Any = None
) -> tuple[dict[str, np.ndarray], tuple[Any, Any] | None]:
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
    second = any(ORDERS.get(name, 1) == 2 for name in names)
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
    return coefficients, (left.reshape(shape), right.reshape(shape)) if second else None
