"""Extended XYZ of any compositions, frame by frame."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from functools import partial

from jaxff import units
from jaxff.data.extxyz import find, keys_of, parse
from jaxff.data.frame import Frame
from jaxff.data.frame_keys import Keys, frame_of, keys_by_name, unit_factors
from jaxff.data.frames import Source

__all__ = ["ExtxyzFrames", "open_extxyz"]


class ExtxyzFrames(Source):
    """Frames of an extended XYZ file; made by :func:`open_extxyz`.

    Opening notes where each frame begins; a frame is parsed when it is asked for.

    Attributes:
        path: The file.
        counts: For each label, in how many frames its key occurs.
    """

    def __init__(
        self, path: str | os.PathLike, keys: Keys, factors: Mapping[str, float], angstrom: float
    ):
        self.path, self._keys, self._factors = str(path), keys, factors
        self._angstrom = angstrom
        self._starts, self.counts = _scan(self.path, keys.labels)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def where(self, index: int) -> str:
        """File and number of the frame."""
        return f"{self.path}: frame {index}"

    def read(self, index: int) -> Frame:
        """Frame ``index``."""
        atoms = self._parsed(index)
        return frame_of(
            atoms,
            self._keys,
            partial(find, atoms),
            lambda name, _: self._factors[name],
            self._angstrom,
            self.where(index),
        )

    def keys(self, index: int = 0) -> list[str]:
        """Names of what a frame of the file holds."""
        return sorted(keys_of(self._parsed(index)))

    def _parsed(self, index: int):
        with open(self.path, "rb") as stream:
            stream.seek(self._starts[index])
            text = stream.read(self._starts[index + 1] - self._starts[index])
        return parse(io.StringIO(text.decode("utf-8")), 0, f"{self.where(index)}: ")[0]


def open_extxyz(
    path: str | os.PathLike,
    *,
    energy_key: str | None,
    forces_key: str | None,
    stress_key: str | None = None,
    virial_key: str | None = None,
    labels: Mapping[str, tuple[str, str]] | None = None,
    energy_unit: str = "eV",
    length_unit: str = "Ang",
    charge_key: str | None = "charge",
    spin_key: str | None = "unpaired_electrons",
    group_key: str | None = None,
) -> ExtxyzFrames:
    """Open an extended XYZ file whose frames may differ in everything.

    A frame may lack labels; a key that no frame has is an error.

    Args:
        path: The file.
        energy_key: As in :func:`jaxff.data.extxyz.read`, like the next six.
        forces_key: Name of the column of forces, or ``None``.
        stress_key: Name of the stress, positive under tension.
        virial_key: Name of the virial.
        labels: Further labels: name to (key, unit).
        energy_unit: Unit of the energies; the format documents eV.
        length_unit: Unit of positions, cells and, with ``energy_unit``, of forces and stress.
        charge_key: Name of the total charge in e, read where it is there.
        spin_key: Name of the number of unpaired electrons (not of the multiplicity), likewise.
        group_key: Name of the name of the molecule, for splits.

    Raises:
        ValueError: If the file cannot be parsed or a label is in no frame.
        FileNotFoundError: If there is no such file.
    """
    names = keys_by_name(energy_key, forces_key, stress_key, virial_key, labels)
    factors = unit_factors(names, energy_unit, length_unit, labels)
    frames = ExtxyzFrames(
        path, Keys(names, charge_key, spin_key, group_key), factors, units.to_angstrom(length_unit)
    )
    for name, count in frames.counts.items():
        if not count:
            raise ValueError(
                f"{path}: {names[name]!r} ({name}) is in none of {len(frames)} frames; the first "
                f"has {', '.join(frames.keys()) or 'none'}"
            )
    return frames


def _scan(path: str, keys: Mapping[str, str]) -> tuple[list[int], dict[str, int]]:
    """Where each frame begins, with the end of the last, and how often each key occurs."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path}: no such file")
    starts, counts = [], dict.fromkeys(keys, 0)
    words = {name: key.encode() for name, key in keys.items()}
    with open(path, "rb") as stream:
        position = 0
        while head := stream.readline():
            if not head.strip():
                position = stream.tell()
                continue
            where = f"{path}: frame {len(starts)}"
            try:
                atoms = int(head)
            except ValueError:
                raise ValueError(
                    f"{where}: expected the number of atoms, got {head[:40].strip()!r}"
                ) from None
            comment = stream.readline()
            for name, word in words.items():
                counts[name] += word in comment
            lines = sum(bool(stream.readline().strip()) for _ in range(atoms))
            if lines < atoms:
                raise ValueError(f"{where} is cut short: {lines} of {atoms} atoms")
            starts.append(position)
            position = stream.tell()
    if not starts:
        raise ValueError(f"{path}: the file has no frames")
    return [*starts, position], counts
