"""``jaxff phonons``."""

import json

import ase.io
import numpy as np
import pytest
from ase import Atoms
from crystals import fcc

from jaxff import cli, io, physics

SITES = fcc(1, 5.25)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Argon, in one conventional cell."""
    path = tmp_path_factory.mktemp("phonons")
    potential = physics.lennard_jones("Ar", 5.0, truncation="force_shifted")
    io.save(path / "argon.safetensors", potential, potential.init(epsilon=0.0104, sigma=3.4))
    ideal = Atoms("Ar4", np.asarray(SITES.positions), cell=np.asarray(SITES.cell), pbc=True)
    ase.io.write(path / "POSCAR", ideal, direct=True)
    return path


def run(folder, start, *arguments):
    asked = ("phonons", folder / "argon.safetensors", "--start", folder / start, *arguments)
    return cli.main([str(a) for a in asked])


def test_bands_of_argon(folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert not run(folder, "POSCAR", "-o", out, "--path", "GXWKGL", "--points", 31)
    text = capsys.readouterr().out
    assert "4 primitive cells of 1 atoms: exact at 4 wave vectors" in text
    found = json.loads((out / "phonons.json").read_text())
    assert found["path"]["labels"] == list("GXWKGL")
    exact = np.array(found["exact"]["frequencies_THz"])
    # Γ, and X three times: of the longitudinal mode ν² = 8 φ''/m, but for φ'.
    at_x = exact[np.abs(exact).max(axis=1) > 0.01]
    assert at_x.shape == (3, 3)
    np.testing.assert_allclose(at_x, np.tile(at_x[0], (3, 1)), atol=1e-6)
    along = np.array(found["path"]["frequencies_THz"])
    np.testing.assert_allclose(along[np.flatnonzero(found["path"]["exact"])[1]], at_x[0], atol=1e-6)
    assert found["sum_rule_eV_per_A2"] < 1e-10
    assert (out / "phonons.png").stat().st_size > 1000


def test_a_slab_in_a_box_has_a_path_in_its_plane(folder, tmp_path, capsys):
    """A layer of argon under vacuum, periodic in all directions."""
    side = 5.25 / np.sqrt(2.0)
    layer = Atoms("Ar", cell=[side, side, 20.0], pbc=True).repeat((2, 2, 1))
    ase.io.write(folder / "layer.xyz", layer)
    assert not run(folder, "layer.xyz", "-o", tmp_path, "--points", 20)
    assert "20.0 Å of vacuum along vector 3: the path stays normal to it" in capsys.readouterr().out
    way = json.loads((tmp_path / "phonons.json").read_text())["path"]
    np.testing.assert_array_equal(np.array(way["points"])[:, 2], 0.0)
    assert sum(way["exact"]) >= 4


@pytest.mark.parametrize(
    ("start", "arguments", "message"),
    [
        ("POSCAR", ("--path", "GQ"), "no path 'GQ'"),
        ("POSCAR", ("--frame", "1"), "--frame must be 0 to 0"),
        ("CONTCAR", (), "no such file"),
    ],
)
def test_refuses(folder, tmp_path, capsys, start, arguments, message):
    assert run(folder, start, "-o", tmp_path / "out", *arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
