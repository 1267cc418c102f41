import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import (
    counting,
    crystal,
    difference,
    lennard_jones,
    molecule,
    morse,
    polarizable,
    run,
    springs,
)

from jaxff import derivatives
from jaxff.cell import volume
from jaxff.derivatives import (
    born_charges,
    dipole,
    energy_and_forces,
    forces,
    hessian,
    hessian_vector,
    observe,
    polarizability,
    stress,
    virial,
)
from jaxff.neighbors import neighbor_list
from jaxff.potential import Potential, add, bind, scale_shift
from jaxff.system import pack, stack, strain

KEY = jax.random.key(0)
FIELD = [0.3, -0.2, 0.5]


def bound(potential, system):
    return bind(potential, potential.init(KEY, system))


@functools.cache
def in_field():
    """A potential whose every derivative is different from zero, with a molecule."""
    system = molecule(atoms=3, electric_field=FIELD)
    return bound(polarizable(), system), system


@functools.cache
def in_crystal():
    system = crystal()
    neighbors = neighbor_list(3.5, skin=0.1).allocate(system)
    return bound(lennard_jones(), system), system, neighbors


def by_positions(function, system):
    return difference(lambda r: function(system.replace(positions=r)), system.positions)


def by_field(function, system):
    return difference(lambda f: function(system.replace(electric_field=f)), system.electric_field)


def by_strain(function, system):
    return difference(lambda e: function(strain(system, e)), np.zeros((3, 3)))


def close(value, expected, tolerance=1e-9):
    np.testing.assert_allclose(value, expected, rtol=0, atol=tolerance)


def test_forces():
    energy_fn, system = in_field()
    close(run(forces(energy_fn), system), -by_positions(energy_fn, system))


def test_forces_in_a_crystal():
    energy_fn, system, neighbors = in_crystal()
    expected = -by_positions(lambda s: energy_fn(s, neighbors), system)
    assert np.abs(expected).max() > 1e-3
    close(run(forces(energy_fn), system, neighbors), expected)


def test_energy_and_forces_are_one_pass():
    energy_fn, system = in_field()
    potential, traces = counting(energy_fn.potential)
    energy, force = run(energy_and_forces(bind(potential, energy_fn.params)), system)
    assert len(traces) == 1
    close(energy, run(energy_fn, system), 1e-14)
    close(force, run(forces(energy_fn), system), 1e-14)


def test_hessian():
    energy_fn, system = in_field()
    value = run(hessian(energy_fn), system)
    assert value.shape == (3, 3, 3, 3)
    close(value, -by_positions(forces(energy_fn), system))
    matrix = value.reshape(9, 9)
    close(matrix, matrix.T, 1e-12)
    close(value.sum(axis=2), 0.0, 1e-11)


def test_hessian_in_a_crystal():
    energy_fn, system, neighbors = in_crystal()
    expected = -by_positions(lambda s: run(forces(energy_fn), s, neighbors), system)
    close(run(hessian(energy_fn), system, neighbors), expected)


def test_hessian_of_a_stack():
    systems = [molecule(seed, 4) for seed in range(2)]
    energy_fn = bound(morse(), systems[0])
    value = run(hessian(energy_fn), stack(systems))
    close(value, jnp.stack([run(hessian(energy_fn), s) for s in systems]), 1e-12)


def test_hessian_of_a_pack_is_refused():
    energy_fn = bound(morse(), molecule())
    with pytest.raises(ValueError, match="Hessian of a pack"):
        run(hessian(energy_fn), pack([molecule(), molecule(1)]))


def test_hessian_vector():
    energy_fn, system = in_field()
    vector = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)))
    expected = jnp.einsum("iajb,jb->ia", run(hessian(energy_fn), system), vector)
    close(run(hessian_vector(energy_fn), system, vector), expected, 1e-12)
    both = stack([system, system])
    vectors = jnp.stack([vector, 2 * vector])
    close(run(hessian_vector(energy_fn), both, vectors), jnp.stack([expected, 2 * expected]), 1e-12)
    with pytest.raises(ValueError, match=r"shape of the positions, \(3, 3\), got \(3,\)"):
        run(hessian_vector(energy_fn), system, vector[0])


def test_hessian_vector_with_neighbors():
    energy_fn, system, neighbors = in_crystal()
    vector = jnp.ones((3, 3)).at[0].set(0.0)
    expected = jnp.einsum("iajb,jb->ia", run(hessian(energy_fn), system, neighbors), vector)
    close(run(hessian_vector(energy_fn), system, vector, neighbors), expected, 1e-12)


def test_virial_of_a_molecule():
    energy_fn = bound(morse(), molecule())
    value = run(virial(energy_fn), molecule())
    close(value, -by_strain(energy_fn, molecule()))
    close(value, value.T, 1e-13)
    # Without a cell the virial is the first moment of the forces.
    close(value, molecule().positions.T @ run(forces(energy_fn), molecule()), 1e-12)


def test_stress_of_a_triclinic_crystal():
    energy_fn, system, neighbors = in_crystal()
    value = run(stress(energy_fn), system, neighbors)
    expected = by_strain(lambda s: energy_fn(s, neighbors), system) / volume(system.cell)
    assert np.abs(expected).max() > 1e-4
    close(value, expected, 1e-10)
    close(value, value.T, 1e-13)
    close(run(virial(energy_fn), system, neighbors), -value * volume(system.cell), 1e-12)


def test_stress_through_the_minimum_image():
    system = crystal()
    energy_fn = bound(springs(np.array([[0, 1], [1, 2], [0, 2]])), system)
    expected = by_strain(energy_fn, system) / volume(system.cell)
    close(run(stress(energy_fn), system), expected, 1e-10)


@pytest.mark.parametrize("function", [virial, stress, forces])
def test_packs_of_crystals(function):
    systems = [crystal(0), crystal(1, 2)]
    energy_fn = bound(lennard_jones(), systems[0])
    lists = neighbor_list(3.5)
    value = run(function(energy_fn), pack(systems), lists.allocate(pack(systems)))
    single = [run(function(energy_fn), s, lists.allocate(s)) for s in systems]
    join = jnp.concatenate if function is forces else jnp.stack
    close(value, join(single), 1e-12)


def test_stress_needs_a_cell():
    energy_fn = bound(morse(), molecule())
    with pytest.raises(ValueError, match=r"system.cell, which is None; .* use virial"):
        run(stress(energy_fn), molecule())
    with pytest.raises(ValueError, match="use virial"):
        run(observe(energy_fn, ["stress"]), molecule())


def test_dipole():
    energy_fn, system = in_field()
    close(run(dipole(energy_fn), system), -by_field(energy_fn, system))


def test_dipole_without_a_field_is_the_permanent_one():
    energy_fn, system = in_field()
    value = run(dipole(energy_fn), system.replace(electric_field=None))
    charges = run(observe(energy_fn, ["partial_charges"]), system)["partial_charges"]
    relative = system.positions - system.positions.mean(axis=0)
    close(value, charges @ relative, 1e-13)


def test_polarizability():
    energy_fn, system = in_field()
    value = run(polarizability(energy_fn), system)
    close(value, by_field(dipole(energy_fn), system))
    close(value, value.T, 1e-13)
    assert np.linalg.eigvalsh(value).min() > 0


def test_born_charges():
    energy_fn, system = in_field()
    value = run(born_charges(energy_fn), system)
    assert value.shape == (3, 3, 3)
    close(value, by_field(forces(energy_fn), system))
    close(value, np.moveaxis(by_positions(dipole(energy_fn), system), 0, -1))
    close(value.sum(axis=0), 0.0, 1e-12)


@pytest.mark.parametrize("function", [dipole, polarizability, born_charges])
@pytest.mark.parametrize("join", [stack, pack])
def test_field_derivatives_of_many(function, join):
    systems = [molecule(seed, 3, electric_field=FIELD) for seed in range(2)]
    energy_fn, _ = in_field()
    single = [run(function(energy_fn), s) for s in systems]
    packed = function is born_charges and join is pack
    close(run(function(energy_fn), join(systems)), (np.concatenate if packed else np.stack)(single))


@pytest.mark.parametrize("function", [dipole, polarizability, born_charges])
def test_derivatives_by_an_unused_field_are_refused(function):
    energy_fn = bound(morse(), molecule())

    def plain(system, neighbors=None):
        return jnp.sum(system.positions**2)

    def compiled(system, neighbors=None):
        return jax.jit(plain)(system)

    for candidate in (energy_fn, plain, compiled, lambda s, n=None: energy_fn(s, n)):
        with pytest.raises(ValueError, match=r"does not depend on system.electric_field"):
            function(candidate)(molecule(electric_field=FIELD))


def test_plain_functions_of_the_field_are_accepted():
    def plain(system, neighbors=None):
        return -jnp.sum(system.positions[0] * system.electric_field)

    for candidate in (plain, jax.jit(plain), jax.checkpoint(plain)):
        close(run(dipole(candidate), molecule()), molecule().positions[0], 1e-15)


NAMES = ["energy", "forces", "virial", "hessian", "dipole", "polarizability", "born_charges"]


def test_observe_is_the_separate_calls():
    energy_fn, system = in_field()
    results = run(observe(energy_fn, [*NAMES, "partial_charges"]), system)
    assert set(results) == {*NAMES, "partial_charges"}
    close(results["energy"], run(energy_fn, system), 1e-13)
    for name in NAMES[1:]:
        close(results[name], run(getattr(derivatives, name)(energy_fn), system), 1e-12)
    only = run(observe(energy_fn, ["energy"]), system)
    assert list(only) == ["energy"]


def test_observe_in_a_crystal_from_one_pass():
    energy_fn, system, neighbors = in_crystal()
    potential, traces = counting(energy_fn.potential)
    names = ["energy", "forces", "stress", "virial", "atomic_energies"]
    results = run(observe(bind(potential, energy_fn.params), names), system, neighbors)
    assert len(traces) == 1
    for name in names[1:4]:
        close(results[name], run(getattr(derivatives, name)(energy_fn), system, neighbors), 1e-12)


@pytest.mark.parametrize("join", [stack, pack])
def test_observe_many(join):
    systems = [molecule(seed, 3, electric_field=FIELD) for seed in range(2)]
    energy_fn, _ = in_field()
    results = run(observe(energy_fn, ["energy", "virial"]), join(systems))
    for name, function in (("energy", energy_fn), ("virial", virial(energy_fn))):
        close(results[name], jnp.stack([run(function, s) for s in systems]), 1e-12)


def test_observe_prefers_the_dipole_that_the_potential_gives():
    def apply(params, system, neighbors=None):
        return {"energy": jnp.sum(system.positions**2), "dipole": jnp.arange(3.0)}

    given = bind(Potential(lambda *_: (), apply), ())
    close(run(observe(given, ["dipole"]), molecule())["dipole"], [0.0, 1.0, 2.0])


def test_observe_refuses_unknown_names():
    energy_fn = bound(morse(), molecule())
    with pytest.raises(ValueError, match=r"cannot observe \['color'\].*'forces'"):
        run(observe(energy_fn, ["color", "energy"]), molecule())
    with pytest.raises(TypeError, match=r"such as \['forces'\]"):
        observe(energy_fn, "forces")


TRANSFORMATIONS = {
    "forces": forces,
    "energy_and_forces": energy_and_forces,
    "virial": virial,
    "observe": lambda e: observe(e, ["energy", "forces", "virial"]),
}


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_new_parameters_do_not_compile_again(name):
    transformation = TRANSFORMATIONS[name]
    potential, traces = counting(scale_shift(add(morse(), morse()), 2.0, 1.0))
    params = potential.init(KEY, molecule())
    compiled = jax.jit(lambda function, system: function(system))

    def evaluate(factor, system):
        scaled = jax.tree.map(lambda p: factor * p, params)
        return compiled(transformation(bind(potential, scaled)), system)

    results = [evaluate(1.0, molecule()), evaluate(1.1, molecule()), evaluate(1.2, molecule(1))]
    assert len(traces) == 1
    assert compiled._cache_size() == 1
    first, second = (jax.tree.leaves(r)[0] for r in results[:2])
    assert not np.allclose(first, second)


def test_transformations_nest_and_vmap():
    energy_fn, system = in_field()
    both = stack([system, system.replace(positions=1.1 * system.positions)])
    close(jax.jit(jax.vmap(forces(energy_fn)))(both), run(forces(energy_fn), both), 1e-13)
    total = jax.jit(jax.grad(lambda e: jnp.sum(forces(e)(system) ** 2)))(energy_fn)
    assert np.isfinite(total.params["polarizability"])
