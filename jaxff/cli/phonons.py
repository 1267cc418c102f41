"""``jaxff phonons``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from jaxff import report, vibrations
from jaxff.cli.console import progress, say, warn
from jaxff.cli.files import Count, ModelUnits, Name, Reading, formula, load_model
from jaxff.cli.start import about_model, command_line, read_start
from jaxff.data.archive import write_atomic
from jaxff.kernels import primitive_cell
from jaxff.system import System

__all__ = ["phonons"]


def phonons(
    model: tyro.conf.Positional[Path],
    /,
    *,
    start: Path,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    frame: Count = None,
    path: Name = None,
    points: int = 200,
    average: bool = False,
    tolerance: float = 1e-3,
    reading: Reading,
    model_units: ModelUnits,
) -> None:
    """Phonons of a supercell from the exact Hessian.

    They are exact at the wave vectors that repeat with the supercell, and interpolated elsewhere.
    Writes phonons.json (frequencies in THz at the exact points and along a path) and phonons.png
    into a folder. The primitive cell is found by spglib.

    Args:
        model: Model file, .npz (sGDML) or .safetensors (jaxff).
        start: Ideal supercell, relaxed (jaxff relax): POSCAR, extended XYZ or data set.
        output: Folder to write to.
        frame: Frame of the file, counted from 0.
        path: Points of high symmetry, such as GXWKGL; by default the usual ones of the lattice.
        points: Wave vectors along the path.
        average: Take the mean over atoms that translations make equal, for models that are not
            invariant under these.
        tolerance: How far atoms may be from ideal positions, in Å.
        reading: How to read the data file.
        model_units: Units of old model files.
    """
    if output.exists() and not output.is_dir():
        raise FileExistsError(f"{output}: the output is a folder, but a file has this name")
    loaded = load_model(model, model_units)
    began = read_start(start, reading, loaded, frame)
    say(f"{formula(began.dataset.numbers)}, {began.place}")
    cell = primitive_cell(began.system, tolerance=tolerance)
    crystal = vibrations.supercell_of(began.system, cell, tolerance=tolerance)
    gaps = _vacuum(began.system, crystal)
    for vector, gap in gaps.items():
        say(f"{gap:.1f} Å of vacuum along vector {vector + 1}: the path stays normal to it.")
    pbc = [repeats and k not in gaps for k, repeats in enumerate(np.asarray(crystal.pbc).tolist())]
    way = vibrations.band_path(crystal.cell, path, pbc=pbc if path is None else crystal.pbc,
                               points=points)  # fmt: skip
    with progress("computing the Hessian"):
        found = vibrations.phonons(
            loaded.energy_fn, began.system, cell, average=average, tolerance=tolerance,
            max_force=float("inf"),
        )  # fmt: skip
    if found.largest_force > 0.01:
        warn(
            f"the largest force is {found.largest_force:.2g} eV/Å: phonons of no minimum mean "
            "little (jaxff relax)"
        )
    way = vibrations.through_points(way, found.commensurate_points)
    exact, along = found.modes(found.commensurate_points), found.modes(way.points)
    say(_text(found, exact, along))
    record = {
        "command": command_line(),
        **{name.lower().replace(" ", "_"): v for name, v in about_model(model, loaded).items()},
        "start": began.place,
        **_record(found, exact, along, way),
    }
    output.mkdir(parents=True, exist_ok=True)
    content = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    write_atomic(output / "phonons.json", lambda stream: stream.write(content.encode()))
    report.save(output / "phonons.png", report.bands(along, way))
    say(f"\nWrote phonons.json, phonons.png into {output}.")


_VACUUM = 8.0
"""Å without atoms along a lattice vector, across which a crystal is taken for a slab."""


def _vacuum(system: System, crystal: vibrations.Supercell) -> dict[int, float]:
    """Gaps between layers of atoms along repeating vectors of the primitive cell, if wide."""
    inverse = np.linalg.inv(crystal.cell)
    places = np.sort(np.asarray(system.positions, float) @ inverse % 1.0, axis=0)
    around = np.concatenate([places, places[:1] + 1.0])
    gaps = np.diff(around, axis=0).max(axis=0) / np.linalg.norm(inverse, axis=0)
    wide = (gaps > _VACUUM) & np.asarray(crystal.pbc)
    return {int(k): float(gaps[k]) for k in np.flatnonzero(wide)}


def _text(
    found: vibrations.Phonons, exact: vibrations.PhononModes, along: vibrations.PhononModes
) -> str:
    crystal = found.crystal
    gamma = exact.frequencies[np.argmin(np.abs(exact.points).sum(axis=1))]
    acoustic = ", ".join(f"{x + 0.0:.4f}" for x in gamma[np.argsort(np.abs(gamma))[:3]])
    lines = [
        f"{crystal.count} primitive cells of {len(found.masses)} atoms: exact at "
        f"{crystal.count} wave vectors, interpolated elsewhere.",
        f"Acoustic modes at Γ: {acoustic} THz (sum rule violated by {found.sum_rule:.1e} eV/Å², "
        "not imposed).",
        f"Highest frequency: {max(exact.frequencies.max(), along.frequencies.max()):.4f} THz.",
    ]
    lowest = min(exact.frequencies.min(), along.frequencies.min())
    if lowest < -0.05:
        where = "" if exact.frequencies.min() < -0.05 else ", at interpolated wave vectors only"
        lines.append(f"Imaginary frequencies down to {-lowest:.3g}i THz{where}.")
    return "\n".join(lines)


def _record(
    found: vibrations.Phonons,
    exact: vibrations.PhononModes,
    along: vibrations.PhononModes,
    way: vibrations.BandPath,
) -> dict[str, Any]:
    return {
        "primitive_cell_A": found.crystal.cell.tolist(),
        "supercell_in_primitive_vectors": found.crystal.repeats.tolist(),
        "masses_amu": found.masses.tolist(),
        "largest_force_eV_per_A": found.largest_force,
        "sum_rule_eV_per_A2": found.sum_rule,
        "asymmetry_eV_per_A2": found.asymmetry,
        "exact": {"points": exact.points.tolist(), "frequencies_THz": exact.frequencies.tolist()},
        "path": {
            "labels": list(way.labels),
            "places_per_A": way.places.tolist(),
            "distances_per_A": way.distances.tolist(),
            "points": along.points.tolist(),
            "exact": along.exact.tolist(),
            "frequencies_THz": along.frequencies.tolist(),
        },
    }
