"""The search for pairs on the host, by vesin, and the shapes that they are brought into."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxff.neighbors.pairs import Pairs
from jaxff.system import System

__all__ = ["Structure", "pad", "rows", "search", "structures"]

Structure = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Indices of the real atoms of a structure, their positions, lattice vectors, and pbc."""


def structures(system: System) -> list[Structure]:
    """The structures of a system as host arrays, checked."""
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(system)):
        raise TypeError("allocate counts pairs on the host: call it outside jit, grad and vmap")
    if system.positions.ndim != 2:
        raise ValueError(
            f"neighbor lists need a single system or a pack, got a stack of shape "
            f"{system.batch_shape}: use pack"
        )
    positions = np.asarray(system.positions, np.float64)
    real = np.asarray(system.numbers) > 0
    wrong = np.flatnonzero(real & ~np.isfinite(positions).all(axis=1))
    if len(wrong):
        raise ValueError(
            f"positions must be finite: atom {wrong[0]} is at {positions[wrong[0]].tolist()} "
            f"({len(wrong)} such in all)"
        )
    if system.structure is None or system.structure_mask is None:
        cell, pbc = _cell(system, ())
        return [(np.flatnonzero(real), positions[real], cell, pbc)]
    owner = np.asarray(system.structure)
    result = []
    for index in np.flatnonzero(np.asarray(system.structure_mask)):
        atoms = np.flatnonzero(real & (owner == index))
        result.append((atoms, positions[atoms], *_cell(system, (int(index),))))
    return result


def _cell(system: System, index: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Lattice vectors of one structure, null where it does not repeat, and its pbc."""
    if system.cell is None or system.pbc is None:
        return np.zeros((3, 3)), np.zeros(3, bool)
    pbc = np.asarray(system.pbc)[index]
    if not pbc.any():
        return np.zeros((3, 3)), pbc
    # A vector along a direction that does not repeat means nothing here; it may even depend on the
    # others.
    cell = np.where(pbc[:, None], np.asarray(system.cell, np.float64)[index], 0.0)
    vectors = cell[pbc]
    lengths = np.linalg.norm(vectors, axis=1)
    where = f" of structure {index[0]}" if index else ""
    if not np.isfinite(lengths).all():
        raise ValueError(f"the cell{where} must be finite, got {cell.tolist()}")
    if not lengths.all() or np.linalg.matrix_rank(vectors / lengths[:, None]) < len(vectors):
        raise ValueError(
            f"the periodic lattice vectors{where} must be independent, got {vectors.tolist()}: "
            "set pbc=False for directions that do not repeat"
        )
    return cell, pbc


def search(
    atoms: np.ndarray, positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both directions of all pairs within ``radius``, by index in the whole system."""
    from vesin import NeighborList

    if len(positions) and not pbc.any():
        # Its time grows with the radius even where nothing is left to be found.
        radius = min(radius, float(np.linalg.norm(np.ptp(positions, axis=0))) + 1.0)
    finder = NeighborList(cutoff=radius, full_list=True)
    first, second, shifts = finder.compute(positions, cell, pbc, "ijS")
    return atoms[first.astype(np.int64)], atoms[second.astype(np.int64)], shifts


def pad(
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]], capacity: float, atoms: int
) -> Pairs:
    """Join the pairs of all structures, sort them by center and fill up to a bucket."""
    centers = np.concatenate([np.zeros(0, int), *(f[0] for f in found)])
    others = np.concatenate([np.zeros(0, int), *(f[1] for f in found)])
    shifts = np.concatenate([np.zeros((0, 3), int), *(f[2] for f in found)])
    order = np.lexsort((*shifts.T[::-1], others, centers))
    fill = _bucket(math.ceil(capacity * len(order))) - len(order)
    return Pairs(
        jnp.asarray(np.pad(centers[order], (0, fill), constant_values=atoms), jnp.int32),
        jnp.asarray(np.pad(others[order], (0, fill), constant_values=atoms), jnp.int32),
        jnp.asarray(np.pad(shifts[order], ((0, fill), (0, 0))), jnp.int32),
        atoms,
    )


def rows(
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]],
    shape: tuple[int, ...],
    atoms: int,
    least: int = 1,
) -> Pairs:
    """The pairs of each system of a stack, with as many slots for each atom as the most need.

    Args:
        found: Pairs of each system.
        shape: Of the stack.
        atoms: Of each system.
        least: The fewest slots for each atom.
    """
    width = max([least, *(int(np.bincount(f[0], minlength=1).max()) for f in found)])
    others = np.full((len(found), atoms * width), atoms, np.int32)
    shifts = np.zeros((len(found), atoms * width, 3), np.int32)
    for i, (centers, own, images) in enumerate(found):
        order = np.lexsort((*images.T[::-1], own, centers))
        ranked = centers[order]
        slot = ranked * width + np.arange(len(ranked)) - np.searchsorted(ranked, ranked)
        others[i, slot], shifts[i, slot] = own[order], images[order]
    centers = np.broadcast_to(np.repeat(np.arange(atoms, dtype=np.int32), width), others.shape)
    centers, others, shifts = (
        jnp.asarray(x.reshape(*shape, *x.shape[1:])) for x in (centers, others, shifts)
    )
    return Pairs(centers, others, shifts, atoms, width)


def _bucket(count: int) -> int:
    """The smallest of 8, 9, ..., 16, 18, ..., 32, 36, ... that holds ``count``."""
    step = max(1, 2 ** (max(count, 8) - 1).bit_length() // 16)
    return max(8, -(-count // step) * step)
