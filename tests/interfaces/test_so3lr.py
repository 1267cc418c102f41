"""The pretrained SO3LR gives the numbers of the original."""

import functools
import hashlib
import http.server
import json
import pickle
import threading
from dataclasses import asdict

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from jaxff import System, bind, io, neighbor_list, pack, stress, units
from jaxff.interfaces import so3lr
from jaxff.interfaces.download import Published
from jaxff.physics import ewald_plan
from jaxff.potential import Bound
from jaxff.system import strain

TERMS = {
    "repulsion_energy": "e_zbl",
    "electrostatic_energy": "e_ele",
    "dispersion_energy": "e_disp",
}


def evaluate(energy_fn, system, neighbors):
    def total(positions):
        outputs = energy_fn.outputs(system.replace(positions=positions), neighbors)
        return jnp.sum(outputs["energy"]), outputs

    slope, outputs = jax.grad(total, has_aux=True)(system.positions)
    return {**outputs, "forces": -slope}


def system_of(file, name):
    return System(file[f"{name}/R"], file[f"{name}/Z"], charge=float(file[f"{name}/Q"]),
                  spin=float(file[f"{name}/S"]))  # fmt: skip


def compare(folder, cutoff, dtype, forces=True):
    """Every stored system with this long-range cutoff, in one pack."""
    file = np.load(folder / "reference_so3lr.npz")
    names = [str(n) for n in file["names"] if file[f"{n}/lr_cutoff"] == cutoff]
    potential, params = so3lr.load(
        folder / "so3lr_weights.npz",
        long_range_cutoff=cutoff,
        outputs=("features", "euclidean_variables"),
        dtype=dtype,
    )
    system = pack([system_of(file, name) for name in names])
    found = neighbor_list(potential.cutoffs).allocate(system)
    # Forces take most of the time, which is compilation.
    outputs = jax.jit(evaluate if forces else Bound.outputs)(bind(potential, params), system, found)
    wide = dtype == "float64"
    ends = np.cumsum([len(file[f"{name}/Z"]) for name in names])
    for index, name in enumerate(names):
        atoms = slice(ends[index] - len(file[f"{name}/Z"]), ends[index])
        count = atoms.stop - atoms.start

        def close(value, expected, tolerance, single, *, label, name=name):
            np.testing.assert_allclose(
                value, expected, rtol=0, atol=tolerance if wide else single,
                err_msg=f"{label} of {name}",
            )  # fmt: skip

        stored = {k: file[f"{name}/f64/{k}"] for k in ("energy", "forces", "charges",
                  "hirshfeld", "dipole", *TERMS.values())}  # fmt: skip
        energy = outputs["energy"][index]
        close(energy, stored["energy"], 1e-8 * count, 2e-6 * count, label="energy")
        if forces:
            close(outputs["forces"][atoms], stored["forces"], 1e-8, 5e-5, label="forces")
        close(outputs["partial_charges"][atoms], stored["charges"], 1e-9, 5e-5, label="charges")
        close(outputs["hirshfeld_ratios"][atoms], stored["hirshfeld"], 1e-9, 5e-5, label="ratios")
        close(outputs["dipole"][index], stored["dipole"], 1e-8, 1e-4, label="dipole")
        for ours, theirs in TERMS.items():
            close(outputs[ours][index], stored[theirs].sum(), 1e-9 * count, 2e-6 * count,
                  label=ours)  # fmt: skip
        if wide:
            size = np.abs(file[f"{name}/f64/x"]).max()
            close(outputs["features"][atoms] / size, file[f"{name}/f64/x"] / size, 1e-9, 0,
                  label="features")  # fmt: skip
            close(outputs["euclidean_variables"][atoms], file[f"{name}/f64/ev"], 1e-9, 0,
                  label="variables")  # fmt: skip


@pytest.mark.golden
def test_energies_charges_and_features(reference_dir):
    compare(reference_dir, 1000.0, "float64", forces=False)


@pytest.mark.golden
@pytest.mark.slow
@pytest.mark.parametrize(
    ("cutoff", "dtype"),
    [(12.0, "float64"), (1000.0, "float32"), (1000.0, "float64"), (12.0, "float32")],
)
def test_forces(reference_dir, cutoff, dtype):
    compare(reference_dir, cutoff, dtype)


@pytest.mark.golden
@pytest.mark.slow
@pytest.mark.parametrize("name", ["h2o", "formaldehyde_radical_cation"])
def test_hessians(reference_dir, name):
    file = np.load(reference_dir / "reference_so3lr.npz")
    weights = reference_dir / "so3lr_weights.npz"
    energy_fn = bind(*so3lr.load(weights, long_range_cutoff=1000.0, dtype="float64"))
    system = system_of(file, name)
    found = neighbor_list(energy_fn.cutoffs).allocate(system)

    def energy(positions):
        return energy_fn(system.replace(positions=positions.reshape(-1, 3)), found)

    hessian = jax.jit(jax.jacfwd(jax.grad(energy)))(system.positions.ravel())
    np.testing.assert_allclose(hessian, file[f"{name}/f64/hessian"], rtol=0, atol=1e-7)


@pytest.mark.golden
@pytest.mark.slow
@pytest.mark.parametrize("images", [False, True])
def test_stress_of_a_box_of_water(reference_dir, images):
    """Against finite differences, in a skewed cell smaller than the cutoffs."""
    with np.load(reference_dir / "systems.npz") as file:
        fields = {k: file[f"water8_pbc/{k}"] for k in ("cell", "pbc")}
        system = System(file["water8_pbc/R"], file["water8_pbc/Z"], charge=0.0, spin=0.0, **fields)
    weights = reference_dir / "so3lr_weights.npz"
    plan = ewald_plan(system.cell, width=4.0) if images else None
    loaded = so3lr.load(weights, long_range_cutoff=8.0, ewald=plan, dtype="float64")
    energy_fn = bind(*loaded)
    found = neighbor_list(energy_fn.cutoffs, skin=0.1).allocate(system)
    computed = jax.jit(stress(energy_fn))(system, found)
    shape = np.array([[0.4, -0.3, 0.2], [-0.3, 0.7, 0.5], [0.2, 0.5, -0.6]])
    energy = jax.jit(lambda t: energy_fn(strain(system, t * shape), found))
    step = 2e-4  # curvatures of the cutoff functions have kinks
    one, two = ((energy(k * step) - energy(-k * step)) / (2 * k * step) for k in (1, 2))
    expected = (4.0 * one - two) / 3.0
    volume = abs(np.linalg.det(fields["cell"]))
    np.testing.assert_allclose(np.sum(computed * shape) * volume, expected, rtol=1e-6)


@pytest.mark.golden
@pytest.mark.slow
def test_water_in_a_large_box_is_a_molecule(reference_dir):
    """The eight molecules with all images, against them alone in the gas phase."""
    with np.load(reference_dir / "systems.npz") as file:
        drops = System(file["water8_pbc/R"], file["water8_pbc/Z"], charge=0.0, spin=0.0)
    length = 60.0
    box = drops.replace(cell=length * jnp.eye(3), pbc=jnp.ones(3, bool))
    weights = reference_dir / "so3lr_weights.npz"
    found = []
    for system, far, plan in ((drops, None, None), (box, 20.0, ewald_plan(box.cell, width=4.0))):
        loaded = so3lr.load(weights, long_range_cutoff=far, ewald=plan, dtype="float64")
        lists = neighbor_list(loaded[0].cutoffs).allocate(system)
        found.append(jax.jit(lambda e, *given: e.outputs(*given))(bind(*loaded), system, lists))
    free, periodic = found
    for name in ("network_energy", "repulsion_energy", "dispersion_energy"):
        np.testing.assert_allclose(periodic[name], free[name], rtol=1e-10)
    images = periodic["electrostatic_energy"] - free["electrostatic_energy"]
    field = 2 * np.pi / 3 * units.COULOMB * np.sum(free["dipole"] ** 2) / length**3
    np.testing.assert_allclose(images, -field, rtol=0.02)


def small():
    """Arrays and hyperparameters of a small model by the names of the original."""
    model = {
        "cutoff": 3.0, "num_features": 4, "num_layers": 1, "num_heads": 2, "degrees": [1, 2],
        "num_radial_basis_fn": 4, "energy_regression_dim": 4, "electrostatic_energy_scale": 4.0,
        "dispersion_energy_scale": 1.2, "residual_mlp_2": False,
    }  # fmt: skip
    shapes = {"feature_embeddings_0/Embed_0/embedding": (11, 4)}
    for k in (1, 2):
        name = f"feature_embeddings_{k}/ChargeSpinEmbedSparse_0"
        shapes |= {f"{name}/Embed_{i}/embedding": (n, 4) for i, n in enumerate((11, 2, 2))}
        shapes |= {f"{name}/Residual_0/layers_{i}/kernel": (4, 4) for i in (0, 1)}
    block = "layers_0/attention_block"
    shapes |= {f"{block}/W{k}": (2, 2, 2) for k in ("q1", "k1", "v1", "q2", "k2")}
    dense = {
        "layers_0/exchange_block/mlp_layer_2": (6, 6),
        "layers_0/res_mlp_1_layer_1": (4, 4),
        "layers_0/res_mlp_1_layer_2": (4, 4),
        "observables_0/energy_dense_regression": (4, 4),
        "observables_0/energy_dense_final": (4, 1),
        "observables_2/hirshfeld_ratios_dense_regression": (4, 2),
        "observables_2/hirshfeld_ratios_dense_final": (2, 2),
    }
    charges = "observables_0/electrostatic_energy/partial_charges"
    dense[f"{charges}/charge_dense_regression_vec"] = (4, 4)
    dense[f"{charges}/charge_dense_final_vec"] = (4, 1)
    for k in (1, 2):
        dense |= {f"{block}/radial_filter{k}_layer_1": (4, 4)}
        dense |= {f"{block}/spherical_filter{k}_layer_1": (2, 1)}
        dense |= {f"{block}/radial_filter{k}_layer_2": (4, 4)}
        dense |= {f"{block}/spherical_filter{k}_layer_2": (1, 4)}
        shapes |= {f"layers_0/layer_normalization_{k}/{w}": (4,) for w in ("scale", "bias")}
    for name, shape in dense.items():
        shapes |= {f"{name}/kernel": shape, f"{name}/bias": shape[1:]}
    shapes |= {f"observables_0/{k}": (11,) for k in ("atomic_scales", "energy_offset")}
    shapes |= {f"{charges}/Embed_0/embedding": (10, 1), "observables_2/Embed_0/embedding": (10, 1)}
    shapes |= {"observables_2/Embed_1/embedding": (10, 2)}
    numbers = ("a1", "a2", "a3", "a4", "c1", "c2", "c3", "c4", "d", "p")
    shapes |= {f"observables_0/zbl_repulsion/{k}": (1,) for k in numbers}
    rng = np.random.default_rng(0)
    arrays = {f"params/{name}": rng.normal(size=shape) for name, shape in shapes.items()}
    return arrays, {"model": model, "data": {"avg_num_neighbors": 5.0}}


def test_files_and_crystals(tmp_path):
    """A crystal in a large box is a molecule; it has no dipole, and a finite range."""
    arrays, hyperparameters = small()
    path = tmp_path / "weights.npz"
    np.savez(path, hyperparameters=json.dumps(hyperparameters), **arrays)
    potential, params = so3lr.load(path, long_range_cutoff=6.0, dtype="float64")
    assert potential.cutoffs == (3.0, 6.0)
    molecule = System(0.9 * np.eye(3), [6, 1, 8], charge=0.0, spin=0.0)
    boxed = molecule.replace(cell=30.0 * jnp.eye(3), pbc=jnp.ones(3, bool))
    found = [neighbor_list(potential.cutoffs).allocate(s) for s in (molecule, boxed)]
    own = jax.eval_shape(lambda: potential.init(jax.random.key(0), molecule, found[0]))
    assert jax.tree.map(jnp.shape, own) == jax.tree.map(jnp.shape, params)
    io.save(tmp_path / "model.safetensors", potential, params)
    again = bind(*io.load(tmp_path / "model.safetensors"))
    outputs = jax.jit(lambda e, s, n: e.outputs(s, n))
    one, two = outputs(again, molecule, found[0]), outputs(again, boxed, found[1])
    assert "dipole" in one
    assert "dipole" not in two
    np.testing.assert_allclose(one["energy"], two["energy"], rtol=1e-12)
    parts = ("network_energy", *TERMS)
    np.testing.assert_allclose(one["energy"], sum(one[k] for k in parts), rtol=1e-12)
    np.testing.assert_allclose(one["energy"], one["atomic_energies"].sum(), rtol=1e-12)
    assert all(abs(one[k]) > 1e-6 for k in parts)
    with pytest.raises(ValueError, match="remove the cell"):
        jax.eval_shape(bind(*so3lr.load(path, long_range_cutoff=None)), boxed, found[1])
    plan = ewald_plan(boxed.cell, width=4.0)
    periodic = so3lr.load(path, long_range_cutoff=6.0, ewald=plan)[0]
    assert periodic.spec.arguments["ewald"].arguments == asdict(plan)


def published(folder):
    """A small model as the original publishes it: a pickle, and a text beside it."""
    arrays, hyperparameters = small()
    tree = unflatten_dict(arrays, sep="/")
    (folder / "params.pkl").write_bytes(pickle.dumps(tree, protocol=4))
    (folder / "hyperparameters.json").write_text(json.dumps(hyperparameters))


def test_the_published_files_are_read_as_data(tmp_path):
    published(tmp_path)
    params = so3lr.load(tmp_path)[1]
    jax.tree.map(np.testing.assert_array_equal, params, so3lr.from_arrays(*small())[1])
    stream = pickle.dumps({"params": {"kernel": print}})
    for content in (stream, stream[:-9], pickle.dumps([1.0]), b"version https://git-lfs"):
        (tmp_path / "params.pkl").write_bytes(content)
        with pytest.raises(ValueError, match=r"params\.pkl: .* this is no SO3LR, or it is damaged"):
            so3lr.load(tmp_path)


def test_the_published_files_are_fetched(tmp_path, monkeypatch):
    """From a local server; the content of each is known before."""
    (tmp_path / "server").mkdir()
    published(tmp_path / "server")
    handler = functools.partial(Quiet, directory=tmp_path / "server")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        files = {}
        for name in ("hyperparameters.json", "params.pkl"):
            content = (tmp_path / "server" / name).read_bytes()
            address = f"http://127.0.0.1:{server.server_port}/{name}"
            files[name] = Published(address, hashlib.sha256(content).hexdigest())
        assert files.keys() == so3lr._FILES.keys()
        monkeypatch.setattr(so3lr, "_FILES", files)
        monkeypatch.setenv("JAXFF_CACHE", str(tmp_path / "cache"))
        place = so3lr.download()
        server.shutdown()
        thread.join()
    assert place == tmp_path / "cache" / "so3lr"
    assert so3lr.download() == place  # without the server
    assert so3lr.load(place)[0].spec == so3lr.load(tmp_path / "server")[0].spec


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.mark.parametrize(
    ("model", "extra", "message"),
    [
        ({"qk_non_linearity": "silu"}, {}, "only 'identity' is known"),
        ({"degrees": None}, {}, "no hyperparameters of SO3LR"),
        ({}, {"params/observables_1/kernel": np.ones(2)}, "parts that are not known here"),
        ({"num_layers": 2}, {}, "no array 'layers_1"),
    ],
)
def test_other_models_are_refused(model, extra, message):
    arrays, hyperparameters = small()
    hyperparameters["model"] |= model
    with pytest.raises(ValueError, match=message):
        so3lr.from_arrays(arrays | extra, hyperparameters)


def test_the_range_must_hold_the_network():
    with pytest.raises(ValueError, match="at least the cutoff"):
        so3lr.from_arrays(*small(), long_range_cutoff=2.5)
