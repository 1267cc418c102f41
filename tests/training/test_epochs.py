"""The order of a list of batches."""

from jaxff.training.epochs import Shuffled, in_order

BATCHES = list(range(20))


def test_order_follows_from_seed_and_epoch():
    shuffled = Shuffled(BATCHES, seed=3)
    orders = [list(shuffled.epoch(epoch, 0)) for epoch in range(2)]
    assert all(sorted(order) == BATCHES for order in orders)
    assert orders[0] != orders[1] != BATCHES
    assert list(Shuffled(BATCHES, seed=3).epoch(1, 0)) == orders[1]
    assert list(Shuffled(BATCHES, seed=4).epoch(1, 0)) != orders[1]


def test_an_epoch_goes_on_where_it_stopped():
    shuffled = Shuffled(BATCHES, seed=0)
    assert list(shuffled.epoch(2, 7)) == list(shuffled.epoch(2, 0))[7:]
    assert len(shuffled) == 20


def test_validation_takes_batches_as_they_are():
    assert in_order(BATCHES) is BATCHES
    assert list(in_order(Shuffled(BATCHES, seed=1))) == list(Shuffled(BATCHES, seed=1).epoch(0, 0))
