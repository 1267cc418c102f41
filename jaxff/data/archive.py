"""``.npz`` archives read defensively and written atomically."""

from __future__ import annotations

import math
import os
import struct
import tokenize
import uuid
import warnings
import zipfile
import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from jaxff.data.npz_safety import read_objects

_DAMAGE = (
    ValueError,
    TypeError,
    KeyError,
    EOFError,
    OSError,
    OverflowError,
    RuntimeError,
    SyntaxError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
_MAX_OBJECT_BYTES = 2**26
_MIN_LIMIT = 2**30


@dataclass(frozen=True)
class Member:
    """Header of one array of an archive."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def has_objects(self) -> bool:
        """Whether the array holds pickled Python objects."""
        return self.dtype.hasobject


def members(path: str | os.PathLike, *, max_bytes: int | None = None) -> dict[str, Member]:
    """Names, shapes and types of the arrays in an archive, from the headers alone.

    Args:
        path: An ``.npz`` file.
        max_bytes: Refuse archives that unpack to more; by default 100 times the size of the file,
            at least 1 GiB.

    Raises:
        ValueError: If the file is no intact archive of arrays; the message names file and member.
        FileNotFoundError: If there is no such file.
    """
    with _opened(path, max_bytes) as archive:
        return {name: _header(path, archive, name)[0] for name in _names(path, archive)}


def read_archive(
    path: str | os.PathLike,
    *,
    only: Collection[str] | None = None,
    objects: str = "plain",
    max_bytes: int | None = None,
) -> dict[str, np.ndarray]:
    """Arrays of an ``.npz`` archive; nothing in it is unpickled.

    Args:
        path: An ``.npz`` file.
        only: Names of the arrays to read; default all.
        objects: What to do with pickled object arrays: ``"plain"`` reads those that hold plain
            data (:func:`jaxff.data.npz_safety.read_objects`) and refuses others, ``"skip"`` leaves
            them out.
        max_bytes: As for :func:`members`.

    Raises:
        ValueError: If the file is damaged, is no archive, is much larger than it looks, or holds
            objects that are not plain data; the message names file and member.
        FileNotFoundError: If there is no such file.
    """
    if objects not in ("plain", "skip"):
        raise ValueError(f"objects must be 'plain' or 'skip', got {objects!r}")
    arrays = {}
    with _opened(path, max_bytes) as archive:
        for name in _names(path, archive):
            if only is not None and name not in only:
                continue
            member, _ = _header(path, archive, name)
            if not (member.has_objects and objects == "skip"):
                arrays[name] = _read(path, archive, name, member)
    return arrays


def _opened(path: str | os.PathLike, max_bytes: int | None) -> zipfile.ZipFile:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    size = path.stat().st_size
    try:
        archive = zipfile.ZipFile(path)
    except _DAMAGE as error:
        raise ValueError(
            f"{path}: not an .npz archive, or cut off ({size} bytes; {error})"
        ) from error
    limit = max(_MIN_LIMIT, 100 * size) if max_bytes is None else max_bytes
    total = sum(info.file_size for info in archive.infolist())
    if total > limit:
        archive.close()
        raise ValueError(
            f"{path}: {size} bytes would unpack to {total}, more than the limit of {limit}; pass "
            "max_bytes if the file is trusted"
        )
    return archive


def _names(path: str | os.PathLike, archive: zipfile.ZipFile) -> list[str]:
    """Array names; every member must be a ``.npy`` file and occur once."""
    names = []
    for info in archive.infolist():
        if not info.filename.endswith(".npy"):
            raise ValueError(f"{path}: member {info.filename!r} is not an array (.npy)")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{path}: member {info.filename!r} has an unusual compression")
        names.append(info.filename.removesuffix(".npy"))
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{path}: members occur twice: {', '.join(twice)}")
    return names


def _header(path: str | os.PathLike, archive: zipfile.ZipFile, name: str) -> tuple[Member, int]:
    """Shape and type of a member and the offset of its data; they must add up to its size."""
    info = archive.getinfo(f"{name}.npy")
    try:
        with archive.open(info) as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # headers written by Python 2 are read all the same
            version = npy.read_magic(stream)
            if version == (1, 0):
                shape, _, dtype = npy.read_array_header_1_0(stream)
            elif version == (2, 0):
                shape, _, dtype = npy.read_array_header_2_0(stream)
            else:
                raise ValueError(f"array format {version}")
            offset = stream.tell()
    except _DAMAGE as error:
        raise ValueError(f"{path}: {name!r} has no readable header ({error})") from error
    if dtype.hasobject and dtype != np.dtype(object):
        raise ValueError(f"{path}: {name!r} mixes objects into records ({dtype})")
    expected = offset + math.prod(shape) * dtype.itemsize
    if any(n < 0 for n in shape) or (not dtype.hasobject and expected != info.file_size):
        raise ValueError(
            f"{path}: {name!r} announces shape {shape} of {dtype}, {expected} bytes, but has "
            f"{info.file_size}"
        )
    return Member(tuple(shape), dtype), offset


def _read(
    path: str | os.PathLike, archive: zipfile.ZipFile, name: str, member: Member
) -> np.ndarray:
    info = archive.getinfo(f"{name}.npy")
    try:
        if not member.has_objects:
            with archive.open(info) as stream, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return npy.read_array(stream, allow_pickle=False)
        if info.file_size > _MAX_OBJECT_BYTES:
            raise ValueError(f"{info.file_size} bytes of objects")
        _, offset = _header(path, archive, name)
        array = read_objects(archive.read(info)[offset:])
        if array.shape != member.shape:
            raise ValueError(f"shape {array.shape}, header says {member.shape}")
    except _DAMAGE as error:
        kind = "pickled objects, refused" if member.has_objects else "array is damaged"
        raise ValueError(f"{path}: {name!r}: {kind}: {error}") from error
    return array


def write_atomic(path: str | os.PathLike, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file in full or not at all: a temporary neighbour takes the name at the end.

    Args:
        path: The file to make or replace.
        write: Called with the open binary file.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_archive(path: str | os.PathLike, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a compressed ``.npz`` atomically; the same arrays give the same bytes.

    Raises:
        ValueError: If an array holds Python objects.
    """

    def write(stream: IO[bytes]) -> None:
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, array in arrays.items():
                info = zipfile.ZipInfo(f"{name}.npy")  # dated 1980: no trace of the clock
                info.compress_type = zipfile.ZIP_DEFLATED
                with archive.open(info, "w", force_zip64=True) as member:
                    npy.write_array(member, np.asanyarray(array), allow_pickle=False)

    write_atomic(path, write)
