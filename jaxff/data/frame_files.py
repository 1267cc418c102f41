"""Files of frames, by their suffix."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxff.data import npz
from jaxff.data.ase_db import open_ase_db
from jaxff.data.extxyz_frames import open_extxyz
from jaxff.data.frames import DatasetFrames, Source
from jaxff.data.hdf5 import open_hdf5

__all__ = ["read_frames", "reader_of"]


@functools.wraps(npz.read)  # with its signature
def _open_npz(path: str | os.PathLike, **options: Any) -> DatasetFrames:
    return DatasetFrames(npz.read(path, **options))


_READERS: dict[str, Callable[..., Source]] = {
    ".npz": _open_npz,
    ".xyz": open_extxyz,
    ".extxyz": open_extxyz,
    ".db": open_ase_db,
    ".json": open_ase_db,
    ".h5": open_hdf5,
    ".hdf5": open_hdf5,
}


def read_frames(path: str | os.PathLike, **options: Any) -> Source:
    """Open a file of frames; its suffix says how.

    ``.npz`` (:func:`jaxff.data.npz.read`), ``.xyz`` and ``.extxyz``
    (:func:`jaxff.data.extxyz_frames.open_extxyz`), ``.db`` and ``.json``
    (:func:`jaxff.data.ase_db.open_ase_db`), ``.h5`` and ``.hdf5``
    (:func:`jaxff.data.hdf5.open_hdf5`). All but the first read a frame when it is asked for.

    Args:
        path: The file.
        options: Keys of the labels, units and more, for the reader of the format.

    Raises:
        ValueError: For an unknown suffix, and as the readers.
        FileNotFoundError: If there is no such file.
    """
    return reader_of(path)(path, **options)


def reader_of(path: str | os.PathLike) -> Callable[..., Source]:
    """What opens a file, by its suffix.

    Raises:
        ValueError: For an unknown suffix.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _READERS:
        raise ValueError(
            f"{path}: no reader for {suffix or 'a file without suffix'!r}; known: "
            f"{', '.join(_READERS)}"
        )
    return _READERS[suffix]
