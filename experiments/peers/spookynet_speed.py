"""Time the original SpookyNet through ASE: energies with forces, neighbours included.

    python spookynet_speed.py SYSTEM.xyz ... --weights parameters.pth --json OUT

Each call moves the atoms by about 0.01 Å, so that nothing is taken from a cache. Float32, one
thread; neutral, singlet; all pairs for electrostatics and dispersion. ``parameters.pth`` is that of
the repository OUnke/SpookyNet, whose package must be on the path, with torch and ASE.
"""

import argparse
import json
import os
import statistics
import sys
import time
import types
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"
os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

import numpy as np
import torch
from ase.io import read

torch.set_num_threads(1)
# Imported there for lists with a cutoff, which are not asked for here.
sys.modules["sklearn"] = types.ModuleType("sklearn")
sys.modules["sklearn.neighbors"] = types.ModuleType("sklearn.neighbors")
sys.modules["sklearn.neighbors"].BallTree = None  # type: ignore

from spookynet.spookynet_calculator import SpookyNetCalculator

PARSER = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
PARSER.add_argument("systems", nargs="+")
PARSER.add_argument("--weights", required=True)
PARSER.add_argument("--json", required=True)
PARSER.add_argument("--budget", type=float, default=5.0, help="seconds per system")
OPTIONS = PARSER.parse_args()


def median_cpu(function):
    for _ in range(3):
        function()
    times, end = [], time.perf_counter() + OPTIONS.budget
    while time.perf_counter() < end or len(times) < 5:
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return statistics.median(times)


def main():
    record = {}
    for path in OPTIONS.systems:
        atoms = read(path)
        atoms.info.clear()
        atoms.calc = SpookyNetCalculator(load_from=OPTIONS.weights, use_gpu=False)
        start, draw = atoms.positions.copy(), np.random.default_rng(0)

        def step(atoms=atoms, start=start, draw=draw):
            atoms.positions = start + draw.normal(0.0, 0.01, start.shape)
            return atoms.get_forces()

        seconds = median_cpu(step)
        atoms.positions = start
        energy = float(np.ravel(atoms.get_potential_energy())[0])
        record[Path(path).stem] = {"seconds": seconds, "energy": energy}
        print(path, record[Path(path).stem], flush=True)
    Path(OPTIONS.json).write_text(json.dumps(record))


if __name__ == "__main__":
    main()
