"""Optimisers and schedules by name."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxff.training.optimizers import OPTIMIZERS, SCHEDULES, named_optimizer, named_schedule


def test_names_are_those_of_optax():
    assert all(callable(getattr(optax, name)) for name in OPTIMIZERS)
    for name in SCHEDULES:
        assert callable(getattr(optax, f"{name}_schedule", getattr(optax, name, None))), name


def test_options_reach_optimiser_and_schedule():
    rate = named_schedule(
        {"name": "piecewise_constant", "init_value": 0.5, "boundaries_and_scales": {2: 0.1}}
    )
    assert [float(rate(step)) for step in (0, 5)] == [0.5, pytest.approx(0.05)]
    assert named_schedule(rate) is rate
    made = named_optimizer({"name": "sgd", "momentum": 0.5}, named_schedule(2.0))
    state, value = made.init(jnp.ones(())), []
    for _ in range(2):
        change, state = made.update(jnp.ones(()), state)
        value.append(float(change))
    np.testing.assert_allclose(value, [-2.0, -3.0])
    own = optax.adam(1e-3)
    assert named_optimizer(own, rate) is own


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: named_optimizer("adamm", print), "unknown optimizer 'adamm'.*mean.*; known: ada"),
        (lambda: named_optimizer({"name": "adam", "beta1": 0.5}, print), "no option 'beta1'.*b1"),
        (lambda: named_optimizer({"name": "adam", "learning_rate": 1}, print), "given apart"),
        (lambda: named_optimizer({"b1": 0.5}, print), "must be a name"),
        (lambda: named_schedule("cosine"), "unknown schedule 'cosine'.*known: constant, cosine_d"),
        (lambda: named_schedule({"name": "cosine_decay", "init_value": 1.0}), "needs decay_steps"),
        (lambda: named_schedule(-1.0), "must not be negative"),
    ],
)
def test_unknown_names_list_the_known_ones(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_vector_of_all_parameters_gives_the_changes_of_each(name):
    rng = np.random.default_rng(0)
    params = {
        "kernel": jnp.asarray(rng.normal(size=(2, 3)), jnp.float32),
        "layers": [jnp.asarray(rng.normal()), None, jnp.asarray(rng.normal(size=2), jnp.float32)],
    }
    made = named_optimizer(name, named_schedule(0.1))
    theirs = getattr(optax, name)(0.1)
    state, expected = made.init(params), theirs.init(params)
    for scale in (1.0, -0.3):
        gradient = jax.tree.map(lambda leaf, scale=scale: scale * leaf, params)
        changes, state = made.update(gradient, state, params)
        wanted, expected = theirs.update(gradient, expected, params)
        jax.tree.map(np.testing.assert_array_equal, changes, wanted)
        assert jax.tree.map(jnp.result_type, changes) == jax.tree.map(jnp.result_type, wanted)


def test_what_has_masks_sees_the_tree():
    """A mask is a tree like the parameters."""
    params = {"kernel": jnp.ones(2), "bias": jnp.ones(1)}
    spec = {"name": "adamw", "weight_decay": 0.5, "mask": {"kernel": True, "bias": False}}
    made = named_optimizer(spec, named_schedule(1.0))
    changes, _ = made.update(jax.tree.map(jnp.zeros_like, params), made.init(params), params)
    np.testing.assert_array_equal(changes["kernel"], [-0.5, -0.5])
    np.testing.assert_array_equal(changes["bias"], [0.0])
