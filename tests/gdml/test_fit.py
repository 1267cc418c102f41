import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernel_models import CASES, SWAP, morse_labels, water
from models import run, springs

from jaxff import add, bind, energy_and_forces, gdml, units
from jaxff.descriptors import inverse_distances
from jaxff.gdml.operator import GdmlOperator
from jaxff.kernels import Kernel, matern52
from jaxff.linalg import preconditioners, solvers
from jaxff.linalg.solvers import Solution
from jaxff.potential import Potential
from jaxff.system import System

KEY = jax.random.key(0)
NAMES = ["ethanol_200", pytest.param("malonaldehyde_200", marks=pytest.mark.slow), "si64_periodic"]
KERNEL = Kernel(inverse_distances, matern52, SWAP)
POTENTIAL = gdml.potential(KERNEL)
SYSTEMS, OTHERS = water(8), water(40, seed=1)
ENERGIES, FORCES = morse_labels(SYSTEMS)
LABELS = {"forces": FORCES, "energy": ENERGIES}


def placed(lengthscale: float = 2.0):
    return POTENTIAL.init(KEY, SYSTEMS, hyper={"lengthscale": lengthscale})


def fitted(labels=LABELS, **changes):
    options = {"solver": solvers.cholesky(), "regularization": 1e-8, **changes}
    return gdml.fit(POTENTIAL, placed(), labels, **options)


def predict(params, systems):
    energies, forces = run(energy_and_forces(bind(POTENTIAL, params)), systems)
    return np.asarray(energies), np.asarray(forces)


def test_small_regularization_reproduces_the_forces():
    params, info = fitted({"forces": FORCES}, regularization=1e-11)
    _, forces = predict(params, SYSTEMS)
    assert np.abs(forces - FORCES).max() < 1e-7 * np.abs(FORCES).max()
    assert info.size == FORCES.size
    assert np.isclose(info.scale, FORCES.std())
    assert info.regularization == 1e-11
    assert info.residual_norm < 1e-9
    assert info.converged
    assert info.iterations == 0
    assert info.seconds > 0


def test_the_fit_generalises():
    params, _ = fitted({"forces": FORCES})
    params, report = gdml.fit_constant(POTENTIAL, params, ENERGIES)
    energies, forces = morse_labels(OTHERS)
    found = predict(params, OTHERS)
    assert report.warnings == ()
    assert np.abs(found[1] - forces).mean() < 0.2 * np.abs(forces).mean()
    assert np.corrcoef(found[0], energies)[0, 1] > 0.99
    assert abs(np.mean(found[0] - energies)) < 0.2 * energies.std()


@pytest.mark.parametrize(
    ("lengthscale", "message"),
    [
        (1e8, "lengthscale = 1e[+]08 .* the same .* shorten"),
        (1e-3, "nothing in common .* lengthen"),
    ],
)
def test_length_scales_of_a_wrong_magnitude_are_told(lengthscale, message):
    options = {"solver": solvers.cholesky(), "regularization": 1e-8}
    with pytest.warns(UserWarning, match=message):
        gdml.fit(POTENTIAL, placed(lengthscale), LABELS, **options)


def test_a_single_geometry_has_any_length_scale():
    """There is nothing that it could be compared with; warnings are errors here."""
    one = jax.tree.map(lambda leaf: leaf[jnp.zeros(8, int)], SYSTEMS)
    params = POTENTIAL.init(KEY, one, hyper={"lengthscale": 1e8})
    gdml.fit(POTENTIAL, params, LABELS, solver=solvers.cholesky(), regularization=1e-8)


def test_input_parameters_stay_as_they_were():
    start = placed()
    before = jax.tree.map(np.array, start)
    gdml.fit(POTENTIAL, start, LABELS, solver=solvers.cholesky(), regularization=1e-8)
    assert jax.tree.all(jax.tree.map(np.array_equal, before, start))


def test_energies_among_the_labels_are_reproduced_too():
    params, info = fitted(regularization=1e-11)
    energies, forces = predict(params, SYSTEMS)
    assert info.size == FORCES.size + 8
    assert np.abs(energies - ENERGIES).max() < 1e-6 * ENERGIES.std()
    assert np.abs(forces - FORCES).max() < 1e-6 * np.abs(FORCES).max()
    assert np.isclose(params["constant"], ENERGIES.mean())


def numpy_solution(regularization):
    """Energy-constrained fit by the formulas of sGDML alone: loops, closed forms, dense solve."""
    x, jacobians = [], []
    for r in np.asarray(SYSTEMS.positions):
        pairs = [(1, 0), (2, 0), (2, 1)]
        distance = [np.linalg.norm(r[a] - r[b]) for a, b in pairs]
        jacobian = np.zeros((3, 3, 3))
        for row, (a, b) in enumerate(pairs):
            jacobian[row, a] = -(r[a] - r[b]) / distance[row] ** 3
            jacobian[row, b] = -jacobian[row, a]
        x.append(1 / np.array(distance))
        jacobians.append(jacobian.reshape(3, 9))
    swap = [[0, 1, 2], [1, 0, 2]]  # pairs (1,0) and (2,0) change places with the hydrogens
    n, sigma = len(x), 2.0
    matrix = np.zeros((10 * n, 10 * n))
    for i in range(n):
        for j in range(n):
            f, e = 9 * n + i, 9 * n + j
            rows, columns = slice(9 * i, 9 * i + 9), slice(9 * j, 9 * j + 9)
            for p in swap:
                d, jp = x[i] - x[j][p], jacobians[j][p]
                t = np.sqrt(5) * np.linalg.norm(d) / sigma
                factor = 5 / (3 * sigma**4) * np.exp(-t)
                inner = factor * (sigma**2 * (1 + t) * np.eye(3) - 5 * np.outer(d, d))
                slope = -factor * sigma**2 * (1 + t) * d  # dk/dx_i
                matrix[rows, columns] += jacobians[i].T @ inner @ jp
                matrix[rows, e] += -jacobians[i].T @ slope
                matrix[f, columns] += jp.T @ slope
                matrix[f, e] += (1 + t + t**2 / 3) * np.exp(-t)
    labels = np.append(FORCES.ravel(), ENERGIES - ENERGIES.mean())
    return np.linalg.solve(matrix + np.diag(regularization), labels), matrix


def test_energy_constraints_equal_an_independent_solution():
    params, _ = fitted(regularization=1e-6, noise={"energy": 0.02, "forces": 0.05})
    scale = FORCES.std()
    diagonal = 1e-6 + np.repeat([(0.05 / scale) ** 2, (0.02 / scale) ** 2], [72, 8])
    expected, matrix = numpy_solution(diagonal)
    operator = GdmlOperator(KERNEL, {"lengthscale": jnp.asarray(2.0)}, SYSTEMS, True)
    assert np.allclose(operator.dense(), matrix, rtol=0, atol=1e-12 * matrix.max())
    found = operator.ravel(params["coefficients"])
    assert np.allclose(found, expected, rtol=0, atol=1e-9 * np.abs(expected).max())
    energies, forces = predict(params, SYSTEMS)
    predicted = matrix @ expected
    assert np.allclose(forces.ravel(), predicted[:72], rtol=0, atol=1e-9 * np.abs(FORCES).max())
    assert np.allclose(energies - ENERGIES.mean(), predicted[72:], rtol=0, atol=1e-9)


def test_noise_moves_the_weight_between_energies_and_forces():
    def errors(noise):
        params, _ = fitted(noise=noise)
        energies, forces = predict(params, SYSTEMS)
        return np.abs(energies - ENERGIES).max(), np.abs(forces - FORCES).max()

    even = errors({"energy": 0.1, "forces": 0.1})
    sharp_energies = errors({"energy": 1e-4, "forces": 0.1})
    sharp_forces = errors({"energy": 0.1, "forces": 1e-4})
    assert sharp_energies[0] < 0.1 * even[0]
    assert sharp_forces[1] < 0.1 * even[1]
    assert sharp_energies[1] > sharp_forces[1]


def test_relative_regularization_is_a_multiple_of_the_mean_diagonal():
    operator = GdmlOperator(KERNEL, {"lengthscale": jnp.asarray(2.0)}, SYSTEMS)
    mean = float(np.mean(np.diag(operator.dense())))
    relative, info = fitted({"forces": FORCES}, regularization=1e-5, relative=True)
    absolute, _ = fitted({"forces": FORCES}, regularization=1e-5 * mean)
    assert np.isclose(info.regularization, 1e-5 * mean, rtol=1e-12)
    assert np.allclose(
        relative["coefficients"]["forces"], absolute["coefficients"]["forces"], rtol=1e-8
    )


def test_more_regularization_means_smaller_coefficients():
    sizes = [
        float(
            jnp.linalg.norm(
                fitted({"forces": FORCES}, regularization=r)[0]["coefficients"]["forces"]
            )
        )
        for r in (1e-8, 1e-4, 1.0)
    ]
    assert sizes[0] > sizes[1] > sizes[2]


def test_a_refit_starts_from_nothing():
    """Coefficients of an earlier fit, with energies, leave no trace."""
    first, _ = fitted()
    options = {"solver": solvers.cholesky(), "regularization": 1e-8}
    again, _ = gdml.fit(POTENTIAL, first, {"forces": FORCES}, **options)
    fresh, _ = fitted({"forces": FORCES})
    assert np.array_equal(again["coefficients"]["forces"], fresh["coefficients"]["forces"])
    assert set(again["expansion"]) == set(fresh["expansion"])


@pytest.mark.parametrize("name", ["rbf", "periodic", "generic"])
def test_other_kernels_fit_too(name):
    case = CASES[name]()
    _, forces = morse_labels(case.references)
    potential = gdml.potential(case.kernel)
    params = potential.init(KEY, case.references, hyper={"lengthscale": case.lengthscale})
    forces = (
        forces
        if case.references.cell is None
        else np.sin(np.arange(forces.size)).reshape(forces.shape)
    )
    forces = forces - forces.mean(axis=1, keepdims=True)
    params, info = gdml.fit(
        potential, params, {"forces": forces}, solver=solvers.cholesky(), regularization=1e-6
    )
    operator = GdmlOperator(case.kernel, case.hyper, case.references)
    coefficients = operator.ravel(params["coefficients"])
    found = run(energy_and_forces(bind(potential, params)), case.references)[1]
    assert np.allclose(
        np.asarray(found).ravel() + 1e-6 * coefficients, forces.ravel(), rtol=0, atol=1e-7
    )
    assert info.residual_norm < 1e-7


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({}, r"labels must be some of .* got \[\]"),
        ({**LABELS, "temperature": 0.0}, "'temperature'"),
        ({**LABELS, "stress": np.zeros((8, 3, 3))}, "stress labels need references with a cell"),
        ({"forces": FORCES[:-1]}, r"forces must have shape \(8, 3, 3\), got \(7, 3, 3\)"),
        ({**LABELS, "energy": ENERGIES[:, None]}, r"energy must have shape \(8,\), got \(8, 1\)"),
        ({"forces": np.where(np.arange(8)[:, None, None] == 5, np.nan, FORCES)}, "frame 5 is not"),
        ({**LABELS, "energy": np.where(np.arange(8) > 5, np.inf, ENERGIES)}, r"frame 6 .*\(2 such"),
        ({"forces": np.zeros((8, 3, 3))}, "nothing to fit"),
        ({"forces": 1e200 * FORCES}, "no number in float64.*check their unit"),
    ],
    ids=["none", "unknown", "stress", "shape", "column", "nan", "inf", "constant", "huge"],
)
def test_unusable_labels_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        fitted(labels)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"regularization": -1e-9}, "not negative, got -1e-09"),
        ({"regularization": np.nan}, "finite"),
        ({"noise": {"stress": 1.0}}, "got stress: 1.0"),
        ({"noise": {"energy": 0.0}}, "positive values, got energy: 0.0"),
        ({"noise": {"energy": np.inf}}, "got energy: inf"),
    ],
)
def test_unusable_numbers_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        fitted(**changes)


def test_noise_of_a_label_that_is_not_fitted_is_refused():
    with pytest.raises(ValueError, match=r"fitted labels \['forces'\]"):
        fitted({"forces": FORCES}, noise={"energy": 0.1})


def test_other_potentials_and_models_without_geometries_are_refused():
    options = {"solver": solvers.cholesky(), "regularization": 1e-8}
    other = Potential(POTENTIAL.init, POTENTIAL.apply)
    with pytest.raises((TypeError, Exception), match=r"gdml\.potential|Potential"):
        gdml.fit(other, placed(), LABELS, **options)
    bare = {k: v for k, v in placed().items() if k != "references"}
    with pytest.raises(ValueError, match="no reference geometries"):
        gdml.fit(POTENTIAL, bare, LABELS, **options)
    with pytest.raises(ValueError, match="no reference geometries"):
        gdml.fit_constant(POTENTIAL, bare, ENERGIES)


def test_a_solver_that_gives_up_raises():
    def lazy(operator, rhs, diagonal):
        return Solution(np.zeros_like(rhs), 1.0, 7, False)

    with pytest.raises(RuntimeError, match=r"relative residual of 1\.00e\+00 after 7 iterations"):
        fitted(solver=lazy)


def test_unconverged_coefficients_come_with_a_warning_if_asked_for():
    def half(operator, rhs, diagonal):
        matrix = operator.dense() + np.diag(diagonal)
        return Solution(0.5 * np.linalg.solve(matrix, rhs), 0.5, 7, False)

    with pytest.warns(UserWarning, match=r"relative residual of 5\.00e-01 after 7 iterations"):
        params, info = fitted(solver=half, unconverged="warn")
    assert not info.converged
    assert info.residual_norm == 0.5
    whole = fitted()[0]["coefficients"]["forces"]
    assert np.allclose(params["coefficients"]["forces"], 0.5 * whole, rtol=1e-4)
    with pytest.raises(ValueError, match="unconverged must be 'raise' or 'warn', got 'ignore'"):
        fitted(unconverged="ignore")


def test_iterations_that_do_not_suffice_raise():
    """Through the real solvers, chosen by name and by hand."""
    poor = preconditioners.identity()
    solver = solvers.conjugate_gradient(preconditioner=poor, rtol=1e-9, max_iterations=2)
    with pytest.raises(RuntimeError, match="after 2 iterations"):
        fitted({"forces": FORCES}, solver=solver)


def test_duplicate_geometries_without_regularization_are_refused():
    twice = jax.tree.map(lambda leaf: jnp.concatenate([leaf[:2], leaf[:2]]), SYSTEMS)
    params = POTENTIAL.init(KEY, twice, hyper={"lengthscale": 2.0})
    with pytest.raises(np.linalg.LinAlgError, match="raise the regularization"):
        gdml.fit(
            POTENTIAL, params, {"forces": FORCES[:4]}, solver=solvers.cholesky(), regularization=0.0
        )


@pytest.fixture(scope="module")
def good():
    return fitted({"forces": FORCES})[0]


def test_constant_is_the_mean_difference(good):
    params, report = gdml.fit_constant(POTENTIAL, good, ENERGIES)
    energies, _ = predict(params, SYSTEMS)
    assert np.isclose(np.mean(energies - ENERGIES), 0.0, atol=1e-12)
    assert np.isclose(report.constant, params["constant"])
    assert np.isclose(report.rmse, np.sqrt(np.mean((energies - ENERGIES) ** 2)), rtol=1e-6)
    assert abs(report.slope - 1) < 0.1
    assert report.correlation > 0.98
    again, _ = gdml.fit_constant(POTENTIAL, params, ENERGIES + 1.0)
    assert np.isclose(again["constant"], params["constant"] + 1.0)


def test_gradients_given_as_forces_are_noticed():
    params, _ = fitted({"forces": -FORCES})
    _, report = gdml.fit_constant(POTENTIAL, params, ENERGIES)
    assert report.slope < -0.9
    assert len(report.warnings) == 1
    assert "gradients" in report.warnings[0]


@pytest.mark.parametrize("factor", [23.06, 1 / 27.2])
def test_energies_in_another_unit_are_noticed(good, factor):
    _, report = gdml.fit_constant(POTENTIAL, good, factor * ENERGIES)
    assert np.isclose(report.slope, factor, rtol=0.1)
    assert "units" in report.warnings[0]


def test_unrelated_energies_are_noticed(good):
    shuffled = np.random.default_rng(0).normal(size=8)
    _, report = gdml.fit_constant(POTENTIAL, good, shuffled)
    assert abs(report.correlation) < 0.9
    assert "correlate only" in report.warnings[0]


def test_tiny_sets_are_not_judged():
    few = jax.tree.map(lambda leaf: leaf[:2], SYSTEMS)
    params = POTENTIAL.init(KEY, few, hyper={"lengthscale": 2.0})
    params, _ = gdml.fit(
        POTENTIAL, params, {"forces": FORCES[:2]}, solver=solvers.cholesky(), regularization=1e-8
    )
    params, report = gdml.fit_constant(POTENTIAL, params, ENERGIES[:2])
    assert report.warnings == ()
    assert np.isnan(report.slope)
    assert np.isfinite(params["constant"])


@pytest.mark.parametrize("energies", [ENERGIES[:-1], ENERGIES[:, None], np.full(8, np.nan)])
def test_unusable_energies_are_refused(good, energies):
    with pytest.raises(ValueError, match=r"finite and of shape \(8,\)"):
        gdml.fit_constant(POTENTIAL, good, energies)


def test_a_kernel_learns_what_a_baseline_misses():
    """Delta-learning from end to end: baseline, labels minus baseline, sum of both."""
    baseline = springs([[0, 1], [0, 2]])
    # Equal springs, so that the hydrogens may change places.
    known = {"lengths": jnp.full(2, 1.0), "constants": jnp.full(2, 20.0)}
    rest = gdml.residual_labels(bind(baseline, known), SYSTEMS, LABELS)
    own = jax.vmap(bind(baseline, known))(SYSTEMS)
    assert np.allclose(rest["energy"], ENERGIES - own)
    params, _ = fitted(rest, regularization=1e-10)
    total = add(baseline, POTENTIAL)
    energies, forces = run(energy_and_forces(bind(total, (known, params))), SYSTEMS)
    assert np.abs(forces - FORCES).max() < 1e-5 * np.abs(FORCES).max()
    assert np.abs(energies - ENERGIES).max() < 1e-5 * ENERGIES.std()


def test_any_energy_function_is_a_baseline():
    rest = gdml.residual_labels(
        lambda system, neighbors=None: jnp.sum(system.positions**2, (-1, -2)), SYSTEMS, LABELS
    )
    assert np.allclose(rest["forces"], FORCES + 2 * np.asarray(SYSTEMS.positions))


@pytest.mark.golden
@pytest.mark.parametrize("name", NAMES)
def test_fits_equal_those_of_the_original(name, reference_dir):
    with np.load(reference_dir / f"sgdml_{name}.npz") as file:
        data = dict(file)
    with np.load(reference_dir / f"sgdml_{name}_model.npz") as file:
        model = {key: file[key] for key in ("alphas_F", "c", "std", "e_unit")}
    unit = units.to_ev(str(model["e_unit"]))
    options = json.loads(str(data["hyperparameters"]))
    cell = data["lattice"].T if "lattice" in data else None
    potential = gdml.potential(Kernel(inverse_distances, matern52, data["perms"]))
    systems = System(data["train_R"], data["z"], cell=cell)
    params = potential.init(KEY, systems, hyper={"lengthscale": options["sig"]})
    params, info = gdml.fit(
        potential,
        params,
        {"forces": data["train_F"] * unit},
        solver=solvers.cholesky(),
        regularization=options["lam"],
    )
    params, _ = gdml.fit_constant(potential, params, data["train_E"] * unit)
    assert np.isclose(info.scale / unit, model["std"], rtol=1e-12)
    alphas = -np.asarray(params["coefficients"]["forces"]).ravel() / info.scale
    assert np.abs(alphas - model["alphas_F"]).max() < 1e-4 * np.abs(model["alphas_F"]).max()
    tests = System(data["test_R"], data["z"], cell=cell)
    energies, forces = run(energy_and_forces(bind(potential, params)), tests)
    assert np.abs(energies / unit - data["test_E"]).max() < 1e-5
    assert np.abs(forces / unit - data["test_F"]).max() < 1e-5
