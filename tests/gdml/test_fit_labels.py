"""Fits to labels beyond forces, and with kernels beyond radial ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernel_models import SWAP, log_distances, powers, water

from jaxff import gdml
from jaxff.derivatives import energy_and_forces, forces, hessian_vector, observe
from jaxff.descriptors import inverse_distances
from jaxff.gdml import expansion, jets
from jaxff.io import load, save
from jaxff.kernels import (
    AtomicSum,
    GlobalSymmetry,
    Kernel,
    Scaled,
    Sum,
    matern32,
    matern52,
    periodic,
    polynomial,
    rational_quadratic,
    rbf,
)
from jaxff.linalg import solvers
from jaxff.potential import bind
from jaxff.system import System

KEY = jax.random.key(0)
SYSTEMS, OTHERS = water(4), water(3, seed=9)
CHOLESKY = {"solver": solvers.cholesky(), "regularization": 1e-12}


def truth(system, neighbors=None):
    """Morse potential between all pairs, symmetric in equal atoms."""
    i, j = np.tril_indices(3, -1)
    distance = jnp.linalg.norm(system.positions[..., i, :] - system.positions[..., j, :], axis=-1)
    return 3.0 * jnp.sum((1 - jnp.exp(-1.1 * (distance - 1.2))) ** 2, axis=-1) - 70.0


NAMES = ("energy", "forces", "hessian")
OBSERVE = jax.jit(lambda energy_fn, systems: observe(energy_fn, NAMES)(systems))
LABELS = {k: np.asarray(v) for k, v in OBSERVE(jax.tree_util.Partial(truth), SYSTEMS).items()}
DIRECTIONS = np.random.default_rng(4).normal(size=(4, 2, 3, 3))
PRODUCTS = np.einsum("nabcd,nkcd->nkab", LABELS["hessian"], DIRECTIONS)


def near(system: System, neighbors=None):
    square = jnp.sum((system.positions[:, None] - system.positions) ** 2, axis=-1)
    return jnp.stack([jnp.sum(jnp.exp(-a * square), axis=1) for a in (0.5, 1.0)], axis=1)


near.name = "near"


def fitted(kernel, labels, hyper=None, systems=SYSTEMS, **options):
    potential = gdml.potential(kernel)
    hyper = dict.fromkeys(kernel.hyper_names, 1.0) if hyper is None else hyper
    params = potential.init(KEY, systems, hyper=hyper)
    return potential, *gdml.fit(potential, params, labels, **{**CHOLESKY, **options})


@pytest.fixture(scope="module")
def of_everything():
    kernel = Kernel(inverse_distances, matern52, SWAP)
    return fitted(kernel, {**LABELS, "hessian_vector": (DIRECTIONS, PRODUCTS)})


def test_energies_forces_and_hessians_are_reproduced_together(of_everything):
    potential, params, info = of_everything
    found = OBSERVE(bind(potential, params), SYSTEMS)
    for name in NAMES:
        error = np.abs(np.asarray(found[name]) - LABELS[name]).max()
        assert error < 1e-5 * np.abs(LABELS[name]).max(), name
    assert info.size == 4 * (9 + 1 + 45 + 18)
    assert info.residual_norm < 1e-5
    assert np.isclose(params["constant"], LABELS["energy"].mean())


def test_what_is_bound_has_derivatives_of_every_kind(of_everything):
    potential, params, _ = of_everything
    energy_fn, step = bind(potential, params), 1e-4
    system = jax.tree.map(lambda leaf: leaf[0], OTHERS)
    direction = np.random.default_rng(0).normal(size=(3, 3))
    moved = [system.replace(positions=system.positions + s * step * direction) for s in (1, -1)]
    both = jax.jit(lambda e, s: energy_and_forces(e)(s))
    (plus, force_plus), (minus, force_minus) = (both(energy_fn, s) for s in moved)
    energy, force = both(energy_fn, system)
    assert np.isclose((plus - minus) / (2 * step), -np.sum(force * direction), rtol=1e-6)
    product = jax.jit(lambda e, s, v: hessian_vector(e)(s, v))(energy_fn, system, direction)
    assert np.allclose((force_minus - force_plus) / (2 * step), product, rtol=1e-5, atol=1e-4)
    stacked = jax.jit(lambda e, s: e(s))(energy_fn, OTHERS)
    assert np.isclose(stacked[0], energy, rtol=1e-12)


@pytest.mark.slow
def test_hessians_teach_what_forces_alone_do_not(of_everything):
    """Near the references, where the error of forces is that of their slope."""
    potential, params, _ = of_everything
    alone, (_, start) = potential, (None, potential.init(KEY, SYSTEMS, hyper={"lengthscale": 1.0}))
    plain, _ = gdml.fit(alone, start, {"forces": LABELS["forces"]}, **CHOLESKY)
    shift = 0.01 * np.random.default_rng(2).normal(size=(4, 3, 3))
    beside = SYSTEMS.replace(positions=SYSTEMS.positions + shift)
    expected = jax.jit(lambda s: forces(truth)(s))(beside)
    predict = jax.jit(lambda e, s: forces(e)(s))
    errors = [
        float(jnp.sqrt(jnp.mean((predict(bind(potential, p), beside) - expected) ** 2)))
        for p in (params, plain)
    ]
    assert errors[0] < 0.5 * errors[1]


KERNELS = {
    "matern32": (Kernel(inverse_distances, matern32, SWAP), None),
    "sum": (
        Sum((Kernel(log_distances, rbf), 0.5 * AtomicSum(near, matern52)), ("pair", "atom")),
        None,
    ),
    "product": (
        Scaled(Kernel(powers, rational_quadratic(1.5)) * Kernel(inverse_distances, polynomial(2))),
        {"0.lengthscale": 1.0, "0.exponent": 1.5, "1.lengthscale": 1.0, "scale": 2.0},
    ),
    "periodic": (GlobalSymmetry(Kernel(inverse_distances, periodic(4.0)), SWAP), None),
}


@pytest.mark.parametrize("name", ["matern32", "sum"])
def test_any_kernel_is_fitted_and_predicts(name):
    kernel, hyper = KERNELS[name]
    potential, params, info = fitted(
        kernel, {"forces": LABELS["forces"]}, hyper, regularization=1e-8
    )
    found = jax.jit(lambda e, s: forces(e)(s))(bind(potential, params), SYSTEMS)
    coefficients = np.asarray(params["coefficients"]["forces"])
    # The regularised equations themselves: prediction + λ coefficients = labels.
    remainder = np.asarray(found) + 1e-8 * coefficients - LABELS["forces"]
    assert np.abs(remainder).max() < 1e-6 * np.abs(LABELS["forces"]).max()
    assert info.size == 36


@pytest.mark.parametrize("name", ["sum", "product", "periodic"])
def test_composed_kernels_survive_a_file(name, tmp_path):
    kernel, hyper = KERNELS[name]
    if name == "sum":
        kernel = Sum(
            (Kernel(inverse_distances, rbf), 0.5 * AtomicSum(near, matern52)), ("pair", "atom")
        )
    potential = gdml.potential(kernel)
    hyper = dict.fromkeys(kernel.hyper_names, 1.0) if hyper is None else hyper
    params = potential.init(KEY, SYSTEMS, hyper=hyper)
    rng = np.random.default_rng(0)  # as after a fit
    params["coefficients"] = {
        "forces": jnp.asarray(rng.normal(size=(4, 3, 3))),
        "energy": jnp.asarray(rng.normal(size=4)),
    }
    expand = expansion.expand if expansion.supports(kernel) else jets.expand
    params["expansion"] = jax.jit(expand, static_argnums=0)(
        kernel, params["hyper"], params["references"], params["coefficients"]
    )
    save(tmp_path / "model", potential, params)
    custom = {"near": near, "powers": powers}
    read, found = load(tmp_path / "model", descriptors=custom)
    assert read is potential
    assert jax.tree.all(jax.tree.map(np.array_equal, params, found))
    evaluate = jax.jit(lambda e, s: e(s))
    energies = evaluate(bind(read, found), OTHERS)
    assert np.array_equal(energies, evaluate(bind(potential, params), OTHERS))
    assert np.ptp(energies) > 1e-2


def test_kernels_of_unnamed_functions_are_not_written(tmp_path):
    kernel = Kernel(inverse_distances, rbf) + Kernel(log_distances, rbf)
    potential = gdml.potential(kernel)
    assert potential.spec is None


def test_derivatives_by_hyperparameters_see_the_references_too():
    """The energy of fixed coefficients by the exponent of a descriptor, in a product."""
    kernel, hyper = KERNELS["product"]
    potential = gdml.potential(kernel)
    params = potential.init(KEY, SYSTEMS, hyper=hyper)
    params["coefficients"] = {"energy": jnp.arange(1.0, 5.0)}

    @jax.jit
    def energy(exponent):
        changed = {**params, "hyper": {**params["hyper"], "0.exponent": exponent}}
        return jnp.sum(bind(potential, changed)(OTHERS))

    step = 1e-5
    numeric = (energy(1.5 + step) - energy(1.5 - step)) / (2 * step)
    assert np.isclose(jax.grad(energy)(1.5), numeric, rtol=1e-7)
    assert abs(numeric) > 1e-3


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"hessian": LABELS["hessian"][:, 0]}, r"hessian must have shape \(4, 3, 3, 3, 3\)"),
        ({"hessian": np.cumsum(LABELS["hessian"], -1)}, "hessian must be symmetric"),
        ({"hessian_vector": PRODUCTS}, "two arrays, directions and the products"),
        ({"hessian_vector": (DIRECTIONS[:, 0, 0], PRODUCTS)}, "directions of hessian_vector must"),
        ({"hessian_vector": (DIRECTIONS * np.nan, PRODUCTS)}, "directions .* are not finite"),
        ({"hessian_vector": (DIRECTIONS, PRODUCTS[:, :1])}, r"must have shape \(4, 2, 3, 3\)"),
        ({"virial": np.zeros((4, 6))}, r"virial must have shape \(4, 3, 3\)"),
        ({"dipole": np.zeros((4, 3))}, "kernel that reads the electric field"),
        ({"energy": np.ones(4)}, "all energy labels are equal"),
    ],
)
def test_unusable_labels_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        fitted(Kernel(inverse_distances, matern52), labels)


def test_labels_that_need_more_derivatives_than_exist_are_refused():
    with pytest.raises(ValueError, match=r"\['hessian'\] need a kernel with 4 .* matern32 has 2"):
        fitted(Kernel(inverse_distances, matern32), {"hessian": LABELS["hessian"]})
    total = Kernel(inverse_distances, matern32) + Kernel(inverse_distances, rbf)
    with pytest.raises(ValueError, match=r"with 4 derivatives .* Sum has 2"):
        fitted(total, {"hessian": LABELS["hessian"]})


def test_dipoles_need_a_field_in_the_references():
    def coupled(system, neighbors=None):
        return system.positions @ system.electric_field

    coupled.uses = frozenset({"electric_field"})
    kernel = Kernel(coupled, rbf)
    with pytest.raises(TypeError, match="unsupported operand"):  # it sees no field
        fitted(kernel, {"dipole": np.ones((4, 3))})
    field = np.full((4, 3), 0.1)
    labels = {"dipole": np.random.default_rng(0).normal(size=(4, 3))}
    with pytest.warns(UserWarning, match="not invariant to translation"):
        potential, params, _ = fitted(
            kernel, labels, systems=SYSTEMS.replace(electric_field=jnp.asarray(field)),
            regularization=1e-9,
        )  # fmt: skip
    inside = SYSTEMS.replace(electric_field=jnp.asarray(field))
    found = jax.jit(lambda e, s: observe(e, ["dipole"])(s))(bind(potential, params), inside)
    remainder = found["dipole"] + 1e-9 * params["coefficients"]["dipole"] - labels["dipole"]
    assert np.abs(remainder).max() < 1e-6
