import numpy as np

from jaxff.linalg import pivoting
from linalg.operators import Dense, decaying


def plain(matrix, count):
    """The greedy rule, written on the dense residual."""
    residual, pivots = matrix.copy(), []
    for _ in range(count):
        pivot = int(np.argmax(np.diag(residual)))
        pivots.append(pivot)
        column = residual[:, pivot] / np.sqrt(residual[pivot, pivot])
        residual = residual - np.outer(column, column)
    return pivots, residual


def test_greedy_pivots_are_those_of_the_plain_rule():
    operator = decaying(power=2.0)
    pivots, residual = plain(operator.matrix, 15)
    for block in (1, 4, 60):
        found = pivoting.greedy(operator, 15, block=block)
        assert found.pivots.tolist() == pivots
        left = operator.matrix - found.factor @ found.factor.T
        assert np.allclose(left, residual, atol=1e-13)
        assert np.isclose(found.trace, np.trace(residual) / np.trace(operator.matrix))


def test_both_stop_where_nothing_is_left():
    rank_three = np.random.default_rng(0).normal(size=(20, 3))
    operator = Dense(rank_three @ rank_three.T)
    for found in (
        pivoting.greedy(operator, 10),
        pivoting.randomly(operator, 10, np.random.default_rng(0)),
    ):
        assert len(found.pivots) == 3
        assert np.allclose(found.factor @ found.factor.T, operator.matrix)


def test_random_pivots_follow_the_residual_diagonal():
    """Where one row carries nearly all of the trace, it is nearly always the first pivot."""
    operator = Dense(np.diag([1.0, 1.0, 98.0]))
    first = [
        pivoting.randomly(operator, 1, np.random.default_rng(seed)).pivots[0] for seed in range(300)
    ]
    assert abs(np.mean(np.array(first) == 2) - 0.98) < 0.03


def test_random_pivots_are_distinct_and_their_factor_exact_there():
    operator = decaying(power=2.0)
    found = pivoting.randomly(operator, 25, np.random.default_rng(3), block=8)
    assert len(set(found.pivots.tolist())) == 25
    low = found.factor @ found.factor.T
    assert np.allclose(low[:, found.pivots], operator.matrix[:, found.pivots], atol=1e-12)
