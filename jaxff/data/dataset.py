"""Frames of one composition with their labels, in eV and Å, and where they came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxff.data.validity import valid_frames
from jaxff.elements import symbols
from jaxff.quantities import quantity

if TYPE_CHECKING:
    from jaxff.system import System

_PER_FRAME = ("positions", "cell", "charge", "spin", "indices")


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled frames of one composition and atom order.

    Every array is checked when a data set is made: shapes, finite values, atomic numbers,
    permutations that keep the elements. ``data[index]`` holds some of the frames and keeps the
    provenance. Lengths are in Å, energies in eV whatever the file had.

    Attributes:
        numbers: Atomic numbers, the same for all frames.
        positions: Cartesian coordinates in Å.
        values: Labels by name (see :mod:`jaxff.quantities`), frames first, in eV, Å, e.
        cell: Lattice vectors as rows in Å, per frame (one cell is spread over all frames).
        pbc: Periodic directions; ``None`` with a cell means all three.
        charge: Total charge in e, per frame.
        spin: Number of unpaired electrons, per frame.
        name: Name of the data set.
        theory: Level of theory of the labels.
        energy_unit: Unit of energy in the file, for reports and for writing back.
        length_unit: Unit of length in the file.
        indices: Index of each frame in the source file; default 0, 1, 2, ...
        source_length: Number of frames in the source file.
        fingerprint: md5 of the arrays as stored in the source (:func:`jaxff.data.npz.fingerprint`).
        source: Path of the source file.
        permutations: Symmetry-equivalent orders of the atoms, if the source states them.
        splits: Index arrays or masks over the *source* frames, found in the file.
        per_frame: Other arrays of the file with one row per frame.
        metadata: Other arrays of the file.
        unread: Names of file members that were not read (pickled objects).
        skipped: Source indices of frames that were left out as invalid.

    Raises:
        ValueError: If anything does not fit; the message names the field and the source frames.
    """

    numbers: Int[np.ndarray, " atoms"]
    positions: Float[np.ndarray, "frames atoms 3"]
    values: Mapping[str, Float[np.ndarray, "frames ..."]] = field(default_factory=dict)
    cell: Float[np.ndarray, "frames 3 3"] | None = None
    pbc: Bool[np.ndarray, "3"] | None = None
    charge: Float[np.ndarray, " frames"] | None = None
    spin: Float[np.ndarray, " frames"] | None = None
    name: str = "unnamed"
    theory: str = "unknown"
    energy_unit: str = "eV"
    length_unit: str = "Ang"
    indices: Int[np.ndarray, " frames"] = None  # type: ignore[assignment]
    source_length: int = None  # type: ignore[assignment]
    fingerprint: str | None = None
    source: str | None = None
    permutations: Int[np.ndarray, "perms atoms"] | None = None
    splits: Mapping[str, np.ndarray] = field(default_factory=dict)
    per_frame: Mapping[str, np.ndarray] = field(default_factory=dict)
    metadata: Mapping[str, np.ndarray] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    skipped: Int[np.ndarray, " skipped"] = None  # type: ignore[assignment]

    def __post_init__(self):
        for name, value in _normalised(self).items():
            object.__setattr__(self, name, value)
        _check(self)

    def __len__(self) -> int:
        return len(self.positions)

    def __repr__(self) -> str:
        labels = ", ".join(self.values) or "none"
        return f"Dataset({self.name!r}, {len(self)} frames, {self.formula}, labels: {labels})"

    def __getitem__(self, index: Any) -> Dataset:
        """The frames at ``index`` (integers, a slice or a mask over this data set's frames)."""
        frames = self._frames(index)
        picked: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in _PER_FRAME:
            if picked[name] is not None:
                picked[name] = picked[name][frames]
        for name in ("values", "per_frame"):
            picked[name] = {key: array[frames] for key, array in picked[name].items()}
        return Dataset(**picked)

    def _frames(self, index: Any) -> np.ndarray:
        if isinstance(index, slice):
            return np.arange(len(self))[index]
        index = np.atleast_1d(np.asarray(index))
        if index.size == 0:
            return np.zeros(0, int)
        if index.ndim != 1 or index.dtype.kind not in "iub":
            raise ValueError(
                f"frames are picked by a slice, integers or a mask, got {index.dtype} of shape "
                f"{index.shape}"
            )
        if index.dtype == bool:
            if index.shape != (len(self),):
                raise ValueError(f"a mask needs one entry per frame: {len(self)}, got {index.size}")
            return np.flatnonzero(index)
        if index.max() >= len(self) or index.min() < -len(self):
            raise IndexError(
                f"frame {int(index.max() if index.max() >= len(self) else index.min())} asked for, "
                f"but {self.name!r} has {len(self)} frames"
            )
        return index.astype(int)

    def drop(self, frames: Any) -> Dataset:
        """All frames but ``frames`` (positions in this data set)."""
        keep = np.ones(len(self), bool)
        keep[self._frames(frames)] = False
        return self[keep]

    @property
    def systems(self) -> System:
        """All frames as one stacked :class:`jaxff.System`."""
        from jaxff.system import System

        return System(
            self.positions,
            self.numbers,
            cell=self.cell,
            pbc=self.pbc,
            charge=self.charge,
            spin=self.spin,
        )

    def labels(self, *names: str) -> dict[str, Float[np.ndarray, "frames ..."]]:
        """Labels by name, for a fit or a test; without names, all of them.

        Raises:
            ValueError: If a label is absent; the message says what is there.
        """
        for name in names:
            quantity(name)
            if name not in self.values:
                raise ValueError(
                    f"{self._where}no label {name!r}; there are: {', '.join(self.values) or 'none'}"
                )
        return {name: self.values[name] for name in names or self.values}

    @property
    def formula(self) -> str:
        """Composition, elements by atomic number, such as ``"H6 C2 O1"``."""
        kinds, counts = np.unique(self.numbers, return_counts=True)
        return " ".join(f"{s}{n}" for s, n in zip(symbols(kinds), counts, strict=True))

    @property
    def is_whole(self) -> bool:
        """Whether the frames are exactly those of the source file, in its order."""
        return len(self) == self.source_length and np.array_equal(
            self.indices, np.arange(len(self))
        )

    @property
    def duplicates(self) -> Int[np.ndarray, "pairs 2"]:
        """Pairs (first, repeat) of frames with bitwise equal positions and cell."""
        first: dict[bytes, int] = {}
        pairs = []
        for frame, positions in enumerate(self.positions):
            key = positions.tobytes() + (b"" if self.cell is None else self.cell[frame].tobytes())
            if first.setdefault(key, frame) != frame:
                pairs.append((first[key], frame))
        return np.asarray(pairs, int).reshape(-1, 2)

    @property
    def _where(self) -> str:
        return f"{self.source}: " if self.source else ""


def _normalised(data: Dataset) -> dict[str, Any]:
    """Fields as read-only arrays of the internal types, one row per frame."""
    where = data._where
    positions = _array(data.positions, np.float64, f"{where}positions")
    numbers = _array(data.numbers, np.int64, f"{where}numbers")
    if positions.ndim != 3 or positions.shape[-1] != 3 or numbers.ndim != 1:
        raise ValueError(
            f"{where}expected positions of shape (frames, atoms, 3) and numbers (atoms,), got "
            f"{positions.shape} and {numbers.shape}"
        )
    count = len(positions)
    new: dict[str, Any] = {"positions": positions, "numbers": numbers}
    for name, tail in (("cell", (3, 3)), ("charge", ()), ("spin", ())):
        value = getattr(data, name)
        if value is not None:
            value = _array(value, np.float64, f"{where}{name}")
            if value.shape not in ((count, *tail), tail):
                raise ValueError(
                    f"{where}{name} must have shape {(count, *tail)} or {tail}, got {value.shape}"
                )
            new[name] = np.broadcast_to(value, (count, *tail))
    if data.pbc is not None:
        pbc = np.asarray(data.pbc)
        if pbc.shape != (3,) or pbc.dtype.kind not in "biu":
            raise ValueError(f"{where}pbc must be three booleans, got {data.pbc!r}")
        new["pbc"] = pbc.astype(bool)
    new["values"] = MappingProxyType(
        {k: _array(v, np.float64, f"{where}{k}") for k, v in data.values.items()}
    )
    for name in ("splits", "per_frame", "metadata"):
        mapping = {k: _frozen(np.asarray(v)) for k, v in getattr(data, name).items()}
        new[name] = MappingProxyType(mapping)
    indices = np.arange(count) if data.indices is None else data.indices
    new["indices"] = _array(indices, np.int64, f"{where}indices")
    if data.permutations is not None:
        new["permutations"] = _array(data.permutations, np.int64, f"{where}permutations")
    skipped = () if data.skipped is None else data.skipped
    new["skipped"] = _array(skipped, np.int64, f"{where}skipped")
    if data.source_length is None:
        new["source_length"] = count
    return new


def _array(value: Any, dtype: Any, name: str) -> np.ndarray:
    array = np.asarray(value)
    kinds = "iub" if dtype is np.int64 else "iubf"
    if array.dtype.kind not in kinds and array.size:
        raise ValueError(f"{name} must hold numbers ({np.dtype(dtype)}), got {array.dtype}")
    return _frozen(array.astype(dtype, copy=False))


def _frozen(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view


def _check(data: Dataset) -> None:
    where, count, atoms = data._where, len(data), len(data.numbers)
    if data.positions.shape[1] != atoms or atoms == 0:
        raise ValueError(
            f"{where}positions have {data.positions.shape[1]} atoms, numbers name {atoms}; "
            "expected the same number, at least one"
        )
    wrong = np.unique(data.numbers[(data.numbers < 1) | (data.numbers > 118)])
    if wrong.size:
        raise ValueError(f"{where}atomic numbers must be 1 to 118, got {wrong.tolist()}")
    if data.pbc is not None and data.cell is None and data.pbc.any():
        raise ValueError(f"{where}pbc is given without a cell: give the lattice vectors as rows")
    if data.indices.shape != (count,) or (count and data.indices.min() < 0):
        raise ValueError(f"{where}indices must be {count} non-negative integers, one per frame")
    for name, array in data.values.items():
        expected = (count, *quantity(name).dims(atoms))
        if array.shape != expected:
            raise ValueError(f"{where}{name} must have shape {expected}, got {array.shape}")
    for name, array in data.per_frame.items():
        if array.shape[:1] != (count,):
            raise ValueError(f"{where}{name} must have {count} rows, got shape {array.shape}")
    valid_frames(
        data.positions, data.values, data.cell, data.pbc, indices=data.indices, where=where
    )
    _check_permutations(data)


def _check_permutations(data: Dataset) -> None:
    permutations, atoms = data.permutations, len(data.numbers)
    if permutations is None:
        return
    if permutations.ndim != 2 or permutations.shape[1] != atoms:
        raise ValueError(
            f"{data._where}permutations must have shape (perms, {atoms}), got {permutations.shape}"
        )
    for row, permutation in enumerate(permutations):
        if not np.array_equal(np.sort(permutation), np.arange(atoms)):
            raise ValueError(f"{data._where}permutation {row} is not an order of {atoms} atoms")
        if not np.array_equal(data.numbers[permutation], data.numbers):
            raise ValueError(f"{data._where}permutation {row} exchanges different elements")
