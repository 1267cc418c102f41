"""The border between flax modules and potentials."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxff import System, bind, forces, neighbor_list, pack, stack
from jaxff.networks import from_linen
from jaxff.networks.graph import graph

CUTOFF = 3.0


class Message(nn.Module):
    """The smallest message passing there is."""

    @nn.compact
    def __call__(self, system, graphs):
        (edges,) = graphs
        features = nn.Embed(10, 4)(system.numbers)
        weights = nn.Dense(4)(edges.distances[:, None])
        features += edges.sum(edges.masked(edges.at_others(features) * weights))
        return {"atomic_energies": nn.Dense(1)(jnp.tanh(features))[:, 0]}


def water(seed, atoms=3):
    shift = np.random.default_rng(seed).normal(size=(atoms, 3))
    return System(shift, np.array([8, 1, 1])[:atoms])


@pytest.fixture(scope="module")
def potential():
    return from_linen(Message(), [CUTOFF], dtype=jnp.float64)


@pytest.fixture(scope="module")
def energy_fn(potential):
    system = water(0)
    listed = neighbor_list(CUTOFF).allocate(system)
    return bind(potential, jax.jit(potential.init)(jax.random.key(0), system, listed))


def test_packs_and_stacks_give_the_energies_of_single_systems(energy_fn):
    lists = neighbor_list(CUTOFF)
    systems = [water(seed) for seed in range(3)]
    single = [float(energy_fn(s, lists.allocate(s))) for s in systems]
    joined, stacked = pack(systems), stack(systems)
    np.testing.assert_allclose(energy_fn(joined, lists.allocate(joined)), single, rtol=1e-12)
    np.testing.assert_allclose(
        energy_fn(stacked, lists.allocate_stack(stacked)), single, rtol=1e-12
    )


def test_a_float32_network_keeps_its_digits_far_from_the_origin():
    single = from_linen(Message(), [CUTOFF])
    system = water(1)
    far = system.replace(positions=system.positions + 1e5)
    listed = neighbor_list(CUTOFF).allocate(system)
    params = jax.jit(single.init)(jax.random.key(0), system, listed)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    near, there = (forces(bind(single, params))(s, listed) for s in (system, far))
    assert near.dtype == jnp.float64
    np.testing.assert_allclose(there, near, atol=1e-5)


def test_padding_of_lists_does_not_count(energy_fn):
    system = water(2)
    tight, roomy = (neighbor_list(CUTOFF, capacity=c).allocate(system) for c in (1.0, 4.0))
    assert len(roomy.pairs[0].centers) > len(tight.pairs[0].centers)
    assert not graph(system, roomy.pairs[0], jnp.float32).mask.all()
    np.testing.assert_allclose(energy_fn(system, roomy), energy_fn(system, tight), rtol=1e-14)
    assert np.isfinite(forces(energy_fn)(system, roomy)).all()


def test_a_module_without_atomic_energies_is_refused():
    class Silent(nn.Module):
        @nn.compact
        def __call__(self, system, graphs):
            return {"charges": nn.Embed(10, 1)(system.numbers)[:, 0]}

    silent = from_linen(Silent())
    system = water(3)
    params = silent.init(jax.random.key(0), system)
    with pytest.raises(TypeError, match=r"Silent must return .* 'atomic_energies' .* got"):
        bind(silent, params)(system)


def test_unknown_names_of_init_are_refused(potential):
    system = water(0)
    with pytest.raises(TypeError, match="Message takes no lengthscale"):
        potential.init(
            jax.random.key(0), system, neighbor_list(CUTOFF).allocate(system), lengthscale=1.0
        )
