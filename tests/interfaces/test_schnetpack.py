"""Models of SchNetPack, read from plain arrays, give the numbers of the original."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxff import System, bind, io, neighbor_list, observe, pack, stack, units
from jaxff.interfaces import schnetpack
from jaxff.networks.graph import graph
from jaxff.networks.options import RadialOptions
from jaxff.networks.painn import PaiNN
from jaxff.networks.schnet import SchNet

BOX = 100.0
UNITS = {"schnet": "eV", "painn_random": "eV", "painn_rmd17_ethanol": "kcal/mol"}


def read(folder, name, dtype="float64"):
    file = np.load(folder / f"{name}.npz")
    arrays = {k.removeprefix("params/"): file[k] for k in file.files if k.startswith("params/")}
    model = schnetpack.from_state_dict(arrays, energy_unit=UNITS[name], dtype=dtype)
    return file, model


def system_of(file, name):
    """Molecules in an empty box, so that they can be packed with crystals."""
    periodic = file[f"{name}/pbc"]
    cell = file[f"{name}/cell"] if periodic.any() else BOX * np.eye(3)
    return System(file[f"{name}/R"], file[f"{name}/Z"], cell, periodic)


def compare(folder, model, dtype):
    """Energies, forces and stress of every stored system, in one pack."""
    file, (potential, params) = read(folder, model, dtype)
    names = [str(name) for name in file["names"]]
    systems = pack([system_of(file, name) for name in names])
    found = neighbor_list(potential.cutoffs).allocate(systems)
    evaluate = jax.jit(lambda f, s, n: observe(f, ["energy", "forces", "stress"])(s, n))
    outputs = evaluate(bind(potential, params), systems, found)
    unit = units.factor(UNITS[model], energy=1)
    wide = dtype == "float64"
    ends = np.cumsum([len(file[f"{name}/Z"]) for name in names])
    forces = np.split(np.asarray(outputs["forces"]) / unit, ends[:-1])
    for index, name in enumerate(names):
        count = len(file[f"{name}/Z"])
        energy = file[f"{name}/energy"]
        # the largest term of an atom is its share of the mean energy, where there is one
        size = max(1.0, abs(energy) / count)
        error = abs(outputs["energy"][index] / unit - energy) / count
        assert error < (1e-9 if model == "schnet" else 1e-10) * size if wide else 2e-6 * size
        size = max(1.0, np.abs(file[f"{name}/forces"]).max())
        np.testing.assert_allclose(
            forces[index] / size, file[f"{name}/forces"] / size, atol=1e-9 if wide else 5e-5, rtol=0
        )
        if f"{name}/stress" in file.files:
            np.testing.assert_allclose(
                outputs["stress"][index] / unit,
                file[f"{name}/stress"],
                atol=1e-9 if wide else 1e-5,
                rtol=0,
            )


@pytest.mark.golden
@pytest.mark.parametrize("model", ["schnet", "painn_random"])
def test_energies_forces_and_stress(reference_dir, model):
    compare(reference_dir, model, "float64")


@pytest.mark.golden
@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "dtype"),
    [
        ("painn_rmd17_ethanol", "float64"),
        *((model, "float32") for model in UNITS),
    ],
)
def test_energies_forces_and_stress_of_the_others(reference_dir, model, dtype):
    compare(reference_dir, model, dtype)


def features_of(file, module, params, name):
    system = System(file[f"{name}/R"], file[f"{name}/Z"])
    listed = neighbor_list(5.0).allocate(system).within(5.0)
    graphs = (graph(system, listed, jnp.float64),)
    apply = jax.jit(lambda p, s, g: module.apply({"params": p}, s, g, mutable=["intermediates"]))
    outputs, seen = apply(params, system, graphs)
    return outputs, seen["intermediates"]


def close(value, expected):
    expected = expected.reshape(value.shape)
    np.testing.assert_allclose(value, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


def radial_of(file):
    offsets, widths = (
        file[f"params/representation.radial_basis.{k}"] for k in ("offsets", "widths")
    )
    return RadialOptions.of(5.0, "cosine", "gaussian", 20, False, offsets, widths)


@pytest.mark.golden
def test_intermediates_of_schnet(reference_dir):
    file, (_, params) = read(reference_dir, "schnet")
    module = SchNet(radial_of(file), None, 64, 64, 3, "silu", (), ("features",), 99)
    for name in ("ethanol", "water_dimer"):
        outputs, seen = features_of(file, module, params, name)
        close(seen["embedded"][0], file[f"{name}/inter/embedding"])
        for k in range(3):
            close(seen[f"change_{k}"][0], file[f"{name}/inter/interaction_{k}"])
        close(outputs["features"], file[f"{name}/features"])
        close(outputs["atomic_energies"], file[f"{name}/inter/e_atom"])


@pytest.mark.golden
@pytest.mark.parametrize(("model", "size"), [("painn_random", 32), ("painn_rmd17_ethanol", 128)])
def test_intermediates_of_painn(reference_dir, model, size):
    file, (_, params) = read(reference_dir, model)
    module = PaiNN(radial_of(file), size, 3, "silu", (), ("features",), 99)
    for name in ("ethanol", "water_dimer"):
        outputs, seen = features_of(file, module, params, name)
        close(seen["embedded"][0], file[f"{name}/inter/embedding"])
        for k in range(3):
            for ours, theirs in (
                (f"received_{k}", f"interaction_{k}"),
                (f"updated_{k}", f"mixing_{k}"),
            ):
                for part in (0, 1):
                    expected = file[f"{name}/inter/{theirs}/{part}"]
                    close(seen[ours][0][part], expected)
        close(outputs["features"], file[f"{name}/features"])
        close(outputs["atomic_energies"], file[f"{name}/inter/e_atom"])


@pytest.mark.golden
def test_stacks_and_files(reference_dir, tmp_path):
    file, model = read(reference_dir, "painn_rmd17_ethanol", "float32")
    io.save(tmp_path / "painn.safetensors", *model)
    energy_fn = bind(*io.load(tmp_path / "painn.safetensors"))
    system = System(file["ethanol/R"], file["ethanol/Z"])
    systems = stack([system, system.replace(positions=system.positions[:, ::-1])])
    found = neighbor_list(energy_fn.cutoffs).allocate_stack(systems)
    expected = float(file["ethanol/energy"]) * units.factor("kcal/mol", energy=1)
    np.testing.assert_allclose(jax.jit(energy_fn)(systems, found), expected, atol=9 * 2e-6 * 10)


@pytest.mark.golden
@pytest.mark.slow
def test_the_trained_model_has_its_error_on_the_revised_labels(reference_dir, data_dir):
    """In kcal/mol(/Å), 50 frames; over 500 experiments/painn_rmd17.py finds 0.028 and 0.168."""
    _, (potential, params) = read(reference_dir, "painn_rmd17_ethanol")
    data = np.load(data_dir / "rmd17" / "rmd17_ethanol.npz")
    chosen = data["split_test_01"][:50]
    systems = pack([System(data["R"][i], data["z"]) for i in chosen])
    found = neighbor_list(potential.cutoffs).allocate(systems)
    outputs = observe(bind(potential, params), ["energy", "forces"])(systems, found)
    unit = units.factor("kcal/mol", energy=1)
    assert 0.03 < np.abs(outputs["energy"] / unit - data["E"][chosen]).mean() < 0.04
    forces = np.asarray(outputs["forces"]).reshape(50, 9, 3) / unit
    assert 0.15 < np.abs(forces - data["F"][chosen]).mean() < 0.19


def small_state():
    """Arrays of a small SchNet by the names of SchNetPack."""
    rng = np.random.default_rng(0)
    shapes = {
        "embedding.weight": (9, 4),
        "radial_basis.offsets": (5,),
        "radial_basis.widths": (5,),
        "cutoff_fn.cutoff": (1,),
        "interactions.0.in2f.weight": (3, 4),
        "interactions.0.filter_network.0.weight": (3, 5),
        "interactions.0.filter_network.0.bias": (3,),
        "interactions.0.filter_network.1.weight": (3, 3),
        "interactions.0.filter_network.1.bias": (3,),
        "interactions.0.f2out.0.weight": (4, 3),
        "interactions.0.f2out.0.bias": (4,),
        "interactions.0.f2out.1.weight": (4, 4),
        "interactions.0.f2out.1.bias": (4,),
    }
    head = {"0.weight": (2, 4), "0.bias": (2,), "1.weight": (1, 2), "1.bias": (1,)}
    state = {f"representation.{k}": rng.uniform(0.5, 1.5, s) for k, s in shapes.items()}
    return state | {f"output_modules.0.outnet.{k}": rng.normal(size=s) for k, s in head.items()}


def test_shapes_are_those_of_our_own_models():
    potential, params = schnetpack.from_state_dict(small_state(), energy_unit="eV", dtype="float64")
    system = System(np.eye(3), [6, 1, 8])
    found = neighbor_list(potential.cutoffs).allocate(system)
    own = jax.eval_shape(lambda: potential.init(jax.random.key(0), system, found))
    assert jax.tree.map(jnp.shape, own) == jax.tree.map(jnp.shape, params)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"representation.embedding.weight": None}, "no array 'representation.embedding.weight'"),
        ({"output_modules.1.outnet.0.weight": np.ones(2)}, "parts that are not known here"),
        ({"postprocessors.0.atomref": np.ones(9)}, "energies of atoms"),
    ],
)
def test_other_models_are_refused(change, message):
    state = {k: v for k, v in (small_state() | change).items() if v is not None}
    with pytest.raises(ValueError, match=message):
        schnetpack.from_state_dict(state, energy_unit="eV")
