"""The report of a run: what it was, what it conserved, its averages, its spectrum."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np

from jaxff import elements, units
from jaxff.analysis import Estimate, estimate
from jaxff.data.archive import write_atomic
from jaxff.dynamics import Drift, energy_drift
from jaxff.report.dynamics import conservation, ring_polymers
from jaxff.report.page import Section, Table, facts, page
from jaxff.report.recorded import Recorded, read_run
from jaxff.report.vibrations import spectrum
from jaxff.vibrations import NormalModes, Spectrum, density_of_states, undo_verlet

__all__ = ["environment", "run_sections", "write_run"]

Modes = NormalModes | Callable[[], NormalModes | None] | None

_QUANTITIES = {
    "half_step_temperature_K": ("temperature, from half steps", "K", 1.0),
    "temperature_K": ("temperature, from full steps", "K", 1.0),
    "potential_energy_eV": ("potential energy", "eV", 1.0),
    "kinetic_energy_eV": ("kinetic energy", "eV", 1.0),
    "total_energy_eV": ("total energy", "eV", 1.0),
    "volume_A3": ("volume", "Å³", 1.0),
    "pressure_eV_A3": ("pressure", "GPa", 1.0 / units.GIGAPASCAL),
}


def write_run(
    folder: str | os.PathLike,
    *,
    about: Mapping[str, str] | None = None,
    modes: Modes = None,
    target: float | None = None,
    sections: Sequence[Section] = (),
) -> Path:
    """Write ``report.html`` into the folder of a run, from the files in it.

    Args:
        folder: Written by :class:`jaxff.dynamics.Writer`.
        about: What was run, by name: command, model, and where it comes from.
        modes: Normal modes to mark in the spectrum, or a function that computes them, called only
            if the run is long enough to have one.
        target: Temperature in K of a thermostat.
        sections: Further parts of the page, at its end.

    Returns:
        The path of the page.

    Raises:
        FileNotFoundError: If a file of the run is missing.
        ValueError: If a file cannot be read.
    """
    run = read_run(folder)
    rows = {**(about or {}), **_outline(run), **environment()}
    parts = [
        Section("What was run", table=facts(rows)),
        *run_sections(run, modes=modes, target=target),
        *sections,
    ]
    title = f"Molecular dynamics of {elements.formula(run.numbers)}"
    path = run.folder / "report.html"
    content = page(title, parts, f"Written by jaxff on {datetime.now():%Y-%m-%d %H:%M}.")
    write_atomic(path, lambda stream: stream.write(content.encode()))
    return path


def environment() -> dict[str, str]:
    """Versions, device and machine, as rows of a table."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("jaxff", "jax", "numpy"))
    device = jax.devices()[0]
    return {
        "Versions": f"{packages}, Python {platform.python_version()}",
        "Device": f"{device.device_kind or device.platform} ({platform.machine()})",
    }


def _outline(run: Recorded) -> dict[str, str]:
    spacing = f", every {run.interval:g} fs" if run.interval else ""
    atoms = len(run.numbers)
    freedom = f", {run.degrees_of_freedom} degrees of freedom in the temperature"
    rows = {
        "Atoms": f"{elements.formula(run.numbers)}, {atoms} atoms"
        + (freedom if run.quantum is None else ""),
        "Length": f"{run.steps} steps of {run.timestep:g} fs, {run.steps * run.timestep * 1e-3:g} "
        "ps",
        "Frames": f"{len(run.times)}{spacing}",
    }
    if run.quantum is not None:
        rows["Beads"] = str(run.replicas)
    elif run.replicas > 1:
        rows["Replicas"] = str(run.replicas)
    return {"Ensemble": run.ensemble, **rows}


def run_sections(
    run: Recorded, *, modes: Modes = None, target: float | None = None
) -> list[Section]:
    """Averages, conservation and spectrum of a run as parts of a page.

    Args:
        run: From :func:`read_run`.
        modes: Normal modes to mark in the spectrum, or a function that computes them.
        target: Temperature in K of a thermostat.
    """
    if run.quantum is not None:  # energies and velocities of single beads mean nothing
        return [*_path_integral(run.quantum, len(run.numbers))]
    found = [_averages(run), _conservation(run, target)]
    if (seen := _vibrations(run, modes)) is not None:
        found.append(seen)
    return found


def _averages(run: Recorded) -> Section:
    rows = []
    for name, (word, unit, factor) in _QUANTITIES.items():
        if name not in run.columns:
            continue
        series = run.columns[name] * factor
        mean, error, _ = _estimate(series)
        spread = float(np.mean(np.std(series, axis=-1)))
        rows.append((word, unit, _digits(mean, error), _short(error), _short(spread)))
    columns = ("average over the run", "unit", "mean", "standard error", "fluctuation")
    return Section(
        "Averages",
        "Over all frames, the first included. Standard errors count correlated frames once; the "
        "fluctuation is the standard deviation in time.",
        Table(columns, tuple(rows)),
    )


_ESTIMATORS = {
    "potential_energy_eV": ("potential energy", "eV"),
    "virial_kinetic_energy_eV": ("kinetic energy, virial estimator", "eV"),
    "primitive_kinetic_energy_eV": ("kinetic energy, primitive estimator", "eV"),
    "radius_of_gyration_A": ("radius of gyration of the rings", "Å"),
}


def _path_integral(log: Mapping[str, np.ndarray], atoms: int) -> list[Section]:
    times, conserved = log["time_fs"], log["conserved_energy_eV"]
    settled, rows = slice(len(times) // 5, None), []
    for name, (word, unit) in _ESTIMATORS.items():
        series = log[name][settled]
        mean, error, _ = _estimate(series[None])
        rows.append((word, unit, _digits(mean, error), _short(error), _short(float(series.std()))))
    drift = energy_drift(times, conserved, atoms) if len(times) >= 3 else None
    text = (
        "The drift is the slope of a straight line. What is conserved is the energy of all beads "
        "with their springs, less the heat that the thermostats gave."
    )
    if drift is not None:
        text += (
            f"\nDrift of the conserved quantity ({drift.slope:.2e} ± {drift.standard_error:.1e}) "
            f"meV/atom/ps, fluctuation {1e3 * conserved.std() / atoms:.2e} meV/atom (standard "
            "deviation)."
        )
    return [
        Section(
            "Averages of the quantum system",
            "After the first fifth of the run. The two estimators of the kinetic energy have the "
            "same average: further apart than their errors, the run is too short.",
            Table(("average", "unit", "mean", "standard error", "fluctuation"), tuple(rows)),
        ),
        Section(
            "Energies and rings", text, "", ring_polymers(log, atoms, drift),
            "Conserved quantity, energies and extension of the rings along the run.",
        ),
    ]  # fmt: skip


def _estimate(series: np.ndarray) -> Estimate:
    """Of independent replicas together."""
    if series.shape[-1] < 2:
        return Estimate(float(series.mean()), float("nan"), float("nan"))
    each = [estimate(row) for row in series]
    error = np.sqrt(sum(one.standard_error**2 for one in each)) / len(each)
    inefficiency = float(np.mean([one.inefficiency for one in each]))
    return Estimate(float(series.mean()), float(error), inefficiency)


def _digits(mean: float, error: float) -> str:
    """As many decimals as the error, to two digits, has."""
    if not np.isfinite(error) or error <= 0:
        return f"{mean:.6g}"
    return f"{mean:.{int(np.clip(1 - np.floor(np.log10(error)), 0, 8))}f}"


def _short(value: float) -> str:
    return f"{value:.2g}" if np.isfinite(value) else "–"


_CONSERVED = {
    "total_energy_eV": "total energy",
    "shadow_energy_eV": "shadow energy (fourth order in the time step)",
    "conserved_energy_eV": "conserved energy of the ensemble",
}


def _conservation(run: Recorded, target: float | None) -> Section:
    constant = run.ensemble == "nve"
    names = ("total_energy_eV", "shadow_energy_eV") if constant else ("conserved_energy_eV",)
    names = [name for name in names if name in run.columns]
    atoms, rows, drifts = len(run.numbers), [], []
    for name in names if len(run.times) >= 3 else []:
        for replica, series in enumerate(run.columns[name]):
            drift = energy_drift(run.times, series, atoms)
            drifts.append((name, drift))
            word = _CONSERVED[name] + (f", replica {replica}" if run.replicas > 1 else "")
            spread = 1e3 * float(np.std(series)) / atoms
            numbers = (f"{drift.slope:.2e}", f"{drift.standard_error:.1e}", f"{spread:.2e}")
            rows.append((word, *numbers))
    columns = ("", "drift (meV/atom/ps)", "standard error", "fluctuation (meV/atom)")
    main = names[0] if names else "total_energy_eV"
    figure = conservation(
        run.times,
        run.columns["potential_energy_eV"],
        run.columns["total_energy_eV"],
        run.columns.get("half_step_temperature_K", run.columns["temperature_K"]),
        atoms,
        _together([drift for name, drift in drifts if name == main]),
        conserved=None if constant or main not in run.columns else run.columns[main],
        target=target,
    )
    return Section(
        "Energy and temperature",
        "The drift is the slope of a straight line; its standard error allows for the correlation "
        "of neighbouring frames: a slope below two or three errors is no evidence of a drift.",
        Table(columns, tuple(rows)) if rows else "",
        figure,
        "Conserved energy, potential energy and temperature along the run.",
    )


def _together(drifts: list[Drift]) -> Drift | None:
    if not drifts:
        return None
    slopes, errors = np.array(drifts).T
    return Drift(float(slopes.mean()), float(np.sqrt(np.sum(errors**2)) / len(drifts)))


def _vibrations(run: Recorded, given: Modes) -> Section | None:
    seen = _spectrum(run)
    if seen is None:
        return None
    modes = given() if callable(given) else given
    fastest = float(seen.wavenumbers[-1])
    text = (
        "Vibrational density of states from the autocorrelation of the velocities, its "
        "wavenumbers corrected for the finite time step."
    )
    if modes is not None:
        text += (
            " Marked are the normal modes, harmonic vibrations at the minimum next to the start; "
            "at a temperature, anharmonicity shifts and widens their peaks."
        )
    hidden = 0 if modes is None else int(np.sum(modes.frequencies > fastest))
    if hidden or (modes is None and fastest < 4000.0 and 1 in run.numbers):
        count = "Faster vibrations fold back"
        if hidden:
            several = f"{hidden} modes are faster, and fold back"
            count = "1 mode is faster, and folds back" if hidden == 1 else several
        text += (
            f"\nFrames every {run.interval:g} fs show vibrations up to {fastest:.0f} cm⁻¹. {count} "
            "to wrong places: write frames at least every 4 fs to see stretches of hydrogen."
        )
    waves = None if modes is None else modes.frequencies[modes.frequencies <= fastest]
    return Section(
        "Vibrational spectrum",
        text,
        "" if modes is None else _modes_table(modes),
        spectrum(seen, waves),
        "Density of vibrational states of the run"
        + ("." if modes is None else ", normal modes below."),
    )


def _spectrum(run: Recorded) -> Spectrum | None:
    """At 10 cm⁻¹ if the run is long enough, else as fine as it allows, up to 60 cm⁻¹."""
    frames = run.velocities.shape[1]
    if frames < 20 or not np.any(run.velocities):
        return None
    # Three autocorrelations at least, of 50 ps / (resolution in cm⁻¹) each.
    resolution = max(10.0, 3.0 * 50_000.0 / (frames * run.interval))
    if resolution > 60.0:
        return None
    try:
        found = density_of_states(
            run.velocities,
            units.masses(run.numbers),
            run.interval,
            resolution=resolution,
            modes=float(run.degrees_of_freedom),
        )
    except ValueError:
        return None  # so few frames that not even this resolution is there
    return Spectrum(undo_verlet(found.wavenumbers, run.timestep), found.density, resolution)


def _modes_table(modes: NormalModes) -> Table:
    rows = tuple(
        (str(i + 1), f"{abs(wave):.1f}{'i' if wave < 0 else ''}", f"{mass:.3f}")
        for i, (wave, mass) in enumerate(zip(modes.frequencies, modes.reduced_masses, strict=True))
    )
    return Table(("mode", "wavenumber (cm⁻¹)", "reduced mass (amu)"), rows)
