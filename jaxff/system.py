"""The one record of atoms: molecules, cells, stacks of equal size and flat packs of mixed size.

Units: Å for lengths, e for charges, V/Å for fields. Rows of ``cell`` are lattice vectors (ASE).
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.types import Array, Bool, Float, Int

__all__ = ["System", "flatten_batch", "pack", "stack", "strain", "sum_atoms", "to_atoms"]


@dataclass(frozen=True)
class System:
    """Atoms in space, with everything a potential may depend on.

    A *single* system has positions ``(atoms, 3)``; a *stack* carries leading axes on every field; a
    *pack* joins structures of any sizes along one atom axis and says in ``structure`` where each
    atom belongs.

    Attributes:
        positions: Cartesian coordinates in Å.
        numbers: Atomic numbers; 0 marks padding. One row is broadcast over a stack.
        cell: Lattice vectors as rows, in Å.
        pbc: Periodic directions; ``None`` with a cell means periodic in all three.
        charge: Total charge in e.
        spin: Number of unpaired electrons.
        electric_field: Homogeneous external field in V/Å.
        structure: Index of the structure of each atom (packs only).
        structure_mask: True for real structures, False for padding (packs only).

    Raises:
        ValueError: If shapes do not fit together.
        TypeError: If positions are not floating point or numbers not integers.
    """

    positions: Float[Array, "*batch atoms 3"]
    numbers: Int[Array, "*batch atoms"]
    cell: Float[Array, "*structures 3 3"] | None = None
    pbc: Bool[Array, "*structures 3"] | None = None
    charge: Float[Array, "*structures"] | None = None
    spin: Float[Array, "*structures"] | None = None
    electric_field: Float[Array, "*structures 3"] | None = None
    structure: Int[Array, " atoms"] | None = None
    structure_mask: Bool[Array, " structures"] | None = None

    def __init__(
        self,
        positions: Any,
        numbers: Any,
        cell: Any = None,
        pbc: Any = None,
        charge: Any = None,
        spin: Any = None,
        electric_field: Any = None,
        structure: Any = None,
        structure_mask: Any = None,
    ):
        _check_counts("atomic numbers", numbers)
        _check_counts("the number of unpaired electrons", spin)
        positions = jnp.asarray(positions)
        if not jnp.issubdtype(positions.dtype, jnp.floating):
            raise TypeError(f"positions must be floating point (Å), got dtype {positions.dtype}")
        if positions.ndim < 2 or positions.shape[-1] != 3:
            raise ValueError(f"positions must have shape (..., atoms, 3), got {positions.shape}")
        numbers = jnp.asarray(numbers)
        if not jnp.issubdtype(numbers.dtype, jnp.integer):
            raise TypeError(f"numbers must be integers, got dtype {numbers.dtype}")
        if numbers.shape[-1:] != positions.shape[-2:-1]:
            raise ValueError(
                f"numbers must name every atom: positions are {positions.shape}, "
                f"numbers {numbers.shape}"
            )
        if numbers.ndim > 1 and numbers.shape != positions.shape[:-1]:
            raise ValueError(
                f"numbers must have one row for all or one per system: expected "
                f"{positions.shape[:-1]} or {positions.shape[-2:-1]}, got {numbers.shape}"
            )
        numbers = jnp.broadcast_to(numbers, positions.shape[:-1])
        if (structure is None) != (structure_mask is None):
            raise ValueError("structure and structure_mask describe a pack together: give both")
        if structure_mask is not None:
            structure, structure_mask = jnp.asarray(structure), jnp.asarray(structure_mask, bool)
            lead = structure_mask.shape
            if structure.shape != positions.shape[:-1]:
                raise ValueError(
                    f"structure must index every atom: expected {positions.shape[:-1]}, "
                    f"got {structure.shape}"
                )
        else:
            lead = positions.shape[:-2]
        if cell is None and pbc is not None:
            raise ValueError("pbc is given without a cell: give the lattice vectors as rows")
        dtype = positions.dtype
        per_structure = {
            "cell": _field("cell", cell, lead, (3, 3), dtype),
            "pbc": _field("pbc", pbc, lead, (3,), bool),
            "charge": _field("charge", charge, lead, (), dtype),
            "spin": _field("spin", spin, lead, (), dtype),
            "electric_field": _field("electric_field", electric_field, lead, (3,), dtype),
        }
        if cell is not None and pbc is None:
            per_structure["pbc"] = jnp.ones((*lead, 3), bool)
        _set(self, positions=positions, numbers=numbers, **per_structure)
        _set(self, structure=structure, structure_mask=structure_mask)

    @property
    def is_packed(self) -> bool:
        """Whether the atoms of several structures share one axis."""
        return self.structure_mask is not None

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Shape of the per-structure quantities: ``()`` for a single system."""
        if self.structure_mask is not None:
            return self.structure_mask.shape
        return self.positions.shape[:-2]

    @property
    def atom_count(self) -> int:
        """Number of atoms (of all structures in a pack), padding included."""
        return self.positions.shape[-2]

    def replace(self, **fields: Any) -> "System":
        """A copy with some fields exchanged; shapes are trusted, as in a traced function."""
        return _new({**_fields(self), **fields})


def _check_counts(name: str, values: Any) -> None:
    """Refuse negative counts; arrays of JAX are trusted, which may be traced or far away."""
    if values is None or any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(values)):
        return
    if np.any(np.asarray(values) < 0):
        raise ValueError(f"{name} must not be negative, got {values}")


def _field(name: str, value: Any, lead: tuple[int, ...], tail: tuple[int, ...], dtype: Any):
    if value is None:
        return None
    value = jnp.asarray(value)
    if dtype is bool and value.dtype.kind not in "biu":  # 0 and 1 are common, fractions an error
        raise TypeError(f"{name} must be True or False per direction, got dtype {value.dtype}")
    # No other broadcasting: a box of three lengths would pass for three equal lattice vectors.
    if value.shape not in (tail, (*lead, *tail)) and not (dtype is bool and value.ndim == 0):
        raise ValueError(f"{name} must have shape {(*lead, *tail)} or {tail}, got {value.shape}")
    return jnp.broadcast_to(value.astype(dtype), (*lead, *tail))


def _set(system: System, **fields: Any) -> None:
    for name, value in fields.items():
        object.__setattr__(system, name, value)


_NAMES = tuple(field.name for field in dataclasses.fields(System))


def _fields(system: System) -> dict[str, Any]:
    return {name: getattr(system, name) for name in _NAMES}


def _new(fields: dict[str, Any]) -> System:
    """Build without validation: JAX unflattens with placeholders that are no arrays."""
    system = object.__new__(System)
    _set(system, **fields)
    return system


jax.tree_util.register_pytree_with_keys(
    System,
    lambda s: ([(jax.tree_util.GetAttrKey(n), getattr(s, n)) for n in _NAMES], None),
    lambda _, leaves: _new(dict(zip(_NAMES, leaves, strict=True))),
    lambda s: ([getattr(s, n) for n in _NAMES], None),
)


def flatten_batch(system: System) -> System:
    """All systems of a stack along one leading axis; of a single system, a stack of one."""
    axes = len(system.batch_shape)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[axes:]), system)


def stack(systems: Sequence[System]) -> System:
    """Stack single systems of equal size along a new leading axis, for ``vmap`` and for kernels.

    Raises:
        ValueError: If sizes or present fields differ; the message names the first odd one.
    """
    _same_fields(systems)
    for index, system in enumerate(systems):
        if system.is_packed or system.positions.shape != systems[0].positions.shape:
            raise ValueError(
                f"stack needs systems of one size: system 0 has positions "
                f"{systems[0].positions.shape}, system {index} {system.positions.shape}; "
                "use pack for mixed sizes"
            )
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *systems)


def pack(systems: Sequence[System]) -> System:
    """Join single systems of any sizes along one atom axis.

    Raises:
        ValueError: If some carry a field that others lack, or one is itself a stack or a pack.
    """
    _same_fields(systems)
    for index, system in enumerate(systems):
        if system.is_packed or system.batch_shape:
            raise ValueError(f"pack needs single systems; system {index} is a stack or a pack")
    sizes = np.array([system.atom_count for system in systems])
    first = systems[0]

    def stacked(name: str):
        if getattr(first, name) is None:
            return None
        return jnp.stack([getattr(s, name) for s in systems])

    return System(
        jnp.concatenate([s.positions for s in systems]),
        jnp.concatenate([s.numbers for s in systems]),
        **{n: stacked(n) for n in ("cell", "pbc", "charge", "spin", "electric_field")},
        structure=np.repeat(np.arange(len(systems)), sizes),
        structure_mask=np.ones(len(systems), bool),
    )


def _same_fields(systems: Sequence[System]) -> None:
    if not systems:
        raise ValueError("expected at least one system, got none")
    present = [tuple(n for n in _NAMES if getattr(s, n) is not None) for s in systems]
    for index, names in enumerate(present):
        if names != present[0]:
            raise ValueError(
                f"all systems must carry the same fields: system 0 has {present[0]}, "
                f"system {index} {names}"
            )


def to_atoms(system: System, per_structure: Array) -> Array:
    """Spread a per-structure quantity ``(*batch, ...)`` over atoms.

    The result is ``(*batch, atoms, ...)``, and ``(atoms, ...)`` for a pack.
    """
    if system.structure is not None:
        return per_structure[system.structure]
    axis = len(system.batch_shape)
    expanded = jnp.expand_dims(per_structure, axis)
    shape = (*expanded.shape[:axis], system.atom_count, *expanded.shape[axis + 1 :])
    return jnp.broadcast_to(expanded, shape)


def sum_atoms(system: System, per_atom: Array) -> Array:
    """Sum a per-atom quantity within each structure; padding atoms (number 0) do not count."""
    axis = system.numbers.ndim - 1
    mask = system.numbers > 0
    per_atom = jnp.where(mask.reshape(mask.shape + (1,) * (per_atom.ndim - mask.ndim)), per_atom, 0)
    if system.structure is None or system.structure_mask is None:
        return jnp.sum(per_atom, axis=axis)
    return jax.ops.segment_sum(per_atom, system.structure, len(system.structure_mask))


def strain(system: System, deformation: Float[Array, "*structures 3 3"]) -> System:
    r"""Deform positions and cell together, :math:`r \to r (1 + \varepsilon)`.

    Only the symmetric part of ``deformation`` acts: rotations are no strain.

    Reference:
        Knuth et al., Comput. Phys. Commun. 190, 33 (2015), doi:10.1016/j.cpc.2015.01.003.
    """
    deformation = jnp.broadcast_to(deformation, (*system.batch_shape, 3, 3))
    symmetric = 0.5 * (deformation + jnp.swapaxes(deformation, -1, -2))
    shift = jnp.einsum("...a,...ab->...b", system.positions, to_atoms(system, symmetric))
    cell = None if system.cell is None else system.cell + system.cell @ symmetric
    return system.replace(positions=system.positions + shift, cell=cell)
