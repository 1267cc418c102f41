import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernel_models import CASES, Case, random_params, water

from jaxff import bind, gdml
from jaxff.descriptors import inverse_distances
from jaxff.gdml import expansion, prediction
from jaxff.kernels import Kernel, matern52


@pytest.fixture(scope="module", params=CASES)
def built(request):
    """A case with its parameters, and other geometries of the same atoms."""
    case = CASES[request.param]()
    _, params = random_params(case, energies=True)
    noise = np.random.default_rng(5).normal(size=case.references.positions.shape)
    queries = case.references.replace(positions=case.references.positions + 0.03 * noise)
    return case, params, queries


def direct(case, params, system):
    """Energy of one system by the definition, without centring or matrix products."""
    permutations = case.kernel.permutations
    if permutations is None:
        permutations = np.arange(system.atom_count)[None]

    def features(positions):
        return case.kernel.descriptor(system.replace(positions=positions))

    def term(p, positions, tangent, weight):
        x, w = jax.jvp(features, (positions,), (tangent,))
        d = features(system.positions[p]) - x
        s = d @ d / case.lengthscale**2
        h = [case.kernel.base.derivative(order, s) for order in (0, 1)]
        return 2 / case.lengthscale**2 * h[1] * (d @ w) + h[0] * weight

    coefficients = params["coefficients"]
    over_references = jax.vmap(term, (None, 0, 0, 0))
    terms = jax.vmap(over_references, (0, None, None, None))(
        jnp.asarray(permutations),
        case.references.positions,
        coefficients["forces"],
        coefficients["energy"],
    )
    return jnp.sum(terms)


def evaluate(case, params, systems):
    queries = prediction.query_features(case.kernel, params["hyper"], systems)
    return prediction.evaluate(case.kernel, params["hyper"], params["expansion"], queries)


def test_energies_are_the_written_sum(built):
    case, params, queries = built
    found = jax.jit(lambda p, s: evaluate(case, p, s))(params, queries)
    expected = jax.jit(jax.vmap(lambda s: direct(case, params, s)))(queries)
    assert np.allclose(found, expected, rtol=1e-11, atol=1e-11 * np.abs(expected).max())


def test_gradients_are_those_of_the_written_sum(built):
    """The declared first derivative of the blocks, against differentiating the definition."""
    case, params, queries = built

    def total(energy):
        return jax.jit(jax.grad(lambda r: jnp.sum(energy(queries.replace(positions=r)))))

    found = total(lambda s: evaluate(case, params, s))(queries.positions)
    expected = total(jax.vmap(lambda s: direct(case, params, s)))(queries.positions)
    assert np.allclose(found, expected, rtol=0, atol=1e-11 * np.abs(expected).max())


def test_the_expansion_holds_centred_features(built):
    case, params, _ = built
    made = params["expansion"]
    features = jax.vmap(lambda s: case.kernel.features(params["hyper"], s))(case.references)
    assert np.allclose(made["features"] + made["center"], features, rtol=1e-14)
    assert np.allclose(np.mean(made["features"], axis=0), 0.0, atol=1e-14)


def test_derivatives_by_hyperparameters_and_coefficients():
    """Not only by positions: parameters can be tuned by gradients."""
    case = CASES["matern52"]()
    _, params = random_params(case, energies=True)
    queries = case.references.replace(positions=case.references.positions + 0.02)

    def energy(lengthscale, coefficients, shift):
        hyper = {"lengthscale": lengthscale}
        made = expansion.expand(case.kernel, hyper, case.references, coefficients)
        moved = queries.replace(positions=queries.positions.at[:, 0, 0].add(shift))
        x = prediction.query_features(case.kernel, hyper, moved)
        return jnp.sum(prediction.evaluate(case.kernel, hyper, made, x))

    coefficients, length, shift = params["coefficients"], jnp.asarray(0.9), jnp.asarray(0.01)

    def slope(function, point, step=1e-4):
        f = {k: function(point + k * step) for k in (-2, -1, 1, 2)}
        return (f[-2] - 8 * f[-1] + 8 * f[1] - f[2]) / (12 * step)

    energy = jax.jit(energy)
    first = jax.jit(jax.grad(energy, argnums=(0, 1, 2)))
    by_length, by_coefficients, by_shift = first(length, coefficients, shift)
    numeric = slope(lambda x: energy(x, coefficients, shift), length)
    assert np.isclose(by_length, numeric, rtol=1e-8)
    numeric = slope(lambda x: energy(length, coefficients, x), shift)
    assert np.isclose(by_shift, numeric, rtol=1e-8)
    linear = sum(jnp.vdot(by_coefficients[k], coefficients[k]) for k in coefficients)
    assert np.isclose(linear, energy(length, coefficients, shift), rtol=1e-12)
    mixed = jax.jit(jax.grad(lambda x: first(length, coefficients, x)[0]))(shift)
    numeric = slope(lambda x: first(length, coefficients, x)[0], shift)
    assert np.isclose(mixed, numeric, rtol=1e-7)


@pytest.mark.parametrize("name", ["matern52", "generic"])
def test_many_queries_go_in_blocks_with_the_same_result(name, monkeypatch):
    case = CASES[name]()
    potential, params = random_params(case, energies=True)
    noise = np.random.default_rng(1).normal(size=(23, 3, 3))
    systems = jax.tree.map(lambda leaf: jnp.repeat(leaf[:1], 23, axis=0), case.references)
    systems = systems.replace(positions=systems.positions + 0.05 * noise)

    def both(energy_fn):
        return jax.jit(
            jax.value_and_grad(lambda r: jnp.sum(energy_fn(systems.replace(positions=r))))
        )

    whole = both(bind(potential, params))(systems.positions)
    monkeypatch.setattr(prediction, "_BLOCK_ELEMENTS", 4 * 2 * 5)
    blocks = both(bind(gdml.potential(case.kernel), params))(systems.positions)
    assert np.allclose(whole[0], blocks[0], rtol=1e-13)
    assert np.allclose(whole[1], blocks[1], rtol=0, atol=1e-12 * np.abs(whole[1]).max())


def test_centring_saves_the_digits_of_single_precision():
    """Distances are small differences of large features; uncentred they lose four digits."""
    far = Kernel(lambda system, neighbors=None: inverse_distances(system) + 100.0, matern52)
    case = Case(far, 1.1, water(4))
    _, params = random_params(case)
    x = prediction.query_features(far, params["hyper"], case.references)
    expected = prediction.evaluate(far, params["hyper"], params["expansion"], x + 0.1)
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)
    found = prediction.evaluate(
        far, single["hyper"], single["expansion"], (x + 0.1).astype(jnp.float32)
    )
    assert found.dtype == jnp.float32
    # One feature of 100 is known to 4e-6 in single precision; products of 1e4 only to 1e-3.
    assert np.allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
