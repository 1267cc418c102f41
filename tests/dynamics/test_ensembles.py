"""Ensembles against closed forms: oscillators, the ideal gas, a crystal that knows its volume."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

from jaxff import units
from jaxff.dynamics import csvr, langevin, nose_hoover, npt, nve, run
from jaxff.system import System

KEY = jax.random.key(11)
SPRINGS = np.linspace(0.5, 8.0, 24)
KELVIN = 250.0
THERMAL = units.BOLTZMANN * KELVIN


def traps(system, neighbors=None):
    return 0.5 * jnp.sum(jnp.asarray(SPRINGS)[:, None] * system.positions**2)


TRAPPED = System(np.zeros((24, 3)), np.full(24, 6))


def mean_and_error(values):
    """Mean over everything, and its standard error from the spread of the replicas."""
    by_replica = np.asarray(values).reshape(len(values), -1).mean(axis=1)
    return by_replica.mean(), by_replica.std(ddof=1) / np.sqrt(len(by_replica))


def agrees(values, expected, within=0.05, errors=3.0):
    mean, error = mean_and_error(values)
    assert error < within * abs(expected), f"too noisy to test: {mean} ± {error}"
    assert abs(mean - expected) < errors * error, f"{mean} ± {error}, expected {expected}"


def of_trapped(ensemble, steps=12_000, replicas=12, **more):
    return run(
        traps, TRAPPED, ensemble=ensemble, steps=steps, key=KEY, temperature=KELVIN, every=20,
        chunk=steps, replicas=replicas, degrees_of_freedom=72, **more,
    )  # fmt: skip


def test_langevin_samples_oscillators_exactly_even_with_long_steps():
    # The stiffest spring has ω Δt = 0.64: momenta at whole steps are 10 % too cold there, but not
    # positions, nor momenta at half steps.
    result = of_trapped(langevin(8.0, KELVIN, 0.02))
    late = slice(100, None)
    square = np.sum(result.positions[:, late] ** 2, axis=-1)
    agrees(square * SPRINGS / 3.0, THERMAL, within=0.01)
    agrees(result.half_step_kinetic_energy[:, late], 36 * THERMAL, within=0.01)
    whole, error = mean_and_error(result.kinetic_energy[:, late])
    frequency = np.sqrt(SPRINGS / units.masses(6)) / units.TIME
    expected = 1.5 * THERMAL * np.sum(1.0 - (8.0 * frequency) ** 2 / 4.0)
    assert abs(whole - expected) < 3 * error


def test_csvr_gives_the_canonical_kinetic_energy():
    # Free atoms: a factor common to all does not mix the energies of independent oscillators.
    result = run(
        gas, TRAPPED, ensemble=csvr(1.0, KELVIN, 20.0), steps=10_000, key=KEY, temperature=50.0,
        every=20, chunk=10_000, replicas=12,
    )  # fmt: skip
    assert result.degrees_of_freedom.tolist() == [66] * 12
    assert mean_and_error(result.kinetic_energy[:, :1])[0] < 10 * THERMAL
    kinetic = result.kinetic_energy[:, 15:]
    agrees(kinetic, 33 * THERMAL, within=0.01)
    agrees((kinetic - 33 * THERMAL) ** 2, 33 * THERMAL**2, within=0.1)
    # The slowest decay of the kinetic energy is that of the relaxation time, here one frame.
    shaken = kinetic - kinetic.mean()
    following = np.mean(shaken[:, 1:] * shaken[:, :-1], axis=1) / np.mean(shaken**2)
    agrees(following, np.exp(-1.0), within=0.1)


@pytest.mark.parametrize(
    "ensemble",
    [
        langevin(0.5, 300.0, 0.02),
        pytest.param(csvr(0.5, 300.0, 40.0), marks=pytest.mark.slow),
        nose_hoover(0.5, 300.0, 25.0),
    ],
    ids=["langevin", "csvr", "nose-hoover"],
)
def test_molecule_has_the_temperature_of_the_bath(molecule, morse, ensemble):
    result = run(
        morse(), molecule, ensemble=ensemble, steps=30_000, key=KEY, every=30, chunk=30_000,
        replicas=10,
    )  # fmt: skip
    freedom = 15 if ensemble.name == "langevin" else 9
    assert result.degrees_of_freedom.tolist() == [freedom] * 10
    thermal = units.BOLTZMANN * 300.0
    # The mean of two half steps has the right average, but a smaller spread than either.
    excess = result.kinetic_energy[:, 100:] - 0.5 * freedom * thermal
    assert np.mean(excess**2) == pytest.approx(0.5 * freedom * thermal**2, rel=0.12)
    agrees(result.half_step_temperature[:, 100:], 300.0, within=0.02)


@pytest.mark.parametrize("length", [1, 2, 5])
def test_nose_hoover_chains_of_any_length_conserve_their_energy(molecule, morse, length):
    ensemble = nose_hoover(0.1, 300.0, 30.0, chain_length=length)
    result = run(
        morse(), molecule, ensemble=ensemble, steps=20_000, key=KEY, every=20, chunk=20_000
    )
    assert np.std(result.conserved_energy) < 2e-3 < 0.02 < np.std(result.total_energy)


@pytest.mark.parametrize(
    "make",
    [
        lambda step: nve(step),
        lambda step: nose_hoover(step, 300.0, 20.0),
        pytest.param(lambda step: csvr(step, 300.0, 50.0), marks=pytest.mark.slow),
        pytest.param(lambda step: langevin(step, 300.0, 0.01), marks=pytest.mark.slow),
    ],
    ids=["nve", "nose-hoover", "csvr", "langevin"],
)
def test_conserved_quantity_fluctuates_with_the_square_of_the_time_step(molecule, morse, make):
    def fluctuation(timestep):
        result = run(
            morse(), molecule, ensemble=make(timestep), steps=round(300 / timestep), key=KEY,
            temperature=300.0, every=1, replicas=24, chunk=10_000,
        )  # fmt: skip
        return np.sqrt(np.mean(np.var(result.conserved_energy, axis=1)))

    coarse, fine = fluctuation(0.2), fluctuation(0.1)
    assert coarse / fine == pytest.approx(4.0, abs=0.5)
    assert fine < 2e-3


def test_heat_of_a_thermostat_is_what_the_energy_gains():
    cold = run(
        traps, TRAPPED, ensemble=langevin(0.1, KELVIN, 0.05), steps=1500, key=KEY, temperature=1.0,
        every=5, degrees_of_freedom=72,
    )  # fmt: skip
    assert cold.total_energy[-1] - cold.total_energy[0] > 30 * THERMAL
    np.testing.assert_allclose(cold.conserved_energy, cold.conserved_energy[0], atol=2e-3)


def test_free_flight_under_the_chain_is_that_of_its_equations():
    # No forces: the kinetic energy K and one thermostat obey ordinary differential equations.
    free = System(np.zeros((2, 3)), [18, 18])
    speed = np.array([[1e-3, 2e-3, 0.0], [-1e-3, -2e-3, 0.0]])
    time, period, step = 200.0, 50.0, 0.5
    result = run(
        lambda s, n=None: 0.0 * jnp.sum(s.positions), free, velocities=speed, every=1, steps=400,
        ensemble=nose_hoover(step, KELVIN, period, chain_length=1), degrees_of_freedom=3,
    )  # fmt: skip
    mass = 3 * THERMAL * period**2

    def slope(_, y):
        kinetic, momentum = y
        return [-2 * kinetic * momentum / mass, 2 * kinetic - 3 * THERMAL]

    first = [result.kinetic_energy[0], 0.0]
    exact = integrate.solve_ivp(slope, (0, time), first, rtol=1e-11, atol=1e-14).y[0, -1]
    assert exact > 1.05 * first[0]
    np.testing.assert_allclose(result.kinetic_energy[-1], exact, rtol=1e-8)
    np.testing.assert_allclose(result.conserved_energy, result.conserved_energy[0], atol=1e-10)


# --- constant pressure -------------------------------------------------------------------------

PRESSURE = 0.02 * units.GIGAPASCAL
BOX = 30.0 * np.eye(3)


def gas(system, neighbors=None):
    return 0.0 * jnp.sum(system.positions)


@pytest.mark.slow
def test_volume_of_the_ideal_gas():
    # p(V) ~ V^N exp(-PV / kT): a gamma distribution.
    count = 6
    start = System(np.zeros((count, 3)), np.full(count, 18), cell=BOX)
    ensemble = npt(10.0, KELVIN, PRESSURE, 0.01, 100.0)
    result = run(
        gas, start, ensemble=ensemble, steps=60_000, key=KEY, every=20, chunk=60_000, replicas=16,
        max_displacement=5.0,
    )  # fmt: skip
    volume = result.volume[:, 200:]
    unit = THERMAL / PRESSURE
    agrees(volume, (count + 1) * unit, within=0.02)
    agrees((volume - (count + 1) * unit) ** 2, (count + 1) * unit**2, within=0.1)
    agrees(result.half_step_temperature[:, 200:], KELVIN, within=0.01)
    # <P_internal> = P - kT <1/V>, exactly: the average of 1/V is P / (N kT).
    agrees(result.pressure[:, 200:], PRESSURE, within=0.02)


SITES = np.stack(np.meshgrid(*[np.arange(2) / 2] * 3, indexing="ij"), -1).reshape(-1, 3)


def crystal(system, neighbors=None):
    """Atoms tied to sites of the cell, and an energy of the volume."""
    length = jnp.cbrt(jnp.linalg.det(system.cell))
    ties = jnp.sum((system.positions - jnp.asarray(SITES) @ system.cell) ** 2)
    return 0.5 * 3.0 * ties + 6.0 * (length / 8.0 - 1.0) ** 2


@pytest.mark.slow
def test_volume_of_a_crystal_that_knows_it():
    pressure = 0.5 * units.GIGAPASCAL
    start = System(SITES * 8.0, np.full(8, 18), cell=8.0 * np.eye(3))
    result = run(
        crystal, start, ensemble=npt(4.0, KELVIN, pressure, 0.02, 100.0), steps=40_000, key=KEY,
        every=20, chunk=40_000, replicas=16,
    )  # fmt: skip
    volume = np.linspace(1.0, 2000.0, 200_001)
    weight = np.exp(-(pressure * volume + 6.0 * (np.cbrt(volume) / 8.0 - 1.0) ** 2) / THERMAL)
    mean = np.sum(volume * weight) / np.sum(weight)
    variance = np.sum((volume - mean) ** 2 * weight) / np.sum(weight)
    agrees(result.volume[:, 200:], mean, within=0.02)
    agrees((result.volume[:, 200:] - mean) ** 2, variance, within=0.1)
    assert abs(mean - 512.0) > 10 * mean_and_error(result.volume[:, 200:])[1]


def test_enthalpy_with_its_baths_is_conserved_to_second_order():
    start = System(SITES * 8.0, np.full(8, 18), cell=8.0 * np.eye(3))

    def fluctuation(timestep):
        ensemble = npt(timestep, KELVIN, PRESSURE, 0.005, 80.0)
        result = run(
            crystal, start, ensemble=ensemble, steps=round(1500 / timestep), key=KEY, every=1,
            replicas=16, chunk=10_000,
        )  # fmt: skip
        assert np.std(result.total_energy) > 0.05
        return np.sqrt(np.mean(np.var(result.conserved_energy, axis=1)))

    coarse, fine = fluctuation(4.0), fluctuation(2.0)
    assert coarse / fine == pytest.approx(4.0, abs=0.5)
    assert fine < 5e-3


def test_cell_and_atoms_scale_together():
    start = System(SITES * 8.0, np.full(8, 18), cell=8.0 * np.eye(3))
    result = run(
        crystal, start, ensemble=npt(2.0, 5.0, -0.05 * units.GIGAPASCAL, 1e-3, 600.0), steps=200,
        key=KEY, every=10,
    )  # fmt: skip
    length = result.cell[:, 0, 0]
    assert length.max() > 8.3
    np.testing.assert_allclose(result.cell, length[:, None, None] * np.eye(3), atol=1e-12)
    np.testing.assert_allclose(result.positions, SITES * length[:, None, None], atol=0.08)
    np.testing.assert_allclose(result.volume, length**3)


@pytest.mark.parametrize("pbc", [None, [True, True, False]])
def test_constant_pressure_needs_a_cell(pbc):
    start = System(SITES, np.full(8, 18), cell=None if pbc is None else BOX, pbc=pbc)
    with pytest.raises(ValueError, match="all three directions"):
        run(gas, start, ensemble=npt(1.0, 300.0, 0.0, 0.01, 100.0), steps=1, key=KEY)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nose_hoover(1.0, 300.0, 0.0), "relaxation_time must be a positive"),
        (lambda: nose_hoover(1.0, 300.0, 10.0, chain_length=0), "chain_length"),
        (lambda: csvr(1.0, -1.0, 10.0), "temperature must be a positive"),
        (lambda: npt(1.0, 300.0, float("nan"), 0.01, 100.0), "pressure must be"),
        (lambda: npt(1.0, 300.0, 0.0, 0.01, -1.0), "barostat_time must be"),
        (lambda: npt(1.0, 300.0, 0.0, 0.01, 1.0, 0.0), "barostat_friction must be"),
    ],
)
def test_numbers_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()
