"""Figures and a self-contained page of a fit: parity, residuals, frequencies, energy conservation.

Figures are drawn by Matplotlib's Agg renderer without its global state, and imported on use.
"""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxff.data.archive import write_atomic
from jaxff.dynamics.observables import Drift
from jaxff.quantities import quantity
from jaxff.training.metrics import errors, unit_symbol

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Section", "conservation", "frequencies", "page", "parity", "save"]

_BLUE, _ORANGE, _GREY = "#1f5f99", "#d5701b", "#777777"
_MANY = 4000  # points, beyond which a cloud is shown by its density


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        heading: Title.
        text: Plain text; lines are kept.
        table: Preformatted text, shown in a fixed-width font.
        figure: A figure, embedded as an image.
    """

    heading: str
    text: str = ""
    table: str = ""
    figure: Figure | None = None


def parity(
    predicted: Mapping[str, Any],
    labels: Mapping[str, Any],
    units: Mapping[str, str] | None = None,
    title: str = "",
) -> Figure:
    """Predictions against labels above histograms of the residuals, a column per label.

    Energies are shown relative to the mean of the labels, forces component by component.

    Args:
        predicted: Predictions by name in eV, Å, e.
        labels: Labels by name in eV, Å, e.
        units: Unit to show a label in; default the one of the library.
        title: Title of the figure.

    Raises:
        ValueError: If there are no labels, or no frames.
    """
    report = errors(predicted, labels, units)
    if not report or any(row["frames"] == 0 for row in report.values()):
        raise ValueError("a parity figure needs at least one label of at least one frame")
    figure = _figure(4.6 * len(report), 6.6, title)
    axes = figure.subplots(2, len(report), squeeze=False, height_ratios=(2.2, 1))
    for column, (name, row) in enumerate(report.items()):
        factor = quantity(name).factor(row["unit"])
        reference = np.ravel(labels[name]) / factor
        model = np.ravel(predicted[name]) / factor
        unit = unit_symbol(row["unit"])
        if name == "energy":
            model, reference = model - reference.mean(), reference - reference.mean()
        word = {"energy": "energy − mean", "forces": "force component"}.get(name, name)
        _cloud(axes[0, column], reference, model, f"{word} ({unit})", _legend(row, unit))
        _residuals(axes[1, column], model - reference, name, unit)
    return figure


def _legend(row: Mapping[str, Any], unit: str) -> str:
    return f"MAE {row['mae']:.3g} {unit}\nRMSE {row['rmse']:.3g} {unit}"


def _cloud(axes: Axes, reference: np.ndarray, model: np.ndarray, word: str, legend: str) -> None:
    low, high = float(min(reference.min(), model.min())), float(max(reference.max(), model.max()))
    margin = 0.04 * (high - low) or 1.0
    span = (low - margin, high + margin)
    (line,) = axes.plot(span, span, color=_GREY, linewidth=0.9, label="identity", zorder=3)
    if len(reference) > _MANY:
        drawn = axes.hexbin(
            reference, model, gridsize=70, bins="log", cmap="viridis", mincnt=1,
            extent=(*span, *span), linewidths=0.1,
        )  # fmt: skip
        axes.figure.colorbar(drawn, ax=axes, label="points per cell", shrink=0.9, pad=0.02)
        handle = axes.scatter([], [], s=14, color="#2a788e", marker="h", label=legend)
    else:
        handle = axes.scatter(
            reference, model, s=9, alpha=0.45, color=_BLUE, linewidths=0, label=legend
        )
    axes.set(xlim=span, ylim=span, aspect="equal")
    axes.set_xlabel(f"reference {word}")
    axes.set_ylabel(f"predicted {word}")
    axes.legend(handles=[handle, line], loc="upper left", frameon=False, fontsize=9)


def _residuals(axes: Axes, residuals: np.ndarray, name: str, unit: str) -> None:
    # A few outliers would squeeze the bulk into one bar: the axis ends at the 99.8 % quantile.
    reach = float(np.quantile(np.abs(residuals), 0.998)) or float(np.abs(residuals).max()) or 1.0
    outside = int(np.sum(np.abs(residuals) > reach))
    bins = int(np.clip(np.sqrt(len(residuals)), 10, 80))
    axes.hist(residuals, bins=bins, range=(-reach, reach), color=_BLUE, alpha=0.85)
    axes.axvline(0.0, color=_GREY, linewidth=0.9)
    mean = float(np.mean(residuals))
    axes.axvline(
        mean, color=_ORANGE, linewidth=1.1, linestyle="--", label=f"mean {mean:.2g} {unit}"
    )
    singular = "force" if name == "forces" else name
    axes.set_xlabel(f"{singular} residual, predicted − reference ({unit})")
    axes.set_ylabel("count")
    extra = f"{outside} of {len(residuals)} outside" if outside else None
    axes.set_ylim(top=1.3 * axes.get_ylim()[1])
    axes.legend(loc="upper right", frameon=False, fontsize=8, title=extra, title_fontsize=8)


def frequencies(
    reference: Any, model: Any, title: str = "", names: tuple[str, str] = ("reference", "model")
) -> Figure:
    """Harmonic frequencies of two sources, mode by mode, and their differences.

    Args:
        reference: Wavenumbers in cm⁻¹, ascending.
        model: The same number of wavenumbers.
        title: Title of the figure.
        names: What the two are called in the legend.

    Raises:
        ValueError: If the numbers of modes differ.
    """
    reference, model = np.asarray(reference, float), np.asarray(model, float)
    if reference.shape != model.shape or reference.ndim != 1 or not len(reference):
        raise ValueError(f"expected as many modes, got {reference.shape} and {model.shape}")
    figure = _figure(7.2, 5.6, title)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    mode = np.arange(1, len(reference) + 1)
    above.bar(mode - 0.2, reference, 0.4, color=_GREY, label=names[0])
    above.bar(mode + 0.2, model, 0.4, color=_BLUE, label=names[1])
    above.set_ylabel("wavenumber (cm⁻¹)")
    above.legend(loc="upper left", frameon=False)
    difference = model - reference
    mae = float(np.mean(np.abs(difference)))
    below.bar(mode, difference, 0.6, color=_ORANGE, label=f"MAE {mae:.2g} cm⁻¹")
    below.axhline(0.0, color=_GREY, linewidth=0.9)
    below.set_xlabel("vibrational mode, by ascending wavenumber")
    below.set_ylabel(f"{names[1]} − {names[0]} (cm⁻¹)")
    below.set_xticks(mode if len(mode) <= 30 else mode[:: len(mode) // 15])
    room = 1.3 * float(np.abs(difference).max()) or 1.0
    below.set_ylim(-room, 1.5 * room)
    below.legend(loc="upper left", frameon=False)
    return figure


def conservation(
    times: Any,
    potential_energy: Any,
    total_energy: Any,
    temperature: Any,
    atoms: int,
    drift: Drift | None = None,
    title: str = "",
) -> Figure:
    """Total energy with its drift, energies and temperature along a run.

    Args:
        times: Times in fs.
        potential_energy: Potential energy in eV.
        total_energy: Conserved energy in eV.
        temperature: Kinetic temperature in K.
        atoms: Number of atoms, by which energies are divided.
        drift: From :func:`jaxff.dynamics.energy_drift`; drawn as a line.
        title: Title of the figure.
    """
    picoseconds = np.asarray(times, float) * 1e-3
    total, potential = np.asarray(total_energy, float), np.asarray(potential_energy, float)
    figure = _figure(7.2, 6.8, title)
    first, second, third = figure.subplots(3, 1, sharex=True)
    per_atom = (total - total.mean()) * 1e3 / atoms
    first.plot(picoseconds, per_atom, color=_BLUE, linewidth=0.7, label="total energy − mean")
    if drift is not None:
        line = drift.slope * (picoseconds - picoseconds.mean())
        label = f"drift ({drift.slope:.2g} ± {drift.standard_error:.1g}) meV/atom/ps"
        first.plot(picoseconds, line, color=_ORANGE, linewidth=1.4, label=label)
    first.set_ylabel("energy (meV/atom)")
    first.set_ylim(*_room_above(per_atom))
    low = potential.min()
    potential_per_atom = (potential - low) * 1e3 / atoms
    kinetic_per_atom = (total - potential) * 1e3 / atoms
    second.plot(picoseconds, potential_per_atom, color=_BLUE, linewidth=0.7, label="potential")
    second.plot(picoseconds, kinetic_per_atom, color=_ORANGE, linewidth=0.7, label="kinetic")
    second.set_ylabel("energy (meV/atom)")
    second.set_ylim(*_room_above(np.concatenate([potential_per_atom, kinetic_per_atom])))
    mean = float(np.mean(temperature))
    third.plot(picoseconds, temperature, color=_BLUE, linewidth=0.7)
    third.axhline(mean, color=_ORANGE, linewidth=1.2, label=f"mean {mean:.0f} K")
    third.set(ylabel="temperature (K)", xlabel="time (ps)")
    third.set_ylim(*_room_above(np.asarray(temperature, float)))
    for axes in (first, second, third):
        axes.legend(loc="upper right", frameon=False, fontsize=9, ncols=2)
    return figure


def _room_above(values: np.ndarray) -> tuple[float, float]:
    """Limits that leave the upper quarter to the legend."""
    low, high = float(values.min()), float(values.max())
    span = (high - low) or 1.0
    return low - 0.06 * span, high + 0.4 * span


def _figure(width: float, height: float, title: str) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def save(path: str | os.PathLike, figure: Figure, *, dpi: int = 150) -> None:
    """Write a figure in full or not at all; the suffix (png, pdf, svg) is its format.

    Raises:
        ValueError: If the suffix is none of these.
    """
    kind = os.path.splitext(os.fspath(path))[1].lower().removeprefix(".")
    if kind not in ("png", "pdf", "svg"):
        raise ValueError(f"{path}: figures are written as .png, .pdf or .svg")
    write_atomic(path, lambda stream: figure.savefig(stream, format=kind, dpi=dpi))


_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
pre { background: #f4f4f2; padding: 0.8rem 1rem; overflow-x: auto; font-size: 0.9rem; }
p { white-space: pre-line; } img { max-width: 100%; }
"""


def page(title: str, sections: Sequence[Section]) -> str:
    """A page that needs no other file: figures are embedded, nothing is loaded from elsewhere.

    Args:
        title: Title of the page.
        sections: Its parts, in order.
    """
    parts = [
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{html.escape(title)}</h1>\n"
    ]
    for section in sections:
        parts.append(f"<h2>{html.escape(section.heading)}</h2>\n")
        if section.text:
            parts.append(f"<p>{html.escape(section.text)}</p>\n")
        if section.table:
            parts.append(f"<pre>{html.escape(section.table)}</pre>\n")
        if section.figure is not None:
            name = html.escape(section.heading, quote=True)
            parts.append(f'<img alt="{name}" src="{_data_uri(section.figure)}">\n')
    return "".join([*parts, "</body>\n</html>\n"])


def _data_uri(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
