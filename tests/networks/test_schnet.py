import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import counting, crystal, molecule, run

from jaxff import System, bind, energy_and_forces, neighbor_list, pack
from jaxff.neighbors import sum_pairs
from jaxff.networks import schnet, schnet_2017
from jaxff.networks.graph import all_pairs, graph

TINY = {"features": 4, "interactions": 1, "radial_functions": 5, "dtype": "float64"}
KEY = jax.random.key(0)


@pytest.mark.parametrize("system", [molecule(0, 5), crystal()], ids=["molecule", "crystal"])
def test_edges_are_the_pairs_once(system):
    """Of a crystal smaller than the cutoff, atoms meet their own images."""
    pairs = neighbor_list(4.0, capacity=1.3).allocate(system).pairs[0]
    seen = graph(system, pairs, jnp.float64)
    edges = seen.edges
    assert 2 * int(edges.mask.sum()) == int(seen.mask.sum())
    weights = jnp.where(edges.mask, edges.distances, 0.0)[:, None]
    values = jnp.arange(1.0, system.atom_count + 1)[:, None]
    found = edges.sum(weights * edges.at_second(values), weights * edges.at_first(values))
    directed = jnp.where(seen.mask, seen.distances, 0.0)[:, None] * seen.at_others(values)
    np.testing.assert_allclose(found, sum_pairs(pairs, directed), rtol=1e-12)
    found = edges.sum_received(weights * edges.at_senders(values))
    np.testing.assert_allclose(found, sum_pairs(pairs, directed), rtol=1e-12)
    np.testing.assert_array_equal(edges.at_receivers(values), edges.at_senders(values)[::-1])
    arrows = jnp.where(edges.mask[:, None], edges.vectors * edges.distances[:, None], 0.0)
    directed = jnp.where(seen.mask[:, None], seen.vectors * seen.distances[:, None], 0.0)
    np.testing.assert_allclose(edges.sum(arrows, -arrows), sum_pairs(pairs, directed), atol=1e-10)


def second_derivatives_at_the_cutoff(function):
    """Just inside and just outside, of two atoms."""
    potential = schnet(3.0, cutoff_function=function, **TINY)
    lists = neighbor_list(3.0, skin=0.1)
    system = System(np.array([[0.0, 0, 0], [3.0, 0, 0]]), [6, 8])
    found = lists.allocate(system)
    params = jax.jit(potential.init)(KEY, system, found)

    def energy(x):
        moved = system.replace(positions=jnp.stack([jnp.zeros(3), jnp.asarray([1.0, 0, 0]) * x]))
        return bind(potential, params)(moved, found)

    second = jax.vmap(jax.grad(jax.grad(energy)))
    return jax.jit(second)(jnp.asarray([2.0, 3.0 - 1e-7, 3.0 + 1e-7]))


@pytest.mark.parametrize("function", ["bump", "cosine", "polynomial", "smoothstep"])
def test_second_derivatives_at_the_cutoff(function):
    inner, inside, outside = second_derivatives_at_the_cutoff(function)
    assert outside == 0.0
    assert abs(inner) > 1e-3
    if function == "cosine":
        assert abs(inside) > 1e-3
    else:
        assert abs(inside) < 1e-4 * abs(inner)


def test_all_pairs_are_those_of_a_list_that_holds_them_all():
    both = pack([molecule(seed, 4) for seed in range(2)])
    found, expected = (
        sorted((int(i), int(j)) for i, j in zip(p.centers, p.others, strict=True) if j < p.atoms)
        for p in (all_pairs(both), neighbor_list(20.0).allocate(both).pairs[0])
    )
    assert found == expected
    assert len(found) == 2 * 4 * 3
    with pytest.raises(ValueError, match="give the network a cutoff"):
        all_pairs(crystal())


def test_the_published_network_needs_no_list():
    potential = schnet_2017(features=4, interactions=1, dtype="float64")
    assert potential.cutoffs == ()
    system = molecule(0, 4)
    params = jax.jit(potential.init)(KEY, system)
    assert params["interaction_0"]["filter_0"]["kernel"].shape == (300, 4)
    near, far = (
        run(bind(potential, params), system.replace(positions=scale * system.positions))
        for scale in (1.0, 2.0)
    )
    assert np.isfinite(near)
    assert abs(near - far) > 1e-6


def test_interpolated_filters():
    """Those between nodes, and both sides of the cutoff; derivatives are tested by the contract."""
    options = {"features": 20, "filters": 48, "interactions": 1, "radial_functions": 10}
    options |= {"cutoff_function": "smoothstep", "dtype": "float64"}
    own, interpolated = schnet(3.0, filter_nodes=None, **options), schnet(3.0, **options)
    assert interpolated.spec.arguments["filter_nodes"] == 40
    lists = neighbor_list(3.0, skin=0.5)
    system = molecule(0, 6)
    found = lists.allocate(system)
    params = jax.jit(own.init)(KEY, system, found)
    both = jax.jit(lambda e: energy_and_forces(e)(system, found))
    (energy, forces), (close, close_forces) = (both(bind(p, params)) for p in (own, interpolated))
    np.testing.assert_allclose(close, energy, rtol=1e-7)
    np.testing.assert_allclose(close_forces, forces, atol=1e-6 * np.abs(forces).max())
    assert close != energy

    two = System(np.array([[0.0, 0, 0], [3.0, 0, 0]]), [6, 8])
    list_of_two = lists.allocate(two)

    def energy_at(x):
        moved = two.replace(positions=jnp.zeros((2, 3)).at[1, 0].set(x))
        return bind(interpolated, params)(moved, list_of_two)

    first = jax.jit(jax.vmap(jax.grad(energy_at)))
    inner, inside, at, outside = first(jnp.asarray([2.0, 3.0 - 1e-7, 3.0, 3.0 + 1e-7]))
    assert at == outside == 0.0
    assert abs(inside) < 1e-6 * abs(inner)


@pytest.mark.parametrize(
    ("options", "nodes"),
    [
        ({"radial_functions": 20}, 80),
        ({"radial_functions": 64}, None),
        ({"radial_basis": "bessel"}, None),
        ({"trainable_basis": True}, None),
        ({"filter_nodes": 30}, 30),
    ],
)
def test_where_filters_are_interpolated(options, nodes):
    assert schnet(5.0, **options).spec.arguments["filter_nodes"] == nodes


def test_one_compilation_per_bucket():
    potential, traces = counting(schnet(6.0, **TINY))
    lists = neighbor_list(6.0, capacity=1.5)
    params = jax.jit(potential.init)(KEY, molecule(0, 4), lists.allocate(molecule(0, 4)))
    evaluate = jax.jit(lambda function, *args: energy_and_forces(function)(*args))
    for seed in range(4):
        system = molecule(seed, 4)
        evaluate(bind(potential, params), system, lists.allocate(system))
    assert evaluate._cache_size() == 1
    assert len(traces) == 1


def test_charges_dipoles_and_features_on_request():
    potential = schnet(
        3.0, charge=True, spin=True, outputs=("dipole", "partial_charges", "features"), **TINY
    )
    assert potential.uses == {"charge", "spin"}
    system = pack([molecule(0, 4, charge=q, spin=1.0) for q in (0.0, 1.0)])
    found = neighbor_list(3.0).allocate(system)
    energy_fn = bind(potential, jax.jit(potential.init)(KEY, system, found))
    outputs = jax.jit(lambda e: e.outputs(system, found))(energy_fn)
    charges = outputs["partial_charges"].reshape(2, 4)
    np.testing.assert_allclose(charges.sum(axis=1), [0.0, 1.0], atol=1e-12)
    positions = np.asarray(system.positions).reshape(2, 4, 3)
    centred = positions - positions.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(
        outputs["dipole"], np.einsum("bi,bix->bx", charges, centred), rtol=1e-10
    )
    assert outputs["features"].shape == (8, 4)
    assert abs(outputs["energy"][0] - outputs["energy"][1]) > 1e-4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radial_basis": "fourier"}, "radial_basis must be one of"),
        ({"cutoff_function": "hard"}, "cutoff_function must be one of"),
        ({"cutoff": -1.0}, "positive number"),
        ({"cutoff": None}, "go together"),
        ({"cutoff": None, "cutoff_function": None}, "give radial_centers"),
        ({"radial_centers": [1.0]}, "must be 20, got 1 numbers"),
        ({"radial_basis": "bessel", "radial_widths": [1.0]}, "must be left out"),
        ({"filter_nodes": "many"}, "filter_nodes must be"),
        ({"filter_nodes": 1}, "at least two"),
        (
            {
                "filter_nodes": 9,
                "cutoff": None,
                "cutoff_function": None,
                "radial_functions": 2,
                "radial_centers": [0.0, 1.0],
                "radial_widths": [1.0, 1.0],
            },
            "distances have no end",
        ),
        ({"head_activation": "relu6"}, "head_activation must be one of"),
        ({"outputs": "dipole"}, "sequence of names"),
        ({"outputs": ("stress",)}, "outputs must be one of"),
        ({"dtype": "int32"}, "floating-point type"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        schnet(**options)
