"""Descent over orders of magnitude."""

import numpy as np
import pytest

from jaxff.coarse import descend


@pytest.mark.parametrize("least", [1e-6, 0.02, 1.0, 300.0])
def test_finds_the_minimum_to_half_a_factor(least):
    found = descend(lambda x: np.log(x / least) ** 2)
    best = min(found, key=lambda x: found[x])
    assert abs(np.log10(best / least)) <= 0.25 + 1e-9
    assert list(found) == sorted(found)


def test_stops_where_it_is_told_to_and_refuses_what_is_no_number():
    found = descend(lambda x: x, steps=3)
    assert min(found) == pytest.approx(10**-3.5)
    with pytest.raises(ArithmeticError, match="no number"):
        descend(lambda x: np.nan)
    with pytest.raises(ValueError, match="positive start"):
        descend(lambda x: x, -1.0)
