"""Solves with products in float32 against those in float64, on a real molecule."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxff import data
from jaxff.data.embedded import ethanol_path
from jaxff.descriptors import inverse_distances
from jaxff.gdml import operator
from jaxff.gdml.operator import GdmlOperator
from jaxff.kernels import Kernel, matern52
from jaxff.linalg import preconditioners, solvers

COUNT = 20
KERNEL = Kernel(inverse_distances, matern52)


@pytest.fixture(scope="module")
def ethanol():
    """Operator and scaled forces of a few frames."""
    frames = data.npz.read(ethanol_path())
    chosen = np.linspace(0, 1999, COUNT).astype(int)
    systems = jax.tree.map(lambda leaf: leaf[chosen], frames.systems)
    forces = frames.labels("forces")["forces"][chosen]
    hyper = {"lengthscale": jnp.asarray(20.0)}
    return GdmlOperator(KERNEL, hyper, systems), np.ravel(forces / forces.std())


def solve(ethanol, regularization, rtol, product, **more):
    matrix, rhs = ethanol
    recipe = preconditioners.nystroem("uniform", rank=60)
    solver = solvers.conjugate_gradient(preconditioner=recipe, rtol=rtol, product=product, **more)
    return solver(matrix, rhs, np.full(matrix.size, regularization))


def test_products_in_float32_are_as_exact_as_their_numbers(ethanol):
    matrix, rhs = ethanol
    exact, rounded = matrix.matvec(rhs), matrix.lowered().matvec(rhs)
    error = jnp.linalg.norm(rounded - exact) / jnp.linalg.norm(exact)
    assert rounded.dtype == exact.dtype
    assert 1e-9 < error < 5e-7


def test_all_work_on_pairs_is_in_float32(ethanol):
    lowered, rhs = ethanol[0].lowered(), jnp.asarray(ethanol[1])
    traced = operator._matvec.lower(lowered._static, lowered.hyper, lowered.references, rhs)
    lines = traced.as_text().splitlines()
    on_pairs = [line for line in lines if "exponential" in line or "dot_general" in line]
    assert len(on_pairs) >= 4
    assert all("f32" in line and "f64" not in line for line in on_pairs)


@pytest.mark.parametrize("rtol", [1e-4, 1e-8])
def test_residual_and_solution_are_those_of_float64(ethanol, rtol, caplog):
    matrix, rhs = ethanol
    regularization = 2e-7  # the largest eigenvalue is a million times that
    exact = solve(ethanol, regularization, rtol, "float64")
    mixed = solve(ethanol, regularization, rtol, "float32")
    left = rhs - np.asarray(matrix.matvec(mixed.value)) - regularization * mixed.value
    assert np.linalg.norm(left) <= rtol * np.linalg.norm(rhs)
    assert mixed.converged
    assert mixed.method == "conjugate gradients, products in float32"
    assert exact.method == "conjugate gradients"
    assert not caplog.records
    assert 0 < mixed.iterations < 3 * exact.iterations
    best = np.linalg.solve(matrix.dense() + regularization * np.eye(len(rhs)), rhs)
    miss = [np.linalg.norm(each.value - best) for each in (mixed, exact)]
    assert miss[0] <= 3 * miss[1] + 1e-9 * np.linalg.norm(best)


def test_float32_is_not_tried_where_its_error_exceeds_the_regularization(ethanol, caplog):
    with caplog.at_level(logging.WARNING, "jaxff"):
        mixed = solve(ethanol, 1e-10, 1e-4, "float32")
    exact = solve(ethanol, 1e-10, 1e-4, "float64")
    assert np.array_equal(mixed.value, exact.value)
    assert mixed.iterations == exact.iterations
    assert "products in float64 instead of float32: their error" in mixed.method
    assert "it is 1.0e-10" in caplog.text


def test_a_solve_that_stagnates_goes_on_in_float64(ethanol, monkeypatch, caplog):
    """Without the look at the error: the iteration itself notices."""
    monkeypatch.setattr("jaxff.linalg.mixed_precision.MARGIN", 0.0)
    mixed = solve(ethanol, 1e-13, 1e-4, "float32", window=20)
    assert mixed.converged
    assert mixed.residual_norm <= 1e-4
    assert "progress ended at a residual of" in mixed.method
    assert "progress ended" in caplog.text


def test_other_precisions_and_operators_are_refused(ethanol):
    with pytest.raises(ValueError, match="product must be 'float64' or 'float32'"):
        solvers.conjugate_gradient(product="float16")

    class Plain:
        size = 3

        def matvec(self, vector):
            return vector

        def diagonal(self):
            return np.ones(3)

        def columns(self, index):
            return np.eye(3)[:, index]

        def dense(self, *, lower=False, progress=None):
            return np.eye(3)

    with pytest.raises(ValueError, match=r"lowered\(\) form, got Plain"):
        solvers.conjugate_gradient(product="float32")(Plain(), np.ones(3), np.ones(3))
