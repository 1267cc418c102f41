"""sGDML data sets (``.npz``), and files of the same kind with other keys.

Units are converted here, once: a file says its own (``e_unit``, ``r_unit``) or the caller must.
Files hold lattice vectors as columns of ``lattice``; inside the library they are rows of ``cell``.

Reference:
    Chmiela et al., Comput. Phys. Commun. 240, 38 (2019), doi:10.1016/j.cpc.2019.02.007.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxff import units
from jaxff.data.archive import Member, members, read_archive
from jaxff.data.dataset import Dataset
from jaxff.data.npz_write import write
from jaxff.data.sgdml_format import (
    OWN_KEYS,
    check_type,
    fingerprint,
    lattice_rows,
    numeric,
    one_row,
    resolve_unit,
    text,
)
from jaxff.data.validity import valid_frames
from jaxff.quantities import QUANTITIES, quantity

__all__ = ["check_type", "fingerprint", "read", "read_archive", "resolve_unit", "text", "write"]

_CHARGES = ("charge", "spin")
_SPLIT = re.compile(r"(^|_)(splits?|idxs|train|valid|val|test)(_|$)")


def read(
    path: str | os.PathLike,
    *,
    energy_key: str | None = None,
    forces_key: str | None = None,
    energy_unit: str | None = None,
    length_unit: str | None = None,
    forces_unit: str | None = None,
    labels: Mapping[str, tuple[str, str]] | None = None,
    drop: Any = (),
    skip_invalid: bool = False,
    max_bytes: int | None = None,
) -> Dataset:
    """Read a data set; positions become Å, energies eV, forces eV/Å.

    Args:
        path: An ``.npz`` file with ``R``, ``z`` and labels, as sGDML writes it.
        energy_key: Array of energies; default ``"E"`` if the file has it.
        forces_key: Array of forces; default ``"F"`` if the file has it.
        energy_unit: Unit of the energies where the file has no ``e_unit``.
        length_unit: Unit of the positions where the file has no ``r_unit``.
        forces_unit: Unit of the forces, if it is not energy unit per length unit.
        labels: Further labels: name in :mod:`jaxff.quantities` to (key, unit). A file may hold them
            under their name with the unit in ``<name>_unit``; those are read without asking.
        drop: Frames to leave out.
        skip_invalid: Leave out frames that are not finite or have two atoms at one point;
            ``.skipped`` of the result lists them. Otherwise they raise.
        max_bytes: See :func:`jaxff.data.archive.read_archive`.

    Raises:
        ValueError: If the file is damaged, is a model, lacks a key or a unit, contradicts a given
            unit, or has arrays that do not fit together; the message names the file.
        FileNotFoundError: If there is no such file.
    """
    where = f"{path}: "
    present = members(path, max_bytes=max_bytes)
    kind = read_archive(path, only=("type",), objects="skip", max_bytes=max_bytes)
    check_type(kind, "d", path, present)
    keys = _label_keys(present, energy_key, forces_key, labels, where)
    unread = {n for n, m in present.items() if m.has_objects}
    unread |= {"E", "F"} & set(present) - set(keys.values())
    wanted = set(present) - unread
    raw = read_archive(path, only=wanted, objects="skip", max_bytes=max_bytes)
    _require(raw, ("R", "z", *keys.values()), present, where)
    energy_unit = resolve_unit(raw, "e_unit", energy_unit, units.to_ev, where)
    length_unit = resolve_unit(raw, "r_unit", length_unit, units.to_angstrom, where)
    angstrom = units.to_angstrom(length_unit)
    positions = numeric(raw["R"], where + "R") * angstrom
    if positions.ndim != 3 or positions.shape[-1] != 3:
        raise ValueError(f"{where}R must have shape (frames, atoms, 3), got {positions.shape}")
    factors = {n: quantity(n).factor(unit) for n, (_, unit) in (labels or {}).items()}
    factors["energy"] = units.to_ev(energy_unit)
    factors.setdefault("forces", factors["energy"] / angstrom)
    if forces_unit is not None:
        factors["forces"] = quantity("forces").factor(forces_unit)
    values = _values(raw, keys, factors, positions.shape, where)
    cell, pbc = lattice_rows(raw, angstrom, len(positions), where)
    keep = valid_frames(
        *(positions, values, cell, pbc), drop=drop, skip_invalid=skip_invalid, where=where
    )
    whole = len(keep) == len(positions)
    frames = slice(None) if whole else keep
    others, splits, metadata = _sort_others(raw, keys, len(positions))
    skipped = np.setdiff1d(np.arange(len(positions)), keep)
    charge, spin = (_per_structure(raw, n, len(positions), where) for n in _CHARGES)
    return Dataset(
        numbers=one_row(raw["z"], where),
        positions=positions[frames],
        values={name: array[frames] for name, array in values.items()},
        cell=None if cell is None else cell[frames],
        pbc=pbc,
        charge=None if charge is None else charge[frames],
        spin=None if spin is None else spin[frames],
        name=text(raw.get("name", "unnamed")),
        theory=text(raw.get("theory", "unknown")),
        energy_unit=energy_unit,
        length_unit=length_unit,
        indices=keep,
        source_length=len(positions),
        fingerprint=fingerprint(
            *(raw.get(str(k)) for k in ("z", "R", keys.get("energy"), keys.get("forces")))
        ),
        source=str(path),
        permutations=raw.get("perms"),
        splits=splits,
        per_frame={name: array[frames] for name, array in others.items()},
        metadata=metadata,
        unread=tuple(sorted(unread)),
        skipped=skipped,
    )


def _label_keys(
    present: Mapping[str, Member],
    energy_key: str | None,
    forces_key: str | None,
    labels: Mapping[str, tuple[str, str]] | None,
    where: str,
) -> dict[str, str]:
    """Which array holds which label."""
    given = {"energy": energy_key, "forces": forces_key}
    _require(present, tuple(key for key in given.values() if key is not None), present, where)
    if {"E", "F"} <= set(present) and sum(k in (None, "E", "F") for k in given.values()) == 1:
        raise ValueError(
            f"{where}energy_key={energy_key!r} with forces_key={forces_key!r} would mix two sets "
            "of labels: give both keys"
        )
    keys = {}
    for name, default in (("energy", "E"), ("forces", "F")):
        if given[name] is not None:
            keys[name] = given[name]
        elif default in present:
            keys[name] = default
    for name in QUANTITIES:
        if name in present and f"{name}_unit" in present and name not in keys:
            keys[name] = name
    keys.update({quantity(name).name: key for name, (key, _) in (labels or {}).items()})
    _require(present, tuple(keys.values()), present, where)
    if not keys:
        raise ValueError(
            f"{where}no labels: neither 'E' nor 'F' is there; say energy_key or forces_key. "
            f"Present: {', '.join(present)}"
        )
    return keys


def _require(arrays: Any, keys: tuple[str, ...], present: Any, where: str) -> None:
    for key in keys:
        if key in present and key not in arrays:
            raise ValueError(f"{where}{key!r} is an array of pickled objects: not read")
        if key not in arrays:
            raise ValueError(f"{where}no array {key!r}; present: {', '.join(present)}")


def _values(
    raw: Mapping[str, np.ndarray],
    keys: Mapping[str, str],
    factors: Mapping[str, float],
    frames: tuple[int, ...],
    where: str,
) -> dict[str, np.ndarray]:
    """Labels in the units of the library."""
    values = {}
    for name, key in keys.items():
        array = numeric(_shaped(raw[key], name, frames, where + key), where + key)
        if name not in factors:
            array = array * quantity(name).factor(text(raw[f"{name}_unit"]))
        values[name] = array * factors.get(name, 1.0)
    return values


def _shaped(array: np.ndarray, name: str, frames: tuple[int, ...], where: str) -> np.ndarray:
    """The array with frames first; older files have energies as a column."""
    expected = (frames[0], *quantity(name).dims(frames[1]))
    if name == "energy" and array.shape == (*expected, 1):
        return array[:, 0]
    if array.shape != expected:
        raise ValueError(f"{where} ({name}) must have shape {expected}, got {array.shape}")
    return array


def _per_structure(
    raw: Mapping[str, np.ndarray], name: str, count: int, where: str
) -> np.ndarray | None:
    """Total charge or spin per frame; arrays of other shapes (spins of atoms) are kept aside."""
    if name not in raw or raw[name].shape not in ((), (count,)):
        return None
    return np.broadcast_to(numeric(raw[name], where + name), (count,))


def _sort_others(
    raw: Mapping[str, np.ndarray], keys: Mapping[str, str], count: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What is left: arrays per frame, splits, and the rest."""
    others, splits, metadata = {}, {}, {}
    for key, array in raw.items():
        per_frame = array.shape[:1] == (count,)
        charge = key in _CHARGES and array.shape not in ((), (count,))
        if key in keys.values() or (key in OWN_KEYS - {"md5", "code_version"} and not charge):
            continue
        if _is_split(key, array, count):
            splits[key] = array
        elif per_frame:
            others[key] = array
        elif key.removesuffix("_unit") not in keys:
            metadata[key] = array
    return others, splits, metadata


def _is_split(key: str, array: np.ndarray, count: int) -> bool:
    if array.dtype == bool and array.shape == (count,):
        return True
    if array.ndim != 1 or array.dtype.kind not in "iu" or not _SPLIT.search(key):
        return False
    return not array.size or (array.min() >= 0 and array.max() < count)
