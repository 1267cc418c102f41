"""Batches: packs that mean what the frames say, few shapes, an order that can be resumed."""

import warnings
from collections import Counter
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mixed_frames import mixed

from jaxff import System
from jaxff.data import Dataset, batches
from jaxff.data.frame import Frame
from jaxff.data.frames import FrameList
from jaxff.neighbors import displacements, neighbor_list, sum_pairs
from jaxff.system import sum_atoms

CUTOFF = 2.5


def energies(system, neighbors):
    """A smooth function of pairs, elements and structures."""
    pairs = neighbors.within(CUTOFF)
    vectors, mask = displacements(system, pairs)
    each = jnp.where(mask, jnp.exp(-jnp.sum(vectors**2, axis=-1)), 0.0)
    return sum_atoms(system, system.numbers * (1.0 + sum_pairs(pairs, each)))


def alone(frame):
    """The same for one frame, image by image in NumPy."""
    shifts = np.zeros((1, 3))
    if frame.cell is not None:
        counts = np.where(frame.pbc, 2, 0)
        shifts = np.array(list(np.ndindex(*(2 * counts + 1))), float) - counts
        shifts = shifts @ frame.cell
    steps = frame.positions[None] - frame.positions[:, None]
    squares = np.sum((steps[None] + shifts[:, None, None]) ** 2, axis=-1)
    each = np.where((squares < CUTOFF**2) & (squares > 0), np.exp(-squares), 0.0)
    return float(frame.numbers @ (1.0 + each.sum(axis=(0, 2))))


@pytest.mark.parametrize("layout", ["rows", "flat"])
def test_a_pack_is_its_frames(layout):
    frames = mixed(11, cells=True)
    options = {"batch_size": 4, "cutoffs": (CUTOFF,), "max_compilations": 2}
    loader = batches(frames, **options, seed=3, layout=layout)
    traces = []
    compiled = jax.jit(lambda *args: traces.append(1) or energies(*args))
    expected = [alone(frame) for frame in frames]
    seen = Counter()
    for epoch in range(3):
        for batch in loader.epoch(epoch):
            found = np.asarray(compiled(batch.system, batch.neighbors))
            real = batch.indices >= 0
            np.testing.assert_array_equal(batch.system.structure_mask, real)
            seen.update(batch.indices[real].tolist())
            np.testing.assert_allclose(
                found[real], [expected[i] for i in batch.indices[real]], rtol=1e-12
            )
            np.testing.assert_array_equal(found[~real], 0.0)
            check_labels(batch, frames)
            assert (batch.neighbors.pairs[0].width is None) == (layout == "flat")
    assert seen == dict.fromkeys(range(11), 3)
    assert len(traces) <= len(loader.buckets.shapes) <= 2


def check_labels(batch, frames):
    """Labels stand where atoms and structures do; what is missing is masked."""
    for slot, index in enumerate(batch.indices):
        own = np.flatnonzero((batch.system.structure == slot) & (batch.system.numbers > 0))
        if index < 0:
            assert not any(mask[slot] for mask in batch.masks.values())
            assert not len(own)
            continue
        frame = frames[index]
        np.testing.assert_array_equal(batch.system.positions[own], frame.positions)
        for name in ("energy", "forces", "dipole"):
            assert batch.masks[name][slot] == (name in frame.labels)
            rows = own if name == "forces" else slot
            value = frame.labels.get(name, 0.0)
            np.testing.assert_array_equal(batch.labels[name][rows], np.asarray(value) + 0.0)


def rows_of(pairs):
    """Real pairs as (center, other, shifts)."""
    table = np.column_stack([pairs.centers, pairs.others, pairs.shifts])
    return {tuple(row) for row in table[np.asarray(pairs.others) < pairs.atoms].tolist()}


def test_pairs_are_those_of_the_library():
    frames = mixed(5, cells=True)
    batch = batches(frames, batch_size=5, cutoffs=(CUTOFF,), layout="flat").batch(0, 0)
    pairs, start = batch.neighbors.within(CUTOFF), 0
    assert (np.diff(pairs.centers) >= 0).all()
    found = rows_of(pairs)
    assert len(found) == (pairs.others < pairs.atoms).sum()
    expected = set()
    for frame in frames:
        system = System(frame.positions, frame.numbers, cell=frame.cell, pbc=frame.pbc)
        own = neighbor_list(CUTOFF).allocate(system).within(CUTOFF)
        expected |= {(c + start, o + start, *image) for c, o, *image in rows_of(own)}
        start += len(frame)
    assert found == expected


@settings(max_examples=12)
@given(
    count=st.integers(1, 12),
    batch=st.integers(1, 5),
    devices=st.none() | st.integers(1, 3),
    seed=st.none() | st.integers(0, 5),
    drop=st.booleans(),
)
def test_every_frame_once_per_epoch_and_the_order_resumes(count, batch, devices, seed, drop):
    per_step = batch * (devices or 1)
    options = {"batch_size": batch, "devices": devices, "seed": seed, "drop_last": drop}
    if drop and count < per_step:
        with pytest.raises(ValueError, match="drop_last nothing would be left"):
            batches(mixed(count), **options)
        return
    loader = batches(mixed(count), **options, prefetch=1, max_compilations=3)
    shapes = set()
    for epoch in (0, 4):
        whole = list(loader.epoch(epoch))
        assert len(whole) == len(loader)
        seen = np.concatenate([np.ravel(b.indices) for b in whole])
        seen = np.sort(seen[seen >= 0])
        if drop:
            assert len(seen) == len(np.unique(seen)) == count - count % per_step
        else:
            np.testing.assert_array_equal(seen, np.arange(count))
        fresh = batches(mixed(count), **options, prefetch=0, max_compilations=3)
        for one, other in zip(whole[1:], fresh.epoch(epoch, start=1), strict=True):
            jax.tree.map(np.testing.assert_array_equal, one, other)
        shapes |= {b.system.positions.shape for b in whole}
        assert all(b.indices.shape[:-1] == (() if devices is None else (devices,)) for b in whole)
    assert len(shapes) <= 3
    if seed is None:
        np.testing.assert_array_equal(loader.order(7), np.arange(count))
    with pytest.raises(IndexError, match=f"an epoch has {len(loader)} steps"):
        loader.batch(0, len(loader))


def test_orders_differ_between_epochs_and_seeds():
    orders = [
        batches(mixed(40), batch_size=4, seed=seed).order(epoch)
        for seed, epoch in ((0, 0), (0, 1), (1, 0))
    ]
    assert len({tuple(order.tolist()) for order in orders}) == 3


def test_one_composition_takes_one_shape_and_can_be_reshaped():
    data = Dataset(
        numbers=np.array([8, 1, 1]),
        positions=np.random.default_rng(0).normal(size=(10, 3, 3)),
        values={"energy": np.arange(10.0)},
    )
    loader = batches(data, batch_size=4, cutoffs=(9.0,), seed=0)
    assert loader.buckets.fill == {"atoms": 1.0, "pairs within 9 Å": 1.0}
    for batch in loader.epoch():
        assert batch.neighbors.pairs[0].width == 2
        assert batch.system.positions.shape == (12, 3)
        # also those of padding are molecules of three atoms
        np.testing.assert_array_equal(batch.system.structure, np.repeat(np.arange(4), 3))
    assert "shape of 12 atoms, pairs 24: 100.0% of batches" in loader.summary()
    assert "energy in 10" in loader.summary()
    assert "charge: -1 in 2, 0 in 2, 1 in 1" in batches(mixed(5), batch_size=2).summary()


def test_a_stack_is_its_frames():
    frames = mixed(6, cells=True)
    frames[1].labels["hessian"] = np.random.default_rng(0).normal(size=(5, 3, 5, 3))
    loader = batches(frames, batch_size=4, cutoffs=(CUTOFF,), form="stack", seed=1)
    assert len(loader.buckets.shapes) == 1
    assert loader.buckets.fill["atoms"] == pytest.approx(19 / 30)
    compiled = jax.jit(jax.vmap(energies))
    for batch in loader.epoch():
        assert batch.system.positions.shape == (4, 5, 3)
        assert not batch.system.is_packed
        assert batch.neighbors.within(CUTOFF).others.max() == 5  # padding, in every structure
        found = np.asarray(compiled(batch.system, batch.neighbors))
        for slot, index in enumerate(batch.indices):
            expected = alone(frames[index]) if index >= 0 else 0.0
            assert found[slot] == pytest.approx(expected, rel=1e-12)
            if index < 0:
                continue
            own = frames[index]
            np.testing.assert_array_equal(
                batch.labels["forces"][slot, : len(own)], own.labels["forces"]
            )
            assert not batch.labels["forces"][slot, len(own) :].any()
            if index == 1:
                np.testing.assert_array_equal(batch.labels["hessian"][slot], own.labels["hessian"])
    with pytest.raises(ValueError, match="layout must be"):
        batches(frames, batch_size=4, form="stack", layout="flat")
    with pytest.raises(ValueError, match="form must be"):
        batches(frames, batch_size=4, form="list")


def test_nothing_is_made_up():
    frames = mixed(6)
    with pytest.raises(ValueError, match=r"'stress' is in none of the 6 frames.*forces \(6\)"):
        batches(frames, batch_size=2, labels=("stress",))
    with pytest.raises(ValueError, match="unknown quantity 'force'"):
        batches(frames, batch_size=2, labels=("force",))
    unknown = [replace(frame, charge=None) if i == 4 else frame for i, frame in enumerate(frames)]
    source = FrameList(unknown, "x.xyz")
    with pytest.raises(ValueError, match=r"x\.xyz: frame 4: no charge.*1 of 6 frames lack it"):
        batches(source, batch_size=2, uses=("charge",))
    loader = batches(source, batch_size=6, uses=("charge",), defaults={"charge": 2.0})
    assert loader.batch(0, 0).system.charge.tolist() == [-1.0, 0.0, 1.0, -1.0, 2.0, 1.0]
    assert batches(source, batch_size=6).batch(0, 0).system.charge is None
    for wrong, message in (
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"layout": "columns"}, "layout must be"),
        ({"uses": ("colour",)}, "uses must be of"),
        ({"defaults": {"energy": 0.0}}, "defaults are for"),
        ({"max_compilations": 0}, "max_compilations must be"),
        ({"cutoffs": (-1.0,)}, "cutoffs must be positive"),
    ):
        with pytest.raises(ValueError, match=message):
            batches(frames, **{"batch_size": 2, **wrong})
    with pytest.raises(ValueError, match="no frames"):
        batches([], batch_size=2)


def test_reference_energies_leave_the_labels_before_the_cast():
    frames = mixed(8)
    table = np.array([0.0, -10.0, *[np.nan] * 4, -10.0, -10.0, -10.0])
    loader = batches(frames, batch_size=8, reference_energies=table, dtype=np.float32)
    batch = loader.batch(0, 0)
    assert batch.labels["energy"].dtype == np.float32
    for slot, frame in enumerate(frames):
        if "energy" in frame.labels:
            left = float(frame.labels["energy"]) + 10.0 * len(frame)
            assert batch.labels["energy"][slot] == np.float32(left)
    table[7] = np.nan
    with pytest.raises(ValueError, match=r"frame 7: no reference energy for atomic numbers \[7\]"):
        batches(frames, batch_size=8, reference_energies=table)
    heavy = [replace(f, labels={"energy": np.asarray(-40000.0)}) for f in frames]
    with pytest.warns(UserWarning, match=r"become float32 in steps of 0\.004 eV"):
        batches(heavy, batch_size=2, dtype=np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        batches(heavy, batch_size=2)


def test_hessians_stand_in_rows_of_one_width():
    frames = mixed(4)
    rng = np.random.default_rng(0)
    for frame in frames[:2]:
        frame.labels["hessian"] = rng.normal(size=(len(frame), 3, len(frame), 3))
    batch = batches(frames, batch_size=4, labels=("hessian",)).batch(0, 0)
    assert batch.labels["hessian"].shape == (11, 3, 5, 3)
    assert batch.masks["hessian"].tolist() == [True, True, False, False]
    own = batch.labels["hessian"][3:8]
    np.testing.assert_array_equal(own, frames[1].labels["hessian"])
    assert not batch.labels["hessian"][:3, :, 3:].any()
    assert not batch.labels["hessian"][8:].any()


def test_memory_is_bounded_and_changes_nothing():
    frames = mixed(6, cells=True)
    reads = Counter()

    class Counting(FrameList):
        def read(self, index):
            reads[index] += 1
            return super().read(index)

    plenty, none = (
        batches(Counting(frames), batch_size=3, cutoffs=(CUTOFF,), seed=0, cache_bytes=room)
        for room in (10**9, 0)
    )
    reads.clear()
    kept = list(plenty.epoch(1))
    assert not reads
    for one, other in zip(kept, none.epoch(1), strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, other)
    assert reads == dict.fromkeys(range(6), 1)
    some = batches(Counting(frames), batch_size=3, cutoffs=(CUTOFF,), cache_bytes=1500)
    assert 0 < int(some.summary().split(", ")[1].split()[0]) < 6


def test_batches_go_where_they_are_placed():
    loader = batches(mixed(4), batch_size=2, cutoffs=(CUTOFF,), place=jax.device_put)
    for batch in loader.epoch():
        assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(batch))


def test_an_error_in_the_thread_reaches_the_loop():
    class Failing(FrameList):
        broken = False

        def read(self, index):
            if self.broken and index == 3:
                raise OSError("the disk is gone")
            return super().read(index)

    source, seen = Failing(mixed(6)), []
    loader = batches(source, batch_size=2, cache_bytes=0, progress=seen.append)
    assert seen == [1, 2, 3, 4, 5, 6]
    source.broken = True
    with pytest.raises(OSError, match="the disk is gone"):
        list(loader.epoch())


def test_isolated_atoms_have_lists_that_are_not_empty():
    lonely = [Frame(np.array([z]), np.zeros((1, 3)), {"energy": np.array(-1.0)}) for z in (1, 6)]
    loader = batches(lonely, batch_size=2, cutoffs=(CUTOFF,))
    (batch,) = loader.epoch()
    assert batch.neighbors.pairs[0].others.tolist() == [2]  # padding
    assert batch.masks["energy"].all()


def test_impossible_spins_are_named_once():
    frames = [
        Frame(np.array([8, 1, 1]), np.eye(3), {}, charge=float(k % 2), spin=1.0) for k in range(5)
    ]
    with pytest.warns(UserWarning, match=r"H2O of charge 0 has 10 .* \(3 of 5 frames\)") as found:
        batches(FrameList(frames), batch_size=2, cutoffs=(), uses={"charge", "spin"})
    assert len(found) == 1
    with pytest.raises(ValueError, match="unpaired electrons is negative: -1"):
        batches(FrameList([replace(frames[0], spin=-1.0)]), batch_size=1, cutoffs=())
