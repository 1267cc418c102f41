"""Frames with their pairs on the host, and how several become one padded pack.

Everything here is NumPy: a batch is put together by copying slices, and goes to the device whole.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int

from jaxff.data.batch import Batch
from jaxff.data.frame import Frame
from jaxff.neighbors import Neighbors, Pairs
from jaxff.neighbors.search import search
from jaxff.quantities import quantity
from jaxff.system import System

__all__ = ["Bucket", "HostPairs", "Plan", "Prepared", "assemble", "prepare"]


@dataclass(frozen=True)
class HostPairs:
    """Both directions of the pairs of one structure, sorted by center.

    Attributes:
        centers: Atom that has the neighbour.
        others: The neighbour.
        shifts: Lattice vectors to the image that is meant.
        ranks: Position of the pair among those of its center.
        most: Largest number of pairs of a center.
    """

    centers: Int[np.ndarray, " pairs"]
    others: Int[np.ndarray, " pairs"]
    shifts: Int[np.ndarray, "pairs 3"]
    ranks: Int[np.ndarray, " pairs"]
    most: int


@dataclass(frozen=True)
class Prepared:
    """A frame with its pairs, one list per cutoff."""

    frame: Frame
    pairs: tuple[HostPairs, ...]

    @property
    def nbytes(self) -> int:
        """Memory of the arrays."""
        frame, total = self.frame, 0
        for array in (frame.numbers, frame.positions, frame.cell, *frame.labels.values()):
            total += 0 if array is None else array.nbytes
        for pairs in self.pairs:
            total += 24 * len(pairs.centers)
        return total


@dataclass(frozen=True)
class Bucket:
    """One shape of batches.

    Attributes:
        structures: Number of structures.
        atoms: Number of atoms.
        pairs: Number of pairs for each cutoff.
    """

    structures: int
    atoms: int
    pairs: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Plan:
    """What all batches have in common.

    Attributes:
        labels: Names of the labels.
        cutoffs: Radii in Å of the lists of pairs.
        widths: Slots of each atom for lists with rows, ``None`` for flat lists.
        most: Atoms of the largest structure.
        periodic: Whether batches carry cells.
        uses: Which of ``charge``, ``spin``, ``electric_field`` they carry.
        stacked: Whether batches are stacks, every structure with room for ``most`` atoms.
        reference: Energy per atom in eV by atomic number that is taken off the energies.
        dtype: Type of floating-point arrays.
    """

    labels: tuple[str, ...]
    cutoffs: tuple[float, ...]
    widths: tuple[int | None, ...]
    most: int
    periodic: bool
    uses: frozenset[str]
    stacked: bool
    reference: np.ndarray | None
    dtype: Any


def prepare(frame: Frame, cutoffs: Sequence[float]) -> Prepared:
    """The frame with its pairs within each cutoff (Å)."""
    return Prepared(frame, tuple(_host_pairs(frame, cutoff) for cutoff in cutoffs))


def _host_pairs(frame: Frame, cutoff: float) -> HostPairs:
    atoms = len(frame.numbers)
    cell, pbc = np.zeros((3, 3)), np.zeros(3, bool)
    if frame.cell is not None and frame.pbc is not None:
        cell, pbc = np.where(frame.pbc[:, None], frame.cell, 0.0), frame.pbc
    centers, others, shifts = search(np.arange(atoms), frame.positions, cell, pbc, cutoff)
    keys = (*shifts.T[::-1], others, centers) if pbc.any() else (others, centers)
    order = np.lexsort(keys)
    centers = centers[order].astype(np.int32)
    counts = np.bincount(centers, minlength=atoms)
    ranks = np.arange(len(centers)) - np.repeat(np.cumsum(counts) - counts, counts)
    return HostPairs(
        centers,
        others[order].astype(np.int32),
        shifts[order].astype(np.int32),
        ranks.astype(np.int32),
        int(counts.max()),
    )


def assemble(
    frames: Sequence[Prepared], indices: Int[np.ndarray, " frames"], bucket: Bucket, plan: Plan
) -> Batch:
    """One pack of host arrays in the shape of the bucket, which must have room."""
    sizes = [len(item.frame) for item in frames]
    starts = np.cumsum([0, *sizes])
    system = _system([item.frame for item in frames], sizes, bucket, plan)
    leaves = []
    for k, width in enumerate(plan.widths):
        pairs = [item.pairs[k] for item in frames]
        leaves += _pairs(pairs, starts, bucket.atoms, bucket.pairs[k], width)
    neighbors = None
    if plan.cutoffs:
        form = _neighbors_form(bucket.atoms, plan.cutoffs, plan.widths)
        neighbors = jax.tree.unflatten(form, [*leaves, np.zeros((), bool)])
    labels, masks = {}, {}
    for name in plan.labels:
        labels[name], masks[name] = _label(name, [f.frame for f in frames], starts, bucket, plan)
    known = np.full(bucket.structures, -1, np.int32)
    known[: len(frames)] = indices
    return Batch(system, neighbors, labels, masks, known)


def _system(frames: Sequence[Frame], sizes: list[int], bucket: Bucket, plan: Plan) -> System:
    count, atoms = len(frames), sum(sizes)
    numbers = np.zeros(bucket.atoms, np.int32)
    positions = np.zeros((bucket.atoms, 3), plan.dtype)
    if frames:
        np.concatenate([f.numbers for f in frames], out=numbers[:atoms], casting="same_kind")
        np.concatenate([f.positions for f in frames], out=positions[:atoms], casting="same_kind")
    fields: dict[str, Any] = {"cell": None, "pbc": None}
    if plan.periodic:
        fields["cell"] = np.tile(np.eye(3, dtype=positions.dtype), (bucket.structures, 1, 1))
        fields["pbc"] = np.zeros((bucket.structures, 3), bool)
        for index, frame in enumerate(frames):
            if frame.cell is not None:
                fields["cell"][index], fields["pbc"][index] = frame.cell, frame.pbc
    for name in ("charge", "spin"):
        fields[name] = None
        if name in plan.uses:
            fields[name] = np.zeros(bucket.structures, positions.dtype)
            fields[name][:count] = [getattr(f, name) for f in frames]
    if "electric_field" in plan.uses:  # frames are labelled without one
        fields["electric_field"] = np.zeros((bucket.structures, 3), positions.dtype)
    mask = np.zeros(bucket.structures, bool)
    mask[:count] = True
    owner = _owners(sizes, bucket)
    return _template().replace(
        positions=positions, numbers=numbers, structure=owner, structure_mask=mask, **fields
    )


@functools.lru_cache
def _template() -> System:
    """Any system: its copies with other fields are made without validation, from host arrays."""
    return System(np.zeros((1, 3)), np.ones(1, int))


def _owners(sizes: list[int], bucket: Bucket) -> np.ndarray:
    """Structure of each atom; padding atoms are shared out among the structures of padding.

    Where all structures have one size, those of padding have it too.
    """
    spare, empty = bucket.atoms - sum(sizes), bucket.structures - len(sizes)
    if empty:
        shares = [len(part) for part in np.array_split(np.arange(spare), empty)]
        sizes = [*sizes, *shares]
    else:
        sizes = [*sizes[:-1], sizes[-1] + spare]
    return np.repeat(np.arange(bucket.structures, dtype=np.int32), sizes)


@functools.lru_cache
def _neighbors_form(atoms: int, cutoffs: tuple[float, ...], widths: tuple[int | None, ...]) -> Any:
    """Structure of the record, to be filled with host arrays."""
    none, shifts = jnp.zeros(0, jnp.int32), jnp.zeros((0, 3), jnp.int32)
    lists = tuple(Pairs(none, none, shifts, atoms, width) for width in widths)
    skins = (0.0,) * len(cutoffs)
    return jax.tree.structure(Neighbors(lists, jnp.zeros((), bool), cutoffs, skins))


def _pairs(
    lists: Sequence[HostPairs], starts: np.ndarray, atoms: int, room: int, width: int | None
) -> list[np.ndarray]:
    """Centers, others and shifts of all pairs."""
    counts = [len(pairs.centers) for pairs in lists]
    used = sum(counts)
    offsets = np.repeat(starts[:-1].astype(np.int32), counts)
    own = _joined([pairs.centers for pairs in lists]) + offsets
    neighbours = _joined([pairs.others for pairs in lists]) + offsets
    images = _joined([pairs.shifts for pairs in lists], (3,))
    room = max(
        room, 1
    )  # isolated atoms: compiled code gathers from a list, which must not be empty
    others = np.full(room, atoms, np.int32)
    shifts = np.zeros((room, 3), np.int32)
    if width is None:
        centers = np.full(room, atoms, np.int32)
        centers[:used], others[:used], shifts[:used] = own, neighbours, images
    else:
        centers = np.repeat(np.arange(atoms, dtype=np.int32), width)
        slots = own * width + _joined([pairs.ranks for pairs in lists])
        others[slots] = neighbours
        if images.any():
            shifts[slots] = images
    return [centers, others, shifts]


def _joined(arrays: Sequence[np.ndarray], tail: tuple[int, ...] = ()) -> np.ndarray:
    """The arrays one after another; none of them for a device without structures."""
    return np.concatenate(arrays) if arrays else np.zeros((0, *tail), np.int32)


def _label(
    name: str, frames: Sequence[Frame], starts: np.ndarray, bucket: Bucket, plan: Plan
) -> tuple[np.ndarray, Bool[np.ndarray, " structures"]]:
    """One label of all structures, and which have it."""
    entry = quantity(name)
    lead = bucket.atoms if entry.per_atom else bucket.structures
    values = np.zeros((lead, *entry.dims(plan.most)[entry.per_atom :]), plan.dtype)
    mask = np.zeros(bucket.structures, bool)
    for index, frame in enumerate(frames):
        if (label := frame.labels.get(name)) is None:
            continue
        mask[index] = True
        if name == "hessian":
            values[starts[index] : starts[index + 1], :, : len(frame)] = label
        elif entry.per_atom:
            values[starts[index] : starts[index + 1]] = label
        elif name == "energy" and plan.reference is not None:
            values[index] = label - plan.reference[frame.numbers].sum()
        else:
            values[index] = label
    return values, mask
