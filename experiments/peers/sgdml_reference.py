"""Run and time the package ``sgdml`` 1.0.3, the reference for ``jaxff.gdml``.

The Python of an environment with ``"numpy<2.4" torch sgdml==1.0.3`` runs
``sgdml_reference.py COMMAND DATA ... [--threads 1] [--json OUT]``; the result is one JSON object:

    recover     the permutation group of the frames DATA[--frames][:--count]
    assemble    the kernel matrix alone; --backend np or torch, --perms FILE
    train       fit, phase times, peak memory; -o MODEL; iterative if the matrix is larger than
                --memory GB
    predict     E and F of both predictors (-o OUT), errors; -m MODEL; --throughput at all settings
    dataset     does sgdml read this dataset or model file

DATA is an npz with ``R``, ``z`` and labels.  CPU seconds include finished child processes.  One
process runs one command, so ``peak_gb`` (largest resident set) belongs to it.
"""

import argparse
import contextlib
import json
import os
import resource
import time

PARSER = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
PARSER.add_argument("command", choices=("recover", "assemble", "train", "predict", "dataset"))
PARSER.add_argument("data")
DEFAULTS = {"energy-key": "E", "forces-key": "F", "lengthscale": 20, "regularization": 1e-10}
for flag, default in {**DEFAULTS, "threads": 1, "count": 10**6}.items():
    PARSER.add_argument(f"--{flag}", default=default, type=type(default))
for flags in ("--frames", "--perms", "--json", "-m --model", "-o --output"):
    PARSER.add_argument(*flags.split())
PARSER.add_argument("--backend", choices=("np", "torch"), default="np")
PARSER.add_argument("--memory", type=float, default=1e6, help="GB; least memory: iterative")
PARSER.add_argument("--in-place", action="store_true", help="one matrix, not three; same flops")
PARSER.add_argument("--throughput", action="store_true", help="all settings, batches 1 and all")
OPTIONS = PARSER.parse_args()
WORKERS = 1 if OPTIONS.threads == 1 else OPTIONS.threads + 1  # the package forks one less, or none
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = str(OPTIONS.threads)
if OPTIONS.threads == 1:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

import numpy as np
import scipy.linalg
import torch
from sgdml import torchtools
from sgdml.predict import GDMLPredict
from sgdml.train import GDMLTrain
from sgdml.utils import desc, io, perm


@contextlib.contextmanager
def timed(record, name):
    wall, cpu = time.perf_counter(), time.process_time() + sum(os.times()[2:4])
    yield
    cpu = time.process_time() + sum(os.times()[2:4]) - cpu
    record[name] = {"wall_s": time.perf_counter() - wall, "cpu_s": cpu}


def load():
    """The chosen frames of DATA as a dataset of sgdml, with the fingerprint of the whole file."""
    with np.load(OPTIONS.data) as file:
        index = file[OPTIONS.frames] if OPTIONS.frames else np.arange(len(file["R"]))
        keys = {"R": "R", "E": OPTIONS.energy_key, "F": OPTIONS.forces_key}
        data = {key: file[name].astype(float) for key, name in keys.items() if name in file}
        data |= {key: file[key] for key in ("r_unit", "e_unit", "lattice", "perms") if key in file}
        data |= {key: np.array(str(file.get(key, "unknown"))) for key in ("name", "theory")}
        data |= {"type": "d", "z": file["z"].astype(int)}
    data |= {"perms": np.load(OPTIONS.perms)["perms"]} if OPTIONS.perms else {}
    data |= {"md5": io.dataset_md5(data), "index": index[: OPTIONS.count]}
    return data | {key: data[key][data["index"]] for key in keys if key in data}


def trainer():
    fit = GDMLTrain(use_torch=OPTIONS.backend == "torch")
    fit._max_processes, fit._max_memory = WORKERS, OPTIONS.memory  # by default: always dense
    return fit


def recover(record, data):
    with timed(record, "recover"):
        perms = perm.find_perms(data["R"], data["z"], max_processes=WORKERS)
    record.update(n_perms=len(perms), perms=perms.tolist())


def assemble(record, data):
    rule = desc.Desc(len(data["z"]), max_processes=1)
    perms = data.get("perms", np.arange(len(data["z"]))[None])
    table = np.array([rule.perm(p) for p in perms]) + np.arange(len(perms))[:, None] * rule.dim
    features, jacobians = rule.from_R(data["R"].reshape(len(data["R"]), -1))
    arguments, fit = (table.flatten("F"), OPTIONS.lengthscale, rule), trainer()
    with timed(record, "assemble"):
        matrix = fit._assemble_kernel_mat(features, jacobians, *arguments)  # minus the matrix
    record.update(n_perms=len(perms), matrix_gb=matrix.nbytes / 2**30, trace=-np.trace(matrix))


def watch(fit, record):
    """Time the phases of a fit and, with ``--in-place``, let them share one matrix."""
    build, cho_factor = fit._assemble_kernel_mat, scipy.linalg.cho_factor

    def assembly(*args, **kwargs):
        with timed(record, "assemble"):
            matrix = build(*args, **kwargs)
        record["matrix_gb"] = matrix.nbytes / 2**30
        fit._use_torch = False  # the energy constant comes from the NumPy predictor, in less memory
        negated = type("Negated", (), {"__neg__": lambda self: np.negative(matrix, out=matrix)})
        return negated() if OPTIONS.in_place else matrix

    def factor(matrix, **kwargs):
        if OPTIONS.in_place:  # symmetric: its transpose is in LAPACK's order, so nothing is copied
            matrix, kwargs = matrix.T, kwargs | {"lower": True, "overwrite_a": True}
            scipy.linalg.solve = None  # no second try by LU, the matrix is overwritten
        with timed(record, "cholesky"):
            return cho_factor(matrix, **kwargs)

    fit._assemble_kernel_mat, scipy.linalg.cho_factor = assembly, factor


def train(record, data):
    fit, n_train = trainer(), len(data["R"])
    watch(fit, record)
    with timed(record, "create_task"):  # includes the search for permutations, unless given
        task = fit.create_task(data, n_train, data, 0, OPTIONS.lengthscale, OPTIONS.regularization)
    task |= {"idxs_train": data["index"], "md5_train": data["md5"]}
    record["start_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    with timed(record, "train"):
        model = fit.train(task)
    record.update(n_perms=len(model["perms"]), c=model["c"], std=model["std"])
    record["solver"] = str(model["solver_name"])
    names = {
        "solver_iters": "iterations",
        "solver_resid": "residual",
        "inducing_pts_idxs": "columns",
    }
    for key in names.keys() & model.keys():
        record[names[key]] = (
            np.size(model[key]) if key == "inducing_pts_idxs" else float(model[key])
        )
    np.savez_compressed(OPTIONS.output, **model)


def predictors(model, batch):
    """Both predictors at each of their settings: name, setting, function of R."""
    fast, module = GDMLPredict(model, max_processes=WORKERS), torchtools.GDMLTorchPredict(model)
    halves = (fast.n_train, max(fast.n_train // 2, 1), 50, 20, 0)
    for chunk in (100, *halves) if OPTIONS.throughput else (100,):
        fast._set_bulk_mp(batch > 1 and WORKERS > 1)
        fast._set_num_workers(WORKERS - 1)
        fast._set_chunk_size(chunk) if chunk else fast.prepare_parallel(n_bulk=batch)
        yield "np", f"chunk {fast.chunk_size}", lambda x: fast.predict(x.reshape(len(x), -1))
    for inner in (1, 10, 20, 50, 100) if OPTIONS.throughput and batch > 1 else (1,):
        torchtools._batch_size = inner
        yield "torch", f"batch {inner}", lambda x: [y.numpy() for y in module(torch.from_numpy(x))]


def rate(function, geometries):
    """Geometries per second of wall and CPU time, best and median call of about two seconds."""
    times, start = [], time.perf_counter()
    while len(times) < 5 or time.perf_counter() - start < 2:
        wall, cpu = time.perf_counter(), time.process_time()
        function(geometries)
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
    best, median = len(geometries) / np.min(times, 0), len(geometries) / np.median(times, 0)
    names = ("best_per_wall_s", "best_per_cpu_s", "per_wall_s", "per_cpu_s")
    return dict(zip(names, (*best, *median), strict=True))


def predict(record, data):
    model = dict(np.load(OPTIONS.model, allow_pickle=True))  # the package's files hold pickles
    record["speed"], outputs = [], {}
    for batch in sorted({1, len(data["R"])} if OPTIONS.throughput else {len(data["R"])}):
        for name, setting, function in predictors(model, batch):
            energy, forces = function(data["R"][:batch])
            speed = rate(function, data["R"][:batch]) if OPTIONS.throughput else {}
            record["speed"].append({"name": name, "batch": batch, "setting": setting} | speed)
            outputs |= {f"E_{name}": energy, f"F_{name}": forces.reshape(-1, *data["R"].shape[1:])}
    for key in {"E", "F"} & set(data):
        error = outputs[f"{key}_np"].ravel() - data[key].ravel()
        record[key] = {"mae": np.abs(error).mean(), "rmse": np.sqrt(np.mean(error**2))}
    record["predictors_differ"] = np.abs(outputs["F_np"] - outputs["F_torch"]).max()
    if OPTIONS.output:
        np.savez_compressed(OPTIONS.output, **outputs)


def dataset(record):
    with np.load(OPTIONS.data) as file:
        record["kind"] = {"d": "dataset", "m": "model"}[str(file["type"])]
    data = dict(io.is_file_type(OPTIONS.data, record["kind"])[1])
    if record["kind"] == "model":
        record["n_train"] = GDMLPredict(data, max_processes=1).n_train
    else:
        record["md5_right"] = bytes(data.get("md5", b"")) == io.dataset_md5(data)
        record["n_perms"] = len(trainer().create_task(data, 20, data, 5, 20)["perms"])


def main():
    torch.set_num_threads(OPTIONS.threads)
    record, command = dict(vars(OPTIONS)), globals()[OPTIONS.command]
    command(record) if command is dataset else command(record, load())
    for name, who in {"peak_gb": "RUSAGE_SELF", "peak_child_gb": "RUSAGE_CHILDREN"}.items():
        record[name] = resource.getrusage(getattr(resource, who)).ru_maxrss / 2**20
    record["load"] = os.getloadavg()[0]
    with open(OPTIONS.json or os.devnull, "w") as file:
        print(text := json.dumps(record, default=float, indent=1), file=file)
    print(text)


if __name__ == "__main__":
    main()
