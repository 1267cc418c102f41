"""Splits of frames: disjoint, exact, shares of compositions, whole molecules, no copies."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mixed_frames import mixed

from jaxff.data import frame_splits
from jaxff.data.frame import Frame
from jaxff.data.frame_splits import by_composition, by_group, random, shared_structures


def atoms(numbers, group=None):
    count = len(numbers)
    return Frame(np.array(numbers), np.arange(3.0 * count).reshape(count, 3), group=group)


@pytest.mark.parametrize("draw", [random, by_composition])
@settings(max_examples=25)
@given(kinds=st.lists(st.integers(1, 3), max_size=30), data=st.data(), seed=st.integers(0, 99))
def test_parts_are_disjoint_exact_and_repeatable(draw, kinds, data, seed):
    frames = [atoms([1] * kind) for kind in kinds]
    train = data.draw(st.integers(0, len(kinds)))
    valid = data.draw(st.integers(0, len(kinds) - train))
    test = data.draw(st.none() | st.integers(0, len(kinds) - train - valid))
    split = draw(frames, train, valid, test, seed=seed)
    rest = len(kinds) - train - valid if test is None else test
    assert [len(part) for part in split] == [train, valid, rest]
    together = np.concatenate([part.indices for part in split])
    assert len(np.unique(together)) == len(together)
    for part, again in zip(split, draw(frames, train, valid, test, seed=seed), strict=True):
        np.testing.assert_array_equal(part.indices, again.indices)


def test_compositions_have_their_shares():
    frames = [atoms([1] * kind) for kind in [1] * 60 + [2] * 30 + [3] * 10]
    for seed in range(5):
        for part, size in zip(by_composition(frames, 50, 20, seed=seed), (50, 20, 30), strict=True):
            for kind, share in ((1, 0.6), (2, 0.3), (3, 0.1)):
                assert abs(sum(len(frame) == kind for frame in part) - share * size) < 2.5


def test_a_rare_composition_has_no_fixed_place():
    frames = [atoms([1])] * 29 + [atoms([1, 1])]
    homes = [29 in by_composition(frames, 15, 0, seed=seed).train.indices for seed in range(12)]
    assert 0 < sum(homes) < 12


def test_seeds_differ_and_too_many_are_refused():
    frames = mixed(30)
    one, other = (random(frames, 10, 5, seed=seed).train.indices for seed in (0, 1))
    assert not np.array_equal(one, other)
    for draw in (random, by_composition, by_group):
        with pytest.raises(ValueError, match="asked for"):
            draw(frames, 20, 11, seed=0)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.data(), st.integers(0, 99))
def test_molecules_stay_together(members, data, seed):
    frames = [atoms([1], group=f"m{member}") for member in members]
    largest = max(members.count(m) for m in members)
    train = data.draw(st.integers(0, len(members)))
    valid = data.draw(st.integers(0, max(0, len(members) - train - 2 * largest)))
    split = by_group(frames, train, valid, seed=seed)
    homes = [{members[i] for i in part.indices} for part in split]
    assert sum(len(home) for home in homes) == len(set(members))
    assert sum(len(part) for part in split) == len(members)
    assert train <= len(split.train) < train + largest + (train == 0)
    assert valid <= len(split.valid) < valid + largest + (valid == 0)


def test_groups_are_given_named_or_compositions():
    frames = [atoms([8, 1, 1]), atoms([1, 8, 1]), atoms([6]), atoms([7]), atoms([7])]
    split = by_group(frames, 2, 1, seed=3)
    homes = [set(part.indices.tolist()) for part in split]
    for isomers in ({0, 1}, {3, 4}):
        assert sum(isomers <= home for home in homes) == 1
    given_groups = by_group(frames, 1, 1, seed=0, groups=[0, 1, 0, 2, 0])
    assert {0, 2, 4} in [set(part.indices.tolist()) for part in given_groups]
    with pytest.raises(ValueError, match="a group for each of 5 frames, got 1"):
        by_group(frames, 1, 1, seed=0, groups=["a"])


def rotation(seed):
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q


def test_copies_are_found_turned_shifted_and_in_another_order():
    frames = mixed(8, cells=True)
    copies = []
    for index in (1, 4, 6):  # a molecule, a molecule in a slab cell, one in a cell
        frame = frames[index]
        turn = rotation(index)
        positions = frame.positions.copy()
        if frame.cell is not None:
            positions[0] += frame.cell[0]
        order = np.argsort(frame.numbers, kind="stable")[::-1]
        copies.append(
            Frame(
                frame.numbers[order],
                positions[order] @ turn + [1.0, 2.0, 3.0],
                cell=None if frame.cell is None else frame.cell @ turn,
                pbc=frame.pbc,
            )
        )
    moved = frames[5]
    copies.append(Frame(moved.numbers, moved.positions * 1.01))
    assert shared_structures(frames, copies).tolist() == [[1, 0], [4, 1], [6, 2]]
    assert shared_structures(copies, copies).shape == (0, 2)
    twice = [frames[3], frames[5], frames[3]]
    assert frame_splits.shared_structures(twice, twice).tolist() == [[0, 2]]
    # lone atoms of one element are all the same
    assert len(shared_structures([frames[2]], [frames[2]])) == 1
