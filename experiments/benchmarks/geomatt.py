"""Processor time of geometric attention: energy and forces of ethanol and aspirin, by orders.

    python experiments/benchmarks/geomatt.py REFERENCE

``REFERENCE`` is a folder with ``geomatt.npz``, from which the geometries are taken. Float32, the
sizes of the paper (128 features and filters, three layers). Each number is the least and the
median, over 30 blocks of 5 evaluations, of the processor time of one, in ms, all threads together:
wall time says little on a machine that others use. The record goes to ``geomatt.json``.
"""

import json
import os
import platform
import sys
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_cpu_enable_async_dispatch", False)

import numpy as np

from jaxff import System, bind, energy_and_forces
from jaxff.networks import geomatt


def measured(system, orders):
    potential = geomatt(orders=orders)
    params = jax.jit(lambda key: potential.init(key, system))(jax.random.key(0))
    energy_fn = bind(potential, params)
    evaluate = jax.jit(lambda f, s: energy_and_forces(f)(s)).lower(energy_fn, system).compile()
    times = []
    for _ in range(31):
        start = time.process_time()
        for _ in range(5):
            jax.block_until_ready(evaluate(energy_fn, system))
        times.append(1e3 * (time.process_time() - start) / 5)
    return {"least": round(min(times[1:]), 2), "median": round(float(np.median(times[1:])), 2)}


def main():
    record = {
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
        "versions": {name: version(name) for name in ("jaxff", "jax", "flax", "numpy")},
        "ms of processor time": {},
    }
    with np.load(Path(sys.argv[1]) / "geomatt.npz") as stored:
        for name in ("ethanol", "aspirin"):
            system = System(stored[f"{name}/R"], stored[f"{name}/Z"])
            for orders in ((2,), (2, 3), (2, 3, 4)):
                row = measured(system, orders)
                record["ms of processor time"][f"{name} {orders}"] = row
                print(name, orders, row, flush=True)
    Path(__file__).with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
