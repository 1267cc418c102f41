"""Runs in float32 begin only where forces are worth it: kernels fitted to ethanol, and pairs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxff import gdml
from jaxff.data import npz
from jaxff.data.embedded import ethanol_path
from jaxff.derivatives import forces
from jaxff.descriptors import inverse_distances
from jaxff.dynamics import nve, run, single_precision_error
from jaxff.kernels import Kernel, matern52
from jaxff.linalg import solvers
from jaxff.neighbors import neighbor_list
from jaxff.potential import bind
from jaxff.system import System, stack

POTENTIAL = gdml.potential(Kernel(inverse_distances, matern52))
SETTINGS = {"ensemble": nve(0.5), "steps": 2, "temperature": 100.0, "key": jax.random.key(0)}


def narrow(tree):
    def one(leaf):
        return leaf.astype(jnp.float32) if leaf.dtype == jnp.float64 else leaf

    return jax.tree.map(one, jax.tree.map(jnp.asarray, tree))


@pytest.fixture(scope="module")
def ethanol():
    return npz.read(ethanol_path())


@pytest.fixture(scope="module")
def fitted(ethanol):
    """A kernel model of 40 frames, by its length scale and regularization."""
    frames = ethanol[np.arange(0, 2000, 50)]

    def fit(lengthscale, regularization):
        hyper = {"lengthscale": lengthscale}
        params = POTENTIAL.init(jax.random.key(0), frames.systems, hyper=hyper)
        params, _ = gdml.fit(
            POTENTIAL, params, frames.labels("forces"), solver=solvers.cholesky(),
            regularization=regularization,
        )  # fmt: skip
        return bind(POTENTIAL, params)

    return fit


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lengthscale", "regularization", "begins"),
    [(5.0, 1e-6, True), (20.0, 1e-10, False)],
    ids=["small coefficients", "large coefficients that cancel"],
)
def test_kernels_run_in_float32_only_if_their_forces_bear_it(
    fitted, ethanol, lengthscale, regularization, begins
):
    energy_fn = fitted(lengthscale, regularization)
    system = narrow(System(ethanol.positions[7], ethanol.numbers))
    single = narrow(energy_fn)
    relative, error = single_precision_error(single, system)
    # The same, by hand: rounded coefficients in wide arithmetic are what float32 aims at.
    wide = jax.tree.map(
        lambda x: x.astype(jnp.float64) if x.dtype == jnp.float32 else x, (single, system)
    )
    exact = np.asarray(forces(wide[0])(wide[1]))
    rms = np.sqrt(np.mean((np.asarray(forces(single)(system)) - exact) ** 2))
    assert error == pytest.approx(rms, rel=0.9)  # roundings depend on the order of sums
    assert relative == pytest.approx(error / np.sqrt(np.mean(exact**2)), rel=1e-3)
    assert (relative < 1e-3) is begins
    if begins:
        result = run(single, system, **SETTINGS)
        assert result.positions.dtype == np.float32
        return
    with pytest.raises(ValueError, match="forces in float32 differ") as caught:
        run(single, system, **SETTINGS)
    assert f"{relative:.2g} of their size" in str(caught.value)
    assert "float64" in str(caught.value)
    with pytest.raises(ValueError, match="forces in float32 differ"):
        run(single, stack([system, system]), **SETTINGS)
    # In float64 the same model runs.
    wide_system = System(ethanol.positions[7], ethanol.numbers)
    assert run(energy_fn, wide_system, **SETTINGS).steps[-1] == 2


def test_pairs_are_good_in_float32(argon, lennard_jones):
    shaken = argon.replace(positions=argon.positions + 0.1 * np.sin(np.arange(96)).reshape(32, 3))
    relative, _ = single_precision_error(
        lennard_jones, narrow(shaken), neighbor_list(5.0, skin=0.5)
    )
    assert 0 < relative < 1e-5


def test_forces_that_vanish_by_symmetry_are_no_reason_to_refuse(argon, lennard_jones):
    relative, error = single_precision_error(
        lennard_jones, narrow(argon), neighbor_list(5.0, skin=0.5)
    )
    assert error < 1e-6
    assert relative < 1e-3
