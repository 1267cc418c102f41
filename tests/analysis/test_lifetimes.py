"""Replicas of which some fail: the others must not notice."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxff import System, dynamics
from jaxff.analysis import lifetimes
from jaxff.system import stack

TIMESTEP, STEPS = 1.0, 120
KEY = jax.random.key(3)


def morse_with_an_edge(system, neighbors=None):
    """A bond of 4 eV that a hard throw breaks; closer than 0.8 Å there is no energy."""
    length = jnp.sqrt(jnp.sum((system.positions[1] - system.positions[0]) ** 2))
    return 4.0 * (1 - jnp.exp(-2.0 * (length - 1.15))) ** 2 + 1e-9 * jnp.sqrt(length - 0.8)


@pytest.fixture(scope="module")
def energy_fn():
    return jax.tree_util.Partial(morse_with_an_edge)


@pytest.fixture(scope="module")
def start():
    """Rests near the minimum, flies apart, rests, and later swings into the wall."""
    lengths, speeds = [1.16, 1.2, 1.14, 2.2], [0.0, 0.15, 0.0, -0.1]
    positions = np.zeros((4, 2, 3))
    positions[:, 1, 0] = lengths
    velocities = np.zeros((4, 2, 3))
    velocities[:, 1, 0] = speeds
    return stack([System(x, [6, 8]) for x in positions]), velocities


@pytest.fixture(scope="module")
def found(energy_fn, start):
    systems, velocities = start
    seen = []
    result = lifetimes(
        energy_fn, systems, ensemble=dynamics.langevin(TIMESTEP, 10.0, 1e-4), steps=STEPS,
        key=KEY, velocities=velocities, segment=50, every=2,
        progress=lambda step, alive: seen.append((step, alive.tolist())),
    )  # fmt: skip
    return result, seen


def test_each_failure_is_dated_and_named(found):
    result, seen = found
    assert result.failed.tolist() == [False, True, False, True]
    assert result.exploded.tolist() == [False, False, False, True]
    np.testing.assert_array_equal(result.times[[0, 2]], STEPS * TIMESTEP)
    assert 0 < result.times[1] < result.times[3] < 50
    stopped = round(result.times[3] / TIMESTEP) - 1
    assert seen == [(step, [0, 2]) for step in (stopped, stopped + 50, stopped + 100, STEPS)]
    broken = result.trajectories[1]
    lengths = np.linalg.norm(broken.positions[:, 1] - broken.positions[:, 0], axis=-1)
    assert broken.times[np.argmax(lengths > 1.5 * lengths[0])] == result.times[1]
    assert result.survival.failures == 2
    assert result.survival.replicas == 4


def test_those_that_remain_run_as_if_alone(found, energy_fn, start):
    systems, velocities = start
    keys = jax.random.split(KEY, 4)
    alone = dynamics.run(
        energy_fn, jax.tree.map(lambda x: x[2], systems), key=keys[2], velocities=velocities[2],
        ensemble=dynamics.langevin(TIMESTEP, 10.0, 1e-4), steps=STEPS, every=2,
    )  # fmt: skip
    kept = found[0].trajectories[2]
    # where the others left, there is one more frame of the last step before, or none
    both, ours, theirs = np.intersect1d(kept.steps, alone.steps, return_indices=True)
    assert len(both) == STEPS // 2 + 1
    np.testing.assert_allclose(kept.positions[ours], alone.positions[theirs], atol=1e-10)


def test_a_state_of_one_replica_has_none_to_take(found):
    with pytest.raises(ValueError, match="no replicas to take"):
        found[0].trajectories[0].restart.take(0)


def test_refuses(energy_fn, start):
    systems, _ = start
    run = partial(lifetimes, energy_fn, ensemble=dynamics.nve(1.0), steps=2, key=KEY)
    with pytest.raises(ValueError, match=r"shape \(4,\) and replicas=3"):
        run(systems, replicas=3)
    with pytest.raises(ValueError, match="single system and a number"):
        run(jax.tree.map(lambda x: x[0], systems))
    with pytest.raises(ValueError, match="at least 1 step"):
        run(systems, segment=0)
