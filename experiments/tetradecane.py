"""n-Tetradecane, 44 atoms, fitted without its matrix, beside ``sgdml`` on the same frames.

    python experiments/tetradecane.py choose
    python experiments/tetradecane.py fit 500
    python experiments/tetradecane.py --peer-python PYTHON peer 50 100
    python experiments/tetradecane.py extrapolate 2000

C14H30 of QM-22 (B3LYP/cc-pVDZ; Qu et al., 2024): conformers up to 285 kcal/mol above the linear
one. Training frames are the first of a fixed permutation of the file, then come 200 for validation;
the last 1000 are for testing. ``choose`` takes the group and the length scale by the validation
forces of a small fit: recovery finds from 100 frames that whole halves of the chain can be
mirrored, from 200 single CH2 groups, from 500 more than 10 000 permutations, as conformers differ
by such exchanges though no motion makes them. So the group is generated from what does happen
(turns of both methyl groups, the mirror image, the reversal of the chain), one generator after the
other as long as the validation improves; then the length scale of the least error, then the
largest regularization within 2 % of the least error. ``fit`` solves for a number of frames (one
number per process for the peak of its memory), ``peer`` repeats fits with ``sgdml`` 1.0.3 (the
Python of its environment, see ``peers/sgdml_reference.py``), ``extrapolate`` scales the measured
costs. All go to ``tetradecane.json``. CPU seconds, as the machine may be shared.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np
from krylov_accuracy import FLAT, KCAL, about, errors_of
from rmd17_peer import call

import jaxff
from jaxff import gdml
from jaxff.descriptors import inverse_distances
from jaxff.kernels import Kernel, matern52, permutations
from jaxff.linalg import preconditioners, solvers
from jaxff.linalg.memory import peak_bytes

MOST, VALIDATION, TEST, TUNING_FRAMES = 2000, 196, 1000, 30
SCALES = (10, 20, 40, 80)
REGULARIZATIONS = (1e-10, 1e-8, 1e-6, 1e-5, 1e-4, 1e-3)
SHARE, FACTOR_GB = 0.04, 3.0  # columns of the preconditioner, and what they may take
RECORD = Path(__file__).with_suffix(".json")


def load(path):
    """Frames for training in their order, for validation, and for testing."""
    data = jaxff.data.npz.read(path)
    order = np.random.default_rng(0).permutation(len(data))
    parts = np.split(order, [MOST, MOST + VALIDATION])
    return data, *parts


def generators():
    """What happens to atoms 0-13 (C), 14-16 (CH3), 17-40 (CH2, in pairs), 41-43 (CH3)."""
    atoms = np.arange(44)
    turn = {"methyl": [atoms.copy(), atoms.copy()]}
    turn["methyl"][0][[14, 15, 16]] = 15, 16, 14
    turn["methyl"][1][[41, 42, 43]] = 42, 43, 41
    mirror = atoms.copy()
    for pair in ([15, 16], [42, 43], *([h, h + 1] for h in range(17, 41, 2))):
        mirror[pair] = mirror[pair[::-1]]
    pairs = atoms[17:41].reshape(12, 2)[::-1].ravel()
    reverse = np.concatenate([atoms[13::-1], [41, 42, 43], pairs, [14, 15, 16]])
    return {"identity": [atoms], **turn, "mirror image": [mirror], "reversal": [reverse]}


def trial(group, few, valid, scale, regularization):
    """Validation RMSE of forces of a small direct fit, kcal/mol/Å."""
    tuning = gdml.tune(
        gdml.potential(Kernel(inverse_distances, matern52, group)), few.systems,
        few.labels("forces"), valid.systems, valid.values["forces"], lengthscales=(scale,),
        solver=solvers.cholesky(), regularization=regularization,
    )  # fmt: skip
    return tuning.best.rmse / KCAL


def choose(data, train, valid, test):
    """One after the other: generators of the group, length scale, regularization."""
    del test
    few, valid = data[train[:TUNING_FRAMES]], data[valid]
    middle, found, kept = (SCALES[1], REGULARIZATIONS[2]), {}, []
    for name, added in generators().items():
        group = permutations.closure(np.stack([*kept, *added]))
        rmse = trial(group, few, valid, *middle)
        found[name] = {"order": len(group), "validation_force_rmse": rmse}
        print(name, found[name], flush=True)
        if rmse <= min(f["validation_force_rmse"] for f in found.values()):
            kept += added
    group = permutations.closure(np.stack(kept))
    scales = {f"{x:g}": trial(group, few, valid, x, middle[1]) for x in SCALES}
    scale = float(min(scales, key=scales.get))
    levels = {f"{x:g}": trial(group, few, valid, scale, x) for x in REGULARIZATIONS}
    flat = FLAT * min(levels.values())
    return {
        "generators": found, "group": group.tolist(), "lengthscale": scale,
        "regularization": max(float(x) for x, rmse in levels.items() if rmse <= flat),
        "validation_force_rmse": {"lengthscale": scales, "regularization": levels},
        "tuning_frames": TUNING_FRAMES,
    }  # fmt: skip


def fit(record, data, train, valid, test, count, scratch):
    del valid
    frames = data[train[:count]]
    potential = gdml.potential(Kernel(inverse_distances, matern52, np.array(record["group"])))
    hyper = {"lengthscale": record["lengthscale"]}
    params = potential.init(jax.random.key(0), frames.systems, hyper=hyper)
    checkpoint = scratch / f"tetradecane_{count}.npz"
    resumed = checkpoint.exists()  # then the times are only those of the rest
    ends = []  # of the iterations with the present preconditioner

    def note(progress):
        if progress.stage == "preconditioner":
            ends.clear()
        else:
            ends.append(time.process_time())
        if progress.iteration % 10 == 0:
            print(count, progress, round(time.process_time() - start), flush=True)

    start = time.process_time()
    params, info = gdml.fit(
        potential, params, frames.labels("forces"), regularization=record["regularization"],
        solver=solvers.conjugate_gradient(
            preconditioner=preconditioners.nystroem(rank=SHARE, memory=FACTOR_GB * 1e9),
            checkpoint=checkpoint, callback=note,
        ),
    )  # fmt: skip
    seconds = time.process_time() - start
    params, constant = gdml.fit_constant(potential, params, frames.values["energy"])
    found = {
        **{name: record[name] for name in ("lengthscale", "regularization")},
        "group_order": len(record["group"]), "equations": info.size,
        "matrix_gb": info.size**2 * 8e-9, "rank": info.rank,
        "iterations": info.iterations, "residual": info.residual_norm, "resumed": resumed,
        "errors": errors_of(potential, params, data[test]), "slope": constant.slope,
        "fit_cpu_s": seconds, "iteration_cpu_s": (ends[-1] - ends[0]) / (len(ends) - 1),
        "peak_gb": peak_bytes() * 1e-9, **about(),
    }  # fmt: skip
    return {"fits": {str(count): found}}


def peer(record, data, train, valid, test, count, python, path):
    """The same fit by ``sgdml``, dense, and its errors over ours."""
    del valid
    with tempfile.TemporaryDirectory() as folder:
        frames, group, model = (Path(folder, f"{n}.npz") for n in ("frames", "group", "model"))
        with np.load(path) as file:
            np.savez(frames, **{k: file[k] for k in "RzEF"}, train=train, test=test)
        np.savez(group, perms=np.array(record["group"]))
        made = call(
            python, "train", frames, "--frames", "train", "--count", count, "--perms", group,
            "--lengthscale", f"{record['lengthscale']:g}", "--regularization",
            record["regularization"], "-o", model, "--in-place", keys=(),
        )  # fmt: skip
        found = call(python, "predict", frames, "--frames", "test", "-m", model, keys=())
    errors = {"energy": found["E"], "forces": found["F"]}
    ours = record["fits"][str(count)]["errors"]
    result = {
        "errors": errors, "solver": made["solver"], "group_order": made["n_perms"],
        "train_cpu_s": made["train"]["cpu_s"], "peak_gb": made["peak_gb"],
        "ratio_of_errors": {k: ours[k]["mae"] / errors[k]["mae"] for k in errors},
    }  # fmt: skip
    return {"sgdml": {str(count): result}}


def extrapolate(record, count):
    """CPU time and memory for more frames at the same share of columns, from the largest fit."""
    counts = sorted(map(int, record["fits"]))
    least, last = (record["fits"][str(n)] for n in counts[-2:])
    ratio = count / counts[-1]
    # An iteration takes a product with all pairs of frames, and reads the factor: both as N².
    iteration = last["iteration_cpu_s"] * ratio**2
    power = np.log(last["iterations"] / least["iterations"]) / np.log(counts[-1] / counts[-2])
    iterations = last["iterations"] * ratio ** max(power, 0.0)
    # Columns take as N², their factorisation as N³.
    rest = (last["fit_cpu_s"] - last["iterations"] * last["iteration_cpu_s"]) * ratio**3
    found = {
        "from": counts[-1], "iterations": iterations,
        "cpu_h": (rest + iterations * iteration) / 3600,
        "factor_gb": last["rank"] * last["equations"] * 16e-9 * ratio**2,
    }  # fmt: skip
    return {"extrapolated": {str(count): found}}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("stage", choices=("choose", "fit", "peer", "extrapolate"))
    parser.add_argument("counts", nargs="*", type=int)
    parser.add_argument("--peer-python", type=Path)
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("JAXFF_DATA", "../shared/data"))
    )
    options = parser.parse_args()
    path = options.data / "qm22" / "C14H30_test.npz"
    frames = load(path)
    for count in options.counts or [0]:
        record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
        if options.stage == "choose":
            found = choose(*frames)
        elif options.stage == "fit":
            found = fit(record, *frames, count, options.scratch)
        elif options.stage == "peer":
            found = peer(record, *frames, count, options.peer_python, path)
        else:
            found = extrapolate(record, count)
        # Stages may run side by side: what others wrote meanwhile stays.
        record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
        for key, value in found.items():
            record[key] = {**record.get(key, {}), **value} if isinstance(value, dict) else value
        RECORD.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
