"""Predictions in batches, and their errors: numbers and a table."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from jaxff.derivatives import observe
from jaxff.neighbors import Neighbors, neighbor_list
from jaxff.potential import EnergyFn
from jaxff.quantities import quantity
from jaxff.system import System

__all__ = ["errors", "predict", "table", "unit_symbol"]

_SLOTS = 4  # by which rows of neighbours grow


def predict(
    energy_fn: EnergyFn,
    systems: System,
    names: Iterable[str] = ("energy", "forces"),
    *,
    batch: int = 256,
    progress: Callable[[int], None] | None = None,
) -> dict[str, np.ndarray]:
    """Observables of many systems, batch by batch with one compiled program.

    The last batch is filled up with repeats of the last system, which are cut off again. Potentials
    with cutoffs get their neighbours; a batch with atoms of more neighbours than any before it may
    be compiled anew.

    Args:
        energy_fn: Energy function that accepts stacks.
        systems: Stack of systems.
        names: What to predict, see :func:`jaxff.observe`.
        batch: Systems per batch.
        progress: Called with the number of finished systems after each batch.

    Returns:
        Host arrays by name, systems first, in eV, Å, e.

    Raises:
        ValueError: If ``systems`` is no stack or ``batch`` is not positive.
    """
    if systems.is_packed or len(systems.batch_shape) != 1:
        raise ValueError(f"predict needs a stack of systems, got {systems.positions.shape}")
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    count = systems.batch_shape[0]
    observed = observe(energy_fn, tuple(names))
    if count == 0:
        none = jax.tree.map(lambda leaf: leaf[:0], systems)
        shapes = jax.eval_shape(observed, none, _Lists(energy_fn)(none))
        return {name: np.zeros(s.shape, s.dtype) for name, s in shapes.items()}
    lists = _Lists(energy_fn)
    size, parts = min(batch, count), []
    for start in range(0, count, size):
        index = np.minimum(np.arange(start, start + size), count - 1)
        part = jax.tree.map(lambda leaf, i=index: leaf[i], systems)
        values = _call(observed, part, lists(part))
        kept = min(size, count - start)
        parts.append({name: np.asarray(value)[:kept] for name, value in values.items()})
        if progress is not None:
            progress(start + kept)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


class _Lists:
    """Neighbours of one stack after another, with rows that only grow, by several slots at once."""

    def __init__(self, energy_fn: EnergyFn):
        self._cutoffs = getattr(energy_fn, "cutoffs", ())
        self._slots = [_SLOTS] * len(self._cutoffs)

    def __call__(self, systems: System) -> Neighbors | None:
        if not self._cutoffs:
            return None
        prepared = neighbor_list(self._cutoffs)
        found = prepared.allocate_stack(systems, self._slots)
        widths = [pairs.width or 0 for pairs in found.pairs]
        if widths == self._slots:
            return found
        self._slots = [-(-width // _SLOTS) * _SLOTS for width in widths]
        return prepared.allocate_stack(systems, self._slots)


@jax.jit
def _call(function: Callable[..., Any], systems: System, neighbors: Neighbors | None) -> Any:
    return function(systems, neighbors)


def errors(
    predicted: Mapping[str, Any],
    labels: Mapping[str, Any],
    units: Mapping[str, str] | None = None,
) -> dict[str, dict[str, Any]]:
    """Mean absolute, root mean square and largest error of each label, over all components.

    Args:
        predicted: Predictions by name in eV, Å, e; names without a label are left out.
        labels: Labels by name in eV, Å, e.
        units: Unit to report a label in; default the one of the library.

    Returns:
        ``{name: {"mae": ..., "rmse": ..., "max": ..., "unit": ..., "frames": ...}}``; errors of no
        frames are NaN.

    Raises:
        ValueError: If a label has no prediction or another shape, or a unit does not fit.
    """
    report: dict[str, dict[str, Any]] = {}
    for name, label in labels.items():
        label = np.asarray(label, np.float64)
        if name not in predicted or np.shape(predicted[name]) != label.shape:
            got = np.shape(predicted[name]) if name in predicted else "nothing"
            raise ValueError(f"{name} must be predicted with shape {label.shape}, got {got}")
        unit = (units or {}).get(name, quantity(name).unit)
        factor = quantity(name).factor(unit)
        difference = np.abs(np.asarray(predicted[name], np.float64) - label) / factor
        empty = difference.size == 0
        report[name] = {
            "mae": float("nan") if empty else float(np.mean(difference)),
            "rmse": float("nan") if empty else float(np.sqrt(np.mean(difference**2))),
            "max": float("nan") if empty else float(np.max(difference)),
            "unit": unit,
            "frames": len(label),
        }
    return report


def table(report: Mapping[str, Mapping[str, Any]], title: str = "") -> str:
    """The result of :func:`errors` as a text table with units.

    Args:
        report: From :func:`errors`.
        title: First line, if any.
    """
    rows: list[tuple[str, ...]] = [("", "MAE", "RMSE", "max", "unit", "frames")]
    for name, row in report.items():
        numbers = (f"{row[key]:.4g}" for key in ("mae", "rmse", "max"))
        rows.append((name, *numbers, unit_symbol(row["unit"]), str(row["frames"])))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [title] if title else []
    for row in rows:
        cells = [
            cell.ljust(width) if i in (0, 4) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def unit_symbol(unit: str) -> str:
    """A unit as it is printed: the ångström by its symbol, however a file spells it."""
    return re.sub(r"(?i)(?<![a-z])ang(s|strom|stroms)?(?![a-z])", "Å", unit)
