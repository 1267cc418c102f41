"""Units and signs of forces, from equipartition."""

import numpy as np
import pytest

from jaxff.coarse.checks import check_units, equipartition_ratio
from jaxff.system import System
from jaxff.units import BOLTZMANN

THERMAL = 300.0 * BOLTZMANN
STIFF, SOFT, LENGTH = 20.0, 2.0, 1.5


def chain(count, rng, bias=0.0):
    """Three beads: a stiff spring of a length, and a soft one to a place in the frame of the first.

    ``bias`` is what a restraint adds to the stiff spring; forces are without.
    """
    tried = rng.uniform(0.9, 2.1, 200 * count)
    energy = 0.5 * (STIFF + bias) * (tried - LENGTH) ** 2
    chance = tried**2 * np.exp(-(energy - energy.min()) / THERMAL)
    length = rng.choice(tried, count, p=chance / chance.sum())
    way = rng.normal(size=(count, 3))
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    first = 10 * rng.normal(size=(count, 3))
    loose = np.sqrt(THERMAL / SOFT) * rng.normal(size=(count, 3))
    pull = -STIFF * (length - LENGTH)[:, None] * way
    forces = np.stack([SOFT * loose - pull, pull, -SOFT * loose], axis=1)
    places = np.stack([first, first + length[:, None] * way, first + loose + 4.0], axis=1)
    noise = 0.5 * rng.normal(size=forces.shape)
    return System(places, [1, 1, 1]), forces + noise, length


def test_forces_answer_stretches_as_equipartition_asks():
    systems, forces, _ = chain(4000, np.random.default_rng(1))
    ratio, error = equipartition_ratio(systems, forces, 300.0)
    assert error < 0.05
    assert abs(ratio - 1.0) < 3 * error
    assert check_units(systems, forces, 300.0) == (ratio, error)


@pytest.mark.parametrize(
    ("factor", "kelvin", "words"),
    [
        (23.06, 300.0, "kcal/mol/Å"), (-1.0, 300.0, "gradients"), (8.0, 300.0, "their unit"),
        (96.5, 300.0, "kJ/mol/Å"), (1.0, 3.0, "at 3 K"), (1000.0, 300.0, "they look like"),
    ],
)  # fmt: skip
def test_a_hundred_frames_tell_wrong_units(factor, kelvin, words):
    for seed in range(3):
        systems, forces, _ = chain(100, np.random.default_rng(seed))
        with pytest.raises(ValueError, match=words):
            check_units(systems, factor * forces, kelvin)


def test_frames_of_a_bias_count_with_their_weights():
    bias = 40.0
    systems, forces, length = chain(4000, np.random.default_rng(2), bias)
    weights = np.exp(0.5 * bias * (length - LENGTH) ** 2 / THERMAL)
    ratio, error = equipartition_ratio(systems, forces, 300.0, weights)
    assert abs(ratio - 1.0) < 4 * error < 0.5
    plain, small = equipartition_ratio(systems, forces, 300.0)
    assert abs(plain - 1.0) > 4 * small


def test_what_cannot_be_told():
    systems, forces, _ = chain(40, np.random.default_rng(3))
    rng = np.random.default_rng(4)
    with pytest.warns(UserWarning, match="40 frames are too few"):
        check_units(systems, forces + 40.0 * rng.normal(size=forces.shape), 300.0)
    with pytest.raises(ValueError, match="shape of the positions"):
        check_units(systems, forces[:, 1:], 300.0)
    with pytest.raises(ValueError, match="none negative"):
        check_units(systems, forces, 300.0, np.zeros(40))
    still = System(np.repeat(np.asarray(systems.positions)[:1], 5, axis=0), [1, 1, 1])
    with pytest.raises(ValueError, match="no distance between beads changes"):
        check_units(still, forces[:5], 300.0)
