import itertools

import numpy as np
import pytest

from jaxff import analysis


def test_ideal_gas_is_one_beyond_half_of_the_cell():
    rng = np.random.default_rng(0)
    cell = np.array([[5.0, 0, 0], [1.5, 4.5, 0], [0.5, -1.0, 5.5]])
    frames = rng.uniform(0, 1, (200, 20, 3)) @ cell
    found = analysis.radial_distribution(frames, np.full(20, 18), cell, cutoff=4.5, bins=9)
    # beyond the smallest height an atom sees its own images as well: below 2.2 Å there are none
    np.testing.assert_allclose(found.values[1:4], 19 / 20, atol=0.06)
    density = 20 / abs(np.linalg.det(cell))
    expected = density * (19 / 20) * 4 / 3 * np.pi * 2.0**3
    assert found.counts[3] == pytest.approx(expected, rel=0.03)


def test_shells_of_a_crystal():
    """One atom per cell: 6, 12, 8 neighbours at 1, √2, √3 lattice constants."""
    cell = 2.0 * np.eye(3)
    found = analysis.radial_distribution(np.zeros((1, 1, 3)), [3], cell, cutoff=3.8, bins=38)
    assert found.counts[[24, 32, -1]].tolist() == [6.0, 18.0, 26.0]


def test_pairs_of_elements_in_a_molecule():
    corners = np.array(list(itertools.product((0, 1.0), repeat=3)))[:4]
    numbers = [8, 1, 1, 1]
    found = analysis.radial_distribution(
        corners[None], numbers, cutoff=2.0, bins=20, elements=(8, 1)
    )
    width = found.distances[1] - found.distances[0]
    assert found.counts[-1] == 3.0
    assert np.sum(found.values) * width == pytest.approx(3.0)


def test_refuses():
    with pytest.raises(ValueError, match="no atoms of the elements"):
        analysis.radial_distribution(np.zeros((1, 1, 3)), [3], elements=(3, 4))
    with pytest.raises(ValueError, match="all directions periodic"):
        analysis.radial_distribution(np.zeros((1, 1, 3)), [3], np.eye(3), [True, True, False])
    with pytest.raises(ValueError, match="shape"):
        analysis.radial_distribution(np.zeros((1, 3)), [3])
    with pytest.raises(ValueError, match="bins must be at least 1"):
        analysis.radial_distribution(np.zeros((1, 1, 3)), [3], bins=0)
