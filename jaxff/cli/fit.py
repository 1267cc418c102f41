"""``jaxff fit``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from jaxff import io, units
from jaxff.cli.console import say, warn
from jaxff.cli.crystal import descriptor_of_pairs
from jaxff.cli.files import Reading, check_output, formula, is_model, read_data
from jaxff.cli.selection import Selection, select
from jaxff.cli.solving import Solving, write_record
from jaxff.cli.training import Fitting, report_errors, train_model
from jaxff.data import Dataset, consistency, implausible_lengths
from jaxff.descriptors import inverse_distances
from jaxff.interfaces import sgdml
from jaxff.linalg.memory import format_bytes
from jaxff.potential import bind
from jaxff.training import table
from jaxff.training.metrics import unit_symbol

__all__ = ["check_consistency", "describe", "fit"]


def fit(
    data: tyro.conf.Positional[Path],
    /,
    *,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    selection: Selection,
    fitting: Fitting,
    solving: Solving,
    reading: Reading,
    json: Path | None = None,
    allow_inconsistent: bool = False,
) -> None:
    """Fit an sGDML model to the forces of a data set.

    Args:
        data: Data set: sGDML .npz, or extended XYZ with --energy-key and --forces-key.
        output: Where to write the model: .npz (format of sGDML) or .safetensors (format of jaxff).
        selection: Which frames to use.
        fitting: The kernel and its regularization.
        solving: The solver of the linear system.
        reading: How to read the data file.
        json: Where to write what the solve took: solver, rank, iterations, residual, seconds, peak
            memory.
        allow_inconsistent: Go on although energies contradict forces.
    """
    check_output(output, (".npz", ".safetensors"), (data,))
    if output.exists() and not is_model(output):
        raise FileExistsError(f"{output}: exists, and is no model: choose another output")
    if fitting.symmetry == "crystal" and output.suffix.lower() == ".npz":
        raise ValueError(
            f"{output}: the format of sGDML holds no smooth descriptor of a crystal: write a "
            ".safetensors file"
        )
    if json is not None:
        check_output(json, (".json",))
    if any(not 0 < scale < float("inf") for scale in fitting.lengthscale):
        raise ValueError(f"--lengthscale must be positive, got {fitting.lengthscale}")
    dataset = read_data(data, reading)
    say(describe(dataset))
    check_consistency(dataset, allow_inconsistent)
    if unlikely := implausible_lengths(dataset):
        warn(unlikely)
    parts = select(dataset, selection)
    if not 0 < fitting.tolerance < float("inf"):
        raise ValueError(f"--tolerance must be positive, got {fitting.tolerance}")
    crystal = fitting.symmetry == "crystal"  # which has a descriptor of its own
    descriptor = inverse_distances if crystal else descriptor_of_pairs(dataset, output)
    model, params, about, trial = train_model(
        dataset, parts, fitting, solving, selection.seed, descriptor
    )
    if len(parts.test):
        report = report_errors(bind(model, params), parts.test)
        say(table(report, f"\nTest errors ({len(parts.test)} frames)"))
    if output.suffix.lower() == ".npz":
        sgdml.save(output, model, params, about)
        written = "in the format of sGDML"
    else:
        io.save(output, model, params)
        written = "in the format of jaxff (without the record of its frames)"
    say(f"\nWrote {output} ({format_bytes(output.stat().st_size)}) {written}.")
    if json is not None:
        write_record(json, trial.info, trial.lengthscale * units.to_angstrom(dataset.length_unit))
        say(f"Wrote {json}.")


def describe(data: Dataset) -> str:
    """One line on a data set."""
    word = "frame" if len(data) == 1 else "frames"
    text = (
        f"{data.source or data.name}: {len(data)} {word} of {formula(data.numbers)}, {data.theory}"
    )
    text += f"; units {data.energy_unit}, {unit_symbol(data.length_unit)}"
    if len(data.skipped):
        text += f"; {len(data.skipped)} invalid frames left out"
    return text


def check_consistency(data: Dataset, allow: bool) -> None:
    """Stop if energies and forces certainly do not belong together.

    Raises:
        ValueError: With the remedy, unless allowed.
    """
    found = consistency(data)
    if found.is_contradiction:
        if not allow:
            raise ValueError(
                f"{data.source or data.name}: {found.message} (--allow-inconsistent goes on all "
                "the same)"
            )
        warn(found.message)
    elif found.verdict == "consistent":
        say("Energies and forces agree.")
    else:
        say(f"Energies and forces not compared: {found.message}.")
