import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import capacitor, counting, crystal, lennard_jones, molecule, morse, polarizable, run

from jaxff.neighbors import neighbor_list
from jaxff.potential import Bound, Potential, Spec, add, as_pytree, bind, scale_shift
from jaxff.system import System, pack, stack

KEY = jax.random.key(0)


def bound(potential, system=None, **named):
    return bind(potential, potential.init(KEY, system or molecule(), **named))


def test_bound_is_the_energy_function():
    potential = morse()
    params = potential.init(KEY, molecule())
    energy_fn = bind(potential, params)
    expected = potential.apply(params, molecule())["energy"]
    assert energy_fn(molecule()) == expected
    assert energy_fn.outputs(molecule())["energy"] == expected
    assert energy_fn.cutoffs == ()
    assert energy_fn.uses == frozenset()


def test_bound_is_a_pytree_of_its_parameters():
    energy_fn = bound(morse())
    leaves, tree = jax.tree.flatten(energy_fn)
    assert len(leaves) == 3
    assert isinstance(tree.unflatten([object()] * 3), Bound)
    doubled = jax.tree.map(lambda leaf: 2 * leaf, energy_fn)
    assert doubled.params["width"] == 2 * energy_fn.params["width"]
    gradient = jax.grad(lambda e: e(molecule()))(energy_fn)
    assert isinstance(gradient, Bound)
    path = jax.tree_util.tree_leaves_with_path(energy_fn)[0][0]
    assert jax.tree_util.keystr(path) == ".params['depth']"


def test_new_parameters_do_not_compile_again():
    potential, traces = counting(morse())
    params = potential.init(KEY, molecule())
    energy = jax.jit(lambda energy_fn, system: energy_fn(system))
    first = energy(bind(potential, params), molecule())
    second = energy(bind(potential, jax.tree.map(lambda p: 1.1 * p, params)), molecule(1))
    assert len(traces) == 1
    assert first != second


def test_missing_field_and_missing_neighbors():
    with pytest.raises(ValueError, match=r"reads system.charge, which is None.*charge="):
        bound(capacitor())(molecule())
    with pytest.raises(ValueError, match=r"needs neighbors within \(3.5,\) Å"):
        bound(lennard_jones())(molecule())


def test_add_is_the_sum():
    parts = (morse(), lennard_jones(3.5), lennard_jones(2.5), polarizable())
    potential = add(*parts)
    assert potential.cutoffs == (2.5, 3.5)
    assert potential.uses == {"electric_field"}
    assert potential.spec is None
    system = molecule(electric_field=[0.1, 0.2, 0.3])
    neighbors = neighbor_list(potential.cutoffs).allocate(system)
    params = potential.init(KEY, system, neighbors)
    outputs = bind(potential, params).outputs(system, neighbors)
    single = [
        p.apply(q, system, neighbors if p.cutoffs else None)
        for p, q in zip(parts, params, strict=True)
    ]
    np.testing.assert_allclose(outputs["energy"], sum(s["energy"] for s in single))
    # Not every part gives them, so that they would not sum to the energy.
    assert "atomic_energies" not in outputs
    np.testing.assert_array_equal(outputs["partial_charges"], single[3]["partial_charges"])


def test_add_keeps_parameters_that_are_fitted():
    baseline = {"depth": jnp.ones(10), "width": jnp.asarray(2.0), "length": jnp.asarray(1.0)}
    params = add(morse(), morse()).init(KEY, molecule(), params=(baseline, None))
    assert params[0] is baseline
    assert params[1]["width"] == 1.2


def test_add_refuses():
    with pytest.raises(ValueError, match="at least one potential"):
        add()
    with pytest.raises(ValueError, match="must have 2 entries, got 1"):
        add(morse(), morse()).init(KEY, molecule(), params=(None,))
    with pytest.raises(TypeError, match="params="):
        add(morse()).init(KEY, molecule(), lengthscale=1.0)


def test_scale_shift_by_element():
    offsets = np.zeros(9)
    offsets[[0, 1, 6, 8]] = [77.0, -1.0, -20.0, -30.0]
    system = System(
        np.vstack([molecule().positions, np.zeros(3)]), [*molecule().numbers.tolist(), 0]
    )
    plain, shifted = bound(morse()), bound(scale_shift(morse(), 3.0, offsets))
    expected = 3.0 * run(plain, system) + (-3.0 - 20.0 - 30.0)
    np.testing.assert_allclose(run(shifted, system), expected)


@pytest.mark.parametrize("join", [stack, pack])
def test_scale_shift_of_many(join):
    systems = [molecule(0, 4), molecule(1, 4)]
    plain, shifted = bound(morse()), bound(scale_shift(morse(), 0.5, 2.0))
    expected = [0.5 * run(plain, s) + 8.0 for s in systems]
    np.testing.assert_allclose(run(shifted, join(systems)), expected)


def test_scale_shift_of_atomic_energies():
    system = crystal()
    neighbors = neighbor_list(3.5).allocate(system)
    energy_fn = bound(scale_shift(lennard_jones(), 2.0, np.arange(9.0)), system)
    outputs = energy_fn.outputs(system, neighbors)
    np.testing.assert_allclose(outputs["atomic_energies"].sum(), outputs["energy"])


def test_scale_shift_keeps_float64_offsets_of_a_float32_model():
    def apply(params, system, neighbors=None):
        return {"energy": jnp.asarray(0.125, jnp.float32)}

    energy_fn = bind(scale_shift(Potential(lambda *_: (), apply), 1.0, -1.0e6 - 2**-20), ())
    energy = energy_fn(System(np.zeros((1, 3), np.float32), [1]))
    assert energy.dtype == jnp.float64
    assert energy == -1.0e6 - 2**-20 + 0.125


def test_scale_shift_without_a_reference_energy_is_not_a_number():
    energy_fn = bound(scale_shift(morse(), 1.0, np.zeros(7)))
    assert np.isnan(run(energy_fn, molecule()))


def test_specs_nest():
    named = Potential(morse().init, morse().apply, spec=Spec("morse", {"depth": 1}))
    spec = scale_shift(add(named, named), 2.0, np.zeros(3)).spec
    assert spec.builder == "scale_shift"
    assert spec.arguments["scale"] == 2.0
    (inner,) = spec.arguments["potentials"]
    assert inner == Spec("add", {"potentials": [named.spec, named.spec]})
    assert add(named, morse()).spec is None


def test_plain_functions_go_through_jit():
    def energy(system, neighbors=None):
        return jnp.sum(system.positions**2)

    wrapped = as_pytree(energy)
    assert jax.tree.leaves(wrapped) == []
    assert jax.jit(lambda f, s: f(s))(wrapped, molecule()) == energy(molecule())
    potential = bound(morse())
    assert as_pytree(potential) is potential


def test_atomic_energies_that_all_parts_give_sum_to_the_energy():
    system = crystal()
    potential = add(lennard_jones(), scale_shift(lennard_jones(), 2.0, 0.5))
    neighbors = neighbor_list(potential.cutoffs).allocate(system)
    outputs = bound(potential, system).outputs(system, neighbors)
    np.testing.assert_allclose(outputs["atomic_energies"].sum(), outputs["energy"])


def test_dipoles_of_two_kinds_are_not_added():
    def apply(params, system, neighbors=None):
        return {"energy": jnp.zeros(()), "dipole": jnp.ones(3)}

    with_output = Potential(lambda key, system, neighbors=None: {}, apply)
    energy_fn = bound(add(with_output, polarizable()), molecule(electric_field=[0.0, 0.0, 0.1]))
    with pytest.raises(ValueError, match="no single dipole"):
        energy_fn.outputs(molecule(electric_field=[0.0, 0.0, 0.1]))
