"""Systems that carry their neighbour lists, so that stages of kernels still take one argument.

Whatever selects, stacks, displaces or strains systems then treats the lists alike: they are further
leaves. Lists are made of indices and whole lattice vectors, which no derivative passes through, so
that distances computed from them follow positions and cell.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxff.neighbors import Neighbors, Pairs
from jaxff.system import System
from jaxff.types import Array, Int

__all__ = ["ListedSystem", "cutoffs_of", "describe", "listed", "permuted"]


@dataclass(frozen=True, init=False)
class ListedSystem(System):
    """A system, or a stack of them, with the lists of its neighbours.

    Attributes:
        neighbors: The lists; those of a stack have its leading axes. Never ``None``.
    """

    neighbors: Any = None

    def replace(self, **fields: Any) -> "ListedSystem":
        """A copy with some fields exchanged and, unless given too, the same lists."""
        return _with_lists({**vars(self), **fields})

    @property
    def bare(self) -> System:
        """The system alone."""
        return System.replace(self)


def _with_lists(fields: dict[str, Any]) -> ListedSystem:
    system = object.__new__(ListedSystem)
    for name, value in fields.items():
        object.__setattr__(system, name, value)
    return system


_NAMES = tuple(field.name for field in dataclasses.fields(ListedSystem))

jax.tree_util.register_pytree_node(
    ListedSystem,
    lambda system: ([getattr(system, name) for name in _NAMES], None),
    lambda _, leaves: _with_lists(dict(zip(_NAMES, leaves, strict=True))),
)


def listed(system: System, neighbors: Any) -> System:
    """The system with its lists; as it is if there are none.

    Raises:
        TypeError: If these are no lists.
        ValueError: If they are not as many as the systems, or for another number of atoms.
    """
    if neighbors is None:
        return system
    if not isinstance(neighbors, Neighbors):
        raise TypeError(
            "neighbors must be made by neighbor_list(...).allocate(system), got "
            f"{type(neighbors).__name__}"
        )
    found = jnp.shape(neighbors.overflow)
    if found != system.batch_shape:
        raise ValueError(
            f"a stack of shape {system.batch_shape} needs lists of that shape, got {found}: "
            "neighbor_list(energy_fn.cutoffs).allocate_stack(systems)"
        )
    for pairs in neighbors.pairs:
        if pairs.atoms != system.atom_count:
            raise ValueError(
                f"the lists were allocated for {pairs.atoms} atoms, the system has "
                f"{system.atom_count}: allocate neighbors for this system"
            )
    return _with_lists({**vars(system), "neighbors": neighbors})


def takes_neighbors(descriptor: Callable[..., Array]) -> bool:
    """Whether a descriptor has an argument for lists."""
    return "neighbors" in inspect.signature(descriptor).parameters


def cutoffs_of(descriptor: Callable[..., Array]) -> tuple[float, ...]:
    """Radii in Å of the lists that a descriptor needs of periodic systems.

    It declares them in an attribute ``cutoffs``, or ``cutoff`` if it is one, and has an argument
    ``neighbors``; one without needs none.
    """
    if not takes_neighbors(descriptor):
        return ()
    radii = getattr(descriptor, "cutoffs", None)
    if radii is None:
        radius = getattr(descriptor, "cutoff", None)
        radii = () if radius is None else (radius,)
    return tuple(sorted({float(radius) for radius in radii}))


def describe(descriptor: Callable[..., Array], system: System, hyper: Mapping[str, Any]) -> Array:
    """Features of a single system; a descriptor that takes lists gets those the system carries."""
    if not isinstance(system, ListedSystem):
        return descriptor(system, **hyper)
    if not takes_neighbors(descriptor):
        return descriptor(system.bare, **hyper)
    return descriptor(system.bare, neighbors=system.neighbors, **hyper)


def permuted(system: System, permutation: Int[Array, " atoms"]) -> System:
    """A single system whose atom i is what was atom ``permutation[i]``, with its neighbours.

    Numbers stay: only equal atoms are exchanged.
    """
    moved = system.replace(positions=system.positions[permutation])
    if not isinstance(system, ListedSystem):
        return moved
    lists = system.neighbors
    pairs = tuple(_permuted_pairs(own, permutation) for own in lists.pairs)
    kept = Neighbors(pairs, lists.overflow, lists.cutoffs, lists.skins)
    return moved.replace(neighbors=kept)


def _permuted_pairs(pairs: Pairs, permutation: Array) -> Pairs:
    atoms = pairs.atoms
    own = jnp.arange(atoms + 1, dtype=pairs.others.dtype)
    place = own.at[permutation].set(own[:atoms])  # padding, at the end, stays where it is
    if pairs.width is not None:
        rows = (permutation[:, None] * pairs.width + jnp.arange(pairs.width)).ravel()
        others, shifts = place[pairs.others[rows]], pairs.shifts[rows]
        return Pairs(pairs.centers, others, shifts, atoms, pairs.width, pairs.most)
    centers = place[pairs.centers]
    order = jnp.argsort(centers, stable=True)
    return Pairs(centers[order], place[pairs.others[order]], pairs.shifts[order], atoms)
