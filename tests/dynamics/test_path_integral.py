"""Path integrals of a harmonic oscillator against closed forms at any number of beads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxff import System, analysis, bind, dynamics, neighbor_list, physics, units
from jaxff.dynamics.path_integral import normal_modes
from jaxff.potential import Potential

KELVIN, BEADS = 300.0, 8
STIFFNESS = 30.0  # eV/Å²
ATOMS = 16


def wells():
    """Hydrogen atoms, each in a well of its own."""

    def apply(params, system, neighbors=None):
        return {"energy": 0.5 * params * jnp.sum((system.positions - PLACES) ** 2)}

    return bind(Potential(lambda key, system, **named: jnp.asarray(STIFFNESS), apply), STIFFNESS)


PLACES = 3.0 * np.arange(ATOMS)[:, None] * np.ones(3)


def spread(beads, frequency, kelvin):
    """Variance in Å² of a coordinate of a bead."""
    thermal = units.BOLTZMANN * kelvin
    mass = units.masses(np.array([1]))[0] * units.TIME**2  # eV fs²/Å²
    ring = 2.0 * beads * thermal / units.REDUCED_PLANCK * np.sin(np.pi * np.arange(beads) / beads)
    return np.sum(thermal / mass / (ring**2 + frequency**2)), mass


@pytest.fixture(scope="module")
def run():
    system = System(PLACES, np.ones(ATOMS, int))
    return dynamics.run(
        wells(), system, ensemble=dynamics.path_integral(0.5, KELVIN, centroid_time=20.0),
        replicas=BEADS, steps=12_000, every=10, chunk=3000, key=jax.random.key(0),
    )  # fmt: skip


@pytest.mark.parametrize("beads", [1, 2, 5, 8])
def test_modes_of_a_ring(beads):
    modes = normal_modes(beads)
    np.testing.assert_allclose(modes @ modes.T, np.eye(beads), atol=1e-14)
    ring = 2.0 * np.eye(beads) - np.roll(np.eye(beads), 1, 0) - np.roll(np.eye(beads), -1, 0)
    frequencies = 2.0 * np.sin(np.pi * np.arange(beads) / beads)
    np.testing.assert_allclose(modes @ ring @ modes.T, np.diag(frequencies**2), atol=1e-13)


def test_averages_are_those_of_the_finite_ring(run):
    frequency = np.sqrt(STIFFNESS / (units.masses(np.array([1]))[0] * units.TIME**2))
    variance, mass = spread(BEADS, frequency, KELVIN)
    expected = 1.5 * ATOMS * mass * frequency**2 * variance  # of potential and of kinetic energy
    classical = 1.5 * ATOMS * units.BOLTZMANN * KELVIN
    assert expected > 3.0 * classical
    energies = analysis.quantum_energies(run, KELVIN)
    settled = run.times > 300.0
    for values in energies:
        found = analysis.estimate(values[settled])
        assert abs(found.mean - expected) < 4.0 * found.standard_error + 0.005 * expected
        assert found.standard_error < 0.03 * expected
    found = analysis.estimate((analysis.radius_of_gyration(run)[settled] ** 2).mean(axis=1))
    internal = 3.0 * (variance - units.BOLTZMANN * KELVIN / (mass * frequency**2))
    assert abs(found.mean - internal) < 4.0 * found.standard_error + 0.005 * internal


def test_the_temperature_is_that_of_the_atoms_and_one_sum_is_conserved(run):
    settled = run.times > 300.0
    found = analysis.estimate(run.half_step_temperature.mean(axis=0)[settled])
    assert abs(found.mean - KELVIN) < 4.0 * found.standard_error + 0.01 * KELVIN
    conserved = run.conserved_energy.sum(axis=0)
    total = run.total_energy.sum(axis=0)
    assert np.std(conserved) < 0.05 * np.std(total)
    slope = np.polyfit(run.times, conserved, 1)[0] * run.times[-1]
    assert abs(slope) < 0.1 * np.std(total)


def test_middles_of_rings_move_as_one_particle_each(run):
    """Harmonic centroids are classical: temperature, spread, and the frequency of the well."""
    middle = analysis.centroids(run)
    settled = run.times > 300.0
    found = analysis.estimate(middle.temperature[settled])
    assert abs(found.mean - KELVIN) < 4.0 * found.standard_error + 0.01 * KELVIN
    spread_of = np.var(middle.positions[settled] - PLACES)
    expected = units.BOLTZMANN * KELVIN / STIFFNESS
    assert abs(spread_of - expected) < 0.05 * expected
    assert middle.replicas is None


def test_without_friction_a_ring_keeps_its_energy():
    system = System(PLACES[:2], [1, 1])

    def apply(params, system, neighbors=None):
        apart = jnp.sqrt(jnp.sum((system.positions[0] - system.positions[1]) ** 2))
        return {"energy": params * (apart - 0.74) ** 2}

    energy_fn = bind(Potential(lambda key, system, **named: jnp.asarray(15.0), apply), 15.0)
    system = system.replace(positions=jnp.asarray([[0.0, 0, 0], [0.74, 0, 0]]))
    spreads = []
    for timestep in (0.4, 0.2):
        free = dynamics.path_integral(timestep, KELVIN, centroid_time=None, friction_scale=0.0)
        found = dynamics.run(
            energy_fn, system, ensemble=free, replicas=4, steps=int(200 / timestep), every=5,
            key=jax.random.key(1),
        )  # fmt: skip
        np.testing.assert_array_equal(found.restart.leaves[-1].shape, (4,))
        spreads.append(np.std(found.conserved_energy.sum(axis=0)))
        # The middle of all beads moves freely.
        middle = analysis.centroids(found).positions.mean(axis=1)
        np.testing.assert_allclose(
            middle, middle[0] + np.outer(found.times, middle[-1] - middle[0]) / found.times[-1],
            atol=1e-9,
        )  # fmt: skip
    assert spreads[1] < 0.4 * spreads[0]


def test_beads_have_lists_and_go_on_from_a_restart():
    argon = physics.lennard_jones("Ar", 5.0, truncation="switched")
    energy_fn = bind(argon, argon.init(epsilon=0.0104, sigma=3.4))
    grid = np.stack(np.meshgrid(*[np.arange(2)] * 3, indexing="ij"), -1).reshape(-1, 3)
    system = System(3.8 * grid, np.full(8, 18))
    named = {
        "ensemble": dynamics.path_integral(2.0, 40.0), "replicas": 3, "every": 5,
        "neighbors": neighbor_list(5.0, skin=0.5), "key": jax.random.key(0),
    }  # fmt: skip
    whole = dynamics.run(energy_fn, system, steps=40, **named)
    first = dynamics.run(energy_fn, system, steps=20, **named)
    named.pop("key")
    rest = dynamics.run(energy_fn, system, steps=20, restart=first.restart, **named)
    np.testing.assert_array_equal(rest.positions[:, -1], whole.positions[:, -1])
    np.testing.assert_array_equal(rest.conserved_energy[:, -1], whole.conserved_energy[:, -1])


def test_refuses():
    system = System(PLACES, np.ones(ATOMS, int))
    with pytest.raises(ValueError, match="number of its beads"):
        dynamics.run(
            wells(), system, ensemble=dynamics.path_integral(0.5, KELVIN), steps=1,
            key=jax.random.key(0),
        )  # fmt: skip
    with pytest.raises(ValueError, match="friction_scale"):
        dynamics.path_integral(0.5, KELVIN, friction_scale=-1.0)
    with pytest.raises(ValueError, match="centroid_time"):
        dynamics.path_integral(0.5, KELVIN, centroid_time=0.0)
    classical = dynamics.run(
        wells(), system, ensemble=dynamics.nve(0.5), steps=1, temperature=1.0, key=jax.random.key(0)
    )
    with pytest.raises(ValueError, match="expected the beads of a path integral"):
        analysis.quantum_energies(classical, KELVIN)
