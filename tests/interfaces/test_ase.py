"""The ASE calculator against ASE's own finite differences, dynamics and optimisers."""

import copy
import dataclasses

import ase.md.verlet
import ase.optimize
import jax
import jax.numpy as jnp
import kernel_models
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.calculators.lj import LennardJones
from models import capacitor, counting, crystal, lennard_jones, molecule, morse, run

from jaxff import System, bind, gdml, hessian
from jaxff.data.embedded import minimum
from jaxff.descriptors import smooth_images
from jaxff.interfaces.ase import JaxffCalculator, system_of
from jaxff.kernels import Kernel, matern52
from jaxff.linalg import solvers
from jaxff.neighbors import displacements, neighbor_list
from jaxff.potential import Potential

LJ = bind(lennard_jones(), {"epsilon": jnp.asarray(0.1), "sigma": jnp.asarray(1.6)})
MORSE = bind(morse(), morse().init(None, None))


def atoms_of(system):
    cell = None if system.cell is None else np.asarray(system.cell)
    return Atoms(
        np.asarray(system.numbers), np.asarray(system.positions), cell=cell, pbc=cell is not None
    )


def test_energy_forces_and_stress_of_a_crystal():
    system = crystal()
    atoms = atoms_of(system)
    atoms.calc = JaxffCalculator(LJ)
    expected = LJ(system, neighbor_list(LJ.cutoffs).allocate(system))
    energy = atoms.get_potential_energy()
    assert type(energy) is float
    assert energy == pytest.approx(float(expected), abs=1e-12)
    assert atoms.get_potential_energy(force_consistent=True) == energy
    numerical = calculate_numerical_forces(atoms, eps=1e-4)
    np.testing.assert_allclose(atoms.get_forces(), numerical, atol=1e-6)
    # Voigt order and sign are ASE's: tension is positive
    numerical = calculate_numerical_stress(atoms, eps=1e-5)
    assert np.abs(numerical[3:]).max() > 1e-3
    np.testing.assert_allclose(atoms.get_stress(), numerical, atol=1e-6)
    wide = atoms.copy()
    wide.calc = JaxffCalculator(LJ)
    wide.set_cell(1.2 * wide.cell, scale_atoms=True)
    assert wide.get_stress()[:3].mean() > 0


def test_energy_forces_and_stress_are_those_of_ase_for_lennard_jones():
    """The same potential in ASE: a calculator whose stress and signs are its own."""
    epsilon, sigma, cutoff = 0.0104, 3.4, 6.0

    def apply(params, system, neighbors):
        vectors, real = displacements(system, neighbors.within(cutoff))
        square = jnp.where(real, jnp.sum(vectors**2, -1), 1.0)
        inside = real & (square < cutoff**2)
        u = (sigma**2 / square) ** 3
        shift = (sigma / cutoff) ** 12 - (sigma / cutoff) ** 6
        energies = jnp.where(inside, 4 * epsilon * (u**2 - u - shift), 0.0)
        return {"energy": 0.5 * jnp.sum(energies)}

    rng = np.random.default_rng(0)
    atoms = bulk("Ar", "fcc", a=5.2, cubic=True)
    atoms.positions += 0.1 * rng.normal(size=(4, 3))
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.04 * rng.normal(size=(3, 3))))
    atoms.calc = LennardJones(epsilon=epsilon, sigma=sigma, rc=cutoff, smooth=False)
    values = [(atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress())]
    atoms.calc = JaxffCalculator(bind(Potential(lambda *_: {}, apply, cutoffs=(cutoff,)), {}))
    values.append((atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()))
    assert len({round(abs(x), 6) for x in values[0][2]}) == 6  # no two components alike
    for theirs, ours in zip(*values, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-10)


def test_hessian_and_padding():
    system = molecule(atoms=9)
    atoms = atoms_of(system)
    plain, padded = JaxffCalculator(LJ, pad=False), JaxffCalculator(LJ, outputs=["energies"])
    values = [c.get_property("forces", atoms) for c in (plain, padded)]
    np.testing.assert_allclose(*values, atol=1e-13)
    exact = run(hessian(LJ), system, neighbor_list(LJ.cutoffs).allocate(system))
    np.testing.assert_allclose(padded.get_hessian(atoms), exact, atol=1e-12)
    energies = padded.get_property("energies", atoms)
    assert energies.shape == (9,)
    assert energies.sum() == pytest.approx(atoms_energy(plain, atoms), abs=1e-12)


def atoms_energy(calculator, atoms):
    return calculator.get_property("energy", atoms)


def test_one_compilation_per_bucket():
    potential, traces = counting(lennard_jones())
    calculator = JaxffCalculator(bind(potential, LJ.params), capacity=4.0)
    for size in (9, 10, 9, 10):  # one bucket of atoms
        atoms = atoms_of(molecule(seed=size, atoms=size))
        calculator.get_property("forces", atoms)
        calculator.get_property("energy", atoms)
    assert calculator.compilations == 1
    assert len(traces) == 1
    calculator.get_property("forces", atoms_of(molecule(atoms=14)))
    assert calculator.compilations == len(traces) == 2


def test_relaxation_and_dynamics_reuse_lists(monkeypatch):
    potential, traces = counting(lennard_jones())
    calculator = JaxffCalculator(bind(potential, LJ.params))
    allocations = []
    allocate = type(calculator._lists).allocate
    monkeypatch.setattr(
        type(calculator._lists), "allocate", lambda *a: allocations.append(1) or allocate(*a)
    )
    atoms = atoms_of(crystal()) * (2, 1, 1)
    atoms.calc = calculator
    ase.optimize.FIRE(atoms, logfile=None).run(fmax=1e-3, steps=60)
    assert len(allocations) < 6
    atoms.set_momenta(0.05 * np.random.default_rng(0).normal(size=(6, 3)))
    before = atoms.get_total_energy()
    ase.md.verlet.VelocityVerlet(atoms, 0.5 * units.fs).run(100)
    assert atoms.get_total_energy() == pytest.approx(before, abs=1e-4)
    assert len(traces) == calculator.compilations <= 2


def test_lists_follow_cell_and_wrapping():
    atoms = atoms_of(crystal())
    kept = JaxffCalculator(LJ, skin=0.5)
    rng = np.random.default_rng(0)
    for step in range(12):
        atoms.positions += 0.05 * rng.normal(size=(3, 3))
        atoms.set_cell(
            atoms.cell.array @ (np.eye(3) + 0.02 * rng.normal(size=(3, 3))), scale_atoms=True
        )
        if step == 5:
            atoms.wrap()
        fresh = JaxffCalculator(LJ)
        for name in ("forces", "stress"):
            np.testing.assert_allclose(
                kept.get_property(name, atoms), fresh.get_property(name, atoms), atol=1e-10
            )
    assert kept.compilations <= 4


def test_kernels_are_not_padded():
    """A potential for nine atoms and no others."""
    start = minimum()

    def nine(params, system, neighbors=None):
        if system.atom_count != 9:
            raise ValueError("nine atoms")
        return {"energy": 0.5 * jnp.sum((system.positions - start.positions) ** 2)}

    atoms = Atoms(start.numbers, start.positions + 0.1)
    atoms.calc = JaxffCalculator(bind(Potential(lambda *_: {}, nine), {}))
    np.testing.assert_allclose(atoms.get_forces(), -0.1, atol=1e-12)
    with pytest.raises(PropertyNotImplementedError, match="volume"):
        atoms.get_stress()


def test_charge_comes_from_info_and_from_nowhere_else():
    potential = capacitor()
    calculator = JaxffCalculator(bind(potential, {"hardness": jnp.asarray(1.5)}))
    atoms = atoms_of(molecule())
    atoms.calc = calculator
    with pytest.raises(ValueError, match=r"atoms.info\['charge'\]"):
        atoms.get_potential_energy()
    atoms.info["charge"] = 1
    one = atoms.get_potential_energy()
    atoms.info["charge"] = 2  # ASE alone would not notice
    assert atoms.get_potential_energy() == pytest.approx(4 * one)
    atoms.info["charge"] = np.array(1.0)
    assert atoms.get_potential_energy() == pytest.approx(one)
    atoms.info["charge"][...] = 2.0  # the same array
    assert atoms.get_potential_energy() == pytest.approx(4 * one)
    atoms.calc = JaxffCalculator(MORSE)
    with pytest.raises(ValueError, match="does not read it"):
        atoms.get_potential_energy()
    atoms.info["charge"] = 0
    atoms.get_potential_energy()


def test_a_failed_call_leaves_no_results():
    calculator = JaxffCalculator(bind(capacitor(), {"hardness": jnp.asarray(1.5)}))
    good, bad = atoms_of(molecule()), atoms_of(molecule())
    good.info["charge"], bad.info["charge"] = 1.0, np.inf
    calculator.calculate(good)
    for _ in range(2):
        with pytest.raises(FloatingPointError, match="not finite"):
            calculator.get_property("energy", bad)
    with pytest.raises(FloatingPointError, match="not finite"):
        calculator.calculate(bad)
    assert "energy" not in calculator.results


def test_parameters_are_those_of_the_start():
    params = {"hardness": jnp.asarray(1.5)}
    calculator = JaxffCalculator(bind(capacitor(), params))
    params["hardness"] = jnp.asarray(3.0)
    atoms = atoms_of(molecule())
    atoms.info["charge"] = 1.0
    expected = JaxffCalculator(bind(capacitor(), {"hardness": jnp.asarray(1.5)}))
    found = (c.get_property("energy", atoms) for c in (calculator, expected))
    assert next(found) == next(found)


def test_a_deep_copy_has_results_of_its_own():
    atoms = atoms_of(molecule())
    atoms.calc = JaxffCalculator(MORSE)
    energy = atoms.get_potential_energy()
    both = copy.deepcopy(atoms)
    assert both.calc is not atoms.calc
    assert both.calc.results["energy"] == energy
    both.positions[0] += 0.1
    assert both.get_potential_energy() != energy
    assert atoms.calc.results["energy"] == energy == atoms.get_potential_energy()


def test_the_dipole_of_a_molecule_and_that_of_a_crystal_which_has_none():
    """One calculator for both: the potential gives a dipole where there is one."""

    def apply(params, system, neighbors=None):
        outputs = {"energy": jnp.sum(system.positions**2)}
        if system.cell is None:
            outputs["dipole"] = jnp.sum(system.positions, axis=0)
        return outputs

    potential = Potential(lambda key, system, **named: {}, apply)
    calculator = JaxffCalculator(bind(potential, {}), outputs=["dipole"])
    single, solid = atoms_of(molecule()), atoms_of(crystal())
    np.testing.assert_allclose(
        calculator.get_property("dipole", single), single.positions.sum(axis=0), rtol=1e-12
    )
    assert np.isfinite(calculator.get_property("energy", solid))
    with pytest.raises(PropertyNotImplementedError, match=r"set atoms\.pbc"):
        calculator.get_property("dipole", solid)


@pytest.mark.parametrize(("name", "value"), [("multiplicity", 0), ("unpaired_electrons", 0.5)])
def test_spins_that_make_no_sense(name, value):
    atoms = atoms_of(molecule())
    atoms.info[name] = value
    with pytest.raises(ValueError, match=rf"{name}'\] must be a whole number from \d on, got"):
        JaxffCalculator(MORSE).get_property("energy", atoms)


def test_impossible_spins_are_named():
    potential = dataclasses.replace(capacitor(), uses=frozenset({"charge", "spin"}))
    calculator = JaxffCalculator(bind(potential, {"hardness": jnp.asarray(1.5)}))
    atoms = atoms_of(molecule())
    electrons = int(atoms.numbers.sum())
    atoms.info |= {"charge": 0, "unpaired_electrons": 1 - electrons % 2}
    with pytest.warns(UserWarning, match=rf"{electrons} electrons, of which .* cannot be"):
        calculator.get_property("energy", atoms)
    atoms.info["unpaired_electrons"] = electrons % 2
    calculator.get_property("energy", atoms)  # a warning would fail


def test_single_precision():
    atoms = atoms_of(molecule())
    single, double = JaxffCalculator(MORSE, dtype="float32"), JaxffCalculator(MORSE)
    a, b = (c.get_property("forces", atoms) for c in (single, double))
    assert 1e-12 < np.abs(a - b).max() < 1e-4


def test_a_refused_stress_leaves_the_calculator_usable():
    """Tools of ASE ask for a stress and go on without."""
    systems = kernel_models.crystal(2)
    made = gdml.potential(Kernel(smooth_images(systems), matern52))
    params = made.init(jax.random.key(0), systems, hyper={"lengthscale": 2.0})
    labels = {"forces": np.random.default_rng(0).normal(size=(2, 4, 3))}
    params, _ = gdml.fit(made, params, labels, solver=solvers.cholesky(), regularization=1e-6)
    calculator = JaxffCalculator(bind(made, params))
    first = jax.tree.map(lambda leaf: np.asarray(leaf[0]), systems)
    atoms = Atoms(first.numbers, first.positions, cell=first.cell, pbc=True, calculator=calculator)
    assert "stress" not in calculator.implemented_properties
    energy = atoms.get_potential_energy()
    with pytest.raises(PropertyNotImplementedError, match="Fit it to stress labels"):
        atoms.get_stress()
    atoms.positions[0, 0] += 0.01
    assert np.isfinite(atoms.get_potential_energy() - energy)
    atoms.set_cell(1.01 * atoms.cell.array)
    with pytest.raises(FloatingPointError, match="cell"):
        atoms.get_potential_energy()


def test_refuses():
    with pytest.raises(TypeError, match="energy function"):
        JaxffCalculator(3)
    with pytest.raises(ValueError, match="unknown outputs"):
        JaxffCalculator(MORSE, outputs=["magmoms"])
    with pytest.raises(ValueError, match="safetensors"):
        JaxffCalculator("model.pt")
    bad = JaxffCalculator(lambda system, neighbors=None: jnp.sum(jnp.log(system.positions)))
    with pytest.raises(FloatingPointError, match="not finite"):
        bad.get_property("energy", Atoms("H", [[-1.0, 0, 0]]))


def test_system_of_slabs_and_molecules():
    slab = Atoms("H", cell=[3, 3, 10], pbc=[True, True, False])
    assert isinstance(system_of(slab), System)
    assert system_of(slab).pbc.tolist() == [True, True, False]
    assert system_of(Atoms("H", cell=[3, 3, 3])).cell is None
    with pytest.raises(ValueError, match=r"atoms \[1\] have the atomic number 0"):
        system_of(Atoms("HX", positions=np.eye(3)[:2]))


@pytest.mark.slow
def test_kernels_with_lists_are_not_filled_up():
    case = kernel_models.WITH_LISTS["listed"]()
    energy_fn = bind(*kernel_models.random_params(case))
    system = jax.tree.map(lambda leaf: leaf[0], case.references)
    atoms = atoms_of(system)
    atoms.calc = JaxffCalculator(energy_fn, skin=0.3)
    lists = neighbor_list(energy_fn.cutoffs).allocate(system)
    assert np.isclose(atoms.get_potential_energy(), energy_fn(system, lists), rtol=1e-10)
