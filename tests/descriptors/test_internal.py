import jax
import jax.numpy as jnp
import numpy as np
import pytest
from descriptor_checks import check_derivatives, check_finite, evaluate, moved

from jaxff.descriptors import internal, internal_from_geometry
from jaxff.system import System

CHAIN = internal([(0, 1), (1, 2), (2, 3)], [(0, 1, 2), (1, 2, 3)], [(0, 1, 2, 3)])


def chain(turn: float, bend: float = 1.9) -> System:
    """Four atoms, bonds of 1, 1.5 and 1.2 Å, both angles ``bend``, turned about the middle bond."""
    cos, sin = np.cos(bend), np.sin(bend)
    first = np.array([cos, sin, 0.0])
    last = np.array([1.5 - 1.2 * cos, 1.2 * sin * np.cos(turn), 1.2 * sin * np.sin(turn)])
    return System(np.array([first, [0, 0, 0], [1.5, 0, 0], last]), [1, 8, 8, 1])


def ethanol_like() -> System:
    """Methanol: one OH, three CH bonds."""
    h = np.array([[1.03, 0.0, -0.36], [-0.5, 0.9, -0.36], [-0.5, -0.9, -0.36]])
    positions = np.vstack([[[0.0, 0, 0], [0, 0, 1.42]], h, [[0.9, 0.0, 1.75]]])
    return System(positions, [6, 8, 1, 1, 1, 1])


@pytest.mark.parametrize("turn", [0.7, np.pi, -2.5])
def test_values_by_construction(turn):
    bare = internal(CHAIN.bonds, CHAIN.angles, CHAIN.dihedrals, weighted=False)
    expected = [1, 1.5, 1.2, np.cos(1.9), np.cos(1.9)]
    dihedral = np.array([np.cos(turn), np.sin(turn)])
    np.testing.assert_allclose(evaluate(bare, chain(turn)), [*expected, *dihedral], atol=1e-14)
    weighted = np.sin(1.9) ** 2 * dihedral
    np.testing.assert_allclose(evaluate(CHAIN, chain(turn)), [*expected, *weighted], atol=1e-14)


def test_the_sign_of_a_dihedral_is_that_of_ase():
    ase = pytest.importorskip("ase")
    system = chain(1.1)
    degrees = ase.Atoms("HOOH", np.asarray(system.positions)).get_dihedral(0, 1, 2, 3)
    cosine, sine = evaluate(CHAIN, system)[-2:]
    np.testing.assert_allclose(np.degrees(np.arctan2(sine, cosine)) % 360, degrees)


@pytest.mark.parametrize("weighted", [True, False])
def test_derivatives_and_symmetries(weighted):
    system = ethanol_like()
    descriptor = internal_from_geometry(system, weighted=weighted)
    found = evaluate(descriptor, system)
    check_derivatives(descriptor, system)
    rotated = moved(system, seed=1)  # a proper rotation
    np.testing.assert_allclose(evaluate(descriptor, rotated), found, atol=1e-12)
    orders = np.array([[0, 1, 2, 3, 4, 5], [0, 1, 4, 2, 3, 5]])
    for order, index in zip(orders, descriptor.permute(orders), strict=True):
        permuted = system.replace(positions=system.positions[order])
        np.testing.assert_allclose(evaluate(descriptor, permuted), found[index], atol=1e-13)


def test_a_mirror_changes_the_sign_of_sines_alone():
    found, mirrored = evaluate(CHAIN, chain(0.7)), evaluate(CHAIN, chain(-0.7))
    np.testing.assert_allclose(mirrored[:-1], found[:-1], atol=1e-14)
    np.testing.assert_allclose(mirrored[-1], -found[-1], atol=1e-14)


@pytest.mark.parametrize("bend", [np.pi, 0.0])
def test_straight_and_closed_angles_are_smooth(bend):
    """Second derivatives are the same from both sides of the straight angle."""
    check_finite(CHAIN, chain(0.4, bend))
    check_derivatives(CHAIN, chain(0.4, bend))


def test_atoms_in_one_place_are_finite():
    together = chain(0.7).replace(positions=jnp.zeros((4, 3)))
    assert np.array_equal(check_finite(CHAIN, together), np.zeros(7))


def test_connectivity_of_a_molecule():
    found = internal_from_geometry(ethanol_like())
    assert found.bonds == ((0, 1), (0, 2), (0, 3), (0, 4), (1, 5))
    assert len(found.angles) == 7
    assert set(found.dihedrals) == {(2, 0, 1, 5), (3, 0, 1, 5), (4, 0, 1, 5)}


def test_the_coordinates_determine_the_motion():
    """All motions but the six rigid ones change some coordinate."""
    system = ethanol_like()
    descriptor = internal_from_geometry(system)
    jacobian = jax.jit(jax.jacfwd(lambda r: descriptor(system.replace(positions=r))))
    singular = np.linalg.svd(jacobian(system.positions).reshape(-1, 18), compute_uv=False)
    assert np.all(singular[:12] > 1e-2)
    assert np.all(singular[12:] < 1e-12)


def test_straight_angles_carry_no_dihedral():
    positions = np.array([[0.0, 0, 1.06], [0, 0, 0], [0, 0, -1.2], [0.02, 0, -2.26]])
    acetylene = System(positions, [1, 6, 6, 1])
    assert internal_from_geometry(acetylene).dihedrals == ()
    assert internal_from_geometry(acetylene, straight=180.0).dihedrals == ((0, 1, 2, 3),)


def test_bonds_reach_over_the_border_of_a_cell():
    inside = System([[0.1, 0, 0], [1.1, 0, 0]], [8, 1], np.eye(3) * 6)
    across = System([[0.1, 0, 0], [7.1, 0, 0]], [8, 1], np.eye(3) * 6)
    assert internal_from_geometry(across) == internal_from_geometry(inside)
    np.testing.assert_allclose(internal_from_geometry(across)(across), [1.0])


def test_useless_input_is_refused():
    apart = System([[0.0, 0, 0], [5, 0, 0]], [1, 1])
    with pytest.raises(ValueError, match="none leads from atom 0 to atom 1"):
        internal_from_geometry(apart)
    with pytest.raises(ValueError, match="at least one bond"):
        internal()
    with pytest.raises(ValueError, match=r"angles must be 3 different atoms each, got \(0, 1, 0\)"):
        internal(angles=[(0, 1, 0)])
    with pytest.raises(ValueError, match="listed once each"):
        internal([(0, 1), (1, 0)])
    with pytest.raises(ValueError, match="at least 4 atoms"):
        CHAIN(apart)
    with pytest.raises(ValueError, match=r"\(0, 1\) to \(3, 1\), which is not listed"):
        CHAIN.permute(np.array([[3, 1, 2, 0]]))
