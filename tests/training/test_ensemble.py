"""Ensembles against their members one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxff import bind, forces, observe
from jaxff.potential import Potential
from jaxff.training.ensemble import ensemble, ensemble_trainer, member, spread, stack_members
from jaxff.training.loop import trainer
from jaxff.training.losses import weighted
from training.batches import SPRING, batch

RANDOM = Potential(
    lambda key, system, neighbors=None: {"k": jax.random.uniform(key), "c": jnp.float64(0.5)},
    SPRING.apply,
)
EACH = [{"k": 1.3, "c": 0.2}, {"k": 0.7, "c": 0.1}, {"k": 1.0, "c": 0.4}]


def test_outputs_are_mean_and_spread_of_the_members():
    record = batch(0, lists=False)
    params = stack_members([jax.tree.map(jnp.asarray, one) for one in EACH])
    energy_fn = bind(ensemble(SPRING), params)
    found = jax.jit(
        lambda e, s: {**e.outputs(s), **spread(e, ["energy", "forces"])(s), "f": forces(e)(s)}
    )(energy_fn, record.system)
    observed = jax.jit(lambda p, s: observe(bind(SPRING, p), ["energy", "forces"])(s))
    single = [observed(member(params, i), record.system) for i in range(3)]
    for name in ("energy", "forces"):
        values = np.stack([one[name] for one in single])
        np.testing.assert_allclose(found[name], values.mean(axis=0), rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(found[f"{name}_std"], values.std(axis=0), rtol=1e-10, atol=1e-15)
    np.testing.assert_allclose(found["f"], found["forces"], rtol=1e-12, atol=1e-15)
    with pytest.raises(TypeError, match="takes a bound ensemble"):
        spread(bind(SPRING, EACH[0]), ["energy"])
    with pytest.raises(TypeError, match="got one string"):
        spread(energy_fn, "energy")


def test_members_are_trained_as_if_alone():
    records = [batch(i, lists=False) for i in range(2)]
    alone = trainer(RANDOM, weighted(energy=1.0, forces=1.0), optax.adam(0.1), ema=0.5, clip=2.0)
    together = ensemble_trainer(alone, 2)
    state = together.init(jax.random.key(5), records[0])
    assert state.params["k"][0] != state.params["k"][1]
    for record in records:
        state, info = together.step(state, record)
    for index, key in enumerate(jax.random.split(jax.random.key(5), 2)):
        own = alone.init(key, records[0])
        for record in records:
            own, said = alone.step(own, record)
        np.testing.assert_allclose(info.loss[index], said.loss, rtol=1e-12)
        for name, value in own.averaged.items():
            np.testing.assert_allclose(state.averaged[name][index], value, rtol=1e-12)


def test_an_ensemble_makes_its_own_parameters_or_says_what_it_lacks():
    record = batch(0, lists=False)
    params = ensemble(RANDOM, 3).init(jax.random.key(0), record.system)
    assert params["k"].shape == (3,)
    assert len(set(params["k"].tolist())) == 3
    with pytest.raises(ValueError, match="how many members"):
        ensemble(RANDOM).init(jax.random.key(0), record.system)
    with pytest.raises(ValueError, match="at least two members"):
        ensemble_trainer(trainer(RANDOM, weighted(energy=1.0), optax.sgd(0.1)), 1)
