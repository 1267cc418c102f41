import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import crystal, run

from jaxff import physics, units
from jaxff.derivatives import energy_and_forces
from jaxff.neighbors import neighbor_list
from jaxff.physics.zbl import UNIVERSAL
from jaxff.potential import bind
from jaxff.radial.cutoffs import bump
from jaxff.system import System


def pair(first, second, distance):
    system = System(np.array([[0, 0, 0], [0, distance, 0.0]]), [first, second])
    return system, neighbor_list(2.5).allocate(system)


def screened(first, second, r):
    x = r * (first**0.23 + second**0.23) / 0.46850
    phi = 0.18175 * np.exp(-3.19980 * x) + 0.50986 * np.exp(-0.94229 * x)
    phi += 0.28022 * np.exp(-0.40290 * x) + 0.02817 * np.exp(-0.20162 * x)
    return units.COULOMB * first * second / r * phi


@pytest.mark.parametrize("numbers", [(1, 1), (6, 29), (79, 14)])
def test_closed_form_below_the_onset(numbers):
    energy_fn = bind(physics.zbl(2.5, onset=1.9), {})
    for r in (0.05, 0.3, 1.0, 1.8):
        system, neighbors = pair(*numbers, r)
        energy, force = run(energy_and_forces(energy_fn), system, neighbors)
        np.testing.assert_allclose(energy, screened(*numbers, r), rtol=1e-12)
        step = 1e-5 * r
        slope = screened(*numbers, r + step) - screened(*numbers, r - step)
        np.testing.assert_allclose(force[0, 1], slope / (2 * step), rtol=1e-7)


def test_switched_to_zero():
    energy_fn = bind(physics.zbl(2.5, onset=1.5), {})
    energy, _ = run(energy_and_forces(energy_fn), *pair(6, 6, 2.0))
    np.testing.assert_allclose(energy, screened(6, 6, 2.0) / 2, rtol=1e-12)
    for r in (2.499999, 2.500001):
        energy, force = run(energy_and_forces(energy_fn), *pair(6, 6, r))
        assert abs(float(energy)) < 1e-12
        assert np.abs(force).max() < 1e-8


def test_bare_nuclei_at_contact():
    energy_fn = bind(physics.zbl(2.5), {})
    energy = float(run(energy_fn, *pair(14, 14, 1e-5)))
    np.testing.assert_allclose(energy, units.COULOMB * 14**2 / 1e-5, rtol=2e-4)


def test_init_takes_no_parameters():
    assert physics.zbl(2.5).init() == {}
    with pytest.raises(ValueError, match="onset must be"):
        physics.zbl(2.5, onset=3.0)


def test_trainable_starts_from_the_universal_screening():
    """The same as a sum over pairs without a rule of its own, derivatives by parameters too."""
    potential, system = physics.trainable_zbl(3.0), crystal()
    neighbors = neighbor_list(3.0).allocate(system)

    def plain(params):
        screening = physics.screening_of(params)
        pairs, envelope = neighbors.pairs[0], functools.partial(bump, cutoff=3.0)
        return jnp.sum(physics.repulsion_energies(screening, system, pairs, envelope))

    def bound(params):
        return bind(potential, params)(system, neighbors)

    params = potential.init()
    np.testing.assert_allclose(physics.screening_of(params).decays, UNIVERSAL.decays, rtol=1e-12)
    (value, slope), (expected, other) = jax.jit(
        lambda p: (jax.value_and_grad(bound)(p), jax.value_and_grad(plain)(p))
    )(params)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    for name, gradient in slope.items():
        np.testing.assert_allclose(gradient, other[name], rtol=1e-9)
        assert np.abs(gradient).min() > 0
    assert physics.trainable_zbl(3) is potential
    with pytest.raises(TypeError, match="takes by name"):
        potential.init(decays=1.0)
