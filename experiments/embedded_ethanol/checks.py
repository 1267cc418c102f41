"""What ``generate.py`` measures on its data: nothing here changes them."""

import tempfile

import numpy as np
from ase import units
from ase.data import covalent_radii
from ase.vibrations import Vibrations

BONDS = ((0, 1), (1, 2), (2, 3), (1, 4), (1, 5), (0, 6), (0, 7), (0, 8))
TOUCHING = 1.4  # times the sum of covalent radii: below it a pair counts as bonded


def intact(frames, numbers):
    """Longest bond and closest contact over the sum of covalent radii; stops if a bond changed."""
    i, j = np.triu_indices(len(numbers), 1)
    radii = covalent_radii[numbers]
    ratio = np.linalg.norm(frames[:, i] - frames[:, j], axis=-1) / (radii[i] + radii[j])
    bonded = np.array([pair in BONDS for pair in zip(i.tolist(), j.tolist(), strict=True)])
    longest, closest = ratio[:, bonded].max(), ratio[:, ~bonded].min()
    if longest > TOUCHING or closest < TOUCHING:
        raise SystemExit(f"a molecule is not intact: {longest=}, {closest=}")
    return {"longest_bond_ratio": longest, "closest_contact_ratio": closest}


def dihedrals(frames, atoms):
    """Dihedral angles in degrees, [0, 360)."""
    a, b, c = (frames[:, atoms[k + 1]] - frames[:, atoms[k]] for k in range(3))
    n, m = np.cross(a, b), np.cross(b, c)
    sine = np.sum(n * c, -1) * np.linalg.norm(b, axis=-1)
    return np.degrees(np.arctan2(sine, np.sum(n * m, -1))) % 360


def sampling(frames, energies, forces, minimum_energy, temperature):
    """Wells visited, correlation of successive frames, and two measures of the temperature.

    In the canonical ensemble the mean of -sum(F . R) is n kT exactly, n = 3 atoms - 3.
    """
    excess = energies - minimum_energy
    centred = excess - excess.mean()
    virial = -np.sum(forces * frames, axis=(1, 2)) / ((frames[0].size - 3) * units.kB)
    methyl = (dihedrals(frames, (2, 1, 0, 6)) // 120).astype(int)  # staggered: 60, 180, 300
    hydroxyl = (dihedrals(frames, (0, 1, 2, 3)) // 120).astype(int)  # gauche, trans, gauche
    return {
        "temperature_K": temperature,
        "frames": len(frames),
        "mean_energy_above_minimum_eV": excess.mean(),
        "energy_range_eV": [excess.min(), excess.max()],
        "largest_force_component_eV_A": np.abs(forces).max(),
        "virial_temperature_K": virial.mean(),
        "virial_temperature_standard_error_K": virial.std() / np.sqrt(len(frames)),
        "energy_correlation_of_successive_frames": np.mean(centred[1:] * centred[:-1])
        / np.mean(centred**2),
        "methyl_wells": np.bincount(methyl, minlength=3).tolist(),
        "methyl_jumps_between_frames": int(np.sum(methyl[1:] != methyl[:-1])),
        "hydroxyl_wells_gauche_trans_gauche": np.bincount(hydroxyl, minlength=3).tolist(),
    }


def force_error(label, frames, forces, numbers, step=1e-3):
    """Largest |F + dE/dR| in eV/Å over all components, four-point central differences."""
    largest = 0.0
    for positions, force in zip(frames, forces, strict=True):
        shifts = step * np.eye(positions.size).reshape(-1, *positions.shape)
        plus, minus, far, opposite = (
            label(positions + k * shifts, numbers)[0] for k in (1, -1, 2, -2)
        )
        slope = (8 * (plus - minus) - (far - opposite)) / (12 * step)
        largest = max(largest, np.abs(slope + force.ravel()).max())
    return largest


def ase_frequencies(atoms):
    """The frequencies by ASE's own displacements and diagonalisation, without projection."""
    with tempfile.TemporaryDirectory() as folder:
        vibrations = Vibrations(atoms, name=f"{folder}/vib", delta=0.005, nfree=4)
        vibrations.run()
        return np.sort(vibrations.get_frequencies().real)[6:]
