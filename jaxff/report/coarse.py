"""Figures of coarse graining: surfaces of free energy side by side, distributions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxff import units
from jaxff.analysis.free_energy import Surface
from jaxff.report.canvas import BLUE, GREEN, GREY, ORANGE, PURPLE, new_figure, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["distributions", "free_energies"]

_COLORS = (BLUE, ORANGE, GREEN, PURPLE)


def free_energies(
    surfaces: Mapping[str, Surface],
    names: Sequence[str],
    title: str = "",
    *,
    highest: float = 8.0,
) -> Figure:
    """Surfaces over one or two angles, in kT.

    Two variables give a map for each, with a line at every kT, blank where no frame was; one gives
    curves with bands of two standard errors. Of more than two the first two are shown, averaged
    over the others.

    Args:
        surfaces: By name; the first is the reference.
        names: Of the variables.
        title: Title of the figure.
        highest: Free energy in kT at which colours end.

    Raises:
        ValueError: If there is no surface.
    """
    if not surfaces:
        raise ValueError("a figure of free energies needs at least one surface")
    if len(names) == 1:
        return _curves(surfaces, names[0], title)
    columns = min(3, len(surfaces))
    rows = -(-len(surfaces) // columns)
    figure = new_figure(3.2 * columns + 0.8, 3.2 * rows + 0.2, title)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    drawn: Any = None
    for axes, (name, surface) in zip(panels.flat, surfaces.items(), strict=False):
        x, y = surface.centers[:2]
        free = _marginal(surface)
        free = np.ma.masked_invalid(np.where(np.isfinite(free), free, np.nan))
        drawn = axes.pcolormesh(x, y, free.T, vmin=0.0, vmax=highest, cmap="viridis")
        levels = np.arange(1.0, highest + 0.5)
        if (free < highest).any() and min(free.shape) > 1:
            axes.contour(x, y, free.T, levels=levels, colors="white", linewidths=0.5, alpha=0.7)
        axes.set_title(name, fontsize=10)
        axes.set(xlim=(-180, 180), ylim=(-180, 180), aspect="equal")
        axes.set_xticks([-180, -90, 0, 90, 180])
        axes.set_yticks([-180, -90, 0, 90, 180])
    for axes in panels.flat[len(surfaces) :]:
        axes.set_visible(False)
    for axes in panels.flat[max(0, len(surfaces) - columns) : len(surfaces)]:
        axes.set_xlabel(f"{names[0]} (°)")
    for axes in panels[:, 0]:
        axes.set_ylabel(f"{names[1]} (°)")
    figure.colorbar(drawn, ax=panels, label="free energy (kT)", extend="max", shrink=0.85)
    return figure


def _marginal(surface: Surface) -> np.ndarray:
    """Over the first two variables, in kT, the lowest at zero."""
    share = surface.probability.sum(axis=tuple(range(2, surface.probability.ndim)))
    with np.errstate(divide="ignore"):
        free = -np.log(share)
    return free - free.min()


def _curves(surfaces: Mapping[str, Surface], name: str, title: str) -> Figure:
    figure = new_figure(6.4, 4.0, title)
    axes = figure.subplots()
    for (label, surface), color in zip(surfaces.items(), _cycle(len(surfaces)), strict=True):
        thermal = units.BOLTZMANN * surface.temperature
        seen = np.isfinite(surface.free_energy)
        x, free = surface.centers[0][seen], surface.free_energy[seen] / thermal
        axes.plot(x, free, color=color, linewidth=1.4, label=label)
        band = 2.0 * np.nan_to_num(surface.error[seen]) / thermal
        axes.fill_between(x, free - band, free + band, color=color, alpha=0.2, linewidth=0)
    axes.set(xlabel=f"{name} (°)", ylabel="free energy (kT)", xlim=(-180, 180))
    axes.legend(frameon=False, fontsize=9)
    tidy(axes)
    return figure


def distributions(
    values: Mapping[str, tuple[Any, Any]], names: Sequence[str], label: str, title: str = ""
) -> Figure:
    """Distributions of several coordinates, of each ensemble a line, about those of the reference.

    Args:
        values: By name of the ensemble, ``(coordinates, values)`` and the weights of the values;
            the first is the reference.
        names: Of the coordinates.
        label: Of the axis, with its unit.
        title: Title of the figure.

    Raises:
        ValueError: If there are no coordinates.
    """
    if not names or not values:
        raise ValueError("a figure of distributions needs coordinates and ensembles")
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = new_figure(2.9 * columns, 2.3 * rows + 0.3, title)
    panels = figure.subplots(rows, columns, squeeze=False)
    for index, (axes, name) in enumerate(zip(panels.flat, names, strict=False)):
        rows_of = {key: np.asarray(own[index]) for key, (own, _) in values.items()}
        first = next(iter(rows_of.values()))
        margin = 0.25 * (first.max() - first.min())
        ends = (first.min() - margin, first.max() + margin)
        for key, color in zip(values, _cycle(len(values)), strict=True):
            inside = np.clip(rows_of[key], *ends)  # the last bins hold what is beyond
            density, edges = np.histogram(
                inside, bins=60, range=ends, weights=values[key][1], density=True
            )
            axes.stairs(density, edges, color=color, linewidth=1.1, label=key)
        axes.set_title(name, fontsize=9)
        axes.set_xlabel(label)
        axes.set_yticks([])
        tidy(axes)
    for axes in panels.flat[len(names) :]:
        axes.set_visible(False)
    panels[0, 0].legend(frameon=False, fontsize=8)
    return figure


def _cycle(count: int) -> list[str]:
    """The reference grey, the others in colours."""
    return [GREY, *(_COLORS[i % len(_COLORS)] for i in range(count - 1))]
