"""``jaxff coarse-grain``."""

from __future__ import annotations

import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from jaxff import io
from jaxff.allocation import keep_freed_memory
from jaxff.cli.coarse_folder import Folder
from jaxff.cli.coarse_report import write_comparison
from jaxff.cli.console import progress, say, warn
from jaxff.cli.manual import sections
from jaxff.coarse import config as settings
from jaxff.coarse.beads import files_of, map_beads
from jaxff.coarse.comparison import compared, ensemble_of, hand_of, simulate
from jaxff.coarse.config import Config, read_config
from jaxff.coarse.fitting import Task, fit_model, task
from jaxff.data import Dataset, npz
from jaxff.data.archive import write_archive
from jaxff.potential import bind

__all__ = ["coarse_grain"]

_Config = Annotated[Path | None, tyro.conf.arg(metavar="CONFIG.toml")]
Step = Literal["map", "fit", "simulate", "compare"]


def coarse_grain(
    config: tyro.conf.Positional[_Config] = None,
    /,
    *,
    only: Step | None = None,
    fresh: bool = False,
    options: bool = False,
    template: bool = False,
) -> None:
    """Coarse-grained force fields from a trajectory, as a TOML file says.

    Four steps: map a trajectory with forces to beads, fit models of their mean forces, simulate
    these, and compare free energies with those of the trajectory. Results go to a folder; what is
    there already is not made again. Writes beads.npz, a model, samples and numbers for each model,
    comparison.json, surfaces.npz, and report.html.

    Args:
        config: The configuration; every option of it is documented by --options.
        only: Do one step, from what the earlier ones left in the folder.
        fresh: Make anew what is there already.
        options: Print every option of the configuration with its meaning, and end.
        template: Print a configuration to start from, and end.
    """
    if options or template:
        say(_manual() if options else _template())
        return
    if config is None:
        raise ValueError(
            "name a configuration: jaxff coarse-grain CONFIG.toml (--template prints one)"
        )
    asked = read_config(config)
    folder = Folder(asked.folder / (asked.output or config.stem), fresh)
    keep_freed_memory()
    steps = ("map", "fit", "simulate", "compare") if only is None else (only,)
    if "map" in steps:
        _map(asked, folder)
    beads = _beads(asked, folder)
    prepared = task(asked, beads)
    if "fit" in steps:
        _fit(asked, folder, beads, prepared)
    if asked.simulate is None:
        if {"simulate", "compare"} & set(steps):
            _without_simulation(only, config)
        return
    if "simulate" in steps:
        _simulate(asked, folder, beads, prepared)
    if "compare" in steps:
        _compare(asked, folder, beads)


def _manual() -> str:
    """All sections; [data] without what only other labels need."""
    known = {f"[{name}]": kind for name, kind in settings.SECTIONS.items()}
    models = {f'[models.NAME] kind = "{name}"': kind for name, kind in settings.KINDS.items()}
    head = (
        "temperature  (a number, needed)\n      Of the trajectory, in K.\n"
        "output  (text)\n      Folder of the results; by default named after the configuration.\n"
        "seed  (an integer, default 0)\n      Of all draws."
    )
    return f"{head}\n\n{sections({**known, **models}, _NO_USE)}"


_NO_USE = ("energy_key", "gradient_key", "stress_key", "virial_key", "labels", "charge_key",
           "spin_key", "group_key", "nan_is_missing")  # fmt: skip


def _template() -> str:
    """The example in the documentation of configurations."""
    text = (settings.__doc__ or "").partition("::\n\n")[2]
    return textwrap.dedent(text).rstrip()


def _without_simulation(only: Step | None, config: Path) -> None:
    """Say why nothing is simulated; an error where just that was asked for."""
    text = f"{config}: a section [simulate] is needed to simulate and compare"
    if only is not None:
        raise ValueError(text)
    warn(text)


def _wanted_map(config: Config, folder: Folder) -> dict[str, Any]:
    """What beads follow from, with the files as they are.

    Raises:
        ValueError: If one of them lies where results go.
    """
    files = files_of(config.data, config.folder)
    for each in files:
        if Path(each["path"]).parent == folder.path.resolve():
            raise ValueError(
                f"{each['path']} lies in the folder of the results, where it could be overwritten: "
                "name another output"
            )
    return {**config.settings_of_map(), "files": files}


def _map(config: Config, folder: Folder) -> None:
    wanted = _wanted_map(config, folder)
    if folder.has("map", wanted, ("beads.npz",)):
        return
    with progress("reading the trajectory"):
        made = map_beads(config)
    npz.write(folder.path / "beads.npz", made.data, energy_unit="eV", length_unit="Ang")
    content: dict[str, Any] = {
        "frames": len(made.data),
        "masses_amu": made.masses.tolist(),
        "equipartition": made.equipartition[0],
        "equipartition_error": made.equipartition[1],
        "fingerprint": _fingerprint(folder),
    }
    if made.mapping is not None:
        content["rigid_pairs"] = made.mapping.constraints.tolist()
        content["position_map"] = made.mapping.positions.tolist()
        content["force_map"] = made.mapping.forces.tolist()
    folder.note("map", wanted, content)
    say(
        f"{len(made.data)} frames of {len(made.masses)} beads, from {made.data.source}; forces are "
        "{:.3g} ± {:.1g} times what equipartition asks.".format(*made.equipartition)
    )


def _fingerprint(folder: Folder) -> str | None:
    return npz.read(folder.path / "beads.npz").fingerprint


def _beads(config: Config, folder: Folder) -> Dataset:
    folder.require("map", _wanted_map(config, folder), ("beads.npz",))
    return npz.read(folder.path / "beads.npz")


def _wanted(config: Config, name: str, beads: Dataset) -> dict[str, Any]:
    return {"beads": beads.fingerprint, **config.settings_of_model(name)}


def _fit(config: Config, folder: Folder, beads: Dataset, prepared: Task) -> None:
    for name in config.models:
        wanted = _wanted(config, name, beads)
        if folder.has(name, wanted, (f"{name}.safetensors",)):
            continue
        with progress(f"fitting {name}", 1.0) as bar:
            made = fit_model(config, name, prepared, bar)
        io.save(folder.path / f"{name}.safetensors", made.model.potential, made.model.params)
        folder.note(name, wanted, made.report)
        error = float(np.sqrt(made.report["held_out_mse"]))
        say(f"{name}: RMSE of {made.report['held_out']} held-out frames {error:.4g} eV/Å")


def _wanted_samples(config: Config, name: str, beads: Dataset) -> dict[str, Any]:
    assert config.simulate is not None
    return {**_wanted(config, name, beads), "simulate": asdict(config.simulate)}


def _simulate(config: Config, folder: Folder, beads: Dataset, prepared: Task) -> None:
    for name in config.models:
        wanted = _wanted_samples(config, name, beads)
        target = f"{name}_samples"
        if folder.has(target, wanted, (f"{target}.npz",)):
            continue
        folder.require(name, _wanted(config, name, beads), (f"{name}.safetensors",))
        potential, params = io.load(folder.path / f"{name}.safetensors")
        with progress(f"simulating {name}", 1.0) as bar:
            model, masses = bind(potential, params), np.array(folder.content("map")["masses_amu"])
            try:
                places = simulate(config, model, prepared, masses, bar)
            except FloatingPointError as error:
                raise FloatingPointError(f"[models.{name}]: {error}") from error
        arrays = {"R": places, "z": beads.numbers}
        write_archive(folder.path / f"{target}.npz", arrays)
        folder.note(target, wanted, {"replicas": places.shape[0], "frames": places.shape[1]})
        say(f"{name}: {places.shape[0]} replicas of {places.shape[1]} frames")


def _compare(config: Config, folder: Folder, beads: Dataset) -> None:
    hand = hand_of(config, beads)
    ensembles = {
        "trajectory": ensemble_of(config, beads.positions, beads.per_frame["weights"], hand=hand)
    }
    for name in config.models:
        target = f"{name}_samples"
        folder.require(target, _wanted_samples(config, name, beads), (f"{target}.npz",))
        with np.load(folder.path / f"{target}.npz") as archive:
            ensembles[name] = ensemble_of(config, archive["R"], hand=hand)
    reference = ensembles["trajectory"]
    records = {
        name: {
            **compared(config, each, reference),
            **({} if name == "trajectory" else {"fit": folder.content(name)}),
        }
        for name, each in ensembles.items()
    }
    write_comparison(folder, config, ensembles, records)
