"""A file of frames of any size: written in one pass, read one frame at a time.

The atoms of all frames stand one after another in ``numbers`` and ``positions``; ``offsets`` says
where each frame begins. ``labels`` has one array per label: rows of atoms like positions, or one
row per frame, or (Hessians) as many numbers as a frame's shape has, of the frames that have it.
``present`` says which frames have a label. ``cell``, ``pbc``, ``charge``, ``spin`` and ``group``
have one row per frame; charge and spin are not a number where they are not known. Units are eV, Å,
e and stand in the attribute ``units`` of each array.
"""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxff.data.frame import Frame, checked
from jaxff.data.frames import Source, as_frames, where
from jaxff.quantities import quantity

__all__ = ["FORMAT", "FlatHDF5", "h5py", "write_hdf5"]

FORMAT = "jaxff frames 1"
_BLOCK = 512  # frames written together
_CHUNK_BYTES = 2**15  # read together: some frames of molecules
_DAMAGE = (OSError, KeyError, RuntimeError, ValueError, TypeError, IndexError)
_FIELDS = ("cell", "pbc", "charge", "spin", "group")


def h5py() -> Any:
    """The package, which is an optional one."""
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("HDF5 needs h5py: pip install 'jaxff[hdf5]'") from error
    return h5py


class FlatHDF5(Source):
    """Frames of a flat file; opened by :func:`jaxff.data.read_frames`.

    Args:
        path: The file, for messages.
        file: The open ``h5py.File``.

    Raises:
        ValueError: If the file is not intact.
    """

    def __init__(self, path: str, file: Any):
        self.path = path
        try:
            self._offsets = file["offsets"][()]
            self._names = {
                name: _Stored(file, name, np.diff(self._offsets)) for name in file["labels"]
            }
            self._numbers, self._positions = file["numbers"], file["positions"]
            self._cell, self._pbc = file["cell"], file["pbc"][()].astype(bool)
            self._charge, self._spin = file["charge"][()], file["spin"][()]
            self._group = file["group"][()]
            atoms, last = len(self._positions), int(self._offsets[-1])
            frames = {len(file[name]) for name in _FIELDS}
        except _DAMAGE as error:
            raise ValueError(f"{path}: not intact ({error})") from error
        if last != atoms or frames != {len(self)} or np.any(np.diff(self._offsets) < 1):
            raise ValueError(
                f"{path}: not intact: {len(self)} frames of {last} atoms are announced, there are "
                f"{atoms} positions"
            )
        self.counts = {name: int(stored.present.sum()) for name, stored in self._names.items()}

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def where(self, index: int) -> str:
        """File and number of the frame."""
        return f"{self.path}: frame {index}"

    def kind(self, index: int) -> tuple[np.ndarray, str | None]:
        """Atomic numbers and group of frame ``index``."""
        own = slice(int(self._offsets[index]), int(self._offsets[index + 1]))
        return self._numbers[own].astype(np.int32), self._group[index].decode() or None

    def read(self, index: int) -> Frame:
        """Frame ``index``."""
        own = slice(int(self._offsets[index]), int(self._offsets[index + 1]))
        pbc = self._pbc[index] if self._pbc[index].any() else None
        try:
            numbers, positions = self._numbers[own], self._positions[own]
            cell = None if pbc is None else self._cell[index]
            labels = {
                name: stored.read(index, own)
                for name, stored in self._names.items()
                if stored.present[index]
            }
        except _DAMAGE as error:
            raise ValueError(f"{self.where(index)}: cannot be read ({error})") from error
        charge, spin = (
            None if np.isnan(row[index]) else float(row[index])
            for row in (self._charge, self._spin)
        )
        group = self._group[index].decode() or None
        return checked(
            Frame(numbers, positions, labels, cell, pbc, charge, spin, group), self.where(index)
        )


class _Stored:
    """One label of a flat file."""

    def __init__(self, file: Any, name: str, sizes: np.ndarray):
        self.entry, self.array = quantity(name), file["labels"][name]
        unit = self.array.attrs["units"]
        if unit != self.entry.unit:
            raise ValueError(f"{name} is in {unit!r}, expected {self.entry.unit!r}")
        self.present = file["present"][name][()].astype(bool)
        self.starts = None
        if _is_ragged(name):
            counts = [math.prod(self.entry.dims(int(size))) for size in sizes]
            self.starts = np.cumsum([0, *(self.present * counts)])

    def read(self, index: int, own: slice) -> np.ndarray:
        if self.starts is not None:
            rows = slice(int(self.starts[index]), int(self.starts[index + 1]))
            return self.array[rows].reshape(self.entry.dims(own.stop - own.start))
        return self.array[own] if self.entry.per_atom else self.array[index]


def _is_ragged(name: str) -> bool:
    """Whether rows of atoms differ in length from frame to frame."""
    return quantity(name).shape.count("atoms") > 1


def write_hdf5(path: str | os.PathLike, frames: Any) -> None:
    """Write frames of any source as one flat file, in full or not at all.

    Frames are read one after another, so that the source may be larger than memory.

    Args:
        path: The file to make or replace.
        frames: What :func:`jaxff.data.as_frames` accepts.

    Raises:
        ValueError: If there are no frames or one cannot be used.
        ModuleNotFoundError: If h5py is not installed.
    """
    frames, path = as_frames(frames), Path(path)
    if not len(frames):
        raise ValueError(f"{path}: there are no frames to write")
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with h5py().File(temporary, "w") as file:
            file.attrs["format"] = FORMAT
            for name in ("labels", "present"):
                file.create_group(name)
            _put(file, "offsets", 0, np.zeros(1, np.int64), "1")
            for start in range(0, len(frames), _BLOCK):
                stop = min(start + _BLOCK, len(frames))
                block = [checked(frames[i], where(frames, i)) for i in range(start, stop)]
                _append(file, block, start)
            _complete(file, len(frames))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _append(file: Any, block: Sequence[Frame], before: int) -> None:
    """Add frames to the open file, after the ``before`` that it has."""
    begin = int(file["offsets"][-1])
    ends = begin + np.cumsum([len(frame) for frame in block])
    rows = {
        "cell": (np.stack([np.zeros((3, 3)) if f.cell is None else f.cell for f in block]), "Å"),
        "pbc": (np.stack([np.zeros(3, bool) if f.pbc is None else f.pbc for f in block]), "1"),
        "charge": (np.array([np.nan if f.charge is None else f.charge for f in block]), "e"),
        "spin": (np.array([np.nan if f.spin is None else f.spin for f in block]), "1"),
        "group": (np.array([(f.group or "").encode() for f in block], object), "1"),
    }
    for name, (values, unit) in rows.items():
        _put(file, name, before, values, unit)
    _put(file, "numbers", begin, np.concatenate([f.numbers for f in block]).astype(np.uint8), "1")
    _put(file, "positions", begin, np.concatenate([f.positions for f in block]), "Å")
    for name in dict.fromkeys(name for frame in block for name in frame.labels):
        _append_label(file, name, block, before, begin)
    _put(file, "offsets", before + 1, ends, "1")


def _append_label(file: Any, name: str, block: Sequence[Frame], before: int, begin: int) -> None:
    entry, key = quantity(name), f"labels/{name}"
    present = np.array([name in frame.labels for frame in block])
    _put(file, f"present/{name}", before, present, "1")
    if _is_ragged(name):
        values = np.concatenate([np.ravel(f.labels[name]) for f in block if name in f.labels])
        _put(file, key, len(file[key]) if key in file else 0, values, entry.unit)
        return
    values = [
        f.labels[name] if name in f.labels else np.zeros(entry.dims(len(f.numbers))) for f in block
    ]
    if entry.per_atom:
        _put(file, key, begin, np.concatenate(values), entry.unit)
    else:
        _put(file, key, before, np.stack(values), entry.unit)


def _complete(file: Any, frames: int) -> None:
    """Bring arrays of labels that the last frames lack to full length."""
    for name, present in file["present"].items():
        present.resize(frames, axis=0)
        if not _is_ragged(name):
            rows = int(file["offsets"][-1]) if quantity(name).per_atom else frames
            file["labels"][name].resize(rows, axis=0)


def _put(file: Any, name: str, at: int, values: np.ndarray, unit: str) -> None:
    """Write rows from ``at`` on; a gap before them is filled with zeros."""
    if name not in file:
        dtype = h5py().string_dtype() if values.dtype == object else values.dtype
        shape = (0, *values.shape[1:])
        rows = max(1, _CHUNK_BYTES // (8 * math.prod(shape[1:])))
        most = (None, *shape[1:])
        data = file.create_dataset(name, shape, dtype, maxshape=most, chunks=(rows, *shape[1:]))
        data.attrs["units"] = unit
    data = file[name]
    data.resize(at + len(values), axis=0)
    data[at:] = values
