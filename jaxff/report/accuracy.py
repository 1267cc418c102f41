"""Figures of a model's errors: parity, residuals, sizes of force errors by element."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxff import elements
from jaxff.quantities import quantity
from jaxff.report.canvas import BLUE, GREEN, GREY, ORANGE, PURPLE, new_figure, tidy
from jaxff.training.metrics import errors, unit_symbol

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["force_errors", "parity"]

_MANY = 4000  # points, beyond which a cloud is shown by its density


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
    figure = new_figure(4.6 * len(report), 6.6, title)
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
    (line,) = axes.plot(span, span, color=GREY, linewidth=0.9, label="identity", zorder=3)
    if len(reference) > _MANY:
        drawn = axes.hexbin(
            reference, model, gridsize=70, bins="log", cmap="viridis", mincnt=1,
            extent=(*span, *span), linewidths=0.1,
        )  # fmt: skip
        axes.figure.colorbar(drawn, ax=axes, label="points per cell", shrink=0.9, pad=0.02)
        handle = axes.scatter([], [], s=14, color="#2a788e", marker="h", label=legend)
    else:
        handle = axes.scatter(
            reference, model, s=9, alpha=0.45, color=BLUE, linewidths=0, label=legend
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
    axes.hist(residuals, bins=bins, range=(-reach, reach), color=BLUE, alpha=0.85)
    axes.axvline(0.0, color=GREY, linewidth=0.9)
    mean = float(np.mean(residuals))
    axes.axvline(mean, color=ORANGE, linewidth=1.1, linestyle="--", label=f"mean {mean:.2g} {unit}")
    singular = "force" if name == "forces" else name
    axes.set_xlabel(f"{singular} residual, predicted − reference ({unit})")
    axes.set_ylabel("count")
    extra = f"{outside} of {len(residuals)} outside" if outside else None
    axes.set_ylim(top=1.3 * axes.get_ylim()[1])
    axes.legend(loc="upper right", frameon=False, fontsize=8, title=extra, title_fontsize=8)


_STYLES = ((BLUE, "-"), (ORANGE, "--"), (GREEN, "-."), (PURPLE, ":"))


def force_errors(
    predicted: Any, labels: Any, numbers: Any, unit: str = "eV/Ang", title: str = ""
) -> Figure:
    """How large the errors of the force vectors are, for each element.

    The length of the difference of two vectors, on a logarithmic axis; each line is a share of the
    atoms of its element, so that rare elements are seen as well.

    Args:
        predicted: Forces ``(frames, atoms, 3)`` in eV/Å.
        labels: Forces of the reference.
        numbers: Atomic numbers.
        unit: Unit to show them in.
        title: Title of the figure.

    Raises:
        ValueError: If there are no frames, or shapes disagree.
    """
    predicted, labels = np.asarray(predicted, float), np.asarray(labels, float)
    numbers = np.asarray(numbers)
    if predicted.shape != labels.shape or labels.ndim != 3 or not labels.size:
        raise ValueError(
            f"expected two arrays of forces (frames, atoms, 3), got {predicted.shape} and "
            f"{labels.shape}"
        )
    size = np.linalg.norm(predicted - labels, axis=-1) / quantity("forces").factor(unit)
    kinds = np.unique(numbers)
    low, high = _decades(size)
    edges = np.geomspace(low, high, 37)
    figure = new_figure(7.2, 3.4, title)
    axes = figure.subplots()
    for index, number in enumerate(kinds):
        found = size[:, numbers == number].ravel()
        color, dash = _STYLES[index % len(_STYLES)]
        counts = np.histogram(np.clip(found, low, high), edges)[0] / len(found)
        label = f"{elements.symbols([number])[0]}: median {np.median(found):.2g}"
        axes.stairs(counts, edges, color=color, linestyle=dash, linewidth=1.5, label=label)
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.set_xlabel(f"length of the force error ({unit_symbol(unit)})")
    axes.set_ylabel("share of the atoms per bin")
    axes.set_ylim(0.0, 1.05 * axes.get_ylim()[1])
    axes.legend(loc="upper left", frameon=False, fontsize=9)
    tidy(axes)
    return figure


def _decades(size: np.ndarray) -> tuple[float, float]:
    """Limits that leave out the smallest hundredth, which would fill half of the axis."""
    high = 1.05 * float(size.max()) or 1.0
    low = max(0.5 * float(np.quantile(size, 0.01)), 1e-6 * high)
    return (low, high) if low < 0.9 * high else (0.1 * high, high)
