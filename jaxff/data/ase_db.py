"""ASE databases, row by row."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from typing import Any

from jaxff import units
from jaxff.data.frame import Frame
from jaxff.data.frame_keys import Keys, agreed_factor, frame_of, keys_by_name
from jaxff.data.frames import Source
from jaxff.quantities import quantity

__all__ = ["AseDatabase", "open_ase_db"]

_OWN = {"energy": "eV", "forces": "eV/Ang", "stress": "eV/Ang^3", "dipole": "e*Ang"}
_DAMAGE = (sqlite3.Error, ValueError, KeyError, TypeError, AttributeError, OSError, EOFError)


class AseDatabase(Source):
    """Frames of an ASE database; made by :func:`open_ase_db`."""

    def __init__(
        self,
        path: str | os.PathLike,
        keys: Keys,
        given: Mapping[str, str],
        length_unit: str | None,
    ):
        self.path, self._keys, self._given = str(path), keys, given
        self._db, self._ids, metadata = _connect(self.path)
        self._stated = metadata.get("_property_unit_dict") or {}
        stated = metadata.get("_distance_unit")
        self._angstrom = agreed_factor(
            stated or (None if length_unit else "Ang"),  # ASE's own unit
            length_unit,
            units.to_angstrom,
            f"{self.path}: the length",
            "pass length_unit=",
        )

    def __len__(self) -> int:
        return len(self._ids)

    def where(self, index: int) -> str:
        """File, number of the frame and the database's own number of the row."""
        return f"{self.path}: frame {index} (id {self._ids[index]})"

    def read(self, index: int) -> Frame:
        """Frame ``index``."""
        where = self.where(index)
        try:
            row = self._db.get(id=self._ids[index])
            atoms = row.toatoms()
            stores = (row.data, _pairs(row))
        except _DAMAGE as error:
            raise ValueError(f"{where}: the row cannot be read ({error})") from error

        def find(key: str) -> Any:
            for store in stores:
                if key in store:
                    return store[key]
            return row[key] if key in row and not _is_computed(row, key) else None

        def factor(name: str, key: str) -> float:
            own = not any(key in store for store in stores)
            return self._factor(name, key, own)

        return frame_of(atoms, self._keys, find, factor, self._angstrom, where)

    def _factor(self, name: str, key: str, own: bool) -> float:
        """Unit of a label: ASE's of its own results, else that of the file or the caller."""
        entry = quantity(name)
        return agreed_factor(
            _OWN[key] if own and key in _OWN else self._stated.get(key),
            None if own and key in _OWN else self._given.get(name),
            entry.factor,
            f"{self.path}: {key!r} ({name})",
            f"pass labels={{{name!r}: ({key!r}, {entry.unit!r})}} or the unit that is right",
        )


def _is_computed(row: Any, key: str) -> bool:
    """Whether ASE computes what it calls so, such as a charge of zero where none is stored."""
    return isinstance(getattr(type(row), key, None), property)


def _pairs(row: Any) -> dict[str, Any]:
    """Key-value pairs, but those that ASE shadows by what it computes."""
    return {k: v for k, v in row.key_value_pairs.items() if not _is_computed(row, k)}


def open_ase_db(
    path: str | os.PathLike,
    *,
    energy_key: str | None,
    forces_key: str | None,
    stress_key: str | None = None,
    labels: Mapping[str, tuple[str, str]] | None = None,
    energy_unit: str | None = None,
    length_unit: str | None = None,
    charge_key: str | None = "charge",
    spin_key: str | None = None,
    group_key: str | None = None,
) -> AseDatabase:
    """Open an ASE database (``.db``, ``.json``); rows are read when they are asked for.

    A key is looked for in the data of a row, its key-value pairs, and the results of ASE's
    calculators. The latter are in eV and Å. Others are in the unit that the metadata of the
    database state (``_property_unit_dict`` and ``_distance_unit``, as SchNetPack writes them) or
    that the caller gives; without either they are refused.

    Args:
        path: The database.
        energy_key: Key of the energies, or ``None``.
        forces_key: Key of the forces, or ``None``.
        stress_key: Key of the stress, positive under tension.
        labels: Further labels, or these with units of their own: name to (key, unit).
        energy_unit: Unit of energies where the database does not say; with ``length_unit`` that of
            forces and stress.
        length_unit: Unit of positions; default Å, as ASE has it.
        charge_key: Key of the total charge in e, read where it is there. It must stand in the data
            of a row: of a key-value pair ``charge`` ASE gives 0 whatever it is.
        spin_key: Key of the number of unpaired electrons.
        group_key: Key of the name of the molecule, for splits.

    Raises:
        ValueError: If the file is no intact database, is empty, or a unit is unknown.
        FileNotFoundError: If there is no such file.
    """
    names = keys_by_name(energy_key, forces_key, stress_key, None, labels)
    given = {name: unit for name, (_, unit) in (labels or {}).items()}
    if energy_unit is not None:
        units.to_ev(energy_unit)
        length = length_unit or "Ang"
        powers = {"energy": "", "forces": f"/{length}", "stress": f"/{length}^3"}
        for name, power in powers.items():
            given.setdefault(name, f"{energy_unit}{power}")
    for name in names:
        if name in given:
            quantity(name).factor(given[name])
    return AseDatabase(path, Keys(names, charge_key, spin_key, group_key), given, length_unit)


def _connect(path: str) -> tuple[Any, list[int], dict[str, Any]]:
    """The database, the numbers of its rows, and its metadata."""
    import ase.db

    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path}: no such file")
    try:
        database: Any = ase.db.connect(path)
        ids = [row.id for row in database.select(columns=["id"], include_data=False)]
        metadata = dict(database.metadata)
    except _DAMAGE as error:
        raise ValueError(f"{path}: not an intact ASE database ({error})") from error
    if not ids:
        raise ValueError(f"{path}: the database has no rows")
    return database, ids, metadata
