"""Ensembles of beads beside that of a trajectory: numbers, their errors, what noise explains."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxff import bind, units
from jaxff.coarse import block_folds, priors
from jaxff.coarse.comparison import compared, ensemble_of, simulate
from jaxff.coarse.config import Config
from jaxff.coarse.fitting import Task
from jaxff.coarse.sections import Compare, Prior, Simulate, Trajectory, Variables
from jaxff.system import System

KELVIN = 300.0


def config(**more):
    return Config(
        KELVIN, Trajectory(), Variables(dihedrals=((0, 1, 2, 3),)), {},
        prior=Prior(bonds=((2, 3),)),
        compare=Compare(bins=12, states={"right": [[0, 180]]}, **more),
    )  # fmt: skip


def chains(turns, rng):
    """Four beads whose dihedral is given in degrees; the last bond trembles."""
    turns = np.radians(turns)
    places = np.zeros((*turns.shape, 4, 3))
    places[..., 0, :] = [1.0, 1.0, 0.0]
    places[..., 1, :] = [1.0, 0.0, 0.0]
    way = np.stack([np.zeros_like(turns), np.cos(turns), np.sin(turns)], axis=-1)
    length = 1.0 + 0.05 * rng.normal(size=turns.shape)
    places[..., 3, :] = length[..., None] * way
    return places


@pytest.fixture(scope="module")
def reference():
    rng = np.random.default_rng(0)
    return ensemble_of(config(), chains(rng.vonmises(0.5, 1.0, 20_000) * 180 / np.pi, rng))


def replicas(seed, shift=0.5, count=(20, 100)):
    rng = np.random.default_rng(seed)
    return ensemble_of(config(), chains(rng.vonmises(shift, 1.0, count) * 180 / np.pi, rng))


def test_noise_explains_the_difference_of_equals(reference):
    found = [compared(config(), replicas(seed), reference) for seed in range(1, 31)]
    squares = np.array([each["mean_squared_difference_kT2"] for each in found])
    noise = np.array([each["noise_kT2"] for each in found])
    # A constant is taken off the difference: one of the bins' worth of noise is not seen.
    assert np.mean(squares) == pytest.approx(np.mean(noise), rel=0.35)
    shannon = np.array([each["jensen_shannon"] for each in found])
    told = np.mean([each["jensen_shannon_error"] for each in found])
    assert 0.3 < told / np.std(shannon) < 3.0
    other = compared(config(), replicas(1, shift=2.0), reference)
    assert other["mean_squared_difference_kT2"] > 10 * other["noise_kT2"]
    error = other["mean_squared_difference_error_kT2"]
    spread = [
        compared(config(), replicas(seed, shift=2.0), reference)["mean_squared_difference_kT2"]
        for seed in range(2, 22)
    ]
    assert error == pytest.approx(np.std(spread), rel=0.6)


def test_a_model_that_stays_in_place_or_drifts_away_is_told(reference):
    rng = np.random.default_rng(2)
    still = ensemble_of(config(), chains(np.full((12, 10), 20.0), rng))
    found = compared(config(), still, reference)
    assert found["mean_squared_difference_kT2"] == 0.0
    assert found["visited_share"] < 0.2
    assert found["kullback_leibler"] is None
    low = config(below=0.2)
    away = compared(low, ensemble_of(low, chains(np.full((12, 10), -160.0), rng)), reference)
    assert away["mean_squared_difference_kT2"] is None
    assert away["visited_share"] == 0.0
    assert away["jensen_shannon"] == pytest.approx(np.log(2), abs=0.1)


def test_one_outlier_does_not_hide_bonds(reference):
    rng = np.random.default_rng(3)
    places = chains(rng.vonmises(0.5, 1.0, (20, 100)) * 180 / np.pi, rng)
    places[..., 3, :] *= 1.1
    (before,) = compared(config(), ensemble_of(config(), places), reference)["bonds_jensen_shannon"]
    places[0, 0, 3] *= 20.0
    (after,) = compared(config(), ensemble_of(config(), places), reference)["bonds_jensen_shannon"]
    assert before > 0.2
    assert after == pytest.approx(before, rel=0.01)


def test_runs_that_remember_their_starts(reference):
    rng = np.random.default_rng(4)
    turns = np.where(np.arange(100) < 50, -40.0, 40.0) + rng.normal(size=(20, 100))
    found = compared(config(), ensemble_of(config(), chains(turns, rng)), reference)
    (first, last) = found["populations_of_halves"]["right"]
    assert (first[0], last[0]) == (1.0, 0.0)
    assert "populations_of_halves" not in compared(config(), reference, reference)


def test_the_frame_that_a_replica_starts_from_does_not_count():
    rng = np.random.default_rng(5)
    places = chains(np.linspace(-170, 170, 40), rng)
    task = Task(
        System(places, [6, 6, 6, 6]), np.zeros_like(places), np.zeros(40, int),
        block_folds(40, 2)[0], None,
    )  # fmt: skip
    springs = priors.harmonic_bonds([(0, 1), (1, 2), (2, 3)])
    values = {"length": jnp.ones(3), "stiffness": 5.0 * jnp.ones(3)}
    model = bind(springs, springs.init(jax.random.key(0), task.systems, **values))
    for discard, frames in ((0.0, 3), (0.5, 2)):
        own = config()
        section = Simulate(steps=30, every=10, replicas=4, discard=discard)
        found = simulate(
            Config(**{**vars(own), "simulate": section}), model, task,
            units.masses(np.array([6, 6, 6, 6])),
        )  # fmt: skip
        assert found.shape == (4, frames, 4, 3)
        starts = np.float32(places)[:, None]
        assert np.abs(found[:, :1] - starts[:, None, 0][:4]).max() > 0.0
        assert not any(np.array_equal(found[0, 0], start[0]) for start in starts)
