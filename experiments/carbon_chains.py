r"""SpookyNet on carbon chains, with and without charge embedding and nonlocal attention.

    python experiments/carbon_chains.py [--seeds 0 1 2 3 4] [--only NAME ...] [--steps N]
        [--scratch FOLDER] [--draw-only]

The 128 chains C10H2 and C10H3+ that come with n2p2 (PBE, Hirshfeld charges), of the set of Ko et
al., Nat. Commun. 12, 398 (2021), doi:10.1038/s41467-020-20427-2. The extra proton sits at one end,
13 Å from the other, while two modules see 8.5 Å: what happens at the far end depends on
information that only the total charge, or attention, brings there. The two species differ in their
composition, so that a single error says nothing about that: errors are resolved by the position
along the chain, counted from the protonated end (of neutral chains from either).

Each seed draws its own 10 % of either species for the test, and its own first parameters; all of
the other frames are trained on, for a fixed number of steps (``carbon_chains/base.toml``).
Checkpoints go to the scratch folder: a run that was stopped goes on when it is started again, and
what is on record, ``carbon_chains.json``, is not repeated if its settings are the same. Errors are
root mean squares, as published: of energies per atom (reference energies of the elements, by least
squares, take the mean of each species off), of components of forces, of charges. The figure goes to
``carbon_chains.png``.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from dataclasses import replace
from datetime import date
from importlib.metadata import version
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # long warnings on programs read from the cache
os.environ["XLA_FLAGS"] = (
    "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1 "
    + os.environ.get("XLA_FLAGS", "")
)

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np

from jaxff import System, bind, neighbor_list, observe, pack, training
from jaxff.allocation import keep_freed_memory
from jaxff.report import canvas
from jaxff.training.sources import open_parts

HERE = Path(__file__).resolve()
CONFIG = HERE.with_suffix("") / "base.toml"
CONFIGURATIONS = {
    "both": {},
    "charge embedding": {"nonlocal_attention": "none"},
    "attention": {"charge_embedding": False},
    "neither": {"charge_embedding": False, "nonlocal_attention": "none"},
}
COLORS = dict(
    zip(CONFIGURATIONS, (canvas.BLUE, canvas.ORANGE, canvas.GREEN, canvas.PURPLE), strict=True)
)
# Root mean square errors on the full set, from Table 1 of Unke et al., Nat. Commun. 12, 7273
# (2021), doi:10.1038/s41467-021-27504-0: meV/atom, meV/Å, me.
PUBLISHED = {
    "SpookyNet": {"energy": 0.364, "forces": 5.802, "charges": 0.117},
    "4G-HDNNP": {"energy": 1.194, "forces": 78.00, "charges": 6.577},
}
SPECIES = {0: "C10H2", 1: "C10H3+"}


def settings(base, name, seed, steps):
    """The configuration of one run."""
    model = {**base.model, **CONFIGURATIONS[name]}
    data = replace(base.data, seed=seed)
    content = {**base.content, "model": model, "data": {**base.content["data"], "seed": seed}}
    rate = dict(base.learning_rate)
    own = replace(base.training, seed=seed)
    if steps is not None:
        rate["decay_steps"] = steps
        own = replace(own, steps=steps, validate_every=steps)
    content["learning_rate"] = rate
    content["training"] = {**base.content["training"], "seed": seed, "steps": own.steps}
    return replace(base, model=model, data=data, learning_rate=rate, training=own, content=content)


def positions_along(frame):
    """Places 1 to 10 of the carbons from the end with more hydrogen; 0 and 11 for hydrogen."""
    distances = np.linalg.norm(frame.positions[:, None] - frame.positions, axis=2)
    carbons = np.flatnonzero(frame.numbers == 6)
    hydrogens = np.flatnonzero(frame.numbers == 1)
    owners = carbons[np.argmin(distances[np.ix_(hydrogens, carbons)], axis=1)]
    ends, counts = np.unique(owners, return_counts=True)
    if len(ends) != 2:
        raise ValueError(f"a chain has two ends with hydrogen, got {len(ends)}")
    chain, left = [ends[np.argmax(counts)]], set(carbons) - {ends[np.argmax(counts)]}
    while left:
        chain.append(min(left, key=lambda c: distances[chain[-1], c]))
        left.remove(chain[-1])
    if chain[-1] not in ends:
        raise ValueError("the carbons do not form a chain from one end to the other")
    places = np.zeros(len(frame.numbers), int)
    places[chain] = np.arange(1, len(chain) + 1)
    places[hydrogens] = np.where(owners == chain[0], 0, len(chain) + 1)
    return places


def test(job, params):
    """Errors of the test frames: all of one species together, and along the chain."""
    chosen = open_parts(job.config.data, job.config.folder).test
    frames = [chosen[i] for i in range(len(chosen))]
    systems = [System(f.positions, f.numbers, charge=f.charge) for f in frames]
    system = pack(systems)
    found = neighbor_list(job.network.cutoffs).allocate(system)
    names = ("energy", "forces", "partial_charges")
    predicted = jax.jit(observe(bind(job.network, params), names))(system, found)
    predicted = {name: np.asarray(value, np.float64) for name, value in predicted.items()}
    ends = np.cumsum([0, *map(len, frames)])
    rows = []
    for index, frame in enumerate(frames):
        atoms = slice(ends[index], ends[index + 1])
        reference = job.reference.values[frame.numbers].sum()
        energy = predicted["energy"][index] + reference - frame.labels["energy"]
        rows.append({
            "charge": round(frame.charge),
            "energy": 1e3 * float(energy) / len(frame),
            "forces": 1e3 * (predicted["forces"][atoms] - frame.labels["forces"]),
            "charges": 1e3
            * (predicted["partial_charges"][atoms] - frame.labels["partial_charges"]),
            "places": positions_along(frame),
        })  # fmt: skip
    result = {"all": summary(rows)}
    for charge, species in SPECIES.items():
        own = [row for row in rows if row["charge"] == charge]
        result[species] = {**summary(own), "along": along(own), "frames": len(own)}
    return result


def rms(values):
    return float(np.sqrt(np.mean(np.square(values))))


def summary(rows):
    """Root mean square errors, meV/atom, meV/Å, me."""
    return {
        "energy": rms([row["energy"] for row in rows]),
        "forces": rms(np.concatenate([row["forces"].ravel() for row in rows])),
        "charges": rms(np.concatenate([row["charges"] for row in rows])),
    }


def along(rows):
    """The same by place in the chain."""
    places = np.concatenate([row["places"] for row in rows])
    forces = np.concatenate([row["forces"] for row in rows])
    charges = np.concatenate([row["charges"] for row in rows])
    return {
        "forces": [rms(forces[places == k]) for k in range(12)],
        "charges": [rms(charges[places == k]) for k in range(12)],
    }


def run(name, seed, options):
    """Train, or go on, and test."""
    config = settings(training.read_config(CONFIG), name, seed, options.steps)
    job = training.prepare(config)
    folder = options.scratch / f"{name.replace(' ', '_')}_{config.training.steps}_{seed}"
    started = time.process_time()
    result = job.fit(checkpoints=folder, progress=False)
    return {
        "errors": test(job, result.params),
        "settings": settings_of(config),
        "seconds": result.history[-1]["seconds"],
        "cpu_seconds_of_last_call": time.process_time() - started,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(result.params)),
        "train": len(job.train.found.sizes),
    }


def settings_of(config):
    return {k: v for k, v in config.settings.items() if k != "data.path"}


def table(record):
    """Mean and standard deviation over the seeds."""
    found = {}
    for name, runs in record["runs"].items():
        parts = {}
        for part in ("all", *SPECIES.values()):
            values = [own["errors"][part] for own in runs.values()]
            parts[part] = {
                label: {
                    "mean": statistics.mean(v[label] for v in values),
                    "deviation": statistics.stdev(v[label] for v in values)
                    if len(values) > 1 else None,
                }
                for label in ("energy", "forces", "charges")
            }  # fmt: skip
        found[name] = {"seeds": len(runs), **parts}
    return found


def draw(record):
    figure = canvas.new_figure(11, 6)
    rows = figure.subplots(2, 2, sharex=True)
    for place, species in enumerate(SPECIES.values()):
        for axes, label, unit in zip(rows[place], ("forces", "charges"), ("meV/Å", "me"),
                                     strict=True):  # fmt: skip
            for name, runs in record["runs"].items():
                each = np.array([
                    own["errors"][species]["along"][label] for own in runs.values()
                ])  # fmt: skip
                mean = each.mean(axis=0)
                axes.semilogy(range(12), mean, "o-", ms=3, color=COLORS[name], label=name)
                axes.fill_between(
                    range(12), each.min(axis=0), each.max(axis=0), color=COLORS[name],
                    alpha=0.15, lw=0,
                )  # fmt: skip
            axes.set(ylabel=f"{label}, RMSE, {unit}", title=species)
            canvas.tidy(axes)
    ticks = ["H", *map(str, range(1, 11)), "H"]
    for axes in rows[1]:
        axes.set(xticks=range(12), xticklabels=ticks, xlabel="place, from the protonated end")
    rows[0][0].legend(fontsize=7)
    canvas.save(HERE.with_suffix(".png"), figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)))
    parser.add_argument("--only", nargs="+", choices=CONFIGURATIONS, default=list(CONFIGURATIONS))
    parser.add_argument("--steps", type=int, help="other than those of the configuration")
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()) / "chains")
    parser.add_argument("--draw-only", action="store_true", help="draw the record that is there")
    options = parser.parse_args()
    os.environ["JAXFF_DATA"] = os.path.abspath(os.environ.get("JAXFF_DATA", "../shared/data"))
    path = HERE.with_suffix(".json")
    record = json.loads(path.read_text()) if path.exists() else {"runs": {}}
    if not options.draw_only:
        keep_freed_memory()
        # Seeds share their programs, also those of a run that was stopped.
        jax.config.update("jax_compilation_cache_dir", str(options.scratch / "programs"))
        for seed in options.seeds:
            for name in options.only:
                fill(record, name, seed, options, path)
    print(json.dumps(record["table"], indent=1, ensure_ascii=False))
    draw(record)


def fill(record, name, seed, options, path):
    """Run what is not on record with these settings."""
    runs = record["runs"].setdefault(name, {})
    config = settings(training.read_config(CONFIG), name, seed, options.steps)
    if runs.get(str(seed), {}).get("settings") == settings_of(config):
        return
    runs[str(seed)] = run(name, seed, options)
    order = {key: record["runs"][key] for key in CONFIGURATIONS if key in record["runs"]}
    record.update({
        "runs": order, "table": table({"runs": order}), "published, full set": PUBLISHED,
        "units": {"energy": "meV/atom", "forces": "meV/Å", "charges": "me"},
        "date": date.today().isoformat(), "load": os.getloadavg()[0],
        "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
        "versions": {p: version(p) for p in ("jaxff", "jax", "flax", "optax", "numpy")},
    })  # fmt: skip
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    own = runs[str(seed)]
    print(name, seed, own["errors"]["all"], own["cpu_seconds_of_last_call"], flush=True)


if __name__ == "__main__":
    main()
