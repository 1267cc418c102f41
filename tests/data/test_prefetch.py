"""Work ahead: the same items, errors where they belong, no thread left behind."""

import threading
import time

import pytest

from jaxff.data.prefetch import prefetched


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_the_items_come_in_order(depth):
    assert list(prefetched(iter(range(20)), depth)) == list(range(20))
    assert list(prefetched([], depth)) == []


def test_items_are_made_ahead_but_not_all():
    made = []
    items = prefetched((made.append(i) or i for i in range(50)), 2)
    assert next(items) == 0
    deadline = time.monotonic() + 10
    while len(made) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert len(made) == 4  # one taken, two waiting, one in the hand of the thread
    items.close()


@pytest.mark.parametrize("depth", [0, 2])
def test_an_error_comes_where_its_item_would_have(depth):
    def items():
        yield 1
        yield 2
        raise KeyError("frame 3")

    seen: list[int] = []
    with pytest.raises(KeyError, match="frame 3"):
        seen.extend(prefetched(items(), depth))
    assert seen == [1, 2]


def test_leaving_early_ends_the_thread():
    before = threading.active_count()
    for item in prefetched(iter(range(10**9)), 2):
        if item == 5:
            break
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before
