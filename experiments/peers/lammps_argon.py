"""Sample a Lennard-Jones fluid with LAMMPS, in reduced units, on one thread.

    python experiments/peers/lammps_argon.py START.npz nvt|npt RESULT.npz

START holds ``positions``, ``side``, ``timestep``, ``temperature``, ``pressure``, ``steps``,
``equilibration`` and ``every``; RESULT gets series of the potential and kinetic energy, pressure
and volume. NVT is Langevin dynamics, NPT the isotropic Martyna-Tobias-Klein barostat with
Nosé-Hoover chains, both of LAMMPS. Needs the Python packages
``lammps`` and, for its libraries, ``mpich``.
"""

import sys
import time

import numpy as np
from lammps_fluid import fluid

ENSEMBLES = {
    "nvt": "fix 1 all nve\nfix 2 all langevin {temperature} {temperature} 0.5 48279",
    "npt": "fix 1 all npt temp {temperature} {temperature} 0.25 iso {pressure} {pressure} 0.5",
}
NAMES = ("pe", "ke", "press", "vol")


def main():
    source, ensemble, target = sys.argv[1:]
    with np.load(source) as file:
        given = {name: file[name] for name in file.files}
    positions = given.pop("positions")
    given = {name: value.item() for name, value in given.items()}
    program = fluid(positions, given["side"], given["timestep"])
    commands = "velocity all create {temperature} 87287 mom yes\n"
    program.commands_string((commands + ENSEMBLES[ensemble] + "\nthermo 1000000").format(**given))
    program.command(f"run {given['equilibration']} post no")
    series, start = [], time.process_time()
    for _ in range(given["steps"] // given["every"]):
        program.command(f"run {given['every']} pre no post no")
        series.append([program.get_thermo(name) for name in NAMES])
    result = dict(zip(NAMES, np.transpose(series), strict=True))
    np.savez(
        target, **result, cpu_s=time.process_time() - start, version=np.array(program.version())
    )


if __name__ == "__main__":
    main()
