"""How tiles and columns of the kernel matrix are made, and its diagonal.

Groups of up to 16 permutations are summed at once, in vector registers along the references of the
rows (:mod:`jaxff.gdml.blocks`). For larger groups the blocks of kernels of pairs are products of
matrices (:mod:`jaxff.gdml.orbits`), those of others sums over cosets (:mod:`jaxff.gdml.cosets`).
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxff.gdml import cosets, orbits
from jaxff.gdml.blocks import (
    even_tiles,
    is_pairwise,
    tile_blocks,
    tile_columns,
    tile_rows,
    tile_terms,
)
from jaxff.gdml.columns import (
    QUERIES,
    WIDTH,
    column_tile,
    mean_features,
    prepare_batch,
    prepare_queries,
)
from jaxff.kernels.kernel import Kernel
from jaxff.numerics import select
from jaxff.system import System
from jaxff.types import Array, Float, Int

__all__ = ["Assembly", "assembly_of", "column_parts", "diagonal"]

_ROWS, _COLUMNS = 1296, 432
"""Labels along the sides of a tile, which is computed at once. It stays in the caches, and its
buffers are reused, where larger ones would be new pages for the operating system to clear."""

_GROUP = 8
"""References of columns that share the preparation of rows."""

_COLUMNS_OF_BLOCK = 5.0
"""Single columns in the time of a block by orbits. By arithmetic they are eight, 38 P M² against
4.5 P M² operations, but the block's run faster: five with 300 permutations, two with 2592."""

Given = tuple[Kernel, bool, dict[str, Array], System]
"""Kernel, whether energies are labels, hyperparameters, and the references."""


class Assembly(NamedTuple):
    """How tiles are made.

    Attributes:
        columns: Prepares the references of the columns of a tile.
        rows: Prepares those of its rows.
        tile: Computes the tile of both, ``(columns, block [+1], block [+1], rows)``.
        height: References of the rows of a tile.
        width: References of its columns.
    """

    columns: Callable[[System], Any]
    rows: Callable[[System], Any]
    tile: Callable[[Any, Any], Array]
    height: int
    width: int


def assembly_of(
    kernel: Kernel, energies: bool, hyper: dict[str, Array], references: System
) -> Assembly:
    """How tiles of a kernel's matrix between some references are made."""
    count, block = references.positions.shape[0], 3 * references.atom_count
    if _has_orbits(kernel):
        prepare, tile = _by_orbits(kernel, energies, hyper, references)
        return Assembly(prepare, prepare, tile, 1, 1)
    center = mean_features(kernel, hyper, references)
    part, representatives = cosets.parts_of(kernel)
    sides = (even_tiles(count, max(1, side // block)) for side in (_ROWS, _COLUMNS))

    def rows(systems: System) -> dict[str, Array]:
        return tile_rows(part, hyper, systems, center)

    def columns(systems: System) -> dict[str, Array]:
        return tile_columns(kernel, hyper, systems, center)

    def whole(queries: dict[str, Array], rows: dict[str, Array]) -> Array:
        found = tile_terms(kernel, energies, hyper["lengthscale"], queries, rows)
        return tile_blocks(kernel, queries, rows, found)

    def summed(systems: System, rows: dict[str, Array]) -> Array:
        assert representatives is not None
        return cosets.tile_sum(part, energies, hyper, systems, rows, center, representatives)

    if representatives is None:
        return Assembly(columns, rows, whole, *sides)
    return Assembly(lambda systems: systems, rows, summed, *sides)


def _has_orbits(kernel: Kernel) -> bool:
    return cosets.parts_of(kernel)[1] is not None and is_pairwise(kernel)


def _by_orbits(
    kernel: Kernel, energies: bool, hyper: dict[str, Array], references: System
) -> tuple[Callable[[System], Any], Callable[[Any, Any], Array]]:
    """How references are prepared, and tiles made of them."""
    tables = orbits.tables_of(kernel)
    center = orbits.invariant_center(kernel, mean_features(kernel, hyper, references))

    def prepare(systems: System) -> dict[str, Any]:
        return orbits.prepare(kernel, hyper, systems, center, tables)

    def tile(columns: dict[str, Any], rows: dict[str, Any]) -> Array:
        return orbits.tile(kernel, energies, hyper["lengthscale"], columns, rows, tables)

    return prepare, tile


def diagonal(
    kernel: Kernel, energies: bool, hyper: dict[str, Array], references: System
) -> Float[Array, " n"]:
    """Diagonal of the matrix, in the order of the labels."""
    if not _has_orbits(kernel):
        return cosets.diagonal(kernel, energies, hyper, references)
    prepare, tile = _by_orbits(kernel, energies, hyper, references)
    found = []
    for index in range(references.positions.shape[0]):
        own = prepare(select(references, np.array([index])))
        found.append(jnp.diagonal(tile(own, own)[0, ..., 0]))
    values = jnp.stack(found)
    block = 3 * references.atom_count
    return jnp.concatenate([values[:, :block].ravel(), values[:, block:].ravel()])


Part = tuple[Any, tuple[int, int], np.ndarray]
"""Which of the columns, range of row references, values ``(columns, block [+1], rows)``."""


def column_parts(
    kernel: Kernel,
    energies: bool,
    hyper: dict[str, Array],
    references: System,
    rows: System,
    index: Int[np.ndarray, " columns"],
) -> Iterator[Part]:
    """Columns of some labels of the references, in parts, with the rows of other references.

    They are taken from whole blocks where that is faster than one by one.
    """
    given = kernel, energies, hyper, references
    owner = _owners(references, index)
    single = WIDTH * -(-len(index) // WIDTH)
    if _has_orbits(kernel) and _COLUMNS_OF_BLOCK * len(np.unique(owner)) <= single:
        return _from_blocks(given, rows, index, owner)
    return _one_by_one(given, rows, index, owner)


def _owners(references: System, index: np.ndarray) -> np.ndarray:
    """The reference of each label."""
    block = 3 * references.atom_count
    split = len(references.positions) * block
    return np.where(index >= split, index - split, index // block)


def _from_blocks(
    given: Given, rows: System, index: np.ndarray, owner: np.ndarray
) -> Iterator[Part]:
    references = given[-1]
    block = 3 * references.atom_count
    labels = np.where(index >= len(references.positions) * block, block, index % block)
    prepare, tile = _by_orbits(*given)
    owners = np.unique(owner)
    for group in np.split(owners, np.arange(_GROUP, len(owners), _GROUP)):
        columns = [prepare(select(references, np.array([each]))) for each in group]
        for row in range(len(rows.positions)):
            prepared = prepare(select(rows, np.array([row])))
            for each, query in zip(group, columns, strict=True):
                (chosen,) = np.nonzero(owner == each)
                values = np.asarray(tile(query, prepared))[0, labels[chosen]]
                yield chosen, (row, row + 1), values


def _one_by_one(given: Given, rows: System, index: np.ndarray, owner: np.ndarray) -> Iterator[Part]:
    kernel, energies, hyper, references = given
    center = mean_features(kernel, hyper, references)
    count = len(rows.positions)
    height = even_tiles(count, QUERIES)
    starts = range(0, count, height)
    kernel, representatives = cosets.parts_of(kernel)
    queries: list[Any] = [
        select(rows, np.minimum(first + np.arange(height), count - 1)) for first in starts
    ]
    if representatives is None:
        queries = [prepare_queries(kernel, hyper, own, center) for own in queries]
        entries = partial(column_tile, kernel, energies, hyper["lengthscale"])
    else:
        entries = lambda own, batch: cosets.column_sum(  # noqa: E731
            kernel, energies, hyper, own, batch, center, representatives
        )
    for begin in range(0, len(index), WIDTH):
        chosen = slice(begin, min(begin + WIDTH, len(index)))
        batch = _batch((kernel, *given[1:]), index[chosen], owner[chosen], center)
        tiles = [entries(own, batch) for own in queries]
        for first, tile in zip(starts, tiles, strict=True):
            last = min(first + height, count)
            values = np.asarray(tile).transpose(2, 1, 0)
            yield chosen, (first, last), values[: chosen.stop - begin, :, : last - first]


def _batch(given: Given, index: np.ndarray, owner: np.ndarray, center: Array) -> dict[str, Array]:
    """The columns of some labels, filled up to a full batch by repetition."""
    kernel, _, hyper, references = given
    index, owner = np.resize(index, WIDTH), np.resize(owner, WIDTH)
    block = 3 * references.atom_count
    is_energy = index >= len(references.positions) * block
    tangents = np.zeros((WIDTH, block))
    tangents[np.arange(WIDTH), index % block] = ~is_energy
    return prepare_batch(
        kernel, hyper, select(references, owner), jnp.asarray(tangents.reshape(WIDTH, -1, 3)),
        jnp.asarray(is_energy, float), center,
    )  # fmt: skip
