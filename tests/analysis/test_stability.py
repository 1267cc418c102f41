import numpy as np
import pytest

from jaxff import analysis

START = np.array([[0.0, 0, 0], [0, 0, 0.96], [0.93, 0, -0.24]])


def run(stretches):
    frames = np.stack([START] * len(stretches))
    frames[:, 1, 2] *= stretches
    return frames, 10.0 * np.arange(len(stretches))


def test_broken_bond_and_what_is_not_finite():
    frames, times = run([1.0, 1.4, 1.45, 1.6, 1.0])
    assert analysis.time_to_failure(frames, times, [8, 1, 1]) == 30.0
    assert analysis.time_to_failure(frames, times, [8, 1, 1], stretch=2.0) is None
    assert analysis.time_to_failure(frames, times, [8, 1, 1], stretch=1.3) == 10.0
    # the first bond is 0.96 Å long: 1.45 of it lie 0.432 Å beyond, 1.6 of it 0.576 Å
    assert analysis.time_to_failure(frames, times, [8, 1, 1], deviation=0.5) == 30.0
    assert analysis.time_to_failure(frames, times, [8, 1, 1], deviation=0.4) == 20.0
    short, _ = run([1.0, 0.4])
    assert analysis.time_to_failure(short, times[:2], [8, 1, 1]) is None
    assert analysis.time_to_failure(short, times[:2], [8, 1, 1], deviation=0.5) == 10.0
    energy = np.array([0.0, 0.0, np.nan, 0.0, 0.0])
    assert analysis.time_to_failure(frames, times, [8, 1, 1], energy=energy) == 20.0
    frames[1, 2, 0] = np.inf
    assert analysis.time_to_failure(frames, times, [8, 1, 1]) == 10.0
    # hydrogens are not bonded to each other: they may part
    apart, times = run([1.0, 1.0])
    apart[1, 2] = [-0.93, 0, -0.24]
    assert analysis.time_to_failure(apart, times, [8, 1, 1]) is None


def test_survival_by_hand():
    """Failures at 2 and 4 (of 5 and 3 at risk), three runs stopped at 3, 5, 5."""
    found = analysis.survival([2, 3, 4, 5, 5], [True, False, True, False, False])
    np.testing.assert_array_equal(found.times, [2.0, 4.0])
    np.testing.assert_allclose(found.fraction, [0.8, 0.8 * 2 / 3])
    greenwood = [0.8 * np.sqrt(1 / 20), 0.8 * 2 / 3 * np.sqrt(1 / 20 + 1 / 6)]
    np.testing.assert_allclose(found.standard_error, greenwood)
    assert (found.failures, found.replicas) == (2, 5)
    assert found.restricted_mean == pytest.approx(2 + 2 * 0.8 + 0.8 * 2 / 3)


def test_all_fail_and_none_fails():
    times = np.array([1.0, 2.0, 6.0])
    assert analysis.survival(times, [True] * 3).restricted_mean == pytest.approx(3.0)
    lasting = analysis.survival(times, [False] * 3)
    assert lasting.restricted_mean == 6.0
    assert len(lasting.times) == 0


def test_refuses():
    with pytest.raises(ValueError, match="time for each frame"):
        analysis.time_to_failure(np.zeros((2, 3, 3)), [0.0], [8, 1, 1])
    with pytest.raises(ValueError, match="not finite"):
        analysis.time_to_failure(np.full((1, 3, 3), np.nan), [0.0], [8, 1, 1])
    with pytest.raises(ValueError, match="flag per replica"):
        analysis.survival([1.0], [True, False])
