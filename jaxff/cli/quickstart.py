"""``jaxff quickstart``: everything once, on embedded data."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro

from jaxff import dynamics, report
from jaxff.cli.console import progress, say
from jaxff.cli.files import ModelUnits, formula, load_model
from jaxff.cli.fit import check_consistency
from jaxff.cli.solving import Solving
from jaxff.cli.start import about_model, command_line
from jaxff.cli.training import Fitting, label_units, train_model
from jaxff.data import npz, splits
from jaxff.data.archive import write_atomic
from jaxff.data.embedded import ethanol_path, minimum
from jaxff.interfaces import sgdml
from jaxff.potential import EnergyFn, bind
from jaxff.system import System
from jaxff.training import errors, predict, table
from jaxff.vibrations import NormalModes, modes_of

__all__ = ["quickstart"]

_TRAIN, _VALID, _SCALES = 250, 200, (10.0, 15.0, 20.0, 25.0)
_STEPS, _TIMESTEP, _EVERY, _KELVIN = 20_000, 0.5, 8, 300.0


def quickstart(
    *,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("quickstart"),
    seed: int = 0,
) -> None:
    """Fit ethanol, test, compare vibrations, run dynamics; a minute or two, no download.

    Args:
        output: Folder for the model, the figures, the trajectory and report.html.
        seed: Seed of the frames and of the velocities.
    """
    begin = time.perf_counter()
    _claim(output)
    say("1. Data: ethanol at the GFN2-xTB level, shipped with jaxff.")
    path = ethanol_path()
    data = npz.read(path)
    parts = splits.by_energy(data, _TRAIN, _VALID, seed=seed)
    say(f"{len(data)} frames of {formula(data.numbers)}, computed at 300 to 1000 K.")
    check_consistency(data, allow=False)

    say("\n2. Fit: symmetries from the data, length scale from validation forces.")
    model, params, about, _ = train_model(
        data, parts, Fitting(lengthscale=_SCALES), Solving(), seed
    )
    sgdml.save(output / "model.npz", model, params, about)
    energy_fn = bind(model, params)

    say(f"\n3. Test: {len(parts.test)} frames that the model has not seen.")
    labels = parts.test.labels("energy", "forces")
    with progress("predicting", len(parts.test)) as update:
        predicted = predict(energy_fn, parts.test.systems, progress=update)
    metrics = errors(predicted, labels, label_units(data))
    accuracy = table(metrics)
    say(accuracy)

    say("\n4. Vibrations at the minimum, model against GFN2-xTB.")
    modes, vibrations = _vibrations(energy_fn)
    say(vibrations)

    say(f"\n5. Dynamics: {_STEPS * _TIMESTEP / 1000:g} ps at constant energy.")
    text = _dynamics(energy_fn, output / "md", seed)
    say(text)

    units_shown = label_units(data)
    figures = {
        "parity": report.parity(predicted, labels, units_shown, "Ethanol, test frames"),
        "force_errors": report.force_errors(
            predicted["forces"], labels["forces"], data.numbers, units_shown["forces"]
        ),
        "frequencies": report.frequencies(
            minimum().frequencies, modes.frequencies, "Ethanol, minimum", ("GFN2-xTB", "sGDML")
        ),
    }
    for name, figure in figures.items():
        report.save(output / f"{name}.png", figure)
    write_atomic(output / "metrics.json", lambda s: s.write(json.dumps(metrics, indent=2).encode()))
    recorded = report.read_run(output / "md")
    about = {
        "Command": command_line(),
        **about_model(output / "model.npz", load_model(output / "model.npz", ModelUnits())),
        "Seed": str(seed),
        **report.environment(),
    }
    sections = [
        report.Section("What was done", _story(len(data), params, model), report.facts(about)),
        report.Section(
            "Errors on test frames",
            table=accuracy,
            figure=figures["parity"],
            caption="Predictions against labels, and their differences.",
        ),
        report.Section(
            "Errors of the forces by element",
            figure=figures["force_errors"],
            caption="How long the difference of predicted and reference force is.",
        ),
        report.Section("Harmonic frequencies", table=vibrations, figure=figures["frequencies"]),
        report.Section("Molecular dynamics", text),
        *report.run_sections(recorded, modes=modes),
        report.Section("What next", table=_next(output, path)),
    ]
    page = report.page("jaxff quickstart: ethanol", sections)
    write_atomic(output / "report.html", lambda stream: stream.write(page.encode()))
    say(f"\nDone in {time.perf_counter() - begin:.0f} s. Open {output / 'report.html'}.")
    say(f"\nNext, type for instance:\n{_next(output, path)}")


_MARK = {"command": "quickstart"}


def _claim(folder: Path) -> None:
    """Make the folder, or take that of an earlier quickstart, whose files are replaced.

    Raises:
        FileExistsError: If it holds anything else.
    """
    mark = folder / "settings.json"
    content = json.dumps(_MARK) + "\n"
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and _text(mark) != content):
        raise FileExistsError(
            f"{folder} holds files that are not those of an earlier quickstart: choose another "
            "folder with -o"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(mark, lambda stream: stream.write(content.encode()))


def _text(path: Path) -> str:
    return path.read_text() if path.is_file() else ""


def _vibrations(energy_fn: EnergyFn) -> tuple[NormalModes, str]:
    """Modes at the model's own minimum next to the engine's, and a table of both."""
    engine = minimum()
    start = System(engine.positions, engine.numbers)
    relaxed = dynamics.relax(energy_fn, start, max_force=1e-6)
    modes = modes_of(energy_fn, relaxed.system)
    positions = np.asarray(relaxed.system.positions)
    difference = modes.frequencies - engine.frequencies
    moved = np.sqrt(np.mean(np.sum(_aligned(positions, engine.positions) ** 2, axis=-1)))
    lines = [
        f"Relaxed on the model (largest force {relaxed.max_force:.0e} eV/Å, {moved:.4f} Å rms from "
        "the minimum of GFN2-xTB).",
        "mode  GFN2-xTB   sGDML  difference (cm⁻¹)",
    ]
    lines += [
        f"{i + 1:4d}  {a:8.1f} {b:7.1f}  {b - a:+10.1f}"
        for i, (a, b) in enumerate(zip(engine.frequencies, modes.frequencies, strict=True))
    ]
    lines.append(
        f"mean absolute difference {np.abs(difference).mean():.1f} cm⁻¹, largest "
        f"{np.abs(difference).max():.1f} cm⁻¹"
    )
    return modes, "\n".join(lines)


def _aligned(positions: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Displacements from the reference after the best rotation (Kabsch 1976)."""
    a, b = positions - positions.mean(axis=0), reference - reference.mean(axis=0)
    u, _, v = np.linalg.svd(a.T @ b)
    sign = np.sign(np.linalg.det(u @ v))
    return a @ (u * [1.0, 1.0, sign]) @ v - b


def _dynamics(energy_fn: EnergyFn, folder: Path, seed: int) -> str:
    """A short run from the minimum; an earlier quickstart's files are replaced."""
    for name in ("trajectory.xyz", "log.csv", "restart.npz"):
        (folder / name).unlink(missing_ok=True)
    start = minimum()
    with dynamics.Writer(folder) as writer:
        trajectory = dynamics.run(
            energy_fn,
            System(start.positions, start.numbers),
            ensemble=dynamics.nve(_TIMESTEP),
            steps=_STEPS,
            key=jax.random.key(seed),
            temperature=2 * _KELVIN,  # half of it goes into the vibrations
            every=_EVERY,
            progress=dynamics.progress_bar(_STEPS, disable=None, leave=False),
            writer=writer,
        )
    drift = dynamics.energy_drift(trajectory.times, trajectory.total_energy, len(start.numbers))
    return (
        f"{len(trajectory)} frames in {folder / 'trajectory.xyz'}; mean temperature "
        f"{trajectory.temperature.mean():.0f} K; energy drift ({drift.slope:.1e} ± "
        f"{drift.standard_error:.0e}) meV/atom/ps."
    )


def _story(count: int, params: Any, model: Any) -> str:
    scale = float(params["hyper"]["lengthscale"])
    return (
        f"An sGDML force field was fitted to the forces of {_TRAIN} of {count} frames of ethanol, "
        f"computed at the GFN2-xTB level. A permutation group of order {model.kernel.order} was "
        f"found from the geometries alone, and the length scale {scale:g} chosen by the forces of "
        f"{_VALID} further frames. The model was then tested on all other frames, its vibrations "
        "compared with those of GFN2-xTB, and used for molecular dynamics."
    )


def _next(output: Path, path: Path) -> str:
    model = output / "model.npz"
    return "\n".join(
        [
            f"jaxff info {model}",
            f"jaxff evaluate {model} {path} --exclude-train --figure parity.png",
            f"jaxff md {model} --start {path} --temperature 500 --steps 20000 -o run",
            "jaxff fit your_data.npz --train 1000 --valid 500 -o your_model.npz",
        ]
    )
