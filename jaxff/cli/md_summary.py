"""What ``jaxff md`` says of a run when it has ended."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jaxff import dynamics, report, units
from jaxff.cli.console import say

__all__ = ["Log", "draw", "summary"]

Log = dict[str, np.ndarray]


def summary(logs: list[Log], atoms: int, ensemble: str) -> str:
    """What a run did, with the drift of what its ensemble conserves."""
    times = logs[0]["time_fs"]
    kelvin = np.stack([log["temperature_K"] for log in logs])
    text = (
        f"{len(times)} frames, {times[-1] / 1000:g} ps; temperature {kelvin.mean():.0f} K on "
        f"average, {kelvin.min():.0f} to {kelvin.max():.0f} K"
    )
    if len(logs) > 1:
        averages = kelvin.mean(axis=1)
        text += f"; replicas {averages.min():.0f} to {averages.max():.0f} K"
    if ensemble == "npt":
        volume = np.stack([log["volume_A3"] for log in logs])
        pressure = np.stack([log["pressure_eV_A3"] for log in logs]) / units.GIGAPASCAL
        text += (
            f"\nVolume {volume.mean():.1f} ± {volume.std():.1f} Å³, pressure {pressure.mean():.3f} "
            f"± {pressure.std():.3f} GPa (mean, standard deviation)"
        )
    if len(times) < 3:
        return text
    return f"{text}\n{_conservation(logs, atoms, ensemble)}"


def _conservation(logs: list[Log], atoms: int, ensemble: str) -> str:
    what = "Energy" if ensemble == "nve" else "Conserved quantity:"
    energies = [log["conserved_energy_eV"] for log in logs]
    drifts = [dynamics.energy_drift(logs[0]["time_fs"], energy, atoms) for energy in energies]
    worst = max(drifts, key=lambda drift: abs(drift.slope))
    spread = 1e3 * max(float(np.std(energy)) for energy in energies) / atoms
    note = "" if len(logs) == 1 else ", largest of the replicas"
    return (
        f"{what} drift ({worst.slope:.2e} ± {worst.standard_error:.1e}) meV/atom/ps, "
        f"fluctuation {spread:.2e} meV/atom (standard deviation){note}"
    )


def draw(path: Path, log: Log, atoms: int, title: str) -> None:
    """Energies and temperature of a run as a figure."""
    times, conserved = log["time_fs"], log["conserved_energy_eV"]
    drift = dynamics.energy_drift(times, conserved, atoms) if len(times) >= 3 else None
    potential, kelvin = log["potential_energy_eV"], log["temperature_K"]
    report.save(path, report.conservation(times, potential, conserved, kelvin, atoms, drift, title))
    say(f"Wrote {path}.")
