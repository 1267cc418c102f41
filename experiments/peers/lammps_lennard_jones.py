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
from lammps_fluid import fluid


def main():
    with np.load(sys.argv[1]) as file:
        start = dict(file)
    program = fluid(start["positions"], start["side"], start["timestep"], start["velocities"])
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
