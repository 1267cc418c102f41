"""The search for neighbours as a pure function of positions and cell, with everything else planned.

Two ways: all atoms with all others and their images, or, for large systems, with the atoms in the
linked cells around. Both hold for any cell and any mix of periodic directions, and say when the
plan does not suffice.

Reference:
    Allen & Tildesley, Computer Simulation of Liquids, 2nd ed. (2017), section 5.3 (linked cells).
"""

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt32

from jaxff.cell import complete, fractional, heights
from jaxff.neighbors import Neighbors, Pairs
from jaxff.system import System
from jaxff.types import Array, Bool, Float, Int

__all__ = ["SearchPlan", "completed", "covers", "linked_cells", "search"]

_BLOCK = 500_000
"""Candidate pairs that are looked at together; more are done in turn."""


@dataclass(frozen=True)
class SearchPlan:
    """What is decided before compilation, for one cutoff.

    Attributes:
        radius: Distance in Å within which pairs are listed.
        width: Slots of each atom.
        periodic: Which directions repeat.
        reach: How many images beyond the nearest one count in each direction; with a grid, how many
            of its cells.
        grid: Number of linked cells in each direction; zeros compare all pairs.
        room: Atoms that fit into one linked cell.
        most: Pairs that there may be in all, where they are to be fewer than the slots.
    """

    radius: float
    width: int
    periodic: tuple[bool, bool, bool]
    reach: tuple[int, int, int]
    grid: tuple[int, int, int] = (0, 0, 0)
    room: int = 0
    most: int | None = None

    @property
    def linked(self) -> bool:
        """Whether there is a grid."""
        return any(self.grid)

    def candidates(self, atoms: int) -> int:
        """Number of candidate neighbours that each atom is compared with."""
        images = math.prod(2 * n + 1 for n in self.reach)
        return images * (self.room if self.linked else atoms)


def search(
    plans: tuple[SearchPlan, ...],
    system: System,
    cutoffs: tuple[float, ...],
    skins: tuple[float, ...],
) -> Neighbors:
    """Lists of a single system by their plans; ``overflow`` says whether these sufficed."""
    periodic = plans[0].periodic if plans else (False, False, False)
    cell = completed(system, periodic)
    points = fractional(system.positions, cell)
    # Whole cells are counted apart, so that what is left is small and keeps its digits.
    whole = jnp.floor(points) * jnp.asarray(periodic)
    points = points - whole
    thickness = heights(cell)
    pbc = jnp.zeros(3, bool) if system.pbc is None else system.pbc
    overflow = jnp.any(pbc != jnp.asarray(periodic))
    pairs = []
    for plan in plans:
        look = _compare_linked if plan.linked else _compare_all
        others, images, many = look(plan, points, cell, system.numbers > 0)
        overflow |= many | ~covers(plan, thickness)
        if plan.most is not None:
            overflow |= jnp.sum(others < len(others)) > plan.most
        pairs.append(_as_pairs(others, images, whole.astype(jnp.int32), plan.most))
    return Neighbors(tuple(pairs), overflow, cutoffs, skins, plans)


def completed(system: System, periodic: tuple[bool, ...]) -> Float[Array, "3 3"]:
    """Cell with unit normals along the directions that do not repeat, whatever stands there."""
    if system.cell is None or not any(periodic):
        return jnp.eye(3, dtype=system.positions.dtype)
    if all(periodic):
        return system.cell
    repeats = jnp.asarray(periodic)
    return complete(jnp.where(repeats[:, None], system.cell, 0.0), repeats)


def covers(plan: SearchPlan, thickness: Float[Array, "3"]) -> Bool[Array, ""]:
    """Whether the planned images or cells reach far enough, for a cell of these heights in Å."""
    reach, periodic = np.asarray(plan.reach), np.asarray(plan.periodic)
    if plan.linked:
        enough = plan.radius * np.asarray(plan.grid) <= reach * thickness
    else:
        enough = plan.radius < (reach + 0.5) * thickness
    return jnp.all(enough | ~periodic)


def _as_pairs(
    others: Int[Array, "atoms width"],
    images: list[Int[Array, "atoms width"]],
    whole: Int[Array, "atoms 3"],
    most: int | None,
) -> Pairs:
    atoms, width = others.shape
    real = others < atoms
    safe = jnp.where(real, others, 0)
    shifts = [
        jnp.where(real, image + column[:, None] - column[safe], 0)
        for image, column in zip(images, whole.T, strict=True)
    ]
    centers = jnp.repeat(jnp.arange(atoms, dtype=jnp.int32), width)
    shifts = jnp.stack(shifts, axis=-1).reshape(-1, 3)
    return Pairs(centers, others.reshape(-1), shifts, atoms, width, most)


_Found = tuple[Array, list[Array], Array]
"""Neighbours (atoms, width), their images by direction, and whether some did not fit."""


def _compare_all(plan: SearchPlan, points: Array, cell: Array, real: Array) -> _Found:
    """Every atom with every other and its images, nearest ones first."""
    atoms = len(points)
    offsets = jnp.asarray(_offsets(plan.reach), jnp.int32)
    stride = -(-atoms // 32)
    columns = [jnp.pad(points[:, k], (0, 32 * stride - atoms)) for k in range(3)]
    present = jnp.pad(real, (0, 32 * stride - atoms))

    def rows(indices: Array) -> tuple[Array, ...]:
        own = [points[indices, k][:, None, None] for k in range(3)]

        def compare(bit: Array, packed: Array) -> Array:
            """Set a bit for the near ones among ``stride`` atoms: read and written in one go."""
            start = bit * stride
            moved = [
                _nearest(jax.lax.dynamic_slice_in_dim(c, start, stride) - o, periodic)
                + offsets[:, k, None].astype(c.dtype)
                for k, (c, o, periodic) in enumerate(zip(columns, own, plan.periodic, strict=True))
            ]
            other = start + jnp.arange(stride, dtype=jnp.int32)
            itself = (other == indices[:, None, None]) & jnp.all(offsets == 0, axis=1)[:, None]
            known = jax.lax.dynamic_slice_in_dim(present, start, stride)
            near = (_square(moved, cell) < plan.radius**2) & known & ~itself
            return packed | near.astype(jnp.uint32) << bit.astype(jnp.uint32)

        none = jnp.zeros((len(indices), len(offsets), stride), jnp.uint32)
        packed = jax.lax.fori_loop(0, 32, compare, none)
        packed = jnp.where(real[indices][:, None, None], packed, 0)
        return _select(packed.reshape(len(indices), -1), plan.width)

    word, bit, many = _in_blocks(rows, atoms, plan.candidates(atoms))
    empty = bit == 32
    word, bit = (jnp.where(empty, 0, x) for x in (word, bit))
    # Whole divisions are slow, and of no use where only the nearest images are near enough.
    image, place = jnp.divmod(word, stride) if any(plan.reach) else (None, word)
    others = bit * stride + place
    images = []
    for column, offset, periodic in zip(points.T, offsets.T, plan.periodic, strict=True):
        nearest = jnp.zeros_like(others)
        if periodic:
            nearest = jnp.round(column[:, None] - column[others]).astype(jnp.int32)
        images.append(nearest if image is None else nearest + offset[image])
    return jnp.where(empty, atoms, others), images, jnp.any(many)


def _nearest(apart: Array, periodic: bool) -> Array:
    """The nearest image of a fractional difference; a distance in Å where nothing repeats."""
    return apart - jnp.round(apart) if periodic else apart


def _compare_linked(plan: SearchPlan, points: Array, cell: Array, real: Array) -> _Found:
    """Every atom with the atoms in the cells around its own."""
    atoms, grid = len(points), jnp.asarray(plan.grid, jnp.int32)
    periodic = jnp.asarray(plan.periodic)
    member = linked_cells(plan, points, real)
    table, crowded = _table(plan, member, atoms)
    offsets = jnp.asarray(_offsets(plan.reach), jnp.int32)
    columns = [jnp.append(points[:, k], 0.0) for k in range(3)]

    def rows(indices: Array) -> tuple[Array, ...]:
        own = jnp.stack(jnp.unravel_index(member[indices], plan.grid), axis=-1)
        around = own[:, None] + offsets
        image = jnp.where(periodic, jnp.floor_divide(around, grid), 0)
        around = around - image * grid
        inside = jnp.all((around >= 0) & (around < grid), axis=-1)
        flat = (around[..., 0] * grid[1] + around[..., 1]) * grid[2] + around[..., 2]
        others = table[jnp.where(inside, flat, math.prod(plan.grid))]
        moved = [
            c[others] + image[..., k, None] - c[indices][:, None, None]
            for k, c in enumerate(columns)
        ]
        near = (_square(moved, cell) < plan.radius**2) & (others < atoms)
        itself = (others == indices[:, None, None]) & jnp.all(image == 0, axis=-1)[..., None]
        near = (near & ~itself & real[indices][:, None, None]).reshape(len(indices), -1)
        packed = _pack(near)
        word, bit, many = _select(packed, plan.width)
        empty = bit == 32
        slots = jnp.where(empty, 0, bit * packed.shape[1] + word)
        chosen = jnp.take_along_axis(others.reshape(len(indices), -1), slots, axis=1)
        images = [jnp.take_along_axis(image[..., k], slots // plan.room, axis=1) for k in range(3)]
        return jnp.where(empty, atoms, chosen).astype(jnp.int32), *images, many

    others, *images, many = _in_blocks(rows, atoms, plan.candidates(atoms))
    return others, images, jnp.any(many) | crowded


def linked_cells(plan: SearchPlan, points: Any, real: Any, xp: Any = jnp) -> Any:
    """Flat index (atoms,) of the linked cell of each atom; padding is past the last cell.

    In JAX, or with ``xp=np`` in NumPy: on the host, JAX would compile every operation by itself.
    """
    grid, periodic = xp.asarray(plan.grid), xp.asarray(plan.periodic)
    # Where nothing repeats, cells have a fixed thickness and atoms outside belong to the last one:
    # neighbours still differ by no more than the reach.
    thickness = plan.radius / np.asarray(plan.reach)
    weight = real[:, None] / xp.maximum(xp.sum(real), 1)
    middle = xp.sum(xp.where(real[:, None], points, 0.0) * weight, axis=0)
    free = (points - middle) / thickness + 0.5 * grid
    index = xp.floor(xp.where(periodic, points * grid, free))
    index = xp.clip(index, 0, grid - 1).astype(xp.int32)
    flat = (index[:, 0] * plan.grid[1] + index[:, 1]) * plan.grid[2] + index[:, 2]
    return xp.where(real, flat, math.prod(plan.grid)).astype(xp.int32)


def _table(plan: SearchPlan, member: Array, atoms: int) -> tuple[Array, Bool[Array, ""]]:
    """Atoms of each cell, filled up with ``atoms``, and whether a cell has too many."""
    count = math.prod(plan.grid)
    order = jnp.argsort(member).astype(jnp.int32)
    edges = jnp.searchsorted(member[order], jnp.arange(count + 1))
    slots = edges[:-1, None] + jnp.arange(plan.room)
    full = slots < edges[1:, None]
    table = jnp.where(full, order[jnp.minimum(slots, atoms - 1)], atoms).astype(jnp.int32)
    nothing = jnp.full((1, plan.room), atoms, jnp.int32)
    return jnp.concatenate([table, nothing]), jnp.max(jnp.diff(edges)) > plan.room


def _square(moved: list[Array], cell: Array) -> Array:
    """Squared lengths in Å² of vectors in units of the lattice vectors."""
    a, b, c = moved
    return functools.reduce(
        jnp.add, ((a * cell[0, k] + b * cell[1, k] + c * cell[2, k]) ** 2 for k in range(3))
    )


def _offsets(reach: tuple[int, int, int]) -> np.ndarray:
    """All whole triples within the reach, the null triple first."""
    triples = list(itertools.product(*(range(-n, n + 1) for n in reach)))
    return np.asarray(sorted(triples, key=lambda t: (sum(x * x for x in t), t)))


def _in_blocks(
    rows: Callable[[Array], tuple[Array, ...]], atoms: int, candidates: int
) -> tuple[Array, ...]:
    """``rows`` of all atoms, in blocks: results are stored then, not computed for every use."""
    block = max(1, min(atoms, _BLOCK // max(candidates, 1)))
    if block >= atoms:
        return rows(jnp.arange(atoms, dtype=jnp.int32))
    blocks = -(-atoms // block)
    # The last block repeats the last atom.
    indices = jnp.minimum(jnp.arange(blocks * block, dtype=jnp.int32), atoms - 1)
    found = jax.lax.map(rows, indices.reshape(blocks, block))
    return tuple(x.reshape(blocks * block, *x.shape[2:])[:atoms] for x in found)


def _pack(mask: Bool[Array, "rows columns"]) -> UInt32[Array, "rows words"]:
    """Columns as bits: column ``bit * words + word``."""
    words = -(-mask.shape[1] // 32)
    padded = jnp.pad(mask, ((0, 0), (0, 32 * words - mask.shape[1]))).reshape(-1, 32, words)
    bits = padded.astype(jnp.uint32) << jnp.arange(32, dtype=jnp.uint32)[:, None]
    return jnp.sum(bits, axis=1, dtype=jnp.uint32)


def _select(
    packed: UInt32[Array, "rows words"], width: int
) -> tuple[Int[Array, "rows width"], Int[Array, "rows width"], Bool[Array, " rows"]]:
    """Word and bit of the first ``width`` bits that are set in each row, and if there are more.

    Where there are fewer, the bit is 32. Counting bits tells which word holds the k-th one, halving
    the word five times where: much faster on a CPU than to sort, or to scatter.
    """
    words = packed.shape[1]
    through = jnp.cumsum(jax.lax.population_count(packed).astype(jnp.int32), axis=1)
    rank = jnp.arange(width, dtype=jnp.int32)
    method = "compare_all" if words <= 64 else "scan"
    look = functools.partial(jnp.searchsorted, side="right", method=method)
    word = jax.vmap(look, (0, None))(through, rank).astype(jnp.int32)
    before = jnp.take_along_axis(through, jnp.maximum(word - 1, 0), axis=1)
    left = (rank - jnp.where(word > 0, before, 0)).astype(jnp.uint32)
    word = jnp.minimum(word, words - 1)
    part = jnp.take_along_axis(packed, word, axis=1)

    def halve(step: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        part, left, bit = state
        half = jnp.uint32(16) >> step.astype(jnp.uint32)
        low = part & ((jnp.uint32(1) << half) - 1)
        count = jax.lax.population_count(low)
        upper = left >= count
        return (
            jnp.where(upper, part >> half, low),
            jnp.where(upper, left - count, left),
            bit + jnp.where(upper, half, 0).astype(jnp.int32),
        )

    # A loop: written out, each of the five steps would be computed again for every later one.
    bit = jax.lax.fori_loop(0, 5, halve, (part, left, jnp.zeros_like(word)))[2]
    return word, jnp.where(rank < through[:, -1:], bit, 32), through[:, -1] > width
