"""``jaxff evaluate``."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from jaxff.cli.console import progress, say, warn
from jaxff.cli.files import (
    Count,
    LoadedModel,
    ModelUnits,
    Name,
    Output,
    Reading,
    check_output,
    load_model,
    read_data,
)
from jaxff.cli.fit import describe
from jaxff.cli.training import label_units
from jaxff.data import Dataset, batches, splits
from jaxff.data.archive import members, read_archive, write_atomic
from jaxff.data.frames import Subset
from jaxff.data.sgdml_format import fingerprint, text
from jaxff.gdml.potential import KernelPotential
from jaxff.training import errors, predict, shared_geometries, table, validate, weighted
from jaxff.training.sections import Source
from jaxff.training.sources import open_source

__all__ = ["evaluate"]


def evaluate(
    model: tyro.conf.Positional[Path],
    data: tyro.conf.Positional[Path],
    /,
    *,
    exclude_train: bool = False,
    test_key: Name = None,
    limit: Count = None,
    seed: int = 0,
    batch: int = 256,
    json: Output = None,
    figure: Output = None,
    reading: Reading,
    model_units: ModelUnits,
) -> None:
    """Errors of a model on a data set, in the units of the data file.

    Args:
        model: Model file, .npz (sGDML) or .safetensors (jaxff).
        data: Data set: sGDML .npz, or extended XYZ with --energy-key and --forces-key. Networks
            take frames of any compositions, and ASE databases (.db) and HDF5 (.h5), too.
        exclude_train: Leave out the frames that the model was fitted to or chosen by.
        test_key: Index array in the data file that names the frames to test on.
        limit: Test on so many frames at most, drawn at random.
        seed: Seed of that draw.
        batch: Frames predicted at once.
        json: Write the errors to this file.
        figure: Write a parity figure with residuals to this file (.png, .pdf or .svg).
        reading: How to read the data file.
        model_units: Units of old model files.
    """
    if json is not None:
        check_output(json, (".json",))
    if figure is not None:
        check_output(figure, (".png", ".pdf", ".svg"))
    loaded = load_model(model, model_units)
    if figure is None and not loaded.is_kernel and data.suffix.lower() != ".npz":
        if exclude_train or test_key is not None:
            raise ValueError("--exclude-train and --test-key are for npz files: give test frames")
        _write_report(_of_frames(loaded, data, reading, limit, seed, batch, model), json)
        return
    dataset = read_data(data, reading)
    loaded.check_atoms(dataset)
    say(describe(dataset))
    chosen = _choose(dataset, loaded, exclude_train, test_key, limit, seed)
    labels = chosen.labels(*(name for name in ("energy", "forces") if name in chosen.values))
    with progress("predicting", len(chosen)) as update:
        predicted = predict(
            loaded.energy_fn, chosen.systems, tuple(labels), batch=batch, progress=update
        )
    _check_finite(predicted, chosen)
    report = errors(predicted, labels, label_units(chosen))
    say(table(report, f"\n{model} on {len(chosen)} frames"))
    _write_report(report, json)
    if figure is not None:
        from jaxff import report as drawing

        title = f"{model.name} on {len(chosen)} frames of {dataset.name}"
        drawing.save(figure, drawing.parity(predicted, labels, label_units(chosen), title))
        say(f"Wrote {figure}.")


def _write_report(report: dict[str, dict[str, Any]], path: Path | None) -> None:
    if path is not None:
        content = json_format.dumps(report, indent=2, ensure_ascii=False) + "\n"
        write_atomic(path, lambda stream: stream.write(content.encode()))
        say(f"\nWrote {path}.")


def _of_frames(
    model: LoadedModel,
    data: Path,
    reading: Reading,
    limit: int | None,
    seed: int,
    batch: int,
    name: Path,
) -> dict[str, dict[str, Any]]:
    """Errors on frames that may be of any compositions."""
    given = {k: v for k, v in vars(reading).items() if v is not None and k not in reading.totals}
    source = Source(**given)
    frames: Any = open_source(source, data)
    if limit is not None and limit < len(frames):
        rng = np.random.default_rng(seed)
        frames = Subset(frames, np.sort(rng.choice(len(frames), limit, replace=False)))
    potential = model.potential
    with progress("reading", len(frames)) as update:
        made = batches(
            frames, batch_size=batch, cutoffs=potential.cutoffs, uses=potential.uses,
            form="pack" if potential.cutoffs else "stack", progress=update,
            defaults=reading.totals,
        )  # fmt: skip
    labels = [n for n in ("energy", "forces") if n in made.plan.labels]
    if not labels:
        raise ValueError(f"{data}: no energies or forces: say --energy-key and --forces-key")
    energy, length = reading.energy_unit or "eV", reading.length_unit or "Ang"
    units = {"energy": energy, "forces": f"{energy}/{length}"}
    say(f"{data}: {made.summary()}")
    with progress("predicting"):
        report = validate(
            potential, weighted(**dict.fromkeys(labels, 1.0)), model.params, made.epoch(),
            units=units,
        ).errors  # fmt: skip
    if not all(np.isfinite(row["max"]) for row in report.values()):
        raise ValueError(f"{data}: predictions are not finite: has the model seen these elements?")
    say(table(report, f"\n{name} on {len(frames)} frames"))
    return report


def _choose(
    data: Dataset,
    model: LoadedModel,
    exclude_train: bool,
    test_key: str | None,
    limit: int | None,
    seed: int,
) -> Dataset:
    """Frames to test on.

    Raises:
        ValueError: If none remain, or the model does not know its training frames.
    """
    if exclude_train and not (model.provenance or model.is_kernel):
        raise ValueError(
            "--exclude-train: this model keeps no record of its training frames; name those to "
            "test on with --test-key"
        )
    chosen = data if test_key is None else splits.by_indices(data, test_key, test=()).train
    trained, validated = (data.indices[mask] for mask in _seen(data, model))
    counts = [int(np.isin(chosen.indices, indices).sum()) for indices in (trained, validated)]
    words = f"{counts[0]} training and {counts[1]} validation frames of the model"
    if exclude_train:
        chosen = chosen[~np.isin(chosen.indices, np.union1d(trained, validated))]
        say(f"Left out {words}; {len(chosen)} frames remain.")
    elif sum(counts):
        warn(f"{words} are among these frames: add --exclude-train for an honest test")
    if limit is not None:
        if limit < 1:
            raise ValueError(f"--limit must be at least 1, got {limit}")
        rng = np.random.default_rng(seed)
        kept = min(limit, len(chosen))
        chosen = chosen[np.sort(rng.choice(len(chosen), kept, replace=False))]
    if not len(chosen):
        raise ValueError(f"{data.source}: no frames are left to test on")
    return chosen


def _seen(data: Dataset, model: LoadedModel) -> tuple[np.ndarray, np.ndarray]:
    """Masks of the training and of the validation frames of the model in the data set.

    By index where the file is the one that the model was made from; training geometries are also
    recognised by themselves, in copies and subsets of the file.
    """
    trained, validated = np.zeros(len(data), bool), np.zeros(len(data), bool)
    about = model.provenance
    if about is not None:
        same = fingerprints(data)
        if about.train_fingerprint in same:
            trained |= np.isin(data.indices, about.train_indices)
        elif len(about.train_indices):
            say(
                "The data file is not the one the model was trained on (fingerprint "
                f"{about.train_fingerprint[:8] or 'unknown'}, here "
                f"{(data.fingerprint or 'unknown')[:8]}): its training frames are recognised by "
                "their geometry, its validation frames are not."
            )
        if about.valid_fingerprint in same:
            validated |= np.isin(data.indices, about.valid_indices)
    if isinstance(model.potential, KernelPotential):
        known = shared_geometries(model.potential, model.params, data.systems)
        if trained.any() and (repeats := int(np.sum(known & ~trained))):
            say(f"{repeats} further frames have the geometry of a training frame.")
        trained |= known
    return trained, validated


def fingerprints(data: Dataset) -> set[str]:
    """Fingerprints of the source file under any choice of its arrays as labels.

    A model may have been trained on other labels of the same frames.
    """
    found = {data.fingerprint} if data.fingerprint else set()
    if "md5" in data.metadata:
        found.add(text(data.metadata["md5"]))
    if data.source is None or not data.source.endswith(".npz"):
        return found
    count, atoms = data.source_length, len(data.numbers)
    shapes = {n: m.shape for n, m in members(data.source).items() if m.dtype.kind == "f"}
    energies = [n for n, s in shapes.items() if s in ((count,), (count, 1))]
    forces = [n for n, s in shapes.items() if s == (count, atoms, 3) and n != "R"]
    raw = read_archive(data.source, only=["z", "R", *energies, *forces], objects="skip")
    for energy in (None, *energies):
        for force in (None, *forces):
            labels = (None if name is None else raw[name] for name in (energy, force))
            found.add(fingerprint(raw["z"], raw["R"], *labels))
    return found


def _check_finite(predicted: dict[str, np.ndarray], data: Dataset) -> None:
    for name, values in predicted.items():
        bad = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))
        if bad.size:
            raise ValueError(
                f"predicted {name} of {bad.size} frames are not finite, first frame "
                f"{data.indices[bad[0]]} of {data.source}"
            )
