"""Writes data sets in the format of sGDML, in full or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from jaxff import units
from jaxff.data.archive import write_archive
from jaxff.data.dataset import Dataset
from jaxff.data.sgdml_format import OWN_KEYS, fingerprint
from jaxff.quantities import quantity


def write(
    path: str | os.PathLike,
    dataset: Dataset,
    *,
    energy_unit: str | None = None,
    length_unit: str | None = None,
) -> None:
    """Write an sGDML data set with all its keys, in full or not at all.

    Labels other than energy and forces are written under their own name with ``<name>_unit``,
    arrays per frame and metadata under theirs; splits only with the whole source file, since they
    count its frames.

    Args:
        path: The ``.npz`` file to make or replace.
        dataset: Frames with forces.
        energy_unit: Unit in the file; default the unit that the data came in.
        length_unit: Unit in the file; default the unit that the data came in.

    Raises:
        ValueError: If the format cannot hold the data: no forces, or a cell that varies.
    """
    energy_unit = energy_unit or dataset.energy_unit
    length_unit = length_unit or dataset.length_unit
    ev, angstrom = units.to_ev(energy_unit), units.to_angstrom(length_unit)
    if "forces" not in dataset.values or not len(dataset):
        raise ValueError(
            f"{path}: an sGDML data set needs at least one frame with forces; this one has "
            f"{len(dataset)} frames with {', '.join(dataset.values) or 'no labels'}. "
            "jaxff.data.extxyz.write takes any labels"
        )
    arrays: dict[str, Any] = {
        "type": "d",
        "code_version": _code_version(),
        "name": dataset.name,
        "theory": dataset.theory,
        "R": dataset.positions / angstrom,
        "z": dataset.numbers,
        "F": dataset.values["forces"] / (ev / angstrom),
    }
    if "energy" in dataset.values:
        arrays["E"] = dataset.values["energy"] / ev
    for key in ("F", "E"):
        if key in arrays:
            for what in ("min", "max", "mean", "var"):
                arrays[f"{key}_{what}"] = getattr(np, what)(arrays[key].ravel())
    arrays.update(r_unit=length_unit, e_unit=energy_unit)
    arrays.update(_lattice_arrays(dataset, angstrom, path))
    if dataset.permutations is not None:
        arrays["perms"] = dataset.permutations
    for name in ("charge", "spin"):
        value = getattr(dataset, name)
        if value is not None:
            arrays[name] = value
    for name in dataset.values.keys() - {"energy", "forces"}:
        arrays[name] = dataset.values[name]
        arrays[f"{name}_unit"] = quantity(name).unit
    arrays.update(_carried(dataset, arrays))
    md5 = fingerprint(arrays["z"], arrays["R"], arrays.get("E"), arrays["F"])
    arrays["md5"] = np.bytes_(md5)
    write_archive(path, {key: np.asarray(array) for key, array in arrays.items()})


def _code_version() -> str:
    try:
        return f"jaxff {version('jaxff')}"
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "jaxff"


def _carried(dataset: Dataset, taken: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Arrays of the source file that go along unchanged."""
    carried = {**dataset.metadata, **dataset.per_frame}
    if dataset.is_whole:
        carried.update(dataset.splits)
    return {k: v for k, v in carried.items() if k not in taken and k not in OWN_KEYS}


def _lattice_arrays(dataset: Dataset, angstrom: float, path: Any) -> dict[str, np.ndarray]:
    if dataset.cell is None:
        return {}
    if np.any(dataset.cell != dataset.cell[0]):
        frame = int(np.flatnonzero((dataset.cell != dataset.cell[0]).any(axis=(1, 2)))[0])
        raise ValueError(
            f"{path}: an sGDML data set has one lattice, but the cell of frame {frame} differs "
            "from that of frame 0; use jaxff.data.extxyz.write"
        )
    arrays = {"lattice": dataset.cell[0].T / angstrom}
    if dataset.pbc is not None and not dataset.pbc.all():
        arrays["pbc"] = dataset.pbc
    return arrays
