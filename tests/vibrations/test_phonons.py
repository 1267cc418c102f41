"""Phonons against sums over the lattice and against phonopy's finite displacements."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from crystals import fcc, graphene, supercell
from kernel_models import Case, random_params

from jaxff import System, bind, gdml, neighbor_list, physics, units
from jaxff.derivatives import forces
from jaxff.descriptors import nearest_images, smooth_images
from jaxff.kernels import Kernel, crystal_group, matern52
from jaxff.vibrations import phonons

EPSILON, SIGMA, CUTOFF, CONSTANT = 0.0104, 3.4, 7.0, 5.25
MASS = units.masses(np.array([18]))[0]
PRIMITIVE = 0.5 * CONSTANT * np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])
ELSEWHERE = np.array([[0.11, 0.23, -0.31], [0.4, 0.1, 0.05]])
TO_THZ = 1e3 / (2 * np.pi * units.TIME)


def argon():
    system = fcc(2, CONSTANT)
    return system.replace(numbers=jnp.full_like(system.numbers, 18))


def lennard_jones(cutoff):
    potential = physics.lennard_jones("Ar", cutoff, truncation="force_shifted")
    return bind(potential, potential.init(epsilon=EPSILON, sigma=SIGMA))


def lattice_sum(points, cutoff):
    """Dynamical matrices of the infinite crystal, pair by pair."""
    steps = (np.indices((9, 9, 9)).reshape(3, -1).T - 4) @ PRIMITIVE
    length = np.linalg.norm(steps, axis=1)
    near = (length > 0.1) & (length < cutoff)
    steps, length = steps[near], length[near]

    def slopes(r):
        ratio = (SIGMA / r) ** 6
        return (
            4 * EPSILON * (-12 * ratio**2 + 6 * ratio) / r,
            4 * EPSILON * (156 * ratio**2 - 42 * ratio) / r**2,
        )

    first, second = slopes(length)
    first = first - slopes(cutoff)[0]  # the force is zero at the cutoff
    n = steps / length[:, None]
    along = n[:, :, None] * n[:, None]
    blocks = second[:, None, None] * along
    blocks = blocks + (first / length)[:, None, None] * (np.eye(3) - along)
    phase = 1.0 - np.cos(2 * np.pi * np.asarray(points) @ (steps @ np.linalg.inv(PRIMITIVE)).T)
    return np.einsum("qn,nab->qab", phase, blocks) / MASS


def thz(matrices):
    values = np.linalg.eigvalsh(matrices)
    return TO_THZ * np.sign(values) * np.sqrt(np.abs(values))


@pytest.fixture(scope="module")
def found():
    return phonons(lennard_jones(CUTOFF), argon())


def test_commensurate_points_are_those_of_the_infinite_crystal(found):
    """Though the cutoff is longer than half of the supercell."""
    points = found.commensurate_points @ np.linalg.inv(found.crystal.cell.T) @ PRIMITIVE.T
    assert len(points) == 32
    assert found.crystal.is_commensurate(found.commensurate_points).all()
    own = found.frequencies(found.commensurate_points)
    np.testing.assert_allclose(own, thz(lattice_sum(points, CUTOFF)), atol=1e-6)
    gamma = np.argmin(np.abs(points).sum(axis=1))
    np.testing.assert_allclose(own[gamma], 0.0, atol=1e-5)
    assert own.max() > 1.5
    assert max(found.sum_rule, found.asymmetry, found.largest_force) < 1e-12


def test_elsewhere_phonons_are_interpolated(found):
    """Right within the reach of the potential, else not quite, and said so."""
    explicit = phonons(lennard_jones(CUTOFF), argon(), PRIMITIVE)
    modes = explicit.modes(np.concatenate([ELSEWHERE, [[0.5, 0.5, 0.0]]]))
    np.testing.assert_array_equal(modes.exact, [False, False, True])
    expected = thz(lattice_sum(modes.points, CUTOFF))
    assert 1e-4 < np.abs(modes.frequencies - expected).max() < 0.05
    short = phonons(lennard_jones(5.0), argon(), PRIMITIVE)
    np.testing.assert_allclose(
        short.frequencies(ELSEWHERE), thz(lattice_sum(ELSEWHERE, 5.0)), atol=1e-6
    )
    # Another basis of the same lattice, and another equal cell.
    basis = found.crystal.cell
    turned = ELSEWHERE @ np.linalg.inv(PRIMITIVE.T) @ basis.T
    np.testing.assert_allclose(found.frequencies(turned), modes.frequencies[:2], atol=1e-6)


def test_phonopy_finds_the_same(found):
    phonopy = pytest.importorskip("phonopy")
    from phonopy.structure.atoms import PhonopyAtoms

    system = argon()
    cell = PhonopyAtoms(numbers=[18], cell=PRIMITIVE, scaled_positions=[[0.0, 0, 0]], masses=[MASS])
    repeats = np.round(np.asarray(system.cell) @ np.linalg.inv(PRIMITIVE)).astype(int)
    # Its matrix holds the vectors as columns.
    other = phonopy.Phonopy(cell, repeats.T, primitive_matrix=np.eye(3), log_level=0)
    other.generate_displacements(distance=0.005)
    energy_fn = lennard_jones(CUTOFF)
    pull = jax.jit(forces(energy_fn))
    lists = neighbor_list(energy_fn.cutoffs)
    moved = [
        System(c.positions, c.numbers, np.asarray(c.cell))
        for c in other.supercells_with_displacements
    ]
    other.forces = [np.asarray(pull(s, lists.allocate(s))) for s in moved]
    other.produce_force_constants()
    points = np.concatenate([found.commensurate_points, ELSEWHERE])
    turned = points @ np.linalg.inv(found.crystal.cell.T) @ PRIMITIVE.T
    other.run_qpoints(turned)
    ours = found.frequencies(points)
    np.testing.assert_allclose(ours, np.sort(other.qpoints.frequencies, axis=1), atol=0.01)


NEAR, FAR = 20.0, 4.0  # eV/Å²


def sheet_springs(first, second):
    """Springs of a sheet, of their natural length, between atoms as the cell is given."""
    ideal = graphene(first, second)
    cell, pbc = np.asarray(ideal.cell), np.array([1, 1, 0])
    place = np.asarray(ideal.positions)
    shifts = (np.indices((3, 3, 1)).reshape(3, -1).T - [1, 1, 0]) @ (cell * pbc[:, None])
    step = place[None, :, None] + shifts - place[:, None, None]
    length = np.linalg.norm(step, axis=-1)
    centers, others, which = np.nonzero((length > 0.1) & (length < 2.6))
    rest, shift = length[centers, others, which], shifts[which]
    stiffness = np.where(rest < 1.6, NEAR, FAR)

    def energy(system, neighbors=None):
        r = system.positions
        reach = jnp.linalg.norm(r[others] + shift - r[centers], axis=-1)
        return 0.25 * jnp.sum(stiffness * (reach - rest) ** 2)  # each spring is listed twice

    return ideal, energy


def test_two_atoms_in_a_flat_hexagonal_cell():
    """In-plane modes of honeycomb springs; the images of second neighbours tie in 2 × 2 cells."""
    small, large = (sheet_springs(n, n) for n in (2, 4))
    few, many = (phonons(energy, ideal, graphene(1, 1).cell) for ideal, energy in (small, large))
    modes = few.modes(few.commensurate_points)
    assert modes.frequencies.shape == (4, 6)
    np.testing.assert_allclose(
        modes.frequencies, many.frequencies(few.commensurate_points), atol=1e-5
    )
    # Three springs at 120° on each atom: the optical pair at Γ has 2 · (3/2) k / m.
    gamma = np.flatnonzero(np.abs(modes.points).sum(axis=1) < 1e-9)[0]
    optical = TO_THZ * np.sqrt(2 * 1.5 * NEAR / units.masses(np.array([6]))[0])
    np.testing.assert_allclose(modes.frequencies[gamma, 4:], optical, rtol=1e-9)
    np.testing.assert_allclose(modes.frequencies[gamma, :4], 0.0, atol=1e-5)
    # Each mode is one: orthonormal, and an eigenvector at its own wave vector.
    vectors = modes.eigenvectors.reshape(4, 6, 6)
    overlap = vectors @ vectors.conj().swapaxes(1, 2)
    np.testing.assert_allclose(overlap, np.tile(np.eye(6), (4, 1, 1)), atol=1e-12)
    assert np.abs(many.frequencies(ELSEWHERE[:, [0, 1, 1]] * [1, 1, 0])).max() > 20.0


def test_waves_are_those_of_the_supercell():
    """The Hessian of the supercell has the frequencies of all its commensurate waves."""
    ideal, energy = sheet_springs(2, 3)
    found = phonons(energy, ideal)
    matrix = np.asarray(jax.jit(jax.hessian(lambda r: energy(ideal.replace(positions=r))))(
        ideal.positions)).reshape(36, 36)  # fmt: skip
    expected = thz(matrix / units.masses(np.array([6]))[0])
    np.testing.assert_allclose(
        np.sort(found.frequencies(found.commensurate_points).ravel()), expected, atol=1e-5
    )


def test_what_translations_do_not_keep_is_averaged():
    """Atoms on springs of their own: the mean counts."""
    system = supercell(np.eye(3) * 3.0, [(0.0, 0.0, 0.0)], 6, (3, 1, 1))
    stiffness = jnp.asarray([1.0, 2.0, 6.0])[:, None]

    def energy(moved, neighbors=None):
        return 0.5 * jnp.sum(stiffness * (moved.positions - system.positions) ** 2)

    found = phonons(energy, system, 3.0 * np.eye(3), average=True)
    expected = TO_THZ * np.sqrt(3.0 / units.masses(np.array([6]))[0])
    np.testing.assert_allclose(found.frequencies(found.commensurate_points), expected)
    assert found.sum_rule == pytest.approx(3.0)

    def uneven(moved, neighbors=None):
        step = moved.positions - system.positions
        return energy(moved) + jnp.sum(step[0] * step[1]) + 0.1 * jnp.sum(step[0])

    with (
        pytest.warns(UserWarning, match="take average=True"),
        pytest.warns(UserWarning, match=r"no stationary point: the largest force is 0\.173"),
    ):
        phonons(uneven, system, 3.0 * np.eye(3))


def test_a_symmetric_kernel_has_the_phonons_of_its_supercell():
    """Ideal sheets, where many pairs tie; the group makes forces vanish."""
    ideal = graphene(2, 2)
    noise = 0.1 * np.random.default_rng(0).normal(size=(2, 8, 3))
    systems = System(
        np.asarray(ideal.positions) + noise, ideal.numbers, *(np.stack([x, x]) for x in
        (ideal.cell, ideal.pbc)),
    )  # fmt: skip
    group = crystal_group(ideal)
    kernel = Kernel(smooth_images(systems), matern52, group.permutations, group.translations)
    found = phonons(bind(*random_params(Case(kernel, 3.0, systems))), ideal)
    largest = np.abs(found.force_constants).max()
    assert max(found.largest_force, found.asymmetry, found.sum_rule) < 1e-9 * largest
    modes = found.modes(found.commensurate_points)
    gamma = np.flatnonzero(np.abs(modes.points).sum(axis=1) < 1e-9)[0]
    still = np.sort(np.abs(modes.frequencies[gamma]))[:3]
    np.testing.assert_allclose(still, 0.0, atol=1e-4 * np.abs(modes.frequencies).max())


def test_sharp_descriptors_are_warned_of():
    chain = supercell(np.diag([3.0, 9.0, 9.0]), [(0.0, 0.0, 0.0)], 6, (2, 1, 1))
    systems = jax.tree.map(lambda x: jnp.stack([x, x]), chain)
    moved = systems.positions.at[:, 0, 0].add(jnp.asarray([0.1, 0.3]))
    potential = gdml.potential(Kernel(nearest_images, matern52))
    references = systems.replace(positions=moved)
    energy_fn = bind(
        potential, potential.init(jax.random.key(0), references, hyper={"lengthscale": 3.0})
    )
    # Warnings are errors here: the derivatives need not be compiled.
    with pytest.raises(UserWarning, match="100 % of the pairs of geometry 0 have two nearest"):
        phonons(energy_fn, chain, np.diag([3.0, 9.0, 9.0]))


def test_refuses():
    system, energy = sheet_springs(2, 2)
    for primitive, message in (
        (0.7 * np.asarray(graphene(1, 1).cell), "no whole multiple"),
        (0.5 * np.asarray(graphene(1, 1).cell), "of 8 kinds|not make equal"),
        (np.ones((2, 3)), "three lattice vectors as rows"),
    ):
        with pytest.raises(ValueError, match=message):
            phonons(energy, system, primitive)
    cell = graphene(1, 1).cell
    with pytest.raises(ValueError, match="the system has no cell"):
        phonons(energy, System(system.positions, system.numbers), cell)
    with pytest.raises(ValueError, match="8 positive numbers in amu"):
        phonons(energy, system, cell, masses=[12.0, 12.0])
    with pytest.raises(ValueError, match="must be equal"):
        phonons(energy, system, cell, masses=[12.0] * 7 + [13.0])
    shifted = system.replace(positions=system.positions.at[0, 0].add(0.1))
    with pytest.raises(ValueError, match="not make equal to"):
        phonons(energy, shifted, cell)
    with pytest.raises(ValueError, match="not finite"):
        phonons(lambda s, n=None: jnp.sum(jnp.sqrt(s.positions[:, 2] ** 2)) * jnp.nan, system, cell)
