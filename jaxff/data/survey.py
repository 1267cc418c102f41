"""One pass over all frames before training: sizes, pairs, and which labels there are."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxff.data.frame import Frame, checked
from jaxff.data.frames import Frames, Source, where
from jaxff.data.packing import Prepared, prepare
from jaxff.elements import impossible_spin
from jaxff.quantities import quantity

__all__ = ["PreparedFrames", "Survey", "survey", "wanted_labels", "warn_of_digits"]

_DIGITS = 1e-4  # eV, the coarsest step of a float32 energy that passes without a warning


class PreparedFrames:
    """Frames with their pairs, kept as far as memory allows and made anew beyond.

    Args:
        frames: The frames.
        cutoffs: Radii in Å of the lists of pairs.
        cache_bytes: Memory for frames and pairs to keep.
        defaults: Total charge or number of unpaired electrons of frames that do not say.
    """

    def __init__(
        self,
        frames: Frames,
        cutoffs: Sequence[float],
        cache_bytes: int,
        defaults: Mapping[str, float],
    ):
        self.frames, self.cutoffs, self.defaults = frames, tuple(cutoffs), dict(defaults)
        self._room = cache_bytes
        self._kept: list[Prepared | None] = [None] * len(frames)

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def kept(self) -> int:
        """Number of frames that are kept in memory."""
        return sum(item is not None for item in self._kept)

    def __getitem__(self, index: int) -> Prepared:
        item = self._kept[index]
        if item is None:
            item = prepare(self._frame(index), self.cutoffs)
            if item.nbytes <= self._room:
                self._room -= item.nbytes
                self._kept[index] = item
        return item

    def _frame(self, index: int) -> Frame:
        frame = self.frames[index]
        if not isinstance(self.frames, Source):
            frame = checked(frame, where(self.frames, index))
        missing = {n: v for n, v in self.defaults.items() if getattr(frame, n) is None}
        return replace(frame, **missing) if missing else frame


@dataclass(frozen=True, eq=False)
class Survey:
    """What the frames are.

    Attributes:
        sizes: Number of atoms.
        pairs: Number of pairs within each cutoff.
        most: Largest number of neighbours of an atom within each cutoff.
        present: For each label that occurs, the frames that have it.
        energies: Energy in eV, less the reference energies; NaN where there is none.
        fields: Total charges and numbers of unpaired electrons; NaN where they are not known.
        periodic: Whether some frame repeats.
        geometries: Equal numbers for equal atoms at equal places, within one process.
        elements: Atomic numbers that occur.
    """

    sizes: Int[np.ndarray, " frames"]
    pairs: Int[np.ndarray, "frames cutoffs"]
    most: Int[np.ndarray, "frames cutoffs"]
    present: dict[str, Bool[np.ndarray, " frames"]]
    energies: Float[np.ndarray, " frames"]
    fields: dict[str, Float[np.ndarray, " frames"]]
    periodic: bool
    geometries: Int[np.ndarray, " frames"]
    elements: tuple[int, ...]


def survey(
    prepared: PreparedFrames,
    uses: frozenset[str],
    reference: np.ndarray | None = None,
    progress: Callable[[int], None] | None = None,
) -> Survey:
    """Look at every frame once.

    Args:
        prepared: The frames.
        uses: Which of ``charge``, ``spin`` every frame must say.
        reference: Energy per atom in eV by atomic number.
        progress: Called with the number of frames after each.

    Raises:
        ValueError: If a frame does not say its charge or spin, or has an element without a
            reference energy.
    """
    count, kinds = len(prepared), len(prepared.cutoffs)
    sizes = np.zeros(count, np.int64)
    pairs, most = np.zeros((2, count, kinds), np.int64)
    energies = np.full(count, np.nan)
    present: dict[str, np.ndarray] = {}
    fields = {name: np.full(count, np.nan) for name in ("charge", "spin")}
    periodic, geometries = False, np.zeros(count, np.int64)
    elements: set[int] = set()
    impossible: dict[int, str] = {}
    for index in range(count):
        item = prepared[index]
        frame = item.frame
        sizes[index] = len(frame.numbers)
        periodic |= frame.cell is not None
        elements.update(np.unique(frame.numbers).tolist())
        geometries[index] = _geometry(frame)
        for k, found in enumerate(item.pairs):
            pairs[index, k], most[index, k] = len(found.centers), found.most
        for name in frame.labels:
            present.setdefault(name, np.zeros(count, bool))[index] = True
        for name, column in fields.items():
            if (value := getattr(frame, name)) is not None:
                column[index] = value
        totals = (column[index] for column in fields.values())
        if {"charge", "spin"} <= uses and (problem := impossible_spin(frame.numbers, *totals)):
            impossible[index] = problem
        if "energy" in frame.labels:
            offset = _offset(frame, reference, prepared.frames, index)
            energies[index] = float(frame.labels["energy"]) - offset
        if progress is not None:
            progress(index + 1)
    for name in sorted(uses & set(fields)):
        if (lacking := np.flatnonzero(np.isnan(fields[name]))).size:
            raise ValueError(
                f"{where(prepared.frames, int(lacking[0]))}: no {name}, which the potential reads "
                f"({len(lacking)} of {count} frames lack it): say it in the file, or for all such "
                f"frames by defaults={{{name!r}: 0.0}}"
            )
    if impossible:
        first = min(impossible)
        warnings.warn(
            f"{where(prepared.frames, first)}: {impossible[first]} ({len(impossible)} of {count} "
            "frames)",
            stacklevel=2,
        )
    return Survey(
        sizes, pairs, most, present, energies, fields, periodic, geometries,
        tuple(sorted(elements)),
    )  # fmt: skip


def _geometry(frame: Frame) -> int:
    arrays = (frame.numbers, frame.positions, frame.cell)
    return hash(tuple(None if array is None else array.tobytes() for array in arrays))


def _offset(frame: Frame, reference: np.ndarray | None, frames: Frames, index: int) -> float:
    if reference is None:
        return 0.0
    inside = frame.numbers < len(reference)
    per_atom = np.where(inside, reference[np.where(inside, frame.numbers, 0)], np.nan)
    if not np.isfinite(per_atom).all():
        unknown = np.unique(frame.numbers[~np.isfinite(per_atom)]).tolist()
        raise ValueError(
            f"{where(frames, index)}: no reference energy for atomic numbers {unknown}: fit them "
            "on frames that have these elements, or give them"
        )
    return float(per_atom.sum())


def wanted_labels(found: Survey, names: Sequence[str] | None) -> tuple[str, ...]:
    """Labels to hand out: those asked for, or all that occur.

    Raises:
        ValueError: If one that is asked for is unknown or in no frame.
    """
    if names is None:
        return tuple(found.present)
    for name in names:
        quantity(name)
        if name not in found.present:
            there = ", ".join(f"{n} ({mask.sum()})" for n, mask in found.present.items())
            raise ValueError(
                f"label {name!r} is in none of the {len(found.sizes)} frames; labels and how many "
                f"frames have them: {there or 'none'}. Name its key when opening the file"
            )
    return tuple(dict.fromkeys(names))


def warn_of_digits(found: Survey) -> None:
    """Warn if energies lose digits when they become float32."""
    most = float(np.nanmax(np.abs(found.energies)))
    if (step := float(np.spacing(np.float32(most)))) > _DIGITS:
        warnings.warn(
            f"energies up to {most:.6g} eV become float32 in steps of {step:.1g} eV: pass "
            "reference_energies=, or enable float64",
            stacklevel=3,
        )
