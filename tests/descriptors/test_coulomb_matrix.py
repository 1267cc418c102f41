import jax.numpy as jnp
import numpy as np
import pytest
from descriptor_checks import (
    check_derivatives,
    check_finite,
    evaluate,
    golden_system,
    moved,
    reordered,
)
from models import molecule

from jaxff.descriptors import coulomb_eigenvalues, coulomb_matrix
from jaxff.system import System

WATER = System([[0.0, 0, 0], [2, 0, 0], [0, 4, 0]], [8, 1, 1])
SQUARE = np.array([[1.0, 1, 0], [-1, 1, 0], [-1, -1, 0], [1, -1, 0]])


def test_entries_by_hand():
    diagonal = 0.5 * 8**2.4
    expected = [diagonal, 4, 2, 0.5, 1 / np.sqrt(20), 0.5]
    np.testing.assert_allclose(coulomb_matrix(WATER), expected, rtol=1e-15)


def test_eigenvalues_are_those_of_the_matrix_by_falling_absolute_value():
    system = molecule(3)
    full = np.zeros((5, 5))
    full[np.triu_indices(5)] = evaluate(coulomb_matrix, system)
    values = np.linalg.eigvalsh(full + np.triu(full, 1).T)
    assert (values < 0).any()
    expected = values[np.argsort(-abs(values))]
    np.testing.assert_allclose(evaluate(coulomb_eigenvalues(), system), expected, rtol=1e-12)
    np.testing.assert_allclose(
        evaluate(coulomb_eigenvalues(7), system), np.append(expected, [0, 0]), rtol=1e-12
    )


@pytest.mark.parametrize("descriptor", [coulomb_matrix, coulomb_eigenvalues()])
def test_derivatives_and_symmetries(descriptor):
    system = molecule(1)
    found = evaluate(descriptor, system)
    check_derivatives(descriptor, system, atol=1e-6)
    np.testing.assert_allclose(evaluate(descriptor, moved(system)), found, rtol=1e-11)
    orders = np.array([[0, 1, 2, 3, 4], [0, 1, 4, 2, 3]])
    for order, index in zip(orders, descriptor.permute(orders), strict=True):
        np.testing.assert_allclose(
            evaluate(descriptor, reordered(system, order)), found[index], rtol=1e-12
        )


def test_equal_eigenvalues_leave_everything_finite():
    found = check_finite(coulomb_eigenvalues(), System(SQUARE, [1] * 4))
    assert np.isclose(found[2], found[3])  # the two of the square's irreducible pair
    assert coulomb_eigenvalues().smoothness == 0


def test_padding_adds_zeros():
    padded = System(jnp.vstack([WATER.positions, WATER.positions[:1]]), [8, 1, 1, 0])
    found = check_finite(coulomb_eigenvalues(), padded)
    np.testing.assert_allclose(found[:3], evaluate(coulomb_eigenvalues(), WATER), rtol=1e-12)
    assert np.count_nonzero(check_finite(coulomb_matrix, padded)) == 6


def test_wrong_sizes_are_refused():
    with pytest.raises(ValueError, match="at least the number of atoms, 3; got 2"):
        coulomb_eigenvalues(2)(WATER)
    with pytest.raises(ValueError, match="size must be positive"):
        coulomb_eigenvalues(0)


@pytest.mark.golden
def test_dscribe(reference_dir):
    with np.load(reference_dir / "descriptors_dscribe.npz", allow_pickle=False) as file:
        names = [n for n in file["names"] if f"{n}/coulomb_eigenspectrum" in file.files]
        assert len(names) == 4
        for name in names:
            found = evaluate(coulomb_eigenvalues(24), golden_system(file, name))
            expected = file[f"{name}/coulomb_eigenspectrum"]
            np.testing.assert_allclose(found, expected, atol=1e-12 * expected.max())
