import numpy as np
import pytest

from jaxff.linalg import cost, preconditioners, selection, solvers
from linalg.operators import Dense, decaying

DIAGONAL = np.full(60, 1e-6)


def condition(operator, diagonal, built):
    """Extreme eigenvalues of the preconditioned matrix."""
    matrix = operator.matrix + np.diag(diagonal)
    values = np.linalg.eigvals(np.asarray(built.apply(matrix)))
    return values.real.min(), values.real.max()


def test_largest_eigenvalue_with_the_leading_eigenvectors():
    """Blücher et al. (2023): 1 + s_{k+1}/λ, and none below 1."""
    operator = decaying(power=3.0)
    for rank in (5, 20, 40):
        low, high = condition(operator, DIAGONAL, preconditioners.svd(rank)(operator, DIAGONAL))
        following = float(rank + 1) ** -3.0
        assert np.isclose(high, 1 + following / 1e-6, rtol=1e-8)
        assert np.isclose(low, 1.0, rtol=1e-6)


@pytest.mark.parametrize("form", ["woodbury", "spectral"])
@pytest.mark.parametrize("columns", sorted(selection.RULES))
def test_every_rule_improves_the_condition(columns, form):
    operator = decaying()
    before = np.linalg.cond(operator.matrix + np.diag(DIAGONAL))
    recipe = preconditioners.nystroem(columns, rank=20, form=form)
    low, high = condition(operator, DIAGONAL, recipe(operator, DIAGONAL))
    assert high / low < before / 20


def test_recipes_are_repeatable_and_grow():
    operator = decaying()
    recipe = preconditioners.nystroem("uniform", rank=0.25, seed=3)
    first, second = recipe(operator, DIAGONAL), recipe(operator, DIAGONAL)
    assert first.rank == 15
    assert np.array_equal(first.columns, second.columns)
    grown = recipe(operator, DIAGONAL, growth=2.0)
    assert grown.rank == 30


def test_duplicate_rows_do_not_stop_it():
    operator = decaying()
    doubled = Dense(np.kron(np.ones((2, 2)), operator.matrix))
    diagonal = np.full(120, 1e-8)
    built = preconditioners.nystroem("uniform", rank=100)(doubled, diagonal)
    assert np.isfinite(np.asarray(built.apply(np.ones(120)))).all()


def test_block_jacobi_inverts_blocks():
    rng = np.random.default_rng(0)
    blocks = [a @ a.T + np.eye(4) for a in rng.normal(size=(3, 4, 4))]
    matrix = np.zeros((11, 11))
    for i, block in enumerate(blocks):
        stop = min(4 * i + 4, 11)
        matrix[4 * i : stop, 4 * i : stop] = block[: stop - 4 * i, : stop - 4 * i]
    diagonal = rng.uniform(0.1, 0.2, 11)
    built = preconditioners.block_jacobi(4)(Dense(matrix), diagonal)
    vector = rng.normal(size=(11, 2))
    expected = np.linalg.solve(matrix + np.diag(diagonal), vector)
    assert np.allclose(built.apply(vector), expected)


def test_identity_divides_by_the_diagonal():
    diagonal = np.linspace(1, 2, 60)
    built = preconditioners.identity()(decaying(), diagonal)
    assert np.allclose(built.apply(np.ones((60, 2))), 1 / diagonal[:, None])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"columns": "best"}, "must be one of"), ({"form": "cholesky"}, "form must be")],
)
def test_unknown_names_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        preconditioners.nystroem(**arguments)


@pytest.mark.parametrize("memory", [0.0, -1.0, np.nan])
def test_limits_that_limit_nothing_are_refused(memory):
    for build in (preconditioners.nystroem, solvers.cholesky, solvers.auto):
        with pytest.raises(ValueError, match="memory must be a positive number of bytes"):
            build(memory=memory)


@pytest.mark.parametrize("rank", [0, -3, 0.0, 1.0, 20.0, "half", True, 61, np.nan])
def test_ranks_that_mean_nothing_are_refused(rank):
    with pytest.raises(ValueError, match="rank must be"):
        preconditioners.nystroem("uniform", rank=rank)(decaying(), DIAGONAL)


def test_a_rank_beyond_the_memory_is_refused_and_auto_stays_within():
    recipe = preconditioners.nystroem("uniform", rank=50, memory=20_000)
    with pytest.raises(MemoryError, match="at most"):
        recipe(decaying(), DIAGONAL)
    rank = cost.resolve_rank("auto", decaying(), memory=20_000)
    assert 8 * (60 * rank + 3 * rank**2) <= 20_000


@pytest.mark.parametrize("squares", [3, 8])
def test_the_largest_rank_is_the_last_that_fits(squares):
    for size, limit in ((60, 20_000), (10_000, 4e8)):
        rank = cost.most_columns(size, limit, squares=squares)
        taken = [8 * (size * k + squares * k**2) for k in (rank, rank + 1)]
        assert taken[0] <= limit < taken[1]


def test_rule_of_thumb_is_the_published_one():
    """Blücher et al. (2023): 3666, 6551, 10767, 23207 columns."""
    sizes = (31_400, 75_000, 158_000, 500_000)
    found = [cost.rule_of_thumb(n) for n in sizes]
    assert np.allclose(found, (3666, 6551, 10767, 23207), rtol=3e-3)


def test_more_regularization_wants_fewer_columns():
    machine = cost.Machine(1e-2, 1e-4, 1e-9, 1e-10, 512, 1e-7)
    ranks = [cost.estimate(machine, 10_000, level, 5000).rank for level in (1e-12, 1e-9, 1e-6)]
    assert ranks[0] > ranks[1] > ranks[2]


@pytest.mark.parametrize(("part", "fewer"), [("column", 0.8), ("operation", 0.8), ("entry", 1.1)])
def test_dearer_columns_are_fewer_and_cost_more(part, fewer):
    """With iterations as 1 / k, applications cost the same at every rank k: they do not choose."""
    machine = cost.Machine(1e-2, 1e-4, 1e-9, 1e-10, 512, 1e-7)
    dearer = machine._replace(**{part: 100.0 * getattr(machine, part)})
    first, second = (cost.estimate(each, 10_000, 1e-9, 9000) for each in (machine, dearer))
    assert second.rank < fewer * first.rank
    assert second.seconds > 1.3 * first.seconds


def test_scores_of_an_earlier_approximation_choose_the_columns():
    scores = np.zeros(60)
    scores[[3, 8, 21, 40]] = 1.0
    built = preconditioners.nystroem("leverage", rank=4)(decaying(), DIAGONAL, scores=scores)
    assert list(built.columns) == [3, 8, 21, 40]


@pytest.mark.parametrize(("end", "expected"), [("largest", [57, 58, 59]), ("smallest", [0, 1, 2])])
def test_rules_without_chance_have_none_after_a_restart(end, expected):
    recipe = preconditioners.nystroem(f"leverage_{end}", rank=3)
    built = recipe(decaying(), DIAGONAL, scores=np.arange(60.0))
    assert list(built.columns) == expected


def test_what_a_factor_leaves_of_the_memory_is_said():
    built = preconditioners.nystroem("uniform", rank=10, memory=20_000)(decaying(), DIAGONAL)
    assert built.kept_bytes == 8 * 60 * 10
    assert built.spare_bytes == 20_000 - built.kept_bytes


def test_measured_remainder():
    operator = decaying(size=300, power=2.0)
    machine = cost.measure(operator, 40)
    assert machine.probe == 40
    assert min(machine.product, machine.column, machine.entry, machine.operation) > 0
    index = np.sort(np.random.default_rng(0).choice(300, 40, replace=False))
    matrix = operator.columns(np.arange(300))
    left = matrix - matrix[:, index] @ np.linalg.solve(matrix[np.ix_(index, index)], matrix[index])
    assert 0.8 < machine.remainder / np.linalg.eigvalsh(left)[-1] <= 1.0 + 1e-6


@pytest.mark.parametrize(("level", "rank"), [(1e-3, 30), (1e-4, 30), (1e-4, 80)])
def test_expected_iterations_are_near_those_needed(level, rank):
    operator = decaying(size=300, power=2.0)
    expected = cost.expected_iterations(cost.measure(operator, 40), np.array([rank]), level)[0]
    solver = solvers.conjugate_gradient(
        preconditioner=preconditioners.nystroem("uniform", rank=rank), restarts=0
    )
    rhs = np.random.default_rng(1).normal(size=300)
    needed = solver(operator, rhs, np.full(300, level)).iterations
    assert 1 / 3 < expected / needed < 3


@pytest.mark.parametrize("columns", ["pivoted_cholesky", "random_pivoted_cholesky", "leverage"])
def test_a_matrix_of_zeros_leaves_the_diagonal(columns):
    zeros = Dense(np.zeros((60, 60)))
    built = preconditioners.nystroem(columns, rank=4)(zeros, DIAGONAL)
    assert np.allclose(built.apply(np.ones(60)), 1 / DIAGONAL)


@pytest.mark.parametrize("block", [0, -2])
def test_blocks_without_rows_are_refused(block):
    with pytest.raises(ValueError, match="positive number of rows"):
        preconditioners.block_jacobi(block)
