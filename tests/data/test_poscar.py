"""Structures from files of VASP."""

import ase.io
import numpy as np
import pytest
from ase import Atoms
from crystals import graphene

from jaxff.data import poscar

TEXT = """two of each
2.0
  2.0 0.0 0.0
  0.0 2.1 0.0
  0.5 0.0 2.2
Na Cl
2 2
Direct
0.00 0.00 0.00
0.50 0.50 0.00
0.50 0.00 0.50
0.00 0.50 0.50
"""


def test_fractional_coordinates_and_scale(tmp_path):
    path = tmp_path / "POSCAR"
    path.write_text(TEXT)
    found = poscar.read(path)
    cell = 2.0 * np.array([[2.0, 0, 0], [0, 2.1, 0], [0.5, 0, 2.2]])
    np.testing.assert_allclose(found.cell[0], cell)
    np.testing.assert_allclose(found.positions[0, 2], np.array([0.5, 0, 0.5]) @ cell)
    np.testing.assert_array_equal(found.numbers, [11, 11, 17, 17])
    assert np.all(found.pbc)
    assert (len(found), dict(found.values)) == (1, {})


def test_what_ase_writes_is_read_back(tmp_path):
    sheet = graphene(2, 2)
    atoms = Atoms(sheet.numbers, sheet.positions, cell=np.asarray(sheet.cell), pbc=True)
    ase.io.write(tmp_path / "sheet.vasp", atoms, direct=True)
    found = poscar.read(tmp_path / "sheet.vasp")
    np.testing.assert_allclose(found.positions[0], sheet.positions, atol=1e-8)
    np.testing.assert_allclose(found.cell[0], sheet.cell, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("POSCAR", True), ("CONTCAR_relaxed", True), ("ideal.vasp", True), ("si.poscar", True),
     ("ideal.xyz", False), ("data.npz", False)],
)  # fmt: skip
def test_names(name, expected):
    assert poscar.is_poscar(f"folder/{name}") is expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TEXT.replace("Na Cl\n", ""), "names its elements in line 6, got '2 2'"),
        (
            TEXT.replace("0.00 0.50 0.50\n", ""),
            "expected 4 positions, got 3: the file is cut short",
        ),
        (TEXT.replace("0.50 0.50 0.00", "0.50 x 0.00"), "expected 4 positions, got 1"),
        (TEXT.replace("Na Cl", "Na Qq"), "not readable as POSCAR"),
        (TEXT.replace("0.50 0.50 0.00", "0.50 nan 0.00"), "finite coordinates"),
        ("", "names its elements"),
    ],
)
def test_what_is_no_poscar_is_refused(tmp_path, text, message):
    path = tmp_path / "POSCAR"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        poscar.read(path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        poscar.read(tmp_path / "CONTCAR")
