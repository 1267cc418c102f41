"""Compute the ethanol data set that ships with the package (``jaxff/data/embedded/``).

Frames come from Langevin dynamics at four temperatures with GFN2-xTB; their energies and forces are
computed again at tightened accuracy, at exactly the stored positions. The lowest minimum (for GFN2
the gauche conformer, not trans) is stored with its Hessian and its harmonic frequencies.
What was measured on the way is written to ``generate.json`` beside this file.

Run ``OMP_NUM_THREADS=1 python experiments/embedded_ethanol/generate.py`` (one core, about 20 min)
with the ``reference`` extra (``ase``, ``tblite``). The seed is fixed. Given the positions, the
labels come out the same to about 1e-9 (``tests/data/test_embedded.py`` computes some again);
dynamics is chaotic, so the positions do so only where the floating-point arithmetic is the same,
and are otherwise another draw from the same ensemble.

Method: GFN2-xTB, Bannwarth, Ehlert, Grimme, J. Chem. Theory Comput. 15, 1652 (2019),
doi:10.1021/acs.jctc.8b01176, as implemented in tblite (https://github.com/tblite/tblite,
LGPL-3.0-or-later; used as a program, nothing of it is copied). The numbers were computed for this
project and carry its licence, Apache-2.0.
"""

import hashlib
import json
import tempfile
from importlib.metadata import version
from pathlib import Path

import checks
import numpy as np
from ase import units
from ase.md.langevin import Langevin
from minimum import SEED, engine, label, minimum_record, relaxed

STRIDES = {300.0: 150, 500.0: 100, 750.0: 100, 1000.0: 100}  # K: steps from frame to frame
FRAMES, BURN_IN = 500, 10_000  # frames per temperature; steps
TIMESTEP, FRICTION = 0.5, 0.02  # fs, 1/fs
POSITION_GRID, FORCE_GRID = 2.0**27, 2.0**30  # 7e-9 Å, 9e-10 eV/Å: binary, so that zip packs them
HERE = Path(__file__).parent
OUTPUT = HERE.parents[1] / "jaxff" / "data" / "embedded" / "ethanol_gfn2.npz"
CHECKPOINTS = Path(tempfile.gettempdir()) / "jaxff_embedded_ethanol"


def sample(start, temperature, stride, index):
    """Positions (FRAMES, atoms, 3) from one trajectory, after BURN_IN steps."""
    settings = f"{SEED} {temperature} {FRAMES} {stride} {BURN_IN} {TIMESTEP} {FRICTION}"
    checkpoint = CHECKPOINTS / f"{settings.replace(' ', '_')}.npy"
    if checkpoint.exists():
        return np.load(checkpoint)
    rng = np.random.default_rng([SEED, index])
    atoms = start.copy()
    atoms.calc = engine(1.0)
    spread = np.sqrt(atoms.get_masses() * units.kB * temperature)[:, None]
    atoms.set_momenta(spread * rng.standard_normal(atoms.positions.shape))
    dynamics = Langevin(
        atoms,
        TIMESTEP * units.fs,
        temperature_K=temperature,
        friction=FRICTION / units.fs,
        fixcm=False,  # ASE's fixcm=True does not sample the canonical ensemble of a small molecule
        rng=rng,
    )
    dynamics.run(BURN_IN)
    frames = []
    for _ in range(FRAMES):
        dynamics.run(stride)
        frames.append(atoms.positions - atoms.get_center_of_mass())
    CHECKPOINTS.mkdir(exist_ok=True)
    np.save(checkpoint, frames)
    return np.array(frames)


def dataset(numbers, positions, energies, forces):
    """The keys of an sGDML data set; its fingerprint is an md5 of the md5s of z, R, E, F."""
    arrays = {"z": numbers, "R": positions, "E": energies, "F": forces}
    digests = b"".join(hashlib.md5(np.ravel(a).tobytes()).digest() for a in arrays.values())
    for key in ("E", "F"):
        for name in ("min", "max", "mean", "var"):
            arrays[f"{key}_{name}"] = getattr(np, name)(arrays[key])
    texts = {"type": "d", "code_version": "jaxff", "name": "ethanol", "r_unit": "Ang"}
    texts |= {"theory": "GFN2-xTB (tblite)", "e_unit": "eV"}
    return arrays | texts | {"md5": hashlib.md5(digests).hexdigest().encode()}


def main():
    start = relaxed(60.0)
    minimum, evidence = minimum_record(start)
    runs = [sample(start, *run, i) for i, run in enumerate(STRIDES.items())]
    positions = np.round(np.concatenate(runs) * POSITION_GRID) / POSITION_GRID
    energies, forces = label(positions, start.numbers)
    forces = np.round(forces * FORCE_GRID) / FORCE_GRID
    parts = [slice(i * FRAMES, (i + 1) * FRAMES) for i in range(len(STRIDES))]
    some = slice(FRAMES // 4, None, FRAMES // 2)  # two frames of each temperature
    record = {
        "versions": {name: version(name) for name in ("numpy", "ase", "tblite")},
        "minimum": evidence,
        "intact": checks.intact(positions, start.numbers),
        "force_error_eV_A": checks.force_error(label, positions[some], forces[some], start.numbers),
        "largest_net_force_eV_A": np.abs(forces.sum(axis=1)).max(),
        "sampling": [
            checks.sampling(positions[p], energies[p], forces[p], minimum["minimum_E"], t)
            for p, t in zip(parts, STRIDES, strict=True)
        ],
    }
    np.savez_compressed(
        OUTPUT,
        **dataset(start.numbers, positions, energies, forces),
        **minimum,
        temperature=np.repeat(list(STRIDES), FRAMES),
    )
    record["file_bytes"] = OUTPUT.stat().st_size
    (HERE / "generate.json").write_text(json.dumps(record, indent=1, default=float) + "\n")


if __name__ == "__main__":
    main()
