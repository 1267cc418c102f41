import numpy as np
import pytest

from jaxff import analysis


def chain(correlation, count, seed=0):
    """Autoregressive noise of unit variance."""
    noise = np.random.default_rng(seed).normal(size=count) * np.sqrt(1 - correlation**2)
    series = np.zeros(count)
    for k in range(1, count):
        series[k] = correlation * series[k - 1] + noise[k]
    return series


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_inefficiency_of_an_autoregressive_series(correlation):
    exact = (1 + correlation) / (1 - correlation)
    series = chain(correlation, 60_000)
    assert analysis.inefficiency(series) == pytest.approx(exact, rel=0.25)
    assert analysis.correlation_time(series, 2.0) == pytest.approx(exact, rel=0.25)
    found = analysis.estimate(series)
    assert found.standard_error == pytest.approx(np.sqrt(exact / 60_000), rel=0.1)
    errors, uncertainties = analysis.blocking(series)
    level = 8  # blocks of 256
    assert abs(errors[level] - found.standard_error) < 4 * uncertainties[level]


def test_errors_cover_the_truth():
    found = [analysis.estimate(chain(0.8, 2000, seed)) for seed in range(60)]
    inside = [abs(one.mean) < 2 * one.standard_error for one in found]
    assert 0.85 <= np.mean(inside) <= 1.0


def test_constant_series_and_too_few():
    assert analysis.estimate(np.full(10, 3.0)) == (3.0, 0.0, 1.0)
    with pytest.raises(ValueError, match="at least 2"):
        analysis.estimate(np.ones(1))
    with pytest.raises(ValueError, match="at least 4"):
        analysis.blocking(np.ones(3))
