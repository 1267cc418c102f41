"""Labels that users define."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernel_models import SWAP, log_distances, water

from jaxff import bind, gdml
from jaxff.derivatives import forces, hessian, hessian_vector
from jaxff.descriptors import inverse_distances
from jaxff.gdml import Observable
from jaxff.gdml.generic import GenericOperator
from jaxff.gdml.label_checks import check
from jaxff.gdml.radial_operator import RadialOperator
from jaxff.io import load, save
from jaxff.kernels import Kernel, matern32, matern52
from jaxff.linalg import solvers
from jaxff.system import System, strain

REFERENCES, OTHERS = water(2), water(3, seed=9)
ALONG = np.random.default_rng(0).normal(size=(3, 3))
HYPER = {"lengthscale": jnp.asarray(1.2)}
KEY = jax.random.key(0)


def slopes(energy_fn):
    """Forces, written by a user."""
    return lambda system, neighbors=None: (
        -jax.grad(lambda r: energy_fn(system.replace(positions=r), neighbors))(system.positions)
    )


def bend(energy_fn):
    """The second derivative along a direction."""
    return lambda system, neighbors=None: jnp.vdot(
        ALONG, hessian_vector(energy_fn)(system, jnp.asarray(ALONG), neighbors)
    )


def screened(energy_fn):
    """Laplacian and energy: the left side of a differential equation."""

    def value(system, neighbors=None):
        matrix = hessian(energy_fn)(system, neighbors)
        laplacian = jnp.einsum("iaia->", matrix)
        return jnp.stack([laplacian, laplacian - 2.0 * energy_fn(system, neighbors)])

    return value


SLOPES = Observable("slopes", slopes, "atoms 3", 1)
BEND = Observable("bend", bend, "", 2)
SCREENED = Observable("screened", screened, "2", 2)


def truth(system, neighbors=None):
    """Morse potential between all pairs."""
    i, j = np.tril_indices(3, -1)
    distance = jnp.linalg.norm(system.positions[i] - system.positions[j], axis=-1)
    return 3.0 * jnp.sum((1 - jnp.exp(-1.1 * (distance - 1.2))) ** 2) - 70.0


def values(systems, *labels):
    one = lambda s: [label(jax.tree_util.Partial(truth), s) for label in labels]  # noqa: E731
    return [np.asarray(own) for own in jax.jit(jax.vmap(one))(systems)]


def test_forces_written_by_a_user_are_the_forces():
    """At the edge of what a kernel can: its matrix, its fit and what that predicts."""
    kernel = Kernel(log_distances, matern32, SWAP)
    expected = GenericOperator(kernel, HYPER, REFERENCES, ("forces", "energy")).dense()
    operator = GenericOperator(kernel, HYPER, REFERENCES, (SLOPES, "energy"))
    assert operator.names == ("energy", SLOPES)
    order = np.r_[18:20, :18]  # energies come first where forces have another name
    size = np.abs(expected).max()
    assert np.abs(operator.dense() - expected[np.ix_(order, order)]).max() <= 1e-13 * size
    (own,) = values(REFERENCES, SLOPES)
    potential = gdml.potential(kernel)
    start, predicted = potential.init(KEY, REFERENCES, hyper=HYPER), []
    for label, name in (("forces", "forces"), (SLOPES, "slopes")):
        new, info = gdml.fit(
            potential, start, {label: own}, solver=solvers.cholesky(), regularization=1e-4,
            noise={name: 0.01},
        )  # fmt: skip
        predicted.append(jax.jit(lambda e, s: forces(e)(s))(bind(potential, new), OTHERS))
        assert info.observables == (() if label == "forces" else (SLOPES,))
    assert np.abs(predicted[0] - predicted[1]).max() <= 1e-10 * np.abs(predicted[0]).max()


KERNEL = Kernel(log_distances, matern52, SWAP)


def combined() -> np.ndarray:
    """Rows of the user's labels as combinations of energy and packed Hessian."""
    rows, columns = np.triu_indices(9)
    twice = np.where(rows == columns, 1.0, 2.0)
    along = ALONG.ravel()
    second = np.stack([twice * along[rows] * along[columns], 1.0 * (rows == columns)])
    result = np.zeros((4, 46))
    result[0, 0] = 1.0
    result[1:3, 1:], result[3, 1:], result[3, 0] = second, second[1], -2.0
    return result


def test_second_derivatives_are_combinations_of_those_of_the_hessian():
    """The matrix in closed form, contracted on both sides, and what the user's predicts."""
    named = RadialOperator(KERNEL, HYPER, REFERENCES, ("energy", "hessian"))
    operator = GenericOperator(KERNEL, HYPER, REFERENCES, ("energy", BEND, SCREENED))
    weights = np.zeros((operator.size, named.size))
    for reference in (0, 1):
        at = np.ix_(operator.places[reference], named.places[reference])
        weights[at] = combined()
    expected = weights @ named.dense() @ weights.T
    found, size = operator.dense(), np.abs(expected).max()
    assert np.abs(found - expected).max() <= 1e-12 * size
    assert np.linalg.eigvalsh(found)[0] >= -1e-13 * size
    vector = np.random.default_rng(0).normal(size=8)
    assert np.abs(operator.matvec(vector) - expected @ vector).max() <= 1e-11 * size


@pytest.mark.slow
def test_a_fit_reproduces_them_and_needs_no_operator_afterwards(tmp_path):
    """Beside energies, the mean of which is the constant; the potential on the fast path."""
    inverse = Kernel(inverse_distances, matern52, SWAP)
    potential = gdml.potential(inverse)
    start = potential.init(KEY, REFERENCES, hyper=HYPER)
    energies, own, curved = values(REFERENCES, Observable("e", lambda e: e, "", 0), BEND, SCREENED)
    labels = {BEND: own, SCREENED: curved, "energy": energies}
    new, info = gdml.fit(potential, start, labels, solver=solvers.cholesky(), regularization=1e-12)
    assert info.size == 8
    save(tmp_path / "model", potential, new)
    energy_fn = bind(*load(tmp_path / "model"))
    rest = gdml.residual_labels(energy_fn, REFERENCES, labels)
    for label, value in labels.items():
        assert np.abs(rest[label]).max() <= 1e-6 * np.abs(value).max(), label
    assert np.isclose(new["constant"], energies.mean())
    known = gdml.posterior(potential, new, info, amplitude=1.0)
    assert known.variance(REFERENCES, ("energy",))["energy"].max() < 1e-9 * known.level


def twice(energy_fn):
    return lambda system, neighbors=None: jnp.sum(slopes(energy_fn)(system) ** 2)


def nothing(energy_fn):
    return lambda system, neighbors=None: 0.0 * energy_fn(system)


def elsewhere(energy_fn):
    return lambda system, neighbors=None: energy_fn(
        system.replace(positions=1.1 * system.positions)
    )


@pytest.mark.parametrize(
    ("observable", "message"),
    [
        (Observable("twice", twice, "", 1), "must be linear in the energy"),
        (Observable("far", elsewhere, "", 2), "take it at the system itself"),
        (Observable("bend", bend, "", 1), "no derivatives beyond order 1 as declared"),
        (Observable("bend", bend, "3", 2), r"array of shape \(3,\) \('3'\), got \(\)"),
        (Observable("forces", slopes, "atoms 3", 1), "two labels have the name 'forces'"),
        (Observable("nothing", nothing, "", 0), "zero for an energy with all derivatives"),
    ],
)
def test_what_is_no_local_linear_operator_is_refused(observable, message):
    shape = (2, *observable.dims(3))
    with pytest.raises(ValueError, match=message):
        check({observable: np.zeros(shape)}, REFERENCES)


def by_charge(energy_fn):
    def potential(system, neighbors=None):
        return jax.grad(lambda charge: energy_fn(system.replace(charge=charge)))(system.charge)

    return potential


def test_derivatives_by_the_charge_are_refused():
    """No kernel has them: such labels would be fitted by nothing, and without a residual."""
    ions = REFERENCES.replace(charge=jnp.zeros(len(REFERENCES.positions)))
    with pytest.raises(ValueError, match="nor any by charge or spin"):
        check({Observable("by_charge", by_charge, "", 1): np.zeros(len(ions.positions))}, ions)
    check({Observable("slopes", slopes, "atoms 3", 1): np.zeros(ions.positions.shape)}, ions)


def test_unusable_records_are_refused():
    with pytest.raises(ValueError, match="must be one word, got 'my label'"):
        Observable("my label", slopes, "", 1)
    with pytest.raises(ValueError, match="such as 'atoms 3', got 'atom 3'"):
        Observable("slopes", slopes, "atom 3", 1)
    with pytest.raises(ValueError, match="order must be 0, 1 or 2, got 3"):
        Observable("third", slopes, "", 3)
    potential = gdml.potential(Kernel(log_distances, matern32, SWAP))
    params = potential.init(KEY, REFERENCES, hyper=HYPER)
    with pytest.raises(ValueError, match=r"\['bend'\] need a kernel with 4 .* matern32 has 2"):
        gdml.fit(
            potential, params, {BEND: np.zeros(2)}, solver=solvers.cholesky(), regularization=1e-6
        )


@pytest.mark.slow
def test_operators_may_move_the_cell_and_the_field():
    """Stress and dipole, written by a user, act through the same functional."""

    def pushed(energy_fn):
        def value(system, neighbors=None):
            moved = lambda e: strain(system, e)  # noqa: E731
            return jax.grad(lambda e: energy_fn(moved(e), neighbors))(jnp.zeros((3, 3)))

        return value

    def polar(energy_fn):
        return lambda system, neighbors=None: (
            -jax.grad(lambda f: energy_fn(system.replace(electric_field=f), neighbors))(
                system.electric_field
            )
        )

    cell = np.eye(3) * 4.0 + 0.1 * np.random.default_rng(1).normal(size=(2, 3, 3))
    systems = System(REFERENCES.positions, [8, 1, 1], cell, electric_field=np.full((2, 3), 0.1))

    def dressed(system, neighbors=None):
        vectors = system.positions[1:] - system.positions[0]
        inside = jnp.sin(vectors @ jnp.linalg.inv(system.cell))
        return jnp.concatenate([jnp.ravel(inside), vectors @ system.electric_field])

    dressed.uses = frozenset({"electric_field"})
    labels = Observable("pushed", pushed, "3 3", 1), Observable("polar", polar, "3", 1)
    kernel = Kernel(dressed, matern52)
    expected = GenericOperator(kernel, HYPER, systems, ("virial", "dipole")).dense()
    found = GenericOperator(kernel, HYPER, systems, labels).dense()
    pick = np.ravel_multi_index(np.triu_indices(3), (3, 3))
    chosen = np.r_[pick, 9 + pick, 18:24]
    signs = np.r_[-np.ones(12), np.ones(6)]
    found = signs[:, None] * found[np.ix_(chosen, chosen)] * signs
    assert np.abs(found - expected).max() <= 1e-13 * np.abs(expected).max()
    for label in labels:
        check({label: np.zeros((2, *label.dims(3)))}, systems)
