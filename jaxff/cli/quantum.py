"""The energies of a path integral, which no bead has by itself: ``quantum.csv``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from jaxff import analysis, report
from jaxff.cli.console import say
from jaxff.dynamics import Trajectory, energy_drift, read_log
from jaxff.report.recorded import QUANTUM_LOG

__all__ = ["QuantumLog", "draw_quantum", "quantum_summary"]

_COLUMNS = (
    "step", "time_fs", "potential_energy_eV", "virial_kinetic_energy_eV",
    "primitive_kinetic_energy_eV", "conserved_energy_eV", "radius_of_gyration_A",
)  # fmt: skip


class QuantumLog:
    """A writer that notes the estimators of each frame before it calls another.

    Args:
        folder: Of the run.
        temperature: Of the atoms, K.
        writer: The other, whose restart file so never runs ahead of the notes.
        done: Steps of the run that is continued: what stands behind them is cut off.
    """

    def __init__(
        self,
        folder: Path,
        temperature: float,
        writer: Callable[[Trajectory], None],
        done: int | None,
    ):
        self.path, self.temperature, self.writer = folder / QUANTUM_LOG, temperature, writer
        self.header = done is None
        if done is not None:
            if not self.path.exists():
                raise FileNotFoundError(
                    f"{self.path}: a path integral goes on from its estimators too; bring the file "
                    "back, or start anew with another --output"
                )
            lines = self.path.read_text().splitlines(keepends=True)
            kept = [x for x in lines[1:] if x.endswith("\n") and int(x.split(",")[0]) <= done]
            self.path.write_text("".join([lines[0], *kept]))

    def __call__(self, chunk: Trajectory) -> None:
        """Append what is known of these frames."""
        energies = analysis.quantum_energies(chunk, self.temperature)
        radius = np.sqrt(np.mean(analysis.radius_of_gyration(chunk) ** 2, axis=-1))
        rows = np.column_stack(
            [
                chunk.times,
                energies.potential,
                energies.virial_kinetic,
                energies.primitive_kinetic,
                np.sum(chunk.conserved_energy, axis=0),
                radius,
            ]
        )
        text = ",".join(_COLUMNS) + "\n" if self.header else ""
        for step, row in zip(chunk.steps, rows, strict=True):
            text += f"{step}," + ",".join(f"{value:.12g}" for value in row) + "\n"
        with self.path.open("w" if self.header else "a") as file:
            file.write(text)
        self.header = False
        self.writer(chunk)


def quantum_summary(folder: Path) -> str:
    """Averages with standard errors, of what comes after the first fifth, and what is conserved."""
    log = read_log(folder / QUANTUM_LOG)
    times = log["time_fs"]
    text = f"{len(times)} frames, {times[-1] / 1000:g} ps"
    settled = slice(len(times) // 5, None)
    if len(times) < 20:
        return f"{text}; too few for averages"
    found = {name: analysis.estimate(log[name][settled]) for name in _COLUMNS[2:]}
    virial, primitive = (found[f"{n}_kinetic_energy_eV"] for n in ("virial", "primitive"))
    potential, radius = found["potential_energy_eV"], found["radius_of_gyration_A"]
    conserved = log["conserved_energy_eV"]
    drift = np.polyfit(times, conserved, 1)[0] * 1e6
    return (
        f"{text}; averages after the first fifth:\n"
        f"Potential energy {potential.mean:.4f} ± {potential.standard_error:.4f} eV; kinetic "
        f"energy {virial.mean:.4f} ± {virial.standard_error:.4f} eV (virial), "
        f"{primitive.mean:.4f} ± {primitive.standard_error:.4f} eV (primitive)\n"
        f"Radius of gyration of the rings {radius.mean:.4f} ± {radius.standard_error:.4f} Å\n"
        f"Conserved quantity of all beads: drift {drift:.2e} meV/ps, fluctuation "
        f"{1e3 * np.std(conserved):.2e} meV (standard deviation)"
    )


def draw_quantum(path: Path, folder: Path, atoms: int, title: str) -> None:
    """Energies of a path integral and the extension of its rings as a figure."""
    log = read_log(folder / QUANTUM_LOG)
    times, conserved = log["time_fs"], log["conserved_energy_eV"]
    drift = energy_drift(times, conserved, atoms) if len(times) >= 3 else None
    report.save(path, report.ring_polymers(log, atoms, drift, title))
    say(f"Wrote {path}.")
