"""The geometry that a command starts from, and the report of a run."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from jaxff import dynamics, report
from jaxff.cli.console import say, warn
from jaxff.cli.files import LoadedModel, Reading, kind, read_data, with_totals
from jaxff.data import Dataset, extxyz, poscar
from jaxff.elements import impossible_spin
from jaxff.system import System
from jaxff.vibrations import NormalModes, modes_of

__all__ = ["Start", "about_model", "command_line", "marked_modes", "read_start", "write_report"]

_SMALL = 30  # atoms of a molecule whose modes a report computes on its own


@dataclass(frozen=True)
class Start:
    """A geometry and where it is from."""

    system: System
    dataset: Dataset
    frame: int

    @property
    def place(self) -> str:
        """File and frame, for messages."""
        return f"frame {self.dataset.indices[self.frame]} of {self.dataset.source}"


def read_start(
    path: Path, reading: Reading, model: LoadedModel, frame: int | None, *, quiet: bool = False
) -> Start:
    """A frame of a data set, of an extended XYZ file that need not have labels, or a POSCAR.

    Without a number, the frame of lowest energy where the file has energies, and the first frame
    where it has none; it is named unless ``quiet``.

    Raises:
        ValueError: If there is no such frame, or the model is made for other atoms.
        FileNotFoundError: If there is no such file.
    """
    found = kind(path)
    if found == "poscar":
        data = poscar.read(path)
    elif found == "xyz" and reading.energy_key is None and reading.forces_key is None:
        data = extxyz.read(
            path,
            energy_key=None,
            forces_key=None,
            length_unit=reading.length_unit or "Ang",
            skip_invalid=reading.skip_invalid,
            **reading.keys_of_totals,
        )
    else:
        data = read_data(path, reading)
    data = with_totals(data, reading)
    model.check_atoms(data)
    if frame is not None and not 0 <= frame < len(data):
        raise ValueError(f"--frame must be 0 to {len(data) - 1}, got {frame}")
    chosen = 0 if frame is None else frame
    if frame is None and "energy" in data.values:
        chosen = int(np.argmin(data.values["energy"]))
        if not quiet:
            place = f"frame {data.indices[chosen]}, the lowest in energy of {data.source}"
            say(f"Starting from {place}.")
    elif frame is None and len(data) > 1 and not quiet:
        warn(f"{data.source} was read without energies: starting from frame 0 (--frame)")
    system = jax.tree.map(lambda leaf: leaf[0], data[[chosen]].systems)
    if {"charge", "spin"} <= model.potential.uses:
        assert system.charge is not None  # check_atoms
        assert system.spin is not None
        if problem := impossible_spin(system.numbers, system.charge, system.spin):
            warn(problem)
    return Start(system, data, chosen)


def command_line() -> str:
    """The command as it was typed."""
    return shlex.join(["jaxff", *sys.argv[1:]])


def about_model(path: Path, model: LoadedModel) -> dict[str, str]:
    """What a model is and what it was fitted to, as rows of a table."""
    rows = {"Model": str(path)}
    about = model.provenance
    if about is None:
        return rows
    rows["Fitted to"] = (
        f"{len(about.train_indices)} frames of {about.dataset_name}, {about.dataset_theory}"
    )
    if about.train_fingerprint:
        rows["Fingerprint of the data"] = about.train_fingerprint
    if error := about.force_error:
        rows["Validation forces"] = ", ".join(
            f"{name.upper()} {1e3 * value:.3g} meV/Å" for name, value in error.items()
        )
    return rows


def marked_modes(model: LoadedModel, system: System) -> NormalModes | None:
    """Normal modes at the minimum next to a geometry, of a small molecule."""
    periodic = system.pbc is not None and bool(np.any(np.asarray(system.pbc)))
    if periodic or not 1 < system.atom_count <= _SMALL:
        return None
    found = dynamics.relax(model.energy_fn, system, max_force=1e-4, max_steps=2000)
    if found.max_force > 0.01:
        return None  # no minimum nearby: modes would mean nothing
    return modes_of(model.energy_fn, found.system)


def write_report(
    folder: Path,
    path: Path,
    model: LoadedModel,
    start: System,
    about: dict[str, str],
    thermostat: float | None = None,
) -> None:
    """Write report.html into the folder of a run, and say so.

    Args:
        folder: Of the run.
        path: Of the model.
        model: The model.
        start: Where the run began.
        about: What else to say of the run, by name.
        thermostat: Its temperature in K.
    """
    rows = {"Command": command_line(), **about_model(path, model), **about}
    try:
        written = report.write_run(
            folder, about=rows, modes=lambda: marked_modes(model, start), target=thermostat
        )
    except (ValueError, OSError, ArithmeticError) as error:
        warn(f"no report was written: {error}")  # the run itself is safe
        return
    say(f"Wrote {written}.")
