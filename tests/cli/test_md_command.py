"""``jaxff md`` with Lennard-Jones argon: ensembles, replicas, restarts, and bad input."""

import re
import sys

import ase.io
import numpy as np
import pytest
from ase import Atoms

from jaxff import cli, io, physics, units
from jaxff.dynamics import read_hdf5, read_log, read_restart

SITES = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])


def run(*arguments):
    return cli.main([str(a) for a in arguments])


def fails(capsys, *arguments):
    """The message of a run that must end with code 2 and one line."""
    capsys.readouterr()
    assert run(*arguments) == 2
    lines = [x for x in capsys.readouterr().err.splitlines() if not x.startswith("warning: ")]
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A model, four atoms in space, and a crystal of them."""
    folder = tmp_path_factory.mktemp("argon")
    potential = physics.lennard_jones("Ar", 5.0, truncation="switched")
    io.save(folder / "model.safetensors", potential, potential.init(epsilon=0.0104, sigma=3.4))
    cluster = Atoms("Ar4", positions=3.8 * np.sqrt(2) * SITES)
    ase.io.write(folder / "cluster.xyz", [cluster, cluster])
    crystal = Atoms("Ar4", positions=5.4 * SITES, cell=[5.4] * 3, pbc=True).repeat((2, 1, 1))
    ase.io.write(folder / "crystal.xyz", crystal)
    return folder


def asked(files, *options, start="cluster.xyz"):
    return ("md", files / "model.safetensors", "--start", files / start, "--timestep", 2,
            "--temperature", 40, *options)  # fmt: skip


@pytest.mark.parametrize("ensemble", ["nose-hoover", pytest.param("npt", marks=pytest.mark.slow)])
def test_ensembles(ensemble, files, tmp_path, capsys):
    start = "crystal.xyz" if ensemble == "npt" else "cluster.xyz"
    options = ("--ensemble", ensemble, "--steps", 40, "--every", 4, "-o", tmp_path / "run")
    assert run(*asked(files, *options, start=start)) == 0
    captured = capsys.readouterr()
    assert f"{ensemble}, 40 steps of 2 fs" in captured.out
    drift = re.search(r"drift \((\S+) ± (\S+)\) meV/atom/ps", captured.out)
    assert abs(float(drift.group(1))) < 100 * float(drift.group(2))
    assert "Conserved quantity" in captured.out
    assert ("GPa" in captured.out) is (ensemble == "npt")
    frames = ase.io.read(tmp_path / "run" / "trajectory.xyz", ":")
    assert [frame.info["step"] for frame in frames] == list(range(0, 41, 4))
    assert read_restart(tmp_path / "run" / "restart.npz").ensemble == ensemble


@pytest.mark.parametrize("format", [pytest.param("xyz", marks=pytest.mark.slow), "hdf5"])
def test_replicas_that_are_continued_equal_those_of_one_run(format, files, tmp_path, capsys):
    options = ("--ensemble", "langevin", "--friction", 0.01, "--replicas", 2, "--every", 4)
    made = asked(files, *options, "--format", format, "--seed", 3)
    assert run(*made, "--steps", 40, "-o", tmp_path / "whole") == 0
    assert "2 replicas" in capsys.readouterr().out
    assert run(*made, "--steps", 24, "-o", tmp_path / "parts") == 0
    assert run(*made, "--steps", 40, "-o", tmp_path / "parts", "--restart") == 0
    for index in range(2):
        name = f"log-00{index}.csv"
        whole, parts = ((tmp_path / f / name).read_text() for f in ("whole", "parts"))
        assert whole == parts
    logs = [read_log(tmp_path / "whole" / f"log-00{i}.csv")["potential_energy_eV"] for i in (0, 1)]
    assert np.abs(logs[0] - logs[1]).max() > 1e-4
    if format == "xyz":
        for index in range(2):
            name = f"trajectory-00{index}.xyz"
            whole, parts = ((tmp_path / f / name).read_text() for f in ("whole", "parts"))
            assert whole == parts
    else:
        whole, parts = (read_hdf5(tmp_path / f / "trajectory.h5") for f in ("whole", "parts"))
        np.testing.assert_array_equal(whole["positions"], parts["positions"])
    wrong = fails(capsys, *made, "--steps", 44, "-o", tmp_path / "parts", "--restart",
                  "--replicas", 3)  # fmt: skip
    assert "has --replicas 2, not --replicas 3" in wrong


def test_path_integrals_that_are_continued_equal_one_run(files, tmp_path, capsys):
    options = ("--ensemble", "pimd", "--beads", 3, "--every", 4)
    made = asked(files, *options, "--centroid-time", 50)
    figure = tmp_path / "rings.png"
    assert run(*made, "--steps", 120, "-o", tmp_path / "whole", "--figure", figure) == 0
    out = capsys.readouterr().out
    assert "3 beads, 120 steps" in out
    assert figure.stat().st_size > 10_000
    page = (tmp_path / "whole" / "report.html").read_text()
    for told in ("Beads", "virial estimator", "primitive estimator", "radius of gyration"):
        assert told in page
    for meaningless in ("total energy", "replica 0", "Replicas"):
        assert meaningless not in page
    assert "eV (virial)" in out
    assert run(*made, "--steps", 60, "-o", tmp_path / "parts") == 0
    notes = tmp_path / "parts" / "quantum.csv"
    with notes.open("a") as file:  # a kill came between the notes and the restart file
        file.write("64,128,1,1,1,1,1\n68,13")
    assert run(*made, "--steps", 120, "-o", tmp_path / "parts", "--restart") == 0
    assert notes.read_text() == (tmp_path / "whole" / "quantum.csv").read_text()
    found = read_log(notes)
    assert len(found["step"]) == 31
    logs = [read_log(tmp_path / "whole" / f"log-00{i}.csv") for i in range(3)]
    average = np.mean([log["potential_energy_eV"] for log in logs], axis=0)
    np.testing.assert_allclose(found["potential_energy_eV"], average, atol=1e-9)
    free = 1.5 * 4 * units.BOLTZMANN * 40
    assert np.all(found["virial_kinetic_energy_eV"][-10:] > 0.5 * free)
    notes.unlink()
    told = fails(capsys, *made, "--steps", 140, "-o", tmp_path / "parts", "--restart")
    assert "goes on from its estimators" in told


def test_options_reach_the_ensemble(files, tmp_path, monkeypatch):
    told = []

    def stop(energy_fn, system, **options):
        told.append(options)
        raise KeyboardInterrupt

    monkeypatch.setattr("jaxff.dynamics.run", stop)
    common = ("--steps", 10, "-o", tmp_path / "run")
    npt = ("--ensemble", "npt", "--pressure", 0.5, "--barostat-time", 700, "--friction", 0.003)
    assert run(*asked(files, *common, *npt, "--skin", 0.7, start="crystal.xyz")) == 130
    for name in ("nose-hoover", "csvr"):
        asks = ("--ensemble", name, "--relaxation-time", 60, "--replicas", 4)
        assert run(*asked(files, *common, *asks)) == 130
    assert told[0]["ensemble"].parameters == pytest.approx(
        {"temperature": 40.0, "pressure": 0.5 * units.GIGAPASCAL, "friction": 0.003,
         "barostat_time": 700.0, "barostat_friction": 1 / 700.0}
    )  # fmt: skip
    assert told[0]["neighbors"].skins == (0.7,)
    assert told[0]["neighbors"].cutoffs == (5.0,)
    for options in told[1:]:
        assert options["ensemble"].parameters["relaxation_time"] == 60.0
        assert options["replicas"] == 4
    assert not list((tmp_path / "run").iterdir())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--steps", 0], "--steps must be at least 1, got 0"),
        (["--steps", 5, "--every", 0], "--every must be at least 1"),
        (["--steps", 5, "--replicas", 0], "--replicas must be at least 1"),
        (["--steps", 5, "--timestep", -1], "--timestep must be a positive number in fs, got -1"),
        (["--steps", 5, "--temperature", -3], "--temperature must not be negative, got -3"),
        (["--steps", 5, "--skin", 0], "skin"),
        (["--steps", 5, "--frame", 2], "--frame must be 0 to 1, got 2"),
        (["--steps", 5, "--restart"], "restart.npz"),
        (["--steps", 5, "--ensemble", "npt"], "repeats in all three directions"),
        (["--steps", 5, "--ensemble", "csvr", "--relaxation-time", 0], "--relaxation-time must be"),
        (["--steps", 5, "--ensemble", "langevin", "--friction", 0], "friction must be"),
        (["--steps", 5, "--ensemble", "pimd"], "--beads belongs to --ensemble pimd, which needs"),
        (["--steps", 5, "--beads", 4], "--beads belongs to --ensemble pimd"),
        (["--steps", 5, "--figure", "x.doc"], ".png or .pdf or .svg"),
    ],
)
def test_bad_input_is_refused_and_leaves_no_run(options, words, files, tmp_path, capsys):
    assert words in fails(capsys, *asked(files, *options, "-o", tmp_path / "run"))
    assert not (tmp_path / "run" / "log.csv").exists()


def test_a_run_is_only_continued_as_it_was(files, tmp_path, capsys):
    target = ("-o", tmp_path / "run")
    assert run(*asked(files, "--steps", 8, *target)) == 0
    assert "--restart" in fails(capsys, *asked(files, "--steps", 8, *target))
    for options, words in (
        (["--ensemble", "csvr"], "has --ensemble nve, not --ensemble csvr"),
        (["--format", "hdf5"], "has --format xyz, not --format hdf5"),
        (["--replicas", 2], "has no --replicas, not --replicas 2"),
        (["--timestep", 1], "has --timestep 2.0, not --timestep 1.0"),
        (["--seed", 1, "--forces"], "has no --forces, --seed 0, not --forces, --seed 1"),
        (["--steps", 8], "has 8 steps: --steps counts them"),
    ):
        asks = asked(files, "--steps", 16, *target, "--restart", *options)
        assert words in fails(capsys, *asks)
    other = files / "other.safetensors"
    potential = physics.lennard_jones("Ar", 5.0, truncation="switched")
    io.save(other, potential, potential.init(epsilon=0.02, sigma=3.4))
    asks = list(asked(files, "--steps", 16, *target, "--restart"))
    asks[1] = other
    assert "belongs to another potential" in fails(capsys, *asks)
    assert run(*asked(files, "--steps", 16, *target, "--restart")) == 0
    assert read_log(tmp_path / "run" / "log.csv")["step"].tolist() == [0, 8, 16]
    (tmp_path / "run" / "settings.json").write_text("{")
    again = asked(files, "--steps", 24, *target, "--restart")
    assert "settings.json does not tell the settings" in fails(capsys, *again)


def test_hdf5_without_h5py(files, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    options = ("--steps", 4, "--format", "hdf5", "-o", tmp_path / "run")
    assert "pip install" in fails(capsys, *asked(files, *options))


@pytest.mark.slow
def test_explosion_is_told_in_a_line(files, tmp_path, capsys):
    close = Atoms("Ar2", positions=[[0, 0, 0], [1.0, 0, 0]])
    ase.io.write(tmp_path / "close.xyz", close)
    options = ("--steps", 100, "-o", tmp_path / "run")
    message = fails(capsys, *asked(files, *options, start=tmp_path / "close.xyz"))
    assert "moves by more than 0.5 Å at once after step 0" in message
    assert "restart.npz of the run" in message
    assert "Stopped early" in (tmp_path / "run" / "report.html").read_text()


def test_help_explains_every_option(capsys):
    with pytest.raises(SystemExit) as stop:
        run("md", "--help")
    assert stop.value.code == 0
    text = re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]", " ", capsys.readouterr().out)
    for option, words in {
        "--ensemble": "constant temperature", "--replicas": "side by side",
        "--restart": "last state", "--format": "HDF5", "--pressure": "GPa",
        "--barostat-time": "barostat in fs", "--relaxation-time": "thermostat in fs",
        "--friction": "1/fs", "--skin": "cutoffs", "--every": "written frames",
        "--energy-unit": "Unit of the energies", "--model-length-unit": "Unit of length",
    }.items():  # fmt: skip
        place = text.rindex(option + " ")
        assert words in " ".join(text[place : place + 1500].split()), option
