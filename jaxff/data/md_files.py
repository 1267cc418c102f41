"""Trajectories of molecular dynamics programs with forces, through MDAnalysis.

Reference:
    Gowers et al., Proc. 15th Python in Science Conf. 98 (2016),
    doi:10.25080/Majora-629e541a-00e.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from jaxff import elements, units
from jaxff.data.dataset import Dataset

__all__ = ["read_md"]


def read_md(path: str | os.PathLike, topology: str | os.PathLike) -> Dataset:
    """Read positions and forces; MDAnalysis converts them to Å and kJ/mol/Å, here to eV/Å.

    Molecules must be whole.

    Args:
        path: A trajectory with forces, such as ``.trr`` of GROMACS.
        topology: A file that names the atoms, such as ``.gro``, ``.pdb`` or ``.prmtop``.

    Raises:
        ImportError: Without MDAnalysis.
        ValueError: If there are no forces, or elements of atoms are not known.
        FileNotFoundError: If one of the files is missing.
    """
    for each in (path, topology):
        if not os.path.isfile(each):
            raise FileNotFoundError(f"{each}: no such file")
    universe = _mdanalysis().Universe(os.fspath(topology), os.fspath(path))
    if not universe.trajectory.ts.has_forces:
        raise ValueError(
            f"{path}: the trajectory has no forces: write them in the simulation (GROMACS: nstfout "
            "= nstxout, file .trr), or compute them again"
        )
    places, forces = [], []
    for frame in universe.trajectory:
        places.append(frame.positions.astype(np.float64))
        forces.append(frame.forces.astype(np.float64))
    return Dataset(
        _numbers(universe, topology),
        np.array(places),
        {"forces": np.array(forces) * units.KJ_PER_MOL},
        source=str(path),
        energy_unit="kJ/mol",
    )


def _mdanalysis() -> Any:
    try:
        import MDAnalysis  # type: ignore[import-not-found]
    except ImportError as error:
        raise ImportError(
            "trajectories of MD programs are read by MDAnalysis: pip install 'jaxff[trajectories]'"
        ) from error
    return MDAnalysis


def _numbers(universe: Any, topology: Any) -> np.ndarray:
    """Atomic numbers, from the elements of the topology, or guessed from the names of atoms."""
    if not hasattr(universe.atoms, "elements") or not all(universe.atoms.elements):
        universe.guess_TopologyAttrs(to_guess=["elements"], force_guess=["elements"])
    names = [str(name).capitalize() for name in universe.atoms.elements]
    try:
        return elements.atomic_numbers(names)
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"{topology}: elements of the atoms are not known ({error}): take a topology that says "
            "them, such as .pdb"
        ) from error
