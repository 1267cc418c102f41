"""Distances with dihedrals."""

import numpy as np
import pytest
from descriptor_checks import check_derivatives, evaluate, moved

from jaxff.descriptors import chiral_distances
from jaxff.system import System

QUADRUPLES = [(0, 1, 2, 3), (1, 2, 3, 4)]
BACKBONE = System(np.random.default_rng(0).normal(size=(5, 3)), [6, 7, 6, 6, 7])


def test_values_and_the_mirror():
    found = evaluate(chiral_distances(QUADRUPLES, weight=0.5, power=-2.0), BACKBONE)
    i, j = np.tril_indices(5, -1)
    positions = np.asarray(BACKBONE.positions)
    distances = np.linalg.norm(positions[i] - positions[j], axis=-1)
    np.testing.assert_allclose(found[:10], distances**-2.0)
    mirror = BACKBONE.replace(positions=BACKBONE.positions * np.array([1.0, 1.0, -1.0]))
    seen = evaluate(chiral_distances(QUADRUPLES, weight=0.5, power=-2.0), mirror)
    signs = np.array([1.0] * 10 + [1.0, -1.0] * 2)
    np.testing.assert_allclose(seen, signs * found, atol=1e-14)
    assert np.abs(np.asarray(found)[[11, 13]]).max() > 0.01
    plain = evaluate(chiral_distances(QUADRUPLES, power=-2.0), BACKBONE)
    np.testing.assert_allclose(found[10:], 0.5 * plain[10:])


def test_derivatives_and_motion():
    descriptor = chiral_distances(QUADRUPLES)
    check_derivatives(descriptor, BACKBONE)
    np.testing.assert_allclose(
        evaluate(descriptor, moved(BACKBONE, seed=1)), evaluate(descriptor, BACKBONE), atol=1e-12
    )


def test_settings_are_checked():
    with pytest.raises(ValueError, match="at least one"):
        chiral_distances([])
    with pytest.raises(ValueError, match="other than 0"):
        chiral_distances(QUADRUPLES, weight=0.0)
