"""Nearest images on the host against many images."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxff.kernels.images import lattice_of, nearest_distances

CELLS = {
    "hexagonal": [[3.0, 0, 0], [-1.5, 2.6, 0], [0, 0, 5.0]],
    "skewed": [[3.0, 0, 0], [2.6, 1.5, 0], [4.1, 2.9, 3.0]],
}


@settings(max_examples=8)
@given(
    st.sampled_from(sorted(CELLS)),
    st.sampled_from([p for p in itertools.product([True, False], repeat=3) if any(p)]),
    st.integers(0, 99),
)
def test_no_image_is_nearer(name, pbc, seed):
    cell, pbc = np.array(CELLS[name]), np.array(pbc)
    first, second = 1.5 * np.random.default_rng(seed).normal(size=(2, 4, 3))
    found = nearest_distances(first, second, lattice_of(cell, pbc))
    shifts = np.array(list(itertools.product(*(range(-12, 13) if p else [0] for p in pbc))))
    step = first[:, None, None] - second[None, :, None] + shifts @ cell
    np.testing.assert_allclose(found, np.linalg.norm(step, axis=-1).min(-1), atol=1e-12)


def test_vectors_of_open_directions_mean_nothing():
    cell = np.array(CELLS["hexagonal"])
    pbc = np.array([True, True, False])
    filled = lattice_of(np.where(pbc[:, None], cell, 0.0), pbc).cell
    np.testing.assert_allclose(filled @ filled[2], [0, 0, 1], atol=1e-14)
    with pytest.raises(ValueError, match="no direction is periodic: pbc is"):
        lattice_of(np.eye(3), np.zeros(3, bool))
    with pytest.raises(ValueError, match="not independent"):
        lattice_of(np.zeros((3, 3)), pbc)
