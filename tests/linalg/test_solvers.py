import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxff.linalg import preconditioners, solvers
from linalg.operators import Dense

ROOT = Path(__file__).resolve().parents[2]


def semidefinite(size=40, rank=25, seed=0):
    factor = np.random.default_rng(seed).normal(size=(size, rank))
    return Dense(factor @ factor.T)


def test_solution_equals_that_of_numpy():
    operator = semidefinite()
    rng = np.random.default_rng(1)
    rhs, diagonal = rng.normal(size=40), rng.uniform(0.1, 2.0, 40)
    solution = solvers.cholesky()(operator, rhs, diagonal)
    expected = np.linalg.solve(operator.matrix + np.diag(diagonal), rhs)
    assert np.allclose(solution.value, expected, rtol=1e-11)
    assert solution.residual_norm < 1e-12
    assert solution.iterations == 0
    assert solution.converged


def test_a_solution_lost_to_rounding_is_not_called_converged():
    """A product that differs from the dense form stands for the rounding."""
    operator = semidefinite()
    operator.matvec = lambda vector: operator.matrix @ vector + vector
    lost = solvers.cholesky()(operator, np.ones(40), np.full(40, 0.3))
    assert lost.residual_norm > 0.1
    assert not lost.converged


def test_arguments_are_left_alone():
    operator = semidefinite()
    rhs, diagonal, matrix = np.ones(40), np.full(40, 0.3), operator.matrix.copy()
    solvers.cholesky()(operator, rhs, diagonal)
    assert np.array_equal(rhs, np.ones(40))
    assert np.array_equal(diagonal, np.full(40, 0.3))
    assert np.array_equal(operator.matrix, matrix)


def test_residual_is_that_of_the_operator_and_not_of_the_factor():
    """A dense form that disagrees with the product shows in the residual."""
    operator = semidefinite()
    operator.matvec = lambda vector: 1.01 * (operator.matrix @ vector)
    solution = solvers.cholesky()(operator, np.ones(40), np.full(40, 0.3))
    assert solution.residual_norm > 1e-3


def test_a_matrix_that_is_not_positive_definite_is_refused_with_advice():
    with pytest.raises(np.linalg.LinAlgError, match="raise the regularization"):
        solvers.cholesky()(semidefinite(), np.ones(40), np.full(40, -1.0))
    matrix = np.eye(5)
    matrix[3, 3] = -1.0
    with pytest.raises(np.linalg.LinAlgError, match="at row 3 of 5"):
        solvers.cholesky()(Dense(matrix), np.ones(5), np.zeros(5))


def test_a_matrix_with_nan_is_refused():
    matrix = np.eye(4)
    matrix[2, 1] = np.nan
    with pytest.raises(np.linalg.LinAlgError):
        solvers.cholesky()(Dense(matrix), np.ones(4), np.zeros(4))
    with pytest.raises(np.linalg.LinAlgError, match="not finite"):
        solvers.cholesky()(Dense(np.eye(4)), np.array([1, np.nan, 0, 0]), np.zeros(4))


def test_zero_labels_have_the_zero_solution():
    solution = solvers.cholesky()(semidefinite(), np.zeros(40), np.ones(40))
    assert np.array_equal(solution.value, np.zeros(40))
    assert solution.residual_norm == 0.0
    assert solution.converged


def test_too_large_a_matrix_is_refused_before_it_is_made(monkeypatch):
    class Huge(Dense):
        size = 1_000_000

        def dense(self, *, lower=False, progress=None):
            raise AssertionError("the matrix was asked for")

    with pytest.raises(MemoryError, match=r"1000000 equations needs 4\.8 TB"):
        solvers.cholesky()(Huge(np.eye(1)), np.ones(1), np.ones(1))
    monkeypatch.setattr(solvers, "available_bytes", lambda: 5000)
    with pytest.raises(MemoryError, match=r"needs 7\.68 kB, 5 kB may be used: use fewer"):
        solvers.cholesky()(semidefinite(), np.ones(40), np.ones(40))


# Not getrusage, whose peak a child inherits from its parent.
HIGH_WATER = """
def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
"""

PEAK = """
import json, jax, numpy as np
jax.config.update("jax_enable_x64", True)
from jaxff.linalg import solvers

class Lower:
    size = {size}
    def dense(self, *, lower=False, progress=None):
        matrix = np.empty((self.size, self.size), order="F")
        for column in range(self.size):
            matrix[column:, column] = 0.1
        return matrix
    def matvec(self, vector):
        return 0.1 * np.sum(vector) * np.ones(self.size)

import scipy.linalg.lapack
Lower.size = 64
solvers.cholesky()(Lower(), np.ones(64), np.ones(64))
before, Lower.size = peak(), {size}
solution = solvers.cholesky()(Lower(), np.ones({size}), np.ones({size}))
print(json.dumps([peak() - before, solution.residual_norm]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="peak memory as Linux tells it")
def test_a_solve_takes_one_matrix():
    """Peak memory in a process of its own: no copy of the matrix."""
    size = 4000
    result = subprocess.run(
        [sys.executable, "-c", HIGH_WATER + PEAK.format(size=size)],
        capture_output=True, text=True, cwd=ROOT, check=True,
    )  # fmt: skip
    growth, residual = json.loads(result.stdout)
    assert residual < 1e-10
    assert 0.5 * size**2 * 8 < growth < 1.2 * size**2 * 8


ASSEMBLE = """
import json, jax, numpy as np
jax.config.update("jax_enable_x64", True)
from jaxff.descriptors import inverse_distances
from jaxff.gdml.operator import GdmlOperator
from jaxff.kernels import Kernel, matern52
from jaxff.linalg import solvers
from jaxff.system import System

positions = np.random.default_rng(0).normal(size=({count}, 3, 3)) * 0.05 + np.eye(3)
def solve(count):
    operator = GdmlOperator(
        Kernel(inverse_distances, matern52), {{"lengthscale": jax.numpy.asarray(1.0)}},
        System(positions[:count], [8, 1, 1]),
    )
    rhs = np.ones(operator.size)
    return solvers.cholesky()(operator, rhs, np.full(operator.size, 1e-6))
solve(400)
before = peak()
solution = solve({count})
print(json.dumps([peak() - before, solution.residual_norm]))
"""


@pytest.mark.slow
def test_peak_memory_of_a_real_kernel():
    count = 850
    result = subprocess.run(
        [sys.executable, "-c", HIGH_WATER + ASSEMBLE.format(count=count)],
        capture_output=True, text=True, cwd=ROOT, check=True,
    )  # fmt: skip
    growth, residual = json.loads(result.stdout)
    assert residual < 1e-6
    assert growth < 1.2 * (9 * count) ** 2 * 8


def test_what_fits_is_factorised_and_what_does_not_is_iterated():
    operator = Dense(semidefinite(rank=40).matrix + np.eye(40))
    rhs, diagonal = np.ones(40), np.full(40, 1e-2)
    told = []
    direct = solvers.auto(tell=told.append, checkpoint="state.npz")(operator, rhs, diagonal)
    assert told[0].startswith("cholesky: the matrix fits, and the solution is exact (40 equations")
    assert told[0].endswith("no checkpoint is kept in state.npz")
    assert direct.iterations == 0
    recipe = preconditioners.nystroem("uniform", rank=5)
    iterate = solvers.auto(memory=5_000, preconditioner=recipe, rtol=1e-9, tell=told.append)
    iterated = iterate(operator, rhs, diagonal)
    assert told[1].startswith("conjugate gradients: the matrix does not fit (40 equations")
    assert iterated.iterations > 0
    np.testing.assert_allclose(iterated.value, direct.value, rtol=1e-7)


@pytest.mark.parametrize("content", [b"", b"hello", None])
def test_a_file_that_is_no_checkpoint_is_refused(content, tmp_path):
    path = tmp_path / "state.npz"
    np.savez(path, R=np.ones(3)) if content is None else path.write_bytes(content)
    before = path.read_bytes()
    solver = solvers.conjugate_gradient(checkpoint=path)
    with pytest.raises(ValueError, match=r"state\.npz is not a checkpoint of a solve"):
        solver(Dense(np.eye(4)), np.ones(4), np.ones(4))
    assert path.read_bytes() == before
