"""GFN2-xTB through tblite at tight accuracy: labels, the minimum, its Hessian and frequencies."""

import checks
import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.optimize import BFGS
from tblite.ase import TBLite

SEED = 20
# tblite's accuracy factor for every stored number; the dynamics runs at the default, 1.
TIGHT = 1e-6
HESSIAN_STEPS = (1e-2, 5e-3, 2.5e-3, 1e-3, 5e-4)  # Å, the step study
HESSIAN_STEP = 1e-3  # Å, the one that is stored


def engine(accuracy):
    return TBLite(method="GFN2-xTB", accuracy=accuracy, verbosity=0)


def label(frames, numbers):
    """Energies (eV) and forces (eV/Å) at tight accuracy, each from a cold start of the engine."""
    results = []
    for positions in frames:
        atoms = Atoms(numbers, positions, calculator=engine(TIGHT))
        results.append((atoms.get_potential_energy(), atoms.get_forces()))
    return np.array([e for e, _ in results]), np.array([f for _, f in results])


def relaxed(dihedral):
    """Ethanol relaxed to 1e-6 eV/Å from a given C-C-O-H angle; the rattle breaks mirrors."""
    atoms = molecule("CH3CH2OH")  # C C O H(O) H H (CH2) H H H (CH3): the atom order of MD17
    atoms.set_dihedral(0, 1, 2, 3, dihedral, indices=[3])
    atoms.rattle(0.01, seed=SEED)
    atoms.calc = engine(TIGHT)
    if not BFGS(atoms, logfile=None).run(fmax=1e-6, steps=1000):
        raise SystemExit("the relaxation did not converge")
    atoms.positions -= atoms.get_center_of_mass()
    return atoms


def raw_hessian(positions, numbers, step):
    """Central differences of forces, four points (error of order step^4), not symmetrised."""
    shifts = step * np.eye(positions.size).reshape(-1, *positions.shape)
    one, minus_one, two, minus_two = (
        label(positions + k * shifts, numbers)[1] for k in (1, -1, 2, -2)
    )
    derivative = (8 * (one - minus_one) - (two - minus_two)) / (12 * step)
    return -derivative.reshape(positions.size, -1)


def frequencies(hessian, positions, masses):
    """Harmonic frequencies in cm^-1, ascending, with translations and rotations projected out."""
    root = np.repeat(np.sqrt(masses), 3)
    axes = np.eye(3)
    rigid = [np.tile(axis, len(masses)) for axis in axes]
    rigid += [np.cross(axis, positions).ravel() for axis in axes]
    internal = np.linalg.svd(np.stack(rigid) * root)[2][6:]  # orthonormal complement
    values = np.linalg.eigvalsh(internal @ (hessian / np.outer(root, root)) @ internal.T)
    if values.min() <= 0:
        raise SystemExit("not a minimum")
    return np.sqrt(values) * units._hbar * 1e10 / np.sqrt(units._e * units._amu) / units.invcm


def minimum_record(atoms):
    """The minimum's entries of the file, and the evidence for them."""
    raw = {step: raw_hessian(atoms.positions, atoms.numbers, step) for step in HESSIAN_STEPS}
    stored = (raw[HESSIAN_STEP] + raw[HESSIAN_STEP].T) / 2
    waves = frequencies(stored, atoms.positions, atoms.get_masses())
    energy, trans = atoms.get_potential_energy(), relaxed(180.0).get_potential_energy()
    arrays = {"R": atoms.positions, "E": energy, "H": stored}
    evidence = {
        "largest_force_eV_A": np.linalg.norm(atoms.get_forces(), axis=1).max(),
        "trans_conformer_energy_above_eV": trans - energy,
        "hessian_step_A": HESSIAN_STEP,
        "hessian_asymmetry_by_step": {h: np.abs(m - m.T).max() for h, m in raw.items()},
        "hessian_change_by_step": {h: np.abs((m + m.T) / 2 - stored).max() for h, m in raw.items()},
        "frequencies_cm": waves.tolist(),
        "frequencies_change_by_ase_vibrations_cm": np.abs(
            waves - checks.ase_frequencies(atoms)
        ).max(),
    }
    return {f"minimum_{k}": v for k, v in arrays.items()} | {"frequencies_cm": waves}, evidence
