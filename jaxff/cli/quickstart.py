"""``jaxff quickstart``: everything once, on embedded data."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro

from jaxff import dynamics, hessian, report, units
from jaxff.cli.console import progress, say
from jaxff.cli.files import formula
from jaxff.cli.fit import check_consistency
from jaxff.cli.training import Fitting, label_units, train_model
from jaxff.data import npz, splits
from jaxff.data.archive import write_atomic
from jaxff.data.embedded import ethanol_path, minimum
from jaxff.derivatives import forces
from jaxff.interfaces import sgdml
from jaxff.potential import EnergyFn, bind
from jaxff.system import System
from jaxff.training import errors, predict, table
from jaxff.vibrations import NormalModes, normal_modes

__all__ = ["quickstart"]

_TRAIN, _VALID, _SCALES = 250, 200, (10.0, 15.0, 20.0, 25.0)
_STEPS, _TIMESTEP, _EVERY, _KELVIN = 20_000, 0.5, 10, 300.0


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
    output.mkdir(parents=True, exist_ok=True)
    say("1. Data: ethanol at the GFN2-xTB level, shipped with jaxff.")
    path = ethanol_path()
    data = npz.read(path)
    parts = splits.by_energy(data, _TRAIN, _VALID, seed=seed)
    say(f"{len(data)} frames of {formula(data.numbers)}, computed at 300 to 1000 K.")
    check_consistency(data, allow=False)

    say("\n2. Fit: symmetries from the data, length scale from validation forces.")
    model, params, about = train_model(data, parts, Fitting(lengthscale=_SCALES), seed)
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
    trajectory, drift, text = _dynamics(energy_fn, output / "md", seed)
    say(text)

    figures = {
        "parity": report.parity(predicted, labels, label_units(data), "Ethanol, test frames"),
        "frequencies": report.frequencies(
            minimum().frequencies, modes.frequencies, "Ethanol, minimum", ("GFN2-xTB", "sGDML")
        ),
        "energy": report.conservation(
            trajectory.times,
            trajectory.potential_energy,
            trajectory.total_energy,
            trajectory.temperature,
            len(data.numbers),
            drift,
            "Ethanol, constant energy",
        ),
    }
    for name, figure in figures.items():
        report.save(output / f"{name}.png", figure)
    write_atomic(output / "metrics.json", lambda s: s.write(json.dumps(metrics, indent=2).encode()))
    sections = [
        report.Section("What was done", _story(len(data), params, model)),
        report.Section("Errors on test frames", table=accuracy, figure=figures["parity"]),
        report.Section("Harmonic frequencies", table=vibrations, figure=figures["frequencies"]),
        report.Section("Energy conservation", text, figure=figures["energy"]),
        report.Section("What next", table=_next(output, path)),
    ]
    page = report.page("jaxff quickstart: ethanol", sections)
    write_atomic(output / "report.html", lambda stream: stream.write(page.encode()))
    say(f"\nDone in {time.perf_counter() - begin:.0f} s. Open {output / 'report.html'}.")
    say(f"\nNext, type for instance:\n{_next(output, path)}")


def _vibrations(energy_fn: EnergyFn) -> tuple[NormalModes, str]:
    """Modes at the model's own minimum next to the engine's, and a table of both."""
    engine = minimum()
    positions, force, curvature = _relax(energy_fn, engine.positions, engine.numbers)
    modes = normal_modes(curvature, units.masses(engine.numbers), positions)
    difference = modes.frequencies - engine.frequencies
    moved = np.sqrt(np.mean(np.sum(_aligned(positions, engine.positions) ** 2, axis=-1)))
    lines = [
        f"Relaxed on the model (largest force {force:.0e} eV/Å, {moved:.4f} Å rms from the "
        "minimum of GFN2-xTB).",
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


def _relax(
    energy_fn: EnergyFn, positions: np.ndarray, numbers: np.ndarray, steps: int = 20
) -> tuple[np.ndarray, float, np.ndarray]:
    """The model's minimum nearby by Newton steps, the largest force left there, the Hessian."""

    def both(positions: Any) -> tuple[Any, Any]:
        system = System(positions, numbers)
        return forces(energy_fn)(system), hessian(energy_fn)(system)

    evaluate, size = jax.jit(both), positions.size
    found, curvature = (np.asarray(x) for x in evaluate(positions))
    for _ in range(steps):
        if np.abs(found).max() < 1e-7:
            break
        values, vectors = np.linalg.eigh(curvature.reshape(size, size))
        # The six soft directions are motions of the whole; a step never leaves the neighbourhood.
        step = vectors[:, 6:] @ (vectors[:, 6:].T @ found.ravel() / np.abs(values[6:]))
        step *= min(1.0, 0.1 / np.abs(step).max())
        positions = positions + step.reshape(positions.shape)
        found, curvature = (np.asarray(x) for x in evaluate(positions))
    return positions, float(np.abs(found).max()), curvature


def _aligned(positions: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Displacements from the reference after the best rotation (Kabsch 1976)."""
    a, b = positions - positions.mean(axis=0), reference - reference.mean(axis=0)
    u, _, v = np.linalg.svd(a.T @ b)
    sign = np.sign(np.linalg.det(u @ v))
    return a @ (u * [1.0, 1.0, sign]) @ v - b


def _dynamics(
    energy_fn: EnergyFn, folder: Path, seed: int
) -> tuple[dynamics.Trajectory, dynamics.Drift, str]:
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
    text = (
        f"{len(trajectory)} frames in {folder / 'trajectory.xyz'}; mean temperature "
        f"{trajectory.temperature.mean():.0f} K; energy drift ({drift.slope:.1e} ± "
        f"{drift.standard_error:.0e}) meV/atom/ps."
    )
    return trajectory, drift, text


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
