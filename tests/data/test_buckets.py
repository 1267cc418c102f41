"""Shapes: never more than allowed, room for every batch, little padding."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxff.data.buckets import choose, group_sums, largest


@settings(max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=40),
    batch=st.integers(1, 6),
    limit=st.integers(1, 6),
    seed=st.integers(0, 99),
)
def test_any_batch_fits_one_of_few_shapes(sizes, batch, limit, seed):
    rng = np.random.default_rng(seed)
    counts = np.stack([sizes, rng.integers(0, 50, len(sizes)) * np.array(sizes)], axis=1)
    sample = np.concatenate(
        [group_sums(counts, rng.permutation(len(sizes)), batch) for _ in range(4)]
    )
    bound = largest(counts, batch)
    found = choose(sample, bound, batch, limit, ["atoms", "pairs"])
    assert 1 <= len(found.shapes) <= limit
    assert sum(found.shares) == pytest.approx(1.0)
    assert all(0 < fill <= 1 + 1e-12 for name, fill in found.fill.items() if counts[:, 1].any())
    rooms = np.array([(shape.atoms, *shape.pairs) for shape in found.shapes])
    assert (np.diff(rooms, axis=0) >= 0).all()
    np.testing.assert_array_equal(rooms[-1], bound)
    # the worst draw, and any other
    for draw in (np.argsort(-counts[:, 0])[:batch], rng.permutation(len(sizes))[:batch]):
        needs = counts[draw].sum(axis=0)
        shape = found.fitting(needs)
        assert (needs <= (shape.atoms, *shape.pairs)).all()
    with pytest.raises(ValueError, match="no shape has room"):
        found.fitting(bound + 1)


def test_equal_sizes_take_one_shape_without_padding():
    counts = np.tile([[9, 72]], (100, 1))
    found = choose(group_sums(counts, np.arange(100), 10), largest(counts, 10), 10, 6, ["a", "p"])
    assert len(found.shapes) == 1
    assert found.fill == {"a": 1.0, "p": 1.0}


def test_more_shapes_waste_less():
    counts = np.array([[3]] * 95 + [[300]] * 5)
    rng = np.random.default_rng(0)
    sample = np.concatenate([group_sums(counts, rng.permutation(100), 5) for _ in range(50)])
    fills = [
        choose(sample, largest(counts, 5), 5, limit, ["atoms"]).fill["atoms"]
        for limit in (1, 2, 3, 5)
    ]
    assert fills[0] < 0.06
    assert fills == sorted(fills)
    assert fills[-1] > 0.9
