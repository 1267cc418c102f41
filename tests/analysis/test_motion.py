import numpy as np
import pytest

from jaxff import analysis, units


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


def test_brownian_particles_with_inertia():
    """Velocities that forget at the rate γ: closed forms of both correlation functions."""
    rng, steps, rate, thermal = np.random.default_rng(2), 6000, 0.05, 0.01
    noise = np.sqrt(thermal * (1 - np.exp(-2 * rate))) * rng.normal(size=(steps, 40, 3))
    velocities = np.zeros((steps, 40, 3))
    for t in range(1, steps):
        velocities[t] = np.exp(-rate) * velocities[t - 1] + noise[t]
    velocities = velocities[500:]
    lags = np.arange(100)
    found = analysis.velocity_autocorrelation(velocities)[:100]
    expected = 3 * thermal * np.exp(-rate * lags)
    np.testing.assert_allclose(found, expected, atol=0.03 * expected[0])
    moved = analysis.mean_square_displacement(np.cumsum(velocities, axis=0))[1:100]
    # The variance of a sum of correlated velocities.
    keep, count = np.exp(-rate), lags[1:]
    variance = count * (1 + keep) / (1 - keep) - 2 * keep * (1 - keep**count) / (1 - keep) ** 2
    np.testing.assert_allclose(moved, 3 * thermal * variance, rtol=0.08)
    with pytest.raises(ValueError, match=r"shape \(frames, atoms, 3\)"):
        analysis.velocity_autocorrelation(velocities[:, 0])


def test_some_atoms_on_a_surface():
    """Two of three atoms walk in a plane; the third carries on with the whole."""
    rng = np.random.default_rng(3)
    walk = np.zeros((4000, 3, 3))
    walk[:, :2, :2] = np.cumsum(0.1 * rng.normal(size=(4000, 2, 2)), axis=0)
    named = {"atoms": [0, 1], "dimensions": 2, "window": (0.02, 0.1)}
    found = analysis.diffusion(walk, 2.0, **named)
    assert found.coefficient == pytest.approx(0.01 / 4, abs=4 * found.standard_error)
    drifting = walk + 0.3 * np.arange(4000)[:, None, None]
    again = analysis.diffusion(drifting, 2.0, masses=[1e-9, 1e-9, 1.0], **named)
    assert again.coefficient == pytest.approx(found.coefficient, rel=1e-6)
    with pytest.raises(ValueError, match="dimensions must be 1, 2 or 3"):
        analysis.diffusion(walk, 2.0, dimensions=6)


def test_arrhenius():
    """Exact on a line; errors are those of many lines through scattered points."""
    kelvin, barrier, prefactor = np.array([200.0, 300.0, 450.0, 700.0]), 0.12, 3e-3
    thermal = units.BOLTZMANN * kelvin
    exact = prefactor * np.exp(-barrier / thermal)
    width = np.array([0.2, 0.1, 0.05, 0.05])
    line = analysis.arrhenius(
        kelvin, [analysis.Diffusion(d, w * d) for d, w in zip(exact, width, strict=True)]
    )
    assert line.activation_energy == pytest.approx(barrier)
    assert line.prefactor == pytest.approx(prefactor)
    assert line.chi_square < 1e-12
    np.testing.assert_allclose(line.coefficient(kelvin), exact)
    rng, found = np.random.default_rng(0), []
    for _ in range(1000):
        scattered = exact * np.exp(width * rng.normal(size=4))
        pairs = zip(scattered, width, strict=True)
        found.append(analysis.arrhenius(kelvin, [analysis.Diffusion(d, w * d) for d, w in pairs]))
    energies = np.array([each.activation_energy for each in found])
    assert np.std(energies) == pytest.approx(line.activation_error, rel=0.1)
    logarithms = np.log([each.prefactor for each in found])
    assert np.std(logarithms) == pytest.approx(np.log(line.prefactor_ratio), rel=0.1)
    assert np.mean([each.chi_square for each in found]) == pytest.approx(1.0, abs=0.1)
    two = analysis.arrhenius(kelvin[:2], [analysis.Diffusion(d, d) for d in exact[:2]])
    assert np.isnan(two.chi_square)
    assert two.activation_energy == pytest.approx(barrier)
    with pytest.raises(ValueError, match="at least two different ones"):
        analysis.arrhenius([300.0, 300.0], [analysis.Diffusion(1.0, 0.1)] * 2)
    with pytest.raises(ValueError, match="did not diffuse"):
        analysis.arrhenius([300.0, 400.0], [analysis.Diffusion(0.0, 0.1)] * 2)


@pytest.mark.parametrize(
    ("interval", "window", "message"),
    [
        (0.0, (0.1, 0.5), "interval must be a positive time"),
        (-1.0, (0.1, 0.5), "interval must be a positive time"),
        (float("nan"), (0.1, 0.5), "interval must be a positive time"),
        (1.0, (0.1, 1.5), "window must be two shares"),
        (1.0, (-0.1, 0.5), "window must be two shares"),
        (1.0, (0.5, 0.1), "window must be two shares"),
    ],
)
def test_times_without_a_meaning_are_refused(interval, window, message):
    with pytest.raises(ValueError, match=message):
        analysis.diffusion(np.zeros((100, 2, 3)), interval, window=window)
