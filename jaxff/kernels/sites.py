"""Whether the atoms of a data set are those of an ideal reference, in its order and its cell."""

import numpy as np

from jaxff.kernels.images import Lattice, lattice_of, nearest_distances
from jaxff.system import System
from jaxff.types import Float, Int

__all__ = ["check_frames", "in_order_of"]

_TOGETHER = 2**20
"""Displacements that are compared at once: 24 MB a temporary."""


def check_frames(reference: System, systems: System, *, rtol: float = 1e-3) -> None:
    """Refuse data whose permutation symmetry is not that of the reference.

    Every atom must be nearer to its own site than to those of other atoms of its element in at
    least half of the frames, after the drift of the whole structure is removed, and at least half
    of the atoms of every frame, not counting elements of one atom; adsorbates, and atoms that have
    diffused, may not be, so leave them out of both.

    Args:
        reference: The ideal structure.
        systems: Stack of the data.
        rtol: How far lattice vectors may differ, relative to the longest.

    Raises:
        ValueError: If composition, order of atoms or cell differ, in the reference or between
            frames.
    """
    numbers, frames, lattice = _same_atoms(reference, systems, rtol)
    expected = np.asarray(reference.numbers)
    if not np.array_equal(numbers, expected):
        atom = int(np.argmax(numbers != expected))
        raise ValueError(
            f"atom {atom} has Z = {expected[atom]} in the reference and {numbers[atom]} in the "
            "data: bring the reference into their order by in_order_of(reference, systems)"
        )
    sites = np.asarray(reference.positions, float)
    nearest = _nearest_sites(frames, sites, numbers, lattice)
    strange = nearest != np.arange(len(numbers))
    wrong = np.flatnonzero(strange.sum(axis=0) > 0.5 * len(frames))
    if len(wrong):
        atom = wrong[0]
        found = np.bincount(nearest[:, atom])
        raise ValueError(
            f"{len(wrong)} atoms of the data are not at their sites of the reference: atom {atom} "
            f"is nearest to site {found.argmax()} in {found.max()} of {len(frames)} frames. If the "
            "reference lists its atoms in another order, use in_order_of(reference, systems); if "
            "the crystal has melted, its symmetry says nothing about the data"
        )
    several = np.bincount(numbers)[numbers] > 1
    away = strange.sum(axis=1)
    wrong = np.flatnonzero(away > 0.5 * several.sum())
    if len(wrong):
        frame = wrong[0]
        raise ValueError(
            f"frame {frame} of the data has {away[frame]} of {several.sum()} atoms at sites of "
            f"other atoms, as {len(wrong)} of {len(frames)} frames do: if they list their atoms in "
            "another order than the rest, reorder positions and labels or leave such frames out; "
            "if the crystal has melted, its symmetry says nothing about the data"
        )


def in_order_of(reference: System, systems: System, *, rtol: float = 1e-3) -> System:
    """The reference with its atoms in the order in which the data list theirs.

    The first frame is matched to the ideal sites, for each site at which its first atom may be.

    Args:
        reference: The ideal structure: same composition and cell, any order and origin.
        systems: Stack of the data.
        rtol: How far lattice vectors may differ, relative to the longest.

    Raises:
        ValueError: If composition or cell differ, or the cell changes between frames.
    """
    numbers, frames, lattice = _same_atoms(reference, systems, rtol)
    expected, frame = np.asarray(reference.numbers), frames[0]
    sites = np.asarray(reference.positions, float)
    foreign = numbers[:, None] != expected
    best, order = np.inf, np.arange(len(numbers))
    shifted = frame
    for site in np.flatnonzero(~foreign[0]):
        here = frame + sites[site] - frame[0]
        cost, found = _assign(here, sites, foreign, lattice)
        if cost < best:
            best, order, shifted = cost, found, here
    # Once more without the displacement of the first atom.
    order = _assign(_without_drift(shifted, sites[order], lattice), sites, foreign, lattice)[1]
    return reference.replace(positions=reference.positions[order], numbers=reference.numbers[order])


def _nearest_sites(
    frames: np.ndarray, sites: np.ndarray, numbers: np.ndarray, lattice: Lattice
) -> Int[np.ndarray, "frames atoms"]:
    """The site of its element that each atom is nearest to."""
    foreign = numbers[:, None] != numbers
    between = np.where(foreign, np.inf, nearest_distances(sites, sites, lattice))
    np.fill_diagonal(between, np.inf)
    # An atom within half the way to any other site of its element is at its own.
    near = 0.5 * between.min(axis=1)
    result = np.tile(np.arange(len(numbers)), (len(frames), 1))
    inverse = np.linalg.inv(lattice.cell)
    for part in np.array_split(np.arange(len(frames)), 1 + frames.size // _TOGETHER):
        shifted = _without_drift(frames[part], sites, lattice)
        step = shifted - sites
        step = step - (np.round(step @ inverse) * lattice.pbc) @ lattice.cell
        frame, atom = np.nonzero(np.linalg.norm(step, axis=-1) >= near)
        for few in np.array_split(np.arange(len(atom)), 1 + len(atom) * len(sites) // _TOGETHER):
            at = atom[few]
            distance = nearest_distances(shifted[frame[few], at], sites, lattice)
            result[part[frame[few]], at] = np.where(foreign[at], np.inf, distance).argmin(axis=1)
    return result


def _assign(
    frame: np.ndarray, sites: np.ndarray, foreign: np.ndarray, lattice: Lattice
) -> tuple[float, Int[np.ndarray, " atoms"]]:
    """The site of each atom at the least sum of squared displacements, and that in Å²."""
    from scipy.optimize import linear_sum_assignment

    squares = nearest_distances(frame, sites, lattice) ** 2
    limited = np.where(foreign, len(sites) * squares.max() + 1.0, squares)
    found = linear_sum_assignment(limited)[1]
    return float(limited[np.arange(len(sites)), found].sum()), found


def _same_atoms(
    reference: System, systems: System, rtol: float
) -> tuple[Int[np.ndarray, " atoms"], Float[np.ndarray, "frames atoms 3"], Lattice]:
    """Atomic numbers, frames and the lattice of data that may belong to the reference."""
    if systems.is_packed or len(systems.batch_shape) != 1 or not systems.batch_shape[0]:
        raise ValueError(
            "the data must be a stack of systems with one leading axis (jaxff.system.stack), got "
            f"positions of shape {systems.positions.shape}"
        )
    if reference.cell is None or systems.cell is None:
        which = "reference" if reference.cell is None else "data"
        raise ValueError(f"crystals need a cell, the {which} has none")
    numbers, expected = np.asarray(systems.numbers), np.asarray(reference.numbers)
    same = numbers.shape[1] == len(expected)
    if not same or not np.array_equal(np.sort(numbers[0]), np.sort(expected)):
        raise ValueError(
            f"reference and data have other atoms: {_formula(expected)} and {_formula(numbers[0])}"
            ". Give the same supercell"
        )
    if (numbers != numbers[0]).any():
        raise ValueError("all frames must list the same atoms in the same order")
    cells, cell = np.asarray(systems.cell, float), np.asarray(reference.cell, float)
    periodic = np.asarray(reference.pbc)
    change = _apart(cells, cells[0], periodic)
    if change.max() > rtol:
        frame = int(np.argmax(change))
        raise ValueError(
            f"the cell changes between frames, most in frame {frame}: "
            f"{cells[frame].round(4).tolist()} after {cells[0].round(4).tolist()} Å. The symmetry "
            "of one supercell holds in that cell alone; fit frames of one cell"
        )
    if _apart(cells[:1], cell, periodic)[0] > rtol:
        raise ValueError(
            f"the cell of the reference {cell.tolist()} spans another lattice than that of the "
            f"data {cells[0].tolist()}, or is turned: scale the reference, or turn it"
        )
    if (np.asarray(systems.pbc) != periodic).any():
        raise ValueError(
            f"the reference is periodic along {periodic.tolist()}, the data are not: give both the "
            "same pbc"
        )
    return numbers[0], np.asarray(systems.positions, float), lattice_of(cell, periodic)


def _apart(cells: np.ndarray, cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """How far cells are from spanning the lattice of another, relative to its longest vector.

    The same lattice by other vectors is as good.
    """
    own = lattice_of(cell, pbc).cell
    kept = np.where(pbc[:, None], cells, 0.0)
    counts = np.round(kept @ np.linalg.inv(own)) * (pbc[:, None] & pbc)
    far = np.abs(kept - counts @ own)[:, pbc].max(axis=(1, 2), initial=0.0)
    whole = counts + np.diag(np.where(pbc, 0.0, 1.0))
    one = np.abs(np.abs(np.linalg.det(whole)) - 1.0) < 0.5
    return np.where(one, far / np.linalg.norm(own[pbc], axis=1).max(initial=0.0), np.inf)


def _formula(numbers: np.ndarray) -> str:
    kinds, counts = np.unique(numbers, return_counts=True)
    return " ".join(f"{n} of Z = {z}" for z, n in zip(kinds, counts, strict=True))


def _without_drift(
    frames: Float[np.ndarray, "*batch atoms 3"], sites: np.ndarray, lattice: Lattice
) -> Float[np.ndarray, "*batch atoms 3"]:
    """Positions shifted as a whole onto the sites, in their order.

    The mean of displacements on the circle of each periodic direction needs no choice of images.
    """
    step = (frames - sites) @ np.linalg.inv(lattice.cell)
    turns = np.angle(np.mean(np.exp(2j * np.pi * step), axis=-2, keepdims=True)) / (2 * np.pi)
    drift = np.where(lattice.pbc, turns, step.mean(axis=-2, keepdims=True))
    return frames - drift @ lattice.cell
