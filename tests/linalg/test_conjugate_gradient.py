import weakref

import jax.numpy as jnp
import numpy as np
import pytest

from jaxff.linalg import preconditioners, solvers
from linalg.operators import Dense, decaying

DIAGONAL = np.linspace(1e-4, 2e-4, 60)
UNIFORM = preconditioners.nystroem("uniform", rank=15)


def solve(operator, rhs, diagonal=DIAGONAL, **settings):
    settings = {"preconditioner": UNIFORM, "rtol": 1e-10, **settings}
    return solvers.conjugate_gradient(**settings)(operator, rhs, diagonal)


@pytest.mark.parametrize("shape", [(60,), (60, 1), (60, 3)])
def test_solution_equals_that_of_numpy(shape):
    operator = decaying()
    rhs = np.random.default_rng(1).normal(size=shape)
    solution = solve(operator, rhs)
    expected = np.linalg.solve(operator.matrix + np.diag(DIAGONAL), rhs)
    assert solution.value.shape == shape
    assert np.allclose(solution.value, expected, rtol=1e-7, atol=1e-7 * abs(expected).max())
    assert solution.converged
    assert solution.residual_norm <= 1e-10
    assert solution.rank == 15
    assert len(solution.history) == solution.iterations > 0


def test_residual_is_that_of_the_solution():
    operator = decaying()
    rhs = np.random.default_rng(1).normal(size=60)
    solution = solve(operator, rhs, rtol=1e-3)
    left = rhs - operator.matrix @ solution.value - DIAGONAL * solution.value
    assert np.isclose(solution.residual_norm, np.linalg.norm(left) / np.linalg.norm(rhs), rtol=1e-6)


def test_several_right_hand_sides_are_solved_as_if_alone():
    operator = decaying()
    rhs = np.random.default_rng(1).normal(size=(60, 3)) * [1.0, 1e-6, 1e6]
    together = solve(operator, rhs)
    for column in range(3):
        alone = solve(operator, rhs[:, column])
        assert np.allclose(together.value[:, column], alone.value, rtol=1e-6, atol=0)


def test_unconverged_is_said():
    solution = solve(decaying(), np.ones(60), max_iterations=2)
    assert not solution.converged
    assert solution.iterations == 2
    assert solution.residual_norm > 1e-10


def test_without_convergence_the_best_iterate_is_returned():
    rhs = np.random.default_rng(1).normal(size=60)
    settings = {"preconditioner": preconditioners.identity(), "rtol": 1e-8}
    history = solve(decaying(), rhs, **settings).history
    limit = int(np.argmax(history / np.minimum.accumulate(history)))
    assert history[limit] > 1.5 * history[:limit].min()
    solution = solve(decaying(), rhs, max_iterations=limit, **settings)
    assert not solution.converged
    np.testing.assert_allclose(solution.residual_norm, history[:limit].min(), rtol=1e-6)


def test_zero_right_hand_side():
    solution = solve(decaying(), np.zeros(60))
    assert solution.converged
    assert not solution.value.any()


def test_first_guess_saves_iterations():
    operator, rhs = decaying(), np.ones(60)
    first = solve(operator, rhs)
    assert solve(operator, rhs, start=first.value).iterations == 0


def test_stalling_is_answered_by_a_larger_preconditioner():
    """Nearly singular to working precision: with few columns, progress ends."""
    operator, rhs = decaying(size=300, power=6.0), np.random.default_rng(0).normal(size=300)
    diagonal = np.full(300, 1e-14)
    poor = preconditioners.nystroem("uniform", rank=30)
    solution = solve(
        operator, rhs, diagonal, preconditioner=poor, rtol=1e-6, window=10, restarts=4,
        max_iterations=400,
    )  # fmt: skip
    assert solution.rank > 30


def test_no_regularization_is_refused():
    with pytest.raises(ValueError, match="positive number on the whole diagonal"):
        solve(decaying(), np.ones(60), np.zeros(60))


def test_broken_matrices_are_named():
    with pytest.raises((FloatingPointError, np.linalg.LinAlgError), match="not finite"):
        solve(Dense(np.full((60, 60), np.nan)), np.ones(60))
    with pytest.raises(FloatingPointError, match="broke down"):
        solve(
            Dense(np.full((60, 60), np.nan)), np.ones(60), preconditioner=preconditioners.identity()
        )


def test_divergence_stops():
    """Of an indefinite matrix; the curvature along the first direction is nearly zero."""
    signs = np.resize([1.0, -1.0], 60)
    with pytest.raises(
        FloatingPointError, match=r"diverged to a residual of .* after 1 iterations"
    ):
        solve(
            Dense(np.diag(signs)), np.ones(60), np.full(60, 1e-9),
            preconditioner=preconditioners.identity(),
        )  # fmt: skip


@pytest.mark.parametrize(
    "arguments", [{"rtol": 0.0}, {"rtol": 2.0}, {"restarts": -1}, {"window": 1},
                  {"max_iterations": 0}],
)  # fmt: skip
def test_unusable_numbers_are_refused(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        solvers.conjugate_gradient(**arguments)


class Stop(Exception):
    pass


def test_a_killed_solve_continues(tmp_path):
    operator, rhs = decaying(), np.random.default_rng(1).normal(size=60)
    path = tmp_path / "solve.npz"

    def stop(progress):
        if progress.iteration == 20:
            raise Stop

    settings = {"checkpoint": path, "checkpoint_seconds": 0.0, "rtol": 1e-12}
    with pytest.raises(Stop):
        solve(operator, rhs, preconditioner=preconditioners.identity(), callback=stop, **settings)
    assert path.exists()
    resumed = solve(operator, rhs, preconditioner=preconditioners.identity(), **settings)
    assert resumed.iterations > 19
    assert resumed.converged
    assert not path.exists()
    expected = np.linalg.solve(operator.matrix + np.diag(DIAGONAL), rhs)
    assert np.allclose(resumed.value, expected, rtol=1e-7)


def test_a_solve_that_reached_its_limit_can_be_continued(tmp_path):
    operator, rhs = decaying(), np.random.default_rng(1).normal(size=60)
    settings = {
        "checkpoint": tmp_path / "solve.npz", "rtol": 1e-8,
        "preconditioner": preconditioners.identity(),
    }  # fmt: skip
    first = solve(operator, rhs, max_iterations=10, **settings)
    assert not first.converged
    assert settings["checkpoint"].exists()
    second = solve(operator, rhs, max_iterations=500, **settings)
    assert second.converged
    assert np.array_equal(second.history[:10], first.history)
    assert not settings["checkpoint"].exists()


def test_checkpoints_look_at_the_matrix_once(tmp_path):
    """A column of a large system can cost as much as many iterations."""
    asked = []

    class Counting(Dense):
        def columns(self, index):
            asked.append(len(index))
            return super().columns(index)

    solution = solve(
        Counting(decaying().matrix), np.ones(60), preconditioner=preconditioners.identity(),
        checkpoint=tmp_path / "solve.npz", checkpoint_seconds=0.0, max_iterations=10,
    )  # fmt: skip
    assert solution.iterations == 10
    assert asked == [1]


def test_checkpoints_of_other_systems_are_refused(tmp_path):
    path = tmp_path / "solve.npz"

    def stop(progress):
        if progress.iteration == 5:
            raise Stop

    settings = {"checkpoint": path, "checkpoint_seconds": 0.0}
    with pytest.raises(Stop):
        solve(decaying(), np.ones(60), callback=stop, **settings)
    with pytest.raises(ValueError, match="another system"):
        solve(decaying(seed=1), np.ones(60), **settings)
    with pytest.raises(ValueError, match="another system"):
        solve(decaying(), np.ones(60), 2.0 * DIAGONAL, **settings)
    with pytest.raises(ValueError, match="another system"):
        solve(decaying(), np.full(60, 2.0), **settings)
    same_diagonal = 0.5 * (decaying().matrix + np.diag(np.diag(decaying().matrix)))
    with pytest.raises(ValueError, match="another system"):
        solve(Dense(same_diagonal), np.ones(60), **settings)
    noisy = Dense(decaying().matrix * (1.0 + 1e-13))  # as other threads would round
    assert solve(noisy, np.ones(60), **settings).converged


def test_progress_is_told():
    seen = []
    solve(decaying(), np.ones(60), callback=seen.append)
    assert seen[0].stage == "preconditioner"
    assert seen[-1].rank == 15
    parts = [p.part for p in seen if p.stage == "iterations"]
    assert parts[-1] > 0.8
    assert all(0 <= p <= 1 for p in parts)


@pytest.mark.parametrize(
    ("rhs", "more", "message"),
    [(np.full(60, 1e-170), {}, "must be within"), (np.full(60, 1e170), {}, "must be within"),
     (np.stack([np.ones(60), np.full(60, 1e-170)], 1), {}, "must be within"),
     (np.ones(30), {}, "60 rows"), (np.ones(60), {"start": np.zeros(30)}, "start must have shape")],
)  # fmt: skip
def test_right_hand_sides_without_a_norm_or_a_shape_are_refused(rhs, more, message):
    """The square of 1e-170 is zero: the guess of zero would pass for the solution."""
    with pytest.raises(ValueError, match=message):
        solve(decaying(), rhs, **more)


def test_a_checkpoint_without_a_folder_is_refused_before_the_work(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        solve(decaying(), np.ones(60), checkpoint=tmp_path / "missing" / "solve.npz")


class Coarse(Dense):
    """Products are rounded to four digits, so that the recurrence leaves the truth."""

    def matvec(self, vector):
        image = self.matrix @ np.asarray(vector)
        unit = 1e-4 * np.abs(image).max()
        return jnp.asarray(np.round(image / unit) * unit if unit > 0 else image)


def test_every_iteration_after_a_fresh_residual_makes_a_step():
    operator, rhs = Coarse(decaying(power=2.0).matrix), np.random.default_rng(0).normal(size=60)
    solution = solve(
        operator, rhs, np.full(60, 1e-3), preconditioner=preconditioners.identity(), rtol=1e-3,
        max_iterations=200,
    )  # fmt: skip
    rises = np.diff(solution.history)
    assert (solution.history > 1e-3).all()
    assert rises.size > 5
    assert (rises != 0.0).all()


def test_a_restart_holds_one_factor_and_passes_on_scores_and_growth(tmp_path):
    """Also to a checkpoint, from which a later solve begins with the larger factor."""
    held, given, plain = [], [], preconditioners.nystroem("uniform", rank=30)
    path = tmp_path / "solve.npz"

    class Apply:
        def __init__(self, built):
            self.built = built

        def __call__(self, vector):
            return self.built.apply(vector)

    def recipe(operator, diagonal, **more):
        assert all(kept() is None for kept in held)
        given.append(more)
        built = plain(operator, diagonal, **more)
        apply = Apply(built)
        held.append(weakref.ref(apply))
        return built._replace(apply=apply)

    rhs = np.random.default_rng(0).normal(size=300)
    solve(
        decaying(size=300, power=6.0), rhs, np.full(300, 1e-14), preconditioner=recipe, rtol=1e-6,
        window=10, restarts=2, max_iterations=200, checkpoint=path,
    )  # fmt: skip
    assert len(held) == 3
    growths = [more["growth"] for more in given]
    np.testing.assert_allclose(growths, [1.0, 1.2, 1.44])
    assert given[0]["scores"] is None
    assert all(more["scores"].shape == (300,) for more in given[1:])
    with np.load(path) as file:
        assert float(file["growth"]) == growths[-1]
