"""Frames: what is usable, and sources as sequences."""

from dataclasses import replace

import numpy as np
import pytest
from mixed_frames import assert_same, mixed

from jaxff.data import Dataset, as_frames, without_invalid
from jaxff.data.frame import checked
from jaxff.data.frames import Concatenation, FrameList, Subset, kind, where

WATER = replace(mixed(1)[0], labels={"energy": np.asarray(1.0)})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"numbers": np.array([8, 1])}, r"positions of shape \(atoms, 3\)"),
        ({"numbers": np.array([8, 1, 0])}, "atomic numbers must be 1 to 118"),
        ({"numbers": np.array([8, 1, 119])}, "atomic numbers must be 1 to 118"),
        ({"numbers": np.array([8.0, 1.0, 1.0])}, "atomic numbers must be"),
        ({"labels": {"energy": np.asarray(np.nan)}}, "energy not finite"),
        ({"labels": {"forces": np.full((3, 3), np.inf)}}, "forces not finite"),
        ({"labels": {"forces": np.zeros((2, 3))}}, r"forces must have shape \(3, 3\)"),
        ({"labels": {"energi": np.asarray(0.0)}}, "unknown quantity 'energi'"),
        ({"labels": {"energy": np.asarray("low")}}, "must hold numbers"),
        ({"positions": np.zeros((3, 3))}, "two atoms at one point"),
        ({"positions": np.full((3, 3), np.nan)}, "positions not finite"),
        ({"pbc": np.array([True, False, False])}, "pbc is given without a cell"),
        ({"cell": np.ones((3, 3))}, "cell without volume"),
        ({"cell": np.ones(3)}, r"cell must have shape \(3, 3\)"),
        ({"charge": float("nan")}, "charge must be a number"),
    ],
)
def test_what_no_model_can_use_is_refused_by_name(fields, message):
    with pytest.raises(ValueError, match=message):
        checked(replace(WATER, **fields), "a.xyz: frame 7")
    if "unknown quantity" not in message:
        with pytest.raises(ValueError, match=r"a\.xyz: frame 7"):
            checked(replace(WATER, **fields), "a.xyz: frame 7")


def test_a_cell_that_repeats_nowhere_is_dropped_and_pbc_defaults_to_all():
    cell = np.diag([3.0, 4.0, 5.0])
    assert checked(replace(WATER, cell=cell, pbc=np.zeros(3, bool)), "x").cell is None
    assert checked(replace(WATER, cell=cell), "x").pbc.all()
    slab = np.diag([3.0, 4.0, 0.0])
    assert checked(replace(WATER, cell=slab, pbc=np.array([True, True, False])), "x").pbc[0]


def test_sources_are_sequences():
    frames = FrameList(mixed(7), "seven")
    assert [len(frame) for frame in frames] == [3, 5, 1, 2, 3, 5, 1]
    assert_same(frames[-1], frames[6])
    picked = frames[[5, 0]]
    assert isinstance(picked, Subset)
    assert_same(picked[0], frames[5])
    assert where(picked, 1) == "seven: frame 0"
    assert len(frames[2:]) == 5
    assert len(frames[np.array([True] * 2 + [False] * 5)]) == 2
    assert len(frames[[]]) == 0
    for index in (7, -8):
        with pytest.raises(IndexError, match="there are 7 frames"):
            frames[index]
    with pytest.raises(IndexError, match="frame 9 asked for"):
        frames[[0, 9]]
    with pytest.raises(ValueError, match="integers or a mask of 7"):
        frames[[0.5]]


def test_sources_join_and_keep_their_places():
    one, other = FrameList(mixed(3), "one"), FrameList(mixed(4, seed=1), "other")
    both = as_frames([one, other])
    assert isinstance(both, Concatenation)
    assert len(both) == 7
    assert_same(both[3], other[0])
    assert where(both, 4) == "other: frame 1"
    assert kind(both[[6]], 0)[1] == "kind 3"
    assert kind([mixed(1)[0]], 0)[0].tolist() == [8, 1, 1]


def test_a_data_set_is_frames():
    data = Dataset(
        numbers=np.array([8, 1, 1]),
        positions=np.stack([WATER.positions + 0.1 * k for k in range(4)]),
        values={"energy": np.arange(4.0)},
        cell=9 * np.eye(3),
        charge=np.asarray(1.0),
        source="w.npz",
    )
    frames = as_frames(data[2:])
    assert len(frames) == 2
    assert frames[1].labels["energy"] == 3.0
    assert frames[1].pbc.all()
    assert frames[0].charge == 1.0
    assert where(frames, 0) == "w.npz: frame 2"
    for wrong in ("w.npz", {"a": 1}, np.zeros(3), 3):
        with pytest.raises(TypeError, match="read_frames"):
            as_frames(wrong)


def test_frames_that_cannot_be_read_are_named_and_left_out():
    class Plain:
        """Frames of a user, unchecked."""

        frames = (WATER, replace(WATER, positions=np.zeros((3, 3))), WATER)

        def __len__(self):
            return 3

        def __getitem__(self, index):
            return self.frames[index]

    rest, reasons = without_invalid(Plain())
    assert rest.indices.tolist() == [0, 2]
    assert list(reasons) == [1]
    assert "frame 1: two atoms at one point" in reasons[1]
