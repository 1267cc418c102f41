"""The blocked factorisation against LAPACK, and its promise to leave the upper triangle alone."""

import itertools

import numpy as np
import pytest

from jaxff.linalg.blocked_cholesky import factorize, solve


def positive(size, seed=0):
    a = np.random.default_rng(seed).standard_normal((size, size))
    return np.asfortranarray(a @ a.T / size + np.eye(size))


@pytest.mark.parametrize("size", [1, 7, 8, 9, 61])
def test_factor_equals_lapack(size):
    matrix = positive(size)
    factor = matrix.copy(order="F")
    factorize(factor, block=8)
    np.testing.assert_allclose(np.tril(factor), np.linalg.cholesky(matrix), atol=1e-14)


def test_entries_above_the_diagonal_blocks_are_untouched():
    matrix = positive(40)
    expected = np.linalg.cholesky(matrix)
    blocks = np.arange(40) // 8
    above = blocks[:, None] < blocks
    matrix[above] = np.nan
    factorize(matrix, block=8)
    assert np.isnan(matrix[above]).all()
    np.testing.assert_allclose(np.tril(np.where(above, 0.0, matrix)), expected, atol=1e-14)


@pytest.mark.parametrize("size", [1, 8, 35])
def test_solve(size):
    matrix, rhs = positive(size), np.random.default_rng(1).standard_normal(size)
    factor = matrix.copy(order="F")
    factorize(factor, block=8)
    np.testing.assert_allclose(matrix @ solve(factor, rhs, block=8), rhs, atol=1e-12)


def test_row_that_is_not_positive_is_named():
    matrix = positive(30)
    matrix[20, 20] = -1.0
    with pytest.raises(np.linalg.LinAlgError, match="row 20"):
        factorize(matrix, block=8)


def test_progress_ends_at_one_and_never_falls():
    parts = []
    factorize(positive(40), block=8, progress=parts.append)
    assert parts[-1] == 1.0
    assert all(a < b for a, b in itertools.pairwise(parts))
