"""Batches of mixed-size structures: packed, padded to few shapes, in an order to be resumed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from jaxff.data import buckets as shapes
from jaxff.data.batch import Batch
from jaxff.data.frames import as_frames
from jaxff.data.order import balanced_order
from jaxff.data.packing import Bucket, Plan, assemble
from jaxff.data.prefetch import prefetched
from jaxff.data.stacking import as_stack, padded
from jaxff.data.survey import PreparedFrames, Survey, survey, wanted_labels, warn_of_digits
from jaxff.linalg.memory import available_bytes
from jaxff.neighbors import neighbor_list

__all__ = ["Batches", "batches"]

_SAMPLE = 2000  # batches that are drawn to place the shapes
_ROWS = 0.9  # fill below which rows cost more than flat lists (experiments/benchmarks/batches.py)
_USES = frozenset({"charge", "spin", "electric_field"})


class Batches:
    """Frames in batches; made by :func:`batches`.

    Any batch is a function of (epoch, step) alone, so that a run goes on where it was stopped.

    Attributes:
        batch_size: Structures per batch (per device).
        plan: What all batches have in common.
        buckets: Their shapes and the expected fill.
        found: What the frames are.
    """

    def __init__(
        self,
        prepared: PreparedFrames,
        found: Survey,
        plan: Plan,
        buckets: shapes.Buckets,
        *,
        batch_size: int,
        seed: int | None,
        devices: int | None,
        drop_last: bool,
        prefetch: int,
        place: Callable[[Batch], Batch] | None,
    ):
        self.batch_size, self.plan, self.buckets, self.found = batch_size, plan, buckets, found
        self._prepared, self._seed, self._devices = prepared, seed, devices
        self._per_step = batch_size * (devices or 1)
        self._drop_last, self._prefetch, self._place = drop_last, prefetch, place
        self._needs = _needs(found, plan)
        self._order: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        """Number of steps of an epoch."""
        whole, rest = divmod(len(self._prepared), self._per_step)
        return whole + (rest > 0 and not self._drop_last)

    def order(self, epoch: int) -> Int[np.ndarray, " frames"]:
        """Order of the frames in an epoch: shuffled by (seed, epoch), or as they are.

        See :func:`jaxff.data.order.balanced_order`.
        """
        known = self._order
        if known is None or known[0] != epoch:
            order = _order(self._needs, self.batch_size, self._devices, self._seed, epoch)
            known = self._order = (epoch, order)
        return known[1]

    def indices(self, epoch: int, step: int) -> Int[np.ndarray, " frames"]:
        """The frames of a step, those of all devices one after another.

        Raises:
            IndexError: If the epoch has no such step.
        """
        if not 0 <= step < len(self):
            raise IndexError(f"step {step} asked for, but an epoch has {len(self)} steps")
        return self.order(epoch)[step * self._per_step : (step + 1) * self._per_step]

    def batch(self, epoch: int, step: int) -> Batch:
        """The batch of a step."""
        parts = [self.indices(epoch, step)]
        if self._devices is not None:
            parts = np.array_split(parts[0], self._devices)
        bucket = self.buckets.fitting(np.max([self._needs[p].sum(axis=0) for p in parts], axis=0))
        made = [self._assembled(part, bucket) for part in parts]
        whole = made[0] if self._devices is None else jax.tree.map(lambda *x: np.stack(x), *made)
        return whole if self._place is None else self._place(whole)

    def _assembled(self, part: np.ndarray, bucket: Bucket) -> Batch:
        items = [self._prepared[i] for i in part.tolist()]
        if not self.plan.stacked:
            return assemble(items, part, bucket, self.plan)
        items = [padded(item, self.plan.most) for item in items]
        return as_stack(assemble(items, part, bucket, self.plan), self.plan.most)

    def epoch(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from step ``start`` on, made ahead by a thread."""
        steps = range(start, len(self))
        return prefetched((self.batch(epoch, step) for step in steps), self._prefetch)

    def summary(self) -> str:
        """Shapes, expected padding, layout of the pairs and labels, for people."""
        counts = {name: int(mask.sum()) for name, mask in self.found.present.items()}
        lines = [
            f"{len(self._prepared)} frames of {self.found.sizes.min()} to "
            f"{self.found.sizes.max()} atoms, {self._prepared.kept} kept in memory",
            "labels: " + (", ".join(f"{n} in {counts[n]}" for n in self.plan.labels) or "none"),
        ]
        for name, values in self.found.fields.items():
            kinds, number = np.unique(values[~np.isnan(values)], return_counts=True)
            if len(kinds):
                table = (f"{k:g} in {n}" for k, n in zip(kinds, number, strict=True))
                lines.append(f"{name}: {', '.join(table)}")
        for shape, share in zip(self.buckets.shapes, self.buckets.shares, strict=True):
            pairs = f", pairs {', '.join(map(str, shape.pairs))}" if shape.pairs else ""
            lines.append(f"shape of {shape.atoms} atoms{pairs}: {share:.1%} of batches")
        used = ", ".join(
            f"{100 * fill:.1f} % of {name}" for name, fill in self.buckets.fill.items()
        )
        return "\n".join([*lines, f"used: {used}"])


def batches(
    frames: Any,
    *,
    batch_size: int,
    cutoffs: Sequence[float] = (),
    labels: Sequence[str] | None = None,
    uses: Collection[str] = (),
    defaults: Mapping[str, float] | None = None,
    reference_energies: Float[np.ndarray, " elements"] | None = None,
    seed: int | None = None,
    drop_last: bool = False,
    devices: int | None = None,
    form: str = "pack",
    layout: str = "auto",
    max_compilations: int = 3,
    cache_bytes: int | None = None,
    prefetch: int = 2,
    dtype: Any = None,
    place: Callable[[Batch], Batch] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Batches:
    """Prepare batches of frames for training or validation.

    Every frame is read once to learn sizes, pairs and labels; of these the shapes follow, so that
    any batch that can be drawn fits one of at most ``max_compilations`` shapes.

    Args:
        frames: What :func:`jaxff.data.as_frames` accepts.
        batch_size: Structures per batch, per device.
        cutoffs: Radii in Å for which pairs are needed: ``potential.cutoffs``.
        labels: Labels to hand out; a frame may lack some, its mask says so. Default: all there are.
        uses: Fields that the potential reads: ``potential.uses``. The electric field is zero.
        defaults: Charge or spin of the frames that do not say it.
        reference_energies: Energy per atom in eV by atomic number, taken off the energies in
            float64 before they are cast (:func:`jaxff.data.reference_energies`); the potential must
            then leave them out too.
        seed: Seed of the order, new in every epoch; ``None`` keeps the order of the frames.
        drop_last: Leave out what does not fill the last batch of an epoch.
        devices: Make this many packs per step, along a leading axis.
        form: ``"pack"``, or ``"stack"``: a leading axis of structures that all have the room of the
            largest, for potentials that take no packs, or see all pairs.
        layout: ``"rows"``, ``"flat"`` (see :class:`jaxff.neighbors.Pairs`), or ``"auto"``: rows for
            the lists whose rows are at least nine tenths full. Stacks always have rows.
        max_compilations: The most shapes. Each compiles one program where it is trained on and one
            where it is validated on.
        cache_bytes: Memory for frames and pairs; default a quarter of what is free.
        prefetch: Batches that a thread makes ahead; 0 for none.
        dtype: Type of floating-point arrays; default what JAX makes of float64.
        place: What brings a batch to the devices. By default batches are host arrays, which a
            compiled function takes as they are, sooner than ``jax.device_put``.
        progress: Called with the number of frames that have been read, while they are read once.

    Raises:
        ValueError: If there are no frames, a label is in none of them, a field is missing, or an
            argument is out of range.
    """
    frames = as_frames(frames)
    _check(len(frames), batch_size, devices, max_compilations, uses, defaults or {})
    if layout not in ("auto", "rows", "flat") or (form == "stack" and layout == "flat"):
        raise ValueError(f"layout must be 'auto', 'rows' or (for packs) 'flat', got {layout!r}")
    if form not in ("pack", "stack"):
        raise ValueError(f"form must be 'pack' or 'stack', got {form!r}")
    radii = neighbor_list(tuple(cutoffs)).cutoffs
    room = available_bytes() // 4 if cache_bytes is None else cache_bytes
    prepared = PreparedFrames(frames, radii, room, defaults or {})
    reference = None if reference_energies is None else np.asarray(reference_energies, np.float64)
    found = survey(prepared, frozenset(uses), reference, progress)
    plan = Plan(
        labels=wanted_labels(found, labels),
        cutoffs=radii,
        widths=_widths(found, "rows" if form == "stack" else layout),
        most=int(found.sizes.max()),
        periodic=found.periodic,
        uses=frozenset(uses),
        stacked=form == "stack",
        reference=reference,
        dtype=jax.dtypes.canonicalize_dtype(dtype or np.float64),
    )
    if drop_last and len(frames) < batch_size * (devices or 1):
        raise ValueError(
            f"{len(frames)} frames do not fill one step of {batch_size * (devices or 1)}: with "
            "drop_last nothing would be left; make batches smaller"
        )
    if "energy" in plan.labels and plan.dtype == np.float32:
        warn_of_digits(found)
    chosen = _choose(found, plan, batch_size, devices, seed, max_compilations)
    return Batches(
        *(prepared, found, plan, chosen),
        batch_size=batch_size,
        seed=seed,
        devices=devices,
        drop_last=drop_last,
        prefetch=prefetch,
        place=place,
    )


def _check(
    count: int,
    batch_size: int,
    devices: int | None,
    limit: int,
    uses: Collection[str],
    defaults: Mapping[str, float],
) -> None:
    if not count:
        raise ValueError("there are no frames")
    numbers = {"batch_size": batch_size, "devices": devices or 1, "max_compilations": limit}
    for name, value in numbers.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if unknown := sorted(set(uses) - _USES):
        raise ValueError(f"uses must be of {sorted(_USES)}, got {unknown}")
    if unknown := sorted(set(defaults) - {"charge", "spin"}):
        raise ValueError(f"defaults are for 'charge' and 'spin', got {unknown}")


def _order(
    needs: Int[np.ndarray, "frames dims"],
    batch_size: int,
    devices: int | None,
    seed: int | None,
    epoch: int,
) -> Int[np.ndarray, " frames"]:
    """As the frames are, or shuffled, balanced by what they need of each."""
    if seed is None:
        return np.arange(len(needs))
    sizes = (needs / np.maximum(needs.mean(axis=0), 1e-300)).sum(axis=1)
    return balanced_order(sizes, batch_size, devices or 1, seed, epoch)


def _widths(found: Survey, layout: str) -> tuple[int | None, ...]:
    """Slots of each atom in lists with rows, ``None`` for flat ones."""
    widths = np.maximum(found.most.max(axis=0), 1)
    fill = found.pairs.sum(axis=0) / (found.sizes.sum() * widths)
    rows = fill >= _ROWS if layout == "auto" else np.full(len(widths), layout == "rows")
    return tuple(int(w) if row else None for w, row in zip(widths, rows, strict=True))


def _needs(found: Survey, plan: Plan) -> Int[np.ndarray, "frames dims"]:
    """Atoms and slots for pairs that each frame takes."""
    sizes = np.full(len(found.sizes), plan.most) if plan.stacked else found.sizes
    columns = [sizes]
    for k, width in enumerate(plan.widths):
        columns.append(found.pairs[:, k] if width is None else sizes * width)
    return np.stack(columns, axis=1)


def _choose(
    found: Survey, plan: Plan, batch_size: int, devices: int | None, seed: int | None, limit: int
) -> shapes.Buckets:
    """Shapes for the batches of this order, or of all orders if they are shuffled."""
    needs, count, together = _needs(found, plan), len(found.sizes), devices or 1
    per_epoch = max(1, count // (batch_size * together))
    epochs = 1 if seed is None else max(1, _SAMPLE // per_epoch)
    sums = []
    for epoch in range(epochs):
        order = _order(needs, batch_size, devices, None if seed is None else 0, epoch)
        whole = order[: per_epoch * batch_size * together]
        own = shapes.group_sums(needs, whole, batch_size)
        sums.append(np.maximum.reduceat(own, np.arange(0, len(own), together), axis=0))
    sample = np.concatenate(sums)
    if seed is None and together == 1:  # there are no other batches than these, and the rest
        bound = np.maximum(
            sample.max(axis=0), shapes.group_sums(needs, np.arange(count), batch_size).max(axis=0)
        )
    else:
        bound = shapes.largest(needs, batch_size)
    names = ["atoms", *(f"pairs within {cutoff:g} Å" for cutoff in plan.cutoffs)]
    chosen = shapes.choose(sample, bound, batch_size, limit, names)
    used = np.concatenate([[found.sizes.sum()], found.pairs.sum(axis=0)])
    for name, real, slots in zip(names, used, needs.sum(axis=0), strict=True):
        chosen.fill[name] *= float(
            real / max(slots, 1)
        )  # not all slots of rows and stacks are used
    return chosen
