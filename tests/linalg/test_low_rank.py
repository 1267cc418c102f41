import numpy as np
import pytest

from jaxff.linalg import low_rank
from linalg.operators import decaying

DIAGONAL = np.random.default_rng(5).uniform(1e-6, 1e-5, 60)


def factor_of(operator, index):
    return low_rank.nystroem_factor(operator.columns(index), index)


def test_factor_is_exact_on_its_columns_and_below_the_matrix():
    operator, index = decaying(), np.array([3, 17, 30, 44, 59])
    factor, jitter = factor_of(operator, index)
    assert jitter == 0.0
    assert np.allclose((factor @ factor.T)[:, index], operator.matrix[:, index], atol=1e-14)
    rest = np.linalg.eigvalsh(operator.matrix - factor @ factor.T)
    assert rest.min() > -1e-14


def test_woodbury_is_the_inverse_for_any_diagonal():
    operator, index = decaying(), np.arange(0, 60, 3)
    factor, jitter = factor_of(operator, index)
    matrix = factor @ factor.T + np.diag(DIAGONAL)
    built = low_rank.woodbury(factor, DIAGONAL, index, jitter)
    for shape in ((60,), (60, 1), (60, 4)):
        vector = np.random.default_rng(1).normal(size=shape)
        assert np.allclose(matrix @ np.asarray(built.apply(vector)), vector, rtol=1e-7)
    assert built.rank == 20
    assert built.kept_bytes == 60 * 20 * 8


def test_scores_are_those_of_the_approximation():
    operator, index = decaying(), np.arange(0, 60, 3)
    factor, _ = factor_of(operator, index)
    low = factor @ factor.T
    expected = np.diag(low @ np.linalg.inv(low + np.diag(DIAGONAL)))
    assert np.allclose(low_rank.leverage_scores(factor, DIAGONAL), expected, rtol=1e-8)
    assert np.allclose(low_rank.woodbury(factor, DIAGONAL).scores, expected, rtol=1e-8)


def test_spectral_form_is_the_inverse_up_to_a_number():
    operator, index = decaying(), np.arange(0, 60, 3)
    factor, _ = factor_of(operator, index)
    low = factor @ factor.T
    values, vectors = np.linalg.eigh(low)
    values, vectors = values[::-1][:20], vectors[:, ::-1][:, :20]
    floor = values[-1] + 1e-6
    expected = (vectors * (floor / (values + 1e-6))) @ vectors.T
    expected += np.eye(60) - vectors @ vectors.T
    built = low_rank.spectral(factor, np.full(60, 1e-6))
    assert np.allclose(built.apply(np.eye(60)), expected, atol=1e-10)


def test_spectral_form_with_labels_of_different_noise():
    """Labels are weighed by their noise before eigenvectors are sought."""
    operator, index = decaying(), np.arange(0, 60, 3)
    spread = np.geomspace(1e-10, 1e-2, 60)
    factor, _ = factor_of(operator, index)
    ridge = 1e-6
    weight = np.sqrt(ridge / spread)
    values, vectors = np.linalg.eigh(weight[:, None] * (factor @ factor.T) * weight)
    values, vectors = values[::-1][:20], vectors[:, ::-1][:, :20]
    inner = (vectors * ((values[-1] + ridge) / (values + ridge))) @ vectors.T
    inner += np.eye(60) - vectors @ vectors.T
    built = low_rank.spectral(factor, spread)
    expected = weight[:, None] * inner * weight
    assert np.allclose(built.apply(np.eye(60)), expected, rtol=0, atol=1e-9 * weight.max() ** 2)
    exact = np.diag(operator.matrix @ np.linalg.inv(operator.matrix + np.diag(spread)))
    whole = low_rank.spectral(factor_of(operator, np.arange(60))[0], spread)
    assert np.allclose(whole.scores, exact, atol=1e-6)


def test_jitter_saves_a_factorisation_and_is_reported():
    singular = np.ones((4, 4)) - 1e-13 * np.eye(4)
    lower, jitter = low_rank.cholesky_with_jitter(singular)
    assert 0 < jitter < 1e-10
    assert np.allclose(lower @ lower.T, singular, atol=1e-10)


def test_matrices_that_no_jitter_saves_are_refused():
    with pytest.raises(np.linalg.LinAlgError, match="not positive semidefinite"):
        low_rank.cholesky_with_jitter(np.diag([1.0, -5.0, 1.0]))
    with pytest.raises(np.linalg.LinAlgError, match="not finite"):
        low_rank.cholesky_with_jitter(np.full((2, 2), np.nan))


def test_jitter_of_the_inner_matrix_is_reported_too():
    """Its ones on the diagonal vanish beside equal columns of 1e10."""
    assert low_rank.woodbury(np.full((4, 3), 1e10, order="F"), np.ones(4)).jitter > 0.0
    assert low_rank.woodbury(np.full((4, 3), 1e-2, order="F"), np.ones(4), None, 0.5).jitter == 0.5
