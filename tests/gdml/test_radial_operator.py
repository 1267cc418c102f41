"""Closed forms of all labels under a radial kernel, against the general path."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_models import SWAP, log_distances, water

from jaxff import bind, gdml
from jaxff.descriptors import inverse_distances
from jaxff.gdml import generic, label_blocks
from jaxff.gdml.generic import GenericOperator
from jaxff.gdml.jets import Expanded, expand_compiled
from jaxff.gdml.labels import ORDERS, squares
from jaxff.gdml.observation import observe_packed
from jaxff.gdml.radial_operator import RadialOperator, operator_of
from jaxff.kernels import AtomicSum, Kernel, Scaled, matern32, matern52, matern72, rbf
from jaxff.linalg import solvers
from jaxff.system import System
from jaxff.training.leakage import shared_geometries

DIRECTIONS = np.random.default_rng(1).normal(size=(3, 2, 3, 3))
CASES = {
    "hessian": (inverse_distances, rbf, ("forces", "energy", "hessian"), None),
    "products": (log_distances, matern52, ("energy", "hessian_vector", "virial"), DIRECTIONS),
    "both": (inverse_distances, matern72, ("forces", "hessian", "hessian_vector"), DIRECTIONS),
    "energy": (inverse_distances, matern52, ("energy",), None),
    "virial": (log_distances, rbf, ("forces", "virial"), None),
}
SLOW = ("both", "virial")


def near(system: System, neighbors=None):
    """Features of an atom: sums over the others."""
    square = jnp.sum((system.positions[:, None] - system.positions) ** 2, axis=-1)
    return jnp.stack([jnp.sum(jnp.exp(-a * square), axis=1) for a in (0.5, 1.0)], axis=1)


def made(kind, name: str, references: System | None = None):
    descriptor, base, names, directions = CASES[name]
    return kind(
        Kernel(descriptor, base, SWAP), {"lengthscale": jnp.asarray(1.3)},
        water(3) if references is None else references, names,
        None if directions is None else jnp.asarray(directions),
    )  # fmt: skip


@functools.cache
def dense(name: str) -> np.ndarray:
    return made(GenericOperator, name).dense()


MARKED = [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in CASES]


@pytest.mark.parametrize("name", MARKED)
def test_the_matrix_is_that_of_the_general_path(name):
    expected, found = dense(name), made(RadialOperator, name).dense()
    assert np.abs(found - expected).max() <= 1e-13 * np.abs(expected).max()
    assert np.array_equal(found, found.T)


@pytest.mark.parametrize("name", MARKED)
def test_the_product_is_that_of_the_matrix(name):
    """Predictions of the expansion at the references themselves, where points coincide."""
    operator = made(RadialOperator, name)
    vector = np.random.default_rng(0).normal(size=operator.size)
    expected = dense(name) @ vector
    assert np.abs(operator.matvec(vector) - expected).max() <= 1e-12 * np.abs(expected).max()


def test_the_lower_triangle_alone_and_its_progress():
    operator, told = made(RadialOperator, "hessian"), []
    lower = operator.dense(lower=True, progress=told.append)
    full = operator.dense()
    assert np.array_equal(np.tril(lower), np.tril(full))
    assert told == sorted(told)
    assert told[-1] == 1.0


@pytest.mark.parametrize("name", ["energy", "products"])
def test_permutations_in_parts(name, monkeypatch):
    """Large groups are summed a few permutations at a time, and take fewer columns at once."""
    whole = made(RadialOperator, name)
    parts = label_blocks.permutation_parts(whole.kernel, 10)
    assert [len(part) for part in parts] == [2]
    monkeypatch.setattr(label_blocks, "_PART", 10)
    assert len(label_blocks.permutation_parts(whole.kernel, 10)) == 2
    found = made(RadialOperator, name).dense()
    assert np.abs(found - dense(name)).max() <= 1e-13 * np.abs(dense(name)).max()
    if name == "energy":
        index = np.array([0, 2])
        monkeypatch.setattr(generic, "_WIDEST", 1)
        assert np.allclose(made(RadialOperator, name).columns(index), dense(name)[:, index], 1e-12)


@settings(max_examples=6)
@given(seed=st.integers(0, 10_000), coincide=st.booleans())
def test_matrices_are_positive_semidefinite(seed, coincide):
    references = water(3, seed=seed)
    if coincide:
        positions = references.positions.at[1].set(references.positions[0])
        references = references.replace(positions=positions)
    operator = made(RadialOperator, "hessian", references)
    matrix = operator.dense()
    eigenvalues = np.linalg.eigvalsh(matrix)
    assert np.isfinite(eigenvalues).all()
    assert eigenvalues[0] >= -1e-13 * eigenvalues[-1]
    if coincide:
        rows = matrix[operator.places]
        assert np.abs(rows[0] - rows[1]).max() <= 1e-13 * np.abs(matrix).max()


def test_predictions_elsewhere_are_those_of_the_general_path():
    """Energy, forces and Hessians of a model with Hessian coefficients, at other geometries."""
    names = ("forces", "energy", "hessian")
    operator = made(RadialOperator, "hessian")
    potential = gdml.potential(operator.kernel)
    params = potential.init(jax.random.key(0), operator.references, hyper=operator.hyper)
    vector = np.random.default_rng(3).normal(size=operator.size)
    values = operator.unravel(jnp.asarray(vector))
    full = np.zeros((3, 9, 9))
    full[:, *np.triu_indices(9)] = values["hessian"]
    labels = {
        "forces": values["forces"],
        "energy": values["energy"],
        "hessian": (full + full.swapaxes(1, 2)).reshape(3, 3, 3, 3, 3),
    }
    fitted, info = gdml.fit(
        potential, params, labels, solver=solvers.cholesky(), regularization=1e-2
    )
    assert info.residual_norm < 1e-10
    jets = expand_compiled(
        operator.kernel, fitted["hyper"], fitted["references"], fitted["coefficients"]
    )
    models = bind(potential, fitted), Expanded(operator.kernel, fitted["hyper"], jets)
    query = jax.tree.map(lambda leaf: leaf[0], water(1, seed=9))
    found, expected = (
        jax.jit(observe_packed, static_argnums=1)(model, names, query) for model in models
    )
    for name in ("forces", "hessian"):
        size = np.abs(expected[name]).max()
        assert np.abs(found[name] - expected[name]).max() <= 1e-10 * size


COMPOSED = {
    "atoms": (AtomicSum(near, matern52), ("forces", "energy")),
    "atoms_hessian": (AtomicSum(near, matern52), ("energy", "hessian")),
    "sum": (
        Kernel(inverse_distances, matern52, SWAP) + Scaled(0.5 * AtomicSum(near, rbf)),
        ("forces", "energy"),
    ),
}


@pytest.mark.parametrize(
    "name", ["atoms", "sum", pytest.param("atoms_hessian", marks=pytest.mark.slow)]
)
def test_sums_predict_by_matrix_products(name):
    """Products with the matrix, and with it predictions, are those of the general path."""
    kernel, names = COMPOSED[name]
    hyper = {name: jnp.asarray(0.8) for name in kernel.hyper_names}
    made = [kind(kernel, hyper, water(3), names) for kind in (GenericOperator, operator_of)]
    assert isinstance(made[1], RadialOperator)
    matrix = made[0].dense()
    vector = np.random.default_rng(0).normal(size=made[0].size)
    expected = matrix @ vector
    assert np.abs(made[1].matvec(vector) - expected).max() <= 1e-11 * np.abs(expected).max()
    assert np.abs(made[1].dense() - matrix).max() <= 1e-13 * np.abs(matrix).max()


def test_models_of_sums_know_their_references():
    references, kernel = water(3), COMPOSED["sum"][0]
    potential = gdml.potential(kernel)
    hyper = dict.fromkeys(kernel.hyper_names, 0.8)
    params = potential.init(jax.random.key(0), references, hyper=hyper)
    both = jax.tree.map(lambda *x: jnp.concatenate(x), references, water(2, seed=5))
    assert shared_geometries(potential, params, both).tolist() == [True] * 3 + [False] * 2


def test_kernels_choose_their_operator():
    references, hyper = water(2), {"lengthscale": jnp.asarray(1.0)}
    for base, kind in ((matern52, RadialOperator), (matern32, GenericOperator)):
        operator = operator_of(Kernel(inverse_distances, base), hyper, references, ("energy",))
        assert type(operator) is kind


@pytest.mark.parametrize("pairs", [1, 2, 5, 9])
def test_squares_have_the_second_derivatives_of_pairs(pairs):
    """A few pairs become sums and differences, many the eigenvectors of their sum."""
    left, right = np.random.default_rng(pairs).normal(size=(2, pairs, 2, 3))
    directions, weights = squares(jnp.asarray(left), jnp.asarray(right))
    form = np.random.default_rng(0).normal(size=(6, 6))
    form = form + form.T
    flat = np.asarray(directions).reshape(len(weights), 6)
    expected = np.einsum("ma,ab,mb->", left.reshape(pairs, 6), form, right.reshape(pairs, 6))
    assert np.isclose(weights @ np.einsum("ma,ab,mb->m", flat, form, flat), expected)
    assert len(weights) == min(2 * pairs, 6)


def test_the_order_of_labels_is_that_of_the_general_path():
    general, radial = (made(kind, "both") for kind in (GenericOperator, RadialOperator))
    labels = {
        name: np.random.default_rng(ORDERS.get(name, 1)).normal(size=(3, *shape))
        for name, shape in general.shapes.items()
    }
    assert np.array_equal(general.ravel(labels), radial.ravel(labels))
    again = dataclasses.replace(radial).unravel(radial.ravel(labels))
    assert all(np.array_equal(again[name], labels[name]) for name in labels)
