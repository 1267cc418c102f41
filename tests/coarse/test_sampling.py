"""Folds by blocks and batches spread over states."""

import numpy as np
import pytest

from jaxff.coarse.sampling import (
    block_folds,
    cells,
    draw,
    draw_batches,
    noise_ratio,
    sizes,
)

RNG = np.random.default_rng(0)


def test_cells_number_what_is_occupied():
    values = np.array([[-180.0, 10.0], [179.9, 10.0], [-179.0, 11.0], [180.0, 180.0]])
    found = cells(values, (4, 2))
    assert found.tolist() == [0, 1, 0, 1]  # ψ > 0 everywhere: one column of cells
    assert cells(values, 360).max() == 3
    assert cells([[0.2], [0.7], [1.0]], 2, [(0.0, 1.0)]).tolist() == [0, 1, 1]
    with pytest.raises(ValueError, match="variable 1 of frame 0 is 10"):
        cells(values, 3, [(-180, 180), (-1, 1)])
    with pytest.raises(ValueError, match="nan"):
        cells([[np.nan]])


def test_draws_are_even_over_cells():
    occupied = np.repeat(np.arange(5), [1000, 100, 10, 3, 1])
    drawn = np.concatenate([draw(occupied, 3, RNG) for _ in range(2000)])
    share = np.bincount(occupied[drawn], minlength=5) / len(drawn)
    np.testing.assert_allclose(share, 0.2, atol=4 * np.sqrt(0.2 * 0.8 / len(drawn)))
    # Within a cell all frames are alike.
    first = np.bincount(drawn[(drawn >= 1100) & (drawn < 1110)] - 1100, minlength=10)
    np.testing.assert_allclose(first / first.sum(), 0.1, atol=4 * 0.3 / np.sqrt(first.sum()))
    many = draw(occupied, 24, RNG)
    assert len(np.unique(many)) == 24
    counts = np.bincount(occupied[many]).tolist()
    assert counts[3:] == [3, 1]
    assert sorted(counts[:3]) == [6, 7, 7]
    assert sorted(draw(occupied, len(occupied), RNG)) == list(range(len(occupied)))
    assert draw_batches(occupied, 3, 7, RNG).shape == (7, 3)
    with pytest.raises(ValueError, match="give 1 to 1114"):
        draw(occupied, 1115, RNG)


@pytest.mark.parametrize("frames", [4, 7, 999, 3000, 10_000, 1_000_000])
def test_sizes_are_defined_for_every_number_of_frames(frames):
    found = sizes(frames)
    assert 2 <= found.batch <= frames / 2
    assert found.second <= frames
    assert found.batches == 1000
    if frames >= 3000:
        assert found == (1000, 1000, 3000)


def test_folds_are_blocks_of_each_trajectory():
    folds = block_folds([10, 25], 5)
    held = [fold.held_out.tolist() for fold in folds]
    assert held[0] == [0, 1, *range(10, 15)]
    assert sorted(np.concatenate(held)) == list(range(35))
    for fold in folds:
        assert sorted([*fold.train, *fold.held_out]) == list(range(35))
    apart = block_folds([10, 25], 5, gap=1)
    assert apart[1].held_out.tolist() == [2, 3, *range(15, 20)]
    # One frame on each side, but none of the other trajectory.
    assert set(range(35)) - set(apart[0].train) == {0, 1, 2, *range(10, 16)}
    assert block_folds(20, 2, blocks=2)[0].held_out.tolist() == [*range(5), *range(10, 15)]
    with pytest.raises(ValueError, match="as many frames"):
        block_folds(4, 5)
    with pytest.raises(ValueError, match="nothing to train on"):
        block_folds(10, 2, gap=10)


def test_noise_level():
    forces = RNG.normal(size=(50_000,)) * 2.0
    np.testing.assert_allclose(noise_ratio(forces, np.sqrt(3.0), 0.1), 0.3, rtol=0.05)
    with pytest.raises(ValueError, match="below the standard deviation"):
        noise_ratio(forces, 2.1)
    with pytest.raises(ValueError, match="share"):
        noise_ratio(forces, 1.0, 2.0)
