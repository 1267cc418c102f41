"""Neighbour lists made inside compiled code, for any mix of periodic directions and any cell.

:func:`allocate` looks at a system on the host and plans the search: how many slots each atom gets,
which images can be near, and, for large systems, a grid of linked cells. The plan travels with the
list as static data; :func:`update_neighbors` then builds the list anew from positions and cell, and
raises ``overflow`` as soon as the plan no longer suffices. Positions are never wrapped: shifts
count the lattice vectors between the atoms as they are.
"""

import functools
import math
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.cell import fractional, heights
from jaxff.dynamics.neighbor_search import SearchPlan, completed, covers, linked_cells, search
from jaxff.neighbors import NeighborListFns, Neighbors, Pairs
from jaxff.system import System
from jaxff.types import Array, Bool, Float

__all__ = ["SearchPlan", "allocate", "is_stale", "update_neighbors"]


def allocate(
    lists: NeighborListFns,
    system: System,
    *,
    previous: Neighbors | None = None,
    link: bool | None = None,
    shrink: float = 0.02,
    growth: float = 1.0,
) -> Neighbors:
    """Plan the lists of a system and build them.

    Each atom gets ``capacity`` times the mean number of neighbours as slots, and at least 5 % more
    than the largest number. All together may have ``capacity`` times the pairs that there are.

    Args:
        lists: Cutoffs, skins and capacities.
        system: Single system; positions in Å.
        previous: Lists made before. Their plan is kept, and with it compiled code, where it still
            serves; otherwise the new one has no less room.
        link: Whether to sort atoms into cells, which takes time in proportion to their
            number, instead of comparing all pairs; by default, whatever compares fewer.
        shrink: Fraction by which the heights of the cell may shrink before another plan is needed.
        growth: Where the plan of before does not serve: room of the new one as a multiple of what
            is there now, if that is more than the capacity gives.

    Raises:
        ValueError: For stacks and packs, positions or cells that are not finite, and dependent
            lattice vectors.
        TypeError: If called within a traced function.
    """
    if system.batch_shape or system.is_packed:
        raise ValueError("lists with rows are for a single system, got a stack or a pack")
    found = lists.allocate(system)  # counts the pairs, and refuses what makes no sense
    old = (None,) * len(lists.cutoffs) if previous is None else previous.plan
    if old is None or len(old) != len(lists.cutoffs):
        raise ValueError("previous lists must come from allocate, with the same cutoffs")
    host = _Host.of(system)
    plans = tuple(
        _plan(host, cutoff + skin, capacity, growth, _counts(pairs), before, link, shrink)
        for cutoff, skin, capacity, pairs, before in zip(
            lists.cutoffs, lists.skins, lists.capacities, found.pairs, old, strict=True
        )
    )
    return _build(plans, system, lists.cutoffs, lists.skins)


@dataclass(frozen=True)
class _Host:
    """Geometry of a system as numbers: fractional coordinates of real atoms, heights in Å."""

    points: np.ndarray
    heights: np.ndarray
    periodic: np.ndarray
    atoms: int

    @classmethod
    def of(cls, system: System) -> "_Host":
        pbc = np.zeros(3, bool) if system.pbc is None else np.asarray(system.pbc)
        cell = completed(system, tuple(pbc.tolist()))
        points = np.asarray(fractional(system.positions, cell), np.float64)
        real = np.asarray(system.numbers) > 0
        return cls(points[real], np.asarray(heights(cell), np.float64), pbc, len(points))


def _counts(pairs: Pairs) -> np.ndarray:
    centers = np.asarray(pairs.centers)
    return np.bincount(centers[centers < pairs.atoms], minlength=pairs.atoms)


def _plan(
    host: _Host,
    radius: float,
    capacity: float,
    growth: float,
    counts: np.ndarray,
    old: SearchPlan | None,
    link: bool | None,
    shrink: float,
) -> SearchPlan:
    """The cheapest plan, or the old one where that still serves."""
    if old is not None and old.radius == radius and _serves(old, host, counts):
        return old
    fullest = counts.max(initial=0)
    least, least_of_all, beyond = (1, 0, 1.05)
    if old is not None:
        # Whatever was too small, all may soon be: what grows together is planned together.
        capacity, beyond = max(capacity, growth), max(beyond, growth)
        least, least_of_all = old.width, old.most or 0
    real = counts[counts > 0]
    mean = real.mean() if len(real) else 0.0
    width = max(least, _rounded(max(capacity * mean, beyond * fullest + 1), 8, 4))
    most = max(least_of_all, _rounded(capacity * counts.sum(), 16, 8))
    choices = [_all_pairs(host, radius, shrink)]
    if link is not False:
        choices += [_linked(host, radius, cells, capacity, shrink) for cells in (1, 2)]
    if link:
        choices = choices[1:]
    # Cells cost a sort and scattered reads; a single cell is a poor way to compare all pairs.
    best = min(choices, key=lambda p: p.candidates(host.atoms) * (1.5 if p.linked else 1.0))
    width = max(1, min(width, best.candidates(host.atoms)))
    return replace(best, width=width, most=min(most, host.atoms * width))


def _rounded(needed: float, parts: int, step: int) -> int:
    """Room in parts of a power of two, or in these steps: what grows little by little settles."""
    step = max(step, 2 ** int(math.log2(max(needed, 4))) // parts)
    return math.ceil(needed / step) * step


def _all_pairs(host: _Host, radius: float, shrink: float) -> SearchPlan:
    # Of the nearest image fractional differences are at most 1/2, of pairs in the radius at most
    # radius / height.
    reach = np.floor(radius / (host.heights * (1 - shrink)) + 0.5)
    return SearchPlan(radius, 0, _triple(host.periodic), _triple(reach * host.periodic))


def _linked(host: _Host, radius: float, cells: int, capacity: float, shrink: float) -> SearchPlan:
    """A grid whose cells are at least ``radius / cells`` thick, unless the system is thinner."""
    thickness = host.heights * (1 - shrink)
    extent = np.ptp(host.points, axis=0) if len(host.points) else np.zeros(3)
    free = np.clip(np.ceil(extent * cells / radius) + 1, 1, 256)
    grid = np.where(host.periodic, np.clip(np.floor(thickness * cells / radius), 1, 256), free)
    grid = grid.astype(int)
    reach = np.where(host.periodic, np.ceil(radius * grid / thickness), cells).astype(int)
    plan = SearchPlan(radius, 0, _triple(host.periodic), _triple(reach), _triple(grid), 1)
    occupied = _occupied(plan, host)
    room = max(math.ceil(capacity * occupied), occupied + 2)
    return replace(plan, room=max(1, min(room, host.atoms)))


def _triple(values: np.ndarray) -> tuple:
    return tuple(values.tolist()) if values.dtype == bool else tuple(int(v) for v in values)


def _occupied(plan: SearchPlan, host: _Host) -> int:
    """Largest number of atoms in a cell of the grid."""
    if not len(host.points):
        return 0
    points = host.points - np.floor(host.points) * host.periodic
    cells = linked_cells(plan, points, np.ones(len(points), bool), np)
    return int(np.bincount(cells).max())


def _serves(plan: SearchPlan, host: _Host, counts: np.ndarray) -> bool:
    fits = len(counts) == host.atoms and counts.max(initial=0) <= plan.width
    fits &= plan.most is None or counts.sum() <= plan.most
    same = plan.periodic == _triple(host.periodic)
    if not (fits and same and bool(covers(plan, jnp.asarray(host.heights)))):
        return False
    return not plan.linked or _occupied(plan, host) <= plan.room


def update_neighbors(system: System, neighbors: Neighbors) -> Neighbors:
    """The same lists for other positions or another cell; pure, for use inside ``jit``.

    Shapes and static data stay, so that it fits into ``scan`` and ``while_loop``. ``overflow`` is
    raised, and stays, when an atom has more neighbours than slots, all together more than planned,
    a linked cell more atoms than room, the cell became too thin for the planned images, or other
    directions repeat. Go back to a
    state in which it was not raised and call :func:`allocate`.

    Args:
        system: The system that the lists were allocated for, moved.
        neighbors: Result of :func:`allocate` or of this function.

    Raises:
        ValueError: If the lists have no plan, or belong to a system of another size.
    """
    if neighbors.plan is None:
        raise ValueError(
            "these lists have no plan to renew them by: make them with "
            "jaxff.dynamics.neighbor_update.allocate"
        )
    if any(pairs.atoms != system.atom_count for pairs in neighbors.pairs):
        raise ValueError(
            f"the lists were allocated for {neighbors.pairs[0].atoms} atoms, the system has "
            f"{system.atom_count}: allocate anew"
        )
    renewed = search(neighbors.plan, system, neighbors.cutoffs, neighbors.skins)
    return Neighbors(
        renewed.pairs,
        neighbors.overflow | renewed.overflow,
        neighbors.cutoffs,
        neighbors.skins,
        neighbors.plan,
    )


def is_stale(system: System, reference: System, neighbors: Neighbors) -> Bool[Array, ""]:
    r"""Whether pairs within a cutoff may be missing from lists built at ``reference``.

    With the deformation F that takes the old cell to the new one and displacements
    :math:`u_i = r_i - r_i^0 F` (less their mean), a pair that was farther apart than R is still
    farther than :math:`R\,\sigma_{min}(F) - 2\max|u|`; for a fixed cell this is the usual rule that
    nothing moves by more than half the skin. The smallest singular value is bounded from below by
    :math:`1 - |F - 1|`. Positions that are not finite are stale.
    """
    moved = jnp.where((system.numbers > 0)[:, None], system.positions, 0.0)
    origin = jnp.where((system.numbers > 0)[:, None], reference.positions, 0.0)
    strained = jnp.zeros((), moved.dtype)
    # The same array where the cell is fixed: then nothing is computed of it in every step.
    fixed = system.cell is reference.cell
    if system.cell is not None and reference.cell is not None and not fixed:
        periodic = neighbors.plan[0].periodic if neighbors.plan else (True, True, True)
        old, new = completed(reference, periodic), completed(system, periodic)
        change = _deformation(old, new)
        origin = origin + origin @ change
        strained = jnp.sqrt(jnp.sum(change**2))
    displaced = moved - origin
    real = jnp.maximum(jnp.sum(system.numbers > 0), 1)
    displaced = displaced - jnp.sum(displaced, axis=0) / real
    displaced = jnp.where((system.numbers > 0)[:, None], displaced, 0.0)
    farthest = jnp.sqrt(jnp.max(jnp.sum(displaced**2, axis=-1), initial=0.0))
    sound = jnp.ones((), bool)
    for cutoff, skin in zip(neighbors.cutoffs, neighbors.skins, strict=True):
        sound &= 2.0 * farthest <= (cutoff + skin) * (1.0 - strained) - cutoff
    return ~sound


def _deformation(old: Float[Array, "3 3"], new: Float[Array, "3 3"]) -> Float[Array, "3 3"]:
    """The matrix ``F - 1`` of the map ``r -> r F`` that takes one cell to the other."""
    return fractional(jnp.eye(3, dtype=old.dtype), old) @ (new - old)


@functools.partial(jax.jit, static_argnums=(0, 2, 3))
def _build(
    plans: tuple[SearchPlan, ...],
    system: System,
    cutoffs: tuple[float, ...],
    skins: tuple[float, ...],
) -> Neighbors:
    return search(plans, system, cutoffs, skins)
