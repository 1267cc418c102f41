"""``jaxff relax`` and ``jaxff modes`` with classical potentials; everything runs in-process."""

import json

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.fd import calculate_numerical_forces

from jaxff import bind, cli, io, physics, units
from jaxff.interfaces.ase import JaxffCalculator

DEPTH, WIDTH, LENGTH = 4.0, 2.2, 1.1


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A linear Morse molecule, whose ends repel each other a little, and argon."""
    folder = tmp_path_factory.mktemp("classical")
    pairs = np.array([[0.002, DEPTH], [DEPTH, 0.002]])
    morse = physics.morse(["O", "C"], 8.0, truncation="switched")
    lengths = np.array([[3.0, LENGTH], [LENGTH, 3.0]])
    params = morse.init(depth=pairs, width=np.full((2, 2), WIDTH), length=lengths)
    io.save(folder / "morse.safetensors", morse, params)
    argon = physics.lennard_jones("Ar", 6.0, truncation="switched")
    io.save(folder / "argon.safetensors", argon, argon.init(epsilon=0.0104, sigma=3.4))
    rng = np.random.default_rng(0)
    positions = np.array([[-1.15, 0, 0], [0, 0, 0], [1.15, 0.1, 0]])
    frames = [Atoms("OCO", positions + 0.05 * rng.normal(size=(3, 3))) for _ in range(3)]
    for index, frame in enumerate(frames):
        frame.info["my_energy"] = [1.0, -1.0, 0.0][index]
    ase.io.write(folder / "molecule.xyz", frames, format="extxyz")
    crystal = bulk("Ar", "fcc", a=5.4, cubic=True)
    crystal.positions += 0.05 * rng.normal(size=(4, 3))
    ase.io.write(folder / "argon.xyz", crystal, format="extxyz")
    return folder


def run(*arguments):
    return cli.main([str(a) for a in arguments])


def fails(capsys, *arguments):
    """The message of a command that must end with code 2 and one line."""
    assert run(*arguments) == 2
    lines = [x for x in capsys.readouterr().err.splitlines() if not x.startswith("warning: ")]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return lines[0]


def test_relaxed_molecule_is_read_by_ase(files, tmp_path, capsys):
    target = tmp_path / "out.xyz"
    asked = ("relax", files / "morse.safetensors", "--start", files / "molecule.xyz")
    assert not run(*asked, "-o", target, "--max-force", 1e-5, "--frame", 2)
    text = capsys.readouterr().out
    assert "frame 2 of" in text
    assert "converged after" in text
    atoms = ase.io.read(target)
    assert np.abs(atoms.get_forces()).max() < 1e-5
    assert not atoms.pbc.any()
    energy = atoms.get_potential_energy()
    atoms.calc = JaxffCalculator(bind(*io.load(files / "morse.safetensors")))
    assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-8)
    np.testing.assert_allclose(calculate_numerical_forces(atoms, eps=1e-4), 0.0, atol=1e-4)


def test_lowest_frame_fire_and_step_limit(files, tmp_path, capsys):
    asked = ("relax", files / "morse.safetensors", "--start", files / "molecule.xyz")
    options = ("--energy-key", "my_energy", "--method", "fire", "--steps", 2)
    assert not run(*asked, *options, "-o", tmp_path / "out.xyz")
    captured = capsys.readouterr()
    assert "Starting from frame 1, the lowest in energy" in captured.out
    assert "warning: not converged (step limit)" in captured.err
    assert (tmp_path / "out.xyz").exists()


def test_cell_under_pressure(files, tmp_path, capsys):
    volumes = []
    for pressure in (0.0, 0.2):
        target = tmp_path / f"{pressure}.xyz"
        assert not run("relax", files / "argon.safetensors", "--start", files / "argon.xyz",
                       "--cell", "full", "--pressure", pressure, "-o", target)  # fmt: skip
        assert "GPa away from the external pressure" in capsys.readouterr().out
        atoms = ase.io.read(target)
        volumes.append(atoms.get_volume())
        stress = atoms.get_stress() * 160.21766
        np.testing.assert_allclose(stress[:3], -pressure, atol=0.011)
    assert volumes[1] < 0.97 * volumes[0]


def test_modes_of_a_linear_molecule(files, tmp_path, capsys):
    target = tmp_path / "modes"
    assert not run("modes", files / "morse.safetensors", "--start", files / "molecule.xyz",
                   "-o", target, "--symmetry-number", 2, "--temperature", 400,
                   "--animate", 1, "--frames", 6)  # fmt: skip
    text = capsys.readouterr().out
    record = json.loads((target / "modes.json").read_text())
    assert record["rotations"] == len(record["wavenumbers_per_cm"]) - 2 == 2
    assert "3 translations and 2 rotations" in text
    # symmetric stretch: the curvature of one bond, but for the weak outer pair
    stretch = max(record["wavenumbers_per_cm"][:-1])
    bond = np.sqrt(2 * DEPTH * WIDTH**2 / 15.999) / units.TIME
    assert stretch == pytest.approx(bond * units.REDUCED_PLANCK / units.WAVENUMBER, rel=0.05)
    assert f"{stretch:.2f}" in text
    assert record["thermochemistry"]["temperature_K"] == 400.0
    assert "Gibbs energy G" in text
    assert record["max_force_eV_per_A"] < 1e-4
    frames = ase.io.read(target / "modes.xyz", ":")
    assert len(frames) == 6
    assert ase.io.read(target / "relaxed.xyz").get_chemical_symbols() == ["O", "C", "O"]


def test_modes_of_what_is_no_minimum_and_of_a_crystal(files, tmp_path, capsys):
    bent = Atoms("OCO", [[-1.0, 0, 0], [0, 0, 0], [0, 1.6, 0]])
    ase.io.write(tmp_path / "bent.xyz", bent, format="extxyz")
    model = files / "morse.safetensors"
    asked = ("modes", model, "--start", tmp_path / "bent.xyz", "-o", tmp_path / "a", "--no-relax")
    assert not run(*asked)
    captured = capsys.readouterr()
    assert "warning: the largest force" in captured.err
    assert "warning: no thermochemistry" in captured.err
    assert "imaginary (i): the geometry is no minimum" in captured.out
    record = json.loads((tmp_path / "a" / "modes.json").read_text())
    assert any(record["imaginary"])
    assert "thermochemistry" not in record
    assert not (tmp_path / "a" / "relaxed.xyz").exists()
    assert not run("modes", files / "argon.safetensors", "--start", files / "argon.xyz",
                   "-o", tmp_path / "b")  # fmt: skip
    text = capsys.readouterr().out
    assert "Helmholtz energy F" in text
    assert "3 translations, projected out" in text
    assert len(json.loads((tmp_path / "b" / "modes.json").read_text())["wavenumbers_per_cm"]) == 9


BAD = {
    "no such frame": (["--frame", 9], "--frame must be 0 to 2"),
    "no steps": (["--steps", 0], "--steps must be at least 1"),
    "no force": (["--max-force", 0], "--max-force must be positive"),
    "a cell of a molecule": (["--cell", "full"], "--cell full needs a periodic system"),
    "pressure on a molecule": (["--pressure", 1], "an external pressure needs --cell full"),
}


@pytest.mark.parametrize("case", BAD)
def test_relax_refuses(case, files, tmp_path, capsys):
    options, words = BAD[case]
    asked = ("relax", files / "morse.safetensors", "--start", files / "molecule.xyz", *options)
    assert words in fails(capsys, *asked, "-o", tmp_path / "out.xyz")
    assert not list(tmp_path.iterdir())


def test_refuses_files(files, tmp_path, capsys):
    model, start = files / "morse.safetensors", files / "molecule.xyz"
    asked = ("relax", model, "--start", start, "-o")
    assert "must end in .xyz" in fails(capsys, *asked, tmp_path / "out.npz")
    assert "no such folder" in fails(capsys, *asked, tmp_path / "nowhere" / "out.xyz")
    other = ("relax", model, "--start", files / "argon.xyz", "-o", tmp_path / "out.xyz")
    assert "not finite" in fails(capsys, *other)
    asked = ("modes", model, "--start", start, "-o")
    assert "a file has this name" in fails(capsys, *asked, start)
    out = tmp_path / "out"
    assert "--animate takes modes 1 to 4" in fails(capsys, *asked, out, "--animate", 7)
    assert "--temperature must be positive" in fails(capsys, *asked, out, "--temperature", -1)
    assert "no such file" in fails(capsys, "modes", model, "--start", "x.xyz", "-o", out)


@pytest.mark.parametrize("command", ["relax", "modes"])
def test_help(command, capsys):
    with pytest.raises(SystemExit) as stop:
        run(command, "--help")
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for option in ("--start", "--frame", "--max-force", "--steps", "-o"):
        assert option in text
