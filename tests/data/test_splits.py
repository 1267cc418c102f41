"""Splits: disjoint, exact in size, repeatable, spread over the energies, recorded."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxff.data import npz, splits
from jaxff.data.dataset import Dataset


def argon(energies, **fields):
    count = len(energies)
    return Dataset(
        numbers=np.array([18]),
        positions=np.arange(3.0 * count).reshape(count, 1, 3),
        values={"energy": np.asarray(energies, float)},
        **fields,
    )


ENERGIES = st.lists(
    st.floats(-1e6, 1e6, allow_nan=False) | st.sampled_from([0.0, 1.0]), min_size=1, max_size=80
)


@pytest.mark.parametrize("draw", [splits.by_energy, splits.random])
@given(energies=ENERGIES, data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_parts_are_disjoint_exact_and_repeatable(draw, energies, data, seed):
    dataset = argon(energies)[::-1]  # positions and source indices differ
    excluded = data.draw(st.lists(st.integers(0, len(energies) - 1), unique=True, max_size=20))
    free = len(energies) - len(excluded)
    train = data.draw(st.integers(0, free))
    valid = data.draw(st.integers(0, free - train))
    test = data.draw(st.none() | st.integers(0, free - train - valid))
    parts = draw(dataset, train, valid, test, seed=seed, exclude=excluded)
    sizes = (train, valid, free - train - valid if test is None else test)
    assert tuple(len(part) for part in parts) == sizes
    together = np.concatenate([part.indices for part in parts])
    assert len(np.unique(together)) == len(together)
    assert not np.intersect1d(together, excluded).size
    for part in parts:
        assert np.array_equal(part.values["energy"], np.asarray(energies)[part.indices])
    again = draw(dataset, train, valid, test, seed=seed, exclude=excluded)
    for one, other in zip(parts, again, strict=True):
        assert np.array_equal(one.indices, other.indices)


def test_seeds_differ():
    dataset = argon(np.random.default_rng(0).normal(size=100))
    one, other = (splits.by_energy(dataset, 20, 10, seed=seed).train.indices for seed in (0, 1))
    assert not np.array_equal(one, other)


def test_every_occupied_bin_is_sampled_in_proportion():
    rng = np.random.default_rng(3)
    energies = np.concatenate([rng.normal(0, 1, 5000), [9.0]])
    bins = splits.energy_bins(energies, 200)
    drawn = splits.stratified(energies, 200, rng)
    assert set(bins[drawn]) == set(bins)
    assert 5000 in drawn  # alone in its bin
    expected = np.bincount(bins) * 200 / len(energies)
    counts = np.bincount(bins[drawn], minlength=len(expected))
    assert np.all(np.abs(counts - expected) <= 2.0 + 0.1 * expected)


def test_no_bin_of_the_tail_is_emptied_by_what_is_taken_back():
    """Rounding up draws too many; the same bin may be asked twice to give one back."""
    core = np.random.default_rng(0).normal(size=1500)
    energies = np.concatenate([core, np.repeat(20.0 * np.arange(1, 61), 3)])
    bins = splits.energy_bins(energies, 672)
    assert len(set(bins)) > 60
    for seed in range(20):
        drawn = splits.stratified(energies, 672, np.random.default_rng(seed))
        assert set(bins[drawn]) == set(bins)


def test_bin_width_is_that_of_freedman_and_diaconis():
    energies = np.linspace(0.0, 1.0, 1001)
    # interquartile range 1/2, so the width is 1/10 for 1000 points
    assert splits.energy_bins(energies, 1000).max() + 1 == 10
    assert splits.energy_bins(energies, 6).max() + 1 <= 3
    outlier = np.concatenate([1e-12 * np.arange(100), [1e9]])
    assert splits.energy_bins(outlier, 20).max() + 1 <= 10
    assert not splits.energy_bins(np.zeros(9), 5).any()


def test_too_many_frames():
    dataset = argon(np.arange(10.0))
    with pytest.raises(ValueError, match=r"11 frames are asked for \(train 6, valid 5, test 0\)"):
        splits.by_energy(dataset, 6, 5, seed=0)
    with pytest.raises(ValueError, match=r"has 8 \(10 less 2 excluded\)"):
        splits.random(dataset, 6, 2, 1, seed=0, exclude=[0, 1])
    with pytest.raises(ValueError, match="must not be negative"):
        splits.random(dataset, -1, 2, seed=0)


def test_energies_are_needed():
    data = Dataset(
        numbers=np.array([18]),
        positions=np.zeros((4, 1, 3)),
        values={"forces": np.zeros((4, 1, 3))},
    )
    with pytest.raises(ValueError, match=r"no energies .*labels: forces.*splits.random"):
        splits.by_energy(data, 1, 1, seed=0)
    assert len(splits.random(data, 1, 1, seed=0).test) == 2


def test_by_indices():
    mask = np.zeros(10, bool)
    mask[[5, 7]] = True
    data = argon(np.arange(10.0), splits={"split_a": np.array([3, 1]), "is_valid": mask})
    train, valid, test = splits.by_indices(data, "split_a", valid="is_valid")
    assert train.indices.tolist() == [3, 1]  # the given order
    assert valid.indices.tolist() == [5, 7]
    assert test.indices.tolist() == [0, 2, 4, 6, 8, 9]
    part = splits.by_indices(data[[9, 3, 1]], train=[3], test=[9])
    assert part.train.values["energy"] == [3.0]
    assert len(part.valid) == 0
    assert part.test.indices == [9]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": [0, 1], "test": [1, 2]}, "train and test must be disjoint.*frame 1"),
        ({"train": [0, 0]}, "train names source frame 0 more than once"),
        ({"train": [0], "valid": [10]}, "valid names 1 frames .* first source frame 10"),
        ({"train": [-1]}, "source frame -1"),
        ({"train": "split_b"}, "no split 'split_b' .*there are: split_a"),
        ({"train": [0.5]}, "list of integers"),
        ({"train": np.ones(4, bool)}, "one entry per source frame, 10"),
    ],
)
def test_by_indices_refuses(options, message):
    data = argon(np.arange(10.0), splits={"split_a": np.array([3, 1])})
    with pytest.raises(ValueError, match=message):
        splits.by_indices(data, **options)


def test_an_array_that_lists_no_frames_is_not_called_absent():
    data = argon(np.arange(10.0), metadata={"split_a": np.array([3, 10])})
    with pytest.raises(ValueError, match=r"'split_a' .* does not list frames: .* from 0 to 9"):
        splits.by_indices(data, "split_a")


def test_left_out_frames_are_missed_by_name():
    data = argon(np.arange(10.0), splits={"split_a": np.array([3, 1])}).drop(3)
    with pytest.raises(ValueError, match="not in 'unnamed', first source frame 3"):
        splits.by_indices(data, "split_a")


def test_published_splits_are_disjoint(data_dir):
    data = npz.read(data_dir / "rmd17" / "rmd17_ethanol.npz")
    for number in ("01", "05"):
        train, valid, test = splits.by_indices(
            data, f"split_train_{number}", test=f"split_test_{number}"
        )
        assert (len(train), len(valid), len(test)) == (1000, 0, 1000)
        assert train.fingerprint == test.fingerprint == data.fingerprint
