"""Stress of global kernels in periodic cells: what determines it, and that it is right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernel_models import CELL, crystal
from models import difference

from jaxff import bind, dynamics, gdml, io
from jaxff.derivatives import forces, observe, stress, virial
from jaxff.descriptors import smooth_images
from jaxff.gdml.potential import is_of_one_cell
from jaxff.kernels import Kernel, matern52
from jaxff.linalg import solvers
from jaxff.potential import add, scale_shift
from jaxff.system import System, strain

SYSTEMS = crystal(3)
DESCRIPTOR = smooth_images(sharpness=34.0 / 3.2**2)
POTENTIAL = gdml.potential(Kernel(DESCRIPTOR, matern52))
RNG = np.random.default_rng(0)
FORCES = RNG.normal(size=(3, 4, 3))


def single(systems, index=0):
    return jax.tree.map(lambda leaf: leaf[index], systems)


def fitted(systems, **labels):
    params = POTENTIAL.init(jax.random.key(0), systems, hyper={"lengthscale": 2.0})
    return gdml.fit(
        POTENTIAL, params, {"forces": FORCES, **labels}, solver=solvers.cholesky(),
        regularization=1e-6,
    )[0]  # fmt: skip


@pytest.fixture(scope="module")
def one_cell():
    return fitted(SYSTEMS)


def test_forces_in_one_cell_do_not_determine_the_stress(one_cell, tmp_path):
    system = single(SYSTEMS)
    for energy_fn in (
        bind(POTENTIAL, one_cell),
        bind(add(POTENTIAL, POTENTIAL), (one_cell, one_cell)),
        bind(scale_shift(POTENTIAL, 2.0, 0.0), one_cell),
    ):
        for quantity in (stress(energy_fn), virial(energy_fn), observe(energy_fn, ["stress"])):
            with pytest.raises(ValueError, match="Fit it to stress labels, or to frames"):
                quantity(system)
    with pytest.raises(ValueError, match="forces in a single cell"):
        dynamics.run(
            bind(POTENTIAL, one_cell), system,
            ensemble=dynamics.npt(1.0, 300.0, 0.0, 0.01, 1000.0), steps=1,
            temperature=300.0, key=jax.random.key(0),
        )  # fmt: skip
    io.save(tmp_path / "model", POTENTIAL, one_cell)
    assert "stress" in bind(*io.load(tmp_path / "model")).refused


SKEW = np.array([[1, 0, 0], [1, 1, 0], [0, -1, 1]])


def test_one_cell_is_the_only_one(one_cell):
    """The same lattice by other vectors, or turned, is served; a strained one is refused."""
    energy_fn, system = bind(POTENTIAL, one_cell), single(SYSTEMS)
    turn = np.linalg.qr(RNG.normal(size=(3, 3)))[0]
    for own in (
        system.replace(cell=SKEW @ system.cell),
        system.replace(cell=system.cell @ turn, positions=system.positions @ turn),
    ):
        np.testing.assert_allclose(energy_fn(own), energy_fn(system), atol=1e-10)
        np.testing.assert_allclose(jax.jit(energy_fn)(own), energy_fn(system), atol=1e-10)
    other = strain(system, jnp.zeros((3, 3)).at[0, 0].set(0.01))
    with pytest.raises(ValueError, match="fitted in the single cell"):
        energy_fn(other)
    assert np.isnan(jax.jit(energy_fn)(other))
    cells = jnp.stack([system.cell, other.cell])
    both = jax.tree.map(lambda leaf: leaf[:2], SYSTEMS).replace(cell=cells)
    found = jax.jit(energy_fn)(both)
    assert np.isfinite(found[0])
    assert np.isnan(found[1])


def test_what_counts_as_one_cell():
    """Other vectors, rotations and rounding are no strain; a strain of one in a hundred is."""
    turn = np.linalg.qr(RNG.normal(size=(3, 3)))[0]
    cells = np.stack([CELL, SKEW @ CELL, CELL @ turn, CELL * (1.0 + 1e-6)])
    kernel, positions = POTENTIAL.kernel, np.zeros((4, *SYSTEMS.positions.shape[1:]))
    stack = System(positions, np.tile(SYSTEMS.numbers[0], (4, 1)), cells)
    assert is_of_one_cell(kernel, stack, ["forces"])
    assert not is_of_one_cell(kernel, stack, ["forces", "stress"])
    cells[3] *= 1.01
    assert not is_of_one_cell(kernel, stack.replace(cell=cells), ["forces"])


def test_strain_derivative(one_cell):
    """Of a model fitted in several cells, against finite differences to 1e-6 eV/Å³."""
    growth = jnp.asarray(0.03 * RNG.normal(size=(3, 3, 3)))
    params = fitted(jax.vmap(strain)(SYSTEMS, growth))
    assert "one_cell" in one_cell
    assert "one_cell" not in params
    energy_fn, system = bind(POTENTIAL, params), single(SYSTEMS, 1)
    compiled = jax.jit(lambda d: energy_fn(strain(system, d.reshape(3, 3))))
    volume = abs(np.linalg.det(CELL))
    found = jax.jit(stress(energy_fn))(system)
    expected = difference(compiled, np.zeros(9)).reshape(3, 3) / volume
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert np.abs(found).max() > 1e-3
    # Strained and moved by a lattice vector, an atom is where it was.
    moved = system.replace(positions=system.positions.at[2].add(system.cell[0] - system.cell[2]))
    np.testing.assert_allclose(jax.jit(stress(energy_fn))(moved), found, atol=1e-10)


def test_stress_labels_determine_it():
    """Labels of a function of the same features: what else could a model of these reproduce?"""

    def true(system, neighbors=None):
        return jnp.sum((DESCRIPTOR(system) - 0.3) ** 2)

    labels = {
        name: jax.jit(jax.vmap(function(true)))(SYSTEMS)
        for name, function in (("forces", forces), ("stress", stress))
    }
    params = fitted(SYSTEMS, **labels)
    found = jax.jit(jax.vmap(stress(bind(POTENTIAL, params))))(SYSTEMS)
    largest = float(np.abs(labels["stress"]).max())
    np.testing.assert_allclose(found, labels["stress"], atol=0.01 * largest)
