"""Does single precision pay in iterative kernel fits on a CPU?  Ethanol of revised MD17.

    JAXFF_DATA=FOLDER python experiments/benchmarks/mixed_precision.py [--count 500]

Products of the kernel matrix in float64 and with the work on pairs in float32, and whole solves
with ``conjugate_gradient(product=...)`` at several regularizations, with the same preconditioner.
Printed, and written to ``mixed_precision.json`` beside this script.  Times are those of the CPU.
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

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)

from jaxff.descriptors import inverse_distances
from jaxff.gdml.operator import GdmlOperator
from jaxff.kernels import Kernel, matern52, permutations
from jaxff.linalg import preconditioners, solvers
from jaxff.system import System

LENGTHSCALE, RTOL = 20.0, 1e-4
CASES = ((1e-10, 400), (1e-8, 400), (1e-6, 400), (1e-6, 30))
"""Regularizations and columns of the preconditioner."""


def load(path, count):
    """Operator of the first frames of a standard split, and the scaled forces."""
    with np.load(path, allow_pickle=False) as file:
        index = file["split_train_01"][:count]
        systems, forces = System(file["R"][index], file["z"]), file["F"][index]
    kernel = Kernel(inverse_distances, matern52, permutations.recover(systems))
    operator = GdmlOperator(kernel, {"lengthscale": jnp.asarray(LENGTHSCALE)}, systems)
    return operator, np.ravel(forces / forces.std())


def product_seconds(operator, vector, repeats=20):
    """Best CPU time of a product."""
    best = np.inf
    for _ in range(repeats):
        start = time.process_time()
        jax.block_until_ready(operator.matvec(vector))
        best = min(best, time.process_time() - start)
    return best


def products(operator):
    vector = jnp.asarray(np.random.default_rng(0).normal(size=operator.size))
    wrong = operator.lowered().matvec(vector) - operator.matvec(vector)
    return {
        "float64_s": product_seconds(operator, vector),
        "float32_s": product_seconds(operator.lowered(), vector),
        "error_over_vector": float(jnp.linalg.norm(wrong) / jnp.linalg.norm(vector)),
        "error_over_product": float(
            jnp.linalg.norm(wrong) / jnp.linalg.norm(operator.matvec(vector))
        ),
    }


def solve(operator, rhs, regularization, rank, product):
    recipe = preconditioners.nystroem("leverage", rank=rank)
    watched = []
    solver = solvers.conjugate_gradient(
        preconditioner=recipe, rtol=RTOL, product=product, max_iterations=3000,
        callback=lambda state: watched.append((state.stage, time.process_time())),
    )  # fmt: skip
    found = solver(operator, rhs, np.full(operator.size, regularization))
    end = time.process_time()
    begin = next(at for stage, at in watched if stage == "iterations")
    return {
        "iterations": found.iterations, "residual": found.residual_norm,
        "converged": found.converged, "rank": found.rank, "method": found.method,
        "iterating_cpu_s": end - begin,
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=os.environ.get("JAXFF_DATA", "../shared/data"))
    parser.add_argument("--count", type=int, default=500)
    options = parser.parse_args()
    path = Path(options.data, "rmd17", "rmd17_ethanol.npz")
    operator, rhs = load(path, options.count)
    record = {
        "date": date.today().isoformat(),
        "load": os.getloadavg()[0],
        "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
        "versions": {name: version(name) for name in ("jax", "numpy", "scipy")},
        "ethanol": {
            "references": operator.count, "equations": operator.size, "rtol": RTOL,
            "permutations": operator.kernel.order, "lengthscale": LENGTHSCALE,
        },
        "product": products(operator),
        "solves": {},
    }  # fmt: skip
    for regularization, rank in CASES:
        record["solves"][f"{regularization:g}, {rank} columns"] = {
            product: solve(operator, rhs, regularization, rank, product)
            for product in ("float64", "float32")
        }
    text = json.dumps(record, indent=1)
    print(text)
    Path(__file__).with_suffix(".json").write_text(text + "\n")


if __name__ == "__main__":
    main()
