"""What fits with Hessian labels cost: time to compile, to assemble and to solve, beside the rest.

    python experiments/benchmarks/hessian_labels.py [--geometries 30]

Forces and Hessians of ethanol geometries of the embedded data. Their Hessians are those of an sGDML
model fitted to 100 geometries: the cost does not depend on where numbers come from. Compilation is
what JAX reports of its stages (tracing, lowering, compiling), all programs of the fit together. The
record goes to ``hessian_labels.json``.
"""

import argparse
import json
import os
import platform
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np

from jaxff import bind, data, gdml, observe
from jaxff.descriptors import inverse_distances
from jaxff.kernels import Kernel, matern52
from jaxff.linalg import solvers

SPENT: dict[str, float] = {}


def listen(event, seconds, **_):
    if "/compile/" in event:
        SPENT[event.rsplit("/", 1)[-1]] = SPENT.get(event.rsplit("/", 1)[-1], 0.0) + seconds


def timed(function):
    """Result, wall time, and the part of it that compilation took."""
    SPENT.clear()
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start, sum(SPENT.values())


def measure(geometries):
    ethanol = data.npz.read(data.embedded.ethanol_path())[:100]
    systems = ethanol.systems
    potential = gdml.potential(Kernel(inverse_distances, matern52))
    params = potential.init(jax.random.key(0), systems, hyper={"lengthscale": 3.0})
    options = {"solver": solvers.cholesky(), "regularization": 1e-10}
    teacher, _ = gdml.fit(potential, params, ethanol.labels("forces"), **options)
    few = jax.tree.map(lambda leaf: leaf[:geometries], systems)
    names = ("forces", "hessian")
    labels = {k: np.asarray(v) for k, v in observe(bind(potential, teacher), names)(few).items()}
    start = potential.init(jax.random.key(0), few, hyper={"lengthscale": 3.0})
    (fitted, info), wall, compiling = timed(lambda: gdml.fit(potential, start, labels, **options))
    found = observe(bind(potential, fitted), names)
    predicted, first, compiled = timed(lambda: jax.block_until_ready(jax.jit(found)(few)))
    return {
        "geometries": geometries, "labels": info.size, "fit_seconds": round(wall, 2),
        "compile_seconds": round(compiling, 2), "residual": info.residual_norm,
        "prediction_compile_seconds": round(compiled, 2), "prediction_seconds": round(first, 2),
        "hessian_rmse_eV_per_A2": float(
            np.sqrt(np.mean((np.asarray(predicted["hessian"]) - labels["hessian"]) ** 2))
        ),
        "hessian_rms_eV_per_A2": float(np.sqrt(np.mean(labels["hessian"] ** 2))),
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--geometries", type=int, default=30)
    options = parser.parse_args()
    jax.monitoring.register_event_duration_secs_listener(listen)
    record = {
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
        "versions": {name: version(name) for name in ("jax", "numpy", "scipy")},
        **measure(options.geometries),
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
