"""Time descriptors and their forces, one geometry at a time.

    python experiments/benchmarks/descriptors.py [--molecules ethanol aspirin] [--data FOLDER]

An evaluation is the features of one geometry; a force call is the gradient of a fixed weighted sum
of them by reverse mode, what a model on top of them needs at least. Molecules are given without
lists (all pairs). Compilation is timed apart. The record is printed and written to
``descriptors.json`` beside this script.
"""

import argparse
import json
import os
import platform
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
os.environ.update(dict.fromkeys(THREADS, "1"))  # before NumPy is imported
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import jax
import jax.numpy as jnp
import numpy as np

from jaxff import descriptors
from jaxff.system import System

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ELEMENTS = (1, 6, 7, 8)
REPEATS, SECONDS = 15, 0.05


def cases(system):
    """Descriptors with their usual settings, and hyperparameters."""
    acsf = {
        "g2": [(eta, 0.0) for eta in (0.05, 0.4, 1.0, 4.0)],
        "g4": [(0.05, zeta, sign) for zeta in (1, 4) for sign in (-1, 1)],
    }
    return {
        "inverse_distances": (descriptors.inverse_distances, {}),
        "distance_powers": (descriptors.distance_powers, {"power": jnp.asarray(-2.0)}),
        "internal": (descriptors.internal_from_geometry(system), {}),
        "coulomb_matrix": (descriptors.coulomb_matrix, {}),
        "coulomb_eigenvalues": (descriptors.coulomb_eigenvalues(), {}),
        "acsf": (descriptors.acsf(ELEMENTS, 6.0, **acsf), {}),
        "ani_1x": (descriptors.ani_1x(), {}),
        "soap": (
            descriptors.soap(ELEMENTS, 5.0, radial_functions=8, max_degree=6, width=0.5), {},
        ),
        "bessel_power_spectrum": (descriptors.bessel_power_spectrum(ELEMENTS, 3.5, 4), {}),
        "fchl19": (descriptors.fchl19(ELEMENTS), {}),
    }  # fmt: skip


def timed(function, *args):
    """Compile time in s, and the best mean time of a call in ms."""
    start = time.perf_counter()
    jax.block_until_ready(function(*args))
    compile_s = time.perf_counter() - start
    best = np.inf
    for _ in range(REPEATS):
        calls, start = 0, time.perf_counter()
        while time.perf_counter() - start < SECONDS:
            jax.block_until_ready(function(*args))
            calls += 1
        best = min(best, (time.perf_counter() - start) / calls)
    return compile_s, 1e3 * best


def measure(descriptor, hyper, system):
    def features(positions):
        return descriptor(system.replace(positions=positions), **hyper)

    shape = jax.eval_shape(features, system.positions).shape
    weights = jnp.asarray(np.random.default_rng(0).normal(size=shape))
    record = {"features": list(shape)}
    evaluate = jax.jit(features)
    force = jax.jit(jax.grad(lambda r: -jnp.sum(weights * features(r))))
    for name, function in (("evaluation", evaluate), ("force", force)):
        compile_s, call_ms = timed(function, system.positions)
        record[name] = {"compile_s": round(compile_s, 2), "call_ms": float(f"{call_ms:.3g}")}
    return record


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--molecules", nargs="+", default=["ethanol", "aspirin"])
    parser.add_argument("--data", default=os.environ.get("JAXFF_DATA", ROOT / "../shared/data"))
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    record = {
        "date": date.today().isoformat(), "load": os.getloadavg()[0],
        "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
        "versions": {p: version(p) for p in ("jaxff", "jax", "numpy")},
    }  # fmt: skip
    for molecule in options.molecules:
        path = Path(options.data, "rmd17", f"rmd17_{molecule}.npz").resolve()
        with np.load(path, allow_pickle=False) as file:
            system = System(np.asarray(file["R"][0], float), file["z"])
        record[molecule] = {}
        for name, (descriptor, hyper) in cases(system).items():
            record[molecule][name] = measure(descriptor, hyper, system)
    record["load_after"] = os.getloadavg()[0]
    text = json.dumps(record, indent=1)
    (HERE / "descriptors.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
