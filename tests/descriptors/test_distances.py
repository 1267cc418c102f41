import jax
import jax.numpy as jnp
import numpy as np
import pytest
from descriptor_checks import check_derivatives, check_finite, evaluate, moved
from kernel_models import THREE_HYDROGENS, ammonia, crystal

from jaxff import gdml
from jaxff.derivatives import forces
from jaxff.descriptors import (
    distance_powers,
    exponential_distances,
    inverse_distances,
    log_distances,
)
from jaxff.kernels import Kernel, matern52
from jaxff.linalg import solvers
from jaxff.potential import bind
from jaxff.system import System

CASES = {
    "powers": (distance_powers, {"power": jnp.asarray(-1.7)}, lambda d: d**-1.7),
    "log": (log_distances, {}, np.log),
    "exponential": (exponential_distances, {"decay": jnp.asarray(0.8)}, lambda d: np.exp(-d / 0.8)),
}


def single(stack: System, index: int = 0) -> System:
    return jax.tree.map(lambda leaf: leaf[index], stack)


@pytest.mark.parametrize("case", CASES)
def test_values_derivatives_and_symmetries(case):
    descriptor, hyper, function = CASES[case]
    system = single(ammonia())
    found = evaluate(descriptor, system, hyper=hyper)
    np.testing.assert_allclose(found, function(1 / inverse_distances(system)), rtol=1e-14)
    np.testing.assert_allclose(evaluate(descriptor, moved(system), hyper=hyper), found, rtol=1e-12)
    check_derivatives(descriptor, system, hyper=hyper)
    for p, row in zip(THREE_HYDROGENS, descriptor.permute(THREE_HYDROGENS), strict=True):
        permuted = system.replace(positions=system.positions[p])
        np.testing.assert_allclose(
            evaluate(descriptor, permuted, hyper=hyper), found[row], rtol=1e-14
        )


@pytest.mark.parametrize("case", CASES)
def test_padding_gives_zeros_wherever_it_is(case):
    descriptor, hyper, _ = CASES[case]
    system = System([[0.0, 0, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0]], [1, 1, 0, 0])
    found = check_finite(descriptor, system, hyper=hyper)
    assert found[0] != 0 or case == "log"
    assert np.array_equal(found[1:], np.zeros(5))


def test_exponentials_are_finite_where_atoms_coincide():
    system = System([[0.0, 0, 0], [0, 0, 0], [1, 0, 0]], [1, 1, 1])
    found = check_finite(exponential_distances, system, hyper={"decay": jnp.asarray(0.8)})
    np.testing.assert_allclose(found, [1, np.exp(-1.25), np.exp(-1.25)])


def test_a_cell_means_nearest_images():
    system = single(crystal())
    found = distance_powers(system, power=-1.0)
    np.testing.assert_allclose(found, inverse_distances(system), rtol=1e-14)


def test_stacks_are_refused():
    with pytest.raises(ValueError, match=r"use jax.vmap for the stack of shape \(4,\)"):
        log_distances(ammonia())


@pytest.mark.slow
def test_a_kernel_of_inverse_powers_is_the_kernel_of_inverse_distances():
    """The declared pairs and permutations serve the kernel's own code, and its hyperparameter."""
    references = ammonia(3)
    labels = {"forces": jnp.asarray(np.random.default_rng(0).normal(size=(3, 4, 3)))}
    found = []
    for descriptor, extra in ((inverse_distances, {}), (distance_powers, {"power": -1.0})):
        potential = gdml.potential(Kernel(descriptor, matern52, THREE_HYDROGENS))
        params = potential.init(jax.random.key(0), references, hyper={"lengthscale": 0.9, **extra})
        params, _ = gdml.fit(
            potential, params, labels, solver=solvers.cholesky(), regularization=1e-6
        )
        query = references.replace(positions=references.positions + 0.05)
        query = query.replace(positions=query.positions.at[:, 0, 0].add(0.1))
        found.append(jax.jit(forces(bind(potential, params)))(query))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-7, atol=1e-9)
