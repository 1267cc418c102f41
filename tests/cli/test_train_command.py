"""``jaxff train`` on springs between the atoms of water, and the other commands on its model."""

import contextlib
import io
import json
import signal

import ase.io
import numpy as np
import pytest
from ase import Atoms

from jaxff import cli
from jaxff.cli import train as command
from jaxff.data import npz
from jaxff.interfaces.ase import JaxffCalculator
from jaxff.training import Checkpoints, prepare, read_config

KCAL = 0.0433641153087705
CONFIG = """
[data]
path = "water.npz"
train = 20
valid = 10
test = { split = "split_test" }

[model]
name = "schnet"
cutoff = 3.0
features = 4
interactions = 1
radial_functions = 4

[loss]
energy = 0.1
forces = 0.9

[training]
epochs = 4
validate_every = 3
"""
SPRINGS = ((0, 1, 30.0, 0.96), (0, 2, 30.0, 0.96), (1, 2, 5.0, 1.52))  # eV/Å², Å


def _write_water(path):
    rng = np.random.default_rng(0)
    places = np.array([[0.0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]])
    places = places + 0.06 * rng.normal(size=(60, 3, 3))
    energy, forces = np.full(60, -2000.0), np.zeros((60, 3, 3))
    for i, j, stiffness, rest in SPRINGS:
        steps = places[:, i] - places[:, j]
        lengths = np.linalg.norm(steps, axis=1)
        energy += 0.5 * stiffness * (lengths - rest) ** 2
        pull = (stiffness * (lengths - rest) / lengths)[:, None] * steps
        forces[:, i] -= pull
        forces[:, j] += pull
    np.savez(
        path, type="d", name="water", theory="springs", z=np.array([8, 1, 1]), R=places,
        E=energy / KCAL, F=forces / KCAL, e_unit="kcal/mol", r_unit="Ang",
        split_test=np.arange(50, 60), D=np.zeros((60, 3)),
    )  # fmt: skip


def run(*arguments):
    """Exit code and what was printed."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main([str(a) for a in arguments])
    return code, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with data, a configuration and a model, and what was said on the way.

    The run is interrupted after three steps, called again without and with other settings, which is
    refused, and goes on to its end.
    """
    path = tmp_path_factory.mktemp("train")
    _write_water(path / "water.npz")
    (path / "run.toml").write_text(CONFIG)
    (path / "changed.toml").write_text(CONFIG.replace("forces = 0.9", "forces = 0.8"))
    said, row, handler = {}, command._row, signal.getsignal(signal.SIGINT)

    def interrupting(entry):
        signal.raise_signal(signal.SIGINT)
        return row(entry)

    arguments = ("-o", path / "run.safetensors", "--json", path / "run.json")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "_row", interrupting)
        said["interrupted"] = run("train", path / "run.toml", *arguments)
    assert not (path / "run.safetensors").exists()
    assert signal.getsignal(signal.SIGINT) is handler
    said["again"] = run("train", path / "run.toml", *arguments)
    said["changed"] = run("train", path / "changed.toml", *arguments, "--resume")
    said["resumed"] = run("train", path / "run.toml", *arguments, "--resume")
    return path, said


def test_an_interrupted_run_goes_on_when_asked(trained):
    _, said = trained
    code, _, err = said["interrupted"]
    assert code == 130
    assert "Stopped after 3 of 8 steps; the checkpoint is in" in err
    assert "--resume" in err
    code, _, err = said["again"]
    assert code == 2
    assert "an earlier run has 3 steps: go on with --resume, or begin anew with --fresh" in err
    code, _, err = said["changed"]
    assert code == 2
    assert "expected {'loss.forces': 0.8}, got {'loss.forces': 0.9}" in err


def test_training_tells_what_it_does_and_writes_what_it_found(trained):
    folder, said = trained
    code, out, err = said["resumed"]
    assert (code, err) == (0, "")
    for words in (
        "train: 20 frames",
        "valid: 10 frames",
        "reference energies in eV: H -666.",
        "585 parameters; 2 steps an epoch, 8 in all (4 epochs), seed 0",
        "run.checkpoints",
        "energy MAE kcal/mol  forces MAE kcal/mol/Å",
        "Ended after 8 steps; parameters of step",
        "Validation errors",
        "Test errors",
    ):
        assert words in out
    record = json.loads((folder / "run.json").read_text())
    assert record["frames"] == {"train": 20, "valid": 10, "test": 10}
    assert (record["steps"], record["stopped"], record["compilations"]) == (8, "epochs", 2)
    log = [json.loads(line) for line in (folder / "run.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log] == [3, 6, 8]
    best = min(log, key=lambda entry: entry["valid"]["loss"])
    assert best["errors"] == record["valid"]
    assert best["step"] == record["best_step"]


def test_the_model_is_tested_by_hand_and_by_evaluate(trained):
    """Total energies: the reference energies are in the file; units are those of the data."""
    folder, _ = trained
    record = json.loads((folder / "run.json").read_text())["test"]
    data = npz.read(folder / "water.npz")[np.arange(50, 60)]
    calculator, found = JaxffCalculator(folder / "run.safetensors"), []
    for index in range(len(data)):
        atoms = Atoms(data.numbers, data.positions[index], calculator=calculator)
        found.append(atoms.get_potential_energy() - data.values["energy"][index])
    assert np.abs(found).mean() / KCAL == pytest.approx(record["energy"]["mae"], rel=1e-4)
    report = folder / "evaluated.json"
    model = folder / "run.safetensors"
    code, _, _ = run(
        "evaluate", model, folder / "water.npz", "--test-key", "split_test", "--json", report
    )
    assert code == 0
    evaluated = json.loads(report.read_text())
    for name in ("energy", "forces"):
        assert evaluated[name]["mae"] == pytest.approx(record[name]["mae"], rel=1e-4)
    frames = [Atoms(data.numbers, each) for each in data.positions]
    for index, frame in enumerate(frames):  # as a file of frames, one of them another molecule
        frame.info["my_energy"] = data.values["energy"][index]
        frame.arrays["my_forces"] = data.values["forces"][index]
    alone = Atoms("H", [[0, 0, 0]])
    alone.info["my_energy"], alone.arrays["my_forces"] = -600.0, np.zeros((1, 3))
    ase.io.write(folder / "frames.xyz", [*frames, alone], format="extxyz")
    keys = ("--energy-key", "my_energy", "--forces-key", "my_forces", "--batch", 11)
    code, out, _ = run("evaluate", model, folder / "frames.xyz", *keys, "--json", report)
    assert (code, "11 frames of 1 to 3 atoms" in out) == (0, True)
    mixed = json.loads(report.read_text())
    other = abs(JaxffCalculator(model).get_potential_energy(alone) + 600.0)
    expected = (10 * evaluated["energy"]["mae"] * KCAL + other) / 11
    assert mixed["energy"]["mae"] == pytest.approx(expected, rel=1e-5)
    code, _, err = run("evaluate", model, folder / "water.npz", "--exclude-train")
    assert code == 2
    assert "no record of its training frames" in err


def test_other_commands_take_the_model(trained):
    folder, _ = trained
    model, data = folder / "run.safetensors", folder / "water.npz"
    code, out, _ = run("info", model)
    assert code == 0
    job = prepare(read_config(folder / "run.toml"))
    assert command._parameters(job, model)["embedding"]["elements"]["table"].shape[1] == 4
    for words in ("'schnet'", "585 (float32)", "3 Å", "H -666.", "O -666."):
        assert words in out
    code, out, _ = run("relax", model, "--start", data, "-o", folder / "min.xyz", "--steps", 3)
    assert code == 0
    assert "largest force" in out


@pytest.mark.slow
def test_dynamics_and_modes_of_the_model(trained, monkeypatch):
    folder, _ = trained
    model, data = folder / "run.safetensors", folder / "water.npz"
    monkeypatch.setattr("jaxff.cli.md.write_report", lambda *args: None)
    code, out, _ = run("md", model, "--start", data, "--steps", 8, "-o", folder / "md")
    assert (code, "2 frames, 0.004 ps" in out) == (0, True)
    code, out, _ = run("modes", model, "--start", data, "--no-relax", "-o", folder / "modes")
    assert code == 0
    assert len(json.loads((folder / "modes" / "modes.json").read_text())["wavenumbers_per_cm"]) == 3


def test_what_cannot_be_is_refused_before_the_work(trained):
    folder, _ = trained
    config = folder / "run.toml"
    (folder / "wide.toml").write_text(CONFIG.replace("features = 4", "features = 5"))
    (folder / "bare.toml").write_text("[model" + CONFIG.partition("[model")[2])
    dipoles = CONFIG.replace("[data]", '[data]\nlabels = { dipole = ["D", "e*Ang"] }')
    (folder / "dipole.toml").write_text(dipoles.replace("[loss]", "[loss]\ndipole = 1.0"))
    for arguments, words in (
        ((), "jaxff train CONFIG.toml"),
        ((config, "--resume", "--fresh"), "not both"),
        ((folder / "absent.toml",), "absent.toml: no such file"),
        ((folder / "bare.toml",), "has no section [data]"),
        ((config, "-o", folder / "model.npz"), "must end in .safetensors"),
        ((config, "-o", folder / "new.safetensors", "--resume"), "no checkpoints to go on from"),
        ((config, "-o", folder / "new.safetensors", "--steps", 0), "positive number of steps"),
        ((folder / "dipole.toml", "-o", folder / "run.safetensors", "--fresh"), "dipole"),
        (
            (folder / "wide.toml", "--start-from", folder / "run.safetensors"),
            "a model of another network: parameter embedding",
        ),
    ):
        code, _, err = run("train", *arguments)
        assert (code, words in err) == (2, True), err
    assert Checkpoints(folder / "run.checkpoints").steps  # --fresh has not removed them
    code, out, _ = run("train", "--template")
    assert (code, "[training]" in out) == (0, True)
