"""A kernel on what a network makes of the atoms: its features are a descriptor like any other."""

import jax
import jax.numpy as jnp
import numpy as np
from models import difference, molecule, morse, run

from jaxff import bind, energy_and_forces, forces, gdml, stack
from jaxff.kernels import AtomicSum, matern52
from jaxff.linalg import solvers
from jaxff.networks import schnet


def test_a_kernel_on_the_features_of_a_network_is_fitted_to_forces():
    network = schnet(
        None, cutoff_function=None, features=4, interactions=1, radial_functions=6,
        radial_centers=np.linspace(0.5, 3.5, 6), radial_widths=np.full(6, 0.6),
        outputs=("features",), dtype="float64",
    )  # fmt: skip
    start, rng = molecule(0, 4), np.random.default_rng(0)
    weights = network.init(jax.random.key(0), start)
    moved = [start.positions + 0.1 * rng.normal(size=(4, 3)) for _ in range(6)]
    systems = stack([start.replace(positions=jnp.asarray(r)) for r in moved])
    labels = np.array(run(forces(bind(morse(), morse().init(None, None))), systems))

    def learnt(system, neighbors=None):
        return network.apply(weights, system)["features"]

    potential = gdml.potential(AtomicSum(learnt, matern52))
    known = systems.replace(positions=systems.positions[:5], numbers=systems.numbers[:5])
    params = potential.init(jax.random.key(0), known, hyper={"lengthscale": 1.0})
    params, _ = gdml.fit(
        potential, params, {"forces": labels[:5]}, solver=solvers.cholesky(), regularization=1e-8
    )
    energy_fn = bind(potential, params)
    _, found = run(energy_and_forces(energy_fn), systems)
    spread = np.sqrt(np.mean(labels**2))
    assert np.abs(found[:5] - labels[:5]).max() < 1e-3 * spread
    assert np.sqrt(np.mean((found[5] - labels[5]) ** 2)) < 0.5 * spread  # never seen
    last = start.replace(positions=systems.positions[5])
    slope = difference(lambda r: energy_fn(last.replace(positions=r)), last.positions)
    np.testing.assert_allclose(found[5], -slope, rtol=0, atol=1e-6 * spread)
