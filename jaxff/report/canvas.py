"""What all figures share: colours, an Agg canvas without Matplotlib's global state, writing."""

from __future__ import annotations

import base64
import io
import os
from typing import TYPE_CHECKING

import numpy as np

from jaxff.data.archive import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["BLUE", "GREEN", "GREY", "ORANGE", "PURPLE", "data_uri", "new_figure", "save"]

# Told apart by readers with any colour vision (and in grey print, by lightness).
BLUE, ORANGE, GREEN, PURPLE, GREY = "#1f5f99", "#d5701b", "#2a9d76", "#8c5a9e", "#777777"


def new_figure(width: float, height: float, title: str = "") -> Figure:
    """An empty figure; sizes in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def tidy(axes: Axes) -> None:
    """Without the frame's upper and right line."""
    axes.spines[["top", "right"]].set_visible(False)


def room_above(values: np.ndarray, share: float = 0.4) -> tuple[float, float]:
    """Limits that leave the upper part to the legend."""
    low, high = float(np.min(values)), float(np.max(values))
    span = (high - low) or 1.0
    return low - 0.06 * span, high + share * span


def save(path: str | os.PathLike, figure: Figure, *, dpi: int = 150) -> None:
    """Write a figure in full or not at all; the suffix (png, pdf, svg) is its format.

    Raises:
        ValueError: If the suffix is none of these.
    """
    kind = os.path.splitext(os.fspath(path))[1].lower().removeprefix(".")
    if kind not in ("png", "pdf", "svg"):
        raise ValueError(f"{path}: figures are written as .png, .pdf or .svg")
    write_atomic(path, lambda stream: figure.savefig(stream, format=kind, dpi=dpi))


def data_uri(figure: Figure, dpi: int = 120) -> str:
    """The figure as the address of an image that a page holds itself."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
