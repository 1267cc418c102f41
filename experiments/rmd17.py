"""sGDML on MD17: permutation groups from data, test errors at 1000 points, learning curves.

Frames and splits are those of revised MD17 with the original MD17 labels (Christensen & von
Lilienfeld, Mach. Learn.: Sci. Technol. 1, 045018 (2020), doi:10.1088/2632-2153/abba6f; Chmiela et
al., Sci. Adv. 3, e1603015 (2017)). Published errors: Chmiela et al., Comput. Phys. Commun. 240, 38
(2019), doi:10.1016/j.cpc.2019.02.007. The length scale is chosen on 500 validation frames with a
smaller training set, unless given, then 1000 frames are fitted.

usage: rmd17.py [--data FOLDER] [--out FOLDER] table MOLECULE ... | curve MOLECULE N ...
"""

import argparse
import json
import os
import platform
import resource
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
from jaxff.interfaces import sgdml
from jaxff.kernels import Kernel, matern52, permutations
from jaxff.linalg import solvers

# kcal/mol, kcal/mol/Å and the order of the symmetry group.
PUBLISHED = {
    "ethanol": (0.07, 0.33, 6),
    "malonaldehyde": (0.10, 0.41, 4),
    "uracil": (0.11, 0.24, 1),
    "benzene": (0.10, 0.06, 12),
    "toluene": (0.10, 0.14, 12),
}
SCALES = (5, 10, 15, 20, 30, 40, 60, 80)
TUNING_FRAMES, VALIDATION_FRAMES, REGULARIZATION = 300, 500, 1e-10
MACHINE = f"{platform.machine()}, {os.cpu_count()} cores"
KCAL = units.to_ev("kcal/mol")


def load(folder, molecule):
    data = jaxff.data.npz.read(
        folder / f"rmd17_{molecule}.npz", energy_key="E_md17", forces_key="F_md17"
    )
    train, test = data.splits["split_train_01"], data.splits["split_test_01"]
    valid = np.setdiff1d(data.splits["split_train_02"], np.concatenate([train, test]))
    return data, train, valid[:VALIDATION_FRAMES], test


def choose_scale(kernel, data, train, valid):
    """Length scale by validation forces of a smaller fit."""
    few, check = data[train[:TUNING_FRAMES]], data[valid]
    tuning = gdml.tune(
        gdml.potential(kernel), few.systems, few.labels("forces"),
        check.systems, check.values["forces"],
        lengthscales=SCALES, solver=solvers.cholesky(), regularization=REGULARIZATION,
    )  # fmt: skip
    trials = {f"{t.lengthscale:g}": t.rmse / KCAL for t in tuning.trials}
    return tuning.best.lengthscale, trials


def fit_and_test(kernel, data, train, test, scale, model_file):
    potential, frames = gdml.potential(kernel), data[train]
    start = time.perf_counter(), time.process_time()
    params = potential.init(jax.random.key(0), frames.systems, hyper={"lengthscale": scale})
    params, info = gdml.fit(
        potential, params, frames.labels("forces"),
        solver=solvers.cholesky(), regularization=REGULARIZATION,
    )  # fmt: skip
    params, constant = gdml.fit_constant(potential, params, frames.values["energy"])
    seconds = time.perf_counter() - start[0], time.process_time() - start[1]
    if model_file is not None:
        about = sgdml.Provenance(
            dataset_name=data.name, train_indices=train, scale=info.scale,
            train_fingerprint=data.fingerprint, regularization=REGULARIZATION,
        )  # fmt: skip
        sgdml.save(model_file, potential, params, about)
    predict = jax.jit(lambda energy_fn, systems: energy_and_forces(energy_fn)(systems))
    energy, forces = predict(bind(potential, params), data[test].systems)
    errors = {}
    for name, value in (("energy", energy), ("forces", forces)):
        difference = (np.asarray(value) - data[test].values[name]) / KCAL
        errors[name] = {
            "mae": float(np.abs(difference).mean()),
            "rmse": float(np.sqrt((difference**2).mean())),
        }
    return {
        "train": len(train), "test": len(test), "equations": info.size, "errors": errors,
        "residual": info.residual_norm, "slope": constant.slope, "wall_s": seconds[0],
        "cpu_s": seconds[1], "matrix_gb": info.size**2 * 8e-9,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024e-9,
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("JAXFF_DATA", "../shared/data")) / "rmd17"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(""))
    parser.add_argument("--models", type=Path, help="folder for the fitted models")
    parser.add_argument("--scale", type=float, help="length scale; default: chosen on validation")
    parser.add_argument("command", choices=("table", "curve"))
    parser.add_argument("arguments", nargs="+")
    options = parser.parse_args()
    curve = options.command == "curve"
    molecules = options.arguments[:1] if curve else options.arguments
    options.out.mkdir(exist_ok=True)
    for molecule in molecules:
        data, train, valid, test = load(options.data, molecule)
        start = time.process_time()
        group = permutations.recover(data[train].systems)
        recovery = time.process_time() - start
        kernel = Kernel(inverse_distances, matern52, group)
        scale, trials = options.scale, {}
        if scale is None:
            scale, trials = choose_scale(kernel, data, train, valid)
        file = lambda n, m=molecule: options.models and options.models / f"{m}_{n}.npz"  # noqa: E731
        sizes = [int(n) for n in options.arguments[1:]] if curve else [len(train)]
        result = {
            "molecule": molecule, "unit": "kcal/mol, kcal/mol/Ang", "group_order": len(group),
            "recovery_cpu_s": recovery, "lengthscale": scale, "validation_force_rmse": trials,
            "tuning_frames": TUNING_FRAMES, "regularization": REGULARIZATION,
            "published": dict(zip(("energy", "forces", "group"), PUBLISHED[molecule], strict=True)),
            "fits": [
                fit_and_test(kernel, data, train[:n], test, scale, file(n)) for n in sizes
            ],
            "date": date.today().isoformat(), "machine": MACHINE,
            "versions": {p: version(p) for p in ("jaxff", "jax", "numpy", "scipy")},
        }  # fmt: skip
        path = options.out / f"{options.command}_{molecule}.json"
        path.write_text(json.dumps(result, indent=1) + "\n")
        print(json.dumps(result, indent=1), flush=True)


if __name__ == "__main__":
    main()
