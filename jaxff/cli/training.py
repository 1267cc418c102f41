"""Training as ``fit`` and ``quickstart`` do it, with what they print on the way."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxff import gdml, units
from jaxff.cli.console import progress, say, warn
from jaxff.cli.crystal import ENOUGH, crystal_kernel
from jaxff.cli.files import Name
from jaxff.cli.solving import Solving, build_solver
from jaxff.data import Dataset
from jaxff.data.splits import Split
from jaxff.descriptors import InverseDistances, inverse_distances
from jaxff.interfaces import sgdml
from jaxff.kernels import Kernel, matern52, permutations
from jaxff.linalg.memory import available_bytes, dense_bytes, format_bytes
from jaxff.potential import bind
from jaxff.quantities import quantity
from jaxff.training import errors, predict, table

__all__ = ["Fitting", "Trained", "label_units", "report_errors", "train_model"]

_GRID = tuple(float(value) for value in range(10, 101, 10))
_CRYSTAL_GRID = (4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)


@dataclass(frozen=True)
class Fitting:
    """The kernel and its regularization."""

    lengthscale: tuple[float, ...] = ()
    """Length scales to try (sigma of sGDML, in 1/Å or 1/length unit of the file) until the validation error rises; with validation frames 10 20 ... 100 unless said otherwise, of a crystal 4 8 16 ... 256."""  # noqa: E501
    regularization: float = 1e-10
    """Added to the diagonal of the kernel matrix of labels with unit standard deviation."""
    relative: bool = False
    """Take the regularization relative to the mean diagonal of the matrix."""
    symmetry: Literal["recovered", "crystal", "none"] = "recovered"
    """Permutations of equivalent atoms: recovered from the geometries or named by the file, those of the crystal in --reference, with a smooth descriptor of all pairs, or none (plain GDML)."""  # noqa: E501
    reference: Path | None = None
    """Ideal supercell in the cell of the data, for --symmetry crystal: a POSCAR (or CONTCAR, *.vasp; periodic as the data are), or the first frame of an extended XYZ or a data set."""  # noqa: E501
    tolerance: float = 1e-3
    """How far atoms of the reference may be from ideal positions, in Å."""
    host: Name = None
    """Atoms of the reference that form an ideal host, such as 0-49 (counted from 0), where others move about on it or in it; then it must list its atoms as the data do."""  # noqa: E501
    own: Literal["recovered", "none"] = "recovered"
    """Permutations of the atoms beside --host among themselves: recovered from the geometries, or none."""  # noqa: E501
    max_order: int = 10_000
    """Largest permutation group to accept."""
    energy_constraints: bool = False
    """Fit the energies too, instead of only a constant."""
    energy_noise: float | None = None
    """Standard deviation of the energies in their unit, for --energy-constraints."""
    forces_noise: float | None = None
    """Standard deviation of the forces, in their unit."""


class Trained(NamedTuple):
    """A potential, its parameters, the record of their origin, and the trial that gave them."""

    model: gdml.KernelPotential
    params: Any
    about: sgdml.Provenance
    trial: gdml.Trial


def train_model(
    data: Dataset,
    parts: Split,
    fitting: Fitting,
    solving: Solving,
    seed: int,
    descriptor: InverseDistances = inverse_distances,
) -> Trained:
    """Recover the symmetry, choose the length scale, fit, and fix the energy constant.

    Args:
        data: The whole data set.
        parts: Training, validation and test frames of it.
        fitting: The kernel and the regularization.
        solving: How its equations are solved.
        seed: For the frames that recovery looks at.
        descriptor: Of pairs; with a reference they are smooth images.
    """
    train, valid = parts.train, parts.valid
    names = ("forces", "energy") if fitting.energy_constraints else ("forces",)
    labels = train.labels(*names)
    scales = _lengthscales(data, fitting, len(valid) > 0)
    _warn_of_repeats(train, valid, parts.test)
    kernel, origin = _kernel(data, train, fitting, seed, descriptor)
    model = gdml.potential(kernel)
    _announce(train, valid, kernel.order, origin, len(names) > 1)
    tuning = _tune(model, train, valid, labels, scales, fitting, solving)
    params, best = tuning.params, tuning.best
    to_file = units.to_angstrom(data.length_unit)
    _report_tuning(tuning, to_file)
    if not fitting.energy_constraints and "energy" in data.values:
        params, diagnosis = gdml.fit_constant(model, params, train.labels("energy")["energy"])
        for sentence in diagnosis.warnings:
            warn(sentence)
    elif "energy" not in data.values:
        warn("no energies in the data: the model's energies have an arbitrary constant")
    internal: dict[str, dict[str, Any]] = {}
    if len(valid):
        predicted = _predicted(bind(model, params), valid)
        internal = errors(predicted, _labels(valid))
        say(table(errors(predicted, _labels(valid), label_units(valid)), "\nValidation errors"))
    about = sgdml.Provenance(
        dataset_name=data.name,
        dataset_theory=data.theory,
        train_indices=train.indices,
        train_fingerprint=data.fingerprint or "",
        valid_indices=valid.indices,
        valid_fingerprint=(data.fingerprint or "") if len(valid) else "",
        energy_unit=data.energy_unit,
        length_unit=data.length_unit,
        regularization=best.info.regularization,
        scale=best.info.scale,
        has_energies="energy" in data.values,
        **_solver(best.info, solving),
        force_error=_mae_rmse(internal, "forces"),
        energy_error=_mae_rmse(internal, "energy"),
    )
    return Trained(model, params, about, best)


def _solver(info: gdml.FitInfo, solving: Solving) -> dict[str, Any]:
    if not info.method.startswith("conjugate gradients"):
        return {"solver": "analytic"}
    return {
        "solver": "cg",
        "iterations": info.iterations,
        "residual": info.residual_norm,
        "tolerance": solving.rtol,
    }


def _warn_of_repeats(train: Dataset, *others: Dataset) -> None:
    """Equal geometries on both sides make errors look smaller than they are."""
    seen = {positions.tobytes() for positions in train.positions}
    count = sum(positions.tobytes() in seen for part in others for positions in part.positions)
    if count:
        warn(f"{count} validation or test frames repeat training frames: errors look too small")


def _mae_rmse(report: dict[str, dict[str, Any]], name: str) -> dict[str, float]:
    return {k: report[name][k] for k in ("mae", "rmse")} if name in report else {}


def _lengthscales(data: Dataset, fitting: Fitting, has_valid: bool) -> tuple[float, ...]:
    """Candidates in 1/Å."""
    crystal = fitting.symmetry == "crystal"
    grid = _CRYSTAL_GRID if crystal else _GRID
    values = fitting.lengthscale or (grid if has_valid else ())
    if not values:
        usual = "4 to 64" if crystal else "10 to 50"
        raise ValueError(
            f"without validation frames (--valid) one --lengthscale is needed; {usual} is usual"
        )
    if len(values) > 1 and not has_valid:
        raise ValueError(
            f"choosing among {len(values)} length scales needs validation frames: say --valid"
        )
    return tuple(value / units.to_angstrom(data.length_unit) for value in values)


_FEW = 30
"""Geometries below which a recovered group may come out too large: swaps that never happen are told
apart by distances that never occur."""


def _kernel(
    data: Dataset, train: Dataset, fitting: Fitting, seed: int, descriptor: InverseDistances
) -> tuple[Kernel, str]:
    """The kernel, and where its permutations come from."""
    if (fitting.symmetry == "crystal") != (fitting.reference is not None):
        raise ValueError(
            "--symmetry crystal and --reference, the ideal supercell, need each other: give both"
        )
    if fitting.host is not None and fitting.reference is None:
        raise ValueError("--host names atoms of --reference: give both, and --symmetry crystal")
    if fitting.reference is None:
        group, origin = _permutations(data, train, fitting, seed)
        return Kernel(descriptor, matern52, group), origin
    return crystal_kernel(data, train, fitting, seed)


def _permutations(
    data: Dataset, train: Dataset, fitting: Fitting, seed: int
) -> tuple[np.ndarray | None, str]:
    """The group and where it comes from; few training frames are helped by other geometries."""
    if fitting.symmetry == "none":
        return None, "no symmetry asked for"
    given = train.permutations
    if given is not None and len(given) > fitting.max_order:
        raise ValueError(
            f"the file names {len(given)} permutations, more than --max-order {fitting.max_order}"
        )
    start = time.perf_counter()
    frames = train if len(train) >= ENOUGH else data
    with progress("recovering permutations"):
        group = permutations.recover(frames.systems, seed=seed, max_order=fitting.max_order)
    used, seconds = min(len(frames), 1000), time.perf_counter() - start
    if given is None:
        if used < _FEW:
            warn(
                f"a group recovered from {used} geometries may be too large: check its order, give "
                "more frames, or --symmetry none"
            )
        return group, f"recovered from {used} geometries in {seconds:.1f} s"
    if not {tuple(p) for p in given.tolist()} <= {tuple(p) for p in group.tolist()}:
        warn(
            f"the file names permutations that {used} geometries do not show (their group has "
            f"order {len(group)}): if they are wrong, errors are large"
        )
    return given, "from the file"


def _announce(train: Dataset, valid: Dataset, order: int, origin: str, energies: bool) -> None:
    atoms = len(train.numbers)
    size = len(train) * (3 * atoms + int(energies))
    say(f"Permutation group of order {order} ({origin}).")
    say(
        f"Training on {len(train)} frames, validating on {len(valid)}: {size} equations, "
        f"{format_bytes(dense_bytes(size))} for the solve, "
        f"{format_bytes(available_bytes())} of memory free."
    )


def _tune(
    model: gdml.KernelPotential,
    train: Dataset,
    valid: Dataset,
    labels: dict[str, Any],
    scales: tuple[float, ...],
    fitting: Fitting,
    solving: Solving,
) -> gdml.Tuning:
    """The search over length scales, with a bar and a row per trial."""
    done: list[gdml.Trial] = []
    if len(valid):
        say("\nlength scale  validation force RMSE  seconds")
    with progress("assembling and solving", len(scales)) as bar:

        def show(trial: gdml.Trial) -> None:
            done.append(trial)
            bar.say(_trial_row(trial, train))

        return gdml.tune(
            model,
            train.systems,
            labels,
            valid.systems if len(valid) else None,
            valid.labels("forces")["forces"] if len(valid) else None,
            lengthscales=scales,
            solver=build_solver(
                solving,
                lambda part: bar(len(done) + part),
                bar.remaining if len(scales) == 1 else None,  # of several solves, this one's only
            ),
            regularization=fitting.regularization,
            relative=fitting.relative,
            noise=_noise(train, fitting),
            progress=show,
        )


def _trial_row(trial: gdml.Trial, data: Dataset) -> str:
    scale = trial.lengthscale * units.to_angstrom(data.length_unit)
    if not np.isfinite(trial.rmse):
        return f"Fitted with length scale {scale:g} in {trial.info.seconds:.1f} s."
    unit = label_units(data)["forces"]
    rmse = trial.rmse / quantity("forces").factor(unit)
    word = f"{rmse:.4g} {unit.replace('Ang', 'Å')}"
    return f"{scale:12g}  {word:>21s}  {trial.info.seconds:7.1f}"


def _noise(data: Dataset, fitting: Fitting) -> dict[str, float]:
    given = {"energy": fitting.energy_noise, "forces": fitting.forces_noise}
    energy = units.to_ev(data.energy_unit)
    factors = {"energy": energy, "forces": energy / units.to_angstrom(data.length_unit)}
    return {name: value * factors[name] for name, value in given.items() if value is not None}


def _report_tuning(tuning: gdml.Tuning, to_file: float) -> None:
    best = tuning.best
    if len(tuning.trials) > 1:
        say(f"Best length scale: {best.lengthscale * to_file:g}.")
    if tuning.refused is not None:
        value, reason = tuning.refused
        warn(f"length scale {value * to_file:g} and longer ones were left out: {reason}")
    if tuning.on_boundary:
        warn(
            f"the best length scale, {best.lengthscale * to_file:g}, is at the edge of those "
            "tried: widen --lengthscale"
        )
    if best.info.residual_norm > 1e-4:
        warn(
            f"the solution leaves a relative residual of {best.info.residual_norm:.1e}: raise "
            "--regularization"
        )


def label_units(data: Dataset) -> dict[str, str]:
    """Units of the file, in which errors are reported."""
    return {"energy": data.energy_unit, "forces": f"{data.energy_unit}/{data.length_unit}"}


def _labels(data: Dataset) -> dict[str, np.ndarray]:
    return data.labels(*(name for name in ("energy", "forces") if name in data.values))


def _predicted(energy_fn: Any, data: Dataset) -> dict[str, np.ndarray]:
    with progress("predicting", len(data)) as update:
        return predict(energy_fn, data.systems, tuple(_labels(data)), progress=update)


def report_errors(energy_fn: Any, data: Dataset) -> dict[str, dict[str, Any]]:
    """Errors of energies and forces, as far as they are labelled, in the units of the file."""
    return errors(_predicted(energy_fn, data), _labels(data), label_units(data))
