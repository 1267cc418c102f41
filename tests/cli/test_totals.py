"""Commands with a network that reads charge and spin, from files that say them and others."""

import ase.io
import jax
import numpy as np
import pytest
from ase import Atoms

from jaxff import System, cli, io, neighbor_list
from jaxff.networks import spookynet

SAID = {"charge": 1.0, "unpaired_electrons": 0}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A model, and a hydronium ion with and without charge and spin."""
    folder = tmp_path_factory.mktemp("ion")
    network = spookynet(
        3.0, features=4, radial_functions=4, modules=1, nonlocal_attention="none",
        repulsion=False, electrostatics=False, dispersion=False,
    )  # fmt: skip
    places = np.array([[0.0, 0, 0.1], [0.95, 0, 0], [-0.5, 0.8, 0], [-0.5, -0.8, 0]])
    system = System(places, [8, 1, 1, 1], charge=1.0, spin=0.0)
    params = jax.jit(network.init)(jax.random.key(0), system, neighbor_list(3.0).allocate(system))
    io.save(folder / "model.safetensors", network, params)
    for name, info in (("said", SAID), ("unsaid", {}), ("other", {"q": 1.0, "open": 0})):
        atoms = Atoms("OH3", places, info=info)
        atoms.info["ref"], atoms.arrays["pull"] = 0.5, np.zeros((4, 3))
        ase.io.write(folder / f"{name}.xyz", atoms, format="extxyz")
    return folder


def run(*arguments):
    return cli.main([str(a) for a in arguments])


def test_a_start_must_say_what_the_model_reads(files, capsys):
    asked = ("relax", files / "model.safetensors", "--steps", 1, "-o", files / "out.xyz", "--start")
    assert run(*asked, files / "unsaid.xyz") == 2
    assert "reads the total charge" in (said := capsys.readouterr().err)
    assert "give --charge" in said
    assert run(*asked, files / "unsaid.xyz", "--charge", 1) == 2
    assert "give --spin" in capsys.readouterr().err
    for more in (
        ("unsaid.xyz", "--charge", 1, "--spin", 0),
        ("other.xyz", "--charge-key", "q", "--spin-key", "open"),
        ("said.xyz",),
    ):
        assert run(*asked, files / more[0], *more[1:]) == 0
        atoms = ase.io.read(files / "out.xyz")
        assert isinstance(atoms, Atoms)
        assert {name: atoms.info[name] for name in SAID} == SAID


def test_impossible_spins_are_named(files, capsys):
    asked = ("relax", files / "model.safetensors", "--steps", 1, "-o", files / "out.xyz", "--start")
    assert run(*asked, files / "unsaid.xyz", "--charge", 1, "--spin", 1) == 0
    assert "H3O of charge 1 has 10 electrons, of which 1 cannot" in capsys.readouterr().err
    assert run(*asked, files / "unsaid.xyz", "--charge", 1, "--spin", -2) == 2
    assert "must not be negative" in capsys.readouterr().err


def test_frames_may_be_told(files, capsys):
    asked = ("evaluate", files / "model.safetensors")
    keys = ("--energy-key", "ref", "--forces-key", "pull")
    assert run(*asked, files / "unsaid.xyz", *keys) == 2
    assert "no charge, which the potential reads" in capsys.readouterr().err
    for more in (("unsaid.xyz", "--charge", 1, "--spin", 0), ("said.xyz",)):
        assert run(*asked, files / more[0], *keys, *more[1:]) == 0
