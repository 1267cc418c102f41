"""A kernel on what a network has learnt, beside the network itself and sGDML, at small data.

    python experiments/features_kernel.py [--steps 4000] [--sizes 10 30 100]

SchNet, small and without a cutoff, learns energies and forces of ethanol at the level of MD17
(PBE+vdW-TS, 1000 geometries, 200 for validation). Then there are 10 to 100 geometries at another
level, CCSD(T), and what was learnt is to be used there:

- ``readout``: only the readout is trained on, its input stays; ``all``: everything is trained on;
- ``features kernel``: the last vectors of the atoms are the descriptor of a kernel, a sum over
  atoms of the same element, fitted to the forces by a linear solve;
- ``sgdml``: inverse distances instead, with six permutations; nothing of the network is used;
- ``network + ...``: either kernel on the difference from the network as it was.

50 other geometries choose length scales and the best step; errors are those of 300 more, at every
size the same. The record goes to ``features_kernel.json``.
"""

import argparse
import json
import os
import platform
import time
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["XLA_FLAGS"] = (
    "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1 "
    + os.environ.get("XLA_FLAGS", "")
)

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np

import jaxff
from jaxff import bind, gdml, training, units
from jaxff.data import as_frames, batches, reference_energies
from jaxff.descriptors import inverse_distances
from jaxff.kernels import AtomicSum, Kernel, matern52, permutations
from jaxff.linalg import solvers
from jaxff.networks import schnet

RECORD = Path(__file__).with_suffix(".json")
SIZE = {
    "cutoff": None, "cutoff_function": None, "features": 32, "interactions": 2,
    "radial_functions": 32, "radial_centers": np.linspace(0.5, 5.5, 32).tolist(),
    "radial_widths": [0.2] * 32,
}  # fmt: skip
LOSS = training.weighted(energy=0.01, forces=0.99)
VALID, TEST = slice(100, 150), slice(150, 450)  # of the CCSD(T) geometries; those before learn
OPTIONS = {"solver": solvers.cholesky(), "regularization": 1e-8}
SCALES = {"features kernel": (1.0, 2.0, 4.0, 8.0, 16.0), "sgdml": (5.0, 10.0, 20.0, 40.0)}
ADAPTING = 1500  # steps of readout or network at the second level
KCAL = units.to_ev("kcal/mol")


def read(folder):
    """Training and validation at the first level, all at the second."""
    path = folder / "rmd17" / "rmd17_ethanol.npz"
    first = jaxff.data.npz.read(path, energy_key="E_md17", forces_key="F_md17")
    train, other = (first.splits[f"split_train_0{i}"] for i in (1, 2))
    path = folder / "ethanol_ccsdt" / "ethanol_ccsd_t-train.npz"
    second = jaxff.data.npz.read(path, energy_unit="kcal/mol", length_unit="Ang")
    second = second[np.random.default_rng(0).permutation(len(second))]
    return first[train], first[np.setdiff1d(other, train)[:200]], second


def train(network, data, valid, **options):
    """Energies less those of the elements, which go back into the model."""
    reference = reference_energies(as_frames(data)).values

    def loader(frames, **more):
        return batches(
            as_frames(frames), batch_size=10, labels=("energy", "forces"), form="stack",
            reference_energies=reference, **more,
        )  # fmt: skip

    found = training.fit(
        network, loader(data, seed=0), loader(valid), loss=LOSS, monitor="forces/mae", **options
    )
    return jaxff.scale_shift(network, 1.0, reference), found


def errors(energy_fn, test):
    """Mean absolute errors, energies up to their mean difference: levels have other zeros."""
    found = training.predict(energy_fn, test.systems, ("energy", "forces"), batch=50)
    energy = found["energy"] - test.values["energy"]
    return {
        "energy kcal/mol": float(np.abs(energy - np.median(energy)).mean() / KCAL),
        "forces kcal/mol/A": float(np.abs(found["forces"] - test.values["forces"]).mean() / KCAL),
    }  # fmt: skip


def fit_kernel(name, kernel, data, valid, baseline=None):
    """The kernel alone, or on top of a baseline; the length scale by the validation forces."""
    labels, target = data.labels("forces"), {"forces": valid.values["forces"]}
    if baseline is not None:
        labels = gdml.residual_labels(baseline, data.systems, labels)
        target = gdml.residual_labels(baseline, valid.systems, target)
    potential = gdml.potential(kernel)
    tuned = gdml.tune(
        potential, data.systems, labels, valid.systems, target["forces"],
        lengthscales=SCALES[name], **OPTIONS,
    )  # fmt: skip
    energy_fn = bind(potential, tuned.params)
    if baseline is not None:
        both = jaxff.add(baseline.potential, potential)
        energy_fn = bind(both, (baseline.params, tuned.params))
    return energy_fn, {"lengthscale": tuned.best.lengthscale, "at_an_end": tuned.on_boundary}


def learnt_features(params):
    """Last vectors of the atoms as a descriptor; in float64, as kernels need."""
    network = schnet(**SIZE, outputs=("features",), dtype="float64")
    wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)

    def features(system, neighbors=None):
        return network.apply(wide, system)["features"]

    return features


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("JAXFF_DATA", "../shared/data"))
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 30, 100])
    options = parser.parse_args()
    if max(options.sizes) > VALID.start:
        parser.error(f"at most {VALID.start} geometries: the others validate and test")
    first, first_valid, second = read(Path(options.data))
    valid, test = second[VALID], second[TEST]
    network, start = schnet(**SIZE), time.process_time()
    rate = {"name": "cosine_decay", "init_value": 2e-3, "decay_steps": options.steps}
    model, learnt = train(
        network, first, first_valid, steps=options.steps, learning_rate=rate, ema=0.99,
        validate_every=options.steps // 4,
    )  # fmt: skip
    wide = schnet(**SIZE, dtype="float64")
    baseline = bind(
        jaxff.scale_shift(wide, 1.0, model.spec.arguments["shift"]),
        jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), learnt.params),
    )
    record = {
        "network": {"parameters": sum(x.size for x in jax.tree.leaves(learnt.params)), **SIZE},
        "steps": options.steps, "cpu_s": time.process_time() - start,
        "first_level_valid": learnt.errors, "second_level_without_labels": errors(baseline, test),
        "sizes": {}, "date": date.today().isoformat(), "load": os.getloadavg()[0],
        "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
        "versions": {p: version(p) for p in ("jaxff", "jax", "flax", "optax", "numpy")},
    }  # fmt: skip
    print(json.dumps(record), flush=True)
    group = permutations.recover(first.systems)
    kernels = {
        "features kernel": AtomicSum(learnt_features(learnt.params), matern52),
        "sgdml": Kernel(inverse_distances, matern52, group),
    }
    for size in options.sizes:
        data, found = second[:size], record["sizes"].setdefault(str(size), {})
        jobs = {
            "readout": partial(adapted, network, learnt.params, data, valid, [r"(?!energy).*"]),
            "all": partial(adapted, network, learnt.params, data, valid, []),
        }
        for name, kernel in kernels.items():
            jobs[name] = partial(fit_kernel, name, kernel, data, valid)
            jobs[f"network + {name}"] = partial(fit_kernel, name, kernel, data, valid, baseline)
        for name, job in jobs.items():
            begin = time.process_time()
            energy_fn, about = job()
            spent = time.process_time() - begin
            found[name] = {**errors(energy_fn, test), **about, "cpu_s": spent}
            print(size, name, json.dumps(found[name]), flush=True)
            RECORD.write_text(json.dumps(record, indent=1) + "\n")


def adapted(network, params, data, valid, frozen):
    """The network trained on at the second level."""
    model, found = train(
        network, data, valid, params=params, frozen=frozen, steps=ADAPTING, ema=0.99,
        learning_rate={"name": "cosine_decay", "init_value": 5e-4, "decay_steps": ADAPTING},
        validate_every=ADAPTING // 10,
    )  # fmt: skip
    return bind(model, found.params), {"best_step": found.step}


if __name__ == "__main__":
    main()
