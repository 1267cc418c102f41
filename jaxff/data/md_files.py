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

    Molecules must be whole: bonds are looked for in the first frame, across the box.

    Args:
        path: A trajectory with forces, such as ``.trr`` of GROMACS.
        topology: A file that names the atoms, such as ``.gro``, ``.pdb`` or ``.prmtop``.

    Raises:
        ImportError: Without MDAnalysis.
        ValueError: If frames have no forces, or of an unknown unit, bonds are cut by the box,
            elements of atoms are not known, or a file cannot be read.
        FileNotFoundError: If one of the files is missing.
    """
    for each in (path, topology):
        if not os.path.isfile(each):
            raise FileNotFoundError(f"{each}: no such file")
    try:
        universe = _mdanalysis().Universe(os.fspath(topology), os.fspath(path))
    except (ValueError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path} with {topology}: MDAnalysis cannot read it: {reason}") from error
    if universe.trajectory.ts.has_forces and not universe.trajectory.units.get("force"):
        raise ValueError(
            f"{path}: the unit of the forces is not known in files of this format: convert them to "
            "extended XYZ or npz, with their unit"
        )
    places, forces, bonds = [], [], None
    for frame in universe.trajectory:
        if not frame.has_forces:
            raise ValueError(
                f"{path}: frame {frame.frame} has no forces: write them with all positions "
                "(GROMACS: nstfout = nstxout, file .trr), or compute them again"
            )
        bonds = _bonds(frame) if bonds is None else bonds
        _check_whole(frame, bonds, path)
        places.append(frame.positions.astype(np.float64))
        forces.append(frame.forces.astype(np.float64))
    return Dataset(
        _numbers(universe, topology),
        np.array(places),
        {"forces": np.array(forces) * units.KJ_PER_MOL},
        source=str(path),
        energy_unit="kJ/mol",
    )


_BOND = 2.0
"""Å, within which two atoms of the first frame count as bonded."""


def _bonds(frame: Any) -> np.ndarray:
    """Pairs of near atoms, across the box if there is one."""
    from MDAnalysis.lib.distances import self_capped_distance  # type: ignore[import-not-found]

    found = self_capped_distance(frame.positions, _BOND, box=_box(frame))
    return np.asarray(found[0], int).reshape(-1, 2)


def _box(frame: Any) -> np.ndarray | None:
    """Lengths and angles of the box; files without one may say that it has no size."""
    box = frame.dimensions
    return None if box is None or not np.all(np.asarray(box)[:3] > 0) else box


def _check_whole(frame: Any, bonds: np.ndarray, path: Any) -> None:
    """Refuse molecules that the box cuts: two atoms are near across it, and far apart in space."""
    from MDAnalysis.lib.distances import calc_bonds  # type: ignore[import-not-found]

    if _box(frame) is None or not len(bonds):
        return
    first, second = (frame.positions[bonds[:, k]] for k in (0, 1))
    far = calc_bonds(first, second) - calc_bonds(first, second, box=_box(frame))
    if far.max() > 1.0:
        i, j = bonds[int(np.argmax(far))]
        raise ValueError(
            f"{path}: in frame {frame.frame} atoms {i} and {j} are bonded across the box: make "
            "molecules whole (GROMACS: trjconv -pbc whole), beads move in free space"
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
