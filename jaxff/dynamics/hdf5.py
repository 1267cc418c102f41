"""Trajectories as HDF5: one chunked, extendable array per quantity.

The file is written in HDF5's single-writer mode, which orders its writes so that the file can be
read at any moment, also after the writing process was killed. Arrays have the frame as their first
axis, then the replica where there are several. Units are eV, Å, fs, K and are also stored as an
attribute of each array.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np

from jaxff.dynamics.trajectory import Trajectory
from jaxff.types import Float

__all__ = ["HDF5File", "read_hdf5"]

_UNITS = {
    "positions": "Å",
    "velocities": "Å/fs",
    "forces": "eV/Å",
    "potential_energy": "eV",
    "kinetic_energy": "eV",
    "temperature": "K",
    "half_step_kinetic_energy": "eV",
    "conserved_energy": "eV",
    "shadow_energy": "eV",
    "pressure": "eV/Å³",
    "cell": "Å",
    "times": "fs",
    "steps": "1",  # last: its length says how many frames are complete
}
_FIXED = ("numbers", "masses", "pbc")


class HDF5File:
    """Appends chunks to a file.

    Args:
        path: File to make, or to continue.
        frames: Number of frames to keep of an existing file; ``None`` makes a new one with the
            first chunk.

    Raises:
        ModuleNotFoundError: If h5py is not installed.
    """

    def __init__(self, path: Path, frames: int | None):
        _h5py()
        self.path, self._file, self._frames = path, None, frames or 0
        if frames is not None:
            self._continue()

    def append(self, chunk: Trajectory, *, forces: bool) -> int:
        """Write frames and flush them; returns the number of frames in the file."""
        values = _columns(chunk, forces)
        if self._file is None:
            self._create(chunk, values)
        assert self._file is not None
        stop = self._frames + len(chunk)
        for name, value in values.items():
            data = self._file[name]
            data.resize(stop, axis=0)
            data[self._frames :] = value
            data.flush()
        self._frames = stop
        return stop

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _create(self, chunk: Trajectory, values: dict[str, np.ndarray]) -> None:
        file = _h5py().File(self.path, "w-", libver="latest")
        for name in _FIXED:
            if getattr(chunk, name) is not None:
                file[name] = np.asarray(getattr(chunk, name))
        file.attrs["degrees_of_freedom"] = chunk.degrees_of_freedom
        file.attrs["ensemble"] = chunk.restart.ensemble
        file.attrs["timestep_fs"] = chunk.restart.timestep
        if chunk.cell is not None and "cell" not in values:
            file.attrs["cell"] = chunk.cell
        for name, value in values.items():
            _dataset(file, name, value.shape[1:], value.dtype)
        file.flush()
        file.swmr_mode = True
        self._file = file

    def _continue(self) -> None:
        """Open for appending, without the frames after the restart file.

        A file whose writer was killed still counts as open for HDF5: its frames go to a new one.
        """
        h5py = _h5py()
        temporary = self.path.with_suffix(".tmp")
        with h5py.File(self.path, "r", libver="latest", swmr=True, locking=False) as old:
            if (found := len(old["steps"])) < self._frames:
                raise ValueError(
                    f"{self.path} has {found} frames, its restart file counts {self._frames}: "
                    "restore the file, or start in another folder from the positions and "
                    "velocities of the restart"
                )
        with (
            h5py.File(self.path, "r", libver="latest", swmr=True, locking=False) as old,
            h5py.File(temporary, "w", libver="latest") as new,
        ):
            new.attrs.update(dict(old.attrs))
            for name in _FIXED:
                if name in old:
                    new[name] = old[name][()]
            for name in _UNITS:
                if name in old:
                    source = old[name]
                    target = _dataset(new, name, source.shape[1:], source.dtype)
                    target.resize(self._frames, axis=0)
                    for at in range(0, self._frames, 1000):
                        stop = min(at + 1000, self._frames)
                        target[at:stop] = source[at:stop]
        os.replace(temporary, self.path)
        self._file = h5py.File(self.path, "r+", libver="latest")
        self._file.swmr_mode = True


def read_hdf5(path: str | os.PathLike) -> dict[str, Any]:
    """Arrays of a trajectory by name, also of one that is being written or whose run was killed.

    Frames come first, then replicas where there are several. Only frames that are complete are
    returned.

    Raises:
        ValueError: If the file is no such trajectory; the message names it.
    """
    h5py = _h5py()
    try:
        with h5py.File(path, "r", libver="latest", swmr=True, locking=False) as file:
            if "steps" not in file:
                raise ValueError("it has no steps")
            count = len(file["steps"])
            result: dict[str, Any] = {n: file[n][:count] for n in _UNITS if n in file}
            result.update({n: file[n][()] for n in _FIXED if n in file})
            result.update({n: v for n, v in file.attrs.items() if n not in result})
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path} is not a trajectory in HDF5: {error}") from error
    return result


def _columns(chunk: Trajectory, forces: bool) -> dict[str, Float[np.ndarray, "frames ..."]]:
    """Arrays with the frame as their first axis."""
    values: dict[str, np.ndarray] = {}
    for name in _UNITS:
        value = getattr(chunk, name)
        if value is None or (name == "forces" and not forces):
            continue
        replicated = chunk.replicas is not None and name not in ("steps", "times")
        if name == "cell" and value.ndim != 3 + replicated:
            continue
        values[name] = np.swapaxes(value, 0, 1) if replicated else value
    return values


def _dataset(file: Any, name: str, shape: tuple[int, ...], dtype: Any) -> Any:
    frame = max(1, int(np.prod(shape))) * np.dtype(dtype).itemsize
    rows = int(np.clip(2**18 // frame, 1, 4096))
    data = file.create_dataset(
        name, (0, *shape), dtype, maxshape=(None, *shape), chunks=(rows, *shape)
    )
    data.attrs["unit"] = _UNITS[name]
    return data


def _h5py() -> Any:
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("HDF5 trajectories need h5py: pip install h5py") from error
    return h5py
