import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxff import System, forces, hessian, units
from jaxff.vibrations import normal_modes, rigid_motions

BOND = 30.0  # eV/Å²


def wavenumber(force_constant, mass):
    """Of one oscillator, straight from SI constants."""
    newton_per_metre = force_constant * units.JOULE_PER_EV * 1e20
    omega = np.sqrt(newton_per_metre / (mass * units.AMU_KILOGRAM))
    return omega / (2 * np.pi * units.SPEED_OF_LIGHT * 100)


@functools.cache
def springs(*bonds):
    """Harmonic bonds (i, j, force constant, length)."""

    def energy(system, neighbors=None):
        r = system.positions
        return sum(
            0.5 * k * (jnp.sqrt(jnp.sum((r[i] - r[j]) ** 2)) - d) ** 2 for i, j, k, d in bonds
        )

    return energy


@functools.partial(jax.jit, static_argnums=0)
def derivatives(energy, system):
    return forces(energy)(system), hessian(energy)(system)


def modes_of(energy, positions, numbers, masses):
    pull, matrix = derivatives(energy, System(np.asarray(positions), numbers))
    np.testing.assert_allclose(pull, 0.0, atol=1e-12)
    return normal_modes(matrix, masses, positions)


@pytest.mark.parametrize("axis", [(0, 0, 1), (1, 2, 3)])
def test_diatomic(axis):
    axis = np.array(axis) / np.linalg.norm(axis)
    masses = np.array([12.0, 15.995])
    positions = np.array([0.3 * axis, 1.5 * axis]) + 0.7
    modes = modes_of(springs((0, 1, BOND, 1.2)), positions, [6, 8], masses)
    reduced = masses.prod() / masses.sum()
    np.testing.assert_allclose(modes.frequencies, [wavenumber(BOND, reduced)], rtol=1e-9)
    # both atoms move along the bond with opposite momenta
    momenta = masses[:, None] * modes.displacements[0]
    np.testing.assert_allclose(momenta.sum(axis=0), 0.0, atol=1e-9)
    np.testing.assert_allclose(np.abs(modes.displacements[0] @ axis).round(6) > 0, True)
    np.testing.assert_allclose(np.cross(modes.displacements[0], axis), 0.0, atol=1e-9)


def test_linear_triatomic_has_four_modes():
    """Stretches of ABA: k/m_A and k/m_A (1 + 2 m_A/m_B); no bending force, so two zeros."""
    m_a, m_b = 15.995, 12.0
    positions = np.array([[-1.16, 0, 0], [0, 0, 0], [1.16, 0, 0]])
    energy = springs((0, 1, BOND, 1.16), (1, 2, BOND, 1.16))
    modes = modes_of(energy, positions, [8, 6, 8], np.array([m_a, m_b, m_a]))
    symmetric = wavenumber(BOND, m_a)
    antisymmetric = wavenumber(BOND, m_a / (1 + 2 * m_a / m_b))
    assert len(modes) == 4
    np.testing.assert_allclose(modes.frequencies[2:], [symmetric, antisymmetric], rtol=1e-9)
    np.testing.assert_allclose(modes.frequencies[:2], 0.0, atol=1e-3)


def test_equilateral_triangle():
    """X3 with equal springs: breathing at 3k/m, the degenerate pair at 3k/2m."""
    corners = np.array([[0, 0, 0], [1, 0, 0], [0.5, np.sqrt(0.75), 0]])
    energy = springs((0, 1, BOND, 1.0), (1, 2, BOND, 1.0), (0, 2, BOND, 1.0))
    modes = modes_of(energy, corners, [1, 1, 1], np.full(3, 2.0))
    pair, breathing = wavenumber(BOND, 2.0 / 1.5), wavenumber(BOND, 2.0 / 3.0)
    np.testing.assert_allclose(modes.frequencies, [pair, pair, breathing], rtol=1e-9)
    # breathing: every atom moves as far, away from the centre
    outward = corners - corners.mean(axis=0)
    cosine = np.sum(modes.displacements[2] * outward) / np.linalg.norm(outward)
    assert abs(cosine) == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose(modes.reduced_masses, 2.0, rtol=1e-9)
    quanta = 0.5 * units.WAVENUMBER * (2 * pair + breathing)
    assert modes.zero_point_energy == pytest.approx(quanta)


def test_imaginary_frequency_is_negative():
    """A pair on top of a barrier of curvature -k."""

    def energy(system, neighbors=None):
        d = jnp.sqrt(jnp.sum((system.positions[0] - system.positions[1]) ** 2))
        return -0.5 * BOND * (d - 1.0) ** 2

    masses = np.array([1.0, 3.0])
    modes = modes_of(energy, np.array([[0.0, 0, 0], [0, 1.0, 0]]), [1, 1], masses)
    np.testing.assert_allclose(modes.frequencies, [-wavenumber(BOND, 0.75)], rtol=1e-9)
    assert modes.zero_point_energy == 0.0


def test_translations_only_without_positions():
    """Einstein-like chain with periodic neighbours: 3N - 3 modes."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(12, 12))
    modes = normal_modes(root @ root.T, np.full(4, 5.0))
    assert len(modes) == 9
    assert np.all(np.diff(modes.frequencies) >= 0)


def test_projection_removes_what_is_left_of_rotation():
    """Off a minimum rotations are no null vectors of the Hessian, and are still left out."""
    positions = np.array([[0, 0, 0], [1.1, 0, 0], [0.4, 1.0, 0.0], [0.3, 0.2, 1.2]])
    pairs = [(i, j, BOND, 1.0) for i in range(4) for j in range(i)]
    system = System(positions, [1, 1, 1, 1])
    matrix = np.asarray(derivatives(springs(*pairs), system)[1]).reshape(12, 12)
    masses = np.array([1.0, 2.0, 3.0, 4.0])
    modes = normal_modes(matrix, masses, positions)
    weighted = modes.displacements * np.sqrt(masses)[:, None]
    overlap = weighted.reshape(len(modes), -1) @ rigid_motions(masses, positions).T
    assert len(modes) == 6
    np.testing.assert_allclose(overlap, 0.0, atol=1e-9)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), atoms=st.integers(1, 6))
def test_motions_of_the_whole_are_orthonormal(seed, atoms):
    rng = np.random.default_rng(seed)
    positions, masses = rng.normal(size=(atoms, 3)), rng.uniform(1, 20, atoms)
    motions = rigid_motions(masses, positions)
    assert len(motions) == {1: 3, 2: 5}.get(atoms, 6)
    np.testing.assert_allclose(motions @ motions.T, np.eye(len(motions)), atol=1e-9)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_rotating_the_molecule_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    positions, masses = rng.normal(size=(4, 3)), rng.uniform(1, 20, 4)
    root = rng.normal(size=(12, 12))
    matrix = root @ root.T
    turn = np.kron(np.eye(4), rotation)
    before = normal_modes(matrix, masses, positions).frequencies
    after = normal_modes(turn @ matrix @ turn.T, masses, positions @ rotation.T).frequencies
    np.testing.assert_allclose(after, before, rtol=1e-6, atol=1e-3)


def test_single_atom_has_no_vibration():
    modes = normal_modes(np.zeros((1, 3, 1, 3)), [4.0], np.zeros((1, 3)))
    assert len(modes) == 0
    assert modes.zero_point_energy == 0.0


def test_known_molecule():
    """Infrared fundamental of HCl, 2990.95 cm⁻¹ harmonic, from its force constant 516.3 N/m."""
    constant = 516.3 / (units.JOULE_PER_EV * 1e20)
    block = constant * np.array([[1, -1], [-1, 1]])
    matrix = np.kron(block, np.diag([0, 0, 1.0]))
    positions = np.array([[0, 0, 0], [0, 0, 1.2746]])
    modes = normal_modes(matrix, [1.00783, 34.96885], positions)
    assert modes.frequencies[0] == pytest.approx(2990.95, abs=1.0)


def test_refuses_what_cannot_be():
    with pytest.raises(ValueError, match=r"shape \(2, 3, 2, 3\)"):
        normal_modes(np.zeros((3, 3)), [1.0, 1.0])
    with pytest.raises(ValueError, match="masses must be positive"):
        normal_modes(np.zeros((6, 6)), [1.0, 0.0])
    with pytest.raises(ValueError, match="symmetric"):
        normal_modes(np.triu(np.ones((6, 6)), 1), [1.0, 1.0])
    with pytest.raises(ValueError, match="finite"):
        normal_modes(np.full((6, 6), np.nan), [1.0, 1.0])
    with pytest.raises(ValueError, match="positions"):
        normal_modes(np.zeros((6, 6)), [1.0, 1.0], np.zeros((3, 3)))


@functools.cache
def bent_carbon_dioxide(constant=3.0):
    """Stretches and a linear bend of O=C=O, by the angle."""

    def energy(system, neighbors=None):
        carbon, one, two = system.positions
        a, b = one - carbon, two - carbon
        lengths = jnp.stack([jnp.linalg.norm(a), jnp.linalg.norm(b)])
        # 1 + cos of the angle is half the square of the bend
        bend = 1.0 + jnp.dot(a, b) / jnp.prod(lengths)
        return 0.5 * 100.0 * jnp.sum((lengths - 1.16) ** 2) + constant * bend

    return energy


def test_carbon_dioxide_bends_in_two_planes():
    axis = np.array([1.0, 2.0, -0.5]) / np.linalg.norm([1.0, 2.0, -0.5])
    positions = 1.16 * np.outer([0, 1, -1], axis)
    masses = units.masses([6, 8, 8])
    modes = modes_of(bent_carbon_dioxide(), positions, [6, 8, 8], masses)
    assert (len(modes), modes.rotations) == (4, 2)
    bend, other, symmetric, antisymmetric = modes.frequencies
    # bend: k/l² (1/m_O + 1/m_O + 4/m_C) for each plane
    inverse = (2 / masses[1] + 4 / masses[0]) / 1.16**2
    np.testing.assert_allclose([bend, other], wavenumber(3.0, 1 / inverse), rtol=1e-6)
    assert symmetric == pytest.approx(wavenumber(100.0, masses[1]), rel=1e-6)
    np.testing.assert_allclose(modes.rigid_frequencies, 0.0, atol=0.1)
    assert not modes.imaginary.any()
    # nearly linear by rounding: the same, as long as it is said or small
    crooked = positions + 1e-5 * np.random.default_rng(0).normal(size=(3, 3))
    _, matrix = derivatives(bent_carbon_dioxide(), System(crooked, [6, 8, 8]))
    again = normal_modes(matrix, masses, crooked)
    np.testing.assert_allclose(again.frequencies, modes.frequencies, rtol=1e-3)
    assert len(normal_modes(matrix, masses, crooked, linear=False)) == 3
    assert antisymmetric > symmetric


def test_isotopes_by_masses():
    positions = 1.16 * np.outer([0, 1, -1], [0, 0, 1.0])
    _, matrix = derivatives(bent_carbon_dioxide(), System(positions, [6, 8, 8]))
    light, heavy = (normal_modes(matrix, [m, 15.995, 15.995], positions) for m in (12.0, 13.00335))
    ratio = heavy.frequencies / light.frequencies
    assert ratio[2] == pytest.approx(1.0, abs=1e-9)  # carbon rests in the symmetric stretch
    factor = (2 / 15.995 + 4 / 13.00335) / (2 / 15.995 + 4 / 12.0)
    np.testing.assert_allclose(ratio[:2], np.sqrt(factor), rtol=1e-7)


def test_says_what_is_no_minimum():
    positions = 1.16 * np.outer([0, 1, -1], [0, 0, 1.0])
    energy = bent_carbon_dioxide(-3.0)
    _, matrix = derivatives(energy, System(positions, [6, 8, 8]))
    modes = normal_modes(matrix, units.masses([6, 8, 8]), positions)
    np.testing.assert_array_equal(modes.imaginary, [True, True, False, False])
    stretched = System(1.05 * positions, [6, 8, 8])
    pull, matrix = derivatives(energy, stretched)
    with pytest.warns(UserWarning, match=r"largest force is 5\.8 eV/Å"):
        normal_modes(matrix, units.masses([6, 8, 8]), stretched.positions, forces=pull)
    constants = modes.force_constants
    np.testing.assert_allclose(
        [wavenumber(k, m) for k, m in zip(constants[2:], modes.reduced_masses[2:], strict=True)],
        modes.frequencies[2:],
        rtol=1e-9,
    )
