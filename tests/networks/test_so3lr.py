"""SO3LR in cells: liquids and crystals against molecules, and one against another cell."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxff import System, bind, neighbor_list, pack, units
from jaxff.networks import so3lr
from jaxff.physics import ewald_plan

SMALL = {
    "cutoff": 3.0, "features": 4, "layers": 1, "heads": 2, "degrees": (1, 2),
    "radial_functions": 4, "dtype": "float64",
}  # fmt: skip
FAR = 8.0  # dispersion within the molecules below is not switched off
WATER = np.array([[0.0, 0.0, 0.0], [0.76, 0.59, 0.0], [-0.76, 0.59, 0.1]])


def water(count=1, charge=0.0):
    rng = np.random.default_rng(0)
    places = np.concatenate([WATER + np.array([0.0, 0.0, 2.5 * k]) for k in range(count)])
    places = places + 0.03 * rng.normal(size=places.shape)
    return System(places, [8, 1, 1] * count, charge=charge, spin=0.0)


def boxed(system, cell):
    return system.replace(cell=jnp.asarray(cell), pbc=jnp.ones(3, bool))


def model(cell=None, far=FAR):
    return so3lr(far, ewald=None if cell is None else ewald_plan(cell, width=4.0), **SMALL)


@pytest.fixture(scope="module")
def params():
    """Of the right shapes and a moderate size; to draw them by ``init`` is to compile it."""
    potential, system, rng = model(), water(2), np.random.default_rng(0)
    lists = neighbor_list(potential.cutoffs).allocate(system)
    shapes = jax.eval_shape(lambda: potential.init(jax.random.key(0), system, lists))
    return jax.tree.map(lambda leaf: jnp.asarray(0.5 * rng.normal(size=leaf.shape)), shapes)


@jax.jit
def evaluate(energy_fn, system, lists):
    return energy_fn.outputs(system, lists)


def outputs(potential, params, system):
    lists = neighbor_list(potential.cutoffs).allocate(system)
    return evaluate(bind(potential, params), system, lists)


def test_a_molecule_in_a_growing_cell_becomes_the_free_one(params):
    """The energy of the dipole or charge among its images first, then higher powers of 1/L."""
    lengths = (20.0, 40.0)
    alone, periodic = model(far=None), model(lengths[1] * np.eye(3))
    rest = {}
    for charge in (0.0, 1.0):
        free = outputs(alone, params, water(charge=charge))
        for length in lengths:
            found = outputs(periodic, params, boxed(water(charge=charge), length * np.eye(3)))
            for name in ("network_energy", "repulsion_energy", "dispersion_energy"):
                np.testing.assert_allclose(found[name], free[name], rtol=1e-12)
            images = found["energy"] - free["energy"]
            if charge:
                # Madelung's constant of point charges in a cube with a background.
                rest[charge, length] = images + units.COULOMB * 2.8372974795 / (2 * length)
            else:
                field = 2 * np.pi / 3 * units.COULOMB * np.sum(free["dipole"] ** 2) / length**3
                np.testing.assert_allclose(images, -field, rtol=0.02)
                rest[charge, length] = images
        assert abs(rest[charge, lengths[0]]) > 1e-6
        ratio = rest[charge, lengths[0]] / rest[charge, lengths[1]]
        np.testing.assert_allclose(ratio, 8.0, rtol=0.02)


def test_a_supercell_has_the_energies_of_its_cells(params):
    """In a skewed cell below twice the cutoffs: atoms see images of others and of themselves."""
    cell = np.array([[4.3, 0.0, 0.0], [0.9, 4.6, 0.0], [-0.7, 0.8, 5.4]])
    small = boxed(water(2), cell)
    large = boxed(small.replace(
        positions=jnp.concatenate([small.positions, small.positions + cell[0]]),
        numbers=jnp.tile(small.numbers, 2),
    ), cell * np.array([[2.0], [1.0], [1.0]]))  # fmt: skip
    potential = model(large.cell, 6.0)
    one, two = (outputs(potential, params, system) for system in (small, large))
    np.testing.assert_allclose(2 * one["energy"], two["energy"], rtol=1e-9)
    np.testing.assert_allclose(jnp.tile(one["atomic_energies"], 2), two["atomic_energies"], 1e-8)
    for name in ("electrostatic_energy", "dispersion_energy"):
        np.testing.assert_allclose(2 * one[name], two[name], rtol=1e-7)
        assert abs(one[name]) > 1e-3


def test_refused(params):
    cell = 10.0 * np.eye(3)
    potential, system = model(cell), water()
    crystal = boxed(system, cell)
    lists = neighbor_list(potential.cutoffs).allocate(system)
    for given, message in (
        (system, "this one is a molecule: put it into"),
        (pack([crystal]), "map over a stack"),
        (crystal.replace(pbc=np.array([True, True, False])), "periodic in all three directions"),
    ):
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(lambda p, s=given: bind(potential, p)(s, lists), params)
    for name in ("charge_width", "dispersion_damping", "taper"):
        with pytest.raises(ValueError, match=f"{name} must be a positive number, got 0.0"):
            so3lr(FAR, **{name: 0.0}, **SMALL)
    assert so3lr(FAR, charge=False, **SMALL).uses == {"charge", "spin"}
    with pytest.raises(ValueError, match="leaves dispersion to a cutoff"):
        model(cell, None)
    with pytest.raises(ValueError, match=r"ewald_plan\(cell, width=3.0\)"):
        so3lr(FAR, ewald=ewald_plan(cell, width=4.0), charge_width=3.0, **SMALL)
