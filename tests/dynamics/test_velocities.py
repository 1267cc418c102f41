import jax
import numpy as np
import pytest

from jaxff import units
from jaxff.dynamics import (
    angular_momentum,
    degrees_of_freedom,
    kinetic_energy,
    maxwell_boltzmann,
    temperature,
    total_momentum,
)

MASSES = np.array([1.008, 12.011, 15.999, 1.008])
BENT = np.array([[0.0, 0.2, 1.0], [0.0, 0.0, 0.0], [1.2, 0.1, -0.3], [-0.6, 0.9, 0.2]])
LINEAR = np.array([[0.0], [1.1], [2.3], [3.1]]) * [1.0, 2.0, -1.0]


def draw(positions, masses, rotation, count=4000):
    positions, masses = jax.numpy.asarray(positions), jax.numpy.asarray(masses)
    keys = jax.random.split(jax.random.key(5), count)
    one = jax.jit(
        jax.vmap(lambda k: maxwell_boltzmann(k, positions, masses, 250.0, rotation=rotation))
    )
    return np.asarray(one(keys))


@pytest.mark.parametrize(
    ("positions", "rotation", "freedom", "shared"),
    [(BENT, True, 6, 6), (LINEAR, True, 7, 6), (BENT, False, 9, 9)],
)
def test_motion_as_a_whole_is_removed_and_the_rest_is_thermal(positions, rotation, freedom, shared):
    """A straight molecule draws one more than it shares as soon as it bends."""
    velocities = draw(positions, MASSES, rotation)
    assert np.abs(total_momentum(velocities, MASSES)).max() < 1e-14
    if rotation:
        everywhere = np.broadcast_to(positions, velocities.shape)
        assert np.abs(angular_momentum(everywhere, velocities, MASSES)).max() < 1e-13
    assert degrees_of_freedom(positions, velocities[0], MASSES, periodic=not rotation) == shared
    kelvin = temperature(kinetic_energy(velocities, MASSES), freedom)
    # The kinetic energy follows a chi-squared law: mean T, variance 2 T² / f.
    error = 250.0 * np.sqrt(2 / freedom / len(kelvin))
    assert abs(kelvin.mean() - 250.0) < 4 * error
    assert np.std(kelvin) == pytest.approx(250.0 * np.sqrt(2 / freedom), rel=0.06)


def test_one_atom_keeps_its_velocity():
    velocities = draw(np.zeros((1, 3)), np.array([40.0]), True)
    variance = units.BOLTZMANN * 250.0 / 40.0 / units.TIME**2
    assert np.mean(velocities**2) == pytest.approx(variance, rel=0.06)


def test_zero_temperature_is_rest():
    positions, masses = jax.numpy.asarray(BENT), jax.numpy.asarray(MASSES)
    velocities = maxwell_boltzmann(jax.random.key(0), positions, masses, 0.0)
    assert not np.asarray(velocities).any()
