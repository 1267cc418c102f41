"""Energies from an expansion."""

import jax
import jax.numpy as jnp
import numpy as np
from kernel_models import water

from jaxff.derivatives import hessian_vector
from jaxff.gdml import expansion, jets
from jaxff.gdml.prediction import Predicted
from jaxff.kernels import AtomicSum, Kernel, matern52, rbf
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


def test_second_derivatives_at_a_reference_see_no_rounding_of_the_distance():
    """Products of many features leave some 1e-16 of it, and Matérn 5/2 would show the root."""
    table = np.random.default_rng(1).normal(size=(80, 9))

    def wide(system, neighbors=None):
        square = jnp.sum((system.positions[:, None] - system.positions) ** 2, axis=-1)
        return jnp.sin(table @ jnp.ravel(square))

    kernel, hyper, references = Kernel(wide, matern52), {"lengthscale": jnp.asarray(3.0)}, water(2)
    directions, weights, probe = np.random.default_rng(2).normal(size=(3, 2, 1, 3, 3))
    given = references, {"hessian_vector": jnp.asarray(weights)}, jnp.asarray(directions)
    system = jax.tree.map(lambda leaf: leaf[0], references)

    @jax.jit
    def both(system):
        fast = Predicted(kernel, hyper, expansion.expand(kernel, hyper, *given))
        general = jets.Expanded(kernel, hyper, jets.expand(kernel, hyper, *given))
        return [
            hessian_vector(model)(system, jnp.asarray(probe[0, 0])) for model in (fast, general)
        ]

    fast, general = both(system)
    assert np.abs(fast - general).max() <= 1e-11 * np.abs(general).max()
