"""A run as its folder holds it, for the report."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxff import elements, units
from jaxff.dynamics import read_hdf5, read_log, read_restart
from jaxff.types import Float, Int

__all__ = ["QUANTUM_LOG", "Recorded", "read_run"]

QUANTUM_LOG = "quantum.csv"
"""Name of the file with the estimators of a path integral."""

_LINES = 1_000_000  # of trajectories that are read for the spectrum: the last ones


@dataclass(frozen=True)
class Recorded:
    """Logs and velocities of a run.

    Attributes:
        folder: Where it is.
        times: fs, of each frame.
        columns: The other columns of the log by name, ``(replicas, frames)``.
        numbers: Atomic numbers.
        velocities: Å/fs of the last frames (of all, unless there are very many),
            ``(replicas, frames, atoms, 3)``; empty where frames are not at equal intervals.
        interval: Time between these frames in fs.
        ensemble: Name of the ensemble.
        timestep: fs.
        steps: Number of steps.
        quantum: Of a path integral, whose replicas are beads, the estimators of each frame by name.
    """

    folder: Path
    times: Float[np.ndarray, " frames"]
    columns: dict[str, Float[np.ndarray, "replicas frames"]]
    numbers: Int[np.ndarray, " atoms"]
    velocities: Float[np.ndarray, "replicas velocity_frames atoms 3"]
    interval: float
    ensemble: str
    timestep: float
    steps: int
    quantum: dict[str, Float[np.ndarray, " frames"]] | None = None

    @property
    def replicas(self) -> int:
        """Number of runs side by side."""
        return len(self.velocities)

    @property
    def degrees_of_freedom(self) -> int:
        """What temperatures are divided by, as the log tells."""
        kinetic, kelvin = self.columns["kinetic_energy_eV"], self.columns["temperature_K"]
        moving = kelvin > 0
        if not moving.any():
            return 3 * len(self.numbers)
        return round(float(np.mean(2 * kinetic[moving] / (units.BOLTZMANN * kelvin[moving]))))


def read_run(folder: str | os.PathLike) -> Recorded:
    """Read the folder of a run, of one or several replicas, in either format.

    Raises:
        FileNotFoundError: If a file of the run is missing.
        ValueError: If a file cannot be read; the message names it.
    """
    folder = Path(folder)
    restart = read_restart(folder / "restart.npz")
    logs = sorted(folder.glob("log-*.csv")) or [folder / "log.csv"]
    tables = [read_log(path) for path in logs]
    frames = min(len(table["step"]) for table in tables)
    if not frames:
        raise ValueError(f"{logs[0]}: the run has no frames")
    columns = {
        name: np.stack([table[name][:frames] for table in tables])
        for name in tables[0]
        if name not in ("step", "time_fs")
    }
    numbers, times, velocities = _velocities(folder, len(logs))
    keep, interval = _uniform(times)
    estimators = folder / QUANTUM_LOG
    return Recorded(
        folder,
        tables[0]["time_fs"][:frames],
        columns,
        numbers,
        velocities[:, keep],
        interval,
        restart.ensemble,
        restart.timestep,
        restart.step,
        read_log(estimators) if estimators.exists() else None,
    )


def _velocities(folder: Path, replicas: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Atomic numbers, times and velocities of the last frames."""
    if (folder / "trajectory.h5").exists():
        found = read_hdf5(folder / "trajectory.h5")
        velocities = np.asarray(found["velocities"])
        velocities = velocities[:, None] if velocities.ndim == 3 else velocities
        last = max(2, _LINES // (velocities.shape[1] * velocities.shape[2]))
        return (
            np.asarray(found["numbers"]),
            found["times"][-last:],
            np.swapaxes(velocities[-last:], 0, 1),
        )
    paths = sorted(folder.glob("trajectory-*.xyz")) or [folder / "trajectory.xyz"]
    parts = [_tail(path, _LINES // replicas) for path in paths]
    frames = min(len(times) for _, times, _ in parts)
    numbers, times, _ = parts[0]
    return numbers, times[-frames:], np.stack([found[-frames:] for *_, found in parts])


def _tail(path: Path, lines: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Atomic numbers, times and velocities of the last frames of a file that a writer made."""
    with open(path, "rb") as file:
        head = file.readline()
        atoms = int(head) if head.strip().isdigit() else 0
        body = file.readline() + b"".join(file.readline() for _ in range(atoms))
        length = len(head) + len(body) + 40  # headers grow with the digits of time and energy
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - max(2, lines // max(atoms, 1)) * length))
        rows = file.read().decode(errors="replace").splitlines()
    begins = (
        i for i in range(len(rows) - 1) if rows[i] == str(atoms) and "Properties=" in rows[i + 1]
    )
    start = next(begins, None)
    if not atoms or start is None:
        raise ValueError(f"{path} is not the trajectory of a run")
    count = (len(rows) - start) // (atoms + 2)
    try:
        frames = [rows[start + k * (atoms + 2) :][: atoms + 2] for k in range(count)]
        times = np.array([float(_TIME.search(frame[1]).group(1)) for frame in frames])  # type: ignore[union-attr]
        cells = [[line.split() for line in frame[2:]] for frame in frames]
        names = [row[0] for row in cells[0]]
        momenta = np.array([[row[4:7] for row in frame] for frame in cells], np.float64)
    except (ValueError, IndexError, AttributeError) as error:
        raise ValueError(f"{path} is not the trajectory of a run: {error}") from error
    numbers = elements.atomic_numbers(names)
    return numbers, times, momenta / (units.masses(numbers)[:, None] * units.TIME)


_TIME = re.compile(r"time_fs=(\S+)")


def _uniform(times: np.ndarray) -> tuple[Any, float]:
    """The longest end of a series at equal intervals, but for an odd last frame; the interval."""
    if len(times) < 3:
        return slice(0, 0), 0.0
    gaps = np.diff(times)
    stop = len(times)
    if not np.isclose(gaps[-1], gaps[-2]):
        gaps, stop = gaps[:-1], stop - 1
    other = np.flatnonzero(~np.isclose(gaps, gaps[-1]))
    return slice(other[-1] + 1 if len(other) else 0, stop), float(gaps[-1])
