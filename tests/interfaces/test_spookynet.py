"""The pretrained SpookyNet gives the numbers of the original."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxff import System, bind, io, neighbor_list, pack, physics, stack
from jaxff.interfaces import spookynet
from jaxff.networks.electrons import configurations
from jaxff.networks.graph import graph
from jaxff.networks.spookynet import SpookyNet
from jaxff.potential import Bound

TERMS = {
    "network_energy": "e_atom",
    "repulsion_energy": "e_zbl",
    "electrostatic_energy": "e_ele",
    "dispersion_energy": "e_d4",
}
BOX = "water64_pbc_lr8"


@pytest.fixture(scope="module")
def file(reference_dir):
    with np.load(reference_dir / "reference_spookynet.npz") as stored:
        return dict(stored)


def system_of(file, name, atoms=None):
    """A stored system, perhaps filled up with atoms of number 0."""
    cell = file.get(f"{name}/f64c6/cell")
    missing = 0 if atoms is None else atoms - len(file[f"{name}/Z"])
    return System(
        np.pad(file[f"{name}/R"], ((0, missing), (0, 0))),
        np.pad(file[f"{name}/Z"], (0, missing)),
        cell,
        charge=float(file[f"{name}/Q"]),
        spin=float(file[f"{name}/S"]),
    )


def evaluate(energy_fn, system, neighbors):
    def total(positions):
        outputs = energy_fn.outputs(system.replace(positions=positions), neighbors)
        return jnp.sum(outputs["energy"]), outputs

    slope, outputs = jax.grad(total, has_aux=True)(system.positions)
    return {**outputs, "forces": -slope}


def compare(folder, file, dtype, periodic=False, forces=True):
    """Every stored molecule in one pack, or the box."""
    names = [str(n) for n in file["names"] if (n == BOX) == periodic]
    potential, params = spookynet.load(
        folder / "spookynet_weights.npz",
        long_range_cutoff=8.0 if periodic else None,
        outputs=("features",),
        dtype=dtype,
    )
    system = pack([system_of(file, name) for name in names])
    found = neighbor_list(potential.cutoffs).allocate(system)
    # Forces take most of the time, which is compilation.
    outputs = jax.jit(evaluate if forces else Bound.outputs)(bind(potential, params), system, found)
    wide = dtype == "float64"
    start = 0
    for index, name in enumerate(names):
        atoms = slice(start, start + len(file[f"{name}/Z"]))
        start, count = atoms.stop, atoms.stop - atoms.start

        def close(value, expected, tolerance, single, name=name):
            stored = file[f"{name}/f64c6/{expected}"]
            np.testing.assert_allclose(
                value, stored, rtol=0, atol=tolerance if wide else single,
                err_msg=f"{expected} of {name}",
            )  # fmt: skip

        close(outputs["energy"][index], "energy", 1e-9 * count, 2e-6 * count)
        if forces:
            close(outputs["forces"][atoms], "forces", 1e-9, 5e-5)
        close(outputs["partial_charges"][atoms], "charges", 1e-9, 1e-5)
        for ours, theirs in TERMS.items():
            expected = file[f"{name}/f64c6/{theirs}"].sum()
            tolerance = (1e-9 if wide else 2e-6) * count
            np.testing.assert_allclose(outputs[ours][index], expected, rtol=0, atol=tolerance)
        # Static polarizabilities are rounded there, constants of nature are newer here.
        close(outputs["atomic_polarizabilities"][atoms], "pol", 1e-7, 1e-4)
        c6 = file[f"{name}/f64c6/c6"]
        np.testing.assert_allclose(outputs["atomic_c6"][atoms], c6, rtol=1e-8 if wide else 1e-4)
        if not periodic:
            close(outputs["dipole"][index], "dipole", 1e-9, 1e-4)
            close(outputs["features"][atoms], "features", 1e-9, 1e-4)


@pytest.mark.golden
def test_energies_charges_and_features(reference_dir, file):
    compare(reference_dir, file, "float64", forces=False)


@pytest.mark.golden
@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("periodic", [False, True])
def test_forces(reference_dir, file, dtype, periodic):
    compare(reference_dir, file, dtype, periodic)


@pytest.mark.golden
@pytest.mark.slow
def test_hessians(reference_dir, file):
    """Of all systems that have one, filled up to the size of the largest."""
    names = [str(n) for n in file["names"] if f"{n}/f64c6/hessian" in file]
    assert len(names) >= 7
    most = max(len(file[f"{name}/Z"]) for name in names)
    weights = reference_dir / "spookynet_weights.npz"
    energy_fn = bind(*spookynet.load(weights, dtype="float64"))
    systems = stack([system_of(file, name, most) for name in names])
    found = neighbor_list(energy_fn.cutoffs).allocate_stack(systems)

    def hessian(given):
        system, neighbors = given

        def energy(positions):
            return energy_fn(system.replace(positions=positions.reshape(-1, 3)), neighbors)

        return jax.jacfwd(jax.grad(energy))(system.positions.ravel())

    computed = jax.jit(lambda given: jax.lax.map(hessian, given))((systems, found))
    for name, matrix in zip(names, computed, strict=True):
        expected = file[f"{name}/f64c6/hessian"]
        size = len(expected)
        np.testing.assert_allclose(
            matrix[:size, :size], expected, rtol=0, atol=1e-7, err_msg=f"Hessian of {name}"
        )
        np.testing.assert_array_equal(matrix[size:], 0.0)


@pytest.mark.golden
def test_what_blocks_give(reference_dir, file):
    """Of a radical cation and of an anion, in one pack."""
    names = ("formaldehyde_radical_cation", "ethoxide_anion")
    potential, params = spookynet.load(reference_dir / "spookynet_weights.npz", dtype="float64")
    known = potential.spec.arguments
    module = SpookyNet(
        known["cutoff"], 64, 16, 3, 1, 0.9, ("charge", "spin"), True, tuple(known["directions"]),
        (), 86,
    )  # fmt: skip
    system = pack([system_of(file, name) for name in names])
    pairs = neighbor_list(known["cutoff"]).allocate(system).within(known["cutoff"])
    apply = jax.jit(lambda p, s, g: module.apply({"params": p}, s, g, mutable=["intermediates"]))
    _, seen = apply(params["network"], system, (graph(system, pairs, jnp.float64),))
    seen = seen["intermediates"]

    def close(value, block):
        expected = np.concatenate([file[f"{name}/inter/{block}"] for name in names])
        np.testing.assert_allclose(value, expected, rtol=0, atol=1e-12, err_msg=block)

    close(seen["nuclei_embedded"][0], "nuclear/0")
    close(seen["charge_embedded"][0], "charge/0")
    close(seen["spin_embedded"][0], "spin/0")
    for k in range(3):
        close(seen[f"module_{k}"]["local_change"][0], f"local{k}/0")
        close(seen[f"module_{k}"]["nonlocal_change"][0], f"nonlocal{k}/0")
        for part, value in enumerate(seen[f"after_{k}"][0]):
            close(value, f"module{k}/{part}")


RESIDUALS = (
    "electron", "local", "local_d", "local_p", "local_s", "local_x", "nonlocal_k", "nonlocal_q",
    "nonlocal_v", "output", "post", "pre",
)  # fmt: skip


def small():
    """Arrays and hyperparameters of a small model by the names of the original."""
    size, functions = 4, 3
    rng = np.random.default_rng(0)
    arrays = {}

    def add(name, *shape):
        arrays[name] = rng.normal(size=shape)

    def dense(name, rows=size, columns=size, bias=True):
        add(f"{name}.weight", rows, columns)
        if bias:
            add(f"{name}.bias", rows)

    def swish(name):
        add(f"{name}.alpha", size)
        add(f"{name}.beta", size)

    def residual(name, bias=True):
        for k in (1, 2):
            swish(f"{name}.stack.0.activation{k}")
            dense(f"{name}.stack.0.linear{k}", bias=bias)

    def mlp(name, bias=True):
        residual(f"{name}.residual", bias)
        swish(f"{name}.activation")
        dense(f"{name}.linear", bias=bias)

    for name, parts in (("charge", 2), ("magmom", 1)):
        dense(f"{name}_embedding.linear_q")
        dense(f"{name}_embedding.linear_k", columns=parts, bias=False)
        dense(f"{name}_embedding.linear_v", columns=parts, bias=False)
        mlp(f"{name}_embedding.resblock", bias=False)
    local, far = "module.0.local_interaction", "module.0.nonlocal_interaction"
    for kind in "spd":
        dense(f"{local}.radial_{kind}", columns=functions, bias=False)
        mlp(f"{local}.resblock_{kind}")
    for kind in "pd":
        dense(f"{local}.projection_{kind}", rows=2 * size, bias=False)
    for name in (f"{local}.resblock_x", f"{local}.resblock", "module.0.resblock"):
        mlp(name)
    for kind in "qkv":
        mlp(f"{far}.resblock_{kind}")
    add(f"{far}.attention.omega", size, 6)
    residual("module.0.residual_pre")
    residual("module.0.residual_post")
    dense("output", rows=2, bias=False)
    add("element_bias", 87, 2)
    add("nuclear_embedding.element_embedding", 87, size)
    dense("nuclear_embedding.config_linear", columns=20, bias=False)
    arrays["nuclear_embedding.electron_config"] = configurations().astype(np.float32)
    add("radial_basis_functions._alpha", 1)
    arrays["radial_basis_functions.logc"] = np.log([1.0, 2.0, 1.0])
    arrays["radial_basis_functions.v"] = np.arange(3.0)
    arrays["radial_basis_functions.n"] = np.arange(3.0)[::-1]
    for k in ("c1", "c2", "c3", "c4", "a1", "a2", "a3", "a4", "apow", "adiv"):
        add(f"zbl_repulsion_energy._{k}", 1)
    for k in ("s8", "a1", "a2", "scaleq"):
        add(f"d4_dispersion_energy._{k}", 1)
    arrays["d4_dispersion_energy._s6"] = np.array([0.541324854612918])
    tables = physics.d4_tables()
    gaussians = tables.gaussians[..., None] > np.arange(3)
    repeated = tables.coordination[..., None] * np.ones(3)
    stored = {
        "rcov": tables.radii, "en": tables.electronegativities, "zeff": tables.nuclear_charges,
        "gam": tables.hardnesses, "sqrt_r4r2": np.sqrt(tables.moments), "cn": repeated,
        "ncount_mask": gaussians.astype(float), "ncount_weight": gaussians * np.arange(1.0, 4.0),
        "fixgweights": tables.fallback, "refq": tables.charges, "alphaiw": tables.polarizabilities,
        "ascale": tables.scales, "refsys": tables.partners, "hcount": tables.partner_counts,
        "refh": tables.partner_charges, "sscale": tables.partner_scales,
        "secaiw": tables.partner_polarizabilities,
        "casimir_polder_weights": tables.frequency_weights,
    }  # fmt: skip
    arrays |= {f"d4_dispersion_energy.{name}": value for name, value in stored.items()}
    return arrays, {
        "activation": "swish", "basis_functions": "exp-bernstein", "exp_weighting": True,
        "use_irreps": True, "use_nonlinear_embedding": False, "cutoff": 3.0, "num_features": size,
        "num_basis_functions": functions, "num_modules": 1, "module_keep_prob": 0.9,
        "use_zbl_repulsion": True, "use_electrostatics": True, "use_d4_dispersion": True,
        **{f"num_residual_{k}": 1 for k in RESIDUALS},
    }  # fmt: skip


def test_files(tmp_path):
    """Parameters have the shapes of the network's own, and survive another file."""
    arrays, hyperparameters = small()
    path = tmp_path / "weights.npz"
    np.savez(path, hyperparameters=json.dumps(hyperparameters), licence="MIT", **arrays)
    potential, params = spookynet.load(path, dtype="float64")
    system = System(0.9 * np.eye(3), [6, 1, 8], charge=1.0, spin=1.0)
    found = neighbor_list(potential.cutoffs).allocate(system)
    own = jax.eval_shape(lambda: potential.init(jax.random.key(0), system, found))
    assert jax.tree.map(jnp.shape, own) == jax.tree.map(jnp.shape, params)
    io.save(tmp_path / "model.safetensors", potential, params)
    again = bind(*io.load(tmp_path / "model.safetensors"))
    jax.tree.map(np.testing.assert_array_equal, again.params, params)
    one = jax.jit(Bound.outputs)(again, system, found)
    np.testing.assert_allclose(one["energy"], sum(one[k] for k in TERMS), rtol=1e-12)
    np.testing.assert_allclose(one["energy"], one["atomic_energies"].sum(), rtol=1e-12)
    np.testing.assert_allclose(one["partial_charges"].sum(), 1.0, rtol=1e-13)
    assert all(abs(one[k]) > 1e-6 for k in TERMS)
    with pytest.raises(ValueError, match=r"reads system.spin, which is None"):
        again(system.replace(spin=None), found)


@pytest.mark.parametrize(
    ("model", "extra", "message"),
    [
        ({"activation": "ssp"}, {}, "only 'swish' is known"),
        ({"num_residual_pre": 2}, {}, "only the same number in all"),
        ({"cutoff": None}, {}, "no hyperparameters of SpookyNet"),
        ({"num_modules": 2}, {}, "no array 'module.1"),
        ({}, {"module.1.resblock.linear.bias": np.ones(4)}, "parts that are not known here"),
        ({}, {"radial_basis_functions.logc": np.zeros(3)}, "radial functions that are not known"),
        ({}, {"d4_dispersion_energy._s6": np.ones(1)}, "dispersion that is not known"),
    ],
)
def test_other_models_are_refused(model, extra, message):
    arrays, hyperparameters = small()
    with pytest.raises(ValueError, match=message):
        spookynet.from_arrays(arrays | extra, hyperparameters | model)


def test_a_file_of_something_else_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", positions=np.zeros(3))
    with pytest.raises(ValueError, match="this is no SpookyNet"):
        spookynet.load(tmp_path / "other.npz")


def test_the_published_file_is_one_of_pytorch(tmp_path, monkeypatch):
    """Reading it is tested in test_torch_file.py; here that its parts come to their places."""
    arrays, hyperparameters = small()
    content = {"state_dict": arrays, **hyperparameters}
    monkeypatch.setattr(spookynet, "read_tensors", lambda path: dict(content))
    potential, params = spookynet.load(tmp_path / "parameters.pth")
    again, own = spookynet.from_arrays(arrays, hyperparameters)
    jax.tree.map(np.testing.assert_array_equal, params, own)
    assert potential.cutoffs == again.cutoffs
    del content["state_dict"]
    with pytest.raises(ValueError, match=r"parameters\.pth: no entry 'state_dict'"):
        spookynet.load(tmp_path / "parameters.pth")
