import jax
import numpy as np
import pytest
from models import molecule, run

from jaxff import bind, io, neighbor_list, pack
from jaxff.descriptors import acsf, inverse_distances
from jaxff.networks import descriptor_mlp

ACSF = acsf(["H", "C", "O"], 3.0, g2=[(1.0, 0.0)], g5=[(0.1, 2, 1.0)])
KEY = jax.random.key(0)


def made(**options):
    potential = descriptor_mlp(ACSF, hidden=(4,), dtype="float64", **options)
    system = pack([molecule(seed, 4) for seed in range(2)])
    found = neighbor_list(3.0).allocate(system)
    return potential, jax.jit(potential.init)(KEY, system, found), system, found


def test_features_are_standardised_over_the_atoms_of_init():
    potential, params, system, found = made(outputs=("features",))
    outputs = jax.jit(lambda e: e.outputs(system, found))(bind(potential, params))
    features = np.asarray(outputs["features"])
    np.testing.assert_allclose(features.mean(axis=0), 0.0, atol=1e-12)
    deviations = features.std(axis=0)
    assert (deviations < 1 + 1e-9).all()
    assert (np.abs(deviations - 1) < 1e-9).any()


def test_statistics_are_not_trained_and_networks_are():
    potential, params, system, found = made()
    slopes = jax.jit(jax.grad(lambda p: bind(potential, p)(system, found).sum()))(params)
    assert not np.any(slopes["mean"])
    assert not np.any(slopes["deviation"])
    assert np.abs(slopes["networks"]["kernel_0"]).max(axis=(1, 2)).all()  # one for each element


def test_each_element_has_its_own_network():
    potential, params, system, found = made()
    networks = dict(params["networks"])
    networks["bias_1"] = networks["bias_1"].at[1].add(1.0)  # of carbon
    changed = {**params, "networks": networks}
    evaluate = jax.jit(lambda e: e.outputs(system, found))
    before, after = (evaluate(bind(potential, p)) for p in (params, changed))
    change = after["atomic_energies"] - before["atomic_energies"]
    np.testing.assert_allclose(change, np.where(system.numbers == 6, 1.0, 0.0), atol=1e-12)


def test_round_trip_by_a_file(tmp_path):
    potential, params, system, found = made()
    io.save(tmp_path / "mlp.safetensors", potential, params)
    again = io.load(tmp_path / "mlp.safetensors")
    expected = run(bind(potential, params), system, found)
    np.testing.assert_array_equal(run(bind(*again), system, found), expected)


def test_descriptors_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="give elements="):
        descriptor_mlp(inverse_distances)
    whole = descriptor_mlp(inverse_distances, elements=["H", "C", "O"])
    with pytest.raises(ValueError, match="one of the whole system"):
        whole.init(KEY, molecule(0, 4))
    with pytest.raises(ValueError, match="at least one feature"):
        descriptor_mlp(ACSF, hidden=(0,))
