"""Frames in HDF5, larger than memory: one group per molecule, or all frames one after another.

*Groups*: one group per molecule with ``atomic_numbers`` ``(atoms,)``, ``conformations``
``(frames, atoms, 3)`` and one array per label, frames first, as in SPICE. Units stand in the
attribute ``units`` of each array, or the caller says them.

*Flat*: :mod:`jaxff.data.hdf5_flat`, which also writes.

Reference:
    Eastman et al., Sci. Data 10, 11 (2023), doi:10.1038/s41597-022-01882-6.
"""

from __future__ import annotations

import bisect
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxff import units
from jaxff.data.frame import Frame, checked
from jaxff.data.frame_keys import agreed_factor
from jaxff.data.frames import Source
from jaxff.data.hdf5_flat import FORMAT, FlatHDF5, h5py
from jaxff.quantities import quantity

__all__ = ["GroupedHDF5", "open_hdf5"]

_DAMAGE = (OSError, KeyError, RuntimeError, ValueError, TypeError)


@dataclass(frozen=True)
class _Column:
    """An array of labels: its key, the caller's unit, and the sign that makes it the label."""

    key: str
    unit: str | None
    sign: float = 1.0


class GroupedHDF5(Source):
    """Frames of a file with one group per molecule; made by :func:`open_hdf5`.

    Attributes:
        path: The file.
        counts: For each label, how many frames are in groups that have it.
    """

    def __init__(
        self,
        path: str,
        file: Any,
        columns: Mapping[str, _Column],
        *,
        length_unit: str | None,
        charge_key: str | None,
        nan_is_missing: bool,
    ):
        self.path, self._file, self._columns = path, file, columns
        self._length_unit, self._charge_key = length_unit, charge_key
        self._nan_is_missing = nan_is_missing
        try:
            groups = [name for name in file if hasattr(file[name], "keys")]
            self._groups = [name for name in groups if "conformations" in file[name]]
            sizes = [len(file[name]["conformations"]) for name in self._groups]
        except _DAMAGE as error:
            raise ValueError(f"{path}: not intact ({error})") from error
        self._ends = np.cumsum(sizes).tolist()
        self.counts = {
            label: sum(n for g, n in zip(self._groups, sizes, strict=True) if column.key in file[g])
            for label, column in columns.items()
        }

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def _place(self, index: int) -> tuple[str, int]:
        group = bisect.bisect_right(self._ends, index)
        return self._groups[group], index - (self._ends[group - 1] if group else 0)

    def where(self, index: int) -> str:
        """File, group, and number of the conformation."""
        group, row = self._place(index)
        return f"{self.path}: frame {index} ({group!r}, conformation {row})"

    def kind(self, index: int) -> tuple[np.ndarray, str | None]:
        """Atomic numbers and group of frame ``index``."""
        name, _ = self._place(index)
        return self._file[name]["atomic_numbers"][()].astype(np.int32), name

    def read(self, index: int) -> Frame:
        """Frame ``index``."""
        name, row = self._place(index)
        where, labels = self.where(index), {}
        try:
            group = self._file[name]
            numbers = group["atomic_numbers"][()]
            places = group["conformations"]
            positions = np.asarray(places[row], np.float64)
            raw = {n: group[c.key][row] for n, c in self._columns.items() if c.key in group}
        except _DAMAGE as error:
            raise ValueError(f"{where}: cannot be read ({error})") from error
        for label, value in raw.items():
            value = np.asarray(value, np.float64)
            if not (self._nan_is_missing and np.isnan(value).any()):
                labels[label] = self._label(group, label, value, len(numbers), where)
        unit = agreed_factor(
            *(places.attrs.get("units"), self._length_unit, units.to_angstrom),
            f"{self.path}: 'conformations' of {name!r}",
            "pass length_unit=",
        )
        charge = self._charge(group, row)
        return checked(Frame(numbers, positions * unit, labels, charge=charge, group=name), where)

    def _label(
        self, group: Any, label: str, value: np.ndarray, atoms: int, where: str
    ) -> np.ndarray:
        column, entry = self._columns[label], quantity(label)
        expected = entry.dims(atoms)
        if value.size != int(np.prod(expected)):
            raise ValueError(
                f"{where}: {column.key!r} ({label}) must have shape {expected}, got {value.shape}"
            )
        unit = agreed_factor(
            *(group[column.key].attrs.get("units"), column.unit, entry.factor),
            f"{self.path}: {column.key!r} ({label}) of {group.name[1:]!r}",
            f"pass labels={{{label!r}: ({column.key!r}, {entry.unit!r})}} or the unit it has, or "
            "energy_unit= and length_unit=",
        )
        return value.reshape(expected) * (unit * column.sign)

    def _charge(self, group: Any, row: int) -> float | None:
        if self._charge_key is None or self._charge_key not in group:
            return None
        charges = np.asarray(group[self._charge_key][()])
        return float(charges.reshape(-1)[row if charges.size > 1 else 0])


def open_hdf5(
    path: str | os.PathLike,
    *,
    energy_key: str | None = None,
    forces_key: str | None = None,
    gradient_key: str | None = None,
    labels: Mapping[str, tuple[str, str | None]] | None = None,
    energy_unit: str | None = None,
    length_unit: str | None = None,
    charge_key: str | None = None,
    nan_is_missing: bool = False,
) -> GroupedHDF5 | FlatHDF5:
    """Open a file of frames; they are read when they are asked for.

    All arguments but the path are for files with one group per molecule; a flat file says
    everything itself.

    Args:
        path: The file.
        energy_key: Array of energies, such as ``"dft_total_energy"``.
        forces_key: Array of forces.
        gradient_key: Array of gradients, the negative of the forces.
        labels: Further labels: name to (key, unit), the unit ``None`` where the file says it.
        energy_unit: Unit of the energies where the file does not say; with ``length_unit`` that of
            forces or gradients.
        length_unit: Unit of the positions where the file does not say.
        charge_key: Array of total charges in e, one per molecule or per frame.
        nan_is_missing: Take labels that are not a number as missing; otherwise they are errors.

    Raises:
        ValueError: If the file is damaged or of neither layout, a label is in no group, or nobody
            says a unit.
        FileNotFoundError: If there is no such file.
        ModuleNotFoundError: If h5py is not installed.
    """
    path = str(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path}: no such file")
    columns = _columns(energy_key, forces_key, gradient_key, labels, energy_unit, length_unit)
    try:
        file = h5py().File(path, "r")
        form = file.attrs.get("format")
    except OSError as error:
        raise ValueError(f"{path}: not an intact HDF5 file ({error})") from error
    if form == FORMAT:
        if columns or energy_unit or length_unit or charge_key:
            raise ValueError(f"{path}: keys and units are in the file ({FORMAT}): give none")
        return FlatHDF5(path, file)
    frames = GroupedHDF5(
        *(path, file, columns),
        length_unit=length_unit,
        charge_key=charge_key,
        nan_is_missing=nan_is_missing,
    )
    if not len(frames):
        raise ValueError(
            f"{path}: neither {FORMAT!r} nor groups with 'conformations'; it has "
            f"{', '.join(list(file)[:10]) or 'nothing'}"
        )
    for label, count in frames.counts.items():
        if not count:
            there = ", ".join(file[frames._groups[0]])
            raise ValueError(
                f"{path}: {columns[label].key!r} ({label}) is in no group; the first has {there}"
            )
    return frames


def _columns(
    energy_key: str | None,
    forces_key: str | None,
    gradient_key: str | None,
    labels: Mapping[str, tuple[str, str | None]] | None,
    energy_unit: str | None,
    length_unit: str | None,
) -> dict[str, _Column]:
    if forces_key and gradient_key:
        raise ValueError(f"give forces_key or gradient_key, got {forces_key!r}, {gradient_key!r}")
    force_unit = f"{energy_unit}/{length_unit}" if energy_unit and length_unit else None
    columns = {}
    if energy_key:
        columns["energy"] = _Column(energy_key, energy_unit)
    if forces_key:
        columns["forces"] = _Column(forces_key, force_unit)
    if gradient_key:
        columns["forces"] = _Column(gradient_key, force_unit, -1.0)
    for name, (key, unit) in (labels or {}).items():
        columns[quantity(name).name] = _Column(key, unit)
    for name, column in columns.items():
        if column.unit is not None:
            quantity(name).factor(column.unit)
    return columns
