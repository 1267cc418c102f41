"""``jaxff relax``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from jaxff import dynamics, elements
from jaxff.cli.console import progress, say, warn
from jaxff.cli.files import (
    Count,
    LoadedModel,
    ModelUnits,
    Reading,
    check_output,
    formula,
    load_model,
)
from jaxff.cli.start import read_start
from jaxff.data.archive import write_atomic
from jaxff.dynamics import Relaxation
from jaxff.system import System

__all__ = ["format_geometry", "relax", "relax_with_bar"]


def relax(
    model: tyro.conf.Positional[Path],
    /,
    *,
    start: Path,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    frame: Count = None,
    method: Literal["lbfgs", "fire"] = "lbfgs",
    max_force: float = 1e-3,
    steps: int = 1000,
    cell: Literal["fixed", "isotropic", "full"] = "fixed",
    pressure: float = 0.0,
    max_stress: float = 0.01,
    max_step: float = 0.2,
    reading: Reading,
    model_units: ModelUnits,
) -> None:
    """Relax a geometry to a minimum of the energy, and its cell if asked.

    The best geometry found is written even where the tolerances were not reached.

    Args:
        model: Model file, .npz (sGDML) or .safetensors (jaxff).
        start: Data set or extended XYZ to start from: its frame of lowest energy, or --frame.
        output: The relaxed geometry, extended XYZ with energy (eV) and forces (eV/Å).
        frame: Frame of the file to start from, counted from 0.
        method: lbfgs (few steps) or fire (robust far from a minimum).
        max_force: Largest force that any atom may keep, in eV/Å.
        steps: Most evaluations of energy and forces.
        cell: fixed; isotropic scales the cell; full also shears it, along its periodic directions.
        pressure: External pressure in GPa, for a cell that relaxes.
        max_stress: Largest stress that a relaxing cell may keep, in GPa.
        max_step: Farthest that an atom moves in one step, in Å.
        reading: How to read the data file.
        model_units: Units of old model files.
    """
    check_output(output, (".xyz", ".extxyz"), (start, model))
    if steps < 1:
        raise ValueError(f"--steps must be at least 1, got {steps}")
    loaded = load_model(model, model_units)
    began = read_start(start, reading, loaded, frame)
    say(f"{formula(began.dataset.numbers)}, {began.place}, {method}")
    found = relax_with_bar(
        loaded,
        began.system,
        optimizer=method,
        max_force=max_force,
        max_steps=steps,
        cell=cell,
        pressure=pressure,
        max_stress=max_stress,
        max_step=max_step,
    )
    say(describe(found, began.system))
    if not found.converged:
        warn(f"not converged ({found.reason}): the best geometry seen is written")
    text = format_geometry(found)
    write_atomic(output, lambda stream: stream.write(text.encode()))
    say(f"Wrote {output}.")


def relax_with_bar(model: LoadedModel, system: System, **options: Any) -> Relaxation:
    """:func:`jaxff.dynamics.relax` with a bar on a terminal."""
    with progress("relaxing", max(1, options["max_steps"])) as bar:
        return dynamics.relax(
            model.energy_fn, system, progress=lambda done, *_: bar(done), **options
        )


def describe(found: Relaxation, start: System) -> str:
    """What a relaxation did, in lines with units."""
    drop = found.energies[0] - found.energies.min()
    lines = [
        f"{found.reason} after {found.steps} evaluations",
        f"energy         {found.energy:.6f} eV ({1e3 * drop:.3f} meV below the start)",
        f"largest force  {found.max_force:.2e} eV/Å (at the start {found.max_forces[0]:.2e})",
    ]
    if found.max_stress is not None:
        before, after = (abs(np.linalg.det(np.asarray(s.cell))) for s in (start, found.system))
        lines += [
            f"stress         {found.max_stress:.2e} GPa away from the external pressure",
            f"volume         {after:.4f} Å³ (at the start {before:.4f})",
        ]
    return "\n".join(lines)


def format_geometry(found: Relaxation) -> str:
    """One frame of extended XYZ with energy and forces (and stress), as ASE reads it."""
    system = found.system
    header = []
    if system.cell is not None:
        lattice = " ".join(repr(x) for x in np.asarray(system.cell, float).ravel().tolist())
        header.append(f'Lattice="{lattice}"')
    pbc = np.zeros(3, bool) if system.pbc is None else np.asarray(system.pbc)
    for name, value in (("charge", system.charge), ("unpaired_electrons", system.spin)):
        if value is not None:
            header.append(f"{name}={float(value)!r}")
    header += [
        "Properties=species:S:1:pos:R:3:forces:R:3",
        f"energy={found.energy!r}",
        f'pbc="{" ".join("FT"[int(p)] for p in pbc)}"',
    ]
    if found.stress is not None:
        values = " ".join(repr(x) for x in np.asarray(found.stress, float).ravel().tolist())
        header.append(f'stress="{values}"')
    columns = np.concatenate([np.asarray(system.positions), np.asarray(found.forces)], axis=1)
    line = "%-2s" + " %18.10f" * 6
    names = elements.symbols(np.asarray(system.numbers))
    rows = [line % (name, *row) for name, row in zip(names, columns.tolist(), strict=True)]
    return "\n".join([str(len(names)), " ".join(header), *rows, ""])
