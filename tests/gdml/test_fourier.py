"""Sums over translations by Fourier transform against the direct sums."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from crystals import COVERED, covered_frames, covered_group

from jaxff import bind, gdml, io
from jaxff.derivatives import energy_and_forces, hessian_vector
from jaxff.descriptors import inverse_distances, log_distances
from jaxff.gdml.operator import GdmlOperator
from jaxff.kernels import Kernel, matern52
from jaxff.linalg import solvers

HYPER = {"lengthscale": jnp.asarray(3.0)}
# Real and complex frequencies, orbits that are passed through once, twice and, of the two atoms on
# the sheet, by every translation.
GROUP, ATOMS = covered_group(), COVERED.atom_count
DIRECT = Kernel(inverse_distances, matern52, GROUP.permutations)
FOURIER = Kernel(inverse_distances, matern52, GROUP.permutations, GROUP.translations)


def operators(energies):
    return [
        GdmlOperator(kernel, HYPER, covered_frames(4), energies) for kernel in (DIRECT, FOURIER)
    ]


def test_the_group_is_what_the_tests_are_for():
    assert (GROUP.orders, len(GROUP.cosets), len(GROUP)) == ((6,), 4, 24)


@pytest.mark.parametrize("energies", [False, True])
def test_products_agree(energies):
    direct, fourier = operators(energies)
    vector = np.random.default_rng(1).normal(size=direct.size)
    expected = np.asarray(direct.matvec(vector))
    np.testing.assert_allclose(
        fourier.matvec(vector), expected, rtol=0, atol=1e-12 * np.abs(expected).max()
    )
    assert fourier.prepared(1e12) is fourier
    if not energies:
        lowered = fourier.lowered().matvec(vector)
        np.testing.assert_allclose(lowered, expected, atol=1e-5 * np.abs(expected).max())


@pytest.fixture(scope="module")
def models():
    """Fitted by either kernel; the labels are of no potential."""
    rng = np.random.default_rng(2)
    forces = rng.normal(size=(4, ATOMS, 3))
    labels = {"forces": forces, "energy": rng.normal(size=4)}
    fitted = []
    for kernel in (DIRECT, FOURIER):
        potential = gdml.potential(kernel)
        with pytest.warns(UserWarning, match="in the oblique cell"):
            params = potential.init(jax.random.key(0), covered_frames(4), hyper=HYPER)
        fitted.append(
            (
                potential,
                *gdml.fit(
                    potential, params, labels, solver=solvers.cholesky(), regularization=1e-6
                ),
            )
        )
    return fitted


@jax.jit
def observed(energy_fn, system, vector):
    energy, forces = energy_and_forces(energy_fn)(system)
    return energy, forces, hessian_vector(energy_fn)(system, vector)


def test_models_agree(models):
    """Energies, forces and second derivatives, alone and in blocks."""
    systems = covered_frames(3, seed=5)
    vector = jnp.asarray(np.random.default_rng(3).normal(size=systems.positions.shape))
    direct, fourier = (observed(bind(*model[:2]), systems, vector) for model in models)
    for expected, found in zip(direct, fourier, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-9 * np.abs(expected).max())
    permuted = systems.replace(positions=systems.positions[:, GROUP.permutations[17]])
    energy = observed(bind(*models[1][:2]), permuted, vector)[0]
    np.testing.assert_allclose(energy, fourier[0], rtol=0, atol=1e-10)


def test_files_keep_the_translations(models, tmp_path):
    potential, params, _ = models[1]
    io.save(tmp_path / "model", potential, params)
    again, _ = io.load(tmp_path / "model")
    assert again is potential  # equal kernels are one potential
    assert DIRECT != FOURIER


def test_what_is_no_part_of_the_group_is_refused():
    identity = np.arange(ATOMS)[None]
    with pytest.raises(ValueError, match="must be among the permutations"):
        Kernel(inverse_distances, matern52, identity, GROUP.translations)
    with pytest.raises(ValueError, match="rows that generate a part of the permutations"):
        Kernel(inverse_distances, matern52, None, GROUP.translations)
    with pytest.raises(ValueError, match="declares how its features permute"):
        Kernel(lambda system: system.positions, matern52, GROUP.permutations, GROUP.translations)
    assert Kernel(log_distances, matern52, identity, GROUP.translations[:0]).translations is None
