"""Graphene and benzene on graphene at 300 K by GFN1-xTB: data sets for kernels of crystals.

    python experiments/bigdml/generate.py graphene [FOLDER] [--frames 1000]
    python experiments/bigdml/generate.py benzene [FOLDER] [--frames 1000]

Langevin dynamics (1 fs, friction 0.01/fs) in 5 × 5 cells of graphene, 20 Å high, at the lattice
constant of least energy; a frame every 10 steps after 1000. The result, ``FOLDER/NAME.npz`` with
energies and forces in eV and Å (by default beside this script), is written every 10 frames
together with momenta and the state of the random numbers: stopped at any time, the same command
goes on. ``NAME_ideal.xyz`` holds the ideal structure and ``NAME.json`` what was measured on the
way. Needs ``tblite`` (the extra ``reference``). One step takes 0.2 to 0.5 seconds of one core.

Method: GFN1-xTB, Grimme, Bannwarth & Shushkov, J. Chem. Theory Comput. 13, 1989 (2017),
doi:10.1021/acs.jctc.7b00118, as implemented in tblite (https://github.com/tblite/tblite), at the Γ
point of the supercell.
"""

import argparse
import json
import os
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import ase.io
import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.md.langevin import Langevin
from ase.optimize import BFGS
from tblite.ase import TBLite

REPEATS, HEIGHT, DISTANCE = 5, 20.0, 3.3  # cells, Å, Å
KELVIN, TIMESTEP, FRICTION, STRIDE, BURN_IN, TOGETHER = 300.0, 1.0, 0.01, 10, 1000, 10
CONSTANTS = (2.43, 2.45, 2.47, 2.49)  # Å


def sheet(constant):
    cell = constant * np.array([[1, 0, 0], [-0.5, np.sqrt(0.75), 0], [0, 0, HEIGHT / constant]])
    unit = Atoms("C2", cell=cell, pbc=True)
    unit.set_scaled_positions([[1 / 3, 2 / 3, 0.5], [2 / 3, 1 / 3, 0.5]])
    return unit.repeat((REPEATS, REPEATS, 1))


def engine():
    return TBLite(method="GFN1-xTB", verbosity=0, cache_api=True)


def energy_of(atoms):
    atoms.calc = engine()
    return atoms.get_potential_energy()


def start(name):
    """The ideal structure; benzene lies flat, one carbon above the middle of a ring."""
    energies = [energy_of(sheet(constant)) for constant in CONSTANTS]
    curvature, slope, _ = np.polyfit(CONSTANTS, energies, 2)
    constant = -slope / (2 * curvature)
    atoms = sheet(constant)
    about = {"constants_ang": CONSTANTS, "energies_ev": energies, "constant_ang": constant}
    if name == "benzene":
        guest = molecule("C6H6")
        guest.positions += atoms.positions[24] + [0.0, 0.0, DISTANCE]
        atoms += guest
        atoms.calc = engine()
        BFGS(atoms, logfile=None).run(fmax=0.02, steps=200)
    return atoms, about


def resumed(path, name):
    """Atoms with momenta, random numbers, frames so far, and what was measured at the start."""
    rng = np.random.default_rng(0)
    if path.exists():
        stored = dict(np.load(path))
        atoms = ase.io.read(path.with_name(f"{name}_ideal.xyz"))
        atoms.positions, momenta = stored["last_positions"], stored["last_momenta"]
        atoms.set_momenta(momenta)
        rng.bit_generator.state = json.loads(str(stored["random_state"]))
        frames = [list(stored[key]) for key in "REF"]
        return atoms, rng, frames, json.loads(path.with_suffix(".json").read_text())
    atoms, about = start(name)
    ase.io.write(path.with_name(f"{name}_ideal.xyz"), atoms, write_results=False)
    spread = np.sqrt(atoms.get_masses() * units.kB * KELVIN)[:, None]
    atoms.set_momenta(spread * rng.standard_normal(atoms.positions.shape))
    return atoms, rng, [[], [], []], {**about, "seconds": 0.0}


def save(path, atoms, rng, frames, about):
    places, energies, forces = (np.array(each) for each in frames)
    part = path.with_name(f"part_{path.name}")
    np.savez_compressed(
        part, type="d", name=path.stem, theory="GFN1-xTB (tblite)", z=atoms.numbers,
        R=places, E=energies, F=forces, lattice=atoms.cell.array.T, r_unit="Ang", e_unit="eV",
        last_positions=atoms.positions, last_momenta=atoms.get_momenta(),
        random_state=json.dumps(rng.bit_generator.state),
    )  # fmt: skip
    path.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n")
    part.replace(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", choices=["graphene", "benzene"])
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).resolve().parent)
    parser.add_argument("--frames", type=int, default=1000)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    path = options.folder / f"{options.name}.npz"
    began = time.perf_counter()
    atoms, rng, frames, about = resumed(path, options.name)
    about |= {
        "date": date.today().isoformat(), "kelvin": KELVIN, "timestep_fs": TIMESTEP,
        "friction_per_fs": FRICTION, "stride": STRIDE, "burn_in": BURN_IN,
        "versions": {p: version(p) for p in ("tblite", "ase", "numpy")},
    }  # fmt: skip
    atoms.calc = engine()
    # With fixcm=False ASE samples the canonical ensemble; the drift does no harm.
    dynamics = Langevin(
        atoms, TIMESTEP * units.fs, temperature_K=KELVIN, friction=FRICTION / units.fs,
        fixcm=False, rng=rng,
    )  # fmt: skip
    if not frames[0]:
        dynamics.run(BURN_IN)
    while len(frames[0]) < options.frames:
        for _ in range(min(TOGETHER, options.frames - len(frames[0]))):
            dynamics.run(STRIDE)
            found = (atoms.positions.copy(), atoms.get_potential_energy(), atoms.get_forces())
            for each, value in zip(frames, found, strict=True):
                each.append(value)
        now = time.perf_counter()
        about["seconds"], began = about["seconds"] + now - began, now
        about["frames"], about["temperature_k"] = len(frames[0]), atoms.get_temperature()
        save(path, atoms, rng, frames, about)
        print(f"{len(frames[0])} frames, {about['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
