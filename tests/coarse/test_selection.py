"""Selection by held-out blocks, on noise of known variance."""

import numpy as np
import pytest

from coarse.noisy import NOISE, dimers, double_well
from jaxff.coarse import block_folds, cells
from jaxff.coarse.ensemble import Layer, predict_forces
from jaxff.coarse.inducing import fit_inducing
from jaxff.coarse.selection import (
    best,
    cross_validate,
    decompose,
    lengthscales,
    regularize,
    scan,
)
from jaxff.descriptors import inverse_distances
from jaxff.kernels import Kernel, matern52
from jaxff.numerics import select

KERNEL = Kernel(inverse_distances, matern52)
BATCH = 100
FIRST, SECOND = 0.003, 1e-4


def layer(lengthscale, regularization):
    return Layer(KERNEL, {"lengthscale": lengthscale}, regularization)


@pytest.fixture(scope="module")
def trajectory():
    systems, forces, _, distance = dimers(double_well, 1500, np.random.default_rng(0))
    return systems, forces, cells(distance[:, None], 300, [(1.0, 2.0)])


def test_a_scan_finds_the_length_scale_and_the_noise(trajectory):
    systems, forces, occupied = trajectory
    told = []
    scores = scan(
        [layer(0.3, FIRST), layer(0.02, FIRST)], [layer(0.3, SECOND), layer(30.0, SECOND)],
        systems, forces, occupied, block_folds(1500, 2),
        batch=BATCH, batches=6, second=60, held_out=500, progress=lambda *n: told.append(n),
    )  # fmt: skip
    assert told[-1] == (24, 24)
    chosen = best(scores)
    assert (chosen.first, chosen.second) == (0, 0)
    assert chosen.errors.shape == (2,)
    # Held-out frames are 500 × 6 numbers in each fold: noise is known to 2 % altogether.
    np.testing.assert_allclose(chosen.error, NOISE**2, rtol=0.06)
    assert np.all(chosen.averaged < chosen.single)
    parts = decompose(scores)
    assert min(part.bias for part in parts) == 0.0
    assert parts[1].bias > parts[0].bias + 0.01 * NOISE**2  # a second layer that is too smooth
    # Of rough models the smooth second layer keeps less variance than of smooth ones.
    kept = [np.mean(score.kept * score.models / score.variance) for score in scores]
    assert 0.2 < kept[0] < 2.0
    assert kept[2] < kept[0]
    known = decompose(scores, NOISE**2)
    for score, part in zip(scores, known, strict=True):
        assert sum(part) == pytest.approx(score.error)
    assert abs(known[0].bias) < 0.06 * NOISE**2
    with pytest.raises(ValueError, match="empty"):
        scan([], [], systems, forces, occupied, [])
    with pytest.raises(ValueError, match="all 1500 frames"):
        scan([layer(0.3, 1.0)], [layer(0.3, 1.0)], systems, forces, occupied[:9], block_folds(9, 2))
    assert np.isnan(chosen._replace(errors=chosen.errors[:1]).standard_error)
    assert chosen.standard_error > 0


def test_a_single_layer_is_the_baseline(trajectory):
    """On held-out frames: noise, and what a hundred frames do not tell."""
    systems, forces, _ = trajectory
    some = np.arange(2 * BATCH)
    pick = select(systems, some)
    folds, seen = block_folds(2 * BATCH, 2), []

    def fit(own, labels, train):
        seen.append(train)
        np.testing.assert_array_equal(labels, forces[train])
        return layer(0.3, 0.03).fit(own, labels)[0]

    errors = cross_validate(fit, pick, forces[some], folds)
    assert [len(train) for train in seen] == [BATCH] * 2
    np.testing.assert_allclose(errors, NOISE**2, rtol=0.3)
    model, _ = layer(0.3, 0.03).fit(select(pick, folds[0].train), forces[folds[0].train])
    left = predict_forces(model, pick)[folds[0].held_out] - forces[folds[0].held_out]
    np.testing.assert_allclose(errors[0], np.mean(left**2))


def test_the_regularization_is_found_from_either_side(trajectory):
    systems, forces, occupied = trajectory
    shared = {"batch": BATCH, "batches": 3, "second": 60, "held_out": 500}
    found = []
    for begin in (1e-4, 1.0):
        made, errors = regularize(
            layer(0.3, begin), layer(0.3, SECOND), systems, forces, occupied,
            block_folds(1500, 2)[:1], **shared,
        )  # fmt: skip
        assert made.regularization == min(errors, key=lambda value: errors[value])
        assert errors[made.regularization] < errors[begin]
        found.append(made.regularization)
    assert abs(np.log10(found[0] / found[1])) <= 1.0


def test_length_scales_are_chosen_as_the_true_mean_force_would():
    systems, forces, mean, distance = dimers(double_well, 900, np.random.default_rng(0))
    occupied = cells(distance[:, None], 300, [(1.0, 2.0)])
    found = lengthscales(KERNEL, systems, forces, occupied, inducing=20)
    tried = np.array(list(found))
    assert 4.0 in tried
    np.testing.assert_allclose(np.log2(tried), np.round(np.log2(tried)))
    chosen = min(found, key=lambda value: found[value])
    np.testing.assert_allclose(found[chosen], NOISE**2, rtol=0.1)

    def true_error(value):
        made = fit_inducing(
            systems, forces, occupied, KERNEL, {"lengthscale": value}, inducing=20, seed=0,
            folds=block_folds(900, 3),
        )  # fmt: skip
        return np.mean((predict_forces(made.model, systems) - mean) ** 2)

    assert true_error(chosen) < 0.5 * min(true_error(0.02), true_error(64.0))
    with pytest.raises(ValueError, match="all 900 frames"):
        lengthscales(KERNEL, systems, forces, occupied[:9])
