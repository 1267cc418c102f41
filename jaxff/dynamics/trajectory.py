"""Trajectories in memory and on disk.

A folder holds ``trajectory.xyz`` (extended XYZ as ASE reads it), ``log.csv`` (energies and
temperature of every frame) and ``restart.npz`` (the exact state; no pickle). All three grow chunk
by chunk: what a killed run leaves is whole up to its last chunk.
"""

import os
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt32

from jaxff import elements, units
from jaxff.types import Float, Int

__all__ = ["Restart", "Trajectory", "Writer", "format_extxyz", "read_restart"]

LOG_COLUMNS = [
    "step",
    "time_fs",
    "potential_energy_eV",
    "kinetic_energy_eV",
    "total_energy_eV",
    "temperature_K",
]


@dataclass(frozen=True)
class Restart:
    """The exact state of a run: continuing from it gives the same numbers as not stopping.

    Attributes:
        step: Steps done.
        positions: Positions in Å.
        velocities: Velocities in Å/fs.
        key: Random key data.
        ensemble: Name of the ensemble.
        timestep: Time step in fs.
        leaves: Arrays of the integrator's state.
    """

    step: int
    positions: Float[np.ndarray, "atoms 3"]
    velocities: Float[np.ndarray, "atoms 3"]
    key: UInt32[np.ndarray, " words"]
    ensemble: str
    timestep: float
    leaves: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Trajectory:
    """Frames of a run, on the host, and the state at its end.

    Attributes:
        steps: Step of each frame.
        times: Time in fs.
        positions: Positions in Å, not wrapped into the cell.
        velocities: Velocities in Å/fs.
        forces: Forces in eV/Å.
        potential_energy: Potential energy in eV.
        kinetic_energy: Kinetic energy in eV.
        temperature: Kinetic temperature in K, of ``degrees_of_freedom``.
        numbers: Atomic numbers.
        masses: Masses in amu.
        cell: Lattice vectors as rows in Å, or ``None``.
        pbc: Periodic directions, or ``None``.
        degrees_of_freedom: What the temperature is divided by.
        restart: State after the last step.
    """

    steps: Int[np.ndarray, " frames"]
    times: Float[np.ndarray, " frames"]
    positions: Float[np.ndarray, "frames atoms 3"]
    velocities: Float[np.ndarray, "frames atoms 3"]
    forces: Float[np.ndarray, "frames atoms 3"]
    potential_energy: Float[np.ndarray, " frames"]
    kinetic_energy: Float[np.ndarray, " frames"]
    temperature: Float[np.ndarray, " frames"]
    numbers: Int[np.ndarray, " atoms"]
    masses: Float[np.ndarray, " atoms"]
    cell: Any
    pbc: Any
    degrees_of_freedom: int
    restart: Restart

    @property
    def total_energy(self) -> Float[np.ndarray, " frames"]:
        """Potential and kinetic energy together in eV, which a run at constant energy conserves."""
        return self.potential_energy + self.kinetic_energy

    def __len__(self) -> int:
        return len(self.steps)


_PER_FRAME = (
    "steps",
    "times",
    "positions",
    "velocities",
    "forces",
    "potential_energy",
    "kinetic_energy",
    "temperature",
)


def join(parts: list[Trajectory]) -> Trajectory:
    """One trajectory from consecutive pieces; everything but the frames is the last piece's."""
    last = {f.name: getattr(parts[-1], f.name) for f in fields(Trajectory)}
    frames = {n: np.concatenate([getattr(p, n) for p in parts]) for n in _PER_FRAME}
    return Trajectory(**{**last, **frames})


class Writer:
    """Stream a run into a folder: pass it as ``run(..., writer=...)`` and close it afterwards.

    Args:
        folder: Created if absent.
        forces: Whether frames carry forces.
        resume: Continue the files of an interrupted run; frames after its restart file are cut off.
            Otherwise files of an earlier run are an error, never overwritten.

    Raises:
        FileExistsError: If the folder holds a trajectory and ``resume`` is False.
        FileNotFoundError: If there is nothing to resume.
    """

    def __init__(self, folder: str | os.PathLike, *, forces: bool = False, resume: bool = False):
        self.folder = Path(folder)
        self.forces = forces
        self.folder.mkdir(parents=True, exist_ok=True)
        paths = [self.folder / "trajectory.xyz", self.folder / "log.csv"]
        if resume:
            _, sizes = _load(self.folder / "restart.npz")
            for path, size in zip(paths, sizes, strict=True):
                os.truncate(path, size)
        elif present := [str(p) for p in paths if p.exists()]:
            raise FileExistsError(
                f"{', '.join(present)} exists: choose another folder, or continue it with resume"
            )
        # Unbuffered: each chunk is one write, and nothing lingers in this process.
        self._frames, self._log = (open(p, "ab", buffering=0) for p in paths)  # noqa: SIM115
        if not resume:
            self._log.write((",".join(LOG_COLUMNS) + "\n").encode())

    def __call__(self, chunk: Trajectory) -> None:
        """Append frames, then replace the restart file, which so never runs ahead of them."""
        frames = (format_extxyz(chunk, i, forces=self.forces) for i in range(len(chunk)))
        self._frames.write("".join(frames).encode())
        self._log.write("".join(_log_lines(chunk)).encode())
        sizes = np.array([self._frames.tell(), self._log.tell()])
        _write_restart(self.folder / "restart.npz", chunk.restart, sizes)

    def close(self) -> None:
        """Close the files."""
        self._frames.close()
        self._log.close()

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _log_lines(chunk: Trajectory):
    columns = (
        chunk.steps,
        chunk.times,
        chunk.potential_energy,
        chunk.kinetic_energy,
        chunk.total_energy,
        chunk.temperature,
    )
    # repr of a Python float is the shortest text that reads back to the same number.
    for row in zip(*(column.tolist() for column in columns), strict=True):
        yield ",".join(map(repr, row)) + "\n"


def format_extxyz(trajectory: Trajectory, index: int, *, forces: bool = False) -> str:
    """One frame as extended XYZ.

    ``ase.io.read`` gives back positions, momenta, energy, forces, cell and, in ``info``, the time.
    Momenta are in ASE's unit, amu times sqrt(eV/amu), so that ``atoms.get_velocities()`` is right.
    Times are in fs.
    """
    columns = [
        trajectory.positions[index],
        trajectory.masses[:, None] * trajectory.velocities[index] * units.TIME,
    ]
    properties = "species:S:1:pos:R:3:momenta:R:3"
    if forces:
        columns.append(trajectory.forces[index])
        properties += ":forces:R:3"
    values = np.concatenate(columns, axis=1)
    header = [f"Properties={properties}"]
    if trajectory.cell is not None:
        lattice = " ".join(repr(x) for x in np.asarray(trajectory.cell).ravel().tolist())
        header.insert(0, f'Lattice="{lattice}"')
    pbc = np.zeros(3, bool) if trajectory.pbc is None else np.asarray(trajectory.pbc)
    header += [
        f"energy={float(trajectory.potential_energy[index])!r}",
        f"step={int(trajectory.steps[index])}",
        f"time_fs={float(trajectory.times[index])!r}",
        f"temperature_K={float(trajectory.temperature[index])!r}",
        f'pbc="{" ".join("T" if p else "F" for p in pbc)}"',
    ]
    line = "%-2s" + " %16.8f" * values.shape[1] + "\n"
    symbols = elements.symbols(trajectory.numbers)
    rows = [line % (s, *row) for s, row in zip(symbols, values.tolist(), strict=True)]
    return "".join([f"{len(symbols)}\n", " ".join(header), "\n", *rows])


def _write_restart(path: Path, restart: Restart, sizes: np.ndarray) -> None:
    """Write beside and rename: readers see the old file or the new one, never a half."""
    temporary = path.with_suffix(".tmp")
    with open(temporary, "wb") as file:
        np.savez(
            file,
            step=restart.step,
            positions=restart.positions,
            velocities=restart.velocities,
            key=restart.key,
            ensemble=restart.ensemble,
            timestep=restart.timestep,
            sizes=sizes,
            allow_pickle=False,
            **{f"state_{i:02d}": leaf for i, leaf in enumerate(restart.leaves)},
        )
    os.replace(temporary, path)


def read_restart(path: str | os.PathLike) -> Restart:
    """Read ``restart.npz`` of a run, for ``run(..., restart=...)``.

    Raises:
        ValueError: If the file is no restart file; the message names it.
    """
    return _load(path)[0]


def _load(path: str | os.PathLike) -> tuple[Restart, list[int]]:
    """The state, and the sizes that the other files of the folder had."""
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            leaves = tuple(file[n] for n in sorted(file.files) if n.startswith("state_"))
            restart = Restart(
                int(file["step"]),
                file["positions"],
                file["velocities"],
                file["key"],
                str(file["ensemble"]),
                float(file["timestep"]),
                leaves,
            )
            return restart, file["sizes"].tolist()
    except FileNotFoundError:
        raise
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is not a restart file of a run: {error}") from error
