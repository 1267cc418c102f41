r"""One SpookyNet for two electronic states of a molecule, with and without knowing which it is.

    python experiments/electronic_states.py FOLDER [--only methylene silver] [--seeds 0 1 2]
        [--scratch FOLDER] [--draw-only]

FOLDER holds the labels that ``experiments/peers/electronic_states.py`` computes: methylene as
singlet and triplet, and Ag3 with charge +1 and -1, both states at identical geometries. For each
seed, which draws the geometries of the test and the first parameters, one network learns both
states (``electronic_states/NAME.toml``), and then the same without the embeddings of charge and
spin: all else that it sees is the same for both states. It has neither electrostatics nor
dispersion, which know the total charge without the embedding.

Measured on geometries not seen are errors of energies and forces (mean absolute ones), and of the
gap, the difference of the energies of both states at one geometry: ``share_of_gap`` is its mean
absolute error over the mean gap, ``share_of_spread`` that over the standard deviation of the gap,
which matters where the gap is nearly the same everywhere. The record goes to
``electronic_states.json``; seeds that are on record with the same settings are not repeated, and a
training that was stopped goes on. The figure, ``electronic_states.png``, shows the cut along the
angle at equal bonds, which was not trained on.
"""

import argparse
import json
import os
import platform
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
from jaxff.data import extxyz_frames
from jaxff.report import canvas
from jaxff.training.sources import open_parts

HERE = Path(__file__).resolve()
# Names of both states, first the one whose energy is taken off for the gap.
SETS = {"methylene": ("triplet", "singlet"), "silver": ("cation", "anion")}
MODELS = {"told": {}, "not told": {"charge_embedding": False, "spin_embedding": False}}


def state(frame):
    """0 for the triplet and the cation, 1 for the singlet and the anion."""
    return int(frame.spin == 0) if 6 in frame.numbers else int(frame.charge < 0)


def settings(name, model, seed):
    """The configuration of one run."""
    base = training.read_config(HERE.with_suffix("") / f"{name}.toml")
    own = {**base.model, **MODELS[model]}
    content = {**base.content, "model": own}
    for section in ("data", "training"):
        content[section] = {**base.content[section], "seed": seed}
    return replace(
        base, model=own, data=replace(base.data, seed=seed), content=content,
        training=replace(base.training, seed=seed),
    )  # fmt: skip


def settings_of(config):
    return {k: v for k, v in config.settings.items() if k != "data.path"}


def read_cut(name, folder):
    """Angles in degrees and energies of both states, eV."""
    frames = extxyz_frames.open_extxyz(
        folder / f"{name}_cut.xyz", energy_key="energy", forces_key=None, spin_key="unpaired"
    )
    angles, energies = [], []
    for index in range(len(frames)):
        frame = frames[index]
        first, second = frame.positions[1:] - frame.positions[0]
        cosine = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
        angles.append(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
        energies.append((state(frame), float(frame.labels["energy"])))
    states, values = np.array(energies).T
    order = [np.flatnonzero(states == k) for k in (0, 1)]
    return np.array(angles)[order[0]], values[np.array(order)], frames


def along(frames, angles):
    """Both states at these angles, with the bonds of the cut."""
    systems = []
    templates = {state(frames[k]): frames[k] for k in range(len(frames))}
    for which in (0, 1):
        frame = templates[which]
        bond = np.linalg.norm(frame.positions[1] - frame.positions[0])
        for angle in np.radians(angles):
            turned = [bond * np.cos(angle), bond * np.sin(angle), 0]
            positions = np.array([[0, 0, 0], [bond, 0, 0], turned])
            systems.append(System(positions, frame.numbers, charge=frame.charge, spin=frame.spin))
    return systems


def run(name, model, seed, options):
    """Train, or go on, and test."""
    config = settings(name, model, seed)
    job = training.prepare(config)
    folder = options.scratch / f"{name}_{model.replace(' ', '_')}_{config.training.steps}_{seed}"
    started = time.process_time()
    params = job.fit(checkpoints=folder, progress=False).params
    seconds = time.process_time() - started
    test = open_parts(config.data, config.folder).test
    frames = [test[k] for k in range(len(test))]
    systems = [System(f.positions, f.numbers, charge=f.charge, spin=f.spin) for f in frames]
    angles, _, cut = read_cut(name, options.folder)
    fine = np.linspace(angles[0], angles[-1], 4 * len(angles) - 3)
    system = pack(systems + along(cut, fine))
    found = neighbor_list(job.network.cutoffs).allocate(system)
    predicted = jax.jit(observe(bind(job.network, params), ("energy", "forces")))(system, found)
    shift = job.reference.values[cut[0].numbers].sum()
    energies = np.asarray(predicted["energy"], float) + shift
    count = 3 * len(frames)
    forces = np.asarray(predicted["forces"], float)[:count].reshape(-1, 3, 3)
    return {
        "errors": errors(name, frames, energies[: len(frames)], forces),
        "cut": {
            "angles": fine.tolist(),
            "energies": energies[len(frames) :].reshape(2, -1).tolist(),
        },
        "settings": settings_of(config), "train": len(job.train.found.sizes),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "cpu_seconds_of_last_call": seconds,
    }  # fmt: skip


def errors(name, frames, energies, forces):
    """Mean absolute errors by state, meV and meV/Å, and those of the gap."""
    result, gaps = {}, {}
    states = np.array([state(frame) for frame in frames])
    right = np.array([float(frame.labels["energy"]) for frame in frames])
    off = forces - np.array([frame.labels["forces"] for frame in frames])
    for index, label in enumerate(SETS[name]):
        own = states == index
        result[label] = {
            "energy": 1e3 * float(np.abs(energies - right)[own].mean()),
            "forces": 1e3 * float(np.abs(off[own]).mean()), "frames": int(own.sum()),
        }  # fmt: skip
        for k in np.flatnonzero(own):
            gaps.setdefault(frames[k].group, {})[index] = (right[k], energies[k])
    pairs = np.array([[both[1][k] - both[0][k] for k in (0, 1)] for both in _pairs(gaps)])
    wrong = float(np.abs(pairs[:, 1] - pairs[:, 0]).mean())
    mean, spread = float(np.abs(pairs[:, 0]).mean()), float(pairs[:, 0].std())
    return result | {
        "gap": {
            "error": 1e3 * wrong, "mean": 1e3 * mean, "spread": 1e3 * spread,
            "share_of_gap": wrong / mean, "share_of_spread": wrong / spread,
            "largest_predicted": 1e3 * float(np.abs(pairs[:, 1]).max()),
        }
    }  # fmt: skip


def _pairs(gaps):
    for group, both in gaps.items():
        if len(both) != 2:
            raise ValueError(f"geometry {group} of the test lacks one of its states")
        yield both


def draw(record, folder):
    names = [name for name in SETS if name in record["runs"]]
    figure = canvas.new_figure(5 * len(names), 6.4)
    rows = figure.subplots(2, len(names), sharex="col", squeeze=False)
    for (upper, lower), name in zip(rows.T, names, strict=True):
        angles, reference, _ = read_cut(name, folder)
        runs = {model: next(iter(own.values())) for model, own in record["runs"][name].items()}
        # Energies of the ions have nothing in common: each from its lowest.
        zero = reference.min(axis=1) if name == "silver" else np.full(2, reference.min())
        for index, (label, color) in enumerate(
            zip(SETS[name], (canvas.BLUE, canvas.ORANGE), strict=True)
        ):
            upper.plot(angles, reference[index] - zero[index], "o", ms=4, color=color, label=label)
            cut = runs["told"]["cut"]
            energies = np.array(cut["energies"][index]) - zero[index]
            upper.plot(cut["angles"], energies, color=color)
        lower.plot(angles, reference[1] - reference[0], "o", ms=4, color="k", label="reference")
        for model, style in zip(MODELS, ("-", "--"), strict=True):
            cut = runs[model]["cut"]
            gap = np.subtract(*cut["energies"][::-1])
            name_of = {"told": "network", "not told": "network that is not told"}[model]
            lower.plot(cut["angles"], gap, style, color=canvas.GREEN, label=name_of)
            if name == "methylene" and model == "not told":
                energies = np.array(cut["energies"][0]) - zero[0]
                upper.plot(cut["angles"], energies, style, color=canvas.GREY, label=name_of)
        own = "each from its lowest, eV" if name == "silver" else "from the lowest, eV"
        upper.set(ylabel=f"energy, {own}", title={"methylene": "CH₂", "silver": "Ag₃"}[name])
        lower.set(xlabel="angle, degrees", ylabel=f"{SETS[name][1]} - {SETS[name][0]}, eV")
        for axes in (upper, lower):
            canvas.tidy(axes)
            axes.legend(fontsize=8)
    canvas.save(HERE.with_suffix(".png"), figure)


def fill(record, name, model, seed, options, path):
    """Run what is not on record with these settings."""
    runs = record["runs"].setdefault(name, {}).setdefault(model, {})
    if runs.get(str(seed), {}).get("settings") == settings_of(settings(name, model, seed)):
        return
    runs[str(seed)] = run(name, model, seed, options)
    labels = json.loads((options.folder / f"{name}.json").read_text())
    record["labels"] = {**record.get("labels", {}), name: labels}
    record.update({
        "units": {"energy": "meV", "forces": "meV/Å", "gap": "meV", "cut": "degrees, eV"},
        "date": date.today().isoformat(), "load": os.getloadavg()[0],
        "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
        "versions": {p: version(p) for p in ("jaxff", "jax", "flax", "optax", "numpy")},
    })  # fmt: skip
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    print(name, model, seed, json.dumps(runs[str(seed)]["errors"]), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="of the labels")
    parser.add_argument("--only", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()) / "states")
    parser.add_argument("--draw-only", action="store_true", help="draw the record that is there")
    options = parser.parse_args()
    os.environ["STATES"] = str(options.folder.resolve())
    path = HERE.with_suffix(".json")
    record = json.loads(path.read_text()) if path.exists() else {"runs": {}}
    if not options.draw_only:
        keep_freed_memory()
        # Seeds share their programs, also those of a run that was stopped.
        jax.config.update("jax_compilation_cache_dir", str(options.scratch / "programs"))
        for name in options.only:
            for seed in options.seeds:
                for model in MODELS:
                    fill(record, name, model, seed, options, path)
    draw(record, options.folder)


if __name__ == "__main__":
    main()
