"""Many runs at once, and restarts of every ensemble: bit for bit what one run gives."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxff.dynamics import (
    UnstableRunError,
    Writer,
    csvr,
    langevin,
    nose_hoover,
    npt,
    nve,
    read_restart,
    run,
)
from jaxff.neighbors import neighbor_list
from jaxff.system import System, stack

KEY = jax.random.key(5)
ENSEMBLES = [
    nve(4.0),
    langevin(4.0, 300.0, 0.01),
    nose_hoover(4.0, 300.0, 100.0),
    csvr(4.0, 300.0, 100.0),
    npt(4.0, 300.0, 1e-4, 0.01, 300.0),
]
ARRAYS = ("positions", "velocities", "forces", "potential_energy", "conserved_energy")


@pytest.mark.parametrize(
    ("ensemble", "replicas", "format"),
    [
        (ENSEMBLES[0], None, "hdf5"),
        pytest.param(ENSEMBLES[1], None, "xyz", marks=pytest.mark.slow),
        (ENSEMBLES[4], None, "hdf5"),
        pytest.param(ENSEMBLES[4], 2, "xyz", marks=pytest.mark.slow),
    ],
    ids=["nve", "langevin", "npt", "npt of replicas"],
)
def test_restart_with_lists_continues_bit_for_bit(
    argon, lennard_jones, tmp_path, ensemble, replicas, format
):
    settings = {"ensemble": ensemble, "every": 5, "chunk": 10, "replicas": replicas}
    settings["neighbors"] = neighbor_list(5.0, skin=0.8)  # renewed every few steps
    start = {"temperature": 400.0, "key": KEY}
    whole = run(lennard_jones, argon, steps=60, **settings, **start)
    with Writer(tmp_path, replicas=replicas, format=format) as writer:
        run(lennard_jones, argon, steps=23, writer=writer, **settings, **start)
    restart = read_restart(tmp_path / "restart.npz")
    assert not np.array_equal(restart.list_positions, restart.positions)
    second = run(lennard_jones, argon, steps=37, restart=restart, **settings)
    assert second.steps.tolist() == [25, 30, 35, 40, 45, 50, 55, 60]
    for name in ARRAYS:
        after = getattr(whole, name)[5:] if replicas is None else getattr(whole, name)[:, 5:]
        np.testing.assert_array_equal(getattr(second, name), after)
    if ensemble.moves_cell:
        np.testing.assert_array_equal(second.volume[..., -1], whole.volume[..., -1])
    for ours, theirs in zip(second.restart.leaves, whole.restart.leaves, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("ensemble", "replicas"),
    [(ENSEMBLES[1], None), (ENSEMBLES[2], None), (ENSEMBLES[2], 3), (ENSEMBLES[3], 3)],
    ids=["langevin", "nose-hoover", "nose-hoover of replicas", "csvr of replicas"],
)
def test_restart_of_molecules_continues_bit_for_bit(molecule, morse, ensemble, replicas):
    ensemble = dataclasses.replace(ensemble, timestep=0.5)  # hydrogen is fast
    settings = {"ensemble": ensemble, "every": 5, "chunk": 10, "replicas": replicas}
    whole = run(morse(), molecule, steps=50, temperature=300.0, key=KEY, **settings)
    first = run(morse(), molecule, steps=23, temperature=300.0, key=KEY, **settings)
    second = run(morse(), molecule, steps=27, restart=first.restart, **settings)
    frames = slice(5, None)
    for name in ARRAYS:
        expected = getattr(whole, name)[..., frames, :, :] if name in ARRAYS[:3] else getattr(
            whole, name)[..., frames]  # fmt: skip
        np.testing.assert_array_equal(getattr(second, name), expected)


def test_replicas_are_independent_runs(molecule, morse):
    settings = {"ensemble": langevin(0.5, 300.0, 0.01), "steps": 40, "every": 10}
    several = run(morse(), molecule, key=KEY, replicas=3, **settings)
    assert several.positions.shape == (3, 5, 5, 3)
    assert several.conserved_energy.shape == several.temperature.shape == (3, 5)
    assert several.replicas == 3
    assert np.std(several.positions[:, -1], axis=0).min() > 1e-4
    for index, key in enumerate(jax.random.split(KEY, 3)):
        alone = run(morse(), molecule, key=key, **settings)
        one = several.replica(index)
        assert one.replicas is alone.replicas is None
        np.testing.assert_allclose(one.positions, alone.positions, atol=1e-12)
        np.testing.assert_allclose(one.conserved_energy, alone.conserved_energy, atol=1e-12)
        # What is taken out can go on alone.
        run(morse(), molecule, restart=one.restart, **settings)


@pytest.mark.slow
def test_replicas_with_lists_agree_with_single_runs(argon, lennard_jones):
    settings = {"ensemble": nve(4.0), "steps": 60, "every": 20, "temperature": 300.0}
    settings["neighbors"] = neighbor_list(5.0, skin=0.5)
    several = run(lennard_jones, argon, key=KEY, replicas=2, **settings)
    for index, key in enumerate(jax.random.split(KEY, 2)):
        alone = run(lennard_jones, argon, key=key, **settings)
        np.testing.assert_allclose(several.positions[index], alone.positions, atol=1e-10)


def test_a_stack_starts_from_several_geometries(dimer, harmonic):
    starts = [dimer.replace(positions=dimer.positions * s) for s in (0.9, 1.0, 1.1)]
    settings = {"ensemble": nve(0.5), "steps": 30, "velocities": np.zeros((2, 3))}
    several = run(harmonic, stack(starts), **settings)
    for index, start in enumerate(starts):
        alone = run(harmonic, start, **settings)
        np.testing.assert_allclose(several.positions[index], alone.positions, atol=1e-12)
    with pytest.raises(ValueError, match="length of the stack, 3, got 2"):
        run(harmonic, stack(starts), replicas=2, **settings)


def test_a_failed_replica_names_itself_and_stops_all(dimer, harmonic):
    def breaks(system, neighbors=None):
        length = jnp.sqrt(jnp.sum((system.positions[1] - system.positions[0]) ** 2))
        return harmonic(system) + 1e-9 * jnp.sqrt(length - 1.12)

    # The first two are at rest near the minimum, the third swings into the wall.
    starts = [dimer.replace(positions=dimer.positions * s) for s in (0.93, 0.94, 1.0)]
    seen = []
    with pytest.raises(UnstableRunError, match=r"atom [01] \([CO]\) of replica 2") as caught:
        run(
            breaks, stack(starts), ensemble=nve(0.5), steps=1000, velocities=np.zeros((2, 3)),
            every=2, writer=seen.append,
        )  # fmt: skip
    assert caught.value.replicas == (2,)
    trajectory = caught.value.trajectory
    assert f"after step {trajectory.restart.step} (" in str(caught.value)
    assert trajectory.positions.shape[0] == 3
    assert np.isfinite(trajectory.positions).all()
    assert len(seen) == 2
    assert 0 < trajectory.restart.step < 100


@pytest.mark.slow
def test_lists_that_overflow_are_made_larger_and_the_step_repeated(
    argon, lennard_jones, lennard_jones_images, compilations
):
    # Pulled together by a harmonic force, atoms get many more neighbours than at the start.
    def squeezed(energy_fn):
        def energy(system, neighbors=None):
            middle = jnp.mean(system.positions, axis=0)
            pull = jnp.sum((system.positions - middle) ** 2)
            return energy_fn(system, neighbors) + 0.05 * pull

        energy.cutoffs = getattr(energy_fn, "cutoffs", ())
        return energy

    start = System(1.3 * np.asarray(argon.positions), argon.numbers)
    settings = {"ensemble": nve(2.0), "steps": 300, "every": 50, "velocities": np.zeros((32, 3))}
    listed = run(
        squeezed(lennard_jones), start, neighbors=neighbor_list(5.0, skin=0.5, capacity=1.0),
        **settings,
    )  # fmt: skip
    count = compilations.count("jit(advance)")
    assert count > 1

    def all_pairs(system, neighbors=None):
        return lennard_jones_images(system.replace(cell=100.0 * jnp.eye(3)))

    exact = run(squeezed(all_pairs), start, **settings)
    np.testing.assert_allclose(listed.positions, exact.positions, atol=1e-9)
    np.testing.assert_allclose(listed.potential_energy, exact.potential_energy, atol=1e-10)


@pytest.mark.slow
def test_a_moving_cell_has_right_lists(argon, lennard_jones, lennard_jones_images):
    # Compressed by a fifth of its volume and more.
    squeeze = npt(4.0, 50.0, 0.004, 1e-4, 1000.0)
    settings = {"ensemble": squeeze, "steps": 150, "every": 10, "temperature": 50.0, "key": KEY}
    listed = run(lennard_jones, argon, neighbors=neighbor_list(5.0, skin=0.5), **settings)
    exact = run(lennard_jones_images, argon, **settings)
    assert listed.volume[-1] < 0.9 * listed.volume[0]
    np.testing.assert_allclose(listed.volume, exact.volume, rtol=1e-10)
    np.testing.assert_allclose(listed.positions, exact.positions, atol=1e-8)
    np.testing.assert_allclose(listed.conserved_energy, exact.conserved_energy, atol=1e-8)
