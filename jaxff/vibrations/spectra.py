"""Vibrational density of states from the velocities of a run, and its peaks."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxff import units
from jaxff.types import Float
from jaxff.vibrations.normal_modes import NormalModes

__all__ = ["Peaks", "Spectrum", "density_of_states", "find_peaks", "project", "undo_verlet"]

_CM = 2.0 * np.pi * units.REDUCED_PLANCK / units.WAVENUMBER  # cm⁻¹ of one oscillation per fs


@dataclass(frozen=True)
class Spectrum:
    """A density of vibrational states.

    Attributes:
        wavenumbers: cm⁻¹, from 0 to that of two frames per oscillation.
        density: Modes per cm⁻¹, ``(..., wavenumbers)``.
        resolution: Width at half maximum in cm⁻¹ that a sharp vibration has.
    """

    wavenumbers: Float[np.ndarray, " points"]
    density: Float[np.ndarray, "*series points"]
    resolution: float


@dataclass(frozen=True)
class Peaks:
    """Maxima of a spectrum, lowest first.

    Attributes:
        wavenumbers: cm⁻¹, interpolated between points.
        heights: Modes per cm⁻¹.
    """

    wavenumbers: Float[np.ndarray, " peaks"]
    heights: Float[np.ndarray, " peaks"]


def density_of_states(
    velocities: Any,
    masses: Any,
    interval: float,
    *,
    resolution: float = 10.0,
    modes: float | None = None,
) -> Spectrum:
    r"""Vibrational density of states from the mass-weighted velocity autocorrelation.

    The spectrum of :math:`\sum_i m_i \langle v_i(0) \cdot v_i(t)\rangle`, damped by a Gaussian,
    scaled so that its integral is the number of modes. In equilibrium every mode carries the same
    kinetic energy and so counts one; a short run at constant energy weighs modes by what they
    happen to carry, their places stay right. Replicas are averaged.

    Args:
        velocities: Å/fs, ``(frames, atoms, 3)`` at equal intervals, or with replicas before.
        masses: amu.
        interval: Time between frames in fs. Vibrations faster than half a period per interval fold
            back to wrong places: 5 fs reach 3336 cm⁻¹, 4 fs 4170 cm⁻¹.
        resolution: Width at half maximum in cm⁻¹ of a sharp vibration; sets the longest time of the
            autocorrelation, of which the run should cover several.
        modes: Integral over all wavenumbers; by default 3 per atom.

    Raises:
        ValueError: If shapes do not fit, or the run is too short for the resolution.
    """
    velocities = np.asarray(velocities, np.float64)
    masses = np.asarray(masses, np.float64)
    if velocities.ndim < 3 or velocities.shape[-2:] != (len(masses), 3):
        raise ValueError(
            f"velocities must have the shape (frames, {len(masses)}, 3), got {velocities.shape}"
        )
    weighted = velocities * np.sqrt(masses)[:, None]
    series = weighted.reshape(-1, velocities.shape[-3], 3 * len(masses))
    total = 3.0 * len(masses) if modes is None else float(modes)
    return _spectrum(series, interval, resolution, total)


def project(
    velocities: Any,
    modes: NormalModes,
    interval: float,
    *,
    resolution: float = 10.0,
) -> Spectrum:
    """The spectrum of each normal mode on its own, of a molecule that hardly turns.

    Velocities are projected on the mass-weighted modes, so that each peak is assigned to its mode;
    ``density`` has a row per mode, each with integral one.

    Args:
        velocities: Å/fs, ``(frames, atoms, 3)``, in the frame in which the modes were computed.
        modes: From :func:`jaxff.vibrations.normal_modes`.
        interval: Time between frames in fs.
        resolution: Width at half maximum in cm⁻¹ of a sharp vibration.

    Raises:
        ValueError: If shapes do not fit, or the run is too short for the resolution.
    """
    velocities = np.asarray(velocities, np.float64)
    if velocities.ndim != 3 or velocities.shape[1:] != modes.displacements.shape[1:]:
        raise ValueError(
            f"velocities must have the shape (frames, {len(modes.masses)}, 3), "
            f"got {velocities.shape}"
        )
    root = np.sqrt(modes.masses)[:, None]
    basis = (modes.displacements * root).reshape(len(modes), -1)
    basis = basis / np.linalg.norm(basis, axis=1, keepdims=True)
    series = (velocities * root).reshape(len(velocities), -1) @ basis.T
    rows = [_spectrum(series[None, :, [k]], interval, resolution, 1.0) for k in range(len(modes))]
    return Spectrum(rows[0].wavenumbers, np.array([r.density for r in rows]), resolution)


def _spectrum(series: np.ndarray, interval: float, resolution: float, total: float) -> Spectrum:
    """Power spectrum of ``(replicas, frames, components)`` through the windowed autocorrelation."""
    if not interval > 0 or not resolution > 0:
        raise ValueError(
            f"interval (fs) and resolution (cm⁻¹) must be positive, got {interval}, {resolution}"
        )
    frames = series.shape[1]
    # A Gaussian window: its lines are Gaussians, without the side lobes that pass for peaks.
    width = np.sqrt(2.0 * np.log(2.0)) / np.pi * _CM / (resolution * interval)
    lags = int(np.ceil(4.0 * width))
    if not 4 <= lags <= frames:
        raise ValueError(
            f"a resolution of {resolution} cm⁻¹ needs at least {max(lags, 4)} frames of {interval} "
            f"fs, got {frames}: run longer, or choose a lower resolution"
        )
    size = 2 ** int(np.ceil(np.log2(2 * frames)))
    power = np.abs(np.fft.rfft(series, size, axis=1)) ** 2
    correlation = np.fft.irfft(power.sum(axis=(0, 2)), size)[:lags] / (frames - np.arange(lags))
    correlation = correlation * np.exp(-0.5 * (np.arange(lags) / width) ** 2)
    points = 2 ** int(np.ceil(np.log2(8 * lags)))  # fine enough to interpolate peaks
    doubled = np.zeros(points)
    doubled[:lags] = correlation
    doubled[-lags + 1 :] += correlation[:0:-1]
    density = np.fft.rfft(doubled).real
    wavenumbers = _CM * np.fft.rfftfreq(points, interval)
    area = np.trapezoid(density, wavenumbers)
    if not area > 0:
        raise ValueError("the velocities are all zero: nothing vibrates")
    return Spectrum(wavenumbers, density * (total / area), resolution)


def find_peaks(spectrum: Spectrum, *, prominence: float = 0.02) -> Peaks:
    """Maxima that rise above their surroundings.

    Args:
        spectrum: Of one series.
        prominence: Least rise, as a share of the highest maximum.
    """
    from scipy.signal import find_peaks as search

    y, x = spectrum.density, spectrum.wavenumbers
    if y.ndim != 1:
        raise ValueError(f"peaks are those of one series, got a density of shape {y.shape}")
    index, _ = search(y, prominence=prominence * float(y.max()))
    left, middle, right = y[index - 1], y[index], y[index + 1]
    curvature = left - 2.0 * middle + right
    shift = 0.5 * (left - right) / np.where(curvature != 0, curvature, 1.0)
    return Peaks(x[index] + shift * (x[1] - x[0]), middle - 0.25 * (left - right) * shift)


def undo_verlet(wavenumbers: Any, timestep: float) -> np.ndarray:
    r"""True wavenumbers of peaks in a run by velocity Verlet, which vibrates too fast.

    A harmonic oscillator of angular frequency ω appears at :math:`\omega'` with
    :math:`\sin(\omega'\Delta t/2) = \omega\Delta t/2`: at 0.5 fs and 3700 cm⁻¹, 19 cm⁻¹ too high.

    Args:
        wavenumbers: cm⁻¹, as seen.
        timestep: Of the integrator, in fs.
    """
    half = np.pi * np.asarray(wavenumbers, np.float64) * timestep / _CM
    return np.asarray(np.sin(half) * _CM / (np.pi * timestep))
