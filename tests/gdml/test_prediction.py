"""Energies from an expansion."""

import jax
import jax.numpy as jnp
import numpy as np
from kernel_models import water

from jaxff.gdml import expansion, jets
from jaxff.gdml.prediction import Predicted
from jaxff.kernels import AtomicSum, rbf
from jaxff.system import System


def near(system: System, neighbors=None):
    square = jnp.sum((system.positions[:, None] - system.positions) ** 2, axis=-1)
    return jnp.stack([jnp.sum(jnp.exp(-a * square), axis=1) for a in (0.5, 1.0)], axis=1)


def padded(systems: System) -> System:
    count = systems.positions.shape[0]
    positions = jnp.concatenate([systems.positions, jnp.full((count, 1, 3), 9.0)], axis=1)
    return System(positions, [8, 1, 1, 0])


def test_padding_atoms_do_not_count_in_sums_over_atoms():
    """As on the general path: all have the same features, and would look like one element."""
    kernel, hyper = AtomicSum(near, rbf), {"lengthscale": jnp.asarray(0.8)}
    references, queries = padded(water(2)), padded(water(2, seed=4))
    coefficients = {"energy": jnp.array([1.0, 2.0])}

    @jax.jit
    def both(queries):
        fast = expansion.expand(kernel, hyper, references, coefficients)
        general = jets.expand(kernel, hyper, references, coefficients)
        models = Predicted(kernel, hyper, fast), jets.Expanded(kernel, hyper, general)
        return [model(queries) for model in models]

    fast, general = both(queries)
    assert np.allclose(fast, general, rtol=1e-12)
