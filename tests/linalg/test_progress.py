import numpy as np
import pytest

from jaxff.linalg import preconditioners, solvers
from jaxff.linalg.progress import Reporter, seconds_left
from linalg.operators import decaying


@pytest.mark.parametrize("pace", [0.2, 3.0])
def test_time_left_of_a_steady_fall_is_exact(pace):
    """One digit in ten iterations: from 1e-3 to 1e-5 it takes twenty more."""
    residuals = [10.0 ** (-0.1 * i) for i in range(31)]
    seconds = [7.0 + pace * i for i in range(31)]
    assert np.isclose(seconds_left(seconds, residuals, 1e-5), 20 * pace)


def test_what_rises_now_and_then_counts_by_its_lowest():
    residuals = [10.0 ** (-0.1 * i) * (1.0 + 5.0 * (i % 4 == 2)) for i in range(41)]
    found = seconds_left([float(i) for i in range(41)], residuals, 1e-6)
    assert abs(found - 20.0) < 2.0


def test_a_faster_pace_of_late_counts():
    """A tenth of a digit each in the first half, a digit in the second."""
    residuals = [10.0 ** -(0.1 * i if i < 20 else 2.0 + (i - 20)) for i in range(41)]
    found = seconds_left([float(i) for i in range(41)], residuals, 1e-30)
    assert abs(found - 8.0) < 0.5


def test_nothing_is_foretold_without_a_fall():
    seconds = [float(i) for i in range(20)]
    assert seconds_left(seconds[:4], [1.0, 0.1, 0.01, 0.001], 1e-4) is None
    assert seconds_left(seconds, [1.0] * 20, 1e-4) is None
    assert seconds_left(seconds, list(np.linspace(1, 2, 20)), 1e-4) is None
    assert seconds_left(seconds, [10.0**-i for i in range(20)], 1e-4) == 0.0


def test_a_new_preconditioner_has_a_pace_of_its_own():
    seen = []
    reporter = Reporter(1e-8, None, seen.append)
    for i in range(6):
        reporter.iterate(i, 10.0**-i, 5)
    assert seen[-1].seconds_left is not None
    assert np.isclose(seen[-1].part, 5 / 8)
    reporter.prepare(6, 1e-5)
    reporter.iterate(7, 1e-5, 9)
    assert [state.stage for state in seen[-2:]] == ["preconditioner", "iterations"]
    assert seen[-1].seconds_left is None
    assert seen[-1].part == 0.0


def test_a_solve_tells_the_time_left():
    seen = []
    solver = solvers.conjugate_gradient(
        preconditioner=preconditioners.identity(), rtol=1e-8, callback=seen.append
    )
    solver(decaying(), np.ones(60), np.full(60, 1e-4))
    told = [state.seconds_left for state in seen if state.seconds_left is not None]
    assert len(told) > 0.5 * len(seen)
    assert all(left >= 0.0 for left in told)
    assert told[-1] < max(told)
