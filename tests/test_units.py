"""Units against scipy's table of constants, and spellings as files have them."""

import contextlib

import numpy as np
import pytest
import scipy.constants as sc
from hypothesis import given
from hypothesis import strategies as st

from jaxff import units

# scipy may hold a newer CODATA adjustment than 2018; the two agree to better than 1e-9.
RELATIVE = 2e-9
PER_EV = 1.0 / sc.electron_volt
ENERGIES = {
    "eV": 1.0,
    "meV": 1e-3,
    "kcal/mol": 1e3 * sc.calorie / sc.N_A * PER_EV,
    "kJ/mol": 1e3 / sc.N_A * PER_EV,
    "hartree": sc.value("Hartree energy in eV"),
    "au": sc.value("Hartree energy in eV"),
    "Ry": sc.value("Rydberg constant times hc in eV"),
    "cm^-1": 100 * sc.h * sc.c * PER_EV,
}
LENGTHS = {"Å": 1.0, "bohr": sc.value("Bohr radius") * 1e10, "nm": 10.0, "pm": 0.01}


@pytest.mark.parametrize(("unit", "value"), ENERGIES.items())
def test_energy_units_match_codata(unit, value):
    assert units.to_ev(unit) == pytest.approx(value, rel=RELATIVE)


@pytest.mark.parametrize(("unit", "value"), LENGTHS.items())
def test_length_units_match_codata(unit, value):
    assert units.to_angstrom(unit) == pytest.approx(value, rel=RELATIVE)


def test_constants_match_codata():
    assert pytest.approx(sc.k * PER_EV, rel=RELATIVE) == units.BOLTZMANN
    assert pytest.approx(sc.hbar * PER_EV * 1e15, rel=RELATIVE) == units.REDUCED_PLANCK
    assert pytest.approx(1e9 * PER_EV * 1e-30, rel=RELATIVE) == units.GIGAPASCAL
    coulomb = sc.e / (4 * sc.pi * sc.epsilon_0) * 1e10
    assert pytest.approx(coulomb, rel=RELATIVE) == units.COULOMB
    assert pytest.approx(3.33564095e-30 / (sc.e * 1e-10), rel=1e-8) == units.DEBYE
    time = np.sqrt(sc.atomic_mass * 1e-20 / sc.electron_volt) * 1e15
    assert pytest.approx(time, rel=RELATIVE) == units.TIME
    assert pytest.approx(10.180505710759414, rel=1e-12) == units.TIME


@pytest.mark.parametrize(
    ("spelling", "unit"),
    [
        ("kcal mol-1", "kcal/mol"),
        ("KCAL/MOL", "kcal/mol"),
        ("kcal mol^-1", "kcal/mol"),
        ("kcal·mol⁻¹", "kcal/mol"),
        ("kcal/mole", "kcal/mol"),
        ("Hartree", "hartree"),
        ("Ha", "hartree"),
        ("E_h", "hartree"),
        ("a.u.", "hartree"),
        ("Rydberg", "Ry"),
        ("cm-1", "cm^-1"),
        ("1/cm", "cm^-1"),
        (" eV ", "eV"),
    ],
)
def test_spellings_of_energy(spelling, unit):
    assert units.to_ev(spelling) == units.to_ev(unit)


@pytest.mark.parametrize("spelling", ["Å", "\u212b", "Ang", "Angstrom", "angstroms", "A"])
def test_spellings_of_angstrom(spelling):
    assert units.to_angstrom(spelling) == 1.0


def test_compound_units():
    force = units.factor("kcal/mol/Ang", energy=1, length=-1)
    assert force == units.KCAL_PER_MOL
    assert units.factor("kcal mol-1 Ang^-1", energy=1, length=-1) == pytest.approx(force)
    atomic = units.factor("hartree/bohr^2", energy=1, length=-2)
    assert atomic == pytest.approx(units.HARTREE / units.BOHR**2)
    assert units.factor("au", energy=1, length=-2) == pytest.approx(atomic)
    assert units.factor("eV/Å³", energy=1, length=-3) == 1.0
    assert units.factor("GPa", energy=1, length=-3) == pytest.approx(0.006241509, rel=1e-6)
    assert units.factor("e*Ang", length=1, charge=1) == 1.0
    assert units.factor("Debye", length=1, charge=1) == pytest.approx(0.2081943, rel=1e-6)


@pytest.mark.parametrize(
    "unit", ["", "parsec", "MeV", "kcal", "eV^x", "/", "eV//Ang", "None", "bohr^99999999"]
)
def test_unknown_unit_lists_the_known_ones(unit):
    with pytest.raises(ValueError, match=r"known.*kcal/mol|power|dimension"):
        units.to_ev(unit)


def test_wrong_dimension_and_type():
    with pytest.raises(ValueError, match="dimension length, expected energy"):
        units.to_ev("bohr")
    with pytest.raises(ValueError, match="expected length"):
        units.to_angstrom("eV")
    with pytest.raises(ValueError, match="must be text"):
        units.to_ev(None)


@given(st.text(max_size=20))
def test_any_text_gives_a_number_or_a_value_error(text):
    with contextlib.suppress(ValueError):
        assert units.to_ev(text) > 0


def test_masses():
    assert units.masses(np.array([[1, 8], [6, 118]])) == pytest.approx(
        np.array([[1.008, 15.999], [12.011, 294.0]]), rel=1e-3
    )
    for wrong in (0, -1, 119):
        with pytest.raises(ValueError, match="no mass"):
            units.masses([1, wrong])
