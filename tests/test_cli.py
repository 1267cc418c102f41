"""The command line on a water molecule with an analytic potential; everything runs in-process."""

import contextlib
import io
import json
import re
from pathlib import Path

import ase.io
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from ase import Atoms

from jaxff import bind, cli, energy_and_forces, units
from jaxff import io as model_files
from jaxff.cli.console import as_flags
from jaxff.cli.files import LoadedModel
from jaxff.cli.fit import check_consistency
from jaxff.cli.selection import Selection, select
from jaxff.data import npz
from jaxff.data.embedded import Minimum
from jaxff.interfaces import sgdml
from jaxff.vibrations import normal_modes

KCAL = units.KCAL_PER_MOL
FRAMES = 90


def _energy(positions):
    """kcal/mol: stiff bonds, a soft Urey-Bradley term."""
    oxygen, first, second = positions
    bonds = jnp.stack([jnp.linalg.norm(first - oxygen), jnp.linalg.norm(second - oxygen)])
    stretch = 100.0 * jnp.sum((1.0 - jnp.exp(-2.2 * (bonds - 0.96))) ** 2)
    return stretch + 80.0 * (jnp.linalg.norm(first - second) - 1.52) ** 2 - 47_000.0


def _water():
    rng = np.random.default_rng(0)
    minimum = np.array([[0.0, 0.0, 0.0], [0.76, 0.59, 0.0], [-0.76, 0.59, 0.0]])
    positions = minimum + 0.06 * rng.normal(size=(FRAMES, 3, 3))
    return {
        "type": "d",
        "name": "water",
        "theory": "analytic",
        "z": np.array([8, 1, 1]),
        "R": positions,
        "E": np.asarray(jax.vmap(_energy)(positions)),
        "F": -np.asarray(jax.vmap(jax.grad(_energy))(positions)),
        "e_unit": "kcal/mol",
        "r_unit": "Ang",
    }


WATER = _water()


def write(path, **changes):
    arrays = {k: v for k, v in {**WATER, **changes}.items() if v is not None}
    np.savez(path, **arrays)
    return str(path)


def subset(path, index, **changes):
    return write(path, **{k: WATER[k][index] for k in "REF"}, **changes)


def run(*arguments):
    return cli.main([str(a) for a in arguments])


def fails(capsys, *arguments):
    """The message of a run that must end with code 2 and one line."""
    assert run(*arguments) == 2
    stderr = capsys.readouterr().err
    lines = [line for line in stderr.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 1, stderr
    assert lines[0].startswith("error: ")
    return lines[0]


class Folder:
    """A data file with two sets of labels and index arrays, and a model fitted to it."""

    def __init__(self, path):
        self.path, self.data, self.model = path, path / "data.npz", path / "model.npz"
        write(
            self.data,
            E_other=WATER["E"] + 5.0,
            F_other=WATER["F"].astype(np.float32),
            split_train=np.arange(0, 60, 2),
            split_test=np.arange(60, 90),
        )
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(
                "fit", self.data, "--train", 30, "--valid", 20, "--test", 10, "--seed", 0,
                "--lengthscale", 2, 4, 8, "-o", self.model,
            )  # fmt: skip
        assert code == 0, err.getvalue()
        self.out, self.err = out.getvalue(), err.getvalue()
        self.about = sgdml.read(self.model).provenance


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return Folder(tmp_path_factory.mktemp("water"))


# --- fit -----------------------------------------------------------------------------------------


def test_fit_tells_what_it_does(folder):
    for words in (
        "90 frames of H2O, analytic; units kcal/mol, Å",
        "Permutation group of order 2 (recovered from 90 geometries",
        "Training on 30 frames, validating on 20: 270 equations",
        "for the solve",
        "Best length scale: 2.",
        "Validation errors",
        "Test errors (10 frames)",
        "kcal/mol/Å",
    ):
        assert words in folder.out
    assert "warning: the best length scale, 2, is at the edge of those tried" in folder.err


def test_fit_records_disjoint_frames_and_where_they_are_from(folder):
    about = folder.about
    assert len(set(about.train_indices)) == 30
    assert len(set(about.valid_indices)) == 20
    assert not set(about.train_indices) & set(about.valid_indices)
    fingerprint = npz.read(folder.data).fingerprint
    assert about.train_fingerprint == about.valid_fingerprint == fingerprint
    assert (about.energy_unit, about.length_unit) == ("kcal/mol", "Ang")
    assert 0 < about.force_error["mae"] < about.force_error["rmse"] < 0.05  # eV/Å


def test_select_by_number(folder):
    data = npz.read(folder.data)
    parts = select(data, Selection(train=30, valid=20, test=10, seed=0))
    np.testing.assert_array_equal(parts.train.indices, folder.about.train_indices)
    assert not set(parts.test.indices) & {*parts.train.indices, *parts.valid.indices}
    other = select(data, Selection(train=30, valid=20, seed=1))
    assert not np.array_equal(parts.train.indices, other.train.indices)
    assert [len(part) for part in other] == [30, 20, 0]


def test_select_by_index_arrays(folder):
    asked = Selection(train_key="split_train", test_key="split_test", valid=10)
    train, valid, test = select(npz.read(folder.data), asked)
    np.testing.assert_array_equal(train.indices, np.arange(0, 60, 2))
    np.testing.assert_array_equal(test.indices, np.arange(60, 90))
    assert set(valid.indices) <= set(range(1, 60, 2))
    assert len(valid) == 10


def test_fit_with_other_kernels_and_formats(folder, tmp_path, capsys):
    """No symmetry, energies as labels, frames by key, the format of jaxff."""
    model = tmp_path / "m.safetensors"
    assert not run(
        "fit", folder.data, "--train-key", "split_train", "--lengthscale", 4, "--symmetry", "none",
        "--energy-constraints", "--energy-noise", 0.01, "-o", model,
    )  # fmt: skip
    text = capsys.readouterr().out
    assert "order 1 (no symmetry asked for)" in text
    assert "300 equations" in text
    potential, params = model_files.load(model)
    assert potential.kernel.order == 1
    assert "energy" in params["coefficients"]
    np.testing.assert_allclose(params["references"].positions, WATER["R"][:60:2])
    asked = ("evaluate", model, folder.data, "--exclude-train", "--test-key", "split_train")
    assert "no frames are left" in fails(capsys, *asked)


SOLVERS = {
    "cholesky": (["--solver", "cholesky"], "cholesky", 0),
    "small": ([], "cholesky", 0),
    "uniform": (["--solver", "cg", "--preconditioner", "uniform", "--rank", 60], "conjugate", 60),
    "pivoted": (
        ["--solver", "cg", "--preconditioner", "pivoted-cholesky", "--rank", 40], "conjugate", 40,
    ),
    "svd": (["--solver", "cg", "--preconditioner", "svd", "--rank", 50], "conjugate", 50),
    "blocks": (["--solver", "cg", "--preconditioner", "block-jacobi"], "conjugate", 0),
}  # fmt: skip


@pytest.mark.parametrize("case", SOLVERS)
def test_fit_by_any_solver(case, folder, tmp_path, capsys):
    options, name, rank = SOLVERS[case]
    record = tmp_path / "fit.json"
    assert run(
        "fit", folder.data, "--train-key", "split_train", "--lengthscale", 2, "--rtol", 1e-9,
        "--regularization", 1e-8, *options, "--json", record, "-o", tmp_path / "m.npz",
    ) == 0  # fmt: skip
    told = json.loads(record.read_text())
    assert told["solver"].startswith(name)
    assert (told["equations"], told["rank"]) == (270, rank)
    assert (told["iterations"] > 0) == (name == "conjugate")
    assert told["residual"] < 1e-8
    assert 0 < told["peak_memory_gb"] < 100
    fitted, direct = (sgdml.read(path) for path in (tmp_path / "m.npz", _direct(folder)))
    system = npz.read(folder.data)[np.arange(60, 65)].systems
    got, expected = (
        np.asarray(energy_and_forces(bind(m.potential, m.params))(system)[1])
        for m in (fitted, direct)
    )
    np.testing.assert_allclose(got, expected, atol=1e-6)
    if case == "small":
        assert (
            "Solver: cholesky: the matrix fits, and the solution is exact (270"
            in capsys.readouterr().out
        )


def _direct(folder):
    """A model fitted to the same frames by factorisation, made once."""
    path = folder.path / "direct.npz"
    if not path.exists():
        assert run(
            "fit", folder.data, "--train-key", "split_train", "--lengthscale", 2,
            "--regularization", 1e-8, "--solver", "cholesky", "-o", path,
        ) == 0  # fmt: skip
    return path


@pytest.mark.slow
def test_fit_warns_of_what_makes_errors_look_small(tmp_path, capsys):
    repeated = subset(tmp_path / "few.npz", np.repeat(np.arange(12), 4), r_unit="bohr")
    parts = ("--train", 24, "--valid", 12, "--lengthscale", 4, "--regularization", 1e-6)
    asked = ("fit", repeated, *parts, "--allow-inconsistent", "-o", tmp_path / "m.npz")
    assert run(*asked) == 0
    warned = capsys.readouterr().err
    assert "validation or test frames repeat training frames" in warned
    assert "is the unit of length, bohr, that of the positions?" in warned
    ten = subset(tmp_path / "ten.npz", np.arange(10))
    assert run("fit", ten, "--train", 10, "--lengthscale", 2, "-o", tmp_path / "m.npz") == 0
    assert "a group recovered from 10 geometries may be too large" in capsys.readouterr().err


def test_files_that_are_read_are_never_written(folder, tmp_path, capsys):
    data = subset(tmp_path / "data.npz", np.arange(30))
    before = Path(data).read_bytes()
    asked = ("fit", data, "--train", 20, "--lengthscale", 2, "-o")
    assert "is read, and would be overwritten" in fails(capsys, *asked, data)
    other = subset(tmp_path / "other.npz", np.arange(5))
    assert "exists, and is no model" in fails(capsys, *asked, other)
    assert "--lengthscale must be positive" in fails(
        capsys, "fit", data, "--train", 20, "--lengthscale", -2, "-o", tmp_path / "m.npz"
    )
    assert Path(data).read_bytes() == before
    ase.io.write(tmp_path / "s.xyz", Atoms("OH2", WATER["R"][0]))
    relax = ("relax", folder.model, "--start", tmp_path / "s.xyz", "-o", tmp_path / "s.xyz")
    assert "is read, and would be overwritten" in fails(capsys, *relax)


def test_wrong_permutations_of_a_file_are_suspected(tmp_path, capsys):
    """Water whose hydrogens never exchange distances cannot tell; bent far apart it can."""
    lopsided = WATER["R"].copy()
    lopsided[:, 2] += 0.8 * (lopsided[:, 2] - lopsided[:, 0])
    data = write(tmp_path / "data.npz", R=lopsided, perms=np.array([[0, 1, 2], [0, 2, 1]]))
    assert run("fit", data, "--train", 20, "--lengthscale", 2, "--allow-inconsistent",
               "-o", tmp_path / "m.npz") == 0  # fmt: skip
    assert "the file names permutations that 90 geometries do not show" in capsys.readouterr().err


def test_another_cell_than_that_of_the_model_is_refused(folder, tmp_path):
    model = sgdml.read(folder.model)
    params = {**model.params, "cell": jnp.eye(3) * 30.0}
    loaded = LoadedModel(model.potential, params, model.provenance)
    turned = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    for cell, same in ((30.0 * turned, True), (31.0 * np.eye(3), True), (12.0 * np.eye(3), False)):
        data = npz.read(write(tmp_path / "data.npz", lattice=cell.T))
        if same:
            loaded.check_atoms(data)
        else:
            with pytest.raises(ValueError, match="the model is made for the cell"):
                loaded.check_atoms(data)


def test_other_units_give_the_same_model(folder, tmp_path):
    """The same data in hartree and bohr, units said on the command line; sigma in 1/bohr."""
    factor = KCAL / units.HARTREE
    data = write(
        tmp_path / "atomic.npz",
        R=WATER["R"] / units.BOHR,
        E=WATER["E"] * factor,
        F=WATER["F"] * factor * units.BOHR,
        e_unit=None,
        r_unit=None,
        split_same=folder.about.train_indices,
    )
    said = ("--energy-unit", "hartree", "--length-unit", "bohr")
    model = tmp_path / "m.npz"
    assert not run("fit", data, *said, "--train-key", "split_same", "-o", model,
                   "--lengthscale", 2.0 * units.BOHR)  # fmt: skip
    reports = {}
    for name, arguments in {
        "kcal/mol": (folder.model, folder.data),
        "hartree": (model, data, *said),
    }.items():
        assert not run("evaluate", *arguments, "--json", tmp_path / "m.json")
        reports[name] = json.loads((tmp_path / "m.json").read_text())
        assert reports[name]["energy"]["unit"] == name
    atomic, kcal = reports["hartree"], reports["kcal/mol"]
    assert atomic["forces"]["unit"] == "hartree/bohr"
    assert atomic["energy"]["mae"] == pytest.approx(kcal["energy"]["mae"] * factor, rel=1e-3)
    ratio = factor * units.BOHR
    assert atomic["forces"]["rmse"] == pytest.approx(kcal["forces"]["rmse"] * ratio, rel=1e-3)


def test_contradictions_stop_or_warn(tmp_path, capsys):
    near = WATER["R"][:1] + 0.01 * np.random.default_rng(0).normal(size=(60, 3, 3))
    changes = {
        "R": near,
        "E": np.asarray(jax.vmap(_energy)(near)),
        "F": np.asarray(jax.vmap(jax.grad(_energy))(near)),
    }
    data = write(tmp_path / "gradients.npz", **changes)
    asked = ("fit", data, "--train", 20, "--lengthscale", 4, "-o", tmp_path / "m.npz")
    assert "wrong sign" in fails(capsys, *asked)
    assert not (tmp_path / "m.npz").exists()
    check_consistency(npz.read(data), allow=True)
    assert "warning: energy changes by" in capsys.readouterr().err


# --- evaluate ------------------------------------------------------------------------------------


@pytest.fixture
def no_predictions(monkeypatch):
    """Zeros instead of predictions, where only the choice of frames matters."""

    def zeros(energy_fn, systems, names, **options):
        shapes = {"energy": systems.positions.shape[:1], "forces": systems.positions.shape}
        return {name: np.zeros(shapes[name]) for name in names}

    monkeypatch.setattr("jaxff.cli.evaluate.predict", zeros)


def test_evaluate_in_units_of_the_file(folder, tmp_path, capsys):
    report, figure = tmp_path / "metrics.json", tmp_path / "parity.png"
    assert not run("evaluate", folder.model, folder.data, "--exclude-train",
                   "--json", report, "--figure", figure, "--batch", 16)  # fmt: skip
    text = capsys.readouterr().out
    found = json.loads(report.read_text())
    assert "Left out 30 training and 20 validation frames of the model; 40 frames remain." in text
    # by hand: unseen frames, model in eV, file in kcal/mol
    loaded = sgdml.read(folder.model)
    seen = np.r_[folder.about.train_indices, folder.about.valid_indices]
    unseen = np.setdiff1d(np.arange(FRAMES), seen)
    systems = npz.read(folder.data)[unseen].systems
    energy = loaded.potential.apply(loaded.params, systems)["energy"] / KCAL
    difference = np.abs(np.asarray(energy) - WATER["E"][unseen])
    assert found["energy"]["unit"] == "kcal/mol"
    assert found["energy"]["mae"] == pytest.approx(difference.mean(), rel=1e-6)
    assert found["energy"]["rmse"] == pytest.approx(np.sqrt(np.mean(difference**2)), rel=1e-6)
    assert found["forces"]["unit"] == "kcal/mol/Ang"
    assert found["forces"]["frames"] == 40
    assert f"{found['forces']['mae']:.4g}" in text
    assert figure.read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("no_predictions")
def test_evaluate_knows_its_frames(folder, tmp_path, capsys):
    """In the same file, under other labels, in a subset; all, some, and those of an index array."""
    asked, report = ("evaluate", folder.model, folder.data), tmp_path / "m.json"
    assert not run(*asked)
    assert "30 training and 20 validation frames" in capsys.readouterr().err
    others = ("--energy-key", "E_other", "--forces-key", "F_other")
    assert not run(*asked, "--exclude-train", *others)
    assert "Left out 30 training and 20 validation" in capsys.readouterr().out
    for options, count in (
        (("--test-key", "split_test"), 30),
        (("--limit", 7), 7),
        (("--limit", 7000), FRAMES),
    ):
        assert not run(*asked, *options, "--json", report)
        assert json.loads(report.read_text())["energy"]["frames"] == count
    half = subset(tmp_path / "half.npz", slice(45, None))
    capsys.readouterr()
    assert not run("evaluate", folder.model, half, "--exclude-train")
    text = capsys.readouterr().out
    expected = int(np.sum(folder.about.train_indices >= 45))
    assert "not the one the model was trained on" in text
    assert f"Left out {expected} training and 0 validation frames" in text


@pytest.mark.usefixtures("no_predictions")
def test_evaluate_reads_extended_xyz(folder, tmp_path, capsys):
    frames = []
    for positions, energy, forces in zip(WATER["R"], WATER["E"], WATER["F"], strict=True):
        atoms = Atoms("OHH", positions)
        atoms.info["my_energy"] = energy * KCAL
        atoms.arrays["my_forces"] = forces * KCAL
        frames.append(atoms)
    path = tmp_path / "water.xyz"
    ase.io.write(path, frames, format="extxyz")
    keys = ("--energy-key", "my_energy", "--forces-key", "my_forces")
    assert not run("evaluate", folder.model, path, *keys, "--exclude-train")
    text = capsys.readouterr().out
    assert "Left out 30 training" in text  # recognised by eight decimals
    assert "eV/Å" in text


# --- md and info ---------------------------------------------------------------------------------


def test_md_runs_stops_and_goes_on(folder, tmp_path, capsys):
    target = tmp_path / "run"
    asked = ("md", folder.model, "--start", folder.data, "--ensemble", "nve",
             "--timestep", 0.2, "--temperature", 300, "-o", target)  # fmt: skip
    assert not run(*asked, "--steps", 40)
    text = capsys.readouterr().out
    frames = ase.io.read(target / "trajectory.xyz", ":")
    assert len(frames) == 6
    lowest = int(np.argmin(WATER["E"]))
    assert f"Starting from frame {lowest}" in text
    np.testing.assert_allclose(frames[0].positions, WATER["R"][lowest], atol=1e-7)
    assert "Energy drift (" in text
    assert "meV/atom/ps" in text
    assert "exists" in fails(capsys, *asked, "--steps", 40)
    assert not run(*asked, "--steps", 80, "--resume", "--figure", tmp_path / "energy.png")
    assert len(ase.io.read(target / "trajectory.xyz", ":")) == 11
    assert (tmp_path / "energy.png").exists()


def test_md_passes_on_what_it_is_told(folder, tmp_path, monkeypatch):
    told = {}

    def stop(energy_fn, system, **options):
        told.update(options, system=system)
        raise KeyboardInterrupt

    monkeypatch.setattr("jaxff.dynamics.run", stop)
    assert run("md", folder.model, "--start", folder.data, "--steps", 5000, "--frame", 3,
               "--ensemble", "langevin", "--temperature", 450, "--friction", 0.01,
               "--every", 20, "-o", tmp_path / "run") == 130  # fmt: skip
    np.testing.assert_allclose(told["system"].positions, WATER["R"][3])
    assert told["ensemble"].name == "langevin"
    assert told["ensemble"].parameters == {"temperature": 450.0, "friction": 0.01}
    assert (told["steps"], told["every"], told["temperature"]) == (5000, 20, 450.0)


def test_info_of_data(folder, capsys):
    assert not run("info", folder.data)
    text = capsys.readouterr().out
    fingerprint = npz.read(folder.data).fingerprint
    for words in ("H2O: O H H", "kcal/mol, Å", "split_train (30)", "E_other", fingerprint):
        assert words in text


def test_info_of_a_model(folder, capsys):
    assert not run("info", folder.model)
    text = capsys.readouterr().out
    for words in ("group of order 2", "permuted atoms       1 2", "water (analytic)", "1/Å",
                  "30 of ", "validation forces"):  # fmt: skip
        assert words in text


# --- quickstart ----------------------------------------------------------------------------------


def _water_minimum():
    """As the embedded minimum, for the analytic water."""
    start, numbers = np.array([[0.0, 0, 0], [0.76, 0.58, 0], [-0.76, 0.58, 0]]), WATER["z"]
    geometry = scipy.optimize.minimize(
        lambda x: float(_energy(x.reshape(3, 3))), start.ravel(), tol=1e-9,
        jac=lambda x: np.asarray(jax.grad(_energy)(x.reshape(3, 3))).ravel(),
    ).x.reshape(3, 3)  # fmt: skip
    matrix = np.asarray(jax.hessian(_energy)(geometry)).reshape(9, 9) * KCAL
    modes = normal_modes(matrix, units.masses(numbers), geometry)
    return Minimum(geometry, numbers, float(_energy(geometry)) * KCAL, matrix, modes.frequencies)


@pytest.mark.slow
def test_quickstart(folder, tmp_path, monkeypatch, capsys):
    """The whole course, with water and its model in place of ethanol and the fit."""
    model, engine = sgdml.read(folder.model), _water_minimum()
    for name, value in {
        "_TRAIN": 30,
        "_VALID": 20,
        "_STEPS": 50,
        "ethanol_path": lambda: folder.data,
        "minimum": lambda: engine,
        "train_model": lambda *_: (model.potential, model.params, model.provenance, None),
    }.items():
        monkeypatch.setattr(f"jaxff.cli.quickstart.{name}", value)
    output = tmp_path / "out"
    (output / "md").mkdir(parents=True)
    (output / "md" / "log.csv").write_text("of the user")
    assert "choose another folder" in fails(capsys, "quickstart", "-o", output)
    assert (output / "md" / "log.csv").read_text() == "of the user"
    (output / "settings.json").write_text('{"command": "quickstart"}\n')  # of an earlier one
    assert run("quickstart", "-o", output) == 0
    text = capsys.readouterr().out
    assert {p.name for p in output.iterdir()} == {
        "model.npz", "report.html", "metrics.json", "parity.png", "frequencies.png",
        "force_errors.png", "md", "settings.json",
    }  # fmt: skip
    page = (output / "report.html").read_text()
    assert page.count("data:image/png") == 4
    assert "mean absolute difference" in page
    assert json.loads((output / "metrics.json").read_text())["energy"]["frames"] == 40
    for words in ("40 frames", "cm⁻¹", "meV/atom/ps", "Next", "jaxff evaluate"):
        assert words in text
    difference = float(re.search(r"mean absolute difference ([\d.]+) cm⁻¹", text).group(1))
    assert difference < 20.0  # of 1500 to 3800


@pytest.mark.slow
def test_quickstart_as_shipped(tmp_path, capsys):
    assert run("quickstart", "-o", tmp_path / "out") == 0
    text = capsys.readouterr().out
    for words in ("Permutation group of order 6", "1550 frames", "Done in"):
        assert words in text


# --- what goes wrong -----------------------------------------------------------------------------


def _nan_energy():
    energy = WATER["E"].copy()
    energy[7] = np.nan
    return {"E": energy}


def _coincident():
    positions = WATER["R"].copy()
    positions[3, 1] = positions[3, 2]
    return {"R": positions}


class Payload:
    """Unpickling this would make a file."""

    def __reduce__(self):
        return (Path.touch, (Path("unpickled"),))


BAD_DATA = {
    "no unit": ({"e_unit": None}, "--energy-unit"),
    "unknown unit": ({"e_unit": "furlong"}, "furlong"),
    "not finite": (_nan_energy(), "frame 7; to leave them out, pass --skip-invalid"),
    "coincident": (_coincident(), "frame 3"),
    "shape": ({"E": WATER["E"][:5]}, "(90,)"),
    "no forces": ({"F": None}, "forces"),
    "pickled": ({"E": np.array(Payload(), dtype=object)}, "pickled"),
    "constant": ({"F": np.zeros_like(WATER["F"])}, "forces are zero"),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_fit_refuses_bad_data(case, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    changes, words = BAD_DATA[case]
    data = write("data.npz", **changes)
    message = fails(capsys, "fit", data, "--train", 20, "--lengthscale", 4, "-o", "m.npz")
    assert words in message
    assert "data.npz" in message
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data.npz"]


BAD_CALLS = {
    "more frames than there are": (["--train", 500, "--lengthscale", 4], "90"),
    "no frames": (["--train", 0, "--lengthscale", 4], "--train must be at least 1"),
    "nothing to train on": (["--lengthscale", 4], "split_train"),
    "twice": (["--train", 5, "--train-key", "split_train", "--lengthscale", 4], "not both"),
    "unknown index array": (["--train-key", "nope", "--lengthscale", 4], "split_train, split_test"),
    "overlap": (["--train-key", "split_train", "--test-key", "split_train"], "disjoint"),
    "no length scale": (["--train", 5], "--valid"),
    "several length scales": (["--train", 5, "--lengthscale", 2, 4], "--valid"),
    "negative length scale": (["--train", 5, "--lengthscale", -1], "positive"),
    "unknown key": (["--energy-key", "X", "--forces-key", "F", "--train", 5], "'X'"),
    "negative regularization": (
        ["--train", 5, "--lengthscale", 4, "--regularization", -1],
        "--regularization must be",
    ),
    "rank without iterations": (
        ["--train", 5, "--lengthscale", 4, "--solver", "cholesky", "--rank", 3],
        "--solver cg",
    ),
    "svd without a rank": (
        ["--train", 5, "--lengthscale", 4, "--solver", "cg", "--preconditioner", "svd"],
        "--rank",
    ),
    "svd within a limit": (
        [
            "--train",
            5,
            "--lengthscale",
            4,
            "--solver",
            "cg",
            "--preconditioner",
            "svd",
            "--rank",
            3,
            "--memory-gb",
            1,
        ],
        "leave out --memory-gb",
    ),
    "rank beyond memory": (
        ["--train", 30, "--lengthscale", 4, "--solver", "cg", "--rank", 200, "--memory-gb", 1e-4],
        "rank of at most",
    ),
    "no memory": (
        ["--train", 30, "--lengthscale", 4, "--solver", "cholesky", "--memory-gb", 1e-6],
        "may be used",
    ),
    "group too large": (["--train", 30, "--lengthscale", 4, "--max-order", 1], "--max-order"),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_fit_refuses_bad_calls(case, folder, tmp_path, capsys):
    arguments, words = BAD_CALLS[case]
    message = fails(capsys, "fit", folder.data, *arguments, "-o", tmp_path / "m.npz")
    assert words in message
    assert not list(tmp_path.iterdir())


def test_fit_refuses_outputs_that_cannot_be(folder, tmp_path, capsys):
    asked = ("fit", folder.data, "--train", 5, "--lengthscale", 4, "-o")
    assert "no such folder" in fails(capsys, *asked, tmp_path / "nowhere" / "m.npz")
    assert ".safetensors" in fails(capsys, *asked, tmp_path / "m.txt")


def test_fit_larger_than_memory(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("jaxff.linalg.solvers.available_bytes", lambda: 1000)
    asked = ("fit", folder.data, "--train", 30, "--lengthscale", 4)
    message = fails(capsys, *asked, "--solver", "cholesky", "-o", tmp_path / "m.npz")
    assert "270 equations" in message
    assert "may be used" in message
    message = fails(capsys, *asked, "--memory-gb", 1e-6, "-o", tmp_path / "m.npz")
    assert "fewer training geometries" in message


def test_one_atom_and_two_frames(tmp_path, capsys):
    one = write(tmp_path / "one.npz", z=np.array([8]), R=WATER["R"][:, :1], F=WATER["F"][:, :1])
    asked = ("--allow-inconsistent", "--lengthscale", 4, "-o", tmp_path / "m.npz")
    assert "at least two atoms" in fails(capsys, "fit", one, "--train", 20, *asked)
    two = subset(tmp_path / "two.npz", slice(0, 2))
    assert run("fit", two, "--train", 2, *asked) == 0
    report = tmp_path / "m.json"
    assert run("evaluate", tmp_path / "m.npz", two, "--json", report) == 0
    assert json.loads(report.read_text())["forces"]["mae"] < 1e-3


@pytest.fixture(scope="module")
def files(folder):
    """Damaged files and files of the wrong kind beside the good ones."""
    whole = folder.data.read_bytes()
    folder = folder.path
    (folder / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (folder / "garbage.npz").write_bytes(b"no archive at all")
    (folder / "cut.safetensors").write_bytes(b"\x08\x00")
    (folder / "empty.xyz").write_text("")
    write(folder / "other.npz", z=np.array([16, 1, 1]))
    write(folder / "turned.npz", z=np.array([1, 8, 1]))
    return folder


@pytest.mark.parametrize(
    ("model", "data", "words"),
    [
        ("data.npz", "model.npz", "data.npz: expected a model, but the file is a data set"),
        ("model.npz", "model.npz", "model.npz: expected a data set, but the file is a trained"),
        ("model.npz", "cut.npz", "cut.npz: not an .npz archive, or cut off"),
        ("garbage.npz", "data.npz", "garbage.npz"),
        ("cut.safetensors", "data.npz", "cut.safetensors: not a model"),
        ("model.npz", "cut.safetensors", "expected a data set"),
        ("empty.xyz", "data.npz", "expected a model"),
        ("model.npz", "empty.xyz", "--energy-key"),
        ("model.npz", "other.npz", "H2O (3 atoms), not for the H2S (3 atoms) of"),
        ("model.npz", "turned.npz", "with O as atom 0, counted from 0, not for the H there"),
        ("absent.npz", "data.npz", "absent.npz: no such file"),
        ("model.npz", ".", "a folder"),
    ],
)
def test_evaluate_refuses(model, data, words, files, capsys):
    assert words in fails(capsys, "evaluate", files / model, files / data)


def test_evaluate_leaves_invalid_frames_out_if_asked(folder, tmp_path, capsys):
    data = write(tmp_path / "nan.npz", **_nan_energy())
    assert not run("evaluate", folder.model, data, "--skip-invalid")
    assert f"{FRAMES - 1} frames of H2O, analytic; units kcal/mol, Å; 1 invalid" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--frame", 900, "--steps", 5], "--frame must be 0 to 89"),
        (["--steps", 0], "--steps must be at least 1"),
        (["--steps", 5, "--energy-key", "foo"], "no array 'foo'"),
        (["--steps", 5, "--timestep", 0], "--timestep must be a positive number"),
        (["--steps", 5, "--resume"], "restart.npz"),
    ],
)
def test_md_refuses(options, words, folder, tmp_path, capsys):
    asked = ("md", folder.model, "--start", folder.data, *options)
    assert words in fails(capsys, *asked, "-o", tmp_path / "run")


def test_help_documents_every_option(capsys):
    for command in (
        "quickstart",
        "fit",
        "train",
        "evaluate",
        "md",
        "relax",
        "modes",
        "phonons",
        "coarse-grain",
        "info",
    ):
        with pytest.raises(SystemExit) as stop:
            run(command, "--help")
        assert stop.value.code == 0
        text = capsys.readouterr().out
        assert text.count("--") > 1
    with pytest.raises(SystemExit):
        run()
    assert "quickstart" in capsys.readouterr().out
    assert run("--version") == 0
    assert capsys.readouterr().out.startswith("jaxff ")


def test_wrong_arguments_end_with_code_2(capsys):
    for arguments in (["nonsense"], ["fit"], ["fit", "x.npz", "--train", "many", "-o", "m.npz"]):
        with pytest.raises(SystemExit) as stop:
            run(*arguments)
        assert stop.value.code == 2


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (np.linalg.LinAlgError("not\npositive"), 2, "error: not positive"),
        (KeyError("std"), 2, "error: no entry 'std'"),
        (OSError(28, "No space left on device", "m.npz"), 2, "m.npz: No space left on device"),
        (AttributeError("x"), 1, "--debug"),
    ],
)
def test_no_traceback_but_for_debugging(error, code, words, monkeypatch, capsys):
    def broken(arguments):
        raise error

    monkeypatch.setattr(cli, "_run", broken)
    assert run("info", "x") == code
    assert words in capsys.readouterr().err
    with pytest.raises(type(error)):
        run("info", "x", "--debug")
    monkeypatch.setenv("JAXFF_DEBUG", "1")
    with pytest.raises(type(error)):
        run("info", "x")


def test_messages_speak_of_options():
    assert as_flags("pass energy_unit=..., or so") == "pass --energy-unit, or so"
    assert as_flags("check energy_unit, length_unit") == "check --energy-unit, --length-unit"
    assert as_flags("Try a smaller timestep, or") == "Try a smaller --timestep, or"
    assert as_flags("/data/energy_unit.npz") == "/data/energy_unit.npz"
