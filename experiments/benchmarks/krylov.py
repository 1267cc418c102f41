"""A fit by conjugate gradients beside both solvers of sgdml 1.0.3, on one thread of one core.

    python experiments/benchmarks/krylov.py [--peer-python PATH] [--train 1000] [--rounds 1]

MD17 ethanol on the first rMD17 split, length scale 20, the group of six permutations given to both
sides. Ours (reading, compilation, preconditioner, iterations, the constant of the energy) is timed
in a process of its own; of sgdml (``experiments/peers/sgdml_reference.py``, run by the Python at
PATH) the task and the training, dense and iterative, in NumPy and PyTorch. Test errors are those on
the 1000 test frames. The speed of the product with the matrix is compared with that of XLA's own
matrix product. The record goes to ``krylov.json``.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
os.environ.update(dict.fromkeys(THREADS, "1"))
os.environ["XLA_FLAGS"] = (
    "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1 "
    + os.environ.get("XLA_FLAGS", "")
)
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import numpy as np

import jaxff
from jaxff import bind, energy_and_forces, gdml, units
from jaxff.descriptors import inverse_distances
from jaxff.gdml.operator import GdmlOperator
from jaxff.kernels import Kernel, matern52, permutations
from jaxff.linalg import preconditioners, solvers
from jaxff.linalg.memory import peak_bytes

HERE = Path(__file__).resolve().parent
PEER = HERE.parent / "peers" / "sgdml_reference.py"
SCALE, REGULARIZATION = 20.0, 1e-10
KCAL = units.to_ev("kcal/mol")


def load(path, count):
    data = jaxff.data.npz.read(path, energy_key="E_md17", forces_key="F_md17")
    return data, data[data.splits["split_train_01"][:count]], data[data.splits["split_test_01"]]


def median_cpu(function, repeats=7):
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return statistics.median(times)


def fit(options):
    """Ours, in this process."""
    start = time.perf_counter(), time.process_time()
    _, frames, test = load(options.data, options.train)
    kernel = Kernel(inverse_distances, matern52, np.load(options.group)["perms"])
    potential = gdml.potential(kernel)
    params = potential.init(jax.random.key(0), frames.systems, hyper={"lengthscale": SCALE})
    recipe = preconditioners.nystroem(options.columns, rank=options.rank or "auto")
    params, info = gdml.fit(
        potential, params, frames.labels("forces"), regularization=REGULARIZATION,
        solver=solvers.conjugate_gradient(preconditioner=recipe),
    )  # fmt: skip
    params, _ = gdml.fit_constant(potential, params, frames.values["energy"])
    wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
    predict = jax.jit(lambda energy_fn, systems: energy_and_forces(energy_fn)(systems))
    energy, force = predict(bind(potential, params), test.systems)
    found = {"energy": energy, "forces": force}
    return {
        "wall_s": wall, "cpu_s": cpu, "equations": info.size, "rank": info.rank,
        "iterations": info.iterations, "residual": info.residual_norm, "solve_s": info.seconds,
        "columns": options.columns, "peak_gb": peak_bytes() * 1e-9,
        "mae": {
            name: float(np.abs(np.asarray(value) - test.values[name]).mean() / KCAL)
            for name, value in found.items()
        },
        **product(kernel, frames),
    }  # fmt: skip


def product(kernel, frames):
    """Products with the matrix: seconds, and their share of the speed of a matrix product."""
    references = frames.systems
    plain = GdmlOperator(kernel, {"lengthscale": jnp.asarray(SCALE)}, references)
    stored = plain.prepared(float("inf"))
    vector = jnp.ones(plain.size)
    square = jnp.ones((1500, 1500))
    multiply = jax.jit(jnp.matmul)
    calls = {
        "matrix_product": lambda: multiply(square, square).block_until_ready(),
        "product": lambda: plain.matvec(vector).block_until_ready(),
        "stored_product": lambda: stored.matvec(vector).block_until_ready(),
    }
    for call in calls.values():
        call()
    # By turns: the speed of a shared machine changes.
    rounds = [{name: median_cpu(call) for name, call in calls.items()} for _ in range(3)]
    # Products of (N, D) with (D, N P): distances (not with stored pairs), projections, and both
    # back to gradients.
    features = references.atom_count * (references.atom_count - 1) // 2
    one = 2 * plain.count**2 * kernel.order * features
    flops = {"matrix_product": 2 * 1500**3, "product": 4 * one, "stored_product": 3 * one}
    seconds = {name: statistics.median(r[name] for r in rounds) for name in calls}
    share = {
        name: statistics.median(
            flops[name] / r[name] * r["matrix_product"] / flops["matrix_product"] for r in rounds
        )
        for name in ("product", "stored_product")
    }
    return {
        "product_s": seconds["product"], "stored_product_s": seconds["stored_product"],
        "matrix_product_gflops": flops["matrix_product"] / seconds["matrix_product"] * 1e-9,
        "product_share": share["product"], "stored_product_share": share["stored_product"],
    }  # fmt: skip


def peer(python, group, options, backend, memory):
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, "model.npz")
        common = [
            str(options.data), "--energy-key", "E_md17", "--forces-key", "F_md17", "--threads", "1",
        ]  # fmt: skip
        train = [
            "train", *common, "--frames", "split_train_01", "--count", str(options.train),
            "--perms", str(group), "--lengthscale", f"{SCALE:g}", "--backend", backend,
            "--memory", str(memory), "-o", str(model),
        ]  # fmt: skip
        test = ["predict", *common, "--frames", "split_test_01", "-m", str(model)]
        made, errors = (_call(python, PEER, arguments) for arguments in (train, test))
    seconds = {
        f"{clock}_s": made["create_task"][f"{clock}_s"] + made["train"][f"{clock}_s"]
        for clock in ("wall", "cpu")
    }
    kept = {name: made[name] for name in ("solver", "iterations", "columns") if name in made}
    mae = {"energy": errors["E"]["mae"], "forces": errors["F"]["mae"]}
    return {"backend": backend, **kept, **seconds, "peak_gb": made["peak_gb"], "mae": mae}


def _call(python, script, arguments):
    run = [str(python), str(script), *arguments]
    printed = subprocess.run(run, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(printed[printed.index("{") :])


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peer-python", type=Path)
    parser.add_argument("--train", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--rank", type=int)
    parser.add_argument("--columns", default="uniform")
    parser.add_argument("--group", type=Path, help=argparse.SUPPRESS)  # of the inner process
    parser.add_argument(
        "--data", type=Path,
        default=Path(os.environ.get("JAXFF_DATA", "../shared/data")) / "rmd17/rmd17_ethanol.npz",
    )  # fmt: skip
    options = parser.parse_args()
    if options.group is not None:
        print(json.dumps(fit(options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        group = Path(folder, "group.npz")
        _, frames, _ = load(options.data, options.train)
        np.savez(group, perms=permutations.recover(frames.systems))
        ours, theirs = [], []
        for _ in range(options.rounds):
            inner = ["--group", str(group), *sys.argv[1:]]
            ours.append(_call(sys.executable, Path(__file__), inner))
            print(json.dumps(ours[-1]), flush=True)
            if options.peer_python is None:
                continue
            for backend, memory in (("torch", 4), ("torch", 1e6), ("np", 1e6)):
                theirs.append(peer(options.peer_python, group, options, backend, memory))
                print(json.dumps(theirs[-1]), flush=True)
    record = {
        "molecule": "ethanol", "train": options.train, "lengthscale": SCALE, "jaxff": ours,
        "sgdml": theirs, "date": date.today().isoformat(), "load": os.getloadavg()[0],
        "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
        "versions": {p: version(p) for p in ("jaxff", "jax", "numpy", "scipy")},
    }  # fmt: skip
    if theirs:
        median = statistics.median(o["cpu_s"] for o in ours)
        fastest = min(theirs, key=lambda t: t["cpu_s"])
        record["ratio_to_fastest"] = fastest["cpu_s"] / median
    HERE.joinpath("krylov.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
