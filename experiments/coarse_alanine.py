"""Free energies of coarse-grained alanine dipeptide against the number of frames; time per batch.

    python experiments/coarse_alanine.py curves FOLDER --scratch PLACE [--sizes 1000 3000 ...]
        [--folds 0 1 ...] [--models NAME ...] [--steps 24000] [--record FILE]
    python experiments/coarse_alanine.py timing FOLDER --peer-python PYTHON [--sizes 200 500]
    python experiments/coarse_alanine.py noise FOLDER

FOLDER holds the trajectory of ``alanine_dipeptide/generate.py``, or is a file of six beads with
forces (``alanine_dipeptide/beads.npz``, too short for more than a trial).

``curves``: kernel models in two layers, by inducing frames, a SchNet network, and the baselines of
a single kernel model (of one batch, and of up to 3000 frames), all with the same prior, fitted to
so many frames at equal distances of the parts that a fold leaves, simulated by Langevin dynamics of
many replicas from these frames, and compared with all of the trajectory. Length scales of kernels
are those of least error within the training frames, chosen anew for every size and fold. Of more
frames than a baseline takes it is not fitted again. As that was run with a bias on φ, which the
forces are without, so are the models, and both are reweighted. The record, ``coarse_alanine.json``,
grows fit by fit: a run that is interrupted goes on, and a longer one (``--steps``) takes the place
of a shorter one.

``timing``: ten batches of 200 and 500 frames each, by conjugate gradients at the level of the
noise, and dense by ``sgdml`` at the regularization of the paper (1e-15, at which a matrix with six
motions that cost nothing is positive definite but for rounding) and by ``jaxff`` at 1e-10, relative
to its mean diagonal; how far the average forces of the two ensembles are apart, beside their
standard errors. CPU seconds.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import tempfile
import time
from dataclasses import replace
from datetime import date
from importlib.metadata import version
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import numpy as np

from jaxff import add, analysis, bind, coarse, dynamics, io, report, units
from jaxff.coarse import beads, comparison, fitting, sections
from jaxff.coarse.config import Config
from jaxff.descriptors import inverse_distances
from jaxff.kernels import Kernel, matern52
from jaxff.linalg import solvers
from jaxff.numerics import select
from jaxff.report import canvas

HERE = Path(__file__).resolve().parent
RECORD = Path(__file__).with_suffix(".json")
KELVIN, TIMESTEP, FRICTION, EVERY = 300.0, 3.0, 0.005, 50  # K, fs, 1/fs, steps
BEADS = (4, 6, 8, 10, 14, 16)
PRIOR = sections.Prior(
    bonds=((0, 1), (1, 2), (2, 3), (2, 4), (4, 5)),
    angles=((0, 1, 2), (1, 2, 4), (2, 4, 5), (1, 2, 3), (3, 2, 4)),
)
VARIABLES = sections.Variables(dihedrals=((0, 1, 2, 4), (1, 2, 4, 5)), names=("φ", "ψ"))
STATES = {
    "αR": [[-180, 0], [-120, 50]], "β": [[-180, 0], [50, -120]], "αL": [[0, 120], [-60, 120]],
}  # fmt: skip
MODELS = {
    "two layers": sections.TwoLayers(
        "two_layers",
        regularization=1e-5,
        second_regularization=1e-5,
        batches=60,
        second=1000,
    ),
    "inducing frames": sections.Inducing("inducing", inducing=150),
    "SchNet": sections.Network(
        "network",
        steps=15_000,
        batch_size=64,
        network={"name": "schnet", "cutoff": 8.0, "features": 32, "interactions": 2},
    ),
    "one batch": sections.Single("single", regularization=1e-3, frames=1000),
    "single layer": sections.Single("single", regularization=1e-3, frames=3000),
}
SHORT = {  # of --trial
    "two layers": {"batches": 4, "batch": 100, "second": 100},
    "inducing frames": {"inducing": 30},
    "SchNet": {"steps": 10, "network": {"name": "schnet", "cutoff": 8.0, "features": 8}},
    "one batch": {"frames": 50},
    "single layer": {"frames": 100},
}
FOLDS, DENSE = 5, 1e-10


# --- the trajectory ----------------------------------------------------------------------------


def configured(place: Path, steps: int, replicas: int) -> Config:
    """The configuration that all fits share."""
    whole = place.is_dir()
    data = sections.Trajectory(
        path=str(place / "chain*.npz") if whole else str(place), weights_key="weights"
    )
    return Config(
        KELVIN, data, VARIABLES, {},
        map=sections.Map(atoms=BEADS) if whole else None, prior=PRIOR,
        simulate=sections.Simulate(
            ensemble="langevin", timestep=TIMESTEP, friction=FRICTION, steps=steps,
            replicas=replicas, every=EVERY,
        ),
        compare=sections.Compare(bins=36, states=STATES, center=(2, 1, 4, 3)),
    )  # fmt: skip


def bias_of(place: Path) -> np.ndarray | None:
    """Fourier series of the bias on φ of the trajectory in eV, cosines and sines."""
    settings = place / "settings.json"
    if not settings.exists():
        return None
    return np.array(json.loads(settings.read_text())["bias_kJ_per_mol"]).T * units.KJ_PER_MOL


def part_of(task: fitting.Task, data, count: int) -> fitting.Task:
    """The task with so many of its training frames, and a prior by these."""
    train = task.fold.train
    index = train[np.linspace(0, len(train) - 1, count).astype(int)]
    terms = {name: getattr(PRIOR, name) for name in ("bonds", "angles")}
    prior = coarse.fit_prior(select(data.systems, index), KELVIN, **terms)
    return replace(task, fold=coarse.Fold(index, task.fold.held_out), prior=prior)


# --- learning curves ---------------------------------------------------------------------------


def curves(options) -> None:
    models = {name: MODELS[name] for name in options.models or MODELS}
    if options.trial:
        models = {name: replace(each, **SHORT[name]) for name, each in models.items()}
    config = configured(options.folder.resolve(), options.steps, options.replicas)
    found = beads.map_beads(replace(config, models=models))
    data = found.data
    hand, bias = comparison.hand_of(config, data), bias_of(options.folder)
    reference = comparison.ensemble_of(config, data.positions, data.per_frame["weights"], hand=hand)
    target = options.scratch / "trial.json" if options.trial else options.record
    record = json.loads(target.read_text()) if target.exists() else {"entries": []}
    record["reference"] = {"frames": len(data), **comparison.compared(config, reference, reference)}
    done = {(e["model"], e["frames"], e["fold"]): e["steps"] for e in record["entries"]}
    for count in options.sizes:
        for fold in options.folds:
            own = replace(config, models=models, folds=sections.Folds(FOLDS, fold, blocks=8))
            whole = fitting.task(own, data)
            if count > len(whole.fold.train):
                print(f"{count} frames: fold {fold} has only {len(whole.fold.train)}, left out")
                continue
            task = part_of(whole, data, count)
            for name in models:
                if done.get((name, count, fold), 0) >= options.steps or beyond(name, count):
                    continue
                entry = measured(
                    own, name, task, found.masses, reference, hand, bias, options.scratch
                )
                named = {"model": name, "frames": count, "fold": fold}
                others = [e for e in record["entries"] if any(e[k] != named[k] for k in named)]
                record["entries"] = [*others, {**named, "steps": options.steps, **entry}]
                record["settings"] = about(own, options)
                write(target, record)
                print(name, count, fold, json.dumps(entry)[:200], flush=True)
    draw(record, target)


def beyond(name: str, count: int) -> bool:
    """Whether a baseline takes fewer frames than there are."""
    return count > getattr(MODELS[name], "frames", count)


def sampled(config, model, task, masses, bias):
    """Frames of a run of the model with the bias, and their weights."""
    if bias is None:
        return comparison.simulate(config, model, task, masses), None
    rows = VARIABLES.dihedrals[:1]
    cosine, sine = bias
    series = coarse.torsions(rows, len(cosine))
    term = {"cosine": jnp.asarray(cosine)[None], "sine": jnp.asarray(sine)[None]}
    biased = bind(add(model.potential, series), (model.params, term))
    places = comparison.simulate(config, biased, task, masses)
    turns = np.radians(analysis.dihedrals(places, rows)) * np.arange(1, len(cosine) + 1)
    energy = np.cos(turns) @ cosine + np.sin(turns) @ sine
    return places, np.exp(energy / (units.BOLTZMANN * KELVIN))


def measured(config, name, task, masses, reference, hand, bias, scratch) -> dict:
    """Fit, simulate and compare one model."""
    start = time.process_time()
    made = fitting.fit_model(config, name, task)
    fit_time = time.process_time() - start
    label = f"{name.replace(' ', '_')}_{len(task.fold.train)}_{config.folds.fold}"
    io.save(scratch / f"{label}.safetensors", made.model.potential, made.model.params)
    start = time.process_time()
    try:
        places, weights = sampled(config, made.model, task, masses, bias)
    except dynamics.UnstableRunError as error:  # a model that blows up is a result too
        return {"fit": made.report, "unstable": str(error)[:200], "fit_cpu_s": fit_time}
    ensemble = comparison.ensemble_of(config, places, weights, hand=hand)
    np.savez_compressed(
        scratch / f"{label}.npz", free_energy=ensemble.surface.free_energy,
        error=ensemble.surface.error,
    )  # fmt: skip
    return {
        **comparison.compared(config, ensemble, reference), "fit": made.report,
        "fit_cpu_s": fit_time, "simulation_cpu_s": time.process_time() - start,
    }  # fmt: skip


def about(config, options) -> dict:
    return {
        "date": str(date.today()), "machine": platform.machine(), "device": jax.default_backend(),
        "versions": {name: version(name) for name in ("jaxff", "jax", "numpy")},
        "steps": options.steps, "replicas": options.replicas,
        "models": {name: {k: str(v) for k, v in vars(each).items()}
                   for name, each in config.models.items()},
    }  # fmt: skip


def write(path: Path, record: dict) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    os.replace(part, path)


def draw(record: dict, target: Path) -> None:
    """Mean squared difference of the surfaces against the number of frames."""
    entries = [e for e in record["entries"] if "jensen_shannon" in e]
    if not entries:
        return
    figure = canvas.new_figure(6.4, 4.2, "Six beads of alanine dipeptide")
    axes = figure.subplots()
    colors = (canvas.BLUE, canvas.GREEN, canvas.ORANGE, canvas.PURPLE, canvas.GREY)
    for name, color in zip(MODELS, colors, strict=True):
        own = [e for e in entries if e["model"] == name]
        sizes = sorted({e["frames"] for e in own})
        values = [[e["mean_squared_difference_kT2"] for e in own if e["frames"] == n]
                  for n in sizes]  # fmt: skip
        if sizes:
            spread = [np.std(v, ddof=1) / np.sqrt(len(v)) if len(v) > 1 else 0.0 for v in values]
            means = [np.mean(v) for v in values]
            axes.errorbar(sizes, means, spread, color=color, marker="o", capsize=3, label=name)
    axes.set(xscale="log", yscale="log", xlabel="frames", ylabel="mean squared difference (kT²)")
    axes.legend(frameon=False, fontsize=9)
    report.save(target.with_suffix(".png"), figure)


# --- time per batch ----------------------------------------------------------------------------


def timing(options) -> None:
    config = configured(options.folder.resolve(), EVERY, 1)
    data = beads.map_beads(config).data
    systems, labels = data.systems, data.values["forces"]
    prior = coarse.fit_prior(systems, KELVIN, bonds=PRIOR.bonds, angles=PRIOR.angles)
    left = coarse.priors.subtract(prior, systems, labels)
    occupied = coarse.cells(analysis.dihedrals(data.positions, VARIABLES.dihedrals))
    rng = np.random.default_rng(0)
    kernel, hyper = Kernel(inverse_distances, matern52), {"lengthscale": options.lengthscale}
    layers = {
        "iterative": coarse.Layer(kernel, hyper, options.regularization),
        "dense": coarse.Layer(kernel, hyper, DENSE, solver=solvers.cholesky()),
    }
    record = {"settings": about(config, options) | {"lengthscale": options.lengthscale,
              "regularization": options.regularization, "batches": options.batches}}  # fmt: skip
    for size in options.sizes:
        batches = coarse.draw_batches(occupied, size, options.batches, rng)
        queries = select(systems, coarse.draw(occupied, min(500, len(left)), rng))
        found, seconds = {}, {}
        for name, layer in layers.items():
            coarse.bag(layer, systems, left, batches[:1], queries)  # compiles
            start = time.process_time()
            found[name] = coarse.bag(layer, systems, left, batches, queries)
            seconds[name] = (time.process_time() - start) / options.batches
        apart = found["iterative"].mean - found["dense"].mean
        entry = {
            "cpu_s_per_batch": seconds,
            "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            "iterations": float(np.mean(found["iterative"].iterations)),
            "rms_mean_force": rms(found["dense"].mean), "rms_apart": rms(apart),
            "standard_errors": {n: rms(each.standard_error) for n, each in found.items()},
        }  # fmt: skip
        if options.peer_python:
            peer = [sgdml(options, systems, left, index) for index in batches]
            seconds["sgdml"] = float(np.mean([p["cpu_s"] for p in peer]))
            shared = set.intersection(*(set(p) for p in peer))
            entry["peer"] = {k: float(np.mean([p[k] for p in peer])) for k in sorted(shared)}
            entry["ratio_to_sgdml"] = seconds["iterative"] / seconds["sgdml"]
        record[str(size)] = entry
        print(size, json.dumps(entry, indent=1), flush=True)
        write(HERE / "coarse_alanine_timing.json" if not options.trial
              else options.scratch / "trial_timing.json", record)  # fmt: skip


# --- what noise allows -------------------------------------------------------------------------


def noise(options) -> None:
    config = configured(options.folder.resolve(), EVERY, 1)
    data = beads.map_beads(config).data
    torque, psi = torques(np.asarray(data.positions), np.asarray(data.values["forces"]))
    weights = np.asarray(data.per_frame["weights"], float)
    thermal = units.BOLTZMANN * KELVIN
    edges = np.linspace(-np.pi, np.pi, 37)
    own = [np.flatnonzero(np.digitize(psi, edges) == i + 1) for i in range(36)]
    counted = -np.log([weights[i].sum() for i in own])
    means = np.array([np.average(torque[i], weights=weights[i]) for i in own]) / thermal
    left = torque / thermal - means[np.digitize(psi, edges) - 1]
    errors = np.array(
        [np.sqrt(np.sum((weights[i] * left[i]) ** 2)) / weights[i].sum() for i in own]
    )
    first, last = 16, 33  # bins about -15° and 155°, the minima of αR and β
    step = edges[1] - edges[0]
    path = np.concatenate(
        [[0.0], -np.cumsum(0.5 * (means[first:last] + means[first + 1 : last + 1]))]
    )
    record = {
        "settings": about(config, options), "frames": len(psi),
        "lag_one_correlation_of_noise": float(np.mean(left[1:] * left[:-1]) / np.mean(left**2)),
        "degrees": np.degrees(0.5 * (edges[1:] + edges[:-1]))[first : last + 1].round(1).tolist(),
        "counted_kT": (counted - counted[first])[first : last + 1].tolist(),
        "integral_kT": (step * path).tolist(),
        "standard_error_kT": (step * np.sqrt(np.cumsum(errors[first : last + 1] ** 2))).tolist(),
    }  # fmt: skip
    for row in zip(*(record[k] for k in ("degrees", "counted_kT", "integral_kT",
                                         "standard_error_kT")), strict=True):  # fmt: skip
        print("{:6.0f}° {:6.2f} {:6.2f} ± {:.2f} kT".format(*row))
    write(HERE / "coarse_alanine_noise.json", record)


def torques(positions, forces):
    """Torque on the last bead in eV about the bond that ψ turns about, and ψ, in radians."""
    *_, near, last = VARIABLES.dihedrals[1]
    axis = positions[:, near] - positions[:, VARIABLES.dihedrals[1][1]]
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    arm = np.cross(axis, positions[:, last] - positions[:, near])
    psi = np.radians(analysis.dihedrals(positions, VARIABLES.dihedrals[1:]))[:, 0]
    return np.sum(forces[:, last] * arm, axis=1), psi


def rms(values) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def sgdml(options, systems, forces, index) -> dict[str, float]:
    """CPU seconds of the peer for one batch: assembly and factorization."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        np.savez(
            place / "batch.npz", z=np.asarray(systems.numbers)[0], E=np.ones(len(index)),
            R=np.asarray(systems.positions)[index], F=forces[index] / units.KCAL_PER_MOL,
            perms=np.arange(systems.atom_count)[None], r_unit="Ang", e_unit="kcal/mol",
        )  # fmt: skip
        script = HERE / "peers" / "sgdml_reference.py"
        found = json.loads(
            subprocess.run(
                [str(options.peer_python), str(script), "train", str(place / "batch.npz"),
                 "--perms", str(place / "batch.npz"), "--lengthscale", f"{options.lengthscale:g}",
                 "--regularization", "1e-15", "-o", str(place / "model.npz"), "--threads", "1"],
                check=True, stdout=subprocess.PIPE, text=True,
            ).stdout
        )  # fmt: skip
    phases = {
        f"{name}_cpu_s": found[name]["cpu_s"]
        for name in ("assemble", "cholesky")
        if name in found  # where the factorization fails the peer solves by LU
    }
    return {"cpu_s": found["train"]["cpu_s"], **phases}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("command", choices=("curves", "timing", "noise"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scratch", type=Path, default=Path("coarse_alanine"))
    parser.add_argument("--sizes", type=int, nargs="+")
    parser.add_argument("--folds", type=int, nargs="+", default=list(range(FOLDS)))
    parser.add_argument("--models", nargs="+", choices=list(MODELS))
    parser.add_argument("--record", type=Path, default=RECORD, help="of the curves")
    parser.add_argument("--steps", type=int, default=24_000)
    parser.add_argument("--replicas", type=int, default=100)
    parser.add_argument("--peer-python", type=Path)
    parser.add_argument("--batches", type=int, default=10)
    parser.add_argument("--lengthscale", type=float, default=1.0)
    parser.add_argument("--regularization", type=float, default=0.1)
    parser.add_argument("--trial", action="store_true", help="tiny models; no record is kept")
    options = parser.parse_args()
    options.scratch.mkdir(parents=True, exist_ok=True)
    if options.command == "curves":
        options.sizes = options.sizes or [1000, 3000, 10_000, 30_000]
        curves(options)
    elif options.command == "timing":
        options.sizes = options.sizes or [200, 500]
        timing(options)
    else:
        noise(options)


if __name__ == "__main__":
    main()
