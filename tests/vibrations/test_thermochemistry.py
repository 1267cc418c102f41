"""Thermochemistry against ASE's and against closed forms."""

import ase.thermochemistry
import numpy as np
import pytest
from ase import Atoms
from ase import units as ase_units

from jaxff import units
from jaxff.vibrations import NormalModes, harmonic, ideal_gas
from jaxff.vibrations.normal_modes import rigid_motions

WATER = np.array([[0.0, 0.0, 0.119], [0.0, 0.763, -0.477], [0.0, -0.763, -0.477]])
CARBON_DIOXIDE = np.array([[0.0, 0, 0], [0, 0, 1.16], [0, 0, -1.16]])


def modes(frequencies, numbers, positions):
    frequencies = np.asarray(frequencies, float)
    masses = units.masses(numbers)
    shape = (len(frequencies), len(masses), 3)
    rotations = len(rigid_motions(masses, positions)) - 3
    rigid = np.zeros(3 + rotations)
    return NormalModes(frequencies, np.zeros(shape), np.ones(shape[0]), masses, rigid, rotations)


@pytest.mark.parametrize(
    ("numbers", "positions", "frequencies", "geometry", "symmetry", "spin"),
    [
        ([8, 1, 1], WATER, [1600.0, 3650.0, 3750.0], "nonlinear", 2, 0),
        ([6, 8, 8], CARBON_DIOXIDE, [670.0, 670.0, 1340.0, 2350.0], "linear", 2, 0),
        ([8, 8], [[0, 0, 0], [0, 0.3, 1.2]], [1580.0], "linear", 2, 1),
        ([18], [[1.0, 2, 3]], [], "monatomic", 1, 0),
    ],
)
@pytest.mark.parametrize(("temperature", "pressure"), [(298.15, 101325.0), (750.0, 2e6)])
def test_agrees_with_ase(
    numbers, positions, frequencies, geometry, symmetry, spin, temperature, pressure, monkeypatch
):
    # the same constants (CODATA 2018): ASE's own default is CODATA 2014
    monkeypatch.setattr(ase.thermochemistry, "units", ase_units.create_units("2018"))
    peer = ase.thermochemistry.IdealGasThermo(
        vib_energies=np.array(frequencies) * units.WAVENUMBER,
        geometry=geometry,
        potentialenergy=-7.0,
        atoms=Atoms(numbers, positions),
        symmetrynumber=symmetry,
        spin=spin,
    )
    found = ideal_gas(
        modes(frequencies, numbers, positions), positions, temperature, pressure,
        symmetry_number=symmetry, multiplicity=2 * spin + 1, energy=-7.0,
    )  # fmt: skip
    assert found.enthalpy == pytest.approx(peer.get_enthalpy(temperature, verbose=False), abs=1e-8)
    entropy = peer.get_entropy(temperature, pressure, verbose=False)
    assert found.entropy == pytest.approx(entropy, abs=1e-11)
    gibbs = peer.get_gibbs_energy(temperature, pressure, verbose=False)
    assert found.gibbs_energy == pytest.approx(gibbs, abs=1e-8)


def test_harmonic_agrees_with_ase(monkeypatch):
    monkeypatch.setattr(ase.thermochemistry, "units", ase_units.create_units("2018"))
    frequencies = np.array([50.0, 800.0, 3000.0])
    peer = ase.thermochemistry.HarmonicThermo(frequencies * units.WAVENUMBER, potentialenergy=1.0)
    found = harmonic(modes(frequencies, [8, 1, 1], WATER), 400.0, energy=1.0)
    assert found.helmholtz_energy == pytest.approx(
        peer.get_helmholtz_energy(400.0, verbose=False), abs=1e-8
    )
    assert found.internal_energy == pytest.approx(
        peer.get_internal_energy(400.0, verbose=False), abs=1e-8
    )
    assert found.enthalpy == found.internal_energy


def test_heat_capacity_is_the_slope_of_the_internal_energy():
    argument = modes([300.0, 1600.0, 3650.0], [8, 1, 1], WATER)
    up, down = (ideal_gas(argument, WATER, t).internal_energy for t in (500.01, 499.99))
    found = ideal_gas(argument, WATER, 500.0)
    assert found.heat_capacity == pytest.approx((up - down) / 0.02, rel=1e-6)
    # entropy and energy belong together: dS/dT = Cv/T at constant volume
    up, down = (harmonic(argument, t).entropy for t in (500.01, 499.99))
    slope = (up - down) / 0.02
    assert slope == pytest.approx(found.heat_capacities["vibration"] / 500.0, rel=1e-6)


def test_argon_follows_sackur_and_tetrode():
    """Molar entropy of argon at 298.15 K and 1 bar: 154.8 J/(mol K) (CODATA)."""
    found = ideal_gas(modes([], [18], np.zeros((1, 3))), np.zeros((1, 3)), 298.15, 1e5)
    joule = found.entropy * units.JOULE_PER_EV * units.AVOGADRO
    assert joule == pytest.approx(154.846, abs=0.01)


def test_classical_and_quantum_limits():
    low = harmonic(modes([0.1, 0.1, 0.1], [8, 1, 1], WATER), 3000.0)
    assert low.heat_capacity == pytest.approx(3 * units.BOLTZMANN, rel=1e-8)
    high = harmonic(modes([4000.0, 4000.0, 4000.0], [8, 1, 1], WATER), 5.0)
    assert high.entropy == high.heat_capacity == 0.0
    assert high.internal_energy == pytest.approx(1.5 * 4000 * units.WAVENUMBER)


def test_refuses():
    with pytest.raises(ValueError, match="1 of 3 modes are imaginary"):
        harmonic(modes([-100.0, 10.0, 20.0], [8, 1, 1], WATER), 300.0)
    good = modes([100.0, 10.0, 20.0], [8, 1, 1], WATER)
    with pytest.raises(ValueError, match="temperature"):
        harmonic(good, 0.0)
    with pytest.raises(ValueError, match="symmetry_number"):
        ideal_gas(good, WATER, 300.0, symmetry_number=0)
