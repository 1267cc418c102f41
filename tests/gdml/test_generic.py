"""The general path: any kernel, any labels."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_models import CASES, SWAP, water

from jaxff.cell import volume
from jaxff.derivatives import hessian_vector, observe
from jaxff.descriptors import inverse_distances
from jaxff.gdml import generic
from jaxff.gdml.generic import GenericOperator
from jaxff.gdml.jets import Expanded, expand_compiled
from jaxff.gdml.observation import observe_packed
from jaxff.gdml.operator import GdmlOperator
from jaxff.kernels import AtomicSum, GlobalSymmetry, Kernel, Scaled, matern32, matern52, rbf
from jaxff.system import System, strain

CELL = np.array([[3.3, 0.1, 0.0], [0.0, 3.5, 0.2], [0.3, 0.0, 3.4]])


def dressed(system: System, neighbors=None):
    """Two atoms in a cell and a field: smooth, and no two features alike."""
    difference = system.positions[0] - system.positions[1]
    fraction = difference @ jnp.linalg.inv(system.cell)
    length = jnp.sum(system.cell**2, axis=1)
    coupling = system.electric_field @ difference
    return jnp.concatenate([jnp.sin(2 * jnp.pi * fraction), 0.1 * length, coupling[None]])


dressed.uses = frozenset({"electric_field"})


def near(system: System, neighbors=None):
    """Features of the two atoms of a pair, and of any third."""
    square = jnp.sum((system.positions[:, None] - system.positions) ** 2, axis=-1)
    return jnp.stack([jnp.sum(jnp.exp(-a * square), axis=1) for a in (0.5, 1.0)], axis=1)


def pairs_in_a_cell(count: int = 3) -> System:
    rng = np.random.default_rng(3)
    positions = np.array([[0.0, 0, 0], [1.1, 0.4, 0.3]]) + 0.3 * rng.normal(size=(count, 2, 3))
    return System(
        positions, [1, 8], CELL + 0.1 * rng.normal(size=(count, 3, 3)),
        electric_field=0.3 * rng.normal(size=(count, 3)),
    )  # fmt: skip


ALL = ("forces", "energy", "hessian", "hessian_vector", "stress", "virial", "dipole")
DIRECTIONS = np.random.default_rng(1).normal(size=(3, 2, 2, 3))
UPPER = np.triu_indices(6)


def plain_labels(function, system, directions):
    """All labels of a function of a system, each by its definition and dense derivatives."""
    of_positions = lambda r: function(system.replace(positions=r))  # noqa: E731
    gradient = jax.jacfwd(of_positions)(system.positions)
    hessian = jax.jacfwd(jax.jacfwd(of_positions))(system.positions).reshape(6, 6)
    of_strain = jax.jacfwd(lambda e: function(strain(system, e)))(jnp.zeros((3, 3)))
    of_field = jax.jacfwd(lambda f: function(system.replace(electric_field=f)))
    upper = of_strain[np.triu_indices(3)]
    return jnp.concatenate([
        -gradient.ravel(), function(system)[None], hessian[UPPER],
        (directions.reshape(-1, 6) @ hessian).ravel(), upper / volume(system.cell), -upper,
        -of_field(system.electric_field),
    ])  # fmt: skip


@pytest.fixture(scope="module")
def everything():
    """An operator of all labels, its matrix, and the matrix by dense derivatives."""
    kernel, references = Kernel(dressed, rbf), pairs_in_a_cell()
    hyper = {"lengthscale": jnp.asarray(0.9)}
    operator = GenericOperator(kernel, hyper, references, ALL, jnp.asarray(DIRECTIONS))

    @jax.jit
    def block(first, along, second, beside):
        inner = lambda a: plain_labels(lambda b: kernel(hyper, a, b), second, beside)  # noqa: E731
        unit = jnp.eye(operator.block)
        one = lambda e: plain_labels(lambda a: e @ inner(a), first, along)  # noqa: E731
        return jax.lax.map(one, unit).T

    matrix = np.zeros((operator.size, operator.size))
    for i in range(3):
        for j in range(3):
            at = [jax.tree.map(lambda leaf, k=k: leaf[k], references) for k in (i, j)]
            found = block(at[0], DIRECTIONS[i], at[1], DIRECTIONS[j])
            matrix[np.ix_(operator.places[i], operator.places[j])] = found
    return operator, operator.dense(), matrix


def test_every_label_agrees_with_dense_derivatives_of_the_kernel(everything):
    operator, dense, matrix = everything
    assert operator.size == 3 * (6 + 1 + 21 + 12 + 6 + 6 + 3)
    scale = np.sqrt(np.outer(np.diag(matrix), np.diag(matrix)))
    assert np.max(np.abs(dense - matrix) / scale) < 1e-11


def test_all_views_of_the_matrix_agree(everything):
    operator, dense, _ = everything
    size = np.abs(dense).max()
    columns = operator.columns(np.arange(operator.size))
    assert np.abs(columns - dense).max() <= 1e-13 * size
    assert np.abs(columns - columns.T).max() <= 1e-13 * size
    some = np.array([5, 100, 5, operator.size - 1])
    assert np.abs(operator.columns(some) - dense[:, some]).max() <= 1e-13 * size
    lower = operator.dense(lower=True)
    assert np.array_equal(np.tril(lower), np.tril(dense))
    assert not np.triu(lower, 1).any()
    assert np.array_equal(dense, dense.T)
    assert np.abs(operator.diagonal() - np.diag(dense)).max() <= 1e-13 * size
    vector = np.random.default_rng(0).normal(size=operator.size)
    expected = dense @ vector
    assert np.abs(operator.matvec(vector) - expected).max() <= 1e-12 * np.abs(expected).max()
    assert np.array_equal(operator.ravel(operator.unravel(vector)), vector)


def test_the_matrix_is_positive_semidefinite(everything):
    eigenvalues = np.linalg.eigvalsh(everything[1])
    assert eigenvalues[0] >= -1e-13 * eigenvalues[-1]
    assert eigenvalues[-1] > 0


def test_labels_are_those_that_the_library_observes(everything):
    """The fast observation of a fit, and the public transformations of the same energy."""
    operator, _, _ = everything
    vector = np.random.default_rng(5).normal(size=operator.size)
    jets = expand_compiled(
        operator.kernel, operator.hyper, operator.references,
        operator.unravel(jnp.asarray(vector)), operator.directions,
    )  # fmt: skip
    model = Expanded(operator.kernel, operator.hyper, jets)
    system = jax.tree.map(lambda leaf: leaf[1], operator.references)
    found = jax.jit(observe_packed, static_argnums=1)(model, ALL, system, DIRECTIONS[1])
    public = jax.jit(lambda e, s: observe(e, [n for n in ALL if n != "hessian_vector"])(s))(
        model, system
    )
    rows, columns = np.triu_indices(3)
    for name in ("forces", "energy", "dipole"):
        assert np.allclose(found[name], public[name], rtol=1e-10)
    for name in ("stress", "virial"):
        assert np.allclose(found[name], public[name][rows, columns], rtol=1e-10)
    assert np.allclose(found["hessian"], public["hessian"].reshape(6, 6)[UPPER], rtol=1e-9)
    product = jax.jit(lambda e, s, v: hessian_vector(e)(s, v))(model, system, DIRECTIONS[1, 0])
    assert np.allclose(found["hessian_vector"][0], product, rtol=1e-9)


@pytest.mark.parametrize("name", ["matern52", pytest.param("generic", marks=pytest.mark.slow)])
def test_the_fast_and_the_general_path_agree(name):
    case = CASES[name]()
    fast = GdmlOperator(case.kernel, case.hyper, case.references, energies=True)
    general = GenericOperator(case.kernel, case.hyper, case.references, ("energy", "forces"))
    expected = fast.dense()
    assert np.abs(general.dense() - expected).max() <= 1e-13 * np.abs(expected).max()


def test_random_descriptors_agree_on_both_paths():
    """A descriptor nobody has thought about."""
    weights = np.random.default_rng(8).normal(size=(4, 9))

    def random(system, neighbors=None):
        square = jnp.sum((system.positions[:, None] - system.positions) ** 2, axis=-1)
        return jnp.tanh(0.3 * weights @ square.ravel()) + jnp.sum(square)

    kernel, references = Kernel(random, matern52), water(3)
    hyper = {"lengthscale": jnp.asarray(1.4)}
    expected = GdmlOperator(kernel, hyper, references, energies=True).dense()
    found = GenericOperator(kernel, hyper, references, ("forces", "energy")).dense()
    assert np.abs(found - expected).max() <= 1e-10 * np.abs(expected).max()


def test_tiles_of_few_references_are_filled_up(monkeypatch):
    """Three references in tiles of two: the last one repeats a row, which does not count."""
    hyper = {"lengthscale": jnp.asarray(0.9)}
    operator = GenericOperator(Kernel(inverse_distances, rbf), hyper, water(3), ("energy",))
    expected = operator.columns(np.arange(3))
    (owner, component, _) = next(operator._batches(np.arange(3)))
    entries = sum(leaf.size for leaf in jax.tree.leaves(operator.jets(np.arange(3))))
    monkeypatch.setattr(generic, "_ELEMENTS", 2 * entries)
    assert [len(rows) for rows, _ in operator._tiles(owner, component, 0)] == [2, 1]
    assert np.array_equal(operator.columns(np.arange(3)), expected)
    assert np.ptp(expected[:, 0]) > 1e-3


KERNELS = {
    "sum": (Kernel(inverse_distances, matern52) + 0.5 * Kernel(inverse_distances, rbf, SWAP), 1),
    "product": (Scaled(Kernel(near, rbf) * Kernel(inverse_distances, matern52)), 1),
    "group": (GlobalSymmetry(Kernel(inverse_distances, matern32), SWAP), 1),
    "atoms": (AtomicSum(near, matern32), 1),
    "atoms_hessian": (AtomicSum(near, matern52), 2),
}


@functools.cache
def operator_of(name: str) -> GenericOperator:
    kernel, order = KERNELS[name]
    hyper = {n: jnp.asarray(0.9) for n in kernel.hyper_names}
    names = ("forces", "energy") if order == 1 else ("forces", "hessian")
    return GenericOperator(kernel, hyper, water(2), names)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if n == "atoms_hessian" else []) for n in KERNELS],
)
@settings(max_examples=6)
@given(seed=st.integers(0, 10_000), coincide=st.booleans())
def test_matrices_are_symmetric_and_positive_semidefinite(name, seed, coincide):
    references = water(2, seed=seed)
    if coincide:
        positions = references.positions.at[1].set(references.positions[0])
        references = references.replace(positions=positions)
    operator = dataclasses.replace(operator_of(name), references=references)
    matrix = operator.columns(np.arange(operator.size))
    size = np.abs(matrix).max()
    assert np.isfinite(size)
    assert np.abs(matrix - matrix.T).max() <= 1e-13 * size
    eigenvalues = np.linalg.eigvalsh(matrix)
    assert eigenvalues[0] >= -1e-13 * eigenvalues[-1]
    if coincide:  # equal rows for equal geometries
        rows = matrix[operator.places]
        assert np.abs(rows[0] - rows[1]).max() <= 1e-13 * size
