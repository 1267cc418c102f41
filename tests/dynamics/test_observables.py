import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxff import units
from jaxff.dynamics import (
    angular_momentum,
    degrees_of_freedom,
    energy_drift,
    kinetic_energy,
    temperature,
    total_momentum,
)

RNG = np.random.default_rng(3)


def test_kinetic_energy_of_a_known_speed():
    # Half of 1 kg (m/s)²: 1 Å/fs is 1e5 m/s.
    joule = 0.5 * 12.0 * units.AMU_KILOGRAM * (0.02e5) ** 2
    velocities = np.array([[0.0, 0.02, 0.0]])
    assert kinetic_energy(velocities, np.array([12.0])) == pytest.approx(joule / units.JOULE_PER_EV)


def test_temperature_is_twice_the_energy_per_degree_of_freedom():
    assert temperature(np.array(0.5 * 6 * units.BOLTZMANN * 300.0), 6) == pytest.approx(300.0)
    with pytest.raises(ValueError, match="at least 1"):
        temperature(np.array(1.0), 0)


def test_momenta_of_a_rigid_rotation_and_frames():
    masses = np.array([1.0, 2.0, 3.0])
    positions = RNG.normal(size=(4, 3, 3))
    omega = np.array([0.1, -0.2, 0.3])
    velocities = np.cross(omega, positions) + np.array([1.0, 0.0, -1.0])
    np.testing.assert_allclose(
        total_momentum(velocities, masses), np.einsum("a,fac->fc", masses, velocities), atol=1e-14
    )
    centred = positions - (masses[:, None] * positions).sum(1, keepdims=True) / 6.0
    inertia = np.einsum("a,fac,fac->f", masses, centred, centred)[:, None, None] * np.eye(3)
    inertia = inertia - np.einsum("a,fac,fad->fcd", masses, centred, centred)
    np.testing.assert_allclose(
        angular_momentum(positions, velocities, masses), inertia @ omega, atol=1e-12
    )


STRETCH = np.array([[-1.0], [1.0]])


@pytest.mark.parametrize(
    ("positions", "velocities", "periodic", "expected"),
    [
        (np.zeros((1, 3)), np.ones((1, 3)), False, 3),
        (STRETCH * [1, 0, 0], STRETCH * [1, 0, 0], False, 1),
        (STRETCH * [1, 0, 0], STRETCH * [0, 1, 0], False, 3),
        (STRETCH * [1, 0, 0], STRETCH * [1, 0, 0], True, 3),
        (STRETCH * [1, 0, 0], np.array([[1.0, 0, 0], [0, 0, 0]]), False, 6),
        (np.eye(3), np.eye(3) - 1 / 3, False, 3),
        (np.eye(3), np.zeros((3, 3)), False, 3),
        (np.outer([-1.0, 0, 1], [1, 0, 0]), np.outer([-1.0, 0, 1], [1, 0, 0]), False, 3),
    ],
    ids=["atom", "stretch", "rotating", "periodic", "moving", "bent", "at rest", "straight"],
)
def test_degrees_of_freedom(positions, velocities, periodic, expected):
    masses = np.ones(len(positions))
    assert degrees_of_freedom(positions, velocities, masses, periodic=periodic) == expected


@settings(max_examples=30)
@given(slope=st.floats(-50, 50), offset=st.floats(-1e3, 1e3))
def test_drift_of_a_straight_line(slope, offset):
    times = np.linspace(100.0, 900.0, 81)
    energy = offset + slope * 1e-3 * 7 * times * 1e-3
    drift = energy_drift(times, energy, 7)
    assert drift.slope == pytest.approx(slope, abs=1e-6)
    assert drift.standard_error == pytest.approx(0.0, abs=1e-6)


def autoregressive(runs, frames, memory):
    noise = RNG.normal(size=(runs, frames))
    series = np.zeros((runs, frames))
    for i in range(1, frames):
        series[:, i] = memory * series[:, i - 1] + noise[:, i]
    return series


@pytest.mark.parametrize("memory", [0.0, 0.9])
def test_standard_error_is_the_spread_of_slopes(memory):
    times = np.arange(2000.0)
    fits = [energy_drift(times, s, 1) for s in autoregressive(300, 2000, memory)]
    spread = np.std([f.slope for f in fits])
    stated = np.sqrt(np.mean([f.standard_error**2 for f in fits]))
    assert stated == pytest.approx(spread, rel=0.25)


def test_a_slow_wander_below_fast_vibrations_is_seen():
    """Vibrations alone, a hundred times the wander, would end the sum of correlations at once."""
    times = np.arange(4096.0)
    wander = 0.01 * autoregressive(200, 4096, 0.99)
    vibrations = np.cos(0.7 * times + RNG.uniform(0, 2 * np.pi, size=(200, 1)))
    fits = [energy_drift(times, s, 1) for s in vibrations + wander]
    spread = np.std([f.slope for f in fits])
    stated = np.sqrt(np.mean([f.standard_error**2 for f in fits]))
    assert 0.75 * spread < stated < 1.6 * spread


def test_drift_needs_three_frames():
    with pytest.raises(ValueError, match="at least 3 frames, got 2"):
        energy_drift(np.arange(2.0), np.arange(2.0), 1)
