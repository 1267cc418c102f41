"""Frames that no model can use: found by number and reason, never repaired."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Int

_MAX_LISTED = 10
_COINCIDENT = 1e-6  # Å
_FLAT = 1e-6  # Å^n, volume spanned by the n periodic lattice vectors


def invalid_frames(
    positions: np.ndarray,
    values: Mapping[str, np.ndarray],
    cell: np.ndarray | None = None,
    pbc: np.ndarray | None = None,
) -> dict[str, Int[np.ndarray, " bad"]]:
    """Frames by what is wrong with them: not finite, flat cell, two atoms at one point.

    Args:
        positions: Coordinates in Å, ``(frames, atoms, 3)``.
        values: Labels by name, frames first.
        cell: Lattice vectors as rows, ``(frames, 3, 3)``.
        pbc: Periodic directions; ``None`` means all three.
    """
    reasons = {}
    count = len(positions)
    if not count:
        return {}
    for name, array in {"positions": positions, "cell": cell, **values}.items():
        if array is not None:
            finite = np.isfinite(np.reshape(array, (count, -1))).all(axis=1)
            reasons[f"{name} not finite"] = np.flatnonzero(~finite)
    with np.errstate(invalid="ignore"):
        if cell is not None:
            vectors = cell if pbc is None else cell[:, np.asarray(pbc, bool)]
            gram = np.einsum("fia,fja->fij", vectors, vectors)
            reasons["cell without volume"] = np.flatnonzero(np.linalg.det(gram) < _FLAT**2)
        reasons["two atoms at one point"] = _coincident(positions)
    return {reason: frames for reason, frames in reasons.items() if frames.size}


def _coincident(positions: np.ndarray) -> np.ndarray:
    """Frames with two atoms at one point (images through lattice vectors are not compared)."""
    # Atoms that coincide agree in any projection, so one sort per frame finds the few candidates.
    # The direction is generic: planar and linear molecules give no false ones by symmetry.
    line = np.sort(positions @ np.array([0.4142135, 0.6180339, 0.6681786]), axis=1)
    candidates = np.flatnonzero((np.diff(line, axis=1) < 2 * _COINCIDENT).any(axis=1))
    if not candidates.size:
        return np.zeros(0, int)
    first, second = np.triu_indices(positions.shape[1], 1)
    found = []
    for frame in candidates:
        apart = np.linalg.norm(positions[frame, first] - positions[frame, second], axis=1)
        if (apart < _COINCIDENT).any():
            found.append(frame)
    return np.asarray(found, int)


def valid_frames(
    positions: np.ndarray,
    values: Mapping[str, np.ndarray],
    cell: np.ndarray | None = None,
    pbc: np.ndarray | None = None,
    *,
    indices: np.ndarray | None = None,
    drop: Any = (),
    skip_invalid: bool = False,
    where: str = "",
) -> Int[np.ndarray, " kept"]:
    """Frames to keep: all but ``drop`` and, if asked, but the invalid ones.

    Args:
        positions: As in :func:`invalid_frames`.
        values: As in :func:`invalid_frames`.
        cell: As in :func:`invalid_frames`.
        pbc: As in :func:`invalid_frames`.
        indices: Numbers by which a message calls the frames; default 0, 1, 2, ...
        drop: Frames to leave out whether valid or not.
        skip_invalid: Leave invalid frames out instead of raising.
        where: Start of a message, naming the file.

    Raises:
        ValueError: If invalid frames remain, naming them, or ``drop`` names absent frames.
    """
    count = len(positions)
    indices = np.arange(count) if indices is None else indices
    drop = np.unique(np.asarray(drop, int))
    if drop.size and (drop[0] < 0 or drop[-1] >= count):
        raise ValueError(f"{where}drop names frames outside 0 to {count - 1}: {drop.tolist()}")
    keep = np.ones(count, bool)
    keep[drop] = False
    bad = invalid_frames(positions, values, cell, pbc)
    if skip_invalid:
        for frames in bad.values():
            keep[frames] = False
    bad = {reason: frames[keep[frames]] for reason, frames in bad.items()}
    if any(frames.size for frames in bad.values()):
        raise ValueError(
            f"{where}{_describe(bad, indices)}; to leave them out, pass drop=[...] or "
            "skip_invalid=True when reading the file"
        )
    return np.flatnonzero(keep)


def _describe(bad: Mapping[str, np.ndarray], indices: np.ndarray) -> str:
    parts = []
    for reason, frames in bad.items():
        if frames.size:
            shown = ", ".join(str(indices[frame]) for frame in frames[:_MAX_LISTED])
            rest = len(frames) - _MAX_LISTED
            parts.append(f"{reason} in frame {shown}" + (f" and {rest} more" if rest > 0 else ""))
    return "; ".join(parts)
