import numpy as np
import pytest
from models import run

from jaxff import physics
from jaxff.derivatives import energy_and_forces
from jaxff.neighbors import neighbor_list
from jaxff.potential import bind
from jaxff.system import System


def copper(truncation="cut"):
    potential = physics.morse("Cu", 6.0, truncation=truncation)
    return bind(potential, potential.init(depth=0.34, width=1.36, length=2.87))


def test_ase():
    ase = pytest.importorskip("ase")
    from ase.calculators.morse import MorsePotential

    rng = np.random.default_rng(0)
    positions = np.array([[0, 0, 0], [2.6, 0, 0], [0, 2.9, 0], [1.5, 1.4, 2.2]])
    positions = positions + rng.normal(size=(4, 3)) * 0.1
    atoms = ase.Atoms("Cu4", positions)
    # Its switching function begins beyond all pairs.
    atoms.calc = MorsePotential(epsilon=0.34, r0=2.87, rho0=1.36 * 2.87, rcut1=5.9, rcut2=6.0)
    system, energy_fn = System(positions, [29] * 4), copper()
    neighbors = neighbor_list(6.0).allocate(system)
    energy, force = run(energy_and_forces(energy_fn), system, neighbors)
    np.testing.assert_allclose(energy, atoms.get_potential_energy(), rtol=1e-12)
    np.testing.assert_allclose(force, atoms.get_forces(), atol=1e-12)


def test_minimum_and_curvature():
    energy_fn = copper()

    def energy(r):
        system = System(np.array([[0, 0, 0], [r, 0, 0]]), [29, 29])
        return float(run(energy_fn, system, neighbor_list(6.0).allocate(system)))

    np.testing.assert_allclose(energy(2.87), -0.34, rtol=1e-14)
    step = 1e-3
    curvature = (energy(2.87 + step) + energy(2.87 - step) - 2 * energy(2.87)) / step**2
    np.testing.assert_allclose(curvature, 2 * 0.34 * 1.36**2, rtol=1e-4)
