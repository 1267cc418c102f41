"""Ethanol, n = 2700: stored matrix entries, pivots and iterations of preconditioned solves."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxff.descriptors import inverse_distances
from jaxff.gdml.operator import GdmlOperator
from jaxff.kernels import Kernel, matern52
from jaxff.linalg import low_rank, pivoting, preconditioners, solvers
from jaxff.system import System

LAMBDA = 1e-10


@pytest.fixture(scope="module")
def stored(reference_dir):
    with np.load(reference_dir / "preconditioner_ethanol100.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def operator(stored):
    kernel = Kernel(inverse_distances, matern52, stored["perms"])
    frames = System(stored["R"], stored["Z"])
    return GdmlOperator(kernel, {"lengthscale": jnp.asarray(10.0)}, frames)


def iterations(operator, stored, preconditioner):
    solve = solvers.conjugate_gradient(preconditioner=preconditioner, rtol=1e-4, restarts=0)
    found = solve(operator, stored["y"], np.full(operator.size, LAMBDA))
    assert found.converged
    return found


@pytest.mark.golden
def test_the_matrix_is_that_of_the_reference(operator, stored):
    corner = operator.columns(np.arange(54))[:27]
    assert np.abs(corner - stored["K_block_rows0_26_cols0_53"]).max() < 1e-15
    assert np.allclose(operator.diagonal(), stored["K_diag"], rtol=1e-12, atol=0)


@pytest.mark.slow
@pytest.mark.golden
def test_pivots_and_iterations_of_the_incomplete_cholesky_factor(operator, stored):
    rank = int(stored["k"][3])
    found = pivoting.greedy(operator, rank)
    # Equal residuals, of equivalent atoms, are taken in any order.
    assert np.mean(np.isin(found.pivots, stored["ichol_pivots"])) > 0.95
    built = low_rank.woodbury(found.factor, np.full(operator.size, LAMBDA))
    solution = iterations(operator, stored, lambda *_, **__: built)
    assert abs(solution.iterations / stored["iters_incomplete_cholesky"][3] - 1) < 0.05
    # Stored to the same tolerance, the solution is not unique beyond it: compare what it predicts.
    image = np.asarray(operator.matvec(jnp.asarray(solution.value - stored["beta"])))
    assert np.linalg.norm(image) < 2e-4 * np.linalg.norm(stored["y"])


@pytest.mark.golden
@pytest.mark.parametrize("columns", ["uniform", "leverage"])
def test_random_columns_take_as_many_iterations_as_those_of_the_reference(
    columns, operator, stored
):
    rank, runs = int(stored["k"][3]), stored[f"iters_nystroem_{columns}"][3]
    recipe = preconditioners.nystroem(columns, rank=rank)
    found = iterations(operator, stored, recipe).iterations
    assert 0.95 * runs.min() < found < 1.05 * runs.max()
