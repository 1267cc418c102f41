"""Time assembly, prediction and memory of sGDML beside ``sgdml`` 1.0.3: ethanol, 6 permutations.

    python experiments/benchmarks/sgdml.py [--count 1000] [--peer-python PATH] [--peer-model FILE]

Both sides see the same frames (``split_train_01`` of rMD17), permutations and length scale and run
on one thread of the same core, one after the other. PATH is the Python of an environment that holds
``sgdml`` 1.0.3; FILE a model it trained (``experiments/peers/sgdml_reference.py train``), for the
prediction. The record, with the distance to what the machine can do, goes to ``sgdml.json``.
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
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import numpy as np

import jaxff
from jaxff import bind, energy_and_forces, gdml
from jaxff.descriptors import inverse_distances
from jaxff.gdml.operator import GdmlOperator
from jaxff.kernels import Kernel, matern52, permutations
from jaxff.linalg import solvers
from jaxff.linalg.memory import lower_square, peak_bytes

HERE = Path(__file__).resolve().parent
PEER = HERE.parent / "peers" / "sgdml_reference.py"
SCALE = 20.0
PARTS = ("assembly", "prediction", "memory")
MACHINE = f"{platform.machine()}, 1 of {os.cpu_count()} cores"


def timed(function, repeats):
    """Median and best wall and CPU seconds; the function must block."""
    function()
    wall, cpu = [], []
    for _ in range(repeats):
        start = time.perf_counter(), time.process_time()
        function()
        wall.append(time.perf_counter() - start[0])
        cpu.append(time.process_time() - start[1])
    return {
        "wall_s": statistics.median(wall), "cpu_s": statistics.median(cpu),
        "best_wall_s": min(wall), "best_cpu_s": min(cpu),
    }  # fmt: skip


def machine():
    """Ceilings of one core: float64 products, copies, and the pages of half a matrix."""
    a = np.random.default_rng(0).random((1500, 1500))
    b = jnp.asarray(a)
    product = jax.jit(jnp.matmul)
    numpy_rate = 2 * 1500**3 / timed(lambda: a @ a, 5)["best_cpu_s"] / 1e9
    jax_rate = 2 * 1500**3 / timed(lambda: product(b, b).block_until_ready(), 5)["best_cpu_s"] / 1e9
    source, target = np.ones(40_000_000), np.ones(40_000_000)
    copy = timed(lambda: np.copyto(target, source), 5)["best_cpu_s"]
    pages = timed(lambda: lower_square(15_000), 3)["best_cpu_s"] / (0.5 * 8e-9 * 15_000**2)
    return {
        "numpy_gflops": numpy_rate, "jax_gflops": jax_rate, "copy_gb_per_s": 0.64 / copy,
        "pages_s_per_gb": pages,
    }  # fmt: skip


def peer(python, command, data, *options):
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "peer.json")
        keys = ("--energy-key", "E_md17", "--forces-key", "F_md17", "--lengthscale", "20")
        subprocess.run(
            [python, PEER, command, data, *keys, *options, "--json", output],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        return json.loads(output.read_text())


def assembly(kernel, systems, data, options):
    """Times of the matrix in rounds, so that other load falls on both alike; medians of ratios."""
    operator = GdmlOperator(kernel, {"lengthscale": jnp.asarray(SCALE)}, systems)
    vector = np.ones(operator.size)
    record = {
        "count": operator.count,
        "product": timed(lambda: operator.matvec(vector).block_until_ready(), 5),
    }
    backends = ("np", "torch") if options.peer_python else ()
    rounds = {name: [] for name in ("jaxff", *backends)}
    with tempfile.TemporaryDirectory() as folder:
        perms = Path(folder, "perms.npz")
        np.savez(perms, perms=kernel.permutations)
        for _ in range(options.rounds):
            for backend in backends:
                found = peer(
                    options.peer_python, "assemble", data, "--frames", "split_train_01",
                    "--count", str(operator.count), "--perms", perms, "--backend", backend,
                )  # fmt: skip
                rounds[backend].append(found["assemble"])
            rounds["jaxff"].append(timed(lambda: operator.dense(lower=True), 3))
    for name, times in rounds.items():
        record["jaxff" if name == "jaxff" else f"sgdml_{name}"] = {
            "wall_s": statistics.median(t["wall_s"] for t in times),
            "cpu_s": statistics.median(t["cpu_s"] for t in times),
            "rounds_cpu_s": [t["cpu_s"] for t in times],
        }
    for name in backends:
        pairs = zip(rounds[name], rounds["jaxff"], strict=True)
        ratios = [theirs["cpu_s"] / ours["cpu_s"] for theirs, ours in pairs]
        record[f"ratio_{name}"] = statistics.median(ratios)
        record[f"ratios_{name}"] = ratios
    return record


def prediction(kernel, references, data, path, options):
    # The time does not depend on the coefficients, so the references alone are timed.
    potential = gdml.potential(kernel)
    params = potential.init(jax.random.key(0), references, hyper={"lengthscale": SCALE})
    energy_fn = bind(potential, params)
    systems = data[data.splits["split_test_01"]].systems
    predict = jax.jit(lambda energy_fn, s: energy_and_forces(energy_fn)(s))
    one = jax.tree.map(lambda leaf: leaf[0], systems)
    record = {
        "batch_1": timed(lambda: jax.block_until_ready(predict(energy_fn, one)), 300),
        "batch_1000": timed(lambda: jax.block_until_ready(predict(energy_fn, systems)), 9),
    }
    for batch, times in ((1, record["batch_1"]), (1000, record["batch_1000"])):
        times["per_cpu_s"] = batch / times["cpu_s"]
    if options.peer_python and options.peer_model:
        speeds = peer(
            options.peer_python, "predict", path, "--frames", "split_test_01",
            "-m", options.peer_model, "--throughput",
        )["speed"]  # fmt: skip
        for batch in (1, 1000):
            best = max((s for s in speeds if s["batch"] == batch), key=lambda s: s["per_cpu_s"])
            record[f"sgdml_{batch}"] = best
            record[f"ratio_{batch}"] = record[f"batch_{batch}"]["per_cpu_s"] / best["per_cpu_s"]
    return record


def memory(count):
    """Largest resident set of a process that fits, beside that of one with a tiny fit."""
    command = [sys.executable, __file__, "--fit-only"]
    small, large = (
        json.loads(subprocess.run([*command, str(n)], check=True, capture_output=True).stdout)
        for n in (50, count)
    )
    return {
        **large, "base_gb": small["peak_gb"],
        "peak_over_matrix": large["peak_gb"] / large["matrix_gb"],
        "growth_over_matrix": (large["peak_gb"] - small["peak_gb"]) / large["matrix_gb"],
    }  # fmt: skip


def fit(kernel, data, count):
    frames = data[data.splits["split_train_01"][:count]]
    potential = gdml.potential(kernel)
    params = potential.init(jax.random.key(0), frames.systems, hyper={"lengthscale": SCALE})
    start = time.perf_counter(), time.process_time()
    params, info = gdml.fit(
        potential, params, frames.labels("forces"),
        solver=solvers.cholesky(), regularization=1e-10,
    )  # fmt: skip
    wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
    record = {
        "wall_s": wall, "cpu_s": cpu, "matrix_gb": info.size**2 * 8e-9,
        "peak_gb": peak_bytes() * 1e-9,
    }  # fmt: skip
    return bind(potential, params), record


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--peer-python")
    parser.add_argument("--peer-model")
    parser.add_argument("--rounds", type=int, default=3, help="of the assembly")
    parser.add_argument("--fit-only", type=int)
    parser.add_argument("--renew", choices=PARTS, help="that part of the record only")
    parser.add_argument("--data", default=os.environ.get("JAXFF_DATA", "../shared/data"))
    options = parser.parse_args()
    path = Path(options.data, "rmd17", "rmd17_ethanol.npz").resolve()
    data = jaxff.data.npz.read(path, energy_key="E_md17", forces_key="F_md17")
    train = data[data.splits["split_train_01"]]
    kernel = Kernel(inverse_distances, matern52, permutations.recover(train.systems))
    if options.fit_only:
        print(json.dumps(fit(kernel, data, options.fit_only)[1]))
        return
    frames = train[np.arange(options.count)]
    measures = {
        "assembly": lambda: assembly(kernel, frames.systems, path, options),
        "prediction": lambda: prediction(kernel, frames.systems, data, path, options),
        "memory": lambda: memory(min(options.count, 500)),
    }
    record = json.loads((HERE / "sgdml.json").read_text()) if options.renew else {}
    record |= {"machine": MACHINE, "permutations": kernel.order}
    for part in [options.renew] if options.renew else PARTS:
        record[part] = {
            "date": date.today().isoformat(), "load": os.getloadavg()[0], "ceilings": machine(),
            "versions": {p: version(p) for p in ("jaxff", "jax", "numpy", "scipy")},
            **measures[part](),
        }  # fmt: skip
    text = json.dumps(record, indent=1)
    (HERE / "sgdml.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
