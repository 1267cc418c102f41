"""Spectra of signals whose frequencies are known."""

import numpy as np
import pytest

from jaxff import units
from jaxff.vibrations import NormalModes, density_of_states, find_peaks, project, undo_verlet

PERIOD = 2 * np.pi * units.REDUCED_PLANCK / units.WAVENUMBER  # fs of 1 cm⁻¹
MASSES = np.array([1.0, 4.0])


def velocities(waves, weights=None, frames=20_000, interval=1.0, seed=0):
    """Six components with one wave each, equal mass-weighted amplitude unless said otherwise."""
    phases = np.random.default_rng(seed).uniform(0, 2 * np.pi, 6)
    times = interval * np.arange(frames)[:, None]
    weights = np.ones(6) if weights is None else np.asarray(weights)
    signal = weights * np.cos(2 * np.pi * times * np.asarray(waves) / PERIOD + phases)
    return signal.reshape(frames, 2, 3) / np.sqrt(MASSES)[:, None]


def test_peaks_are_where_the_waves_are():
    waves = [200.0, 512.3, 1003.0, 1650.5, 3001.0, 3702.0]
    spectrum = density_of_states(velocities(waves), MASSES, 1.0)
    peaks = find_peaks(spectrum)
    np.testing.assert_allclose(peaks.wavenumbers, waves, atol=0.3)
    # equal kinetic energies: each counts one mode
    np.testing.assert_allclose(np.trapezoid(spectrum.density, spectrum.wavenumbers), 6.0)
    for wave in waves:
        near = np.abs(spectrum.wavenumbers - wave) < 40
        area = np.trapezoid(spectrum.density[near], spectrum.wavenumbers[near])
        assert area == pytest.approx(1.0, abs=0.03)


def test_width_is_the_resolution():
    spectrum = density_of_states(velocities([1500.0] * 6), MASSES, 1.0, resolution=20.0)
    above = spectrum.wavenumbers[spectrum.density > 0.5 * spectrum.density.max()]
    assert above[-1] - above[0] == pytest.approx(20.0, rel=0.1)


def test_replicas_are_averaged_and_modes_counted():
    one, two = velocities([500.0] * 6), velocities([900.0] * 6, seed=1)
    both = density_of_states(np.stack([one, two]), MASSES, 1.0, modes=3.0)
    np.testing.assert_allclose(find_peaks(both).wavenumbers, [500.0, 900.0], atol=0.5)
    half = both.wavenumbers < 700
    area = np.trapezoid(both.density[half], both.wavenumbers[half])
    assert area == pytest.approx(1.5, abs=0.02)


def test_projection_assigns_peaks_to_modes():
    waves = [300.0, 800.0, 1200.0, 1700.0, 2500.0, 3100.0]
    rotation, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(6, 6)))
    weighted = velocities(waves).reshape(-1, 6) * np.repeat(np.sqrt(MASSES), 3)
    mixed = (weighted @ rotation).reshape(-1, 2, 3) / np.sqrt(MASSES)[:, None]
    displacements = rotation.reshape(6, 2, 3) / np.sqrt(MASSES)[:, None]
    modes = NormalModes(np.array(waves), displacements, np.ones(6), MASSES, np.zeros(3), 0)
    found = project(mixed, modes, 1.0)
    assert found.density.shape == (6, len(found.wavenumbers))
    np.testing.assert_allclose(found.wavenumbers[found.density.argmax(axis=1)], waves, atol=2.0)


@pytest.mark.parametrize("wave", [500.0, 3700.0])
def test_verlet_vibrates_too_fast_by_what_is_undone(wave):
    omega, step = 2 * np.pi * wave / PERIOD, 0.5
    x, v, frames = 1.0, 0.0, []
    for _ in range(40_000):
        v -= 0.5 * step * omega**2 * x
        x += step * v
        v -= 0.5 * step * omega**2 * x
        frames.append(v)
    series = np.zeros((len(frames), 1, 3))
    series[:, 0, 0] = frames
    (seen,) = find_peaks(density_of_states(series, np.ones(1), step)).wavenumbers
    assert seen - wave == pytest.approx(wave * (omega * step) ** 2 / 24, rel=0.1, abs=0.05)
    assert undo_verlet(seen, step) == pytest.approx(wave, abs=0.1)


def test_refuses():
    good = velocities([500.0] * 6, frames=100)
    with pytest.raises(ValueError, match="run longer"):
        density_of_states(good, MASSES, 1.0)
    with pytest.raises(ValueError, match=r"shape \(frames, 3, 3\)"):
        density_of_states(good, np.ones(3), 1.0)
    with pytest.raises(ValueError, match="all zero"):
        density_of_states(0 * good, MASSES, 1.0, resolution=1000.0)
