"""``jaxff fit --symmetry crystal``."""

import ase.io
import numpy as np
import pytest
from ase import Atoms
from crystals import graphene

from jaxff import cli, io

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
    ("arguments", "message"),
    [
        (("--symmetry", "crystal", "-o", "m.safetensors"), "need each other"),
        (("--reference", "ideal.xyz", "-o", "m.safetensors"), "need each other"),
        (("--symmetry", "crystal", "--reference", "ideal.xyz", "-o", "m.npz"), "no smooth"),
        (("--symmetry", "crystal", "--reference", "mixed.xyz", "-o", "m.safetensors"),
         "2 atoms of the data are not at their sites"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(folder, capsys, arguments, message):
    paths = [folder / a if "." in a else a for a in arguments]
    assert fit(folder, *paths) == 2
    assert message in capsys.readouterr().err
