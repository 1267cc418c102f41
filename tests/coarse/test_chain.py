"""From a noisy trajectory by a model of mean forces to the free energy: two beads, two states."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxff import analysis, coarse, units
from jaxff.descriptors import inverse_distances
from jaxff.dynamics import overdamped, run
from jaxff.kernels import Kernel, matern52
from jaxff.system import System

KELVIN = 300.0
THERMAL = units.BOLTZMANN * KELVIN
NOISE = 1.0
LIMITS = [(0.9, 2.1)]


def wells(system, neighbors=None):
    """Minima at 1.2 and 1.8 Å, the barrier 2.3 kT, in eV."""
    x = (jnp.linalg.norm(system.positions[1] - system.positions[0]) - 1.5) / 0.3
    return 0.06 * (x**2 - 1.0) ** 2


def simulated(energy_fn, key):
    """Frames of twenty replicas, ``(20, frames, 2, 3)``."""
    start = System(np.array([[0.0, 0.0, 0.0], [1.2, 0.0, 0.0]]), [6, 6])
    result = run(
        energy_fn, start, ensemble=overdamped(0.01, KELVIN, mobility=1.0), steps=20_000,
        every=20, chunk=20_000, replicas=20, key=jax.random.key(key),
    )  # fmt: skip
    return result.positions[:, 50:]


def profile(positions):
    distances = analysis.distances(positions, [(0, 1)])
    return analysis.free_energy_surface(distances, KELVIN, bins=24, limits=LIMITS)


@pytest.mark.slow
def test_a_model_of_noisy_forces_has_the_free_energy_of_the_trajectory():
    seen = simulated(wells, 0)
    reference = profile(seen)
    systems = System(seen.reshape(-1, 2, 3), [6, 6])
    labels = coarse.predict_forces(jax.tree_util.Partial(jax.vmap(wells)), systems)
    labels = labels + NOISE * np.random.default_rng(0).normal(size=labels.shape)
    coarse.check_units(systems, labels, KELVIN)

    prior = coarse.fit_prior(systems, KELVIN, bonds=[(0, 1)])
    distances = analysis.distances(seen.reshape(-1, 2, 3), [(0, 1)])
    occupied = coarse.cells(distances, 100, [(0.5, 2.5)])
    kernel, hyper = Kernel(inverse_distances, matern52), {"lengthscale": 0.5}
    first, second = (coarse.Layer(kernel, hyper, value) for value in (0.01, 1e-4))
    made = coarse.fit_two_layers(
        systems, labels, occupied, first, second, seed=0, prior=prior,
        sizes=coarse.sizes(len(labels), batch=200, batches=60, second=80),
    )  # fmt: skip
    streamed = coarse.fit_inducing(
        systems, labels, occupied, kernel, hyper, inducing=40, seed=0, prior=prior,
        regularization=[1e-3, 1e-1, 1e1], folds=coarse.block_folds(len(labels), 3),
    )  # fmt: skip
    exact = 0.06 * (((reference.centers[0] - 1.5) / 0.3) ** 2 - 1.0) ** 2
    exact -= 2.0 * THERMAL * np.log(reference.centers[0])
    for model in (made.model, streamed.model):
        found = profile(simulated(model, 1))
        assert analysis.jensen_shannon(found, reference) < 0.003
        left = analysis.mean_squared_difference(found, reference, below=3.0 * THERMAL)
        assert left < (0.15 * THERMAL) ** 2
        known = found.error < 0.1 * THERMAL
        shift = np.mean((found.free_energy - exact)[known])
        assert np.abs(found.free_energy - exact - shift)[known].max() < 0.35 * THERMAL
        lowest = [m.place[0] for m in analysis.minima(found, radius=3, periodic=False)]
        assert sorted(np.round(lowest[:2], 1)) == pytest.approx([1.2, 1.8], abs=0.051)
