"""Figures of vibrations: harmonic frequencies of two sources, spectra with the modes marked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxff.report.canvas import BLUE, GREY, ORANGE, new_figure, tidy
from jaxff.vibrations import BandPath, PhononModes, Spectrum

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["bands", "frequencies", "spectrum"]


def bands(modes: PhononModes, path: BandPath, title: str = "") -> Figure:
    """Phonon bands along a path, with points where they are exact; imaginary ones below zero.

    Args:
        modes: At the points of the path.
        path: From :func:`jaxff.vibrations.band_path`.
        title: Title of the figure.

    Raises:
        ValueError: If the modes are those of other points.
    """
    if modes.points.shape != path.points.shape or not np.allclose(modes.points, path.points):
        raise ValueError("expected the modes at the points of the path, got those of others")
    figure = new_figure(7.2, 4.4, title)
    axes = figure.subplots()
    # At a jump of the path two points have one place: there the lines end and begin.
    jumps = 1 + np.flatnonzero(np.diff(path.distances) == 0.0)
    pieces = np.split(np.arange(len(path.points)), jumps)
    for piece in pieces:
        axes.plot(path.distances[piece], modes.frequencies[piece], color=BLUE, linewidth=1.1)
    exact = np.flatnonzero(modes.exact)
    axes.plot(path.distances[exact], modes.frequencies[exact], "o", color=ORANGE, markersize=3.5)
    for place in path.places:
        axes.axvline(place, color=GREY, linewidth=0.6)
    axes.axhline(0.0, color=GREY, linewidth=0.6)
    labels = [label.replace("G", "Γ").replace(",", "|") for label in path.labels]
    axes.set_xticks(path.places, labels)
    axes.set_xlim(path.distances[0], path.distances[-1])
    axes.set_ylabel("frequency (THz)")
    axes.set_xlabel("wave vector; points: exact, lines: interpolated")
    tidy(axes)
    return figure


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
    figure = new_figure(7.2, 5.6, title)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    mode = np.arange(1, len(reference) + 1)
    above.bar(mode - 0.2, reference, 0.4, color=GREY, label=names[0])
    above.bar(mode + 0.2, model, 0.4, color=BLUE, label=names[1])
    above.set_ylabel("wavenumber (cm⁻¹)")
    above.legend(loc="upper left", frameon=False)
    difference = model - reference
    mae = float(np.mean(np.abs(difference)))
    below.bar(mode, difference, 0.6, color=ORANGE, label=f"MAE {mae:.2g} cm⁻¹")
    below.axhline(0.0, color=GREY, linewidth=0.9)
    below.set_xlabel("vibrational mode, by ascending wavenumber")
    below.set_ylabel("difference (cm⁻¹)")
    below.set_xticks(mode if len(mode) <= 30 else mode[:: len(mode) // 15])
    room = 1.3 * float(np.abs(difference).max()) or 1.0
    below.set_ylim(-room, 1.5 * room)
    below.legend(loc="upper left", frameon=False)
    for axes in (above, below):
        tidy(axes)
    return figure


def spectrum(
    spectra: Spectrum | Mapping[str, Spectrum],
    modes: Any = None,
    title: str = "",
    *,
    reference: Any = None,
    names: tuple[str, str] = ("normal modes", "reference"),
) -> Figure:
    """Vibrational densities of states above each other, with harmonic wavenumbers marked below.

    Args:
        spectra: One spectrum, or several by the name that their panels carry.
        modes: Harmonic wavenumbers in cm⁻¹; imaginary (negative) ones are left out.
        title: Title of the figure.
        reference: Further wavenumbers to mark, of another method.
        names: What the two rows of marks are called.

    Raises:
        ValueError: If there is no spectrum, or one has several series.
    """
    named = {"": spectra} if isinstance(spectra, Spectrum) else dict(spectra)
    if not named or any(np.ndim(one.density) != 1 for one in named.values()):
        raise ValueError("expected at least one spectrum, each of a single series")
    marks = {n: np.asarray(m, float) for n, m in zip(names, (modes, reference), strict=True)
             if m is not None}  # fmt: skip
    heights = [2.0] * len(named) + ([0.28 * len(marks)] if marks else [])
    figure = new_figure(7.6, 1.3 + 1.9 * len(named) + 0.3 * len(marks), title)
    panels = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)
    last = _reach(named, marks)
    for axes, (name, one) in zip(panels[:, 0], named.items(), strict=False):
        shown = one.wavenumbers <= last
        axes.plot(one.wavenumbers[shown], one.density[shown], color=BLUE, linewidth=1.1)
        axes.fill_between(
            one.wavenumbers[shown], one.density[shown], color=BLUE, alpha=0.15, linewidth=0
        )
        axes.set_ylim(bottom=0.0)
        axes.set_ylabel("modes per cm⁻¹")
        words = f"{name}, " if name else ""
        axes.text(
            0.5, 0.97, f"{words}resolution {one.resolution:.3g} cm⁻¹", ha="center", va="top",
            transform=axes.transAxes, fontsize=9,
        )  # fmt: skip
        tidy(axes)
        for values in list(marks.values())[:1]:
            for value in values[(values > 0) & (values <= last)]:
                axes.axvline(value, color=ORANGE, linewidth=0.6, alpha=0.45, zorder=0)
    if marks:
        _strip(panels[-1, 0], marks)
    panels[-1, 0].set_xlim(0.0, last)
    panels[-1, 0].set_xlabel("wavenumber (cm⁻¹)")
    return figure


def _reach(spectra: Mapping[str, Spectrum], marks: Mapping[str, np.ndarray]) -> float:
    """Up to where something is to be seen."""
    seen = [values.max() for values in marks.values() if len(values)]
    for one in spectra.values():
        high = one.density > 0.01 * one.density.max()
        seen.append(float(one.wavenumbers[high].max()))
    return 1.08 * float(max(seen)) or 1.0


def _strip(axes: Axes, marks: Mapping[str, np.ndarray]) -> None:
    """A row of short lines for each set of wavenumbers."""
    for row, (values, color) in enumerate(zip(marks.values(), (ORANGE, GREY), strict=False)):
        axes.vlines(values[values > 0], -row - 0.4, -row + 0.4, color=color, linewidth=1.4)
    axes.set_ylim(0.6 - len(marks), 0.6)
    axes.set_yticks([-row for row in range(len(marks))], list(marks))
    axes.tick_params(axis="y", length=0, labelsize=9)
    axes.spines[["top", "right", "left"]].set_visible(False)
