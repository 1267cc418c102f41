"""Networks of mean forces: they train on noisy forces, with a prior."""

import jax.numpy as jnp
import numpy as np
from training.batches import NETWORK

from coarse.noisy import dimers, spring
from jaxff import bind, neighbor_list
from jaxff.coarse.ensemble import predict_forces
from jaxff.coarse.network import fit_network
from jaxff.coarse.priors import harmonic_bonds
from jaxff.coarse.sampling import block_folds
from jaxff.system import System


def test_a_network_learns_what_the_prior_leaves():
    systems, forces, mean, _ = dimers(spring, 480, np.random.default_rng(0), noise=0.5)
    systems = System(systems.positions, [6, 8])
    values = {"length": jnp.array([1.5]), "stiffness": jnp.array([4.0])}  # half of the spring
    prior = bind(harmonic_bonds([(0, 1)]), values)
    found = fit_network(
        NETWORK, systems, forces, block_folds(480, 4)[0], batch_size=24, prior=prior,
        steps=150, learning_rate=0.05, ema=None, validate_every=150,
    )  # fmt: skip
    lists = neighbor_list(found.model.cutoffs).allocate_stack(systems)
    left = predict_forces(found.model, systems, lists) - mean
    before = predict_forces(prior, systems) - mean
    assert np.mean(left**2) < 0.3 * np.mean(before**2)
