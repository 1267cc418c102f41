"""Surroundings of atoms: what all atom-centred descriptors are made of.

Radial sums run over the pairs of a neighbour list as they come. Sums over pairs of neighbours need
*rows*, the same number of slots for each atom: a list that has none is brought into rows, which
takes a bound on the number of neighbours that compiled code cannot look up.
"""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxff.neighbors import Neighbors, Pairs, displacements
from jaxff.numerics import safe_norm
from jaxff.radial import cutoffs
from jaxff.system import System
from jaxff.types import Array, Bool, Float, Int

__all__ = [
    "CUTOFF_FUNCTIONS",
    "Surroundings",
    "check_cutoff",
    "cutoff_function",
    "find_pairs",
    "in_rows",
    "one_hot",
    "permute_atoms",
    "require_elements",
    "species_index",
    "surroundings",
]

CUTOFF_FUNCTIONS = {"bump": math.inf, "polynomial": 2, "smoothstep": 2, "cosine": 1}
"""Names of cutoff functions, and how many derivatives are continuous at the cutoff."""


def check_cutoff(cutoff: float, function: str) -> None:
    """Refuse cutoffs that make no sense.

    Raises:
        ValueError: If the cutoff is not positive and finite, or the function unknown.
    """
    if not 0.0 < cutoff < math.inf:
        raise ValueError(f"cutoff must be a positive number in Å, got {cutoff}")
    if function not in CUTOFF_FUNCTIONS:
        raise ValueError(
            f"cutoff_function must be one of {sorted(CUTOFF_FUNCTIONS)}, got {function!r}"
        )


def cutoff_function(
    function: str, distances: Float[Array, "*shape"], cutoff: float
) -> Float[Array, "*shape"]:
    """Cutoff function of this name, see :mod:`jaxff.radial.cutoffs`."""
    return getattr(cutoffs, function)(distances, cutoff)


class Surroundings(NamedTuple):
    """Neighbours of each atom; unused slots have a vector of 1 Å and no species."""

    vectors: Float[Array, "atoms slots 3"]
    distances: Float[Array, "atoms slots"]
    species: Float[Array, "atoms slots elements"]


def surroundings(
    system: System,
    cutoff: float,
    elements: tuple[int, ...],
    neighbors: Any = None,
    max_neighbors: int | None = None,
) -> Surroundings:
    """Vectors, distances (Å) and one-hot species of the neighbours of each atom.

    Species of elements that are not listed are NaN, and so are those of atoms with more neighbours
    than there are slots: no features may look like numbers then.

    Args:
        system: A single system or a pack.
        cutoff: Radius in Å by which the list was made.
        elements: Atomic numbers, in the order of the features.
        neighbors: Lists; ``None`` for all pairs of a molecule.
        max_neighbors: Slots per atom, for lists without rows; see :func:`in_rows`.

    Raises:
        ValueError: As :func:`find_pairs` and :func:`in_rows`; for an element that is not listed,
            where numbers are known.
    """
    pairs = find_pairs(system, cutoff, neighbors)
    rows, lost = in_rows(pairs, max_neighbors, molecule=system.cell is None)
    vectors, mask = displacements(system, rows)
    numbers = jnp.where(mask, system.numbers[jnp.where(mask, rows.others, 0)], 0)
    shape = (system.atom_count, rows.width or 0)
    vectors, numbers = vectors.reshape(*shape, 3), numbers.reshape(shape)
    species = one_hot(elements, numbers, vectors.dtype)
    species = jnp.where(lost[:, None, None], jnp.nan, species)
    require_elements(elements, system.numbers)
    return Surroundings(vectors, safe_norm(vectors), species)


def find_pairs(system: System, cutoff: float, neighbors: Any = None) -> Pairs:
    """The pairs of a list, or all pairs of real atoms of a molecule (in rows).

    Raises:
        ValueError: For a stack, and for a periodic system without a list.
    """
    if system.positions.ndim != 2:
        raise ValueError(
            f"a stack of shape {system.batch_shape} has no common pairs: use pack, or jax.vmap"
        )
    if isinstance(neighbors, Neighbors):
        return neighbors.within(cutoff)
    if neighbors is not None:
        raise TypeError(
            f"neighbors must be made by neighbor_list(...).allocate(system), got "
            f"{type(neighbors).__name__}"
        )
    if system.cell is not None:
        raise ValueError(
            "the images within the cutoff of a periodic system must be listed: give "
            f"neighbors=neighbor_list({cutoff}).allocate(system)"
        )
    atoms = system.atom_count
    centers, others = _all_pairs(atoms)
    real = (system.numbers[centers] > 0) & (system.numbers[others] > 0)
    if system.structure is not None:
        real = real & (system.structure[centers] == system.structure[others])
    return Pairs(
        jnp.asarray(centers),
        jnp.where(real, jnp.asarray(others), atoms),
        jnp.zeros((len(centers), 3), jnp.int32),
        atoms,
        max(atoms - 1, 0),
    )


def _all_pairs(atoms: int) -> tuple[np.ndarray, np.ndarray]:
    centers = np.repeat(np.arange(atoms, dtype=np.int32), max(atoms - 1, 0))
    others = np.tile(np.arange(max(atoms - 1, 0), dtype=np.int32), atoms)
    return centers, others + (others >= centers)


def in_rows(
    pairs: Pairs, max_neighbors: int | None = None, *, molecule: bool = False
) -> tuple[Pairs, Bool[Array, " atoms"]]:
    """The same pairs with equally many slots for each atom, and True where those do not suffice.

    Args:
        pairs: A list; one that has rows is returned as it is.
        max_neighbors: Slots per atom.
        molecule: Whether no atom has neighbours twice: there are then at most ``atoms - 1``.

    Raises:
        ValueError: If the list is traced and nothing bounds the number of neighbours.
    """
    if pairs.width is not None:
        return pairs, jnp.zeros(pairs.atoms, bool)
    atoms, count = pairs.atoms, len(pairs.centers)
    start = jnp.searchsorted(pairs.centers, jnp.arange(atoms + 1))
    neighbors_of = start[1:] - start[:-1]
    if max_neighbors is not None:
        width = max_neighbors
    elif not isinstance(neighbors_of, Tracer):
        width = int(jnp.max(neighbors_of, initial=0))
    elif molecule:
        width = min(max(atoms - 1, 0), count)
    else:
        raise ValueError(
            "compiled code cannot look up how many neighbours an atom has: give max_neighbors to "
            "the descriptor, or a list with rows (jaxff.dynamics.neighbor_update)"
        )
    slot = jnp.arange(count) - start[jnp.minimum(pairs.centers, atoms)]
    # past the last slot, and out of bounds where the scatter drops it, if there is no room
    target = jnp.where((slot < width) & (pairs.centers < atoms), pairs.centers * width + slot, -1)
    target = jnp.where(target < 0, atoms * width, target)

    def place(values: Array, fill: int) -> Array:
        empty = jnp.full((atoms * width, *values.shape[1:]), fill, values.dtype)
        return empty.at[target].set(values, mode="drop")

    rows = Pairs(
        jnp.repeat(jnp.arange(atoms), width, total_repeat_length=atoms * width),
        place(pairs.others, atoms),
        place(pairs.shifts, 0),
        atoms,
        width,
    )
    return rows, neighbors_of > width


def one_hot(
    elements: tuple[int, ...], numbers: Int[Array, "*shape"], dtype: Any
) -> Float[Array, "*shape elements"]:
    """1 at the place of each element, 0 elsewhere; all 0 for number 0, NaN if not listed."""
    table = jnp.asarray(elements, numbers.dtype)
    found = (numbers[..., None] == table).astype(dtype)
    unknown = (numbers > 0) & ~jnp.any(found > 0, axis=-1)
    return jnp.where(unknown[..., None], jnp.nan, found)


def species_index(elements: tuple[int, ...], numbers: Int[Array, "*shape"]) -> Int[Array, "*shape"]:
    """Place of each element in the list; 0 for one that is not listed."""
    table = np.zeros(max(elements) + 1, np.int32)
    table[list(elements)] = np.arange(len(elements))
    return jnp.take(jnp.asarray(table), numbers, mode="clip")


def require_elements(elements: tuple[int, ...], numbers: Array) -> None:
    """Refuse atoms of elements that are not listed, where numbers are known.

    Raises:
        ValueError: Naming them.
    """
    if isinstance(numbers, Tracer):
        return
    unknown = sorted(set(np.unique(numbers).tolist()) - {0, *elements})
    if unknown:
        raise ValueError(
            f"the descriptor is made for the elements {list(elements)}, the system also has "
            f"{unknown}: name all elements of the data"
        )


def permute_atoms(
    permutations: Int[np.ndarray, "*perms atoms"], size: int
) -> Int[np.ndarray, "*perms features"]:
    """Indices into flattened features ``(atoms, size)`` of permuted equal atoms."""
    index = permutations[..., None] * size + np.arange(size)
    return index.reshape(*permutations.shape[:-1], -1)
