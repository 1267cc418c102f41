import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernel_models import AMMONIA, CASES, THREE_HYDROGENS, Case, explicit_matrix, water

from jaxff.descriptors import inverse_distances
from jaxff.gdml import assembly, operator, stored_pairs
from jaxff.gdml.operator import GdmlOperator
from jaxff.kernels import Kernel, matern52
from jaxff.linalg import preconditioners
from jaxff.system import System


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return CASES[request.param]()


@pytest.fixture(scope="module")
def built(case):
    """The operator with energies and its dense matrix."""
    built = GdmlOperator(case.kernel, case.hyper, case.references, energies=True)
    return built, built.dense()


def of_forces(case):
    return GdmlOperator(case.kernel, case.hyper, case.references)


def test_dense_equals_differentiation_of_the_scalar_kernel(case, built):
    expected = explicit_matrix(case, energies=True)
    _, dense = built
    assert dense.shape == expected.shape
    assert np.abs(dense - expected).max() <= 1e-11 * np.abs(expected).max()


def test_force_labels_alone_are_the_leading_block(case, built):
    dense = of_forces(case).dense()
    size = case.references.positions.size
    assert dense.shape == (size, size)
    assert np.allclose(dense, built[1][:size, :size], rtol=0, atol=1e-13 * np.abs(dense).max())


def test_dense_is_symmetric_and_positive_semidefinite(built):
    _, dense = built
    assert np.abs(dense - dense.T).max() <= 1e-13 * np.abs(dense).max()
    eigenvalues = np.linalg.eigvalsh(dense)
    assert eigenvalues[0] >= -1e-10 * eigenvalues[-1]


def test_matvec_equals_the_dense_product(built):
    operator, dense = built
    vector = jnp.asarray(np.random.default_rng(0).normal(size=operator.size))
    found = np.asarray(operator.matvec(vector))
    assert found.shape == (operator.size,)
    assert np.abs(found - dense @ vector).max() <= 1e-11 * np.abs(dense @ vector).max()


def test_stored_pairs_give_the_same_product(case, built, monkeypatch):
    operator, dense = built
    monkeypatch.setattr(stored_pairs, "_QUERIES", 2 * case.kernel.order)  # several blocks
    vector = jnp.asarray(np.random.default_rng(3).normal(size=operator.size))
    needed = stored_pairs.stored_bytes(case.kernel, operator.count, energies=True)
    assert operator.prepared(needed - 1).stored is None
    prepared = operator.prepared(needed)
    assert prepared.prepared(needed) is prepared
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(prepared.stored)) == needed
    found = prepared.matvec(vector)
    assert np.abs(found - dense @ vector).max() <= 1e-11 * np.abs(dense @ vector).max()
    of_forces = dataclasses.replace(operator, energies=False).prepared(np.inf)
    size = of_forces.size
    expected = dense[:size, :size] @ vector[:size]
    found = of_forces.matvec(vector[:size])
    assert np.abs(found - expected).max() <= 1e-11 * np.abs(expected).max()


def test_blocks_of_the_diagonal_invert_like_columns(case, built):
    """With energies the last rows belong to no reference's block and come from columns."""
    matrix, dense = built
    diagonal = np.full(matrix.size, 0.1)
    found = preconditioners.block_jacobi()(matrix, diagonal).apply(jnp.ones(matrix.size))
    expected = np.zeros(matrix.size)
    for start in range(0, matrix.size, matrix.block):
        index = slice(start, start + matrix.block)
        block = dense[index, index]
        expected[index] = np.linalg.solve(block + 0.1 * np.eye(len(block)), np.ones(len(block)))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("name", ["hyper", "references"])
def test_stored_pairs_are_those_of_one_operator_only(case, built, name):
    """Others made from it must not use its values, nor lose what they were."""
    prepared = built[0].prepared(np.inf)
    moved = case.references.replace(positions=1.05 * case.references.positions)
    scaled = {key: 1.5 * value for key, value in case.hyper.items()}
    change = {"hyper": scaled, "references": moved}[name]
    other = dataclasses.replace(prepared, **{name: change})
    assert prepared.stored is not None
    assert other.stored is None
    with pytest.raises(ValueError, match="stored"):
        dataclasses.replace(prepared, stored=prepared.stored)


def test_products_that_run_elsewhere_store_nothing(case):
    lowered = of_forces(case).lowered()
    assert lowered.prepared(np.inf) is lowered


def test_matvec_of_force_labels(case, built):
    size = case.references.positions.size
    vector = jnp.asarray(np.random.default_rng(1).normal(size=size))
    expected = built[1][:size, :size] @ vector
    assert np.allclose(
        of_forces(case).matvec(vector), expected, rtol=0, atol=1e-11 * abs(expected).max()
    )


def test_diagonal_equals_that_of_the_dense_matrix(built):
    operator, dense = built
    diagonal = np.asarray(operator.diagonal())
    assert np.allclose(diagonal, np.diag(dense), rtol=0, atol=1e-12 * np.diag(dense).max())


def test_columns_equal_those_of_the_dense_matrix_in_any_order(built):
    operator, dense = built
    index = np.random.default_rng(2).permutation(operator.size)[:11]
    index = np.append(index, [index[0], operator.size - 1, 0])
    found = operator.columns(index)
    assert found.shape == (operator.size, len(index))
    assert np.allclose(found, dense[:, index], rtol=0, atol=1e-13 * np.abs(dense).max())


def test_one_column(built):
    operator, dense = built
    assert np.allclose(
        operator.columns(np.array([4])), dense[:, [4]], rtol=0, atol=1e-13 * dense.max()
    )


@pytest.fixture
def no_leftovers(monkeypatch):
    """Fresh arrays are full of NaN, so that entries that nobody wrote show."""

    def empty(shape, *args, **kwargs):
        return np.full(shape, np.nan, *args, **kwargs)

    monkeypatch.setattr(operator, "np", NumpyWith(empty=empty))


class NumpyWith:
    """numpy with some functions exchanged."""

    def __init__(self, **changes):
        self.__dict__.update(changes)

    def __getattr__(self, name):
        return getattr(np, name)


@pytest.mark.parametrize("energies", [False, True], ids=["forces", "energies and forces"])
def test_several_tiles_and_their_lower_half(energies, monkeypatch, no_leftovers):
    """Several tiles each way, the last of them padded."""
    case = dataclasses.replace(CASES["matern52"](), references=water(19))
    built = GdmlOperator(case.kernel, case.hyper, case.references, energies)
    expected = explicit_matrix(case, energies=energies)
    monkeypatch.setattr(operator, "_GROUP", 2)
    for name in ("_ROWS", "_COLUMNS"):
        monkeypatch.setattr(assembly, name, 2 * built.block)
    jax.clear_caches()
    atol = 1e-11 * np.abs(expected).max()
    assert np.allclose(built.dense(), expected, rtol=0, atol=atol)
    lower = built.dense(lower=True)
    assert np.allclose(np.tril(lower), np.tril(expected), rtol=0, atol=atol)
    index = np.array([17, 3, 144, built.size - 1])
    assert np.allclose(built.columns(index), expected[:, index], rtol=0, atol=atol)


def test_the_lower_half_of_a_larger_matrix(no_leftovers):
    """More references than one tile holds, at the real size of tiles."""
    kernel = CASES["matern52"]().kernel
    built = GdmlOperator(kernel, {"lengthscale": jnp.asarray(0.9)}, water(190), energies=True)
    dense, lower = built.dense(), built.dense(lower=True)
    assert np.array_equal(np.tril(lower), np.tril(dense))
    assert dense.flags.f_contiguous
    assert lower.flags.f_contiguous
    vector = jnp.asarray(np.random.default_rng(0).normal(size=built.size))
    product = dense @ vector
    assert np.abs(built.matvec(vector) - product).max() <= 1e-11 * np.abs(product).max()


@pytest.mark.parametrize("name", ["matern52", "rbf"])
def test_coincident_references_keep_it_semidefinite(name):
    case = CASES[name]()
    twice = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf[:2]]), case.references)
    dense = GdmlOperator(case.kernel, case.hyper, twice, energies=True).dense()
    assert np.all(np.isfinite(dense))
    eigenvalues = np.linalg.eigvalsh(dense)
    assert eigenvalues[0] >= -1e-10 * eigenvalues[-1]


def test_the_order_of_references_only_reorders_the_matrix(case, built):
    _, dense = built
    count, block = len(case.references.positions), case.references.positions[0].size
    order = np.random.default_rng(3).permutation(count)
    moved = jax.tree.map(lambda leaf: leaf[order], case.references)
    found = GdmlOperator(case.kernel, case.hyper, moved, energies=True).dense()
    rows = np.append((order[:, None] * block + np.arange(block)).ravel(), count * block + order)
    assert np.allclose(found, dense[np.ix_(rows, rows)], rtol=0, atol=1e-12 * dense.max())


def test_a_permuted_reference_only_permutes_its_rows():
    """The group acts: exchanging atoms of reference 1 exchanges its rows and columns."""
    case, p = CASES["rbf"](), THREE_HYDROGENS[3]
    dense = GdmlOperator(case.kernel, case.hyper, case.references).dense()
    positions = case.references.positions.at[1].set(case.references.positions[1][p])
    moved = case.references.replace(positions=positions)
    found = GdmlOperator(case.kernel, case.hyper, moved).dense()
    rows = np.arange(len(dense))
    rows[12:24] = 12 + (3 * p[:, None] + np.arange(3)).ravel()
    assert np.allclose(found, dense[np.ix_(rows, rows)], rtol=0, atol=1e-12 * dense.max())


def test_block_of_one_geometry_in_closed_form():
    """5/(3 l²) JᵀJ for Matérn 5/2 of a geometry with itself, and 1 for its energy."""
    references = System(AMMONIA[None], [7, 1, 1, 1])
    built = GdmlOperator(
        Kernel(inverse_distances, matern52), {"lengthscale": jnp.asarray(0.8)}, references, True
    )
    jacobian = jax.jit(
        jax.jacfwd(lambda r: inverse_distances(System(r.reshape(4, 3), [7, 1, 1, 1])))
    )
    j = np.asarray(jacobian(jnp.asarray(AMMONIA.ravel())))
    dense = built.dense()
    assert np.allclose(dense[:12, :12], 5 / (3 * 0.8**2) * j.T @ j, rtol=0, atol=1e-12)
    assert np.allclose(dense[12, :12], 0.0, atol=1e-12)
    assert np.isclose(dense[12, 12], 1.0)


def test_labels_join_and_split_in_the_order_of_the_rows():
    case: Case = CASES["no_symmetry"]()
    built = GdmlOperator(case.kernel, case.hyper, case.references, energies=True)
    labels = {"forces": np.arange(36.0).reshape(4, 3, 3), "energy": np.arange(4.0) - 9}
    joined = built.ravel(labels)
    assert joined.tolist() == [*range(36), -9, -8, -7, -6]
    parts = built.unravel(jnp.asarray(joined))
    assert np.array_equal(parts["forces"], labels["forces"])
    assert np.array_equal(parts["energy"], labels["energy"])
    assert set(of_forces(case).unravel(jnp.asarray(joined[:36]))) == {"forces"}
