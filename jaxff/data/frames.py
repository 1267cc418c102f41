"""Labelled structures of any composition, one at a time: what networks are trained on.

A :class:`jaxff.data.Frame` is one structure in eV, Å, e. Sources of frames (data sets, extended
XYZ, ASE databases, HDF5) are sequences that read a frame when it is asked for, so that a source may
be larger than memory.
"""

from __future__ import annotations

import bisect
import operator
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, overload, runtime_checkable

import numpy as np

from jaxff.data.dataset import Dataset
from jaxff.data.frame import Frame, checked

__all__ = [
    "Concatenation",
    "DatasetFrames",
    "FrameList",
    "Frames",
    "Source",
    "Subset",
    "as_frames",
    "kind",
    "where",
    "without_invalid",
]


@runtime_checkable
class Frames(Protocol):
    """A sequence of frames."""

    def __len__(self) -> int:
        """Number of frames."""
        ...

    def __getitem__(self, index: int, /) -> Frame:
        """One frame."""
        ...


class Source(ABC):
    """Base of the sources: integers give a frame, slices and arrays a :class:`Subset`.

    A derived class has ``__len__``, :meth:`read` and, if frames have a place in a file,
    :meth:`where`.
    """

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, index: int) -> Frame:
        """Frame ``index``, which is within range."""

    def where(self, index: int) -> str:
        """What a message calls frame ``index``."""
        return f"frame {index}"

    def kind(self, index: int) -> tuple[np.ndarray, str | None]:
        """Atomic numbers and group of frame ``index``; sources override it where it is cheaper."""
        frame = self.read(index)
        return frame.numbers, frame.group

    @overload
    def __getitem__(self, index: int, /) -> Frame: ...

    @overload
    def __getitem__(self, index: Any, /) -> Frame | Subset: ...

    def __getitem__(self, index: Any, /) -> Frame | Subset:
        """A frame, or some of the frames (a slice, integers or a mask)."""
        count = len(self)
        if isinstance(index, slice):
            return Subset(self, np.arange(count)[index])
        if isinstance(index, np.ndarray | list | tuple):
            return Subset(self, index)
        index = operator.index(index)
        if not -count <= index < count:
            raise IndexError(f"frame {index} asked for, but there are {count} frames")
        return self.read(index % count)

    def __iter__(self) -> Iterator[Frame]:
        return (self[index] for index in range(len(self)))


class FrameList(Source):
    """Frames in memory, checked when the list is made.

    Args:
        frames: The frames.
        name: What messages call the list.

    Raises:
        ValueError: If a frame cannot be used (:func:`checked`).
    """

    def __init__(self, frames: Iterable[Frame], name: str = ""):
        self.name = name
        self._frames = []
        for index, frame in enumerate(frames):
            self._frames.append(checked(frame, self._call(index)))

    def __len__(self) -> int:
        return len(self._frames)

    def read(self, index: int) -> Frame:
        """Frame ``index``."""
        return self._frames[index]

    def where(self, index: int) -> str:
        """Name of the list and number of the frame."""
        return self._call(index)

    def _call(self, index: int) -> str:
        return f"{self.name}: frame {index}" if self.name else f"frame {index}"


class DatasetFrames(Source):
    """The frames of a :class:`jaxff.data.Dataset`, without copies.

    Args:
        dataset: Frames of one composition.
        group: Name by which all of them belong together.
    """

    def __init__(self, dataset: Dataset, group: str | None = None):
        self.dataset, self.group = dataset, group
        self._pbc = None
        if dataset.cell is not None:
            self._pbc = np.ones(3, bool) if dataset.pbc is None else dataset.pbc

    def __len__(self) -> int:
        return len(self.dataset)

    def read(self, index: int) -> Frame:
        """Frame ``index``."""
        data = self.dataset
        return Frame(
            data.numbers,
            data.positions[index],
            {name: array[index] for name, array in data.values.items()},
            None if data.cell is None else data.cell[index],
            self._pbc,
            None if data.charge is None else float(data.charge[index]),
            None if data.spin is None else float(data.spin[index]),
            self.group,
        )

    def where(self, index: int) -> str:
        """File and number of the frame in it."""
        data = self.dataset
        return f"{data.source or data.name}: frame {data.indices[index]}"

    def kind(self, index: int) -> tuple[np.ndarray, str | None]:
        """Atomic numbers and group, the same for all frames."""
        return self.dataset.numbers, self.group


class Subset(Source):
    """Some of the frames of a source, in any order.

    Args:
        frames: The source.
        indices: Integers or a mask over its frames.

    Raises:
        ValueError: If the indices are neither.
        IndexError: If one is out of range.
    """

    def __init__(self, frames: Frames, indices: Any):
        index = np.asarray(indices)
        count = len(frames)
        if index.dtype == bool and index.shape == (count,):
            index = np.flatnonzero(index)
        elif index.size == 0:
            index = np.zeros(0, np.int64)
        elif index.ndim != 1 or index.dtype.kind not in "iu":
            raise ValueError(
                f"frames are picked by a slice, integers or a mask of {count}, got {index.dtype} "
                f"of shape {index.shape}"
            )
        if index.size and not (-count <= index.min() and index.max() < count):
            wrong = index.max() if index.max() >= count else index.min()
            raise IndexError(f"frame {int(wrong)} asked for, but there are {count} frames")
        self.frames, self.indices = frames, index.astype(np.int64) % max(count, 1)

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, index: int) -> Frame:
        """Frame ``index`` of this subset."""
        return self.frames[int(self.indices[index])]

    def where(self, index: int) -> str:
        """What the source calls the frame."""
        return where(self.frames, int(self.indices[index]))

    def kind(self, index: int) -> tuple[np.ndarray, str | None]:
        """Atomic numbers and group of a frame."""
        return kind(self.frames, int(self.indices[index]))


class Concatenation(Source):
    """The frames of several sources, one source after another."""

    def __init__(self, sources: Sequence[Any]):
        self.sources = [as_frames(source) for source in sources]
        self._ends = np.cumsum([len(source) for source in self.sources]).tolist()

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def _place(self, index: int) -> tuple[Frames, int]:
        source = bisect.bisect_right(self._ends, index)
        return self.sources[source], index - (self._ends[source - 1] if source else 0)

    def read(self, index: int) -> Frame:
        """Frame ``index`` of all."""
        source, own = self._place(index)
        return source[own]

    def where(self, index: int) -> str:
        """What its source calls the frame."""
        return where(*self._place(index))

    def kind(self, index: int) -> tuple[np.ndarray, str | None]:
        """Atomic numbers and group of a frame."""
        return kind(*self._place(index))


def as_frames(data: Any) -> Frames:
    """Frames of a data set, a list of frames or of sources, or a source itself.

    Raises:
        TypeError: If it is none of these.
    """
    if isinstance(data, Dataset):
        return DatasetFrames(data)
    if isinstance(data, list | tuple):
        if all(isinstance(item, Frame) for item in data):
            return FrameList(data)
        return Concatenation(data)
    if isinstance(data, Frames) and not isinstance(data, Mapping | str | bytes | np.ndarray):
        return data
    raise TypeError(
        f"expected a Dataset, frames, or a list of these, got {type(data).__name__}; files are "
        "opened by jaxff.data.read_frames"
    )


def where(frames: Frames, index: int) -> str:
    """What a message calls a frame: its file and number there, if the source says so."""
    return frames.where(index) if isinstance(frames, Source) else f"frame {index}"


def kind(frames: Frames, index: int) -> tuple[np.ndarray, str | None]:
    """Atomic numbers and group of a frame, without its labels where the source can."""
    if isinstance(frames, Source):
        return frames.kind(index)
    frame = frames[index]
    return np.asarray(frame.numbers), frame.group


def without_invalid(frames: Any) -> tuple[Subset, dict[int, str]]:
    """The frames that can be read, and why each other one cannot.

    Reads every frame once.
    """
    frames, reasons = as_frames(frames), {}
    for index in range(len(frames)):
        try:
            checked(frames[index], where(frames, index))
        except ValueError as error:
            reasons[index] = str(error)
    keep = np.setdiff1d(np.arange(len(frames)), np.fromiter(reasons, int, len(reasons)))
    return Subset(frames, keep), reasons
