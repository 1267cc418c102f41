"""Iterations, time and spectra of kernel systems against the rank of their preconditioner.

    python experiments/superlinear_convergence.py --cache FOLDER SYSTEM[:METHOD,...] ...

Systems: ``ethanol100``, the stored reference with n = 2700, and ``ethanol``, ``aspirin``,
``toluene``, ``uracil`` with n near 15 750 (MD17 labels, length scale 10, λ = 1e-10, residual 1e-4,
zero start) at the ranks of the published table; ``aspirin/2`` has the frames of the second split.
The methods ``spectrum`` (eigenvalues, effective dimensions) and ``svd`` (exact leading
eigenvectors) need a reduction of the dense matrix, some minutes for n = 15 750, which is kept in
the cache. With ``--turned`` the others iterate in the
basis in which the reduction made the matrix banded: as often as in the first one, but for rounding,
and several times faster where iterations are many; ``svd_subspace`` takes leading eigenvectors
from a subspace instead. One record per system, method, fraction, basis and seed goes to
``superlinear_convergence.json``, where what is there is not done again unless ``--again`` says so;
``superlinear_report.py`` compares it with the published table and draws.

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
from superlinear_reduction import reduction

from jaxff.linalg import low_rank, pivoting, preconditioners, selection, solvers

FRACTIONS = (0.201, 0.105, 0.049, 0.0204, 0.0095)  # the dearest last
SMALL_FRACTIONS = (0.2, 0.1, 0.05, 0.025)
LAMBDA, RTOL = 1e-10, 1e-4
METHODS = (
    "uniform", "leverage", "random_pivoted_cholesky", "pivoted_cholesky", "truncated_cholesky",
    "leverage_recursive", "leverage_largest", "leverage_smallest",
)  # fmt: skip
RANKLESS = ("spectrum", "none", "block_jacobi")
LONG = ("pivoted_cholesky", "random_pivoted_cholesky", "svd_subspace")
RECORD = Path(__file__).with_suffix(".json")


def factor(method, rank, operator, seed):
    """L of the approximation L Lᵀ."""
    rng = np.random.default_rng(seed)
    if method == "pivoted_cholesky":
        return pivoting.greedy(operator, rank).factor
    if method == "random_pivoted_cholesky":
        return pivoting.randomly(operator, rank, rng).factor
    if method == "svd_subspace":
        return spectra.leading_factor(operator, rank)
    index = selection.RULES[method](operator, np.full(operator.size, LAMBDA), rank, rng)
    return low_rank.nystroem_factor(operator.columns(index), index)[0]


def recipe(method, rank, most, operator, seed, turn, longest):
    """A preconditioner by name, turned; long factors are made once for all ranks."""
    if method == "svd_dense":
        return preconditioners.svd(rank)
    if method == "block_jacobi":
        return preconditioners.block_jacobi()
    if method in LONG and method not in longest:
        start = time.perf_counter()
        longest[method] = factor(method, most, operator, seed), time.perf_counter() - start

    def build(_, diagonal, **__):
        if method in LONG:  # its first columns are those of a shorter one
            made = np.array(longest[method][0][:, :rank], order="F")
        else:
            made = factor(method, rank, operator, seed)
        built = low_rank.woodbury(made, diagonal)
        return built._replace(apply=jax.tree.map(turn, built.apply))

    return build


def iterate(operator, rhs, preconditioner):
    start, started = time.perf_counter(), time.process_time()
    solve = solvers.conjugate_gradient(
        preconditioner=preconditioner, rtol=RTOL, max_iterations=5 * operator.size, restarts=0
    )
    found = solve(operator, rhs, np.full(operator.size, LAMBDA))
    return {
        "rank": found.rank, "iterations": found.iterations, "converged": found.converged,
        "residual": found.residual_norm, "seconds": found.seconds,
        "wall_s": time.perf_counter() - start, "cpu_s": time.process_time() - started,
        "load": os.getloadavg()[0],
    }  # fmt: skip


def records(system, methods, fractions, cache, *, seed, turned, again):
    """All that is asked for of one system, one by one."""
    operator, rhs = spectra.load(system)
    small, longest = system == "ethanol100", {}
    most = round(max(fractions) * operator.size)
    where, turn = operator, jnp.asarray
    reduced = None
    if turned or {"spectrum", "svd", "none"} & set(methods):
        reduced = reduction(lambda: operator.dense().T, rhs, cache / system)
    if turned:
        where = spectra.Banded(reduced.band)
        turn = partial(spectra.turned, reduced, where)
        rhs = np.asarray(turn(rhs[None]))[0]
    tags = ("|turned" if turned else "") + (f"|seed {seed}" if seed else "")
    for method, fraction in ((m, f) for f in fractions for m in methods):
        key = f"{system}|{method}|{fraction if method not in RANKLESS else ''}{tags}"
        if key in read() and not again:
            continue
        rank = round(fraction * operator.size)
        if method == "spectrum":
            found = spectra.spectrum(reduced.values, reduced.projected, LAMBDA)
            found["wall_s"], found["eigenvalues_s"] = reduced.seconds.tolist()
        elif method in ("svd", "none"):
            diagonal, rank = spectra.Turned(reduced.values), rank * (method == "svd")
            projected = np.asarray(diagonal.turn(jnp.asarray(reduced.projected)))
            found = iterate(diagonal, projected, partial(spectra.leading, rank))
            found["largest"] = 1.0 + float(diagonal.values[rank]) / LAMBDA
        else:
            made = recipe(method, rank, most, operator, seed, turn, longest)
            found = iterate(where, rhs, made)
            if method in longest:
                long, found["long_factor_s"] = longest[method]
                found["long_rank"] = long.shape[1]
            if small and not tags and (fraction == 0.1 or method == "svd_dense"):
                found["spectrum"] = spectra.after(operator, made, LAMBDA)
        yield key, {"equations": operator.size, **found}


def read():
    return json.loads(RECORD.read_text())["records"] if RECORD.exists() else {}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("systems", nargs="+", help="name, or name:method,method")
    parser.add_argument("--cache", type=Path, required=True, help="folder of the reductions")
    parser.add_argument("--fractions", type=float, nargs="+", help="k/n; default: as published")
    parser.add_argument("--turned", action="store_true", help="in the basis of the banded form")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the random rules")
    parser.add_argument("--again", action="store_true", help="what is on record, too")
    options = parser.parse_args()
    for (system, _, names), seed in (
        (item.partition(":"), seed) for item in options.systems for seed in options.seeds
    ):
        methods = names.split(",") if names else METHODS
        usual = SMALL_FRACTIONS if system == "ethanol100" else FRACTIONS
        fractions = options.fractions or usual
        for key, found in records(
            system, methods, fractions, options.cache,
            seed=seed, turned=options.turned, again=options.again,
        ):  # fmt: skip
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
