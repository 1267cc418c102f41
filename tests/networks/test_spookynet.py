"""What charge, spin and attention do in SpookyNet, and what its random features cost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import crystal, molecule

from jaxff import System, bind, neighbor_list, pack, physics
from jaxff.networks import spookynet
from jaxff.networks.electrons import SUBSHELLS, configurations
from jaxff.networks.spookynet import SpookyNet
from jaxff.networks.spookynet_blocks import ElectronicEmbedding
from jaxff.networks.spookynet_layers import (
    FLOOR,
    directions,
    exact_attention,
    feature_attention,
    together,
)
from jaxff.networks.spookynet_terms import Terms
from jaxff.potential import Bound

KEY = jax.random.key(0)
NETWORK_ALONE = {"repulsion": False, "electrostatics": False, "dispersion": False}
TINY = {"features": 4, "radial_functions": 4, "modules": 1, "dtype": "float64"}


def random_params(potential, system, neighbors):
    """None of them zero, as they are at the start."""
    start = jax.eval_shape(potential.init, KEY, system, neighbors)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: jnp.asarray(0.7 * rng.normal(size=leaf.shape)), start)


def test_configurations_hold_all_electrons():
    table = configurations()
    numbers = np.arange(1, 87)
    largest = np.array([86, 2, 2, 6, 2, 6, 2, 10, 6, 2, 10, 6, 2, 14, 10, 6, 2, 6, 10, 14])
    counts = table[1:] * largest
    np.testing.assert_allclose(counts[:, 0], numbers, atol=1e-9)
    np.testing.assert_allclose(counts[:, 1:16].sum(axis=1), numbers, atol=1e-9)
    np.testing.assert_array_equal(table[0], 0.0)
    copper = dict(zip(SUBSHELLS, counts[28, 1:16], strict=True))
    assert (copper["4s"], copper["3d"]) == (1.0, 10.0)
    # valence electrons of carbon, of iron and of lead
    for number, expected in ((6, [2, 2, 0, 0]), (26, [2, 0, 6, 0]), (82, [2, 2, 10, 14])):
        np.testing.assert_allclose(counts[number - 1, 16:], expected, atol=1e-9)


def test_charge_and_spin():
    """States differ, and charges add up."""
    potential = spookynet(3.0, **NETWORK_ALONE, **TINY)
    assert potential.uses == {"charge", "spin"}
    states = [(0.0, 0.0), (1.0, 1.0), (-1.0, 1.0), (0.0, 2.0), (2.0, 0.0)]
    system = pack([molecule(0, 4, charge=q, spin=s) for q, s in states])
    found = neighbor_list(3.0).allocate(system)
    params = random_params(potential, system, found)
    outputs = jax.jit(Bound.outputs)(bind(potential, params), system, found)
    energies = np.asarray(outputs["energy"])
    gaps = np.abs(energies[:, None] - energies)[np.triu_indices(len(states), 1)]
    assert gaps.min() > 1e-4
    charges = outputs["partial_charges"].reshape(len(states), 4)
    np.testing.assert_allclose(charges.sum(axis=1), [q for q, _ in states], atol=1e-13)
    for name in ("charge", "spin"):
        with pytest.raises(ValueError, match=f"reads system.{name}, which is None"):
            bind(potential, params)(system.replace(**{name: None}), found)
    for name in ("charge", "spin"):
        share = jax.jit(ElectronicEmbedding(name, 1).apply)(
            {"params": params["network"][name]}, system, jnp.ones((20, 4))
        ).reshape(5, 4, 4)
        total = np.asarray(getattr(system, name))
        np.testing.assert_array_equal(share[total == 0.0], 0.0)
        assert (np.abs(share[total != 0.0]) > 1e-6).any(axis=2).all()


def test_derivative_by_the_charge_of_neutral_molecules():
    """The mean of those towards both ions, which have keys and values of their own."""
    system, features = molecule(0, 4, charge=0.0, spin=0.0), jnp.ones((4, 4))
    module = ElectronicEmbedding("charge", 1)
    params = module.init(jax.random.key(0), system, features)
    params = jax.tree.map(lambda leaf: leaf + 0.3, params)

    @jax.jit
    def total(charge):
        return jnp.sum(module.apply(params, system.replace(charge=charge), features))

    one, other = (float(total(q)) / q for q in (1e-6, -1e-6))
    assert abs(one - other) > 1e-2
    np.testing.assert_allclose(jax.grad(total)(0.0), 0.5 * (one + other), rtol=1e-4)


@pytest.mark.parametrize("attention", ["none", "exact"])
def test_far_fragments_know_each_other_by_attention_only(attention):
    """Which is why the energy of two molecules is not the sum of theirs, however far apart."""
    ablation = {"charge_embedding": False, "spin_embedding": False, **NETWORK_ALONE}
    potential = spookynet(3.0, nonlocal_attention=attention, **ablation, **TINY)
    assert potential.uses == {"charge"}  # conserved in any case
    one, other = molecule(0, 3), molecule(1, 4)
    both = System(
        np.concatenate([one.positions, other.positions + 50.0]),
        np.concatenate([one.numbers, other.numbers]),
    )
    system = pack([s.replace(charge=jnp.zeros(())) for s in (one, other, both)])
    found = neighbor_list(3.0).allocate(system)
    params = random_params(potential, system, found)
    energies = jax.jit(Bound.__call__)(bind(potential, params), system, found)
    gap = abs(energies[0] + energies[1] - energies[2])
    assert gap < 1e-12 if attention == "none" else gap > 1e-4


def test_elements_may_differ_from_the_start():
    potential = spookynet(3.0, **TINY | NETWORK_ALONE | {"features": 64}, zero_start=False)
    system = molecule(0, 4, charge=0.0, spin=0.0)
    params = potential.init(KEY, system, neighbor_list(3.0).allocate(system))["network"]["nuclei"]
    np.testing.assert_allclose(np.std(params["elements"]), 1.0, atol=0.05)
    kernel = np.asarray(params["electrons"]["kernel"])
    np.testing.assert_allclose(kernel @ kernel.T, np.eye(len(kernel)), atol=1e-6)


def test_weights_start_as_published():
    """Orthogonal, but zero where embeddings begin and blocks end: all atoms are alike at first."""
    options = TINY | NETWORK_ALONE | {"features": 6}
    potential = spookynet(3.0, **options)
    system = molecule(0, 4, charge=0.0, spin=0.0)
    found = neighbor_list(3.0).allocate(system)
    params = jax.jit(potential.init)(KEY, system, found)["network"]
    module = params["module_0"]
    zero = [params["elements"], params["nuclei"]["electrons"]["kernel"]]
    zero += [block["linear"]["kernel"] for block in (module["local"]["mlp"], params["spin"]["mlp"])]
    zero += [module["nonlocal"]["branches"]["linear"]["kernel"]]
    zero += [module[stack]["outer_0"]["kernel"] for stack in ("before", "after")]
    for kernel in zero:
        np.testing.assert_array_equal(kernel, 0.0)
    local = module["local"]
    radial = np.split(np.asarray(local["radial"]["kernel"]), 3, axis=1)
    branches = list(local["branches"]["linear"]["kernel"])
    for kernel in (*radial, *branches, local["product_1"]["kernel"], params["readout"]["kernel"].T):
        kernel = np.asarray(kernel)
        np.testing.assert_allclose(kernel @ kernel.T, np.eye(len(kernel)), atol=1e-6)
    assert (np.abs(radial[0] - radial[1]) > 1e-3).any()


def test_modules_are_left_out_in_training_of_each_structure_by_itself():
    """Energies are then those of the modules before them; elsewhere all modules count."""
    options = NETWORK_ALONE | TINY | {"nonlocal_attention": "none", "modules": 2}
    first = spookynet(3.0, **options | {"modules": 1})
    whole = spookynet(3.0, keep_last_module=0.5, **options)
    assert first.random_apply is None
    assert spookynet(3.0, keep_last_module=1.0, **options).random_apply is None
    states = [molecule(0, 3, charge=0.0, spin=0.0), molecule(1, 4, charge=1.0, spin=1.0)]
    system = pack(states)
    found = neighbor_list(3.0).allocate(system)
    params = random_params(whole, system, found)

    @jax.jit
    def evaluate(keys):
        parts = [p.apply(params, system, found)["energy"] for p in (first, whole)]
        random = jax.vmap(lambda key: whole.random_apply(params, system, found, key)["energy"])
        return jnp.stack(parts), random(keys)

    parts, random = evaluate(jax.random.split(KEY, 16))
    assert (np.abs(parts[1] - parts[0]) > 1e-3).all()
    kept = (np.asarray(random) - parts[0]) / (parts[1] - parts[0])
    np.testing.assert_allclose(kept, np.round(kept), atol=1e-9)
    kept = np.round(kept).astype(int).tolist()
    assert {tuple(row) for row in kept} == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_the_last_module_counts_as_often_as_is_said():
    count, probability = 4096, 0.36
    module = SpookyNet(3.0, 4, 4, 3, 1, probability, (), False, None, (), 86)
    one = System(np.zeros((1, 3)), [1])
    system = System(
        np.zeros((count, 3)), np.ones(count, int), structure=np.arange(count),
        structure_mask=np.ones(count, bool),
    )  # fmt: skip

    def draw(system, **rngs):
        return module.apply({}, system, method=SpookyNet._kept, rngs=rngs)

    assert draw(system) is None
    kept = np.asarray(draw(system, dropout=KEY))
    assert set(np.ravel(kept)) == {0.0, 1.0}
    assert (kept[1] <= kept[0]).all()
    np.testing.assert_allclose(kept.mean(axis=1), [0.6, 0.36], atol=0.03)  # four deviations
    np.testing.assert_array_equal(draw(system, dropout=KEY), kept)
    assert draw(one, dropout=KEY).shape == (2,)


def inputs(atoms=12, size=16):
    rng = np.random.default_rng(2)
    # Of a length at which some ten random features are better than none.
    return [jnp.asarray(scale * rng.normal(size=(atoms, size))) for scale in (0.4, 0.4, 1.0)]


def test_random_features_converge_to_exact_attention():
    """As one over the root of their number; the floor that keeps weights from zero ends it."""
    query, key, value = inputs()
    system = System(np.zeros((12, 3)), np.ones(12, int))
    expected = exact_attention(together(system), query, key, value)
    scores = np.exp(np.asarray(query @ key.T) / 4.0)
    np.testing.assert_allclose(
        expected, scores / scores.sum(axis=1, keepdims=True) @ value, rtol=1e-12
    )

    @jax.jit
    def squares(tables, floor):
        found = jax.vmap(
            lambda table: feature_attention(system, query, key, value, table, floor=floor)
        )(tables)
        return jnp.mean((found - expected) ** 2)

    counts = [64, 256, 1024, 4096]
    tables = [np.stack([directions(16, m, seed) for seed in range(24)]) for m in counts]
    errors = np.sqrt([squares(t, 0.0) for t in tables])
    slope = np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert -0.6 < slope < -0.4
    assert errors[-1] < 0.02
    np.testing.assert_allclose(np.sqrt(squares(tables[0], FLOOR)), errors[0], rtol=0.1)


def test_random_directions_are_orthogonal_and_as_long_as_normal_vectors():
    table = directions(32, 3200, seed=1)
    first = table[:, :32].T @ table[:, :32]
    np.testing.assert_allclose(first, np.diag(np.diag(first)), atol=1e-12)
    assert abs(np.mean(np.sum(table**2, axis=0)) / 32 - 1) < 0.02
    assert not np.array_equal(table, directions(32, 3200, seed=2))


@pytest.mark.parametrize("form", ["exact", "features"])
def test_structures_of_a_pack_and_padding_do_not_attend_to_each_other(form):
    given, table = inputs(), jnp.asarray(directions(16, 8, seed=0))

    def attend(system, query, key, value):
        if form == "exact":
            return exact_attention(together(system), query, key, value)
        return feature_attention(system, query, key, value, table)

    @jax.jit
    def evaluate(numbers):
        system = System(np.zeros((12, 3)), numbers, structure=structure, structure_mask=[True] * 3)
        found = attend(system, *given)
        slopes = jax.grad(lambda x: jnp.sum(attend(system, *x)[:9] ** 2))(given)
        return found, slopes

    # Of the last structure all atoms are padding, of the second one atom.
    structure, numbers = [0] * 5 + [1] * 5 + [2] * 2, np.array([1] * 9 + [0] * 3)
    found, slopes = evaluate(numbers)
    assert np.isfinite(found).all()
    assert all(np.isfinite(slope).all() for slope in slopes)
    assert all((slope[9:] == 0.0).all() for slope in slopes[1:])
    for rows in (slice(0, 5), slice(5, 9)):
        alone = np.zeros(12, int)
        alone[rows] = 1
        np.testing.assert_allclose(evaluate(alone)[0][rows], found[rows], atol=1e-13)


def test_ewald_sums_do_not_depend_on_how_they_are_split():
    system, charges = crystal(), jnp.asarray([0.8, -0.5, -0.3])
    energies = []
    for far in (6.0, 8.0):
        plan = physics.ewald_plan(system.cell, cutoff=far, accuracy=1e-10)
        terms = Terms(3.0, far, False, True, plan, None)
        found = neighbor_list(far).allocate(system)
        atomic, _ = jax.jit(lambda q, s, n, t=terms: t.evaluate({}, q, s, n))(
            charges, system, found
        )
        energies.append(jnp.sum(atomic["electrostatic_energy"]))
    assert abs(energies[0]) > 1e-3
    np.testing.assert_allclose(energies[1], energies[0], rtol=1e-7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cutoff": 0.0}, "cutoff must be a positive number"),
        ({"modules": 0}, "modules must be a whole number from 1 on"),
        ({"keep_last_module": 0.0}, "keep_last_module must be above 0 and at most 1"),
        ({"max_number": 92}, "tabulated up to radon"),
        ({"nonlocal_attention": "linear"}, "nonlocal_attention must be one of"),
        ({"random_features": 8}, "belong to nonlocal_attention='features'"),
        ({"nonlocal_attention": "features", "directions": np.ones((3, 5, 8))}, "must have shape"),
        ({"long_range_cutoff": 2.0}, "at least the cutoff"),
        ({"long_range_cutoff": 9.0, "electrostatics": False, "dispersion": False}, "leave it out"),
        ({"ewald": physics.EwaldPlan(1.0, (3, 3, 3))}, "needs electrostatics and"),
        ({"ewald": physics.EwaldPlan(3.0, (3, 3, 3)), "long_range_cutoff": 9.0}, "not points"),
        ({"dispersion": False, "dispersion_tables": physics.d4_tables()}, "switched off"),
        ({"outputs": ("stress",)}, "outputs must be one of"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        spookynet(**options)
