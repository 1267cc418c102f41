"""``jaxff md``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import jax
import numpy as np
import tyro

from jaxff import dynamics
from jaxff.cli.console import say, warn
from jaxff.cli.files import (
    Count,
    LoadedModel,
    ModelUnits,
    Output,
    Reading,
    check_output,
    formula,
    load_model,
    read_data,
)
from jaxff.data import Dataset
from jaxff.dynamics import read_log
from jaxff.potential import EnergyFn
from jaxff.system import System

__all__ = ["md", "read_log"]


def md(
    model: tyro.conf.Positional[Path],
    /,
    *,
    start: Path,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    steps: int,
    ensemble: Literal["nve", "langevin"] = "nve",
    timestep: float = 0.5,
    temperature: float = 300.0,
    friction: float = 0.002,
    frame: Count = None,
    every: int = 10,
    forces: bool = False,
    seed: int = 0,
    resume: bool = False,
    figure: Output = None,
    reading: Reading,
    model_units: ModelUnits,
) -> None:
    """Molecular dynamics with a fitted model.

    Writes trajectory.xyz (extended XYZ), log.csv and restart.npz into a folder.

    Args:
        model: Model file, .npz (sGDML) or .safetensors (jaxff).
        start: Data set to start from: its frame of lowest energy, or --frame.
        output: Folder to write to; an earlier run in it is never overwritten.
        steps: Number of steps.
        ensemble: nve (constant energy) or langevin (constant temperature).
        timestep: Time step in fs.
        temperature: Temperature in K of the initial velocities and of the thermostat.
        friction: Friction of the Langevin thermostat in 1/fs.
        frame: Frame of the data set to start from, counted from 0.
        every: Steps between written frames.
        forces: Write forces, too.
        seed: Seed of the velocities and of the thermostat.
        resume: Continue the run in the folder by so many steps, from its last state.
        figure: Write a figure of energies and temperature to this file (.png, .pdf or .svg).
        reading: How to read the data file.
        model_units: Units of old model files.
    """
    for name, value in (("steps", steps), ("every", every)):
        if value < 1:
            raise ValueError(f"--{name} must be at least 1, got {value}")
    if figure is not None:
        check_output(figure, (".png", ".pdf", ".svg"))
    loaded = load_model(model, model_units)
    dataset = read_data(start, reading)
    loaded.check_atoms(dataset)
    chosen = _frame(dataset, loaded, frame)
    system = jax.tree.map(lambda leaf: leaf[0], dataset[[chosen]].systems)
    made = (
        dynamics.nve(timestep)
        if ensemble == "nve"
        else dynamics.langevin(timestep, temperature, friction)
    )
    restart = dynamics.read_restart(output / "restart.npz") if resume else None
    if restart is not None:
        _check_same_model(loaded.energy_fn, system, restart, output / "log.csv")
    say(f"{formula(dataset.numbers)}, {ensemble}, {steps} steps of {timestep:g} fs into {output}")
    with dynamics.Writer(output, forces=forces, resume=resume) as writer:
        dynamics.run(
            loaded.energy_fn,
            system,
            ensemble=made,
            steps=steps,
            key=jax.random.key(seed),
            temperature=None if resume else temperature,
            restart=restart,
            every=every,
            chunk=max(every, min(1000, steps)),
            keep_frames=False,
            progress=dynamics.progress_bar(steps, disable=None, leave=False),
            writer=writer,
        )
    log = read_log(output / "log.csv")
    say(summary(log, len(dataset.numbers), ensemble))
    if figure is not None:
        _draw(
            figure, log, len(dataset.numbers), ensemble, f"{formula(dataset.numbers)}, {ensemble}"
        )


def _check_same_model(
    energy_fn: EnergyFn, system: System, restart: dynamics.Restart, log_file: Path
) -> None:
    """Refuse to continue a run with another model: its energy would jump.

    Raises:
        ValueError: If the energy at the restart is not the one that the log holds for that step.
    """
    log = read_log(log_file)
    at = np.flatnonzero(log["step"] == restart.step)
    if not len(at):
        return
    logged = float(log["potential_energy_eV"][at[-1]])
    energy = float(energy_fn(system.replace(positions=restart.positions)))
    if not np.isclose(energy, logged, rtol=1e-9, atol=1e-6):
        raise ValueError(
            f"{log_file.parent}: at step {restart.step} the log has a potential energy of "
            f"{logged:.6f} eV, this model gives {energy:.6f} eV: resume with the model that made "
            "the run, or start a new one"
        )


def _frame(data: Dataset, model: LoadedModel, frame: int | None) -> int:
    if frame is not None:
        if not 0 <= frame < len(data):
            raise ValueError(f"--frame must be 0 to {len(data) - 1}, got {frame}")
        return frame
    if "energy" in data.values:
        lowest = int(np.argmin(data.values["energy"]))
        say(f"Starting from frame {data.indices[lowest]}, the lowest in energy of {data.source}.")
        return lowest
    warn(f"{data.source} was read without energies: starting from frame 0 (--frame)")
    return 0


def summary(log: dict[str, np.ndarray], atoms: int, ensemble: str) -> str:
    """What a run did, with the drift of its total energy."""
    times, kelvin = log["time_fs"], log["temperature_K"]
    text = (
        f"{len(times)} frames, {times[-1] / 1000:g} ps; temperature {kelvin.mean():.0f} K on "
        f"average, {kelvin.min():.0f} to {kelvin.max():.0f} K"
    )
    if ensemble != "nve" or len(times) < 3:
        return text
    drift = dynamics.energy_drift(times, log["total_energy_eV"], atoms)
    spread = 1e3 * float(np.std(log["total_energy_eV"])) / atoms
    return (
        f"{text}\nEnergy drift ({drift.slope:.2e} ± {drift.standard_error:.1e}) meV/atom/ps, "
        f"fluctuation {spread:.2e} meV/atom (standard deviation)"
    )


def _draw(path: Path, log: dict[str, np.ndarray], atoms: int, ensemble: str, title: str) -> None:
    from jaxff import report

    times, total = log["time_fs"], log["total_energy_eV"]
    with_drift = ensemble == "nve" and len(times) >= 3
    drift = dynamics.energy_drift(times, total, atoms) if with_drift else None
    potential, kelvin = log["potential_energy_eV"], log["temperature_K"]
    report.save(path, report.conservation(times, potential, total, kelvin, atoms, drift, title))
    say(f"Wrote {path}.")
