"""What readers of frames share: which label stands under which key, in which unit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxff import units
from jaxff.data.extxyz import shaped
from jaxff.data.frame import Frame, checked
from jaxff.quantities import quantity

__all__ = ["Keys", "agreed_factor", "frame_of", "keys_by_name", "unit_factors"]


@dataclass(frozen=True)
class Keys:
    """Where things stand in a file.

    Attributes:
        labels: Key of each label, by name.
        charge: Key of the total charge in e.
        spin: Key of the number of unpaired electrons.
        group: Key of the name of the molecule.
    """

    labels: Mapping[str, str]
    charge: str | None = None
    spin: str | None = None
    group: str | None = None


def keys_by_name(
    energy_key: str | None,
    forces_key: str | None,
    stress_key: str | None,
    virial_key: str | None,
    labels: Mapping[str, tuple[str, str]] | None,
) -> dict[str, str]:
    """Key of each label that is asked for.

    Raises:
        ValueError: If none is asked for, or a name is unknown.
    """
    keys = {"energy": energy_key, "forces": forces_key, "stress": stress_key, "virial": virial_key}
    keys = {name: key for name, key in keys.items() if key is not None}
    keys.update({quantity(name).name: key for name, (key, _) in (labels or {}).items()})
    return keys


def unit_factors(
    names: Mapping[str, str],
    energy_unit: str,
    length_unit: str,
    labels: Mapping[str, tuple[str, str]] | None,
) -> dict[str, float]:
    """Factor of each label for given units of energy and length; further labels say their own."""
    ev, angstrom = units.to_ev(energy_unit), units.to_angstrom(length_unit)
    known = {"energy": ev, "virial": ev, "forces": ev / angstrom, "stress": ev / angstrom**3}
    factors = {name: known[name] for name in names if name in known}
    for name, (_, unit) in (labels or {}).items():
        factors[name] = quantity(name).factor(unit)
    return factors


def agreed_factor(
    stated: Any, given: str | None, factor: Callable[[str], float], what: str, remedy: str
) -> float:
    """Size of the unit that the file and the caller agree on; nobody guesses.

    Args:
        stated: The unit in the file, or ``None``.
        given: The caller's word, or ``None``.
        factor: Gives the size of a unit.
        what: What has the unit, with the file: the start of a message.
        remedy: How to say the unit.

    Raises:
        ValueError: If nobody says the unit, it is unknown, or the two disagree.
    """
    stated = stated.decode() if isinstance(stated, bytes) else stated
    words = [word for word in (stated, given) if word is not None]
    if not words:
        raise ValueError(f"{what} has no unit in the file: {remedy}")
    try:
        sizes = [factor(word) for word in words]
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error
    if not np.allclose(sizes, sizes[0], rtol=1e-5, atol=0):
        raise ValueError(
            f"{what} is in {stated!r} by the file and in {given!r} by the caller: leave the latter "
            "out, or correct the file"
        )
    return sizes[0]


def frame_of(
    atoms: Any,
    keys: Keys,
    find: Callable[[str], Any],
    factor: Callable[[str, str], float],
    angstrom: float,
    where: str,
) -> Frame:
    """A frame of an ``ase.Atoms``, checked; labels that are not there are left out.

    Args:
        atoms: The structure.
        keys: Where things stand.
        find: What stands under a key, or ``None``.
        factor: Factor of a label, given its name and key.
        angstrom: Unit of length in Å.
        where: What messages call the frame.
    """
    labels = {}
    for name, key in keys.labels.items():
        if (value := find(key)) is not None:
            array = shaped(value, name, len(atoms), f"{where}: {key!r} ({name})")
            labels[name] = array * factor(name, key)
    periodic = bool(np.any(atoms.pbc))
    group = None if keys.group is None else find(keys.group)
    frame = Frame(
        numbers=np.asarray(atoms.numbers),
        positions=np.asarray(atoms.positions) * angstrom,
        labels=labels,
        cell=atoms.cell.array * angstrom if periodic else None,
        pbc=np.asarray(atoms.pbc) if periodic else None,
        charge=_scalar(keys.charge, find, where),
        spin=_scalar(keys.spin, find, where),
        group=None if group is None else str(group),
    )
    return checked(frame, where)


def _scalar(key: str | None, find: Callable[[str], Any], where: str) -> float | None:
    value = None if key is None else find(key)
    if value is None:
        return None
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "iuf":
        raise ValueError(f"{where}: {key!r} must be a number, got {value!r}")
    return float(array.reshape(()))
