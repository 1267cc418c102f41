import numpy as np
import pytest

from jaxff.data.order import balanced_order

SIZES = np.random.default_rng(0).lognormal(3.0, 0.5, 400)


@pytest.mark.parametrize("devices", [1, 2])
def test_batches_are_nearly_equal_and_random(devices):
    batch = 10 // devices
    orders = [balanced_order(SIZES, batch, devices, 0, epoch) for epoch in range(3)]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(400))
    sums = SIZES[np.stack(orders)].reshape(-1, batch).sum(axis=1)
    drawn = np.random.default_rng(1).permuted(np.tile(SIZES, 3)).reshape(-1, batch).sum(axis=1)
    assert sums.std() < 0.5 * drawn.std()
    # Two frames are not together more often than chance has it.
    together = [set(order[: 10 * 40].reshape(40, 10)[0].tolist()) for order in orders]
    assert all(len(a & b) <= 3 for a in together for b in together if a is not b)


def test_frames_of_every_size_are_left_over():
    """What does not fill a step is drawn from all sizes alike."""
    left = [balanced_order(np.arange(11.0), 5, 1, 0, epoch)[-1] for epoch in range(60)]
    assert len(set(left)) == 11


def test_one_size_is_shuffled():
    orders = [balanced_order(np.ones(30), 4, 1, seed, 0) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(orders[0], orders[1])
    assert (orders[0] != orders[2]).any()
    assert (np.sort(orders[2]) == np.arange(30)).all()


def test_fewer_frames_than_a_step():
    assert sorted(balanced_order(np.arange(3.0), 4, 1, 0, 0).tolist()) == [0, 1, 2]
