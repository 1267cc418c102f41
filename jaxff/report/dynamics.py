"""Figures of a run: what it conserves, energies, temperature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxff.dynamics.observables import Drift
from jaxff.report.canvas import BLUE, GREY, ORANGE, new_figure, room_above, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["conservation", "ring_polymers"]

_POINTS = 4000  # of a line; more are thinned out to the extremes of each bin


def conservation(
    times: Any,
    potential_energy: Any,
    total_energy: Any,
    temperature: Any,
    atoms: int,
    drift: Drift | None = None,
    title: str = "",
    *,
    conserved: Any = None,
    target: float | None = None,
) -> Figure:
    """The conserved energy with its drift, potential energy and temperature along a run.

    Arrays of replicas ``(replicas, frames)`` are drawn over each other.

    Args:
        times: Times in fs.
        potential_energy: Potential energy in eV.
        total_energy: Total energy in eV.
        temperature: Kinetic temperature in K.
        atoms: Number of atoms, by which energies are divided.
        drift: From :func:`jaxff.dynamics.energy_drift`; drawn as a line.
        title: Title of the figure.
        conserved: What the ensemble conserves, in eV; by default the total energy.
        target: Temperature in K of the thermostat, drawn as a line.
    """
    picoseconds = np.asarray(times, float) * 1e-3
    total = np.atleast_2d(np.asarray(total_energy, float))
    potential = np.atleast_2d(np.asarray(potential_energy, float))
    kelvin = np.atleast_2d(np.asarray(temperature, float))
    name = "total energy − mean" if conserved is None else "conserved energy − mean"
    kept = total if conserved is None else np.atleast_2d(np.asarray(conserved, float))
    figure = new_figure(7.2, 6.8, title)
    first, second, third = figure.subplots(3, 1, sharex=True)
    per_atom = (kept - kept.mean(axis=-1, keepdims=True)) * 1e3 / atoms
    _lines(first, picoseconds, per_atom, BLUE, name)
    if drift is not None:
        line = drift.slope * (picoseconds - picoseconds.mean())
        label = f"drift ({drift.slope:.2g} ± {drift.standard_error:.1g}) meV/atom/ps"
        first.plot(picoseconds, line, color=ORANGE, linewidth=1.4, label=label)
    first.set_ylabel("energy (meV/atom)")
    first.set_ylim(*room_above(per_atom))
    above = (potential - potential.min()) * 1e3 / atoms
    _lines(second, picoseconds, above, BLUE, "potential energy, above its lowest")
    second.set_ylabel("energy (meV/atom)")
    second.set_ylim(*room_above(above))
    mean = float(kelvin.mean())
    _lines(third, picoseconds, kelvin, BLUE, None)
    third.axhline(mean, color=ORANGE, linewidth=1.4, label=f"mean {mean:.0f} K")
    if target is not None:
        third.axhline(target, color=GREY, linewidth=1.2, linestyle="--", label="thermostat")
    third.set(ylabel="temperature (K)", xlabel="time (ps)")
    third.set_ylim(*room_above(kelvin))
    third.set_xlim(picoseconds[0], picoseconds[-1] if len(picoseconds) > 1 else None)
    for axes in (first, second, third):
        axes.legend(loc="upper right", frameon=False, fontsize=9, ncols=2)
        tidy(axes)
    return figure


def ring_polymers(
    log: Mapping[str, Any], atoms: int, drift: Drift | None = None, title: str = ""
) -> Figure:
    """What a path integral conserves, its energies, and the extension of its rings.

    Args:
        log: Columns of ``quantum.csv`` by name.
        atoms: Number of atoms, by which energies are divided.
        drift: Of the conserved quantity; drawn as a line.
        title: Title of the figure.
    """
    columns = {name: np.asarray(values, float) for name, values in log.items()}
    picoseconds, share = columns["time_fs"] * 1e-3, 1e3 / atoms
    figure = new_figure(7.2, 6.8, title)
    first, second, third = figure.subplots(3, 1, sharex=True)
    kept = columns["conserved_energy_eV"]
    per_atom = (kept - kept.mean()) * share
    _lines(first, picoseconds, per_atom[None], BLUE, "conserved by all beads − mean")
    if drift is not None:
        line = drift.slope * (picoseconds - picoseconds.mean())
        label = f"drift ({drift.slope:.2g} ± {drift.standard_error:.1g}) meV/atom/ps"
        first.plot(picoseconds, line, color=ORANGE, linewidth=1.4, label=label)
    first.set_ylim(*room_above(per_atom))
    potential = columns["potential_energy_eV"]
    energies = {
        "kinetic, primitive": (GREY, columns["primitive_kinetic_energy_eV"]),
        "kinetic, virial": (ORANGE, columns["virial_kinetic_energy_eV"]),
        "potential, above its lowest": (BLUE, potential - potential.min()),
    }
    for label, (color, values) in energies.items():
        _lines(second, picoseconds, share * values[None], color, label)
    second.set_ylim(*room_above(share * np.stack([values for _, values in energies.values()])))
    radius = columns["radius_of_gyration_A"]
    _lines(third, picoseconds, radius[None], BLUE, "radius of gyration of the rings")
    third.set_ylim(*room_above(radius))
    third.set(ylabel="length (Å)", xlabel="time (ps)")
    third.set_xlim(picoseconds[0], picoseconds[-1] if len(picoseconds) > 1 else None)
    for axes in (first, second):
        axes.set_ylabel("energy (meV/atom)")
    for axes in (first, second, third):
        axes.legend(loc="upper right", frameon=False, fontsize=9, ncols=3)
        tidy(axes)
    return figure


def _lines(axes: Axes, x: np.ndarray, rows: np.ndarray, color: str, label: str | None) -> None:
    """A line per replica, thinner and paler the more there are."""
    alpha = max(0.25, len(rows) ** -0.5)
    for index, row in enumerate(rows):
        thin_x, thin_y = _thinned(x, row)
        name = label if index == 0 else None
        axes.plot(thin_x, thin_y, color=color, linewidth=0.7, alpha=alpha, label=name)


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most so many points as can be seen, the extremes of each bin among them."""
    if len(x) <= _POINTS:
        return x, y
    width = -(-len(x) // (_POINTS // 2))
    starts = np.arange(0, len(x) - width + 1, width)
    windows = y[starts[:, None] + np.arange(width)]
    index = np.stack([starts + windows.argmin(axis=1), starts + windows.argmax(axis=1)], axis=1)
    index = np.unique(np.concatenate([[0], index.ravel(), [len(x) - 1]]))
    return x[index], y[index]
