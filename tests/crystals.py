"""Ideal supercells, which tests share."""

import jax.numpy as jnp
import numpy as np

from jaxff.kernels import host_group
from jaxff.system import System

_CENTRES = np.array([(0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0)])
_HEXAGONAL = 2.46 * np.array([[1.0, 0.0, 0.0], [-0.5, np.sqrt(0.75), 0.0]])


def supercell(cell, basis, number, repeats, pbc=None) -> System:
    shifts = np.stack([axis.ravel() for axis in np.indices(repeats)], axis=1)
    places = (shifts[:, None] + np.asarray(basis)).reshape(-1, 3)
    cell = np.asarray(cell)
    numbers = np.full(len(places), number)
    return System(places @ cell, numbers, cell * np.array(repeats)[:, None], pbc)


def graphene(first=5, second=5, *, flat=False) -> System:
    """A sheet of first by second cells; ``flat`` gives it no third lattice vector."""
    third = [[0.0, 0.0, 0.0 if flat else 20.0]]
    basis = [(1 / 3, 2 / 3, 0.0), (2 / 3, 1 / 3, 0.0)]
    cell = np.concatenate([_HEXAGONAL, third])
    return supercell(cell, basis, 6, (first, second, 1), [True, True, not flat])


def fcc(repeats=2, constant=3.9) -> System:
    return supercell(constant * np.eye(3), _CENTRES, 46, (repeats,) * 3)


def diamond(repeats=2, constant=5.47) -> System:
    basis = np.concatenate([_CENTRES, _CENTRES + 0.25])
    return supercell(constant * np.eye(3), basis, 14, (repeats,) * 3)


def bcc(repeats=3, constant=3.15) -> System:
    return supercell(constant * np.eye(3), [(0, 0, 0), (0.5, 0.5, 0.5)], 42, (repeats,) * 3)


SHEET = graphene(2, 3)
COVERED = System(
    jnp.concatenate([SHEET.positions, jnp.asarray([[1.0, 1.0, 3.0], [2.1, 1.2, 3.1]])]),
    jnp.concatenate([SHEET.numbers, jnp.asarray([8, 8])]),
    SHEET.cell,
)
"""A small sheet with two atoms that move about: 24 permutations, 6 of them translations."""


def covered_group():
    return host_group(COVERED, SHEET, own=np.array([[0, 1], [1, 0]]))


def covered_frames(count, seed=0) -> System:
    rng = np.random.default_rng(seed)
    noise = 0.1 * rng.normal(size=(count, COVERED.atom_count, 3))
    cells = np.tile(COVERED.cell, (count, 1, 1))
    return System(np.asarray(COVERED.positions) + noise, COVERED.numbers, cells)
