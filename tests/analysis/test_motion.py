import numpy as np
import pytest

from jaxff import analysis


def test_mean_square_displacement_is_the_double_loop():
    positions = np.cumsum(np.random.default_rng(0).normal(size=(30, 4, 3)), axis=0) + 1e3
    expected = [
        np.mean(np.sum((positions[lag:] - positions[: 30 - lag]) ** 2, axis=-1))
        for lag in range(30)
    ]
    found = analysis.mean_square_displacement(positions)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-8)


def test_drift_of_the_whole_is_no_diffusion():
    positions = np.arange(20.0)[:, None, None] * np.ones((1, 3, 3))
    found = analysis.mean_square_displacement(positions, masses=[1.0, 2.0, 3.0])
    np.testing.assert_allclose(found, 0.0, atol=1e-9)
    ballistic = analysis.mean_square_displacement(positions)
    np.testing.assert_allclose(ballistic, 3 * np.arange(20.0) ** 2, atol=1e-9)


def test_random_walk():
    """Steps of variance s² in each direction every interval: D = s² / (2 interval)."""
    rng = np.random.default_rng(1)
    positions = np.cumsum(0.1 * rng.normal(size=(4000, 50, 3)), axis=0)
    found = analysis.diffusion(positions, 2.0, window=(0.02, 0.1))
    assert found.coefficient == pytest.approx(0.01 / 4, abs=4 * found.standard_error)
    assert found.standard_error < 0.1 * found.coefficient
    assert found.square_centimetres_per_second == pytest.approx(0.1 * found.coefficient)
    with pytest.raises(ValueError, match="run longer"):
        analysis.diffusion(positions[:10], 2.0)
