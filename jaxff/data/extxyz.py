"""Extended XYZ: read through ASE with an explicit choice of keys, written in full precision."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxff import units
from jaxff.data.archive import write_atomic
from jaxff.data.dataset import Dataset
from jaxff.data.sgdml_format import fingerprint
from jaxff.data.validity import valid_frames
from jaxff.elements import symbols
from jaxff.quantities import quantity

_VOIGT = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])  # xx, yy, zz, yz, xz, xy


def read(
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
    index: Any = ":",
    drop: Any = (),
    skip_invalid: bool = False,
) -> Dataset:
    """Read frames of one composition and atom order; lengths become Å, energies eV.

    Cells of frames without any periodic direction carry no meaning and are left out.

    Args:
        path: An extended XYZ file.
        energy_key: Name of the energy in the comment lines (``"energy"``, ``"REF_energy"``, ...),
            or ``None`` for no energies.
        forces_key: Name of the column of forces, or ``None``.
        stress_key: Name of the stress (positive under tension; 6 Voigt or 9 components).
        virial_key: Name of the virial, minus volume times stress.
        labels: Further labels: name in :mod:`jaxff.quantities` to (key, unit).
        energy_unit: Unit of the energies; the format documents eV.
        length_unit: Unit of positions, cells and, with ``energy_unit``, of forces and stress.
        charge_key: Name of the total charge in e in the comment lines, read where it is there.
        spin_key: Name of the number of unpaired electrons (not of the multiplicity), likewise.
        index: Frames to read, as ASE understands it (``":100"``, ``"::10"``); frames are numbered
            from the first that is read.
        drop: Frames to leave out.
        skip_invalid: Leave out frames that are not finite or have two atoms at one point.

    Raises:
        ValueError: If a label is missing in some frame, or a charge or spin that others have,
            frames differ in composition, or the file cannot be parsed; the message names file and
            frame.
        FileNotFoundError: If there is no such file.
    """
    where = f"{path}: "
    ev, angstrom = units.to_ev(energy_unit), units.to_angstrom(length_unit)
    keys = {"energy": energy_key, "forces": forces_key, "stress": stress_key, "virial": virial_key}
    keys = {name: key for name, key in keys.items() if key is not None}
    factors = {"energy": ev, "virial": ev, "forces": ev / angstrom, "stress": ev / angstrom**3}
    for name, (key, unit) in (labels or {}).items():
        keys[name], factors[name] = key, quantity(name).factor(unit)
    frames = _frames(path, index, where)
    _same_composition(frames, where)
    raw = {name: _label(frames, name, key, where) for name, key in keys.items()}
    stored = np.stack([frame.positions for frame in frames])
    positions = stored * angstrom
    cell, pbc = _cells(frames, where)
    cell = None if cell is None else cell * angstrom
    values = {name: array * factors[name] for name, array in raw.items()}
    keep = valid_frames(
        *(positions, values, cell, pbc), drop=drop, skip_invalid=skip_invalid, where=where
    )
    charge, spin = (_total(frames, key, where) for key in (charge_key, spin_key))
    numbers = frames[0].numbers.astype(np.int64)
    return Dataset(
        numbers=numbers,
        positions=positions[keep],
        values={name: array[keep] for name, array in values.items()},
        cell=None if cell is None else cell[keep],
        pbc=pbc,
        charge=None if charge is None else charge[keep],
        spin=None if spin is None else spin[keep],
        name=os.path.splitext(os.path.basename(path))[0],
        energy_unit=energy_unit,
        length_unit=length_unit,
        indices=keep,
        source_length=len(frames),
        fingerprint=fingerprint(numbers, stored, raw.get("energy"), raw.get("forces")),
        source=str(path),
        skipped=np.setdiff1d(np.arange(len(frames)), keep),
    )


def _frames(path: str | os.PathLike, index: Any, where: str) -> list[Any]:
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{where}no such file")
    frames = parse(os.fspath(path), index, where)
    if not frames:
        empty = os.path.getsize(path) == 0
        raise ValueError(f"{where}{'the file is empty' if empty else f'no frames {index!r}'}")
    return frames


def parse(source: Any, index: Any, where: str) -> list[Any]:
    """Frames of a file or an open stream as ASE makes them; errors begin with ``where``."""
    import ase.io

    try:
        frames = ase.io.read(source, index=index, format="extxyz")
    except KeyError as error:
        raise ValueError(
            f"{where}not readable as extended XYZ: no element or column is called {error}"
        ) from error
    except (ValueError, IndexError, TypeError, OSError) as error:
        raise ValueError(f"{where}not readable as extended XYZ: {error}") from error
    except (RuntimeError, StopIteration) as error:  # ASE's reader meets the end of the file
        raise ValueError(f"{where}not readable as extended XYZ: a frame is cut short") from error
    except (AssertionError, SyntaxError, AttributeError) as error:
        raise ValueError(f"{where}not readable as extended XYZ: {error!r}") from error
    return frames if isinstance(frames, list) else [frames]


def _same_composition(frames: Sequence[Any], where: str) -> None:
    first = frames[0]
    for number, frame in enumerate(frames):
        if len(frame) != len(first):
            what = f"has {len(frame)} atoms, frame 0 has {len(first)}"
        elif sorted(frame.numbers) != sorted(first.numbers):
            what = f"is {frame.symbols}, frame 0 is {first.symbols}"
        elif not np.array_equal(frame.numbers, first.numbers):
            what = f"has the atoms in another order ({frame.symbols}) than frame 0"
        else:
            continue
        raise ValueError(
            f"{where}frame {number} {what}; one composition in one atom order is expected: split "
            "or sort the file"
        )


def _label(frames: Sequence[Any], name: str, key: str, where: str) -> np.ndarray:
    """The label in every frame, in file units."""
    found = [find(frame, key) for frame in frames]
    missing = [number for number, value in enumerate(found) if value is None]
    if missing:
        there = sorted({k for frame in frames for k in keys_of(frame)})
        raise ValueError(
            f"{where}{key!r} ({name}) is missing in {len(missing)} of {len(frames)} frames, first "
            f"frame {missing[0]}; labels in the file: {', '.join(there) or 'none'}"
        )
    atoms = len(frames[0])
    return np.stack(
        [
            shaped(value, name, atoms, f"{where}{key!r} ({name}) in frame {number}")
            for number, value in enumerate(found)
        ]
    )


def _total(frames: Sequence[Any], key: str | None, where: str) -> np.ndarray | None:
    """Total charge or unpaired electrons of every frame, unless none says it."""
    found = [None if key is None else frame.info.get(key) for frame in frames]
    missing = [number for number, value in enumerate(found) if value is None]
    if len(missing) == len(frames):
        return None
    if missing:
        raise ValueError(
            f"{where}{key!r} is missing in {len(missing)} of {len(frames)} frames, first frame "
            f"{missing[0]}: say it in every frame, or in none"
        )
    for number, value in enumerate(found):
        array = np.asarray(value)
        if array.size != 1 or array.dtype.kind not in "iuf" or not np.isfinite(array).all():
            raise ValueError(f"{where}{key!r} in frame {number} must be a number, got {value!r}")
    return np.array(found, np.float64).reshape(len(frames))


def shaped(value: Any, name: str, atoms: int, what: str) -> np.ndarray:
    """A label of one frame in the shape of its name; six components are Voigt's."""
    expected = quantity(name).dims(atoms)
    try:
        array = np.asarray(value, dtype=np.float64)
        if name in ("stress", "virial") and array.shape == (6,):
            array = array[_VOIGT]
        if array.shape != expected:  # flattened, or with an axis of one as JSON writes it
            array = array.reshape(expected)
    except (ValueError, TypeError):
        raise ValueError(
            f"{what} must be numbers of shape {expected}, got {np.shape(value)}"
        ) from None
    return array


def find(frame: Any, key: str) -> Any:
    """A label of one frame, wherever ASE has put it.

    ASE moves ``energy``, ``forces``, ``stress`` and some more out of ``info`` and ``arrays`` into
    an attached calculator; other names stay where they were.
    """
    for store in (frame.info, frame.arrays, frame.calc.results if frame.calc else {}):
        if key in store:
            return store[key]
    return None


def keys_of(frame: Any) -> list[str]:
    """Names of what one frame holds besides atoms and positions."""
    results = frame.calc.results if frame.calc else {}
    return [*frame.info, *results, *(k for k in frame.arrays if k not in ("numbers", "positions"))]


def _cells(frames: Sequence[Any], where: str) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Cells per frame in file units and the periodic directions."""
    pbc = np.array([frame.pbc for frame in frames])
    other = np.flatnonzero((pbc != pbc[0]).any(axis=1))
    if other.size:
        raise ValueError(
            f"{where}frame {other[0]} is periodic along {pbc[other[0]].tolist()}, frame 0 along "
            f"{pbc[0].tolist()}; split the file"
        )
    if not pbc.any():
        return None, None
    return np.stack([frame.cell.array for frame in frames]), pbc[0]


def write(path: str | os.PathLike, dataset: Dataset) -> None:
    """Write a data set as extended XYZ in eV and Å, in full or not at all.

    Numbers are written so that they are read back exactly; labels under their names in
    :mod:`jaxff.quantities`, ``energy``, ``forces`` and ``stress`` as ASE expects them.

    Args:
        path: The file to make or replace.
        dataset: The frames.
    """
    pieces = (frame_text(dataset, frame) for frame in range(len(dataset)))

    def emit(stream: Any) -> None:
        for piece in pieces:
            stream.write(piece.encode("utf-8"))

    write_atomic(path, emit)


def frame_text(dataset: Dataset, frame: int) -> str:
    """One frame of a data set as text; files are these one after another."""
    values = {name: array[frame] for name, array in dataset.values.items()}
    return format_frame(
        dataset.numbers,
        dataset.positions[frame],
        values,
        cell=None if dataset.cell is None else dataset.cell[frame],
        pbc=dataset.pbc,
        info={
            key: float(values[frame])
            for key, values in (("charge", dataset.charge), ("unpaired_electrons", dataset.spin))
            if values is not None
        },
    )


def format_frame(
    numbers: np.ndarray,
    positions: np.ndarray,
    values: Mapping[str, Any] | None = None,
    *,
    cell: np.ndarray | None = None,
    pbc: np.ndarray | None = None,
    info: Mapping[str, Any] | None = None,
) -> str:
    """One frame as extended XYZ, for data sets and trajectories.

    Args:
        numbers: Atomic numbers, ``(atoms,)``.
        positions: Coordinates in Å, ``(atoms, 3)``.
        values: Labels by name in eV, Å, e, or any other arrays; those with one row per atom become
            columns, others go to the comment line.
        cell: Lattice vectors as rows in Å.
        pbc: Periodic directions; with a cell, ``None`` means all three.
        info: Further numbers or words for the comment line.
    """
    atoms = len(numbers)
    columns, header = {"pos": np.asarray(positions, float)}, {}
    for name, value in (values or {}).items():
        array = np.asarray(value, float)
        if array.ndim and len(array) == atoms and not _is_global(name):
            columns[name] = array.reshape(atoms, -1)
        else:
            header[name] = array
    words = []
    if cell is not None:
        words.append(f'Lattice="{_numbers(cell)}"')
    shape = ":".join(f"{name}:R:{array.shape[1]}" for name, array in columns.items())
    words.append(f"Properties=species:S:1:{shape}")
    for name, value in {**header, **(info or {})}.items():
        if name in ("stress", "virial"):  # the format lists these by columns
            value = np.asarray(value).T
        text = str(value) if isinstance(value, str) else _numbers(value)
        words.append(f'{name}="{text}"' if " " in text else f"{name}={text}")
    periodic = np.zeros(3, bool) if cell is None else np.ones(3, bool) if pbc is None else pbc
    words.append('pbc="{} {} {}"'.format(*("T" if p else "F" for p in np.asarray(periodic))))
    table = np.concatenate(list(columns.values()), axis=1)
    lines = [
        f"{symbol} {_numbers(row)}" for symbol, row in zip(symbols(numbers), table, strict=True)
    ]
    return "\n".join([str(atoms), " ".join(words), *lines]) + "\n"


def _is_global(name: str) -> bool:
    """Whether a known label belongs to the structure, whatever its length."""
    try:
        return not quantity(name).per_atom
    except ValueError:
        return False


def _numbers(value: Any) -> str:
    """Shortest decimals that are read back as the same float64, row by row."""
    return " ".join(map(repr, np.asarray(value, float).reshape(-1).tolist()))
