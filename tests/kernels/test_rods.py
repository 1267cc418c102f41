"""Symmetry of structures that repeat in one direction."""

import numpy as np
import pytest
from ase.build import nanotube

from jaxff.kernels.crystals import crystal_group, host_group
from jaxff.kernels.space_groups import primitive_cell
from jaxff.system import System


def wire(atoms, noise=0.0):
    """Turned by an angle that no box around it knows."""
    atoms.rotate(17.0, "z")
    positions = atoms.positions + noise * np.random.default_rng(0).normal(size=(len(atoms), 3))
    return System(positions, atoms.numbers, atoms.cell.array, [False, False, True])


@pytest.mark.parametrize(
    ("indices", "length", "order", "orders"),
    [((5, 5), 2, 80, (2,)), ((7, 0), 1, 56, ()), ((4, 2), 1, 56, ()), ((3, 3), 3, 72, (3,))],
)
def test_nanotubes_have_screw_axes_of_any_order(indices, length, order, orders):
    """Atoms are all equivalent; a mirror plane holds each of tubes that are not chiral."""
    group = crystal_group(wire(nanotube(*indices, length=length)))
    assert (len(group), group.orders) == (order, orders)
    assert group.name == "rod group"
    assert group.mismatch < 1e-5


def test_noise_and_hosts():
    system = wire(nanotube(5, 5, length=2), 1e-4)
    assert len(crystal_group(system, tolerance=5e-3)) == 80
    inside = System(
        np.concatenate([system.positions, [[0.3, 0.1, 0.2]]]),
        np.append(system.numbers, 2),
        system.cell,
        system.pbc,
    )
    assert len(host_group(inside, np.arange(40), tolerance=5e-3)) == 80


def test_a_chain_on_the_axis_and_its_primitive_cell():
    cell = np.diag([1.0, 1.0, 12.0])
    heights = np.array([0.0, 1.0, 4.0, 5.0, 8.0, 9.0])
    positions = heights[:, None] * np.array([0.0, 0.0, 1.0]) + 0.7
    chain = System(positions, [6] * 6, cell, [False, False, True])
    assert (len(crystal_group(chain)), crystal_group(chain).orders) == (6, (3,))
    np.testing.assert_allclose(np.linalg.norm(primitive_cell(chain)[2]), 4.0)
