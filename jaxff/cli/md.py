"""``jaxff md``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import tyro

from jaxff import dynamics, units
from jaxff.cli.console import say
from jaxff.cli.files import (
    Count,
    ModelUnits,
    Output,
    Reading,
    check_output,
    formula,
    load_model,
)
from jaxff.cli.md_summary import draw, summary
from jaxff.cli.quantum import QuantumLog, draw_quantum, quantum_summary
from jaxff.cli.start import read_start, write_report
from jaxff.data.archive import write_atomic
from jaxff.dynamics import read_log
from jaxff.neighbors import neighbor_list

__all__ = ["Bath", "md", "read_log"]


@dataclass(frozen=True)
class Bath:
    """Thermostats and barostat."""

    friction: float = 0.002
    """langevin and npt: friction of the atoms in 1/fs."""
    relaxation_time: float = 100.0
    """nose-hoover and csvr: time constant of the thermostat in fs."""
    pressure: float = 0.0
    """npt: pressure in GPa."""
    barostat_time: float = 1000.0
    """npt: time constant of the barostat in fs."""
    centroid_time: float = 100.0
    """pimd: time constant of the thermostat of centroids in fs."""


def md(
    model: tyro.conf.Positional[Path],
    /,
    *,
    start: Path,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    steps: int,
    ensemble: Literal["nve", "langevin", "nose-hoover", "csvr", "npt", "pimd"] = "nve",
    timestep: float = 0.5,
    temperature: float = 300.0,
    bath: Bath,
    replicas: Count = None,
    beads: Count = None,
    frame: Count = None,
    every: int = 8,
    format: Annotated[Literal["xyz", "hdf5"] | None, tyro.conf.arg(metavar="xyz|hdf5")] = None,
    forces: bool = False,
    skin: float = 1.0,
    seed: int = 0,
    restart: Annotated[bool, tyro.conf.arg(aliases=["--resume"])] = False,
    figure: Output = None,
    reading: Reading,
    model_units: ModelUnits,
) -> None:
    """Molecular dynamics with a model.

    Writes trajectory.xyz (or trajectory.h5), log.csv, restart.npz, settings.json and, at the end,
    report.html into a folder; replicas have trajectory-000.xyz, log-000.csv and so on. A run that
    was stopped or killed goes on with the same command and --restart; in the end its files are
    those of an unbroken run. A finished one goes on to a larger number of --steps.

    Args:
        model: Model file, .npz (sGDML) or .safetensors (jaxff).
        start: Data set to start from: its frame of lowest energy, or --frame.
        output: Folder to write to; an earlier run in it is never overwritten.
        steps: Number of steps, with those before a restart.
        ensemble: nve (constant energy); langevin, nose-hoover or csvr (constant temperature); npt
            (constant temperature and pressure, where the cell repeats in all directions); pimd
            (quantum nuclei at constant temperature, as ring polymers of --beads).
        timestep: Time step in fs.
        temperature: Temperature in K of the initial velocities and of the thermostat. At constant
            energy a run that starts at a minimum keeps about half of it, as the other half goes
            into the vibrations.
        bath: Thermostats and barostat.
        replicas: Number of runs side by side, each with its own velocities and random numbers.
        beads: Beads of the ring polymers of pimd, each with its own trajectory and log; energies
            and the extension of the rings go to quantum.csv. Enough beads are some times hω/kT.
        frame: Frame of the data set to start from, counted from 0.
        every: Steps between written frames; a spectrum needs at most 4 fs between them.
        format: Trajectory as extended XYZ (the default; ASE and OVITO read it) or HDF5 (every
            digit, smaller; needs h5py).
        forces: Write forces, too.
        skin: Potentials with cutoffs: Å that neighbour lists reach beyond the cutoff; only the
            speed depends on it.
        seed: Seed of the velocities and of the thermostat.
        restart: Continue the run in the folder from its last state, with the same settings.
        figure: Write a figure of energies and temperature to this file (.png, .pdf or .svg).
        reading: How to read the data file.
        model_units: Units of old model files.
    """
    if output.is_file():
        raise ValueError(f"{output}: the output is a folder, but a file has this name")
    _check(steps, every, replicas, temperature, figure)
    copies = _copies(ensemble, replicas, beads)
    made = _ensemble(ensemble, timestep, temperature, bath)
    loaded = load_model(model, model_units)
    begin = read_start(start, reading, loaded, frame, quiet=restart)
    system, name = begin.system, formula(begin.dataset.numbers)
    settings: dict[str, Any] = {
        "ensemble": ensemble, "timestep": timestep, "temperature": temperature, **asdict(bath),
        "replicas": replicas, "beads": beads, "every": every, "format": format or "xyz",
        "forces": forces, "skin": skin, "seed": seed,
    }  # fmt: skip
    last, done, place = None, 0, begin.place
    if restart:
        last = dynamics.read_restart(output / "restart.npz")
        done, place = last.step, _check_same_settings(output, settings, steps, last.step)
    kind = "replicas" if beads is None else "beads"
    several = "" if copies is None else f"{copies} {kind}, "
    say(f"{name}, {ensemble}, {several}{steps - done} steps of {timestep:g} fs into {output}")
    cutoffs, failure = loaded.energy_fn.cutoffs, None
    with _writer(output, forces, restart, settings["format"], copies) as writer:
        told = {} if restart else {**settings, "start": place}
        telling = _telling(output / _SETTINGS, told, writer)
        if beads is not None:
            telling = QuantumLog(output, temperature, telling, done if restart else None)
        try:
            dynamics.run(
                loaded.energy_fn,
                system,
                ensemble=made,
                steps=steps - done,
                key=jax.random.key(seed),
                temperature=None if restart else temperature,
                replicas=copies,
                restart=last,
                every=every,
                chunk=max(every, min(1000, steps)),
                neighbors=neighbor_list(cutoffs, skin=skin) if cutoffs else None,
                keep_frames=False,
                progress=dynamics.progress_bar(steps - done, start=done, disable=None, leave=False),
                writer=telling,
            )
        except dynamics.UnstableRunError as error:
            failure = error  # what was run until then is told first
    logs = [read_log(path) for path in _logs(output, copies)]
    told = summary(logs, system.atom_count, ensemble) if beads is None else quantum_summary(output)
    say(told)
    if figure is not None:
        title = f"{name}, {ensemble}"
        if beads is None:
            title += "" if copies is None else ", replica 0"
            draw(figure, logs[0], system.atom_count, title)
        else:
            draw_quantum(figure, output, system.atom_count, f"{title}, {beads} beads")
    about = {"Start": place, "Temperature": f"{temperature:g} K", "Seed": str(seed)}
    if failure is not None:
        about["Stopped early"] = str(failure)
    write_report(output, model, loaded, system, about, None if ensemble == "nve" else temperature)
    if failure is not None:
        raise failure


def _check(
    steps: int, every: int, replicas: int | None, temperature: float, figure: Path | None
) -> None:
    for name, value in (("steps", steps), ("every", every), ("replicas", replicas)):
        if value is not None and value < 1:
            raise ValueError(f"--{name} must be at least 1, got {value}")
    if not 0.0 <= temperature < float("inf"):
        raise ValueError(f"--temperature must not be negative, got {temperature:g}")
    if figure is not None:
        check_output(figure, (".png", ".pdf", ".svg"))


def _copies(ensemble: str, replicas: int | None, beads: int | None) -> int | None:
    """How many systems are moved: replicas, or the beads of one."""
    if (ensemble == "pimd") != (beads is not None):
        raise ValueError("--beads belongs to --ensemble pimd, which needs it: 16, for example")
    if beads is None:
        return replicas
    if replicas is not None or beads < 1:
        raise ValueError(f"--beads must be at least 1, without --replicas; got {beads}, {replicas}")
    return beads


def _ensemble(name: str, timestep: float, temperature: float, bath: Bath) -> dynamics.Ensemble:
    thermal = (timestep, temperature)
    if name == "nve":
        return dynamics.nve(timestep)
    if name == "langevin":
        return dynamics.langevin(*thermal, bath.friction)
    if name == "nose-hoover":
        return dynamics.nose_hoover(*thermal, bath.relaxation_time)
    if name == "csvr":
        return dynamics.csvr(*thermal, bath.relaxation_time)
    if name == "pimd":
        return dynamics.path_integral(*thermal, centroid_time=bath.centroid_time)
    pressure = bath.pressure * units.GIGAPASCAL
    return dynamics.npt(*thermal, pressure, bath.friction, bath.barostat_time)


def _writer(
    folder: Path, forces: bool, restart: bool, format: str, replicas: int | None
) -> dynamics.Writer:
    try:
        return dynamics.Writer(
            folder, forces=forces, resume=restart, format=format, replicas=replicas
        )
    except FileExistsError as error:
        raise FileExistsError(
            f"a run exists in {folder}: continue it with --restart, or choose another folder"
        ) from error
    except ModuleNotFoundError as error:
        raise RuntimeError(f"--format hdf5: {error}") from error


def _telling(path: Path, settings: dict[str, Any], writer: dynamics.Writer):
    """The writer, which with its first chunk writes the settings of a new run."""
    content = json.dumps(settings, indent=1, ensure_ascii=False) + "\n" if settings else ""

    def write(chunk: dynamics.Trajectory) -> None:
        nonlocal content
        if content:
            text, content = content.encode(), ""
            write_atomic(path, lambda stream: stream.write(text))
        writer(chunk)

    return write


def _logs(folder: Path, replicas: int | None) -> list[Path]:
    if replicas is None:
        return [folder / "log.csv"]
    return [folder / f"log-{i:03d}.csv" for i in range(replicas)]


# --- restarts ----------------------------------------------------------------------------------

_SETTINGS = "settings.json"


def _check_same_settings(folder: Path, settings: dict[str, Any], steps: int, done: int) -> str:
    """Where the run that is continued began.

    Raises:
        ValueError: If it has other settings, or as many steps already.
    """
    path = folder / _SETTINGS
    try:
        before = json.loads(path.read_text())
        place = str(before.pop("start"))
    except (FileNotFoundError, json.JSONDecodeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path} does not tell the settings of a run of this command ({error}): continue a run "
            "of the library with jaxff.dynamics.run"
        ) from error
    # Not just these, but no others: a setting that came later is a difference, too.
    names = [n for n in {**settings, **before} if settings.get(n) != before.get(n)]
    if names:
        was, now = (", ".join(_option(n, s.get(n)) for n in names) for s in (before, settings))
        raise ValueError(f"the run in {folder} has {was}, not {now}: continue it with the same")
    if steps <= done:
        raise ValueError(
            f"the run in {folder} has {done} steps: --steps counts them, and must be larger"
        )
    return place


def _option(name: str, value: Any) -> str:
    flag = f"--{name.replace('_', '-')}"
    if value is None or value is False:
        return f"no {flag}"
    return flag if value is True else f"{flag} {value}"
