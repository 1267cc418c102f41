import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernel_models import (
    CASES,
    SWAP,
    THREE_HYDROGENS,
    ammonia,
    crystal,
    powers,
    random_params,
    water,
)
from models import counting, difference, rotations, run

from jaxff import bind, energy_and_forces, forces, gdml, hessian, pack
from jaxff.descriptors import inverse_distances
from jaxff.gdml.expansion import expand
from jaxff.kernels import Kernel, matern52
from jaxff.linalg import solvers
from jaxff.system import System

KEY = jax.random.key(0)


@pytest.fixture(scope="module", params=CASES)
def built(request):
    """A case, its energy function with random coefficients, and one other geometry."""
    case = CASES[request.param]()
    system = jax.tree.map(lambda leaf: leaf[0], case.references)
    noise = np.random.default_rng(5).normal(size=system.positions.shape)
    moved = system.replace(positions=system.positions + 0.03 * noise)
    return case, bind(*random_params(case, energies=True)), moved


def test_forces_are_minus_the_gradient(built):
    _, energy_fn, system = built
    energy, found = run(energy_and_forces(energy_fn), system)
    numeric = -difference(lambda r: energy_fn(system.replace(positions=r)), system.positions)
    assert energy.shape == ()
    assert np.allclose(found, numeric, rtol=0, atol=1e-7 * np.abs(numeric).max())


def test_hessian_at_a_reference_equals_differences_of_forces(built):
    """Coincident points, where derivatives of a square root are not finite."""
    case, energy_fn, _ = built
    system = jax.tree.map(lambda leaf: leaf[1], case.references)
    found = run(hessian(energy_fn), system)
    assert np.all(np.isfinite(found))
    numeric = -difference(
        lambda r: forces(energy_fn)(system.replace(positions=r)), system.positions, step=1e-4
    )
    scale = np.abs(numeric).max()
    assert np.allclose(found, numeric, rtol=0, atol=2e-6 * scale)
    flat = found.reshape(system.positions.size, -1)
    assert np.allclose(flat, flat.T, rtol=0, atol=1e-12 * scale)


def test_stack_equals_single_systems(built):
    case, energy_fn, _ = built
    energies, found = run(energy_and_forces(energy_fn), case.references)
    assert energies.shape == (len(case.references.positions),)
    for index in (0, 2):
        single = jax.tree.map(lambda leaf, i=index: leaf[i], case.references)
        energy, force = run(energy_and_forces(energy_fn), single)
        assert np.isclose(energies[index], energy, rtol=1e-12)
        assert np.allclose(found[index], force, rtol=0, atol=1e-11 * np.abs(found).max())


def test_two_leading_axes():
    case = CASES["matern52"]()
    energy_fn = bind(*random_params(case))
    twice = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), case.references)
    found = run(energy_fn, twice)
    assert found.shape == (2, 5)
    assert np.allclose(found, run(energy_fn, case.references))


def test_symmetries_of_the_energy(built):
    case, energy_fn, system = built
    energy, force = run(energy_and_forces(energy_fn), system)
    scale = np.abs(force).max()
    moved = system.replace(positions=system.positions + jnp.asarray([0.3, -2.0, 1.0]))
    again, found = run(energy_and_forces(energy_fn), moved)
    assert np.isclose(again, energy, rtol=1e-11)
    assert np.allclose(found, force, rtol=0, atol=1e-10 * scale)
    assert np.abs(force.sum(axis=0)).max() < 1e-10 * scale
    if case.kernel.permutations is not None:
        for p in case.kernel.permutations[1:]:
            swapped = system.replace(positions=system.positions[p])
            again, found = run(energy_and_forces(energy_fn), swapped)
            assert np.isclose(again, energy, rtol=1e-11)
            assert np.allclose(found, force[p], rtol=0, atol=1e-10 * scale)
    for rotation in rotations(2):
        cell = None if system.cell is None else system.cell @ rotation.T
        turned = system.replace(positions=system.positions @ rotation.T, cell=cell)
        again, found = run(energy_and_forces(energy_fn), turned)
        assert np.isclose(again, energy, rtol=1e-11)
        assert np.allclose(found, force @ rotation.T, rtol=0, atol=1e-10 * scale)


def test_a_permutation_outside_the_group_changes_the_energy():
    energy_fn = bind(*random_params(CASES["no_symmetry"]()))
    system = jax.tree.map(lambda leaf: leaf[0], water(1, seed=9))
    swapped = system.replace(positions=system.positions[SWAP[1]])
    assert not np.isclose(run(energy_fn, system), run(energy_fn, swapped), rtol=1e-3)


def test_lattice_translations_of_single_atoms_change_nothing():
    case = CASES["periodic"]()
    energy_fn = bind(*random_params(case))
    system = jax.tree.map(lambda leaf: leaf[0], case.references)
    shifts = np.array([[0, 0, 0], [1, 0, -2], [0, 3, 0], [-1, 1, 1]]) @ np.asarray(system.cell)
    moved = system.replace(positions=system.positions + shifts)
    before, after = (run(energy_and_forces(energy_fn), s) for s in (system, moved))
    assert np.isclose(before[0], after[0], rtol=1e-11)
    assert np.allclose(before[1], after[1], rtol=0, atol=1e-9 * np.abs(before[1]).max())


def test_init_predicts_nothing():
    potential = gdml.potential(Kernel(inverse_distances, matern52, SWAP))
    params = potential.init(KEY, water(), hyper={"lengthscale": 1})
    energies, found = run(energy_and_forces(bind(potential, params)), water())
    assert np.array_equal(energies, np.zeros(6))
    assert np.array_equal(found, np.zeros((6, 3, 3)))
    assert params["hyper"]["lengthscale"].dtype == jnp.float64


def test_other_atoms_are_refused_and_are_nan_inside_jit():
    energy_fn = bind(*random_params(CASES["matern52"]()))
    right = jax.tree.map(lambda leaf: leaf[0], water(1))
    wrong = System(right.positions, [1, 8, 1])
    with pytest.raises(
        ValueError, match=r"made for atoms \[8, 1, 1\] in this order, got \[1, 8, 1\]"
    ):
        energy_fn(wrong)
    energy, force = run(energy_and_forces(energy_fn), wrong)
    assert np.isnan(energy)
    assert np.all(np.isnan(force))


def test_only_the_wrong_structures_of_a_stack_are_nan_and_the_message_shows_one():
    energy_fn = bind(*random_params(CASES["matern52"]()))
    systems = water(3)
    numbers = systems.numbers.at[1].set(jnp.asarray([1, 1, 8]))
    systems = systems.replace(numbers=numbers)
    energy, force = run(energy_and_forces(energy_fn), systems)
    assert np.isnan(energy).tolist() == [False, True, False]
    assert np.isnan(force).all(axis=(1, 2)).tolist() == [False, True, False]
    with pytest.raises(ValueError, match=r"got \[1, 1, 8\]"):
        energy_fn(systems)


def test_atoms_in_the_same_place_are_refused_and_are_nan_inside_jit():
    energy_fn = bind(*random_params(CASES["matern52"]()))
    systems = water(3)
    collapsed = systems.replace(positions=systems.positions.at[2, 1].set(systems.positions[2, 0]))
    with pytest.raises(ValueError, match=r"energy of geometry 2 is not finite \(1 such"):
        energy_fn(collapsed)
    assert np.isnan(run(energy_fn, collapsed)).tolist() == [False, False, True]


def test_shape_mismatches_are_refused_while_tracing():
    energy_fn = bind(*random_params(CASES["matern52"]()))
    with pytest.raises(ValueError, match="made for 3 atoms, got 4"):
        run(energy_fn, ammonia())
    singles = [jax.tree.map(lambda leaf, i=i: leaf[i], water()) for i in range(2)]
    with pytest.raises(ValueError, match="not packs: use stack"):
        run(energy_fn, pack(singles))


def test_periodic_and_free_geometries_do_not_mix():
    free, periodic = (bind(*random_params(CASES[name]())) for name in ("no_symmetry", "periodic"))
    with pytest.raises(ValueError, match="drop the cell"):
        run(free, water(2, cell=9.0 * np.eye(3)))
    with pytest.raises(ValueError, match="give the system its cell"):
        run(periodic, crystal().replace(cell=None, pbc=None))


@pytest.mark.parametrize(
    ("systems", "error", "message"),
    [
        (lambda: jax.tree.map(lambda leaf: leaf[0], water()), ValueError, "stack"),
        (
            lambda: water().replace(positions=water().positions.astype(jnp.float32)),
            TypeError,
            "float64 positions, got float32",
        ),
        (lambda: System(np.zeros((2, 1, 3)), [1]), ValueError, "at least two atoms"),
        (
            lambda: water().replace(numbers=water().numbers.at[2, 0].set(7)),
            ValueError,
            "same atoms",
        ),
        (lambda: System(np.zeros((2, 3, 3)), [8, 1, 1]), ValueError, "geometry 0 .* not finite"),
        (
            lambda: water().replace(positions=water().positions.at[4, 1].set(np.nan)),
            ValueError,
            "4",
        ),
        (lambda: System(water().positions, [8, 1, 6]), ValueError, "exchanged"),
        (lambda: ammonia(), ValueError, "3 atoms"),
    ],
    ids=["single", "float32", "atom", "order", "coincident", "nan", "elements", "size"],
)
def test_unusable_references_are_refused(systems, error, message):
    potential = gdml.potential(Kernel(inverse_distances, matern52, SWAP))
    with pytest.raises(error, match=message):
        potential.init(KEY, systems(), hyper={"lengthscale": 1.0})


def test_hyperparameters_must_be_named():
    potential = gdml.potential(Kernel(powers, matern52))
    with pytest.raises(ValueError, match=r"missing \['exponent'\]"):
        potential.init(KEY, water(), hyper={"lengthscale": 1.0})
    with pytest.raises(ValueError, match=r"unknown \['sigma'\]"):
        potential.init(KEY, water(), hyper={"lengthscale": 1.0, "exponent": 2, "sigma": 1})
    with pytest.raises(TypeError, match="sigma"):
        potential.init(KEY, water(), hyper={"lengthscale": 1.0, "exponent": 2}, sigma=1)


def test_new_parameters_of_a_potential_compile_nothing():
    potential, params = random_params(CASES["matern52"]())
    potential, traces = counting(potential)

    @jax.jit
    def both(energy_fn, system):
        return energy_and_forces(energy_fn)(system)

    results = []
    for factor in (1.0, 2.0, 3.0):
        coefficients = jax.tree.map(lambda leaf, f=factor: f * leaf, params["coefficients"])
        made = expand(potential.kernel, params["hyper"], params["references"], coefficients)
        fitted = {**params, "expansion": made, "constant": jnp.zeros(())}
        results.append(both(bind(potential, fitted), water())[0])
    assert len(traces) == 1
    assert np.allclose(results[2], 3 * results[0])


def test_jit_and_eager_agree():
    case = CASES["rbf"]()
    energy_fn = bind(*random_params(case, energies=True))
    assert np.allclose(run(energy_fn, case.references), energy_fn(case.references), rtol=1e-12)


def test_a_kernel_potential_knows_its_kernel_and_needs_no_neighbors():
    kernel = Kernel(inverse_distances, matern52, THREE_HYDROGENS)
    potential = gdml.potential(kernel)
    assert potential.kernel is kernel
    assert potential.cutoffs == ()
    assert potential.uses == frozenset()
    assert dataclasses.replace(potential).kernel is kernel


def test_only_named_descriptors_have_a_recipe():
    assert gdml.potential(CASES["rbf"]().kernel).spec.arguments["base"] == "rbf"
    assert gdml.potential(CASES["generic"]().kernel).spec is None
    assert gdml.potential(Kernel(powers, matern52)).spec.arguments["descriptor"] == "powers"


def test_derivative_by_a_parameter_of_the_descriptor_moves_the_references_too():
    def powers(system, neighbors=None, *, exponent):
        i, j = np.triu_indices(system.atom_count, 1)
        difference = system.positions[i] - system.positions[j]
        return jnp.sum(difference**2, -1) ** (-exponent / 2)

    positions = np.random.default_rng(0).normal(size=(4, 3, 3))
    systems = System(positions[:3], np.array([8, 1, 1]))
    model = gdml.potential(Kernel(powers, matern52))
    params = model.init(jax.random.key(0), systems, hyper={"lengthscale": 1.5, "exponent": 1.2})
    labels = {"forces": np.random.default_rng(1).normal(size=(3, 3, 3))}
    params, _ = gdml.fit(model, params, labels, solver=solvers.cholesky(), regularization=1e-6)
    query = System(positions[3], np.array([8, 1, 1]))

    @jax.jit
    def energy(exponent):
        hyper = {**params["hyper"], "exponent": exponent}
        return model.apply({**params, "hyper": hyper}, query)["energy"]

    step = 1e-5
    expected = (energy(1.2 + step) - energy(1.2 - step)) / (2 * step)
    np.testing.assert_allclose(jax.jit(jax.grad(energy))(1.2), expected, rtol=1e-6)


def test_equal_kernels_give_one_potential_and_arrays_cannot_change_them():
    swap = np.array([[0, 1, 2], [0, 2, 1]])
    kernel = Kernel(inverse_distances, matern52, swap)
    swap[1] = [2, 1, 0]
    assert gdml.potential(kernel) is gdml.potential(
        Kernel(inverse_distances, matern52, np.array([[0, 1, 2], [0, 2, 1]]))
    )
    with pytest.raises(ValueError, match="read-only"):
        kernel.permutations[1] = [2, 1, 0]
