"""The table of quantities: names, shapes, conversions."""

import dataclasses

import pytest

from jaxff import units
from jaxff.quantities import QUANTITIES, quantity


def test_every_unit_of_the_table_is_the_internal_one():
    for entry in QUANTITIES.values():
        assert entry.factor(entry.unit) == 1.0


def test_shapes():
    assert quantity("energy").dims(5) == ()
    assert quantity("forces").dims(5) == (5, 3)
    assert quantity("hessian").dims(5) == (5, 3, 5, 3)
    assert quantity("born_charges").dims(5) == (5, 3, 3)
    assert quantity("stress").dims(5) == (3, 3)
    assert quantity("forces").per_atom
    assert not quantity("stress").per_atom


def test_conversion():
    assert quantity("forces").factor("hartree/bohr") == pytest.approx(51.42206747632)
    assert quantity("stress").factor("kbar") == pytest.approx(units.GIGAPASCAL / 10)
    assert quantity("polarizability").factor("au") == pytest.approx(
        units.BOHR**3 / units.COULOMB
    )  # 4 pi eps0 a0^3
    with pytest.raises(ValueError, match="expected energy length"):
        quantity("forces").factor("eV")


def test_unknown_name_and_frozen():
    with pytest.raises(ValueError, match=r"unknown quantity 'force'; known: energy, forces"):
        quantity("force")
    with pytest.raises(dataclasses.FrozenInstanceError):
        quantity("energy").unit = "Ry"
    with pytest.raises(TypeError):
        QUANTITIES["energy"] = None
