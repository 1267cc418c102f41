import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxff import units
from jaxff.dynamics import (
    UnstableRunError,
    angular_momentum,
    energy_drift,
    langevin,
    nve,
    run,
    total_momentum,
)
from jaxff.neighbors import NeighborListFns, neighbor_list
from jaxff.potential import Potential, bind
from jaxff.system import System

KEY = jax.random.key(7)


def test_dimer_oscillates_as_velocity_verlet_must(dimer, harmonic):
    # Velocity Verlet on a harmonic bond is again harmonic, with sin(w' dt / 2) = w dt / 2.
    timestep, steps = 0.7, 400
    rest = np.zeros((2, 3))
    trajectory = run(harmonic, dimer, ensemble=nve(timestep), steps=steps, velocities=rest, every=1)
    mass = np.prod(trajectory.masses) / np.sum(trajectory.masses)
    exact = np.sqrt(20.0 / mass) / units.TIME
    discrete = 2 / timestep * np.arcsin(exact * timestep / 2)
    bond = np.linalg.norm(trajectory.positions[:, 1] - trajectory.positions[:, 0], axis=1)
    np.testing.assert_allclose(bond, 1.2 + 0.1 * np.cos(discrete * trajectory.times), atol=1e-10)


def test_energy_fluctuation_is_of_second_order(molecule, morse):
    def fluctuation(timestep):
        trajectory = run(
            morse(), molecule, ensemble=nve(timestep), steps=round(100 / timestep),
            temperature=200.0, key=KEY, every=1,
        )  # fmt: skip
        return np.std(trajectory.total_energy)

    assert fluctuation(0.2) / fluctuation(0.1) == pytest.approx(4.0, abs=0.5)
    assert fluctuation(0.1) < 1e-3


def test_conserved_quantities(molecule, morse):
    result = run(
        morse(), molecule, ensemble=nve(0.1), steps=20_000, temperature=300.0, key=KEY, every=20
    )
    momentum = total_momentum(result.velocities, result.masses)
    angular = angular_momentum(result.positions, result.velocities, result.masses)
    assert np.abs(momentum).max() < 1e-13
    assert np.abs(angular).max() < 1e-12
    assert result.degrees_of_freedom == 9
    drift = energy_drift(result.times, result.total_energy, 5)
    assert abs(drift.slope) < max(3 * drift.standard_error, 1e-2)


@pytest.mark.parametrize("chunk", [1, 10, 37, 10_000])
def test_chunks_do_not_change_the_trajectory(molecule, morse, chunk):
    settings = {"ensemble": nve(0.5), "steps": 205, "temperature": 300.0, "key": KEY, "every": 10}
    expected = run(morse(), molecule, **settings, chunk=100)
    result = run(morse(), molecule, **settings, chunk=chunk)
    assert result.steps.tolist() == [*range(0, 201, 10), 205]
    np.testing.assert_array_equal(result.times, 0.5 * result.steps)
    for name in ("positions", "velocities", "forces", "potential_energy", "kinetic_energy"):
        np.testing.assert_array_equal(getattr(result, name), getattr(expected, name))


def test_recording_does_not_change_the_trajectory(molecule, morse):
    settings = {"ensemble": nve(0.5), "steps": 60, "temperature": 300.0, "key": KEY}
    rare = run(morse(), molecule, **settings, every=1000)
    often = run(morse(), molecule, **settings, every=1)
    assert rare.steps.tolist() == [0, 60]
    np.testing.assert_array_equal(rare.positions[-1], often.positions[-1])


def test_two_compilations_and_none_for_new_numbers(molecule, morse, compilations):
    def simulate(potential, depth, timestep, temperature, steps):
        energy_fn = bind(potential, {"depth": np.asarray(depth)})
        return run(
            energy_fn, molecule, ensemble=nve(timestep), steps=steps, temperature=temperature,
            key=KEY, chunk=100,
        )  # fmt: skip

    # Operations outside of the two programs are compiled by the first run of the session; a record
    # of its own is new to JAX.
    simulate(dataclasses.replace(morse().potential), 3.0, 0.5, 300.0, 200)
    compilations.clear()
    potential = dataclasses.replace(morse().potential)
    simulate(potential, 3.0, 0.5, 300.0, 1234)
    assert sorted(compilations) == ["jit(advance)", "jit(start)"]
    simulate(potential, 2.5, 0.25, 100.0, 2047)
    assert len(compilations) == 2


def test_one_force_evaluation_per_step(dimer, harmonic):
    calls = []

    def counted(system, neighbors=None):
        jax.debug.callback(lambda: calls.append(1))
        return harmonic(system)

    run(counted, dimer, ensemble=nve(0.5), steps=40, velocities=np.zeros((2, 3)), every=20)
    jax.effects_barrier()
    # Forces and energy of step 0, one force a step, an energy for each of two frames.
    assert len(calls) == 2 + 40 + 2


# The gradient of the first is NaN from the step on, that of the second never, only the energy.
@pytest.mark.parametrize("wall", [lambda x: jnp.sqrt(x), lambda x: jnp.where(x < 0, jnp.nan, 0.0)])
def test_run_stops_at_the_first_nan(dimer, wall):
    def breaks(system, neighbors=None):
        length = jnp.sqrt(jnp.sum((system.positions[1] - system.positions[0]) ** 2))
        return 10.0 * (length - 1.2) ** 2 + 1e-9 * wall(length - 1.12)

    seen = []
    with pytest.raises(UnstableRunError, match=r"not finite after step") as caught:
        run(
            breaks, dimer, ensemble=nve(0.5), steps=10**9, velocities=np.zeros((2, 3)), every=2,
            writer=seen.append,
        )  # fmt: skip
    trajectory = caught.value.trajectory
    last = trajectory.restart
    assert f"after step {last.step} " in str(caught.value)
    assert 2 < last.step < 100
    assert trajectory.steps[-1] == last.step // 2 * 2
    for values in (trajectory.positions, trajectory.forces, trajectory.potential_energy):
        assert np.isfinite(values).all()
    assert all(np.isfinite(leaf).all() for leaf in last.leaves)
    bonds = np.linalg.norm(trajectory.positions[:, 1] - trajectory.positions[:, 0], axis=1)
    assert 1.12 <= bonds.min() < 1.13
    assert np.linalg.norm(last.positions[1] - last.positions[0]) >= 1.12
    assert seen[-1].restart is last


def test_run_stops_when_atoms_fly_apart():
    def repulsive(system, neighbors=None):
        return 1.0 / jnp.sum((system.positions[1] - system.positions[0]) ** 2) ** 6

    start = System(np.array([[0.0, 0, 0], [0.3, 0, 0]]), [1, 1])
    with pytest.raises(UnstableRunError, match=r"more than 0.5 Å at once after step 0 ") as caught:
        run(repulsive, start, ensemble=nve(1.0), steps=50, velocities=np.zeros((2, 3)))
    assert caught.value.trajectory.steps.tolist() == [0]


def test_bad_start_is_named(dimer):
    with pytest.raises(FloatingPointError, match="initial geometry"):
        run(
            lambda s, n=None: jnp.sum(s.positions) * jnp.nan, dimer, ensemble=nve(1.0), steps=5,
            velocities=np.zeros((2, 3)),
        )  # fmt: skip


@pytest.mark.parametrize("ensemble", [nve(0.5), langevin(0.5, 300.0, 0.01)])
def test_restart_continues_bit_for_bit(molecule, morse, ensemble):
    settings = {"ensemble": ensemble, "every": 5, "chunk": 10}
    whole = run(morse(), molecule, steps=50, temperature=300.0, key=KEY, **settings)
    first = run(morse(), molecule, steps=23, temperature=300.0, key=KEY, **settings)
    second = run(morse(), molecule, steps=27, restart=first.restart, **settings)
    assert second.steps.tolist() == [25, 30, 35, 40, 45, 50]
    np.testing.assert_array_equal(second.positions, whole.positions[5:])
    np.testing.assert_array_equal(second.velocities, whole.velocities[5:])
    assert second.restart.step == 50


def test_restart_of_another_run_is_refused(molecule, morse):
    done = run(morse(), molecule, ensemble=nve(0.5), steps=3, temperature=300.0, key=KEY)
    with pytest.raises(ValueError, match=r"time step of 0\.5 fs"):
        run(morse(), molecule, ensemble=nve(0.25), steps=3, restart=done.restart)
    with pytest.raises(ValueError, match="another run"):
        run(morse(), molecule, ensemble=langevin(0.5, 1.0, 1.0), steps=3, restart=done.restart)


def test_langevin_keeps_the_temperature(molecule, morse):
    result = run(
        morse(), molecule, ensemble=langevin(0.5, 400.0, 0.02), steps=120_000, key=KEY, every=100
    )
    assert result.degrees_of_freedom == 15
    kelvin = result.temperature[100:]
    # Successive frames are 50 fs apart, one relaxation time of the thermostat.
    error = np.std(kelvin) / np.sqrt(len(kelvin) / 2)
    assert abs(kelvin.mean() - 400.0) < 4 * error
    assert error < 15.0


def test_float32_stays_float32(molecule, morse):
    settings = {"ensemble": nve(0.5), "steps": 150}  # before chaos tears them apart
    double = run(morse(), molecule, temperature=300.0, key=KEY, **settings)
    single = System(np.asarray(molecule.positions, np.float32), molecule.numbers)
    result = run(morse(np.float32(3.0)), single, velocities=double.velocities[0], **settings)
    assert result.positions.dtype == result.forces.dtype == np.float32
    np.testing.assert_allclose(result.total_energy, double.total_energy, atol=1e-4)


def test_single_atom_in_a_trap():
    atom = System(np.array([[0.1, 0.0, 0.0]]), [18])
    result = run(
        lambda s, n=None: jnp.sum(s.positions**2), atom, ensemble=nve(1.0), steps=100,
        temperature=50.0, key=KEY,
    )  # fmt: skip
    assert result.degrees_of_freedom == 3
    np.testing.assert_allclose(result.total_energy, result.total_energy[0], atol=1e-6)


# --- neighbour lists ---------------------------------------------------------------------------


@pytest.fixture
def allocations(monkeypatch):
    calls = []
    allocate = NeighborListFns.allocate

    def counted(self, system):
        calls.append(1)
        return allocate(self, system)

    monkeypatch.setattr(NeighborListFns, "allocate", counted)
    return calls


def test_pair_lists_are_renewed_in_time(
    argon, lennard_jones, lennard_jones_images, allocations, compilations
):
    settings = {"ensemble": nve(4.0), "steps": 200, "temperature": 400.0, "key": KEY, "every": 7}
    pairs = neighbor_list(5.0, skin=1.0)
    listed = run(lennard_jones, argon, neighbors=pairs, chunk=60, **settings)
    assert len(allocations) <= 2
    assert compilations.count("jit(advance)") == len(allocations)
    assert compilations.count("jit(start)") == 1
    exact = run(lennard_jones_images, argon, **settings)
    assert listed.steps.tolist() == exact.steps.tolist() == [*range(0, 197, 7), 200]
    assert listed.degrees_of_freedom == 3 * 32 - 3
    np.testing.assert_allclose(listed.positions, exact.positions, atol=1e-9)
    np.testing.assert_allclose(listed.potential_energy, exact.potential_energy, atol=1e-9)
    moved = np.abs(listed.positions[-1] - listed.positions[0]).max()
    assert moved > 1.5  # far beyond the skin


def test_pair_lists_come_by_default(argon, lennard_jones, allocations):
    result = run(lennard_jones, argon, ensemble=nve(2.0), steps=3, temperature=10.0, key=KEY)
    assert len(allocations) == 1
    assert result.steps[-1] == 3


def test_skin_too_small_for_the_time_step(argon, lennard_jones, lennard_jones_images):
    # The list is renewed in every step, and right in each.
    settings = {"ensemble": nve(5.0), "steps": 20, "temperature": 300.0, "key": KEY}
    thin = neighbor_list(5.0, skin=1e-3)
    listed = run(lennard_jones, argon, neighbors=thin, **settings)
    exact = run(lennard_jones_images, argon, **settings)
    np.testing.assert_allclose(listed.positions, exact.positions, atol=1e-10)


def test_skin_must_be_positive(argon, lennard_jones):
    with pytest.raises(ValueError, match="positive skin"):
        run(
            lennard_jones, argon, ensemble=nve(1.0), steps=1, temperature=1.0, key=KEY,
            neighbors=neighbor_list(5.0),
        )  # fmt: skip


# --- arguments ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give temperature"),
        ({"temperature": -1.0}, "give temperature"),
        ({"temperature": 300.0}, "give key"),
        ({"temperature": 300.0, "velocities": np.zeros((2, 3))}, "only one of"),
        ({"velocities": np.zeros((3, 3))}, "shape of the positions"),
        ({"velocities": np.zeros((2, 3)), "masses": [1.0, 0.0]}, "positive numbers"),
        ({"velocities": np.zeros((2, 3)), "masses": [1.0]}, "2 positive numbers"),
        ({"velocities": np.zeros((2, 3)), "steps": -1}, "steps must be at least 0"),
        ({"velocities": np.zeros((2, 3)), "every": 0}, "every must be at least 1"),
        ({"velocities": np.zeros((2, 3)), "chunk": 0}, "chunk must be at least 1"),
    ],
)
def test_contradictions_are_errors(dimer, harmonic, arguments, message):
    with pytest.raises(ValueError, match=message):
        run(harmonic, dimer, **{"ensemble": nve(1.0), "steps": 1, **arguments})


def test_no_steps(dimer, harmonic):
    result = run(harmonic, dimer, ensemble=nve(1.0), steps=0, velocities=np.zeros((2, 3)))
    assert result.steps.tolist() == [0]


@pytest.mark.parametrize("timestep", [0.0, -1.0, float("nan"), float("inf")])
def test_time_step_must_be_positive(timestep):
    with pytest.raises(ValueError, match="timestep must be a positive"):
        nve(timestep)


def test_missing_potential_record_is_not_needed(dimer, harmonic):
    bound = bind(Potential(lambda *_: {}, lambda p, s, n=None: {"energy": harmonic(s)}), {})
    settings = {"ensemble": nve(0.5), "steps": 20, "velocities": np.zeros((2, 3))}
    plain, record = run(harmonic, dimer, **settings), run(bound, dimer, **settings)
    np.testing.assert_allclose(plain.positions, record.positions, atol=1e-14)


def test_frames_may_be_left_to_the_writer(molecule, morse):
    chunks = []
    result = run(
        morse(), molecule, ensemble=nve(0.5), steps=100, temperature=100.0, key=KEY, chunk=20,
        keep_frames=False, writer=chunks.append,
    )  # fmt: skip
    assert result.steps.tolist() == [90, 100]
    assert [s for c in chunks for s in c.steps.tolist()] == [*range(0, 101, 10)]


def test_a_restart_belongs_to_its_potential(molecule, morse):
    common = {"ensemble": nve(0.5), "steps": 4}
    first = run(morse(), molecule, temperature=300.0, key=KEY, **common)
    with pytest.raises(ValueError, match="belongs to another potential or system"):
        run(morse(3.03), molecule, restart=first.restart, **common)


def test_a_restart_belongs_to_its_atoms(molecule, morse):
    """Other elements, masses or degrees of freedom are another run."""
    common = {"ensemble": nve(0.5), "steps": 4}
    first = run(morse(), molecule, temperature=50.0, key=jax.random.key(0), **common)
    again = functools.partial(run, morse(), restart=first.restart, **common)
    assert again(molecule).steps[-1] == 8
    with pytest.raises(ValueError, match="elements"):
        again(molecule.replace(numbers=molecule.numbers + 1))
    with pytest.raises(ValueError, match="other masses"):
        again(molecule, masses=np.full(5, 40.0))
    with pytest.raises(ValueError, match=r"counts \[9\] degrees of freedom, not 15"):
        again(molecule, degrees_of_freedom=15)
