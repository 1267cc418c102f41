import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import difference

from jaxff import physics, units
from jaxff.neighbors import neighbor_list
from jaxff.physics.ewald import ewald_energies, ewald_plan
from jaxff.physics.sums import pair_sums
from jaxff.system import System, pack, strain


def point(distances):
    return 1.0 / distances


@functools.partial(jax.jit, static_argnames=("plan", "constant"))
def energy(charges, system, neighbors, plan, constant=units.COULOMB):
    pairs = neighbors.pairs[0]
    return jnp.sum(ewald_energies(charges, system, plan, pairs, point, constant=constant))


@pytest.mark.golden
def test_stored_sums(reference_dir):
    with np.load(reference_dir / "electrostatics.npz") as file:
        data = dict(file)
    names = [n for n in data["names"] if f"{n}/bruteforce_energy" in data]
    assert names
    for name in names:
        system = System(data[f"{name}/R"], data[f"{name}/Z"], data[f"{name}/cell"])
        plan = ewald_plan(system.cell, cutoff=6.0, accuracy=1e-12)
        neighbors = neighbor_list(6.0).allocate(system)
        charges = jnp.asarray(data[f"{name}/charges"])
        constant = 14.399645478425667
        value, slope = jax.jit(
            jax.value_and_grad(energy, (0, 1), allow_int=True), static_argnums=(3, 4)
        )(charges, system, neighbors, plan, constant)
        np.testing.assert_allclose(value, data[f"{name}/bruteforce_energy"], rtol=0, atol=1e-9)
        potentials = data[f"{name}/bruteforce_potential_times_ke"]
        np.testing.assert_allclose(slope[0], potentials, rtol=0, atol=1e-9)
        # The settings of the stored forces leave 1e-6.
        forces = data[f"{name}/ewald/forces"]
        np.testing.assert_allclose(-slope[1].positions, forces, rtol=0, atol=2e-6)


def rock_salt(a=5.64, noise=0.0):
    points = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * a / 2
    numbers = np.where(points.sum(axis=1) / a % 1 < 0.25, 11, 17)
    points = points + np.random.default_rng(0).normal(size=points.shape) * noise
    return System(points, numbers, np.eye(3) * a)


@pytest.mark.parametrize(("mesh", "tolerance"), [(False, 1e-10), (True, 1e-5)])
def test_madelung_constant_of_rock_salt(mesh, tolerance):
    """1.7475645946 (Borwein et al., J. Math. Phys. 26, 2999 (1985))."""
    system = rock_salt()
    charges = jnp.where(system.numbers == 11, 1.0, -1.0)
    plan = ewald_plan(system.cell, cutoff=6.0, accuracy=1e-12, mesh=mesh)
    found = energy(charges, system, neighbor_list(6.0).allocate(system), plan)
    madelung = -float(found) / 4 * (5.64 / 2) / units.COULOMB
    np.testing.assert_allclose(madelung, 1.7475645946331822, rtol=tolerance)


def test_forces_stress_and_charge_derivatives_with_charges_that_move():
    system = rock_salt(noise=0.2)
    neighbors = neighbor_list(5.0).allocate(system)
    plan = ewald_plan(system.cell, width=1.6)
    damped = functools.partial(physics.erf_damped, width=1.6)

    @jax.jit
    def total(deformation, positions, given):
        moved = strain(system.replace(positions=positions), deformation)
        own = jnp.where(system.numbers == 11, 1.0, -1.0)
        near = pair_sums(
            lambda r, a, b: 1e-2 * (a + b) * (25 - r**2) ** 3 / 1e3 * jnp.exp(-r),
            moved, neighbors.pairs[0], own,
        )  # fmt: skip
        return jnp.sum(ewald_energies(own + near + given, moved, plan))

    arguments = (np.zeros((3, 3)), np.asarray(system.positions), np.zeros(8))
    found = jax.jit(jax.grad(total, (0, 1, 2)))(*arguments)
    for index, value in enumerate(found):

        def along(x, index=index):
            return total(*(x if k == index else a for k, a in enumerate(arguments)))

        np.testing.assert_allclose(value, difference(along, arguments[index]), rtol=0, atol=1e-7)
    # Gaussian charges need no pairs: with them and their interaction nothing changes.
    charges = jnp.where(system.numbers == 11, 1.0, -1.0)
    both = jax.jit(
        lambda s: (
            ewald_energies(charges, s, plan),
            ewald_energies(charges, s, plan, neighbors.pairs[0], damped),
        )
    )(system)
    np.testing.assert_allclose(*both, rtol=1e-13)


def test_a_molecule_in_a_large_cell_is_a_molecule():
    positions = np.array([[0.0, 0, 0], [0.9, 0.3, 0], [-0.4, 0.8, 0.2]])
    charges = jnp.asarray([-0.8, 0.4, 0.4])
    damped = functools.partial(physics.erf_damped, width=4.0)
    free = physics.coulomb_energies(charges, System(positions, [8, 1, 1]), None, damped)
    system = System(positions, [8, 1, 1], np.eye(3) * 60)
    found = jax.jit(lambda s: ewald_energies(charges, s, ewald_plan(np.eye(3) * 60, width=4.0)))(
        system
    )
    dipole = np.asarray(charges @ positions)
    # What is left is the energy of the dipole in the field of its images, 2 pi mu^2 / 3 V.
    images = units.COULOMB * 2 * np.pi / 3 * (dipole @ dipole) / 60**3
    np.testing.assert_allclose(found.sum() - free.sum(), -images, rtol=2e-2)
    padded = System(np.concatenate([positions, np.ones((1, 3))]), [8, 1, 1, 0], system.cell)
    more = jnp.append(charges, 5.0)
    plan = ewald_plan(np.eye(3) * 60, width=4.0)
    np.testing.assert_allclose(
        jax.jit(lambda s: ewald_energies(more, s, plan))(padded)[:3], found, rtol=1e-12
    )


def test_float32():
    system = rock_salt(noise=0.2)
    charges = jnp.where(system.numbers == 11, 1.0, -1.0)
    plan, pairs = ewald_plan(system.cell, cutoff=6.0), neighbor_list(6.0).allocate(system)
    exact = energy(charges, system, pairs, plan)
    single = System(*(np.asarray(x, np.float32) for x in (system.positions,)), system.numbers,
                    np.asarray(system.cell, np.float32))  # fmt: skip
    found = energy(charges.astype(np.float32), single, pairs, plan)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, exact, rtol=1e-5)


def test_a_plan_serves_for_cells_of_similar_size():
    """Longer lattice vectors lose the digits that are said, and are refused where few are left."""
    charges = jnp.where(rock_salt().numbers == 11, 1.0, -1.0)
    plan = ewald_plan(rock_salt().cell, width=1.2)
    evaluate = jax.jit(
        lambda s, plan: jax.value_and_grad(
            lambda r: jnp.sum(ewald_energies(charges, s.replace(positions=r), plan))
        )(s.positions),
        static_argnums=1,
    )
    for factor in (0.8, 1.2, 1.35):
        system = rock_salt(5.64 * factor, noise=0.2)
        expected = evaluate(system, ewald_plan(system.cell, width=1.2, accuracy=1e-12))
        found = evaluate(system, plan)
        lost = 10 * 1e-8 ** (1 / factor**2)
        jax.tree.map(lambda a, b, e=lost: np.testing.assert_allclose(a, b, e, e), found, expected)
    assert all(np.isnan(x).all() for x in evaluate(rock_salt(5.64 * 1.8), plan))


def test_refused():
    system, charges = rock_salt(), jnp.ones(8)
    plan = ewald_plan(system.cell, width=4.0)
    with pytest.raises(ValueError, match="periodic in all three directions"):
        ewald_energies(charges, system.replace(pbc=jnp.asarray([True, False, True])), plan)
    traced = jax.jit(lambda s: ewald_energies(charges, s, plan))
    assert np.isnan(traced(system.replace(pbc=jnp.asarray([True, False, True])))).all()
    for other in (system.replace(cell=None), pack([system])):
        with pytest.raises(ValueError, match=r"system with a cell|map over a stack"):
            ewald_energies(charges, other, plan)
    with pytest.raises(ValueError, match="pairs and interaction belong together"):
        ewald_energies(charges, system, plan, interaction=point)
    for arguments in ({}, {"cutoff": 5.0, "width": 1.0}):
        with pytest.raises(ValueError, match="give either cutoff"):
            ewald_plan(system.cell, **arguments)
    with pytest.raises(ValueError, match="must be positive numbers"):
        ewald_plan(system.cell, width=-1.0)
    with pytest.raises(ValueError, match="accuracy must be"):
        ewald_plan(system.cell, cutoff=5.0, accuracy=0.0)
    with pytest.raises(ValueError, match="three independent lattice vectors"):
        ewald_plan(np.zeros((3, 3)), cutoff=5.0)
