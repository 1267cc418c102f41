"""Ring-polymer dynamics of oscillators, for which it is exact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxff import System, analysis, bind, dynamics, units
from jaxff.potential import Potential

KELVIN, STIFFNESS, ATOMS = 300.0, 30.0, 32  # K, eV/Å²
PLACES = 3.0 * np.arange(ATOMS)[:, None] * np.ones(3)
SYSTEM = System(PLACES, np.ones(ATOMS, int))
ASKED = {
    "timestep": 0.25, "temperature": KELVIN, "beads": 4, "starts": 4, "steps": 480,
    "thermalize": 120, "every": 2, "centroid_time": 10.0, "key": jax.random.key(3),
}  # fmt: skip


def wells():
    """Hydrogen atoms, each in a well of its own."""

    def apply(params, system, neighbors=None):
        return {"energy": 0.5 * params * jnp.sum((system.positions - PLACES) ** 2)}

    return bind(Potential(lambda key, system, **named: jnp.asarray(STIFFNESS), apply), STIFFNESS)


@pytest.fixture(scope="module")
def segments():
    return list(dynamics.ring_polymers(wells(), SYSTEM, **ASKED))


def test_centroids_vibrate_at_the_physical_frequency(segments):
    """Kubo's autocorrelation of an oscillator is (3 kT/m) cos ωt, whatever the beads."""
    found = analysis.kubo_autocorrelation(segments)
    mass = units.masses(np.array([1]))[0] * units.TIME**2  # eV fs²/Å²
    frequency = np.sqrt(STIFFNESS / mass)
    np.testing.assert_allclose(found.times, 0.5 * np.arange(240))
    some = found.times < 40.0  # three periods
    expected = np.cos(frequency * found.times[some])
    np.testing.assert_allclose(found.values[some] / found.values[0], expected, atol=0.05)
    amplitude = 3.0 * units.BOLTZMANN * KELVIN / mass
    assert abs(found.values[0] - amplitude) < 4.0 * found.standard_errors[0] + 0.03 * amplitude
    few = analysis.kubo_autocorrelation(segments, atoms=[0, 1])
    assert few.standard_errors[0] > found.standard_errors[0]


def test_segments_keep_their_energy_and_start_anew(segments):
    for segment in segments:
        energy = segment.total_energy.sum(axis=0)
        assert np.std(segment.conserved_energy.sum(axis=0)) < 0.02 * np.mean(energy)
        assert segment.positions.shape == (4, 240, ATOMS, 3)
    ends = [segment.conserved_energy.sum(axis=0)[-1] for segment in segments]
    assert np.ptp(ends) > 0.0


def test_refuses(segments):
    with pytest.raises(ValueError, match="at least 2 segments"):
        analysis.kubo_autocorrelation(segments[:1])
    with pytest.raises(ValueError, match="thermalize must be a positive multiple of 2"):
        next(dynamics.ring_polymers(wells(), SYSTEM, **{**ASKED, "thermalize": 5}))
    with pytest.raises(ValueError, match="starts must be a positive multiple of 1"):
        next(dynamics.ring_polymers(wells(), SYSTEM, **{**ASKED, "starts": 0}))
