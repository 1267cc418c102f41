"""``jaxff fit --symmetry crystal``."""

import re

import ase.io
import numpy as np
import pytest
from ase import Atoms
from crystals import graphene

from jaxff import cli, io
from jaxff.descriptors import SmoothImages

SHEET = graphene(2, 2)
SITES, CELL = np.asarray(SHEET.positions), np.asarray(SHEET.cell)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Atoms bound to their sites by springs, and the ideal sheet."""
    path = tmp_path_factory.mktemp("crystal")
    noise = 0.05 * np.random.default_rng(0).normal(size=(40, 8, 3))
    noise -= noise.mean(axis=1, keepdims=True)
    np.savez(
        path / "sheet.npz", z=np.full(8, 6), R=SITES + noise, lattice=CELL.T, theory="springs",
        E=np.sum(noise**2, axis=(1, 2)), F=-2.0 * noise, r_unit="Ang", e_unit="eV",
    )  # fmt: skip
    ase.io.write(path / "ideal.xyz", Atoms("C8", SITES, cell=CELL, pbc=True))
    ase.io.write(path / "POSCAR", Atoms("C8", SITES, cell=CELL, pbc=True), direct=True)
    ase.io.write(path / "mixed.xyz", Atoms("C8", SITES[[1, 0, *range(2, 8)]], cell=CELL, pbc=True))
    rng = np.random.default_rng(1)
    for name, size in {"noisy": 2e-3, "melted": 1.0}.items():
        moved = SITES + size * rng.normal(size=SITES.shape)
        ase.io.write(path / f"{name}.xyz", Atoms("C8", moved, cell=CELL, pbc=True))
    ideal = Atoms("C8", SITES, cell=CELL, pbc=True)
    ideal.set_initial_magnetic_moments([1.0, -1.0] * 4)
    ase.io.write(path / "magnetic.xyz", ideal)
    ideal.set_initial_magnetic_moments([1.0] * 8)  # does not tell the atoms apart
    ase.io.write(path / "ferromagnetic.xyz", ideal)
    ideal.set_array("occupancy", np.array([1.0] * 7 + [0.5]))
    ase.io.write(path / "mixed_sites.xyz", ideal)
    return path


def fit(folder, *arguments):
    common = ("fit", folder / "sheet.npz", "--train", 12, "--valid", 12, "--lengthscale", 3.0)
    return cli.main([str(a) for a in (*common, *arguments)])


def test_a_crystal_is_fitted_with_its_group(folder, capsys):
    model = folder / "model.safetensors"
    assert not fit(folder, "--symmetry", "crystal", "--reference", folder / "POSCAR", "-o", model)
    text = capsys.readouterr().out
    assert "P6/mmm (no. 191): 4 translations (Z2 × Z2)" in text
    potential, params = io.load(model)
    kernel = potential.kernel
    assert (kernel.order, kernel.translations.shape) == (48, (2, 8))
    assert "one_cell" in params
    assert params["expansion"]["features"].shape == (12, 28)


@pytest.mark.parametrize(
    ("reference", "options"),
    [("mixed.xyz", ()), ("noisy.xyz", ("--tolerance", "0.05")), ("ferromagnetic.xyz", ())],
)
def test_references_that_will_do(folder, capsys, reference, options):
    model = folder / "model.safetensors"
    arguments = ("--symmetry", "crystal", "--reference", folder / reference, *options, "-o", model)
    assert not fit(folder, *arguments)
    text = capsys.readouterr().out
    assert "group of order 48 (crystal P6/mmm" in text
    assert ("taken in the order of the data" in text) == (reference == "mixed.xyz")


def springs(path, sites, numbers, cell, **more):
    """Frames of atoms bound to sites of their own."""
    noise = 0.05 * np.random.default_rng(0).normal(size=(40, *sites.shape))
    noise -= noise.mean(axis=1, keepdims=True)
    atoms = [Atoms(numbers, sites + step, cell=cell, calculator=None, **more) for step in noise]
    for frame, step in zip(atoms, noise, strict=True):
        frame.info["e"] = float(np.sum(step**2))
        frame.set_array("f", -2.0 * step)
    ase.io.write(path, atoms)


def fit_springs(path, *arguments):
    common = ("fit", path, "--energy-key", "e", "--forces-key", "f", "--energy-unit", "eV",
              "--length-unit", "Ang", "--train", 8, "--valid", 8)  # fmt: skip
    return cli.main([str(a) for a in (*common, *arguments)])


def test_a_poscar_is_periodic_as_the_data_are(folder, tmp_path, capsys):
    springs(tmp_path / "slab.xyz", SITES, [6] * 8, CELL, pbc=[True, True, False])
    arguments = ("--symmetry", "crystal", "--reference", folder / "POSCAR")
    out = tmp_path / "model.safetensors"
    assert not fit_springs(tmp_path / "slab.xyz", *arguments, "-o", out, "--lengthscale", 8)
    assert "group of order 48" in capsys.readouterr().out


def test_an_adsorbate_on_a_host(tmp_path, capsys):
    """Two oxygen atoms of a molecule above the sheet, in its own two permutations."""
    sites = np.concatenate([SITES, [[1.0, 1.0, 3.0], [2.1, 1.2, 3.1]]])
    springs(tmp_path / "data.xyz", sites, [6] * 8 + [8] * 2, CELL, pbc=True)
    ase.io.write(tmp_path / "ideal.xyz", Atoms("C8O2", sites, cell=CELL, pbc=True))
    arguments = ("--symmetry", "crystal", "--reference", tmp_path / "ideal.xyz", "--host", "0-6,7")
    out = tmp_path / "model.safetensors"
    for own, order in (((), 96), (("--own", "none"), 48)):
        assert not fit_springs(
            tmp_path / "data.xyz", *arguments, *own, "--lengthscale", 8, "-o", out
        )
        assert f"group of order {order}" in capsys.readouterr().out


def test_default_length_scales_of_crystals(folder, capsys):
    arguments = ("fit", folder / "sheet.npz", "--train", 6, "--valid", 12, "--symmetry", "crystal",
                 "--reference", folder / "POSCAR", "-o", folder / "model.safetensors")  # fmt: skip
    assert not cli.main([str(a) for a in arguments])
    rows = re.findall(r"(?m)^ +(\d+) .* eV/Å", capsys.readouterr().out)
    assert rows[:2] == ["4", "8"]


@pytest.mark.filterwarnings("default::UserWarning")
def test_an_oblique_cell_without_the_group_of_a_crystal(folder, capsys):
    assert not fit(folder, "--symmetry", "none", "-o", folder / "smooth.safetensors")
    text = capsys.readouterr()
    assert "described by smooth images" in text.out
    assert isinstance(io.load(folder / "smooth.safetensors")[0].kernel.descriptor, SmoothImages)
    assert "oblique" not in text.err
    assert not fit(folder, "--symmetry", "none", "-o", folder / "rounded.npz")
    text = capsys.readouterr()
    assert "smooth images" not in text.out
    assert re.search(r"^warning: in the oblique cell of geometry \d+ rounding misses", text.err)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--symmetry", "crystal", "-o", "m.safetensors"), "need each other"),
        (("--reference", "ideal.xyz", "-o", "m.safetensors"), "need each other"),
        (("--symmetry", "crystal", "--reference", "ideal.xyz", "-o", "m.npz"), "no smooth"),
        (("--symmetry", "crystal", "--reference", "noisy.xyz", "-o", "m.safetensors"),
         "no symmetry to 0.001 Å, only the identity is left"),
        (("--symmetry", "crystal", "--reference", "noisy.xyz", "-o", "m.safetensors"),
         "or a larger tolerance (--tolerance), or say --symmetry none"),
        (("--symmetry", "crystal", "--reference", "melted.xyz", "-o", "m.safetensors"),
         "atoms of the data are not at their sites"),
        (("--symmetry", "crystal", "--reference", "magnetic.xyz", "-o", "m.safetensors"),
         "initial_magmoms differ among the atoms of C"),
        (("--symmetry", "crystal", "--reference", "mixed_sites.xyz", "-o", "m.safetensors"),
         "sites with occupancy 0.5"),
        (("--symmetry", "crystal", "--reference", "POSCAR", "--host", "0-8", "-o",
          "m.safetensors"), "--host takes atoms 0 to 7"),
        (("--symmetry", "crystal", "--reference", "POSCAR", "--tolerance", "0", "-o",
          "m.safetensors"), "--tolerance must be positive"),
        (("--host", "0-7", "-o", "m.safetensors"), "--host names atoms of --reference"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(folder, capsys, arguments, message):
    paths = [folder / a if "." in a or a == "POSCAR" else a for a in arguments]
    assert fit(folder, *paths) == 2
    assert message in capsys.readouterr().err
