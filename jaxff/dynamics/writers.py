"""Trajectories on disk: extended XYZ or HDF5, a log, and the exact state.

A folder holds ``trajectory.xyz`` (as ASE reads it) or ``trajectory.h5``, ``log.csv`` (energies and
temperature of every frame) and ``restart.npz`` (the exact state; no pickle). All grow chunk by
chunk: what a killed run leaves is whole up to its last chunk. Replicas have files of their own,
``trajectory-000.xyz`` and ``log-000.csv``, or one HDF5 file, and one common restart file.
"""

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from jaxff import elements, units
from jaxff.dynamics.hdf5 import HDF5File
from jaxff.dynamics.trajectory import Restart, Trajectory
from jaxff.types import Float

__all__ = ["LOG_COLUMNS", "Writer", "format_extxyz", "read_log", "read_restart"]

LOG_COLUMNS = {
    "step": "steps",
    "time_fs": "times",
    "potential_energy_eV": "potential_energy",
    "kinetic_energy_eV": "kinetic_energy",
    "total_energy_eV": "total_energy",
    "temperature_K": "temperature",
    "half_step_temperature_K": "half_step_temperature",
    "conserved_energy_eV": "conserved_energy",
    "shadow_energy_eV": "shadow_energy",
    "volume_A3": "volume",
    "pressure_eV_A3": "pressure",
}
"""Columns of ``log.csv`` and where a trajectory has them; the last three only where they exist."""


class Writer:
    """Stream a run into a folder: pass it as ``run(..., writer=...)`` and close it afterwards.

    Args:
        folder: Created if absent.
        forces: Whether frames carry forces.
        resume: Continue the files of an interrupted run; frames after its restart file are cut off.
            Otherwise files of an earlier run are an error, never overwritten.
        format: ``"xyz"`` (extended XYZ, as ASE reads it) or ``"hdf5"`` (full precision, smaller;
            needs h5py, read with :func:`jaxff.dynamics.read_hdf5`).
        replicas: Number of replicas, or ``None`` for a single run.

    Raises:
        FileExistsError: If the folder holds a trajectory and ``resume`` is False.
        FileNotFoundError: If there is nothing to resume.
        ValueError: If the format is unknown.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        *,
        forces: bool = False,
        resume: bool = False,
        format: str = "xyz",
        replicas: int | None = None,
    ):
        if format not in ("xyz", "hdf5"):
            raise ValueError(f"format must be 'xyz' or 'hdf5', got {format!r}")
        self.folder, self.forces, self.replicas = Path(folder), forces, replicas
        self.folder.mkdir(parents=True, exist_ok=True)
        tags = [""] if replicas is None else [f"-{i:03d}" for i in range(replicas)]
        texts = [self.folder / f"log{tag}.csv" for tag in tags]
        if format == "xyz":
            texts += [self.folder / f"trajectory{tag}.xyz" for tag in tags]
        binary = self.folder / "trajectory.h5" if format == "hdf5" else None
        frames = 0
        if resume:
            _, sizes = _load(self.folder / "restart.npz")
            if len(sizes) != len(texts) + 1:
                raise ValueError(
                    f"{self.folder} holds a run of another format or number of replicas: "
                    "resume with the same"
                )
            *lengths, frames = sizes
            for path, size in zip(texts, lengths, strict=True):
                _cut(path, size)
        else:
            everything = [*texts, *([] if binary is None else [binary])]
            if present := [str(p) for p in everything if p.exists()]:
                raise FileExistsError(
                    f"{', '.join(present)} exists: choose another folder, or continue it with "
                    "resume"
                )
        self._paths, self._tags = texts, tags
        self._logs: list[Any] = []
        self._frames: list[Any] = []
        self._binary = None if binary is None else HDF5File(binary, frames if resume else None)
        self._columns: list[str] | None = None if not resume else _header(texts[0])

    def _open(self) -> None:
        """Open the text files with the first chunk: a run that is refused leaves none behind."""
        if not self._logs:
            # Unbuffered: each chunk is one write, and nothing lingers in this process.
            files = [open(p, "ab", buffering=0) for p in self._paths]  # noqa: SIM115
            self._logs, self._frames = files[: len(self._tags)], files[len(self._tags) :]

    def __call__(self, chunk: Trajectory) -> None:
        """Append frames, then replace the restart file, which so never runs ahead of them."""
        self._open()
        parts = [chunk]
        if self.replicas is not None:
            parts = [chunk.replica(i) for i in range(self.replicas)]
        if self._columns is None:
            self._columns = [n for n, f in LOG_COLUMNS.items() if getattr(chunk, f) is not None]
            for log in self._logs:
                _write(log, ",".join(self._columns) + "\n")
        for part, file in zip(parts, self._frames, strict=False):
            frames = (format_extxyz(part, i, forces=self.forces) for i in range(len(part)))
            _write(file, "".join(frames))
        count = 0
        if self._binary is not None:
            count = self._binary.append(chunk, forces=self.forces)
        for part, file in zip(parts, self._logs, strict=True):
            _write(file, "".join(_log_lines(part, self._columns)))
        texts = (*self._logs, *self._frames)
        for file in texts:
            os.fsync(file.fileno())  # before the restart file that vouches for it
        sizes = [file.tell() for file in texts]
        _write_restart(self.folder / "restart.npz", chunk.restart, np.array([*sizes, count]))

    def close(self) -> None:
        """Close the files."""
        for file in (*self._logs, *self._frames):
            file.close()
        if self._binary is not None:
            self._binary.close()

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _write(file: Any, text: str) -> None:
    """All of a text: the system may take less than it is given, and says so only by a number.

    Raises:
        OSError: If it takes no more; the message names the file. What is on disk is whole up to the
            restart file, which is not touched then.
    """
    left = memoryview(text.encode())
    while left:
        try:
            left = left[file.write(left) :]
        except OSError as error:
            raise OSError(
                f"{file.name} cannot be written ({error.strerror}): make room and continue the run "
                "from its restart file"
            ) from error


def _cut(path: Path, size: int) -> None:
    """Cut off what a killed run wrote after its restart file.

    Raises:
        ValueError: If the file is shorter than the restart file says.
    """
    found = path.stat().st_size
    if found < size:
        raise ValueError(
            f"{path} has {found} bytes, its restart file counts {size}: frames are lost; restore "
            "the file, or start in another folder from the positions and velocities of the restart"
        )
    os.truncate(path, size)


def _header(path: Path) -> list[str] | None:
    """Columns of a log that is continued; a run that was killed at once has none yet."""
    with open(path) as file:
        line = file.readline().strip()
    return line.split(",") if line else None


def _log_lines(chunk: Trajectory, names: list[str]):
    columns = [np.asarray(getattr(chunk, LOG_COLUMNS[name])) for name in names]
    columns = [np.broadcast_to(column, len(chunk)) for column in columns]  # a fixed volume
    # repr of a Python float is the shortest text that reads back to the same number.
    for row in zip(*(column.tolist() for column in columns), strict=True):
        yield ",".join(map(repr, row)) + "\n"


def read_log(path: str | os.PathLike) -> dict[str, Float[np.ndarray, " frames"]]:
    """Columns of a ``log.csv`` by name.

    Raises:
        ValueError: If the file is no such table; the message names it.
    """
    with open(path) as file:
        names = file.readline().strip().split(",")
    try:
        rows = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)
        return dict(zip(names, rows.reshape(-1, len(names)).T, strict=True))
    except ValueError as error:
        raise ValueError(f"{path} is not the log of a run: {error}") from error


def format_extxyz(trajectory: Trajectory, index: int, *, forces: bool = False) -> str:
    """One frame of a single run as extended XYZ.

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
    cell = trajectory.frame_cell(index)
    if cell is not None:
        lattice = " ".join(repr(x) for x in np.asarray(cell).ravel().tolist())
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


_OPTIONAL = ("cell", "list_positions", "list_strain")


def _write_restart(path: Path, restart: Restart, sizes: np.ndarray) -> None:
    """Write beside and rename: readers see the old file or the new one, never a half."""
    temporary = path.with_suffix(".tmp")
    present = {n: getattr(restart, n) for n in _OPTIONAL if getattr(restart, n) is not None}
    with open(temporary, "wb") as file:
        np.savez(
            file,
            step=restart.step,
            numbers=restart.numbers,
            positions=restart.positions,
            velocities=restart.velocities,
            key=restart.key,
            ensemble=restart.ensemble,
            timestep=restart.timestep,
            plan=restart.plan,
            sizes=sizes,
            allow_pickle=False,
            **present,
            **{f"state_{i:02d}": leaf for i, leaf in enumerate(restart.leaves)},
        )
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def read_restart(path: str | os.PathLike) -> Restart:
    """Read ``restart.npz`` of a run, for ``run(..., restart=...)``.

    Raises:
        ValueError: If the file is no restart file; the message names it.
    """
    return _load(path)[0]


def _load(path: str | os.PathLike) -> tuple[Restart, list[int]]:
    """The state, the sizes that the text files of the folder had, and the frames of the other."""
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            leaves = tuple(file[n] for n in sorted(file.files) if n.startswith("state_"))
            present: dict[str, Any] = {n: file[n] for n in _OPTIONAL if n in file.files}
            restart = Restart(
                int(file["step"]),
                file["numbers"],
                file["positions"],
                file["velocities"],
                file["key"],
                str(file["ensemble"]),
                float(file["timestep"]),
                leaves,
                plan=str(file["plan"]),
                **present,
            )
            return restart, file["sizes"].tolist()
    except FileNotFoundError:
        raise
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is not a restart file of a run: {error}") from error
