"""What ``jaxff coarse-grain`` writes of a comparison: numbers, surfaces, a page with figures."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np

from jaxff import report
from jaxff.cli.coarse_folder import Folder
from jaxff.cli.console import say
from jaxff.cli.start import command_line
from jaxff.coarse.comparison import Ensemble
from jaxff.coarse.config import Config
from jaxff.data.archive import write_archive, write_atomic
from jaxff.report import Section, Table, facts, page

__all__ = ["write_comparison"]


def write_comparison(
    folder: Folder,
    config: Config,
    ensembles: Mapping[str, Ensemble],
    records: Mapping[str, Mapping[str, Any]],
) -> None:
    """Write comparison.json, surfaces.npz and report.html, and say what they tell.

    Args:
        folder: Where to.
        config: The configuration.
        ensembles: By name, the first that of the trajectory.
        records: Numbers of each.
    """
    folder.write("comparison.json", {"temperature_K": config.temperature, "ensembles": records})
    arrays: dict[str, np.ndarray] = {}
    for name, each in ensembles.items():
        arrays[f"{name}_free_energy_eV"] = each.surface.free_energy
        arrays[f"{name}_error_eV"] = each.surface.error
    for label, centers in zip(
        config.variables.labels, ensembles["trajectory"].surface.centers, strict=True
    ):
        arrays[f"{label}_degrees"] = centers
    write_archive(folder.path / "surfaces.npz", arrays)
    table = _table(records)
    say(_text(table))
    sections = [
        Section("What was run", table=facts(_outline(config, ensembles))),
        Section(
            "Distance from the trajectory", _EXPLAINED.format(below=config.compare.below), table
        ),
        *_figures(config, ensembles),
        *(
            [Section("Populations", _drifts(records), _populations(records))]
            if config.compare.states
            else []
        ),
        Section("Minima", table=_minima(records, config.variables.labels)),
    ]
    content = page(
        "Coarse-grained force fields", sections,
        f"Written by jaxff on {datetime.now():%Y-%m-%d %H:%M}.",
    )  # fmt: skip
    place = folder.path / "report.html"
    write_atomic(place, lambda stream: stream.write(content.encode()))
    say(f"Wrote comparison.json, surfaces.npz, report.html into {folder.path}.")


_EXPLAINED = (
    "Mean squared difference of free energies, after the best constant, over bins that both "
    "ensembles visited and that the trajectory has below {below:g} kT, with its standard error "
    "over replicas; how much of it the noise of both surfaces explains; share of the trajectory "
    "below {below:g} kT that lies in bins that the model visited, without which a small "
    "difference means nothing; Jensen-Shannon divergence (0 to ln 2); Kullback-Leibler "
    "divergence, which is infinite, shown as –, where the model misses a bin; standard error of "
    "the model's own surface; error of instantaneous forces on held-out frames, nearly all of "
    "which is noise (a network has chosen its parameters by them)."
)


def _outline(config: Config, ensembles: Mapping[str, Ensemble]) -> dict[str, str]:
    rows = {
        "Command": command_line(),
        "Temperature": f"{config.temperature:g} K",
        "Frames of the trajectory": str(len(ensembles["trajectory"].weights)),
        "Models": ", ".join(f"{name} ({each.kind})" for name, each in config.models.items()),
    }
    if config.simulate is not None:
        own = config.simulate
        reduced = own.ensemble == "overdamped" and own.friction is own.mobility is None
        rows["Dynamics"] = (
            f"{own.ensemble}, {own.replicas} replicas of {own.steps} steps of {own.step:g} "
            + ("units of time (mobility 1 Å² per eV and unit)" if reduced else "fs")
        )
    return {**rows, **report.environment()}


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}g}"


def _with_error(value: float | None, error: float | None) -> str:
    return _number(value) + ("" if value is None or error is None else f" ± {error:.1g}")


def _table(records: Mapping[str, Mapping[str, Any]]) -> Table:
    columns = ("model", "mean squared difference (kT²)", "of it noise (kT²)", "visited",
               "Jensen-Shannon", "Kullback-Leibler", "standard error (kT)",
               "force RMSE (eV/Å)")  # fmt: skip
    inverted = any("inverted_share" in each for each in records.values())
    rows = []
    for name, each in records.items():
        mse = each.get("fit", {}).get("held_out_mse")
        row = (
            name,
            _with_error(each["mean_squared_difference_kT2"],
                        each["mean_squared_difference_error_kT2"]),
            _number(each["noise_kT2"], 2), f"{each['visited_share']:.1%}",
            _with_error(each["jensen_shannon"], each["jensen_shannon_error"]),
            _number(each["kullback_leibler"]), _number(each["standard_error_kT"], 2),
            _number(None if mse is None else mse**0.5, 4),
        )  # fmt: skip
        extra = (f"{each['inversions']}", f"{each['inverted_share']:.2%}") if inverted else ()
        rows.append((*row, *extra))
    return Table((*columns, *(("inversions", "inverted") if inverted else ())), tuple(rows))


def _text(table: Table) -> str:
    rows = [table.columns, *table.rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(table.columns))]
    return "\n".join(
        "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w)
                  for i, (cell, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    )  # fmt: skip


def _figures(config: Config, ensembles: Mapping[str, Ensemble]) -> list[Section]:
    surfaces = {name: each.surface for name, each in ensembles.items()}
    labels = config.variables.labels
    shown = " and ".join(labels[:2])
    sections = [
        Section(
            "Free energies", figure=report.free_energies(surfaces, labels),
            caption=f"Free energy in kT over {shown}, in the trajectory and in runs of the models.",
        )
    ]  # fmt: skip
    prior = config.prior
    for heading, attribute, rows, label in (
        ("Bonds", "lengths", () if prior is None else prior.bonds, "Å"),
        ("Angles", "angles", () if prior is None else prior.angles, "°"),
    ):
        if rows:
            values = {k: (getattr(e, attribute), e.weights) for k, e in ensembles.items()}
            names = ["–".join(str(bead) for bead in row) for row in rows]
            sections.append(
                Section(
                    heading, figure=report.distributions(values, names, label),
                    caption=f"Distributions of {heading.lower()}, named by their beads.",
                )
            )  # fmt: skip
    return sections


def _populations(records: Mapping[str, Mapping[str, Any]]) -> Table:
    states = list(next(iter(records.values()))["populations"])
    rows = [
        (
            name,
            *(
                f"{share:.4f}" + ("" if error is None else f" ± {error:.1g}")
                for share, error in each["populations"].values()
            ),
        )
        for name, each in records.items()
    ]
    return Table(("model", *states), tuple(rows))


def _drifts(records: Mapping[str, Mapping[str, Any]]) -> str:
    """What runs that still remember their starts are to be told by."""
    found = [
        f"{state} of {name}: {first[0]:.3f} in the first half of the runs, {last[0]:.3f} in the "
        "second: they remember their starts, which are spread over the cells; simulate longer."
        for name, each in records.items()
        for state, (first, last) in each.get("populations_of_halves", {}).items()
        if None not in (first[1], last[1])
        and abs(first[0] - last[0]) > 3.0 * float(np.hypot(first[1], last[1]))
    ]
    return " ".join(found)


def _minima(records: Mapping[str, Mapping[str, Any]], labels: tuple[str, ...]) -> Table:
    rows = [
        (name, *(f"{angle:.0f}" for angle in each["place"]), _number(each["kT"]),
         _number(each["error_kT"], 1))
        for name, record in records.items()
        for each in record["minima"]
    ]  # fmt: skip
    head = ("model", *(f"{label} (°)" for label in labels), "free energy (kT)", "error (kT)")
    return Table(head, tuple(rows))
