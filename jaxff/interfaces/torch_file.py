"""What PyTorch's ``torch.save`` wrote, without PyTorch.

Since version 1.6 such a file is a ZIP archive: a pickle, in which arrays stand by the name of their
storage, and one member per storage. The pickle is read with the names that tensors and
dictionaries need and with no others, as Python's documentation of :mod:`pickle` advises.
"""

import os
import pickle
import zipfile
from collections import OrderedDict
from typing import Any

import numpy as np

__all__ = ["read_tensors"]

_STORAGES = {
    "DoubleStorage": np.dtype("<f8"), "FloatStorage": np.dtype("<f4"),
    "LongStorage": np.dtype("<i8"), "IntStorage": np.dtype("<i4"), "BoolStorage": np.dtype("?"),
}  # fmt: skip


def read_tensors(path: str | os.PathLike) -> Any:
    """The object in a file of ``torch.save``, with arrays in the place of tensors.

    Args:
        path: A file with tensors of ``float64``, ``float32``, ``int64``, ``int32`` or ``bool`` in
            dictionaries, lists and tuples, beside plain values. All else is refused.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is of another format, damaged, or holds other objects.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            name = next((n for n in archive.namelist() if n.endswith("/data.pkl")), None)
            if name is None:
                raise ValueError("it has no member data.pkl")
            folder = name.removesuffix("data.pkl")
            if f"{folder}byteorder" in archive.namelist():
                order = archive.read(f"{folder}byteorder")
                if order != b"little":
                    raise ValueError(f"its byte order is {order.decode(errors='replace')}")
            with archive.open(name) as stream:
                return _Reader(stream, archive, folder).load()
    except FileNotFoundError:
        raise
    except Exception as error:  # damaged pickles raise almost anything
        raise ValueError(
            f"{os.fspath(path)}: expected a file of torch.save (version 1.6 or later) with nothing "
            f"but tensors and plain values: {error or type(error).__name__}"
        ) from error


class _Reader(pickle.Unpickler):
    def __init__(self, stream: Any, archive: zipfile.ZipFile, folder: str):
        super().__init__(stream)
        self.archive, self.folder = archive, folder

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        raise ValueError(f"it refers to {module}.{name}")

    def persistent_load(self, pid: Any) -> np.ndarray:
        _, dtype, key, _, count = pid
        content = np.frombuffer(self.archive.read(f"{self.folder}data/{key}"), dtype)
        if len(content) != count:
            raise ValueError(f"storage {key} has {len(content)} numbers, expected {count}")
        return content


def _tensor(storage: np.ndarray, offset: int, shape: tuple, strides: tuple, *_: Any) -> np.ndarray:
    """An array of its own; steps are in numbers, and must stay within the storage."""
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if min((*shape, *strides, offset), default=0) < 0 or (0 not in shape and last >= len(storage)):
        raise ValueError("a tensor reaches beyond its storage")
    size = storage.dtype.itemsize
    return np.lib.stride_tricks.as_strided(
        storage[offset:], shape, [size * step for step in strides]
    ).copy()
