"""What sharing a solve out over devices costs: virtual CPU devices, which share one core.

    python experiments/benchmarks/sharding.py [--train 300] [--rank 300] [--devices 1 2 4]

Products with the matrix, applications of the preconditioner and whole iterations (their sum) are
timed without a mesh and with meshes of several devices, each number of devices in a process of its
own pinned to one core, so that the devices work one after the other: ratios above 1 are overhead,
and no speed-up can show. Without a mesh the product stores the values of all pairs, which those on
meshes compute anew; its plain form is timed beside it. Products and solutions are compared with
those without a mesh. MD17 ethanol, length scale 20. The record goes to ``sharding.json``.
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

DATA = Path(os.environ.get("JAXFF_DATA", "../shared/data")) / "rmd17/rmd17_ethanol.npz"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
SCALE, REGULARIZATION, REPEATS = 20.0, 1e-8, 15


def measure(options, devices):
    """In a process of its own with so many devices; none: without a mesh."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    import jax

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp
    import numpy as np
    from jax.sharding import Mesh

    import jaxff
    from jaxff.descriptors import inverse_distances
    from jaxff.gdml.operator import GdmlOperator
    from jaxff.kernels import Kernel, matern52
    from jaxff.linalg import preconditioners, solvers

    data = jaxff.data.npz.read(options.data, energy_key="E_md17", forces_key="F_md17")
    frames = data[data.splits["split_train_01"][: options.train]]
    kernel = Kernel(inverse_distances, matern52, np.load(options.scratch / "group.npy"))
    mesh = Mesh(np.array(jax.devices()), ("references",)) if devices else None
    plain = GdmlOperator(kernel, {"lengthscale": jnp.asarray(SCALE)}, frames.systems, mesh=mesh)
    operator = plain.prepared(float("inf"))
    diagonal = np.full(operator.size, REGULARIZATION)
    recipe = preconditioners.nystroem("uniform", rank=options.rank)
    apply = recipe(operator, diagonal).apply
    vector = jnp.asarray(np.random.default_rng(0).normal(size=operator.size))
    calls = {
        "product": lambda: jax.block_until_ready(operator.matvec(vector)),
        "plain_product": lambda: jax.block_until_ready(plain.matvec(vector)),
        "application": lambda: jax.block_until_ready(apply(vector)),
    }
    seconds = {name: cpu_seconds(call) for name, call in calls.items()}
    labels = frames.values["forces"].ravel()
    solver = solvers.conjugate_gradient(preconditioner=recipe, rtol=1e-9)
    solution = solver(operator, labels / np.std(labels), diagonal)
    np.savez(options.scratch / f"{devices}.npz", product=plain.matvec(vector), value=solution.value)
    seconds["iteration"] = seconds["product"] + seconds["application"]
    return {
        "devices": devices, "equations": operator.size, "rank": solution.rank, "cpu_s": seconds,
        "iterations": solution.iterations, "residual": solution.residual_norm,
    }  # fmt: skip


def cpu_seconds(call):
    """Median of some calls, after one that compiles."""
    call()
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return statistics.median(times)


def run(options, devices):
    """One measurement in a process of its own."""
    flags = (
        "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1 "
        f"--xla_force_host_platform_device_count={max(1, devices)}"
    )
    arguments = [
        "--inner", str(devices), "--scratch", str(options.scratch), "--data", str(options.data),
        "--train", str(options.train), "--rank", str(options.rank),
    ]  # fmt: skip
    printed = subprocess.run(
        [sys.executable, __file__, *arguments], check=True, stdout=subprocess.PIPE, text=True,
        env={**os.environ, **dict.fromkeys(THREADS, "1"), "XLA_FLAGS": flags},
    ).stdout  # fmt: skip
    return json.loads(printed[printed.index("{") :])


def difference(path, other):
    """Largest differences relative to the largest entry."""
    import numpy as np

    with np.load(path) as own, np.load(other) as reference:
        return {
            name: float(np.abs(own[name] - reference[name]).max() / np.abs(reference[name]).max())
            for name in reference
        }


def compare(options):
    """All measurements and what they say."""
    import jax

    jax.config.update("jax_enable_x64", True)
    import numpy as np

    import jaxff
    from jaxff.kernels import permutations

    data = jaxff.data.npz.read(options.data, energy_key="E_md17", forces_key="F_md17")
    frames = data[data.splits["split_train_01"][: options.train]]
    np.save(options.scratch / "group.npy", permutations.recover(frames.systems))
    found = [run(options, devices) for devices in (0, *options.devices)]
    alone = found[0]
    for own in found[1:]:
        own["difference"] = difference(
            options.scratch / f"{own['devices']}.npz", options.scratch / "0.npz"
        )
        own["ratio"] = {k: own["cpu_s"][k] / alone["cpu_s"][k] for k in alone["cpu_s"]}
    return {
        "molecule": "ethanol", "train": options.train, "lengthscale": SCALE,
        "regularization": REGULARIZATION, "without_mesh": alone, "meshes": found[1:],
        "date": date.today().isoformat(), "load": os.getloadavg()[0],
        "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
        "versions": {p: version(p) for p in ("jaxff", "jax", "numpy", "scipy")},
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--train", type=int, default=300)
    parser.add_argument("--rank", type=int, default=300)
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--inner", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inner is not None:
        print(json.dumps(measure(options, options.inner)))
        return
    with tempfile.TemporaryDirectory() as folder:
        options.scratch = Path(folder)
        record = compare(options)
    Path(__file__).with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
