"""SO3krates models of mlff, read from plain arrays, give the numbers of the original."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxff import System, bind, io, neighbor_list, observe, pack
from jaxff.interfaces import mlff
from jaxff.networks.euclidean import Layout
from jaxff.networks.graph import graph
from jaxff.networks.options import RadialOptions
from jaxff.networks.so3krates import SO3krates

MODELS = ("so3krates_dense_a", "so3krates_dense_b", "so3krates_snse")
BOX = 100.0
# The tests compile without optimisation, where each function of XLA loses a bit more: the forces of
# ethanol by "b", ill-conditioned at its oxygen, then have twice the error.
OPTIMISED = {"xla_backend_optimization_level": 3}


def read(folder, name, dtype="float64"):
    with np.load(folder / f"{name}.npz") as archive:
        file = dict(archive)
    hyperparameters = json.loads(str(file["hyperparameters"]))
    arrays = {k: file[k] for k in file if k.startswith("params/")}
    model = mlff.from_arrays(arrays, hyperparameters.get("full", hyperparameters), dtype=dtype)
    return file, model


def system_of(file, name):
    """Molecules in an empty box, so that they can be packed with crystals."""
    periodic = file[f"{name}/pbc"]
    cell = file[f"{name}/cell"] if periodic.any() else BOX * np.eye(3)
    return System(file[f"{name}/R"], file[f"{name}/Z"], cell, periodic)


def close(value, expected, tolerance):
    size = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(value, expected, rtol=0, atol=tolerance * size)


def compare(folder, model, dtype):
    """Energies, forces and stress of every stored system, in one pack."""
    file, (potential, params) = read(folder, model, dtype)
    names = [str(name) for name in file["names"]]
    systems = pack([system_of(file, name) for name in names])
    found = neighbor_list(potential.cutoffs).allocate(systems)
    wide = dtype == "float64"
    evaluate = jax.jit(
        lambda f, s, n: observe(f, ["energy", "forces", "stress"])(s, n),
        compiler_options={} if wide else OPTIMISED,
    )
    outputs = evaluate(bind(potential, params), systems, found)
    ends = np.cumsum([len(file[f"{name}/Z"]) for name in names])
    forces = np.split(np.asarray(outputs["forces"]), ends[:-1])
    for index, name in enumerate(names):
        count, largest = len(forces[index]), max(1.0, np.abs(file[f"{name}/e_atom"]).max())
        error = abs(outputs["energy"][index] - file[f"{name}/energy"]) / count
        assert error < (1e-10 if wide else 2e-6) * largest
        close(forces[index], file[f"{name}/forces"], 1e-9 if wide else 5e-5)
        if f"{name}/stress" in file:
            close(outputs["stress"][index], file[f"{name}/stress"], 1e-9 if wide else 1e-5)


@pytest.mark.golden
def test_energies_forces_and_stress(reference_dir):
    compare(reference_dir, "so3krates_dense_b", "float64")


@pytest.mark.golden
@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "dtype"),
    [
        ("so3krates_dense_a", "float64"),
        ("so3krates_snse", "float64"),
        *((model, "float32") for model in MODELS),
    ],
)
def test_energies_forces_and_stress_of_the_others(reference_dir, model, dtype):
    compare(reference_dir, model, dtype)


@pytest.mark.golden
def test_attention_and_euclidean_variables(reference_dir):
    file, (_, params) = read(reference_dir, "so3krates_dense_b")
    module = SO3krates(
        RadialOptions.of(5.0, "cosine", "physnet", 12, False, None, None), 24, 2, 2,
        Layout((1, 2, 3, 4)), None, False, "pre", ("projected", "projected"), 4.0, 24, False, (),
        (), 99, None,
    )  # fmt: skip
    name = "ethanol"
    system = System(file[f"{name}/R"], file[f"{name}/Z"])
    seen = graph(system, neighbor_list(5.0).allocate(system).within(5.0), jnp.float64)
    apply = jax.jit(lambda p, s, g: module.apply({"params": p}, s, g, mutable=["intermediates"]))
    outputs, found = apply(params, system, (seen,))
    close(outputs["atomic_energies"], file[f"{name}/e_atom"], 1e-10)
    first, second, mask = (np.asarray(x) for x in (seen.edges.first, seen.edges.second,
                                                   seen.edges.mask))  # fmt: skip
    assert 2 * mask.sum() == len(file[f"{name}/idx_i"])
    place = {
        (i, j): k
        for k, (i, j) in enumerate(
            zip(file[f"{name}/idx_i"].tolist(), file[f"{name}/idx_j"].tolist(), strict=True)
        )
    }
    for index in range(2):
        own, theirs = found["intermediates"], f"{name}/inter/layers_{index}"
        close(own[f"after_{index}"][0][1], file[f"{theirs}/chi_out"], 1e-10)
        for ours, block in (("features", "FeatureBlock_0"), ("variables", "GeometricBlock_0")):
            ends = own[f"layer_{index}"]["attention"][f"{ours}_attention"][0]
            expected = file[f"{theirs}/{block}/attention_fn/alpha"]
            for values, centers, others in ((ends[0], first, second), (ends[1], second, first)):
                rows = [place[i, j] for i, j in zip(centers[mask], others[mask], strict=True)]
                close(np.asarray(values)[mask], expected[rows], 1e-10)


HYPERPARAMETERS = {
    "geometry_embeddings": [
        {
            "geometry_embed": {
                "degrees": [1, 2], "n_rbf": 5, "r_cut": 4.0, "radial_basis_function": "phys",
                "radial_cutoff_fn": "cosine_cutoff_fn", "sphc_normalization": None,
            }
        }
    ],
    "layers": [{"so3krates_layer": {"degrees": [1, 2], "n_heads": 2, "residual_mlp_2": True}}],
    "observables": [{"energy": {"per_atom_scale": None}}],
}  # fmt: skip


def small_arrays():
    """Arrays of a small network by the names of mlff."""
    rng = np.random.default_rng(0)
    shapes = {
        "feature_embeddings_0/Embed_0/embedding": (9, 4),
        "layers_0/InteractionBlock_0/MLP_0/layers_0/kernel": (6, 6),
        "layers_0/InteractionBlock_0/MLP_0/layers_0/bias": (6,),
        "layers_0/FeatureBlock_0/attention_fn/VmapAttentionAggregation_0/Dense_0/kernel": (2, 2, 2),
        "layers_0/ResidualMLP_0/Residual_0/layers_0/kernel": (4, 4),
        "layers_0/ResidualMLP_0/Residual_0/layers_1/kernel": (4, 4),
        "layers_0/ResidualMLP_0/Dense_0/kernel": (4, 4),
        "observables_0/MLP_0/layers_0/kernel": (4, 4),
        "observables_0/MLP_0/layers_0/bias": (4,),
        "observables_0/MLP_0/layers_1/kernel": (4, 1),
        "observables_0/MLP_0/layers_1/bias": (1,),
    }
    for block in ("FeatureBlock_0", "GeometricBlock_0"):
        for number, (one, two) in enumerate(((5, 4), (2, 1))):
            name = f"layers_0/{block}/filter_fn/VmapMLP_{number}/layers"
            shapes |= {f"{name}_0/kernel": (1, one, two), f"{name}_0/bias": (1, two)}
            shapes |= {f"{name}_1/kernel": (1, two, 4), f"{name}_1/bias": (1, 4)}
        for number in (0, 1):
            maps = f"layers_0/{block}/attention_fn/VmapConvAttentionCoefficients_0"
            shapes[f"{maps}/Dense_{number}/kernel"] = (2, 2, 2)
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


def test_shapes_are_those_of_our_own_models(tmp_path):
    potential, params = mlff.from_arrays(small_arrays(), HYPERPARAMETERS, dtype="float64")
    system = System(np.eye(3), [6, 1, 8])
    found = neighbor_list(potential.cutoffs).allocate(system)
    own = jax.eval_shape(lambda: potential.init(jax.random.key(0), system, found))
    assert jax.tree.map(jnp.shape, own) == jax.tree.map(jnp.shape, params)
    io.save(tmp_path / "model.safetensors", potential, params)
    assert io.load(tmp_path / "model.safetensors")[0].spec == potential.spec


def changed(**options):
    layer = HYPERPARAMETERS["layers"][0]["so3krates_layer"] | options
    return {**HYPERPARAMETERS, "layers": [{"so3krates_layer": layer}]}


@pytest.mark.parametrize(
    ("hyperparameters", "extra", "message"),
    [
        ({}, {}, "no hyperparameters of a SO3krates"),
        (changed(non_local_sphc=True), {}, "non_local_sphc = True, only False is known"),
        (changed(layer_normalization=True), {}, "without one at the end"),
        (HYPERPARAMETERS, {"observables_1/kernel": np.ones(2)}, "parts that are not known here"),
        (changed(residual_mlp_1=True), {}, "no array 'layers_0/ResidualMLP_1"),
    ],
)
def test_other_models_are_refused(hyperparameters, extra, message):
    with pytest.raises(ValueError, match=message):
        mlff.from_arrays(small_arrays() | extra, hyperparameters)
