"""The adapter to jax-md: any energy function under jax-md's own calling contract.

jax-md asks for ``energy_fn(R, neighbor=..., **kwargs)``, ``neighbor_fn.allocate(R)`` and
``update(R, neighbors)``, and ``shift_fn(R, dR, **kwargs)``. Coordinates are real (Cartesian, Å),
never wrapped: periodic images are whole cell shifts carried by the pair list, so a trajectory stays
continuous and diffusion needs no unwrapping. Energies are in eV; with masses in eV fs²/Å²
(``jaxff.units.TIME ** 2`` times amu) jax-md's time is in fs, and ``kT`` is in eV.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from jaxff.derivatives import require_strain
from jaxff.neighbors import NeighborListFns
from jaxff.potential import EnergyFn
from jaxff.system import System
from jaxff.types import Array

__all__ = ["TrackedNeighbors", "to_jax_md"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrackedNeighbors:
    """A pair list that knows for which positions it was built, as jax-md's loops expect.

    Attributes:
        neighbors: :class:`jaxff.neighbors.Neighbors`, or ``None`` for a potential without cutoffs.
        reference_position: Positions ``(atoms, 3)`` in Å at which the list was built.
        did_buffer_overflow: True once the list can no longer be trusted: an atom has moved by more
            than half the skin, or the buffer was too small. Sticky, as in jax-md: check it outside
            jit, then ``allocate`` anew from positions at which it was still False.
    """

    # Not annotated by shape: JAX rebuilds pytrees with placeholders that are no arrays.
    neighbors: Any
    reference_position: Any
    did_buffer_overflow: Any


def to_jax_md(
    energy_fn: EnergyFn, system: System, *, neighbor_list: NeighborListFns | None = None
) -> tuple[Any, Callable[..., Array], Callable[..., Array]]:
    """An energy function as jax-md calls it, for its ``simulate``, ``minimize``, ``quantity``.

    ``neighbor=`` takes what ``neighbor_fn`` gives, or a plain :class:`jaxff.neighbors.Neighbors`. A
    potential without cutoffs gets a ``neighbor_fn`` too, whose list is empty and never overflows,
    so that one loop serves every potential; it may also be called without ``neighbor``. ``update``
    works inside jit: it checks displacements against the skin and raises the flag; building pairs
    anew is ``allocate``, on the host.

    ``perturbation=`` (a number or a 3×3 matrix) deforms positions and cell together, as
    ``jax_md.quantity.pressure`` and ``stress`` ask; a potential that was not fitted to what
    determines its stress refuses. Keywords that do not touch the geometry
    (``kT``, ``t``) are accepted and ignored, as jax-md passes those of its integrators on.

    Args:
        energy_fn: Energy function of ``(system, neighbors)``.
        system: Single system that gives everything but the positions.
        neighbor_list: Result of :func:`jaxff.neighbors.neighbor_list`; needed if the potential has
            cutoffs.

    Returns:
        ``(neighbor_fn, energy_fn, shift_fn)``.

    Raises:
        ValueError: If the system is a stack or a pack, if a list is needed and not given, or (when
            called) for ``box=``, as the cell is that of ``system``, and for ``perturbation=`` where
            the potential refuses to give a stress.
    """
    if system.batch_shape or system.is_packed:
        raise ValueError("to_jax_md takes a single system; use jax.vmap over its energy for stacks")
    cutoffs = getattr(energy_fn, "cutoffs", ())
    if cutoffs and neighbor_list is None:
        raise ValueError(
            f"this potential has cutoffs {cutoffs} Å: "
            "give neighbor_list=neighbor_list(energy_fn.cutoffs, skin=1.0)"
        )

    def energy(R: Array, neighbor: Any = None, **kwargs: Any) -> Array:
        if kwargs.get("perturbation") is not None:
            require_strain(energy_fn, system)
        moved = _deform(system.replace(positions=R), **kwargs)
        pairs = neighbor.neighbors if isinstance(neighbor, TrackedNeighbors) else neighbor
        return energy_fn(moved, pairs)

    return _neighbor_fn(system, neighbor_list), energy, shift


def shift(R: Array, dR: Array, **kwargs: Any) -> Array:
    """Move atoms without wrapping them into the cell."""
    return R + dR


def _deform(system: System, *, box: Any = None, perturbation: Any = None, **_: Any) -> System:
    if box is not None:
        raise ValueError(
            "box= is not supported: this energy runs at the cell of its system in real "
            "coordinates; call to_jax_md with another system to change the cell"
        )
    if perturbation is None:
        return system
    matrix = jnp.asarray(perturbation) * jnp.eye(3, dtype=system.positions.dtype)
    if jnp.ndim(perturbation) == 2:
        matrix = jnp.asarray(perturbation)
    cell = None if system.cell is None else system.cell @ matrix.T
    return system.replace(positions=system.positions @ matrix.T, cell=cell)


def _neighbor_fn(system: System, neighbor_list: NeighborListFns | None) -> Any:
    from jax_md.partition import NeighborListFns

    def allocate(R: Array, extra_capacity: int = 0, **kwargs: Any) -> TrackedNeighbors:
        pairs = None
        if neighbor_list is not None:
            pairs = neighbor_list.allocate(system.replace(positions=R))
        overflow = jnp.zeros((), bool) if pairs is None else pairs.overflow
        return TrackedNeighbors(pairs, R, overflow)

    def update(R: Array, neighbors: TrackedNeighbors, **kwargs: Any) -> TrackedNeighbors:
        if neighbors.neighbors is None or not neighbors.neighbors.skins:
            return neighbors
        limit = 0.5 * min(neighbors.neighbors.skins)
        square = jnp.sum((R - neighbors.reference_position) ** 2, axis=-1)
        moved = ~(jnp.max(square) <= limit**2)  # NaN counts as moved
        return replace(neighbors, did_buffer_overflow=neighbors.did_buffer_overflow | moved)

    return NeighborListFns(allocate, update)  # pyright: ignore[reportCallIssue]
