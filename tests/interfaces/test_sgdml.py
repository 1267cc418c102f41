import dataclasses
import io
import os
import pickle
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernel_models import CASES, SWAP, crystal, morse_labels, random_params, water
from models import run

from jaxff import bind, energy_and_forces, gdml, units
from jaxff.descriptors import inverse_distances
from jaxff.gdml.expansion import expand_compiled
from jaxff.interfaces import sgdml
from jaxff.interfaces.sgdml import Provenance
from jaxff.kernels import Kernel, matern52
from jaxff.linalg import solvers
from jaxff.system import System

NAMES = ["ethanol_200", pytest.param("malonaldehyde_200", marks=pytest.mark.slow), "si64_periodic"]


def predict(potential, params, systems):
    energies, forces = run(energy_and_forces(bind(potential, params)), systems)
    return np.asarray(energies), np.asarray(forces)


def arrays_of(path) -> dict[str, np.ndarray]:
    """Arrays of a file that this test wrote itself, pickled entries included."""
    with np.load(path, allow_pickle=True) as file:
        return dict(file)


@pytest.fixture(scope="module")
def fitted():
    """A model of water with energy labels, and what to record of it."""
    systems = water(6)
    energies, forces = morse_labels(systems)
    potential = gdml.potential(Kernel(inverse_distances, matern52, SWAP))
    params = potential.init(jax.random.key(0), systems, hyper={"lengthscale": 3.0})
    params, info = gdml.fit(
        potential,
        params,
        {"forces": forces, "energy": energies},
        solver=solvers.cholesky(),
        regularization=1e-8,
    )
    about = Provenance(
        dataset_name="water",
        dataset_theory="Morse",
        train_indices=np.arange(6) * 3,
        train_fingerprint="0" * 32,
        valid_indices=np.array([1, 2]),
        valid_fingerprint="f" * 32,
        regularization=1e-8,
        scale=info.scale,
        force_error={"mae": 0.1, "rmse": 0.2},
        energy_error={"mae": 0.3, "rmse": 0.4},
    )
    return potential, params, about


@pytest.fixture
def saved(fitted, tmp_path):
    path = tmp_path / "model.npz"
    sgdml.save(path, *fitted)
    return path


@pytest.mark.parametrize(
    ("energy_unit", "length_unit"),
    [("kcal/mol", "Ang"), ("eV", "Ang"), ("hartree", "bohr"), ("au", "au")],
)
def test_round_trip_in_any_unit(fitted, tmp_path, energy_unit, length_unit):
    potential, params, about = fitted
    about = dataclasses.replace(about, energy_unit=energy_unit, length_unit=length_unit)
    sgdml.save(tmp_path / "model.npz", potential, params, about)
    model = sgdml.read(tmp_path / "model.npz")
    others = water(10, seed=3)
    expected, found = (
        predict(potential, params, others),
        predict(model.potential, model.params, others),
    )
    assert np.allclose(found[0], expected[0], rtol=1e-9, atol=0)
    assert np.allclose(found[1], expected[1], rtol=0, atol=1e-8 * np.abs(expected[1]).max())
    for name in ("forces", "energy"):
        assert np.allclose(
            model.params["coefficients"][name], params["coefficients"][name], rtol=1e-12
        )
    assert np.isclose(model.provenance.scale, about.scale, rtol=1e-12)
    assert model.provenance.force_error == pytest.approx(about.force_error)
    assert model.provenance.energy_error == pytest.approx(about.energy_error)
    assert np.array_equal(model.potential.kernel.permutations, SWAP)


def test_provenance_survives(fitted, saved):
    found, about = sgdml.read(saved).provenance, fitted[2]
    for field in dataclasses.fields(Provenance):
        expected = getattr(about, field.name)
        if field.name == "code_version":
            assert found.code_version.startswith("jaxff ")
        elif isinstance(expected, dict):
            assert getattr(found, field.name) == pytest.approx(expected)
        else:
            assert np.array_equal(getattr(found, field.name), expected), field.name


def test_how_it_was_solved_is_told(fitted, tmp_path):
    potential, params, about = fitted
    solved = {"solver": "cg", "iterations": 12, "residual": 9e-5, "tolerance": 1e-4}
    path = tmp_path / "cg.npz"
    about = dataclasses.replace(about, **solved, has_energies=False)
    sgdml.save(path, potential, params, about)
    found = sgdml.read(path).provenance
    assert {name: getattr(found, name) for name in solved} == solved
    arrays = arrays_of(path)
    assert (arrays["solver_name"], arrays["solver_iters"], arrays["use_E"]) == ("cg", 12, False)


def test_keys_types_and_shapes_of_the_format(saved):
    found = arrays_of(saved)
    expected = {
        "type": ("U", ()), "code_version": ("U", ()), "dataset_name": ("U", ()),
        "dataset_theory": ("U", ()), "solver_name": ("U", ()), "z": ("i8", (3,)),
        "idxs_train": ("i8", (6,)), "md5_train": ("S32", ()), "idxs_valid": ("i8", (2,)),
        "md5_valid": ("S32", ()), "n_test": ("i8", ()), "md5_test": ("O", ()),
        "f_err": ("O", ()), "e_err": ("O", ()), "R_desc": ("f8", (3, 6)),
        "R_d_desc_alpha": ("f8", (6, 3)), "c": ("f8", ()), "std": ("f8", ()), "sig": ("i8", ()),
        "lam": ("f8", ()), "alphas_F": ("f8", (54,)), "alphas_E": ("f8", (6,)),
        "perms": ("i8", (2, 3)), "tril_perms_lin": ("i8", (6,)), "use_E": ("?", ()),
        "r_unit": ("U", ()), "e_unit": ("U", ()),
    }  # fmt: skip
    assert set(found) == set(expected)
    for key, (dtype, shape) in expected.items():
        kind = found[key].dtype.kind if dtype == "U" else found[key].dtype
        assert kind == dtype, key
        assert found[key].shape == shape, key
    assert str(found["type"]) == "m"
    assert found["f_err"].item().keys() == {"mae", "rmse"}
    assert found["sig"] == 3
    # Pairs (1,0), (2,0) change places in the second permutation; entry d·P + p is π_p(d) + p·D.
    assert found["tril_perms_lin"].tolist() == [0, 3 + 1, 1, 3 + 0, 2, 3 + 2]


def test_numbers_of_the_file_are_those_of_the_published_formulas(fitted, saved):
    """Energy and force from the arrays by the formulas of the format, in its own unit."""
    potential, params, _ = fitted
    found, system = arrays_of(saved), jax.tree.map(lambda leaf: leaf[0], water(1, seed=8))
    sigma, std = float(found["sig"]), float(found["std"])

    def energy(positions):
        x = inverse_distances(system.replace(positions=positions))
        tiled = jnp.concatenate([x, x])[found["tril_perms_lin"]].reshape(3, 2).T
        # Permuting the query, which is its own inverse here, is permuting the references.
        d = tiled[:, None] - found["R_desc"].T
        r = jnp.sqrt(5.0) * jnp.linalg.norm(d, axis=-1)
        s = jnp.sum(d * found["R_d_desc_alpha"], axis=-1)
        total = jnp.sum(5 / (3 * sigma**3) * jnp.exp(-r / sigma) * (r + sigma) * s)
        kernel = (1 + r / sigma + r**2 / (3 * sigma**2)) * jnp.exp(-r / sigma)
        return found["c"] + std * (total + jnp.sum(kernel @ found["alphas_E"]))

    value, gradient = jax.jit(jax.value_and_grad(energy))(system.positions)
    energies, forces = predict(potential, params, system)
    unit = units.to_ev("kcal/mol")
    assert np.isclose(value, energies / unit, rtol=1e-10)
    assert np.allclose(-gradient, forces / unit, rtol=0, atol=1e-8)


def test_a_lattice_is_stored_as_columns(tmp_path):
    case = CASES["periodic"]()
    potential, params = random_params(case)
    sgdml.save(tmp_path / "model.npz", potential, params, Provenance(length_unit="bohr"))
    stored = arrays_of(tmp_path / "model.npz")["lattice"]
    assert np.allclose(stored, np.asarray(case.references.cell[0]).T / units.BOHR)
    again = sgdml.load(tmp_path / "model.npz")
    others = crystal(3, seed=4)
    expected, found = predict(potential, params, others), predict(*again, others)
    assert np.allclose(found[0], expected[0], rtol=1e-9)
    assert np.allclose(found[1], expected[1], rtol=0, atol=1e-9 * np.abs(expected[1]).max())


def test_without_symmetry_the_identity_is_stored(tmp_path):
    potential, params = random_params(CASES["no_symmetry"]())
    sgdml.save(tmp_path / "model.npz", potential, params)
    found = arrays_of(tmp_path / "model.npz")
    assert found["perms"].tolist() == [[0, 1, 2]]
    assert "alphas_E" not in found
    assert found["sig"] == 1.1


@pytest.mark.parametrize("name", ["rbf", "generic"])
def test_other_kernels_do_not_fit_the_format(name, tmp_path):
    with pytest.raises(ValueError, match=r"use jaxff\.io\.save"):
        sgdml.save(tmp_path / "model.npz", *random_params(CASES[name]()))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:in the oblique cell")
def test_slabs_and_several_cells_do_not_fit_the_format(tmp_path):
    case = CASES["periodic"]()
    slab = case.references.replace(pbc=case.references.pbc.at[:, 2].set(False))
    several = case.references.replace(cell=case.references.cell.at[1].multiply(1.01))
    for references in (slab, several):
        potential, params = random_params(dataclasses.replace(case, references=references))
        with pytest.raises(ValueError, match="one lattice"):
            sgdml.save(tmp_path / "model.npz", potential, params)


def rewrite(path, **changes):
    """The file with some arrays exchanged, or left out (None)."""
    arrays = {**arrays_of(path), **changes}
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(({key: None}, f"{key} missing") for key in ("z", "R_desc", "sig", "c", "perms")),
        ({"R_d_desc_alpha": None}, "R_d_desc_alpha missing"),
        ({"R_desc": np.zeros((4, 6))}, r"R_desc must hold numbers of shape \(3, 6\)"),
        ({"R_desc": np.zeros(18)}, "R_desc must hold"),
        ({"R_d_desc_alpha": np.zeros((3, 6))}, "R_d_desc_alpha must hold"),
        ({"R_d_desc_alpha": np.zeros((6, 3), complex)}, "R_d_desc_alpha must hold"),
        ({"alphas_F": np.zeros(53)}, "alphas_F must hold"),
        ({"alphas_E": np.zeros(5)}, "alphas_E must hold"),
        ({"perms": np.zeros((2, 3))}, "perms must hold"),
        ({"perms": np.array([[0, 2, 1]])}, "perms: .*not closed"),
        ({"perms": np.array([[0, 1, 3]])}, "perms: "),
        ({"perms": np.array([[0, 1, 2], [1, 0, 2]])}, "perms: .*exchanged"),
        ({"z": np.array([8.0, 1.0, 1.0])}, "z must hold"),
        ({"z": np.array([8, 1])}, "must hold"),
        ({"sig": np.array([1.0, 2.0])}, "sig must hold"),
        ({"sig": 0.0}, "sig must be positive"),
        ({"sig": np.nan}, "not finite"),
        ({"c": np.inf}, "not finite"),
        ({"std": "wide"}, "std must hold"),
        ({"R_desc": np.full((3, 6), np.nan)}, "not finite"),
        ({"alphas_E": np.full(6, np.nan)}, "not finite"),
        ({"perms": np.array([[0, 1, 2]])}, "perms and tril_perms_lin contradict"),
        ({"tril_perms_lin": np.arange(6)[::-1]}, "perms and tril_perms_lin contradict"),
        ({"lam": np.ones(3)}, "lam must hold"),
        ({"solver_iters": np.ones(3)}, "solver_iters must hold"),
        ({"idxs_train": np.array([1.5])}, "idxs_train must be a list of frame numbers"),
        ({"lattice": np.eye(2)}, "lattice must hold"),
        ({"lattice": np.full((3, 3), np.nan)}, "not finite"),
        ({"type": "d"}, "a data set"),
        ({"type": "t"}, "a training task"),
        ({"e_unit": "furlong"}, "furlong"),
        ({"e_unit": None}, "energy_unit"),
        ({"r_unit": None}, "length_unit"),
    ],
)
def test_damaged_models_are_refused_with_the_name_of_the_file(saved, changes, message):
    with pytest.raises(ValueError, match=f"model.npz.*{message}"):
        sgdml.read(rewrite(saved, **changes))


def test_units_may_come_from_the_caller_but_not_contradict(fitted, saved):
    rewrite(saved, e_unit=None, r_unit=None)
    found = sgdml.load(saved, energy_unit="kcal/mol", length_unit="Ang")
    expected = predict(*fitted[:2], water(2))
    assert np.allclose(predict(*found, water(2))[0], expected[0], rtol=1e-9)
    rewrite(saved, e_unit="eV")
    with pytest.raises(ValueError, match="contradicts"):
        sgdml.load(saved, energy_unit="kcal/mol", length_unit="Ang")


def test_a_data_set_is_no_model(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, type="d", z=[8, 1, 1], R=np.zeros((2, 3, 3)), F=np.zeros((2, 3, 3)))
    with pytest.raises(
        ValueError, match=r"data\.npz: .*read data sets with jaxff\.data\.npz\.read"
    ):
        sgdml.read(path)


def test_absent_cut_off_and_foreign_files(tmp_path, saved):
    with pytest.raises(FileNotFoundError, match=r"no\.npz"):
        sgdml.read(tmp_path / "no.npz")
    content = saved.read_bytes()
    for name, part in {"cut": content[: len(content) // 2], "text": b"hello", "empty": b""}.items():
        (tmp_path / f"{name}.npz").write_bytes(part)
        with pytest.raises(ValueError, match=rf"{name}\.npz"):
            sgdml.read(tmp_path / f"{name}.npz")


class Malicious:
    """Unpickling this would make a directory."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("key", ["f_err", "md5_test", "R_desc", "extra"])
def test_code_in_a_file_is_never_run(saved, tmp_path, key):
    trap = tmp_path / "trap"
    payload = np.empty((), dtype=object)
    payload[()] = Malicious(trap)
    rewrite(saved, **{key: payload})
    assert not trap.exists()
    with pytest.raises(ValueError, match=r"model\.npz"):
        sgdml.read(saved)
    assert not trap.exists()


def test_a_bare_pickle_is_no_archive(tmp_path):
    path = tmp_path / "model.npz"
    path.write_bytes(pickle.dumps(Malicious(tmp_path / "trap")))
    with pytest.raises(ValueError, match=r"model\.npz"):
        sgdml.read(path)
    with zipfile.ZipFile(path, "w") as archive:
        buffer = io.BytesIO()
        buffer.write(pickle.dumps(Malicious(tmp_path / "trap")))
        archive.writestr("type.npy", buffer.getvalue())
    with pytest.raises(ValueError, match=r"model\.npz"):
        sgdml.read(path)
    assert not (tmp_path / "trap").exists()


def test_a_loaded_model_predicts_but_cannot_be_refitted(saved):
    potential, params = sgdml.load(saved)
    with pytest.raises(ValueError, match="no reference geometries"):
        gdml.fit(
            potential, params, {"forces": np.zeros((6, 3, 3))},
            solver=solvers.cholesky(), regularization=1e-8,
        )  # fmt: skip


def test_a_loaded_model_can_be_saved_again(saved, tmp_path):
    model = sgdml.read(saved)
    sgdml.save(tmp_path / "again.npz", model.potential, model.params, model.provenance)
    first, second = arrays_of(saved), arrays_of(tmp_path / "again.npz")
    assert first.keys() == second.keys()
    for key in ("R_desc", "R_d_desc_alpha", "alphas_F", "alphas_E", "c", "std", "perms"):
        assert np.allclose(first[key], second[key], rtol=1e-12), key


@pytest.mark.golden
@pytest.mark.parametrize("name", NAMES)
def test_models_of_the_original_predict_what_it_predicts(name, reference_dir):
    model = sgdml.read(reference_dir / f"sgdml_{name}_model.npz")
    with np.load(reference_dir / f"sgdml_{name}.npz") as data:
        cell = data["lattice"].T if "lattice" in data else None
        systems = System(data["test_R"], data["z"], cell=cell)
        energies, forces = predict(model.potential, model.params, systems)
        unit = units.to_ev(model.provenance.energy_unit)
        assert np.abs(energies / unit - data["test_E"]).max() < 1e-6
        assert np.abs(forces / unit - data["test_F"]).max() < 1e-6


def test_mbgdml_water_has_the_error_that_its_file_states(data_dir):
    """On the frames that were neither fitted nor used for selection."""
    model = sgdml.read(data_dir / "mbgdml" / "1h2o-model-gdml.npz")
    about, unit = model.provenance, units.to_ev("kcal/mol")
    with np.load(data_dir / "mbgdml" / "1h2o-dset.npz") as data:
        rest = np.ones(len(data["R"]), bool)
        rest[about.train_indices] = rest[about.valid_indices] = False
        rest = np.flatnonzero(rest)[::5]
        energies, forces = predict(
            model.potential, model.params, System(data["R"][rest], data["z"])
        )
        energy_mae = np.abs(energies / unit - data["E"][rest]).mean()
        force_mae = np.abs(forces / unit - data["F"][rest]).mean()
    assert energy_mae < 1.2e-4
    assert force_mae < 3e-4
    assert np.isclose(energy_mae * unit, about.energy_error["mae"], rtol=0.05)
    assert np.isclose(force_mae * unit, about.force_error["mae"], rtol=0.05)


def test_mbgdml_trimer_is_finite(data_dir):
    model = sgdml.read(data_dir / "mbgdml" / "3h2o-model-gdml.npz")
    assert model.potential.kernel.order == 48
    single = np.asarray(water(1).positions[0])
    trimer = np.concatenate([single + shift for shift in ([0, 0, 0], [3, 0, 0.3], [1, 2.8, 0])])
    energy, forces = predict(model.potential, model.params, System(trimer, [8, 1, 1] * 3))
    assert np.isfinite(energy)
    assert np.all(np.isfinite(forces))
    assert np.abs(forces).max() < 10.0


def test_a_model_in_atomic_units_reproduces_its_data(data_dir):
    model = sgdml.read(data_dir / "h3o2m" / "h3o2m_sgdml_model.npz")
    assert (model.provenance.energy_unit, model.provenance.length_unit) == ("au", "au")
    with np.load(data_dir / "h3o2m" / "h3o2m_traindata.npz") as data:
        pick = np.arange(0, 3000, 10)
        systems = System(data["R"][pick] * units.BOHR, data["z"])
        energies, forces = predict(model.potential, model.params, systems)
        assert np.abs(energies / units.HARTREE - data["E"][pick]).mean() < 2e-4
        atomic_force = units.HARTREE / units.BOHR
        assert np.abs(forces / atomic_force - data["F"][pick]).mean() < 2e-4


def test_models_of_hessian_labels_are_refused(tmp_path):
    """Their second derivatives have no place in the format."""
    model = gdml.potential(Kernel(inverse_distances, matern52))
    params = model.init(jax.random.key(0), water(2), hyper={"lengthscale": 1.0})
    made = model.kernel, params["hyper"], params["references"], {"hessian": np.ones((2, 45))}
    params["expansion"] = expand_compiled(*made)
    with pytest.raises(ValueError, match="labels without second derivatives"):
        sgdml.save(tmp_path / "model.npz", model, params)


def test_models_of_composed_kernels_are_refused(tmp_path):
    model = gdml.potential(2.0 * Kernel(inverse_distances, matern52))
    params = model.init(jax.random.key(0), water(3), hyper={"lengthscale": 1.0})
    with pytest.raises(ValueError, match="holds kernels of inverse distances and matern52 only"):
        sgdml.save(tmp_path / "model.npz", model, params)
