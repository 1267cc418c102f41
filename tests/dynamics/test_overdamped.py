"""Overdamped Langevin dynamics against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxff import units
from jaxff.dynamics import overdamped, run
from jaxff.system import System

KELVIN = 250.0
THERMAL = units.BOLTZMANN * KELVIN
SPRINGS = np.repeat(np.linspace(1.0, 8.0, 8), 3)
KEY = jax.random.key(3)
PLACED = System(np.zeros((24, 3)), np.full(24, 6))


def traps(system, neighbors=None):
    return 0.5 * jnp.sum(jnp.asarray(SPRINGS)[:, None] * system.positions**2)


def trapped(ensemble, steps=5000, **more):
    return run(
        traps, PLACED, ensemble=ensemble, steps=steps, key=KEY, every=10, chunk=5000,
        replicas=10, max_displacement=5.0, **more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def result():
    """Steps up to 0.8 of what springs of 8 eV/Å² take: Euler's would be off by 0.4/(1 - 0.4)."""
    return trapped(overdamped(0.1, KELVIN, mobility=1.0))


def test_positions_have_the_variance_of_the_wells_with_long_steps(result):
    late = result.positions[:, 10:]
    square = np.mean(late**2, axis=(1, 3)) * SPRINGS  # replicas, atoms
    square = square.reshape(10, 8, 3).mean(axis=2)
    mean, error = square.mean(axis=0), square.std(axis=0, ddof=1) / np.sqrt(10)
    assert np.all(error < 0.03 * THERMAL)
    assert np.all(np.abs(mean - THERMAL) < 4 * error)
    np.testing.assert_allclose(mean.mean(), THERMAL, rtol=0.01)


def test_correlations_decay_at_the_rate_of_the_mobility(result):
    """A step leaves 1 - h k of a displacement; the first 1 - h k/2, by the number it shares."""
    late = result.positions[:, 10:, :3]  # the softest springs
    found = np.mean(late[:, 1:] * late[:, :-1]) / np.mean(late**2)
    np.testing.assert_allclose(found, 0.9**9 * 0.95, atol=0.03)


def test_the_conserved_energy_tells_of_long_steps(result):
    short = trapped(overdamped(0.01, KELVIN, mobility=1.0), steps=500)
    drift = np.ptp(short.conserved_energy.mean(axis=0))
    assert drift < 0.05 * np.ptp(short.potential_energy.mean(axis=0))
    temperature = short.half_step_kinetic_energy / (36 * units.BOLTZMANN)
    assert abs(temperature.mean() - KELVIN) < 0.02 * KELVIN


def test_friction_is_a_mobility_of_each_mass():
    masses = np.full(24, 12.0)
    friction = 0.5
    one = trapped(overdamped(2.0, KELVIN, friction=friction), steps=20, masses=masses)
    mobility = 1.0 / (12.0 * friction * units.TIME**2)
    other = trapped(overdamped(2.0, KELVIN, mobility=mobility), steps=20)
    np.testing.assert_allclose(one.positions, other.positions, atol=1e-12)
    np.testing.assert_allclose(one.masses, 0.5 * friction * 2.0 * masses)


def test_a_restart_continues(result):
    del result
    ensemble = overdamped(0.1, KELVIN, mobility=1.0)
    whole = trapped(ensemble, steps=40)
    half = trapped(ensemble, steps=20)
    rest = trapped(ensemble, steps=20, restart=half.restart)
    np.testing.assert_array_equal(rest.positions[:, -1], whole.positions[:, -1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either friction or mobility"),
        ({"friction": 1.0, "mobility": 1.0}, "either friction or mobility"),
        ({"mobility": 0.0}, "mobility must be a positive number"),
        ({"friction": -1.0}, "friction must be a positive number"),
    ],
)
def test_numbers_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        overdamped(0.1, KELVIN, **options)
