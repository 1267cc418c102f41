import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from jaxff import analysis


def test_against_ase_in_a_skewed_cell():
    rng = np.random.default_rng(0)
    cell = np.array([[9.0, 0, 0], [3.0, 8.0, 0], [-2.0, 1.0, 8.5]])
    atoms = Atoms("H6", rng.uniform(0, 1, (6, 3)) @ cell, cell=cell, pbc=True)
    close = atoms.positions[0] + rng.normal(size=(6, 3))
    atoms.positions = close + rng.integers(-2, 3, (6, 3)) @ cell
    frames = np.stack([atoms.positions] * 2)
    pairs, triples, quads = [[0, 1], [2, 5]], [[0, 1, 2], [3, 4, 5]], [[0, 1, 2, 3], [5, 3, 1, 0]]
    d = analysis.distances(frames, pairs, cell)
    a, t = analysis.angles(frames, triples, cell), analysis.dihedrals(frames, quads, cell)
    for k in range(2):
        assert d[1, k] == pytest.approx(atoms.get_distance(*pairs[k], mic=True))
        assert a[1, k] == pytest.approx(atoms.get_angle(*triples[k], mic=True))
        assert t[1, k] % 360 == pytest.approx(atoms.get_dihedral(*quads[k], mic=True))


def test_topology_of_ethanol():
    atoms = molecule("CH3CH2OH")
    found = analysis.topology(atoms.numbers, atoms.positions)
    assert len(found["bonds"]) == 8
    assert len(found["angles"]) == 13  # 6 at each carbon, 1 at oxygen
    assert len(found["dihedrals"]) == 12  # 9 about C-C, 3 about C-O
    assert {tuple(sorted(row[1:3])) for row in found["dihedrals"].tolist()} == {(0, 1), (1, 2)}
    lengths = analysis.distances(atoms.positions, found["bonds"])
    assert lengths.min() > 0.9
    assert lengths.max() < 1.6


def test_straight_angles_keep_their_digits():
    bend = 1e-9
    positions = np.array([[1.0, bend, 0], [0, 0, 0], [-1.0, 0, 0]])
    (angle,) = analysis.angles(positions, [[0, 1, 2]])
    assert 180 - angle == pytest.approx(np.degrees(bend), rel=1e-4)


def test_histogram_is_a_density():
    values = np.random.default_rng(1).normal(size=(800, 50))
    centres, density = analysis.histogram(values, bins=40, limits=(-4, 4))
    assert density.sum() * (centres[1] - centres[0]) == pytest.approx(1.0)
    assert density[20] == pytest.approx(1 / np.sqrt(2 * np.pi), rel=0.1)


def test_refuses():
    with pytest.raises(ValueError, match="rows of 3 atoms"):
        analysis.angles(np.zeros((2, 3)), [[0, 1]])
    with pytest.raises(ValueError, match="counted from 0 to 1"):
        analysis.distances(np.zeros((2, 3)), [[0, 2]])
