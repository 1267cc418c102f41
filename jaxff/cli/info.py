"""``jaxff info``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

from jaxff import descriptors, elements, units
from jaxff.cli.console import say
from jaxff.cli.files import (
    LoadedModel,
    ModelUnits,
    Reading,
    formula,
    kind,
    load_model,
    read_data,
    symbols,
)
from jaxff.cli.training import label_units
from jaxff.data import Dataset, consistency
from jaxff.data.archive import members
from jaxff.gdml.potential import KernelPotential
from jaxff.interfaces.sgdml import Provenance
from jaxff.kernels.kernel import Kernel
from jaxff.quantities import quantity
from jaxff.training.metrics import unit_symbol

__all__ = ["info"]

_LISTED = 12


def info(
    file: tyro.conf.Positional[Path],
    /,
    *,
    reading: Reading,
    model_units: ModelUnits,
) -> None:
    """What a data set or a model holds: atoms, labels, units, groups, where it comes from.

    Args:
        file: A data set (.npz, .xyz, .extxyz) or a model (.npz, .safetensors).
        reading: How to read a data set.
        model_units: Units of old model files.
    """
    found = kind(file)
    names = members(file) if found == "npz" else {}
    if found == "safetensors" or "R_desc" in names:
        _say_rows(str(file), _model_rows(load_model(file, model_units)))
        return
    if names:
        arrays = [(name, f"{m.dtype} {m.shape or 'scalar'}") for name, m in names.items()]
        _say_rows(f"{file}: arrays", arrays)
        say()
    data = read_data(file, reading)
    _say_rows(f"{file}: a data set", _data_rows(data))


def _say_rows(title: str, rows: list[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in rows)
    say(title)
    for name, text in rows:
        say(f"  {name.ljust(width)}  {text}")


def _data_rows(data: Dataset) -> list[tuple[str, str]]:
    rows = [
        ("name", data.name),
        ("theory", data.theory),
        ("frames", _frames(data)),
        ("atoms", f"{formula(data.numbers)}: {symbols(data.numbers)}"),
        ("units", f"{data.energy_unit}, {unit_symbol(data.length_unit)}"),
        ("cell", _cell(data)),
    ]
    for name, values in data.values.items():
        unit = _unit(name, data)
        factor = quantity(name).factor(unit)
        rows.append(
            (
                name,
                f"{values.min() / factor:.6g} to {values.max() / factor:.6g} "
                f"{unit_symbol(unit)}, standard deviation {values.std() / factor:.4g}",
            )
        )
    distances = _shortest(data)
    if distances is not None:
        rows.append(("shortest distance", f"{distances:.3f} Å"))
    found = consistency(data)
    rows.append(("energies and forces", found.message))
    if data.permutations is not None:
        rows.append(("permutations", f"{len(data.permutations)} in the file"))
    if data.splits:
        sizes = {k: int(v.sum()) if v.dtype == bool else len(v) for k, v in data.splits.items()}
        listed = ", ".join(f"{name} ({size})" for name, size in sizes.items())
        rows.append(("index arrays", listed))
    rows.append(("fingerprint", data.fingerprint or "none"))
    if data.unread:
        rows.append(("not read", ", ".join(data.unread)))
    return rows


def _frames(data: Dataset) -> str:
    text = str(len(data))
    if len(data.skipped):
        text += f", without {len(data.skipped)} invalid ones"
    if repeats := len(data.duplicates):
        text += f", {repeats} of them repeats"
    return text


def _unit(name: str, data: Dataset) -> str:
    return label_units(data).get(name, quantity(name).unit)


def _cell(data: Dataset) -> str:
    if data.cell is None:
        return "none"
    lengths = np.linalg.norm(data.cell[0], axis=-1)
    periodic = "xyz" if data.pbc is None else "".join(np.array(list("xyz"))[data.pbc])
    varies = ", varies" if np.any(data.cell != data.cell[0]) else ""
    return f"{' × '.join(f'{x:.3f}' for x in lengths)} Å, periodic in {periodic}{varies}"


def _shortest(data: Dataset) -> float | None:
    """Shortest distance of two atoms (images aside) in up to a thousand frames."""
    i, j = np.triu_indices(len(data.numbers), 1)
    if not len(i) or not len(data):
        return None
    some = data.positions[:: max(1, len(data) // 1000)]
    return float(min(np.linalg.norm(p[i] - p[j], axis=-1).min() for p in some))


def _count(params: Any) -> int:
    """Training geometries."""
    expansion = params["expansion"]
    return len(expansion["features"] if "features" in expansion else expansion["points"])


def _composed_rows(kernel: Any, params: Any) -> list[tuple[str, str]]:
    """Sums, products and symmetrised kernels, by their hyperparameters."""
    values = (f"{name} {float(value):g}" for name, value in sorted(params["hyper"].items()))
    return [
        ("kind", f"kernel model: {type(kernel).__name__}"),
        ("atoms", f"{formula(params['numbers'])}: {symbols(params['numbers'])}"),
        ("training geometries", str(len(params["references"].positions))),
        ("hyperparameters", ", ".join(values)),
        ("labels", ", ".join(sorted(params["coefficients"]))),
        ("periodic", "yes" if "cell" in params else "no"),
    ]


def _model_rows(model: LoadedModel) -> list[tuple[str, str]]:
    if not isinstance(model.potential, KernelPotential) or model.potential.kernel is None:
        return _potential_rows(model)
    kernel, params = model.potential.kernel, model.params
    if not isinstance(kernel, Kernel):
        return _composed_rows(kernel, params)
    about = model.provenance
    length = about.length_unit if about else "Ang"
    scale = float(params["hyper"]["lengthscale"]) * units.to_angstrom(length)
    constrained = "energy" in params.get("coefficients", {})
    rows = [
        ("kind", f"kernel model: {_name(kernel.descriptor)}, {kernel.base.name}"),
        ("atoms", f"{formula(params['numbers'])}: {symbols(params['numbers'])}"),
        ("training geometries", str(_count(params))),
        ("permutations", f"group of order {kernel.order}"),
        ("length scale", f"{scale:g} 1/{unit_symbol(length)}"),
        ("energy constraints", "yes" if constrained else "no"),
        ("periodic", "yes" if "cell" in params else "no"),
    ]
    if kernel.permutations is not None and 1 < kernel.order <= _LISTED:
        moved = [np.flatnonzero(p != np.arange(len(p))) for p in kernel.permutations]
        atoms = sorted(set(np.concatenate(moved).tolist()))
        rows.insert(4, ("permuted atoms", " ".join(map(str, atoms))))
    if about is not None:
        rows += _provenance_rows(about)
    return rows


def _potential_rows(model: LoadedModel) -> list[tuple[str, str]]:
    """A network or another potential: by its recipe, and the energies that are added to it."""
    spec, reference = model.potential.spec, None
    if spec is not None and spec.builder == "scale_shift":
        reference = np.atleast_1d(spec.arguments["shift"])
        spec = spec.arguments["potentials"][0]
    rows = [("kind", f"potential {spec.builder!r}" if spec else "potential")]
    leaves = jax.tree.leaves(model.params)
    kinds = sorted({str(leaf.dtype) for leaf in leaves})
    rows.append(("parameters", f"{sum(leaf.size for leaf in leaves)} ({', '.join(kinds)})"))
    if model.potential.cutoffs:
        rows.append(("cutoffs", ", ".join(f"{cutoff:g} Å" for cutoff in model.potential.cutoffs)))
    if model.potential.uses:
        rows.append(("reads", ", ".join(sorted(model.potential.uses))))
    known = {} if spec is None else spec.arguments
    rows += [
        (name.replace("_", " "), str(value))
        for name, value in known.items()
        if isinstance(value, str | bool | int | float) and name != "cutoff"
    ]
    if reference is not None and len(reference) > 1:
        there = np.flatnonzero(np.isfinite(reference))[1:]
        energies = (
            f"{s} {reference[z]:.4f}" for z, s in zip(there, elements.symbols(there), strict=True)
        )
        rows.append(("energies of atoms", ", ".join(energies) + " eV"))
    return rows


def _provenance_rows(about: Provenance) -> list[tuple[str, str]]:
    ev, length = units.to_ev(about.energy_unit), units.to_angstrom(about.length_unit)
    rows = [
        ("units of the file", f"{about.energy_unit}, {unit_symbol(about.length_unit)}"),
        ("data set", f"{about.dataset_name} ({about.dataset_theory})"),
        (
            "training frames",
            f"{len(about.train_indices)} of {about.train_fingerprint or 'unknown'}",
        ),
        ("validation frames", f"{len(about.valid_indices)} of {about.valid_fingerprint or 'none'}"),
        ("regularization", f"{about.regularization:g}"),
        ("written by", about.code_version or "unknown"),
    ]
    unit = f"{about.energy_unit}/{unit_symbol(about.length_unit)}"
    for name, error, factor, word in (
        ("energy", about.energy_error, ev, about.energy_unit),
        ("forces", about.force_error, ev / length, unit),
    ):
        known = {k: v / factor for k, v in error.items() if np.isfinite(v)}
        if known:
            text = ", ".join(f"{k.upper()} {v:.4g} {word}" for k, v in known.items())
            rows.append((f"validation {name}", text))
    return rows


def _name(function: object) -> str:
    known = descriptors.record(function)
    if known is not None:
        return known[0]
    return str(getattr(function, "name", None) or getattr(function, "__name__", function))
