"""Frames of a configuration: files opened, parts named by index arrays or drawn."""

import inspect
import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxff.data import frame_splits, splits
from jaxff.data.archive import read_archive
from jaxff.data.frame_files import reader_of
from jaxff.data.frames import (
    Concatenation,
    DatasetFrames,
    Frames,
    Subset,
    without_invalid,
)
from jaxff.training.optimizers import nearest
from jaxff.training.sections import Data, Part, Source

__all__ = ["Parts", "open_parts", "open_source"]

_DRAWS = {
    "random": frame_splits.random,
    "composition": frame_splits.by_composition,
    "group": frame_splits.by_group,
}
_NAMES = ("train", "valid", "test")


class Parts(NamedTuple):
    """Frames to train, validate and test with; ``None`` where the configuration has no such part.

    ``units`` are those of an npz file, by label.
    """

    train: Frames
    valid: Frames | None
    test: Frames | None
    units: dict[str, str]


def open_parts(data: Data, folder: Path) -> Parts:
    """Open the files of a configuration and choose its frames.

    A part with a ``split`` and no count has exactly these frames, in their order; then parts with a
    split and a count draw from theirs what no other part has; the other counts and fractions are
    drawn from what is left. Parts of one file are disjoint.

    Args:
        data: The section.
        folder: To which paths are relative.

    Raises:
        ValueError: If files cannot be read as asked, there are too few frames, or parts overlap.
        FileNotFoundError: If a file does not exist.
    """
    if data.draw not in _DRAWS:
        raise ValueError(
            f"[data] draw {data.draw!r} is unknown{nearest(data.draw, _DRAWS)}; known: "
            f"{', '.join(_DRAWS)}"
        )
    given = {n: getattr(data, n) for n in _NAMES if getattr(data, n) is not None}
    wanted = {name: _with_defaults(part, data) for name, part in given.items()}
    files: dict[str, Frames] = {}
    groups: dict[str, dict[str, Part]] = {}
    for name, part in wanted.items():
        key = repr([getattr(part, each.name) for each in fields(Source)])
        if key not in files:
            files[key] = _opened(part, folder, f"[data] {name}")
        groups.setdefault(key, {})[name] = part
    found: dict[str, Subset] = {}
    for key, parts in groups.items():
        indices = _chosen(files[key], parts, data, folder)
        found |= {name: Subset(files[key], each) for name, each in indices.items()}
    places = {name: _places(part, folder) for name, part in wanted.items()}
    for place in set(places.values()):
        _check_disjoint({name: found[name].indices for name in wanted if places[name] == place})
    units = _file_units(found["train"].frames)
    return Parts(found["train"], found.get("valid"), found.get("test"), units)


def _with_defaults(part: Part, data: Data) -> Part:
    """The part, with the options of ``[data]`` where it has none."""
    own = {each.name: getattr(part, each.name) for each in fields(Part)}
    plain = Source()
    for each in fields(Source):
        if own[each.name] == getattr(plain, each.name):
            own[each.name] = getattr(data, each.name)
    return Part(**own)


def _opened(source: Source, folder: Path, where: str) -> Frames:
    if source.path is None:
        raise ValueError(f"{where} needs a path, its own or that of [data]")
    each = [open_source(source, path) for path in _places(source, folder)]
    return each[0] if len(each) == 1 else Concatenation(each)


def _places(source: Source, folder: Path) -> tuple[Path, ...]:
    """The files, however they are spelt."""
    paths = (source.path,) if isinstance(source.path, str) else source.path or ()
    return tuple(_resolved(path, folder).resolve() for path in paths)


def _resolved(path: str, folder: Path) -> Path:
    """A path with its environment variables, relative to the folder.

    Raises:
        ValueError: If a variable is not set.
    """
    known = os.path.expandvars(path)
    if "$" in known:
        raise ValueError(f"{path}: an environment variable in this path is not set")
    return folder / Path(known).expanduser()


def open_source(source: Source, path: Path) -> Frames:
    """Open a file with the options that its format has.

    Raises:
        ValueError: If one of them is of no use for it, or the file cannot be read as asked.
        FileNotFoundError: If there is no such file.
    """
    reader = reader_of(path)
    parameters = inspect.signature(reader).parameters
    options: dict[str, Any] = {}
    for each in fields(Source):
        value = getattr(source, each.name)
        if each.name in ("path", "skip_invalid") or value is None or value == {}:
            continue
        if each.name not in parameters:
            raise ValueError(
                f"{path}: {each.name} has no meaning for {path.suffix} files; they take "
                f"{', '.join(n for n in parameters if n in Source.__dataclass_fields__)}"
            )
        options[each.name] = _labels(value, path) if each.name == "labels" else value
    for name in ("energy_key", "forces_key"):  # asked for by readers that have no default
        if name in parameters and parameters[name].default is inspect.Parameter.empty:
            options.setdefault(name, None)
    if "skip_invalid" in parameters:
        return reader(path, **options, skip_invalid=source.skip_invalid)
    frames = reader(path, **options)
    return without_invalid(frames)[0] if source.skip_invalid else frames


def _labels(content: Mapping[str, Any], path: Path) -> dict[str, tuple[str, str | None]]:
    """Key and unit of labels; only arrays of HDF5 say their units themselves."""
    found, least = {}, 1 if path.suffix.lower() in (".h5", ".hdf5") else 2
    for name, value in content.items():
        entry = [value] if isinstance(value, str) else value
        if not (isinstance(entry, list) and all(isinstance(v, str) for v in entry)) or not (
            least <= len(entry) <= 2
        ):
            raise ValueError(
                f'[data] labels {name} must be [key, unit], such as ["mu", "e*Ang"], got {value!r}'
            )
        found[name] = (entry[0], entry[1] if len(entry) == 2 else None)
    return found


def _chosen(
    frames: Frames, parts: Mapping[str, Part], data: Data, folder: Path
) -> dict[str, np.ndarray]:
    """Indices of the parts that share a file."""
    indices: dict[str, np.ndarray] = {}
    drawn: dict[str, Part] = {}
    for name, part in parts.items():
        where = f"[data] {name}"
        if part.count is not None and part.fraction is not None:
            raise ValueError(f"{where}: give count or fraction, not both")
        if part.count is not None and part.count < 1:
            raise ValueError(f"{where}: count must be at least 1, got {part.count}")
        if part.fraction is not None and not 0 < part.fraction < 1:
            raise ValueError(f"{where}: fraction must lie between 0 and 1, got {part.fraction}")
        if part.count is not None or part.fraction is not None:
            drawn[name] = part
        elif part.split is not None:
            indices[name] = _named(frames, part, folder, where)
        elif len(parts) == 1:
            return {name: np.arange(len(frames))}
        else:
            raise ValueError(
                f"{where}: {' and '.join(parts)} are of one file: say a split, count or fraction"
            )
    for name in [name for name, part in drawn.items() if part.split is not None]:
        part, where = drawn.pop(name), f"[data] {name}"
        pool = np.setdiff1d(_named(frames, part, folder, where), _joined(indices))
        count = _number(part, len(pool))
        if count > len(pool):
            raise ValueError(
                f"{where}: {count} frames of {part.split!r} asked for, {len(pool)} left"
            )
        indices[name] = np.random.default_rng(data.seed).permutation(pool)[:count]
    if drawn:
        free = Subset(frames, np.setdiff1d(np.arange(len(frames)), _joined(indices)))
        counts = {n: _number(drawn[n], len(frames)) if n in drawn else 0 for n in _NAMES}
        split = _DRAWS[data.draw](free, *(counts[n] for n in _NAMES), seed=data.seed)
        indices |= {name: free.indices[getattr(split, name).indices] for name in drawn}
    return indices


def _number(part: Part, of: int) -> int:
    return part.count if part.count is not None else max(1, round((part.fraction or 0.0) * of))


def _joined(indices: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([*indices.values(), np.zeros(0, int)]).astype(int)


def _check_disjoint(indices: Mapping[str, np.ndarray]) -> None:
    names = list(indices)
    for place, one in enumerate(names):
        for other in names[place + 1 :]:
            if (shared := np.intersect1d(indices[one], indices[other])).size:
                raise ValueError(
                    f"[data] {one} and {other} must be disjoint, but share {shared.size} frames"
                )


def _named(frames: Frames, part: Part, folder: Path, where: str) -> np.ndarray:
    """Positions of the frames of a split, in its order."""
    name = part.split or ""
    array: Any = name
    if part.index_file is not None:
        path = _resolved(part.index_file, folder)
        arrays = read_archive(path, objects="skip")
        if name not in arrays:
            raise ValueError(
                f"{path}: no array {name!r}{nearest(name, arrays)}; there are: {', '.join(arrays)}"
            )
        array = np.asarray(arrays[name])
    if isinstance(frames, DatasetFrames):
        source = frames.dataset
        if isinstance(array, str) and array not in source.splits:
            raise ValueError(
                f"{where}: no index array {name!r} in {source.source}"
                f"{nearest(name, source.splits)}; there are: {', '.join(source.splits) or 'none'}"
            )
        chosen = splits.by_indices(source, array, test=()).train.indices
        place = np.full(source.source_length, -1)
        place[source.indices] = np.arange(len(source))
        return place[chosen]
    if isinstance(array, str):
        raise ValueError(f"{where}: only npz files hold index arrays: give index_file")
    return Subset(frames, array).indices


def _file_units(frames: Frames) -> dict[str, str]:
    """Units in which an npz file has its labels."""
    if not isinstance(frames, DatasetFrames):
        return {}
    energy, length = frames.dataset.energy_unit, frames.dataset.length_unit
    return {"energy": energy, "forces": f"{energy}/{length}"}
