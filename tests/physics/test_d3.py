import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import crystal, difference, run

from jaxff import physics
from jaxff.derivatives import energy_and_forces
from jaxff.neighbors import neighbor_list
from jaxff.physics import BeckeJohnson, d3_dispersion, d3_tables
from jaxff.potential import bind
from jaxff.system import System, pack, strain, sum_atoms

PBE0 = BeckeJohnson(s6=1.0, s8=1.2177, a1=0.4145, a2=4.8593)


@pytest.mark.golden
def test_energies_and_forces_of_dftd3(reference_dir):
    with np.load(reference_dir / "dispersion_zbl.npz") as file:
        data = dict(file)
    given = json.loads(str(data["hyperparameters"]))["d3_params"]["pbe0_bj"]
    assert PBE0._asdict() == {name: given[name] for name in PBE0._fields}
    names = [n for n in data["names"] if not data[f"{n}/pbc"].any()]
    assert names
    system = pack([System(data[f"{n}/R"], data[f"{n}/Z"]) for n in names])
    tables = d3_tables(np.unique(system.numbers).tolist())

    @jax.jit
    def evaluate(positions):
        def energy(positions):
            found = d3_dispersion(system.replace(positions=positions), None, tables, PBE0)
            energies = sum_atoms(system, found.energies)
            return energies.sum(), energies

        return jax.value_and_grad(energy, has_aux=True)(positions)

    (_, energies), gradient = evaluate(system.positions)
    expected = [float(data[f"{n}/d3/pbe0_bj/energy"]) for n in names]
    np.testing.assert_allclose(energies, expected, rtol=0, atol=1e-8)
    forces = np.concatenate([data[f"{n}/d3/pbe0_bj/forces"] for n in names])
    np.testing.assert_allclose(-gradient, forces, rtol=0, atol=1e-8)


@pytest.fixture(scope="module")
def potential():
    return physics.d3(["C", "O"], 4.5)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_potential_in_a_cell(potential, dtype):
    """The same as the sum without a rule, and its derivatives those by differences."""
    system = crystal()
    wide = bind(potential, potential.init(**PBE0._asdict()))
    neighbors = neighbor_list(4.5, skin=0.2).allocate(system)
    if dtype is np.float32:
        single = System(
            np.asarray(system.positions, dtype), system.numbers, np.asarray(system.cell, dtype)
        )
        energy, force = run(energy_and_forces(wide), single, neighbors)
        assert energy.dtype == force.dtype == dtype
        np.testing.assert_allclose(energy, run(wide, system, neighbors), rtol=1e-5)
        return

    def energy(deformation, positions):
        return wide(strain(system.replace(positions=positions), deformation), neighbors)

    start = (jnp.zeros((3, 3)), system.positions)
    found = jax.jit(jax.grad(energy, (0, 1)))(*start)
    by_strain = difference(lambda e: energy(e, start[1]), start[0])
    np.testing.assert_allclose(found[0], by_strain, rtol=0, atol=1e-8)
    by_positions = difference(lambda r: energy(start[0], r), start[1])
    np.testing.assert_allclose(found[1], by_positions, rtol=0, atol=1e-8)


def test_other_elements_give_nan_and_padding_nothing():
    tables = d3_tables(["C", "O"])
    positions = np.array([[0.0, 0, 0], [0, 0, 3.0], [0, 2.5, 0]])

    @jax.jit
    def energies(positions, numbers):
        return d3_dispersion(System(positions, numbers), None, tables, PBE0).energies

    found = energies(positions, np.array([6, 8, 7]))
    np.testing.assert_array_equal(np.isnan(found), [False, False, True])
    padded = energies(positions, np.array([6, 8, 0]))
    assert padded[2] == 0.0
    alone = energies(positions[:2], np.array([6, 8]))
    np.testing.assert_allclose(padded[:2], alone, rtol=1e-12)


def test_bad_arguments():
    with pytest.raises(ValueError, match="D3 has data up to radon"):
        physics.d3(["C", "U"], 5.0)
    with pytest.raises(ValueError, match="cutoff must be a positive number"):
        physics.d3("C", 0.0)
    with pytest.raises(TypeError, match="takes by name"):
        physics.d3("C", 5.0).init(s6=1.0)
    assert physics.d3("C", 5) is physics.d3([6], 5.0)
