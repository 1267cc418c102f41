"""Published accuracy of sGDML on MD17 from matrices that are never formed.

    python experiments/krylov_accuracy.py [--memory-gb 6] [--rank K] MOLECULE ...

1000 frames of the first rMD17 split with their MD17 labels (see ``rmd17.py``) are fitted by
preconditioned conjugate gradients. The length scale is chosen on validation frames by direct fits
of fewer frames, unless given. The peak is that of the whole process, reading, permutations, choice
and compilation included; what is allowed bounds the factor of the preconditioner. A killed solve
goes on where it was. One record per molecule goes to ``krylov_accuracy.json``. Published errors:
Chmiela et al., Comput. Phys. Commun. 240, 38 (2019), doi:10.1016/j.cpc.2019.02.007.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np

import jaxff
from jaxff import bind, energy_and_forces, gdml, units
from jaxff.descriptors import inverse_distances
from jaxff.kernels import Kernel, matern52, permutations
from jaxff.linalg import preconditioners, solvers
from jaxff.linalg.memory import peak_bytes

# Mean absolute errors: kcal/mol, kcal/mol/Å.
PUBLISHED = {"aspirin": (0.19, 0.68), "naphthalene": (0.12, 0.11), "azobenzene": (0.09, 0.41)}
SCALES, TUNING_FRAMES, VALIDATION_FRAMES = (10, 15, 20, 30, 40, 60), 150, 300
REGULARIZATION = 1e-10
KCAL = units.to_ev("kcal/mol")
RECORD = Path(__file__).with_suffix(".json")


def load(folder, molecule, count):
    data = jaxff.data.npz.read(
        folder / f"rmd17_{molecule}.npz", energy_key="E_md17", forces_key="F_md17"
    )
    train, test = data.splits["split_train_01"][:count], data.splits["split_test_01"]
    valid = np.setdiff1d(data.splits["split_train_02"], np.concatenate([train, test]))
    return data[train], data[valid[:VALIDATION_FRAMES]], data[test]


def choose_scale(kernel, train, valid):
    """Length scale by validation forces of a smaller fit."""
    few = train[np.arange(min(TUNING_FRAMES, len(train)))]
    tuning = gdml.tune(
        gdml.potential(kernel), few.systems, few.labels("forces"),
        valid.systems, valid.values["forces"],
        lengthscales=SCALES, solver=solvers.cholesky(), regularization=REGULARIZATION,
    )  # fmt: skip
    trials = {f"{t.lengthscale:g}": t.rmse / KCAL for t in tuning.trials}
    return tuning.best.lengthscale, trials


def watch(progress):
    if progress.iteration % 50 == 0:
        print(progress, file=sys.stderr, flush=True)


def fit_and_test(kernel, train, test, scale, options, checkpoint):
    potential = gdml.potential(kernel)
    params = potential.init(jax.random.key(0), train.systems, hyper={"lengthscale": scale})
    recipe = preconditioners.nystroem(
        options.columns, rank=options.rank or "auto", memory=options.share * options.memory_gb * 1e9
    )
    start = time.perf_counter(), time.process_time()
    params, info = gdml.fit(
        potential, params, train.labels("forces"), regularization=REGULARIZATION,
        solver=solvers.conjugate_gradient(
            preconditioner=recipe, checkpoint=checkpoint, callback=watch
        ),
    )  # fmt: skip
    seconds = time.perf_counter() - start[0], time.process_time() - start[1]
    params, constant = gdml.fit_constant(potential, params, train.values["energy"])
    predict = jax.jit(lambda energy_fn, systems: energy_and_forces(energy_fn)(systems))
    energy, forces = predict(bind(potential, params), test.systems)
    errors = {}
    for name, value in (("energy", energy), ("forces", forces)):
        difference = (np.asarray(value) - test.values[name]) / KCAL
        errors[name] = {
            "mae": float(np.abs(difference).mean()),
            "rmse": float(np.sqrt((difference**2).mean())),
        }
    return {
        "train": len(train), "test": len(test), "equations": info.size,
        "matrix_gb": info.size**2 * 8e-9, "rank": info.rank, "columns": options.columns,
        "iterations": info.iterations, "residual": info.residual_norm, "errors": errors,
        "slope": constant.slope, "fit_wall_s": seconds[0], "fit_cpu_s": seconds[1],
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("molecules", nargs="+", choices=sorted(PUBLISHED))
    parser.add_argument("--memory-gb", type=float, default=6.0)
    parser.add_argument("--share", type=float, default=0.5, help="of the memory, for the factor")
    parser.add_argument("--rank", type=int, help="default: from a model of the cost")
    parser.add_argument("--columns", default="leverage")
    parser.add_argument("--lengthscale", type=float)
    parser.add_argument("--train", type=int, default=1000)
    parser.add_argument("--tune-only", action="store_true", help="print the trials and stop")
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("JAXFF_DATA", "../shared/data")) / "rmd17"
    )
    options = parser.parse_args()
    for molecule in options.molecules:
        train, valid, test = load(options.data, molecule, options.train)
        group = permutations.recover(train.systems)
        kernel = Kernel(inverse_distances, matern52, group)
        scale, trials = options.lengthscale, {}
        if scale is None:
            scale, trials = choose_scale(kernel, train, valid)
        print(molecule, len(group), scale, trials, file=sys.stderr, flush=True)
        if options.tune_only:
            continue
        checkpoint = options.scratch / f"krylov_{molecule}_{options.train}.npz"
        resumed = checkpoint.exists()  # then the time is only that of the rest
        result = fit_and_test(kernel, train, test, scale, options, checkpoint)
        result |= {
            "published": dict(zip(("energy", "forces"), PUBLISHED[molecule], strict=True)),
            "unit": "kcal/mol, kcal/mol/Ang", "group_order": len(group), "lengthscale": scale,
            "validation_force_rmse": trials, "tuning_frames": TUNING_FRAMES,
            "regularization": REGULARIZATION, "memory_gb": options.memory_gb, "resumed": resumed,
            "peak_gb": peak_bytes() * 1e-9, "load": os.getloadavg()[0],
            "date": date.today().isoformat(),
            "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
            "versions": {p: version(p) for p in ("jaxff", "jax", "numpy", "scipy")},
        }  # fmt: skip
        record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
        record[molecule] = result
        RECORD.write_text(json.dumps(record, indent=1) + "\n")
        print(json.dumps(result, indent=1), flush=True)


if __name__ == "__main__":
    main()
