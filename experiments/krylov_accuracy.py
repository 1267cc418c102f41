"""Published accuracy of sGDML on MD17 from matrices that are never formed.

    python experiments/krylov_accuracy.py [--memory-gb 6] [--rank K] MOLECULE ...

1000 frames of the first rMD17 split with their MD17 labels (see ``rmd17.py``) are fitted by
preconditioned conjugate gradients. The length scale is chosen on validation frames by fits of fewer
frames: the shortest whose error is within 2 % of the least, as validation is flat and short scales
need fewer iterations. Scales that are given are all fitted with all frames instead, and that of the
least validation error of forces is kept. The peak is that of the whole process, reading,
permutations, choice and compilation included; what is allowed bounds the factor of the
preconditioner. A killed solve goes on where it was. One record per molecule goes to
``krylov_accuracy.json``. Published errors: Chmiela et al., Comput. Phys. Commun. 240, 38 (2019),
doi:10.1016/j.cpc.2019.02.007.

``--check N`` asks how exact the energy labels are: N frames are fitted with MD17 labels, and with
the revised ones of the same frames. The residual of the model is in both; their difference is that
of the labels, less what the forces say of it. With ``--peer-python`` (that of an environment with
``"numpy<2.4" torch sgdml==1.0.3``) the N frames are fitted by ``sgdml`` too.
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
from rmd17_peer import call

import jaxff
from jaxff import bind, energy_and_forces, gdml, units
from jaxff.descriptors import inverse_distances
from jaxff.kernels import Kernel, matern52, permutations
from jaxff.linalg import preconditioners, solvers
from jaxff.linalg.memory import peak_bytes

# Mean absolute errors: kcal/mol, kcal/mol/Å.
PUBLISHED = {"aspirin": (0.19, 0.68), "naphthalene": (0.12, 0.11), "azobenzene": (0.09, 0.41)}
SCALES, TUNING_FRAMES, VALIDATION_FRAMES = (10, 15, 20, 30, 40, 60, 80, 120), 150, 300
FLAT = 1.02
REGULARIZATION = 1e-10
KCAL = units.to_ev("kcal/mol")
RECORD = Path(__file__).with_suffix(".json")


def load(folder, molecule, count, suffix="_md17"):
    data = jaxff.data.npz.read(
        folder / f"rmd17_{molecule}.npz", energy_key=f"E{suffix}", forces_key=f"F{suffix}"
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
    return shortest(trials), trials


def shortest(trials):
    """The shortest scale whose error is within 2 % of the least."""
    least = min(trials.values())
    return min(float(scale) for scale, rmse in trials.items() if rmse <= FLAT * least)


def watch(progress):
    if progress.iteration % 50 == 0:
        print(progress, file=sys.stderr, flush=True)


def best_fit(kernel, frames, scales, options, checkpoint):
    """The fit of the scale whose forces validate best, and the validation errors of all."""
    fits = {}
    for scale in scales:
        own = checkpoint.with_stem(f"{checkpoint.stem}_{scale:g}")
        fits[scale] = fit_and_test(kernel, *frames, scale, options, own)
        print(scale, fits[scale]["validation"]["forces"], file=sys.stderr, flush=True)
    best = min(scales, key=lambda scale: fits[scale]["validation"]["forces"]["rmse"])
    trials = {f"{s:g}": fit["validation"]["forces"]["rmse"] for s, fit in fits.items()}
    return best, trials, fits[best]


def fit_and_test(kernel, train, valid, test, scale, options, checkpoint):
    resumed = checkpoint.exists()  # then the time is only that of the rest
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
    return {
        "train": len(train), "test": len(test), "equations": info.size,
        "matrix_gb": info.size**2 * 8e-9, "rank": info.rank, "columns": options.columns,
        "iterations": info.iterations, "residual": info.residual_norm, "resumed": resumed,
        "errors": errors_of(potential, params, test),
        "validation": errors_of(potential, params, valid),
        "slope": constant.slope, "fit_wall_s": seconds[0], "fit_cpu_s": seconds[1],
    }  # fmt: skip


def residuals(potential, params, frames):
    """Predictions less labels, kcal/mol and kcal/mol/Å."""
    predict = jax.jit(lambda energy_fn, systems: energy_and_forces(energy_fn)(systems))
    found = predict(bind(potential, params), frames.systems)
    return {
        name: (np.asarray(value) - frames.values[name]) / KCAL
        for name, value in zip(("energy", "forces"), found, strict=True)
    }


def errors_of(potential, params, frames):
    return {
        name: {"mae": float(np.abs(x).mean()), "rmse": float(np.sqrt((x**2).mean()))}
        for name, x in residuals(potential, params, frames).items()
    }


def check(options, molecule, group, scale):
    """A small fit beside that of revised labels, and of sgdml."""
    kernel, found, result = Kernel(inverse_distances, matern52, group), {}, {}
    potential = gdml.potential(kernel)
    for suffix in ("_md17", ""):
        train, _, test = load(options.data, molecule, options.check, suffix)
        params = potential.init(jax.random.key(0), train.systems, hyper={"lengthscale": scale})
        params, _ = gdml.fit(
            potential, params, train.labels("forces"), regularization=REGULARIZATION,
            solver=solvers.conjugate_gradient(preconditioner=preconditioners.nystroem(rank=0.08)),
        )  # fmt: skip
        params, _ = gdml.fit_constant(potential, params, train.values["energy"])
        found[suffix] = residuals(potential, params, test)
        result["md17" if suffix else "revised"] = {
            name: float(np.abs(x).mean()) for name, x in found[suffix].items()
        }
    noise = found["_md17"]["energy"] - found[""]["energy"]
    noise -= noise.mean()
    path = options.data / f"rmd17_{molecule}.npz"
    with np.load(path) as file:
        moment = file["idx_md17"][file["split_test_01"]]
    along = noise[np.argsort(moment)]
    result |= {
        "train": options.check, "lengthscale": scale,
        "difference_of_energy_residuals": {
            "mean_absolute": float(np.abs(noise).mean()), "std": float(noise.std()),
            "correlation_with_residual_of_revised": _correlation(noise, found[""]["energy"]),
            "correlation_of_successive_test_frames": _correlation(along[1:], along[:-1]),
        },
    }  # fmt: skip
    if options.peer_python:
        with tempfile.TemporaryDirectory() as folder:
            perms, model = Path(folder, "group.npz"), Path(folder, "model.npz")
            np.savez(perms, perms=group)
            call(
                options.peer_python, "train", path, "--frames", "split_train_01", "--count",
                options.check, "--perms", perms, "--lengthscale", f"{scale:g}", "-o", model,
                "--in-place",
            )  # fmt: skip
            peer = call(
                options.peer_python, "predict", path, "--frames", "split_test_01", "-m", model
            )
        result["sgdml_md17"] = {"energy": peer["E"]["mae"], "forces": peer["F"]["mae"]}
    return result


def _correlation(one, other):
    return float(np.corrcoef(one, other)[0, 1])


def about():
    """Where and when."""
    return {
        "load": os.getloadavg()[0], "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
        "versions": {p: version(p) for p in ("jaxff", "jax", "numpy", "scipy")},
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("molecules", nargs="+", choices=sorted(PUBLISHED))
    parser.add_argument("--memory-gb", type=float, default=6.0)
    parser.add_argument("--share", type=float, default=0.5, help="of the memory, for the factor")
    parser.add_argument("--rank", type=int, help="default: from a model of the cost")
    parser.add_argument("--columns", default="leverage")
    parser.add_argument("--lengthscale", type=float, nargs="+")
    parser.add_argument("--train", type=int, default=1000)
    parser.add_argument("--tune-only", action="store_true", help="print the trials and stop")
    parser.add_argument("--check", type=int, help="frames; nothing else is done then")
    parser.add_argument("--peer-python", type=Path)
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("JAXFF_DATA", "../shared/data")) / "rmd17"
    )
    options = parser.parse_args()
    for molecule in options.molecules:
        train, valid, test = load(options.data, molecule, options.train)
        group = permutations.recover(train.systems)
        kernel = Kernel(inverse_distances, matern52, group)
        scales, trials, tuning = options.lengthscale, {}, options.train
        if scales is None:
            scale, trials = choose_scale(kernel, train, valid)
            scales, tuning = [scale], TUNING_FRAMES
        print(molecule, len(group), scales, trials, file=sys.stderr, flush=True)
        if options.tune_only:
            continue
        record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
        if options.check:
            checks = record.setdefault("checks", {}).setdefault(molecule, {})
            checks[str(options.check)] = check(options, molecule, group, scales[0]) | about()
            RECORD.write_text(json.dumps(record, indent=1) + "\n")
            continue
        checkpoint = options.scratch / f"krylov_{molecule}_{options.train}.npz"
        scale, full, result = best_fit(kernel, (train, valid, test), scales, options, checkpoint)
        result |= {
            "published": dict(zip(("energy", "forces"), PUBLISHED[molecule], strict=True)),
            "unit": "kcal/mol, kcal/mol/Ang", "group_order": len(group), "lengthscale": scale,
            "validation_force_rmse": trials or full, "tuning_frames": tuning,
            "regularization": REGULARIZATION, "memory_gb": options.memory_gb,
            "peak_gb": peak_bytes() * 1e-9, **about(),
        }  # fmt: skip
        record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
        record[molecule] = result
        RECORD.write_text(json.dumps(record, indent=1) + "\n")
        print(json.dumps(result, indent=1), flush=True)


if __name__ == "__main__":
    main()
