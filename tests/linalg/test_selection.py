import numpy as np
import pytest

from jaxff.linalg import selection
from linalg.operators import Dense, decaying

DIAGONAL = np.full(60, 1e-5)


@pytest.mark.parametrize("name", sorted(selection.RULES))
def test_every_rule_gives_distinct_columns_of_the_number_asked(name):
    index = selection.RULES[name](decaying(), DIAGONAL, 12, np.random.default_rng(0))
    assert len(index) == len(set(index.tolist())) == 12
    assert index.min() >= 0
    assert index.max() < 60


def test_exact_scores_are_their_definition():
    operator = decaying()
    expected = np.diag(operator.matrix @ np.linalg.inv(operator.matrix + np.diag(DIAGONAL)))
    found = selection.exact_leverage_scores(operator, DIAGONAL)
    assert np.allclose(found, expected, rtol=1e-7)


def test_estimates_approach_the_exact_scores():
    operator, rng = decaying(power=3.0), np.random.default_rng(1)
    exact = selection.exact_leverage_scores(operator, np.full(60, 1e-2))
    found = selection.estimated_leverage_scores(operator, np.full(60, 1e-2), 200, rng)
    # 50 of 60 columns: all but exact, from below.
    assert np.allclose(found, exact, atol=5e-3)
    assert (found <= exact + 1e-12).all()


def test_samples_follow_the_scores():
    scores = np.array([0.1, 0.2, 0.7])
    first = [selection.sample(scores, 1, np.random.default_rng(s))[0] for s in range(2000)]
    shares = np.bincount(first, minlength=3) / 2000
    assert np.allclose(shares, scores, atol=4 * 0.5 / np.sqrt(2000))


def test_what_has_no_score_comes_last_and_at_random():
    scores = np.array([0.0, 0.5, 0.0, 1e-300, 0.0, 5e-324])
    chosen = [selection.sample(scores, 2, np.random.default_rng(s)).tolist() for s in range(20)]
    assert all(1 in own for own in chosen)
    more = [selection.sample(scores, 4, np.random.default_rng(s)) for s in range(50)]
    assert all({1, 3} <= set(own.tolist()) for own in more)
    assert {0, 2, 4, 5} == set(np.concatenate(more).tolist()) - {1, 3}
    assert selection.sample(np.zeros(5), 5, np.random.default_rng(0)).tolist() == [0, 1, 2, 3, 4]


def test_largest_and_smallest_scores():
    operator = Dense(np.diag([1.0, 1e-9, 1e-9, 1.0, 1e-9]))
    diagonal, rng = np.full(5, 1e-5), np.random.default_rng(0)
    # With all columns in the estimate, scores are exact.
    largest = selection.RULES["leverage_largest"]
    assert selection.exact_leverage_scores(operator, diagonal)[[0, 3]].min() > 0.9
    assert len(largest(operator, diagonal, 2, rng)) == 2


def test_recursive_scores_reach_rows_that_the_samples_did_not_see():
    operator = Dense(np.eye(40))
    rng = np.random.default_rng(0)
    scores = selection.recursive_leverage_scores(operator, np.full(40, 0.1), 16, rng)
    assert scores.min() > 0.01
