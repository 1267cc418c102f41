import jax
import numpy as np
import pytest
from models import crystal, run

from jaxff import physics
from jaxff.derivatives import energy_and_forces, stress
from jaxff.neighbors import neighbor_list
from jaxff.potential import bind
from jaxff.system import System

EPSILON, SIGMA = 0.0104, 3.405


def argon(truncation="cut", cutoff=6.0):
    potential = physics.lennard_jones("Ar", cutoff, truncation=truncation)
    return bind(potential, potential.init(epsilon=EPSILON, sigma=SIGMA))


def fcc(a=5.3, cells=2, seed=0):
    base = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    grid = np.stack(np.meshgrid(*[np.arange(cells)] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
    points = (grid + base).reshape(-1, 3) * a
    points = points + np.random.default_rng(seed).normal(size=points.shape) * 0.1
    return System(points, [18] * len(points), np.eye(3) * a * cells)


@pytest.mark.parametrize("smooth", [False, True])
def test_ase(smooth):
    """ASE shifts the energy; its ``smooth`` is another switching function, tested where it is 1."""
    ase = pytest.importorskip("ase")
    from ase.calculators.lj import LennardJones

    system = fcc()
    atoms = ase.Atoms("Ar32", np.asarray(system.positions), cell=np.asarray(system.cell), pbc=True)
    if smooth:
        atoms = ase.Atoms("Ar3", [[0, 0, 0], [3.6, 0, 0], [0, 3.9, 0]], cell=np.eye(3) * 30)
        system = System(atoms.positions, [18] * 3, np.asarray(atoms.cell))
    energy_fn = argon("cut" if smooth else "shifted")
    atoms.calc = LennardJones(sigma=SIGMA, epsilon=EPSILON, rc=6.0, ro=5.9, smooth=smooth)
    neighbors = neighbor_list(energy_fn.cutoffs).allocate(system)
    energy, force = run(energy_and_forces(energy_fn), system, neighbors)
    np.testing.assert_allclose(energy, atoms.get_potential_energy(), rtol=1e-12)
    np.testing.assert_allclose(force, atoms.get_forces(), atol=1e-12)
    np.testing.assert_allclose(
        run(stress(energy_fn), system, neighbors), atoms.get_stress(voigt=False), atol=1e-14
    )


def test_lattice_sum_of_fcc():
    """With the tail, the energy of fcc at the nearest-neighbour distance of its minimum.

    Lattice sums 12.13188 and 14.45392 (Kittel, Introduction to Solid State Physics, 8th ed. (2005),
    chapter 3) give the distance 1.0902 σ and the energy -8.610 ε per atom.
    """
    distance = (2 * 12.13188 / 14.45392) ** (1 / 6)
    expected = 2 * (12.13188 / distance**12 - 14.45392 / distance**6)
    a = SIGMA * distance * np.sqrt(2)
    primitive = a / 2 * np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])
    system = System(np.zeros((1, 3)), [18], primitive)
    energy_fn = argon(cutoff=60.0)  # what shells add beyond it falls with its third power
    neighbors = neighbor_list(energy_fn.cutoffs).allocate(system)
    energy = run(energy_fn, system, neighbors) + physics.tail_correction(energy_fn, system).energy
    np.testing.assert_allclose(energy / EPSILON, expected, rtol=2e-5)


def test_tail_correction_is_the_integral():
    from scipy.integrate import quad

    system, energy_fn = fcc(), argon()
    found = physics.tail_correction(energy_fn, system)
    size, count = 10.6**3, 32

    def pair(r):
        return 4 * EPSILON * ((SIGMA / r) ** 12 - (SIGMA / r) ** 6)

    def slope(r):
        return 4 * EPSILON * (6 * (SIGMA / r) ** 6 - 12 * (SIGMA / r) ** 12) / r

    energy = 2 * np.pi * count**2 / size * quad(lambda r: r**2 * pair(r), 6, np.inf)[0]
    pressure = -2 / 3 * np.pi * (count / size) ** 2 * quad(lambda r: r**3 * slope(r), 6, np.inf)[0]
    np.testing.assert_allclose(found.energy, energy, rtol=1e-8)
    np.testing.assert_allclose(found.pressure, pressure, rtol=1e-8)


def test_tail_correction_of_a_mixture_of_equals():
    system = fcc()
    numbers = np.where(np.arange(32) % 3, 18, 10)
    potential = physics.lennard_jones(["Ne", "Ar"], 6.0, truncation="cut")
    both = bind(potential, potential.init(epsilon=[EPSILON] * 2, sigma=[SIGMA] * 2))
    mixture = System(system.positions, numbers, system.cell)
    for value, expected in zip(
        physics.tail_correction(both, mixture),
        physics.tail_correction(argon(), system),
        strict=True,
    ):
        np.testing.assert_allclose(value, expected, rtol=1e-12)


def test_tail_correction_refuses():
    with pytest.raises(ValueError, match="are for lennard_jones"):
        physics.tail_correction(argon("shifted"), fcc())
    with pytest.raises(ValueError, match="are for lennard_jones"):
        physics.tail_correction(bind(physics.zbl(2.0), {}), fcc())
    with pytest.raises(ValueError, match="single system with a cell"):
        physics.tail_correction(argon(), fcc().replace(cell=None))


def test_mixing_rules():
    potential = physics.lennard_jones(["H", "C", "O"], 3.5)
    epsilon, sigma = np.array([0.1, 0.0, 0.3]), np.array([1.0, 1.3, 1.5])
    tables = {
        "epsilon": np.sqrt(epsilon[:, None] * epsilon),
        "sigma": (sigma[:, None] + sigma) / 2,
    }
    system = crystal()
    neighbors = neighbor_list(3.5).allocate(system)
    energies = [
        run(bind(potential, potential.init(**given)), system, neighbors)
        for given in ({"epsilon": epsilon, "sigma": sigma}, tables)
    ]
    np.testing.assert_allclose(*energies, rtol=1e-12)
    params = potential.init(epsilon=epsilon, sigma=sigma)
    slope = jax.jit(jax.grad(lambda p: bind(potential, p)(system, neighbors)))(params)
    assert np.isfinite(slope["epsilon"]).all()
