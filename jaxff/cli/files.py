"""Data sets and models of the command line, whatever their format."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from jaxff import elements, io
from jaxff.cell import lattice_norms
from jaxff.cli.console import warn
from jaxff.data import Dataset, extxyz, npz
from jaxff.data.archive import members
from jaxff.data.poscar import is_poscar
from jaxff.elements import formula
from jaxff.gdml.potential import OTHER_CELL, KernelPotential
from jaxff.interfaces import sgdml
from jaxff.potential import Bound, Potential, bind
from jaxff.types import Params

__all__ = [
    "LoadedModel",
    "ModelUnits",
    "Reading",
    "check_output",
    "formula",
    "is_model",
    "kind",
    "load_model",
    "read_data",
    "with_totals",
]

Count = Annotated[int | None, tyro.conf.arg(metavar="N")]
Number = Annotated[float | None, tyro.conf.arg(metavar="X")]
Name = Annotated[str | None, tyro.conf.arg(metavar="NAME")]
Output = Annotated[Path | None, tyro.conf.arg(metavar="PATH")]
Unit = Annotated[str | None, tyro.conf.arg(metavar="UNIT")]

_XYZ = (".xyz", ".extxyz")

_OTHER_CELL = 0.3
"""Relative change of a squared lattice vector that no model of several cells spans."""


@dataclass(frozen=True)
class Reading:
    """How to read the data file."""

    energy_key: Name = None
    """Name of the energies in the file; npz files: E unless said otherwise."""
    forces_key: Name = None
    """Name of the forces in the file; npz files: F unless said otherwise."""
    energy_unit: Unit = None
    """Unit of the energies (kcal/mol, eV, hartree, ...) where the file does not say it."""
    length_unit: Unit = None
    """Unit of the positions (Ang, bohr, ...) where the file does not say it."""
    forces_unit: Unit = None
    """Unit of the forces, if it is not energy unit per length unit."""
    charge_key: Name = None
    """Name of the total charge in e in extended XYZ: charge unless said otherwise."""
    spin_key: Name = None
    """Name of the number of unpaired electrons in extended XYZ: unpaired_electrons unless said
    otherwise."""
    charge: Number = None
    """Total charge in e where the file does not say it, for models that read it."""
    spin: Number = None
    """Number of unpaired electrons where the file does not say it, for models that read it."""
    skip_invalid: bool = False
    """Leave out frames that are not finite or have two atoms at one point, instead of refusing."""

    @property
    def totals(self) -> dict[str, float]:
        """Charge and spin of frames that do not say them."""
        given = {"charge": self.charge, "spin": self.spin}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def keys_of_totals(self) -> dict[str, Any]:
        """Names of charge and spin in extended XYZ, where they are not the usual ones."""
        given = {"charge_key": self.charge_key, "spin_key": self.spin_key}
        return {name: key for name, key in given.items() if key is not None}


@dataclass(frozen=True)
class ModelUnits:
    """Units of old model files."""

    model_energy_unit: Unit = None
    """Unit of energy of the model, where its file does not say it."""
    model_length_unit: Unit = None
    """Unit of length of the model, where its file does not say it."""


@dataclass(frozen=True)
class LoadedModel:
    """A model file: potential, parameters, and where it comes from if the file says so."""

    potential: Potential
    params: Params
    provenance: sgdml.Provenance | None

    @property
    def energy_fn(self) -> Bound:
        """The energy function."""
        return bind(self.potential, self.params)

    @property
    def is_kernel(self) -> bool:
        """Whether it is a kernel, which is made for certain atoms."""
        return isinstance(self.potential, KernelPotential)

    @property
    def numbers(self) -> np.ndarray | None:
        """Atomic numbers that a kernel is made for; ``None`` if it takes any."""
        if not isinstance(self.potential, KernelPotential):
            return None
        return np.asarray(self.params["numbers"])

    def check_atoms(self, data: Dataset) -> None:
        """Refuse data of other atoms, or in another cell, than the model's.

        And data that do not say a charge or spin that the model reads.

        Raises:
            ValueError: Naming both.
        """
        if self.numbers is not None and not np.array_equal(self.numbers, data.numbers):
            raise ValueError(
                f"the model is made for {_difference(self.numbers, data.numbers)} of "
                f"{data.source or data.name}: give the same atoms in the same order"
            )
        for name in sorted({"charge", "spin"} & self.potential.uses):
            if getattr(data, name) is None:
                what = {"charge": "total charge", "spin": "number of unpaired electrons"}[name]
                raise ValueError(
                    f"the model reads the {what}, which {data.source or data.name} does not say: "
                    f"give --{name}"
                )
        cell = self.params.get("cell") if isinstance(self.potential, KernelPotential) else None
        if cell is None or data.cell is None:
            return
        limit = OTHER_CELL if "one_cell" in self.params else _OTHER_CELL
        pbc = jnp.asarray(np.ones(3, bool) if data.pbc is None else data.pbc)
        norms = jax.vmap(lattice_norms, (0, None))
        made, own = norms(cell[None], pbc), np.asarray(norms(jnp.asarray(data.cell), pbc))
        apart = np.max(np.abs(own - made) / np.asarray(made), axis=1)
        if apart.max() > limit:
            frame = int(np.argmax(apart))
            raise ValueError(
                f"the model is made for the cell {np.round(cell, 3).tolist()} Å, but frame "
                f"{data.indices[frame]} of {data.source or data.name} has "
                f"{np.round(data.cell[frame], 3).tolist()}, another lattice: train on such cells, "
                "or take others"
            )


def _difference(expected: np.ndarray, got: np.ndarray) -> str:
    """How two lists of atoms differ, in few words however long they are."""
    whole = f"{formula(expected)} ({len(expected)} atoms)"
    if not np.array_equal(np.sort(expected), np.sort(got)):
        return f"{whole}, not for the {formula(got)} ({len(got)} atoms)"
    atom = int(np.argmax(expected != got))
    wanted, found = symbols(expected[[atom]]), symbols(got[[atom]])
    return f"{whole} with {wanted} as atom {atom}, counted from 0, not for the {found} there"


def symbols(numbers: Any) -> str:
    """Element symbols in their order, such as ``"C C O H H H H H H"``."""
    return " ".join(elements.symbols(numbers))


def kind(path: Path) -> str:
    """``"npz"``, ``"xyz"``, ``"safetensors"`` or ``"poscar"``, by name.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the suffix is another one.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: {'a folder' if path.is_dir() else 'no such file'}")
    if is_poscar(path):
        return "poscar"
    suffix = path.suffix.lower()
    if suffix in _XYZ:
        return "xyz"
    if suffix in (".npz", ".safetensors"):
        return suffix[1:]
    raise ValueError(
        f"{path}: expected a file .npz, .xyz, .extxyz, .safetensors or POSCAR, got "
        f"{suffix or 'no suffix'}"
    )


def with_totals(data: Dataset, reading: Reading) -> Dataset:
    """With the charge and spin that were given, where the file does not say them."""
    named: dict[str, Any] = {n: v for n, v in reading.totals.items() if getattr(data, n) is None}
    return replace(data, **named) if named else data


def read_data(path: Path, reading: Reading) -> Dataset:
    """Read a data set in either format.

    Raises:
        ValueError: If the file is no data set, or keys or units are missing.
        FileNotFoundError: If there is no such file.
    """
    return with_totals(_read(path, reading), reading)


def _read(path: Path, reading: Reading) -> Dataset:
    found = kind(path)
    if found == "safetensors":
        raise ValueError(f"{path}: expected a data set, but the file is a model")
    if found == "poscar":
        raise ValueError(f"{path}: expected a data set with labels, but a POSCAR holds none")
    if found == "npz":
        return npz.read(
            path,
            energy_key=reading.energy_key,
            forces_key=reading.forces_key,
            energy_unit=reading.energy_unit,
            length_unit=reading.length_unit,
            forces_unit=reading.forces_unit,
            skip_invalid=reading.skip_invalid,
        )
    if reading.energy_key is None and reading.forces_key is None:
        raise ValueError(
            f"{path}: extended XYZ has no fixed names: say --energy-key and --forces-key"
        )
    if reading.energy_unit is None or reading.length_unit is None:
        warn(
            f"{path}: extended XYZ does not state units; eV and Å are assumed, as ASE writes them "
            "(otherwise say --energy-unit, --length-unit)"
        )
    labels = {}
    if reading.forces_unit is not None and reading.forces_key is not None:
        labels["forces"] = (reading.forces_key, reading.forces_unit)
    return extxyz.read(
        path,
        energy_key=reading.energy_key,
        forces_key=reading.forces_key,
        labels=labels,
        energy_unit=reading.energy_unit or "eV",
        length_unit=reading.length_unit or "Ang",
        skip_invalid=reading.skip_invalid,
        **reading.keys_of_totals,
    )


def is_model(path: Path) -> bool:
    """Whether a file is a model of either format, as far as its names tell."""
    if path.suffix.lower() == ".safetensors":
        return True
    try:
        return "R_desc" in members(path)
    except ValueError:
        return False


def load_model(path: Path, units: ModelUnits) -> LoadedModel:
    """Load a model in either format.

    Raises:
        ValueError: If the file is no model.
        FileNotFoundError: If there is no such file.
    """
    found = kind(path)
    if found in ("xyz", "poscar"):
        raise ValueError(f"{path}: expected a model, but the file is a data set")
    if found == "safetensors":
        potential, params = io.load(path)
        return LoadedModel(potential, params, None)
    if "R" in (names := members(path)) and "R_desc" not in names:
        raise ValueError(f"{path}: expected a model, but the file is a data set")
    model = sgdml.read(
        path, energy_unit=units.model_energy_unit, length_unit=units.model_length_unit
    )
    return LoadedModel(model.potential, model.params, model.provenance)


def check_output(path: Path, suffixes: tuple[str, ...], inputs: tuple[Path, ...] = ()) -> None:
    """Refuse an output that could not be written, before the work is done.

    Raises:
        ValueError: For another suffix, or one of the files that are read.
        OSError: If the folder does not exist or cannot be written to.
    """
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"{path}: the output must end in {' or '.join(suffixes)}")
    if path.exists() and any(path.samefile(each) for each in inputs if each.exists()):
        raise ValueError(f"{path}: is read, and would be overwritten: choose another output")
    folder = path.parent
    if path.is_dir() or not folder.is_dir():
        raise FileNotFoundError(f"{path}: {'is a folder' if path.is_dir() else 'no such folder'}")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{folder}: not writable")
