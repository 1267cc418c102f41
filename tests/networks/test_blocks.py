import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxff import System, pack
from jaxff.networks import blocks, readouts

KEY = jax.random.key(0)


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float64, 1e-14), (jnp.float32, 2e-7)])
def test_shifted_softplus(dtype, tolerance):
    x = np.linspace(-30, 30, 2001)
    expected = np.logaddexp(x, 0) - np.log(2)
    value, slope = jax.jvp(
        blocks.shifted_softplus, (jnp.asarray(x, dtype),), (jnp.ones(2001, dtype),)
    )
    assert value.dtype == dtype
    np.testing.assert_allclose(value, expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(slope, 1 / (1 + np.exp(-x)), atol=tolerance)
    curvature = jax.grad(jax.grad(blocks.shifted_softplus))(jnp.asarray(0.3, dtype))
    sigmoid = 1 / (1 + np.exp(-0.3))
    np.testing.assert_allclose(curvature, sigmoid * (1 - sigmoid), rtol=10 * tolerance)


def test_split_layers_are_one_layer():
    first, second = (jax.random.normal(k, (5, 3)) for k in jax.random.split(KEY))
    layer = blocks.SplitDense(4, 2)
    params = layer.init(KEY, first, second)
    params["params"]["bias"] = jnp.arange(8.0)
    whole = jnp.concatenate([first, second], axis=-1) @ params["params"]["kernel"] + jnp.arange(8.0)
    np.testing.assert_allclose(
        jnp.concatenate(layer.apply(params, first, second), axis=-1), whole, rtol=1e-12
    )


@pytest.mark.parametrize("count", [1, 3])
def test_computed_once_changes_nothing(count):
    columns = jax.random.normal(KEY, (4, count))
    np.testing.assert_array_equal(blocks.computed_once(columns), columns)


def test_elements_beyond_the_table_are_nan():
    module = blocks.ElementEmbedding(4, max_number=8)
    numbers = jnp.asarray([8, 9, 1])
    values = module.apply(module.init(KEY, numbers), numbers)
    assert np.isnan(values[1]).all()
    assert np.isfinite(values[jnp.asarray([0, 2])]).all()


def ions(*charges):
    positions = np.random.default_rng(0).normal(size=(3, 3))
    return pack([System(positions, [8, 1, 0], charge=float(q)) for q in charges])


def test_the_total_charge_is_embedded_per_structure():
    module = blocks.TotalEmbedding("charge")
    system = ions(0, 1, -1)
    embedded = jax.random.normal(KEY, (9, 4))[np.tile(np.arange(3), 3)]
    values = module.apply(module.init(KEY, system, embedded), system, embedded).reshape(3, 3, 4)
    np.testing.assert_array_equal(values[0], 0.0)
    assert np.abs(values[1] - values[2]).max() > 1e-3
    alone = module.apply(module.init(KEY, ions(1), embedded[:3]), ions(1), embedded[:3])
    np.testing.assert_allclose(values[1], alone, rtol=1e-12)


def test_charges_add_up_to_the_total():
    system = ions(0, 1, -2)
    charges = readouts.conserve_charge(system, jax.random.normal(KEY, (9,))).reshape(3, 3)
    np.testing.assert_allclose(charges.sum(axis=1), [0, 1, -2], atol=1e-14)
    np.testing.assert_array_equal(charges[:, 2], 0.0)
    neutral = readouts.conserve_charge(System(np.eye(3), [1, 1, 1]), jnp.asarray([1.0, 2.0, 0.0]))
    np.testing.assert_allclose(neutral, [0, 1, -1], atol=1e-14)


def test_dipole_of_point_charges_and_atomic_dipoles():
    system = System(np.array([[1.0, 0, 0], [0, 3.0, 0]]), [1, 1])
    charges, own = jnp.asarray([0.5, -0.5]), jnp.asarray([[0.0, 0, 1.0], [0, 0, 2.0]])
    np.testing.assert_allclose(readouts.dipole(system, charges, own), [0.5, -1.5, 3.0])
    moved = system.replace(positions=system.positions + 7.0)
    np.testing.assert_allclose(readouts.dipole(moved, charges), [0.5, -1.5, 0.0], atol=1e-12)
    with pytest.raises(ValueError, match="periodic system is not defined"):
        readouts.dipole(system.replace(cell=jnp.eye(3)), charges)


@pytest.mark.parametrize("kind", blocks.RADIAL_BASES)
def test_trainable_bases_start_as_the_fixed_ones(kind):
    distances = jnp.asarray([0.0, 0.7, 2.5])
    fixed, trained = (blocks.RadialBasis(kind, 6, 3.0, trainable=t) for t in (False, True))
    params = trained.init(KEY, distances)
    assert fixed.init(KEY, distances) == {}
    expected = fixed.apply({}, distances)
    np.testing.assert_allclose(trained.apply(params, distances), expected, rtol=1e-12)
    moved = jax.tree.map(lambda leaf: 1.1 * leaf, params)
    assert np.abs(trained.apply(moved, distances) - expected).max() > 1e-3
