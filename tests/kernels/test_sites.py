"""Data and ideal reference must list the same atoms in the same order and cell."""

import jax.numpy as jnp
import numpy as np
import pytest
from crystals import fcc, graphene

from jaxff.kernels.sites import check_frames, in_order_of
from jaxff.system import System

RNG = np.random.default_rng(0)
CRYSTAL = fcc(2)
ORDER = RNG.permutation(32)


def frames(reference, count=6, amplitude=0.12, drift=0.8):
    """Thermal frames that drift, with some atoms moved to other cells."""
    shape = (count, reference.atom_count, 3)
    noise = amplitude * RNG.normal(size=shape) + drift * RNG.normal(size=(count, 1, 3))
    whole = RNG.integers(-1, 2, shape) * np.asarray(reference.pbc)
    positions = np.asarray(reference.positions) + noise + whole @ np.asarray(reference.cell)
    cells = np.tile(reference.cell, (count, 1, 1))
    return System(positions, reference.numbers, cells, np.tile(reference.pbc, (count, 1)))


def reordered(system, order):
    return system.replace(positions=system.positions[order], numbers=system.numbers[order])


def test_frames_of_the_reference_pass():
    check_frames(CRYSTAL, frames(CRYSTAL))
    sheet = graphene(3, 3, flat=True)
    check_frames(sheet, frames(sheet))


def test_other_vectors_of_the_lattice_pass():
    data = frames(CRYSTAL)
    cells = np.array(data.cell)
    cells[3] = np.array([[1, 1, 0], [0, 1, 0], [0, -1, 1]]) @ cells[3]
    check_frames(CRYSTAL, data.replace(cell=cells))
    check_frames(CRYSTAL.replace(cell=cells[3]), data)
    cells[2] = np.array([[2, 0, 0], [0, 1, 0], [0, 0, 1]]) @ cells[2]  # twice as large
    with pytest.raises(ValueError, match="cell changes between frames"):
        check_frames(CRYSTAL, data.replace(cell=cells))


def test_the_order_is_found():
    data = frames(reordered(CRYSTAL, ORDER))
    with pytest.raises(ValueError, match=r"not at their sites.*in_order_of"):
        check_frames(CRYSTAL, data)
    check_frames(in_order_of(CRYSTAL, data), data)


def test_elements_count():
    alloy = CRYSTAL.replace(numbers=CRYSTAL.numbers.at[:8].set(28))
    data = frames(reordered(alloy, ORDER))
    with pytest.raises(ValueError, match=r"atom \d+ has Z = (28|46) in the reference"):
        check_frames(alloy, data)
    found = in_order_of(alloy, data)
    np.testing.assert_array_equal(found.numbers, data.numbers[0])
    check_frames(found, data)


def test_two_exchanged_atoms_are_seen():
    order = np.arange(32)
    order[[3, 9]] = 9, 3
    with pytest.raises(ValueError, match=r"2 atoms .* atom 3 is nearest to site 9 in 6"):
        check_frames(CRYSTAL, frames(reordered(CRYSTAL, order)))


def test_other_atoms_and_cells_are_refused():
    data = frames(CRYSTAL)
    with pytest.raises(ValueError, match=r"32 of Z = 46 and 18 of Z = 6"):
        check_frames(CRYSTAL, frames(graphene(3, 3)))
    strained = data.replace(cell=data.cell.at[4].multiply(1.02))
    with pytest.raises(ValueError, match=r"cell changes between frames, most in frame 4"):
        check_frames(CRYSTAL, strained)
    with pytest.raises(ValueError, match=r"spans another lattice"):
        check_frames(fcc(2, constant=4.0), data)
    with pytest.raises(ValueError, match=r"give both the same pbc"):
        check_frames(CRYSTAL, data.replace(pbc=jnp.ones_like(data.pbc).at[:, 0].set(False)))
    with pytest.raises(ValueError, match=r"the data has none"):
        check_frames(CRYSTAL, System(data.positions, data.numbers))
    with pytest.raises(ValueError, match=r"one leading axis"):
        check_frames(CRYSTAL, CRYSTAL)


def test_a_few_frames_in_another_order_are_seen():
    """No atom is elsewhere in most frames, and no even choice of a hundred holds them all."""
    data = frames(CRYSTAL, 300)
    check_frames(CRYSTAL, data)
    for few in ([7], range(101, 201)):
        positions = data.positions.at[np.array(few)].set(data.positions[np.array(few)][:, ORDER])
        message = rf"frame {few[0]} of the data has \d+ of 32 atoms .* as {len(few)} of 300"
        with pytest.raises(ValueError, match=message):
            check_frames(CRYSTAL, data.replace(positions=positions))


def test_single_atoms_of_an_element_do_not_count():
    """Two of three exchangeable atoms are more than half of them, but not of all thirteen."""
    elements = np.arange(1, 14)
    elements[[3, 6]] = elements[2]
    cell = 3.0 * np.diag([13.0, 1.0, 1.0])
    row = System(3.0 * np.arange(13)[:, None] * np.array([1.0, 0, 0]), elements, cell)
    data = frames(row, 9)
    positions = data.positions.at[4].set(
        data.positions[4][np.array([0, 1, 6, 2, 4, 5, 3, *range(7, 13)])]
    )
    with pytest.raises(ValueError, match="frame 4 of the data has 3 of 3 atoms"):
        check_frames(row, data.replace(positions=positions))
