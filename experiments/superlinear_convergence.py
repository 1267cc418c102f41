"""Iterations, time and spectra of kernel systems against the rank of their preconditioner.

    python experiments/superlinear_convergence.py --cache FOLDER SYSTEM[:METHOD,...] ...

Systems: ``ethanol100``, the stored reference with n = 2700, and ``ethanol``, ``aspirin``,
``toluene``, ``uracil`` with n near 15 750 (MD17 labels, length scale 10, λ = 1e-10, residual 1e-4,
zero start) at the ranks of the published table. The methods ``spectrum`` (eigenvalues, effective
dimensions) and ``svd`` (exact leading eigenvectors) need a reduction of the dense matrix, a quarter
of an hour for n = 15 750, which is kept in the cache; ``svd_subspace`` takes the vectors from a
subspace instead. One record per system, method and fraction goes to
``superlinear_convergence.json``, where what is there is not done again; ``superlinear_report.py``
compares it with the published table and draws.

Reference: Blücher, Müller & Chmiela, J. Chem. Theory Comput. 19, 4619 (2023),
doi:10.1021/acs.jctc.2c01304.
"""

import argparse
import json
import os
import platform
import time
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import numpy as np
import superlinear_spectra as spectra

from jaxff.linalg import pivoting, preconditioners, solvers

FRACTIONS = (0.201, 0.105, 0.049, 0.0204, 0.0095)  # the dearest last
SMALL_FRACTIONS = (0.2, 0.1, 0.05, 0.025)
LAMBDA, RTOL = 1e-10, 1e-4
METHODS = (
    "uniform", "leverage", "random_pivoted_cholesky", "pivoted_cholesky", "truncated_cholesky",
    "leverage_recursive", "leverage_largest", "leverage_smallest",
)  # fmt: skip
RANKLESS = ("spectrum", "none", "block_jacobi")
LONG = {
    "pivoted_cholesky": lambda operator, most: pivoting.greedy(operator, most).factor,
    "random_pivoted_cholesky": lambda operator, most: (
        pivoting.randomly(operator, most, np.random.default_rng(0)).factor
    ),
    "svd_subspace": spectra.leading_factor,
}
RECORD = Path(__file__).with_suffix(".json")


def recipe(method, rank, most, operator, longest):
    """A preconditioner by name; long factors are made once for all ranks."""
    if method == "svd_dense":
        return preconditioners.svd(rank)
    if method == "block_jacobi":
        return preconditioners.block_jacobi()
    if method not in LONG:
        return preconditioners.nystroem(method, rank=rank, memory=1e10)
    if method not in longest:
        start = time.perf_counter()
        longest[method] = LONG[method](operator, most), time.perf_counter() - start
    return partial(spectra.shortened, longest[method][0], rank)


def iterate(operator, rhs, preconditioner):
    start = time.perf_counter()
    solve = solvers.conjugate_gradient(
        preconditioner=preconditioner, rtol=RTOL, max_iterations=5 * operator.size, restarts=0
    )
    found = solve(operator, rhs, np.full(operator.size, LAMBDA))
    return {
        "rank": found.rank, "iterations": found.iterations, "converged": found.converged,
        "residual": found.residual_norm, "seconds": found.seconds,
        "wall_s": time.perf_counter() - start, "load": os.getloadavg()[0],
    }  # fmt: skip


def records(system, methods, fractions, cache):
    """All that is asked for of one system, one by one."""
    operator, rhs = spectra.load(system)
    small, longest, decomposed = system == "ethanol100", {}, None
    most = round(max(fractions) * operator.size)
    for method, fraction in ((m, f) for f in fractions for m in methods):
        key = f"{system}|{method}|{fraction if method not in RANKLESS else ''}"
        if key in read():
            continue
        if method in ("spectrum", "svd", "none"):
            file = cache / f"{system}.npz"
            if not file.exists():
                start = time.perf_counter()
                values, projected = spectra.decompose(operator, rhs)
                seconds = time.perf_counter() - start
                np.savez(file, values=values, projected=projected, seconds=seconds)
            decomposed = np.load(file)
        rank = round(fraction * operator.size)
        if method == "spectrum":
            found = spectra.spectrum(decomposed["values"], decomposed["projected"], LAMBDA)
            found["wall_s"] = float(decomposed["seconds"])
        elif method in ("svd", "none"):
            turned, rank = spectra.Turned(decomposed["values"]), rank * (method == "svd")
            projected = np.asarray(turned.turn(jnp.asarray(decomposed["projected"])))
            found = iterate(turned, projected, partial(spectra.leading, rank))
            found["largest"] = 1.0 + float(turned.values[rank]) / LAMBDA
        else:
            made = recipe(method, rank, most, operator, longest)
            found = iterate(operator, rhs, made)
            if method in longest:
                found["long_factor_s"] = longest[method][1]
                found["long_rank"] = longest[method][0].shape[1]
            if small and (fraction == 0.1 or method == "svd_dense"):
                found["spectrum"] = spectra.after(operator, made, LAMBDA)
        yield key, {"equations": operator.size, **found}


def read():
    return json.loads(RECORD.read_text())["records"] if RECORD.exists() else {}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("systems", nargs="+", help="name, or name:method,method")
    parser.add_argument("--cache", type=Path, required=True, help="folder of the reductions")
    parser.add_argument("--fractions", type=float, nargs="+", help="k/n; default: as published")
    options = parser.parse_args()
    for system, _, names in (item.partition(":") for item in options.systems):
        methods = names.split(",") if names else METHODS
        usual = SMALL_FRACTIONS if system == "ethanol100" else FRACTIONS
        fractions = options.fractions or usual
        for key, found in records(system, methods, fractions, options.cache):
            print(key, found.get("iterations"), found["wall_s"], flush=True)
            record = {
                "lengthscale": spectra.SCALE, "regularization": LAMBDA, "rtol": RTOL,
                "records": read() | {key: found | {"date": date.today().isoformat()}},
                "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
                "versions": {p: version(p) for p in ("jaxff", "jax", "numpy", "scipy")},
            }  # fmt: skip
            RECORD.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
