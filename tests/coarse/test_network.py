"""Networks of mean forces: they train on noisy forces, with a prior."""

import jax.numpy as jnp
import numpy as np

from coarse.noisy import dimers, spring
from jaxff import bind, neighbor_list
from jaxff.coarse.ensemble import predict_forces
from jaxff.coarse.network import fit_network
from jaxff.coarse.priors import harmonic_bonds
from jaxff.coarse.sampling import block_folds
from jaxff.networks import schnet


def test_a_network_learns_what_the_prior_leaves():
    systems, forces, mean, _ = dimers(spring, 480, np.random.default_rng(0), noise=0.5)
    values = {"length": jnp.array([1.5]), "stiffness": jnp.array([4.0])}  # half of the spring
    prior = bind(harmonic_bonds([(0, 1)]), values)
    found = fit_network(
        schnet(3.0, features=8, interactions=1, radial_functions=8), systems, forces,
        block_folds(480, 4)[0], batch_size=24, prior=prior,
        steps=100, learning_rate=0.02, ema=None, validate_every=50,
    )  # fmt: skip
    lists = neighbor_list(found.model.cutoffs).allocate_stack(systems)
    left = predict_forces(found.model, systems, lists) - mean
    before = predict_forces(prior, systems) - mean
    assert np.mean(left**2) < 0.3 * np.mean(before**2)
