"""The beads of a configuration: trajectories read, checked and mapped."""

import glob
import os
from dataclasses import MISSING, Field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxff import units
from jaxff.coarse.checks import check_units
from jaxff.coarse.config import Config
from jaxff.coarse.force_maps import (
    basic_force_map,
    crossed_forces,
    optimal_force_map,
    rigid_pairs,
)
from jaxff.coarse.mapping import LinearMap, centers_of_mass, linear_map, slices
from jaxff.coarse.sections import Map, Trajectory
from jaxff.data.dataset import Dataset
from jaxff.data.frame_files import reader_of
from jaxff.data.frames import DatasetFrames
from jaxff.data.md_files import read_md
from jaxff.training.sources import open_source
from jaxff.types import Float, Int

__all__ = ["Beads", "files_of", "map_beads", "read_trajectory"]


class Beads(NamedTuple):
    """Frames of beads.

    Attributes:
        data: Positions, forces, and among the arrays per frame ``weights``.
        masses: Of the beads, amu.
        mapping: Map that they were made by, if any; of forces of least noise that of all frames,
            see :func:`jaxff.coarse.crossed_forces`.
        equipartition: Ratio and its standard error, see :func:`jaxff.coarse.equipartition_ratio`.
    """

    data: Dataset
    masses: Float[np.ndarray, " beads"]
    mapping: LinearMap | None
    equipartition: tuple[float, float]


def map_beads(config: Config) -> Beads:
    """Read the trajectory of a configuration, map it to beads and check its units.

    Raises:
        ValueError: If forces are missing, units are wrong, the map is inconsistent, or files do not
            belong together; the message names the file.
        FileNotFoundError: If there is no such file.
    """
    atoms = read_trajectory(config.data, config.folder)
    weights = atoms.per_frame["weights"]
    if config.map is None:
        data, mapping, masses = atoms, None, units.masses(atoms.numbers)
    else:
        mapping = _linear_map(config.map, atoms)
        systems, forces = mapping(atoms.positions, atoms.values["forces"])
        if config.map.forces == "optimal":
            forces = _crossed(mapping, atoms)
        numbers, places = np.asarray(mapping.numbers), np.asarray(systems.positions)
        data = Dataset(numbers, places, {"forces": forces}, source=atoms.source)
        masses = mapping.masses(units.masses(atoms.numbers))
    try:
        ratio = check_units(data.systems, data.values["forces"], config.temperature, weights)
    except ValueError as error:
        raise ValueError(
            f"{data.source}: {error}; say energy_unit, length_unit or forces_unit in [data]"
        ) from error
    kept = Dataset(
        data.numbers, data.positions, {"forces": data.values["forces"]},
        per_frame={"weights": weights},
        source=data.source, name="beads", theory=atoms.theory,
    )  # fmt: skip
    return Beads(kept, masses, mapping, ratio)


def files_of(section: Trajectory, folder: Path) -> list[dict[str, Any]]:
    """The files of a trajectory as they are now: paths, bytes, and when they were written.

    Raises:
        FileNotFoundError: If a file is missing, or nothing matches a wildcard.
    """
    paths = _paths(section, folder)
    if section.topology is not None:
        paths.append(folder / section.topology)
    found = []
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file")
        state = path.stat()
        found.append(
            {"path": str(path.resolve()), "bytes": state.st_size, "written_ns": state.st_mtime_ns}
        )
    return found


def read_trajectory(section: Trajectory, folder: Path) -> Dataset:
    """All frames of the files, which must hold the same atoms, with their weights.

    Raises:
        ValueError: If forces or weights are missing, or files hold different atoms.
        FileNotFoundError: If a file is missing, or nothing matches a wildcard.
    """
    parts = [_read(section, path, folder) for path in _paths(section, folder)]
    first = parts[0]
    for part in parts:
        if not np.array_equal(part.numbers, first.numbers):
            raise ValueError(
                f"{part.source} holds {part.formula} in another order or number than "
                f"{first.source}, {first.formula}: files must be of one molecule"
            )
    weights = np.concatenate([_weights(part, section.weights_key) for part in parts])
    return Dataset(
        first.numbers,
        np.concatenate([part.positions for part in parts]),
        {"forces": np.concatenate([part.values["forces"] for part in parts])},
        per_frame={"weights": weights},
        theory=first.theory,
        source=first.source if len(parts) == 1 else f"{first.source} and {len(parts) - 1} more",
    )


def _paths(section: Trajectory, folder: Path) -> list[Path]:
    given = (section.path,) if isinstance(section.path, str) else section.path or ()
    if not given:
        raise ValueError("[data] path is needed: the files of the trajectory")
    found: list[Path] = []
    for each in given:
        place = folder / Path(os.path.expandvars(each)).expanduser()
        if not glob.has_magic(str(place)):
            found.append(place)
            continue
        matches = sorted(glob.glob(str(place)))
        if not matches:
            raise FileNotFoundError(f"{place}: no file matches")
        found += [Path(match) for match in matches]
    return found


def _read(section: Trajectory, path: Path, folder: Path) -> Dataset:
    if section.topology is not None:
        return _read_md(section, path, folder)
    try:
        reader_of(path)
    except ValueError as error:
        raise ValueError(f"{error}; for files of MD programs give [data] topology") from error
    if section.forces_key is None and path.suffix.lower() in (".xyz", ".extxyz"):
        section = replace(section, forces_key="forces")  # the name that programs write
    frames = open_source(section, path)
    if isinstance(frames, DatasetFrames):
        data = frames.dataset
    else:
        each = [frames[i] for i in range(len(frames))]
        if not each or any(not np.array_equal(e.numbers, each[0].numbers) for e in each):
            raise ValueError(f"{path}: frames must be of one molecule, at least one")
        if any("forces" not in e.labels for e in each):
            raise _without_forces(path, sorted({name for e in each for name in e.labels}))
        if any(e.cell is not None for e in each):
            raise _with_a_cell(path)
        places = np.array([e.positions for e in each])
        forces = np.array([e.labels["forces"] for e in each])
        data = Dataset(each[0].numbers, places, {"forces": forces}, source=str(path))
    if "forces" not in data.values:
        raise _without_forces(path, list(data.values))
    if data.cell is not None:
        raise _with_a_cell(path)
    return data


def _read_md(section: Trajectory, path: Path, folder: Path) -> Dataset:
    named = ("path", "topology", "weights_key")
    for each in fields(Trajectory):
        if each.name not in named and getattr(section, each.name) != _default(each):
            raise ValueError(
                f"[data] {each.name} has no meaning with a topology: the format of {path.name} "
                "says what it holds"
            )
    return read_md(path, folder / str(section.topology))


def _default(each: Field) -> Any:
    return each.default if each.default_factory is MISSING else each.default_factory()


def _with_a_cell(path: Path) -> ValueError:
    return ValueError(
        f"{path}: frames have a cell; beads move in free space: write one molecule, whole and "
        "without a cell"
    )


def _without_forces(path: Path, labels: list[str]) -> ValueError:
    return ValueError(
        f"{path}: no forces, only {', '.join(labels) or 'positions'}: mean forces are learnt from "
        "the forces on the atoms; name them by [data] forces_key, or compute them"
    )


def _weights(data: Dataset, key: str | None) -> Float[np.ndarray, " frames"]:
    if key is None:
        return np.ones(len(data))
    if key in data.metadata:  # arrays of another length are no arrays of frames
        raise ValueError(
            f"{data.source}: weights {key!r} must be {len(data)} numbers, one per frame, got shape "
            f"{np.shape(data.metadata[key])}"
        )
    if key not in data.per_frame:
        raise ValueError(
            f"{data.source}: no weights {key!r} ([data] weights_key); arrays of frames: "
            f"{', '.join(data.per_frame) or 'none'}"
        )
    weights = np.asarray(data.per_frame[key], np.float64)
    fine = weights.shape == (len(data),) and (np.isfinite(weights) & (weights >= 0)).all()
    if not fine or not weights.any():
        raise ValueError(
            f"{data.source}: weights {key!r} must be {len(data)} finite numbers, none negative and "
            "not all zero"
        )
    return weights


def _linear_map(section: Map, atoms: Dataset) -> LinearMap:
    """The map of a section.

    Raises:
        ValueError: As the functions that make it, naming the section.
    """
    try:
        count = len(atoms.numbers)
        rigid: Any = rigid_pairs(atoms.positions[:1000]) if section.constraints else ()
        if section.atoms:
            matrix = slices(count, section.atoms)
        else:
            matrix = centers_of_mass(section.groups, units.masses(atoms.numbers))
        if section.forces == "optimal":
            weights = optimal_force_map(matrix, atoms.values["forces"], rigid)
        else:
            weights = basic_force_map(matrix, rigid)
        return linear_map(matrix, _names(section, atoms), forces=weights, constraints=rigid)
    except ValueError as error:
        raise ValueError(f"[map] of {atoms.source}: {error}") from error


def _crossed(mapping: LinearMap, atoms: Dataset) -> Float[np.ndarray, "frames beads 3"]:
    try:
        return crossed_forces(mapping.positions, atoms.values["forces"], mapping.constraints)
    except ValueError as error:
        raise ValueError(f'[map] of {atoms.source}: {error}, or take forces = "basic"') from error


def _names(section: Map, atoms: Dataset) -> Int[np.ndarray, " beads"]:
    if section.numbers:
        return np.array(section.numbers)
    if section.atoms:
        return atoms.numbers[list(section.atoms)]
    return np.arange(1, len(section.groups) + 1)
