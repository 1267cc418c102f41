"""Symmetry operations of structures that repeat in one direction: chains, wires, nanotubes.

Space groups do not hold them all: an axis may be of any order, with any shift along it.
"""

import numpy as np

from jaxff.kernels.images import Lattice
from jaxff.types import Float, Int

__all__ = ["rod_operations"]


def rod_operations(
    positions: Float[np.ndarray, "atoms 3"],
    numbers: Int[np.ndarray, " atoms"],
    lattice: Lattice,
    tolerance: float,
) -> tuple[Float[np.ndarray, "operations 3 3"], Float[np.ndarray, "operations 3"]]:
    """Matrices and shifts in fractions of the padded cell.

    All operations keep the mean of the atoms across the axis, so that the atom furthest from it
    goes to one of its kind, equally far: a turn and a mirror plane for each, either way up.

    Args:
        positions: Of the ideal structure.
        numbers: Atomic numbers.
        lattice: Periodic in one direction.
        tolerance: How far atoms may be from ideal positions, in Å.
    """
    (axis,), normals = lattice.cell[lattice.pbc], lattice.cell[~lattice.pbc]
    length = np.linalg.norm(axis)
    centre = (positions @ normals.T).mean(axis=0)
    across = (positions @ normals.T - centre) @ np.array([1.0, 1.0j])
    along = positions @ axis / length
    first = int(np.argmax(np.abs(across)))
    radius = np.abs(across[first])
    alike = (numbers == numbers[first]) & (np.abs(np.abs(across) - radius) <= 2 * tolerance)
    foreign = numbers[:, None] != numbers
    found = []
    for other in np.flatnonzero(alike):
        for way in (1.0, -1.0):
            shift = along[other] - way * along[first]
            for mirrored in (False, True):
                before = across.conj() if mirrored else across
                turn = _turn(before[first], across[other], tolerance)
                step = way * along[:, None] + shift - along
                step = step - length * np.round(step / length)
                apart = np.hypot(np.abs(turn * before[:, None] - across), step)
                if np.where(foreign, np.inf, apart).min(axis=1).max() <= tolerance:
                    found.append((turn, mirrored, way, shift))
    basis = np.concatenate([normals, [axis / length]])
    turns = np.array([_matrix(turn, mirrored, way) for turn, mirrored, way, _ in found])
    moves = np.array([[0.0, 0.0, shift] for *_, shift in found])
    fixed = np.append(centre, 0.0)
    moves += fixed - turns @ fixed
    cell = lattice.padded(positions)
    change = basis @ np.linalg.inv(cell)
    matrices = np.swapaxes(np.linalg.inv(change) @ np.swapaxes(turns, 1, 2) @ change, 1, 2)
    whole = np.round(matrices)
    return np.where(np.abs(matrices - whole) < 1e-9, whole, matrices), moves @ change


def _turn(before: complex, after: complex, tolerance: float) -> complex:
    """The turn that brings one point to the other, none if they are the same to the tolerance."""
    if abs(before - after) <= 2 * tolerance:
        return 1.0 + 0.0j
    turn = after / before
    return turn / abs(turn)


def _matrix(turn: complex, mirrored: bool, way: float) -> Float[np.ndarray, "3 3"]:
    cosine, sine = turn.real, turn.imag
    flip = -1.0 if mirrored else 1.0
    return np.array([[cosine, -flip * sine, 0.0], [sine, flip * cosine, 0.0], [0.0, 0.0, way]])
