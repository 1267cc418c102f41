import jax
import numpy as np
import pytest
from kernel_models import SWAP, morse_labels, powers, water
from models import run

from jaxff import bind, forces, gdml
from jaxff.descriptors import inverse_distances
from jaxff.kernels import GlobalSymmetry, Kernel, Scaled, Sum, matern52, rbf
from jaxff.linalg import solvers

POTENTIAL = gdml.potential(Kernel(inverse_distances, matern52, SWAP))
TRAIN, VALID = water(6), water(12, seed=1)
FORCES, VALID_FORCES = morse_labels(TRAIN)[1], morse_labels(VALID)[1]
OPTIONS = {"solver": solvers.cholesky(), "regularization": 1e-9}


def tune(lengthscales, **changes):
    arguments = {"valid_systems": VALID, "valid_forces": VALID_FORCES, **OPTIONS, **changes}
    return gdml.tune(POTENTIAL, TRAIN, {"forces": FORCES}, lengthscales=lengthscales, **arguments)


@pytest.fixture(scope="module")
def result():
    seen = []
    return tune([30.0, 0.1, 3.0, 0.01, 3.0, 1000.0], progress=seen.append), seen


def test_the_best_length_scale_has_the_lowest_error(result):
    tuning, _ = result
    assert tuning.best.rmse == min(t.rmse for t in tuning.trials)
    assert float(tuning.params["hyper"]["lengthscale"]) == tuning.best.lengthscale
    found = run(forces(bind(POTENTIAL, tuning.params)), VALID)
    assert np.isclose(tuning.best.rmse, np.sqrt(np.mean((found - VALID_FORCES) ** 2)), rtol=1e-10)


def test_trials_ascend_and_stop_at_the_first_rise(result):
    tuning, seen = result
    tried = [t.lengthscale for t in tuning.trials]
    assert tried == sorted(set(tried))
    errors = [t.rmse for t in tuning.trials]
    assert np.all(np.diff(errors[:-1]) < 0)
    assert len(errors) == 5 or errors[-1] >= errors[-2]
    assert tuple(seen) == tuning.trials


def test_the_fit_of_the_best_trial_is_returned(result):
    tuning, _ = result
    params = POTENTIAL.init(
        jax.random.key(0), TRAIN, hyper={"lengthscale": tuning.best.lengthscale}
    )
    params, _ = gdml.fit(POTENTIAL, params, {"forces": FORCES}, **OPTIONS)
    expected = params["coefficients"]["forces"]
    assert np.allclose(tuning.params["coefficients"]["forces"], expected, rtol=1e-12)


def test_the_boundary_is_reported():
    assert tune([0.01, 0.02]).on_boundary  # the larger is better, and more might be better still
    rising = tune([3.0, 1e4])
    assert rising.best.lengthscale == 3.0
    assert rising.on_boundary  # the smallest is best
    assert len(rising.trials) == 2
    inside = tune([0.01, 3.0, 1e4])
    assert inside.best.lengthscale == 3.0
    assert not inside.on_boundary


def test_one_length_scale_needs_no_validation():
    tuning = tune([2.0], valid_systems=None, valid_forces=None)
    assert np.isnan(tuning.best.rmse)
    assert not tuning.on_boundary
    assert tuning.best.info.converged


@pytest.mark.parametrize(
    ("lengthscales", "changes", "message"),
    [
        ([], {}, "positive numbers"),
        ([1.0, 0.0], {}, "positive numbers"),
        ([np.nan], {}, "positive numbers"),
        ([1.0, 2.0], {"valid_systems": None}, "needs a validation set"),
        ([1.0, 2.0], {"valid_forces": VALID_FORCES[:3]}, r"shape \(12, 3, 3\), got \(3, 3, 3\)"),
        ([1.0, 2.0], {"valid_forces": VALID_FORCES[0]}, r"shape \(12, 3, 3\), got \(3, 3\)"),
        ([1.0], {"valid_forces": np.full((12, 3, 3), np.nan)}, "finite"),
        ([1.0, 2.0], {"valid_forces": None}, "valid_forces"),
    ],
)
def test_unusable_arguments_are_refused(lengthscales, changes, message):
    with pytest.raises(ValueError, match=message):
        tune(lengthscales, **changes)


def test_hyperparameters_of_the_descriptor_stay_fixed():
    potential = gdml.potential(Kernel(powers, matern52, SWAP))
    tuning = gdml.tune(
        potential, TRAIN, {"forces": FORCES}, VALID, VALID_FORCES,
        lengthscales=[2.0, 4.0], hyper={"exponent": 2.0}, **OPTIONS,
    )  # fmt: skip
    assert float(tuning.params["hyper"]["exponent"]) == 2.0


def composed(kernel, lengthscales=(1.0,), **hyper):
    return gdml.tune(
        gdml.potential(kernel), water(6), {"forces": morse_labels(water(6))[1]},
        water(5, seed=1), morse_labels(water(5, seed=1))[1],
        lengthscales=lengthscales, hyper=hyper,
        solver=solvers.cholesky(), regularization=1e-9,
    )  # fmt: skip


def test_length_scales_of_composed_kernels_are_found():
    plain, other = Kernel(inverse_distances, matern52), Kernel(inverse_distances, rbf)
    tuning = composed(plain + other, (0.3, 1.0), **{"1.lengthscale": 0.7})
    hyper = tuning.params["hyper"]
    assert hyper["0.lengthscale"] == tuning.best.lengthscale
    assert hyper["1.lengthscale"] == 0.7
    assert len(tuning.trials) == 2
    with pytest.raises(ValueError, match=r"no length scale to choose: .*hyper fixes"):
        composed(plain * other, **{"0.lengthscale": 1.0, "1.lengthscale": 1.0})


@pytest.mark.slow
def test_products_scaled_and_symmetric_kernels_are_tuned():
    plain, other = Kernel(inverse_distances, matern52), Kernel(inverse_distances, rbf)
    both = composed(Sum((plain * other, other), ("x", "y"))).params["hyper"]
    assert {k: float(v) for k, v in both.items()} == dict.fromkeys(
        ("x.0.lengthscale", "x.1.lengthscale", "y.lengthscale"), 1.0
    )
    scaled = composed(Scaled(GlobalSymmetry(plain, SWAP)), (0.8, 1.6), scale=2.0)
    assert scaled.params["hyper"]["lengthscale"] == scaled.best.lengthscale
    assert scaled.params["hyper"]["scale"] == 2.0


def test_a_length_scale_that_cannot_be_solved_ends_the_search():
    """Long length scales make the matrix singular; earlier fits are not lost."""

    def fragile(operator, rhs, diagonal):
        if operator.hyper["lengthscale"] > 2.0:
            raise np.linalg.LinAlgError("not positive definite")
        return solvers.cholesky()(operator, rhs, diagonal)

    tuning = tune([1.0, 3.0], solver=fragile)
    assert tuning.best.lengthscale == 1.0
    assert len(tuning.trials) == 1
    assert tuning.on_boundary
    assert tuning.refused == (3.0, "not positive definite")
    larger = tune([0.01, 1.0, 3.0], solver=fragile)
    assert larger.best.lengthscale == 1.0
    assert not larger.on_boundary  # nothing longer can be fitted
    with pytest.raises(np.linalg.LinAlgError):
        tune([3.0, 4.0], solver=fragile)


def test_an_iteration_that_does_not_end_ends_the_search():
    def slow(operator, rhs, diagonal):
        solution = solvers.cholesky()(operator, rhs, diagonal)
        return solution._replace(converged=operator.hyper["lengthscale"] < 2.0)

    tuning = tune([1.0, 3.0], solver=slow)
    assert tuning.best.lengthscale == 1.0
    assert tuning.refused is not None
    assert "stopped at a relative residual" in tuning.refused[1]
    with pytest.raises(gdml.UnconvergedError):
        tune([3.0], solver=slow)
