"""Time ASE's velocity Verlet with the calculator of the package ``sgdml`` 1.0.3, on one thread.

    python sgdml_dynamics.py MODEL START.npz [--steps 500] [--json OUT]

MODEL is a model in the format of sgdml (kcal/mol, Å); START holds ``positions`` (Å), ``velocities``
(Å/fs) and ``numbers``. Run it with the Python of an environment that holds sgdml, its torch and
ASE. All predictors of the package are tried, each at several settings, and what
``prepare_parallel`` chooses; the fastest counts.
"""

import argparse
import json
import os
import time

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"
os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

import numpy as np
import torch
from ase import Atoms, units
from ase.md.verlet import VelocityVerlet
from sgdml.intf.ase_calc import SGDMLCalculator
from sgdml.predict import GDMLPredict

PARSER = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
PARSER.add_argument("model")
PARSER.add_argument("start")
PARSER.add_argument("--steps", type=int, default=500)
PARSER.add_argument("--json")
OPTIONS = PARSER.parse_args()
TIMESTEP = 0.5  # fs


def calculators(model):
    """Name, and a calculator whose predictor runs in this process."""
    yield "torch", SGDMLCalculator(OPTIONS.model, use_torch=True)
    calculator = SGDMLCalculator(OPTIONS.model)
    calculator.gdml_predict = fast = GDMLPredict(model, max_processes=1)
    for chunk in (0, fast.n_train, max(fast.n_train // 2, 1), 100):
        fast._set_num_workers(0)
        fast._set_chunk_size(chunk) if chunk else fast.prepare_parallel(n_bulk=1)
        yield f"numpy, chunk {fast.chunk_size}" + " as chosen" * (not chunk), calculator


def speed(calculator, start, steps):
    atoms = Atoms(numbers=start["numbers"], positions=start["positions"], calculator=calculator)
    atoms.set_velocities(start["velocities"] / units.fs)
    dynamics = VelocityVerlet(atoms, timestep=TIMESTEP * units.fs)
    dynamics.run(20)
    energy = np.ravel(atoms.get_total_energy())[0]
    wall, cpu = time.perf_counter(), time.process_time() + sum(os.times()[2:4])
    dynamics.run(steps)
    cpu = time.process_time() + sum(os.times()[2:4]) - cpu
    return {
        "wall_s": time.perf_counter() - wall, "cpu_s": cpu, "steps_per_cpu_s": steps / cpu,
        "energy_change_mev": 1000 * float(np.ravel(atoms.get_total_energy())[0] - energy),
    }  # fmt: skip


def main():
    torch.set_num_threads(1)
    with np.load(OPTIONS.model, allow_pickle=True) as file:
        model = dict(file)
    start = dict(np.load(OPTIONS.start))
    record = {}
    for name, calculator in calculators(model):
        few = speed(calculator, start, OPTIONS.steps // 10)
        # A setting that is far too slow is not timed for long.
        slow = few["steps_per_cpu_s"] < 0.5 * max(
            (found["steps_per_cpu_s"] for found in record.values()), default=0.0
        )
        record[name] = few if slow else speed(calculator, start, OPTIONS.steps)
    text = json.dumps(record)
    if OPTIONS.json:
        with open(OPTIONS.json, "w") as file:
            file.write(text)
    print(text)


if __name__ == "__main__":
    main()
