"""Time to failure of molecular dynamics with trained networks, over seeds and temperatures.

    python experiments/stability.py MODEL.safetensors ... [--temperatures 300 500] [--seeds 5]
        [--picoseconds 50] [--molecule ethanol] [--draw-only]

Models are networks in float32 as ``experiments/networks.py`` writes them, of a molecule of rMD17.
All seeds of a temperature run side by side under Langevin dynamics, each from its own geometry of
the test set; one that fails leaves, the others go on. A run has failed when a bond is longer or
shorter by more than 0.5 Å than in the frame of lowest energy (the criterion of Fu et al.,
arXiv:2210.07237), when an atom moves by 0.5 Å in one step, or when a number is not finite.

Beside the times are recorded temperatures, the distribution of interatomic distances h(r) against
that of the data (MD17 was sampled at 500 K; the difference is its integral) and the time of a step.
The record goes to ``stability_MOLECULE.json``, part by part (a part that is there is not run
again unless asked for with ``--again``), the figure to ``stability_MOLECULE.png``. On a GPU:
``--seeds 10 --picoseconds 300``.
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
from jaxff import System, analysis, bind, dynamics
from jaxff.analysis.geometry import bonds_of, distances, histogram
from jaxff.report import canvas
from jaxff.system import stack

TIMESTEP, EVERY, SEGMENT = 0.5, 20, 5000  # fs, steps, steps
FRICTION = 0.002  # 1/fs: too weak to carry away what wrong forces would heat
DEVIATION = 0.5  # Å
BLOCKS, BINS, REACH = 100, 160, 8.0  # of time, of h(r), Å
HERE = Path(__file__).resolve()
COLORS = (canvas.BLUE, canvas.ORANGE, canvas.GREEN, canvas.PURPLE)


def failure(part, reference):
    """When a bond leaves its range, fs."""
    return analysis.time_to_failure(
        part.positions, part.times, part.numbers, energy=part.potential_energy,
        reference=reference, deviation=DEVIATION,
    )  # fmt: skip


def distance_density(positions):
    """h(r) over all pairs of atoms and all frames, per Å."""
    pairs = np.stack(np.triu_indices(positions.shape[-2], 1), axis=1)
    return histogram(distances(positions, pairs), BINS, (0.0, REACH))[1]


def largest_deviations(run, pairs, lengths, steps):
    """Of any bond in each part of the time, Å; None where the run had ended."""
    apart = np.abs(distances(run.positions, pairs) - lengths).max(axis=1)
    block = np.minimum(run.steps * BLOCKS // steps, BLOCKS - 1)
    found = [apart[block == k] for k in range(BLOCKS)]
    return [round(float(part.max()), 4) if len(part) else None for part in found]


def pace(ticks):
    """Seconds of a step of one replica, from segments that compile nothing; None without any."""
    spent, taken = np.zeros(2), 0
    for first, second, now, after in zip(*(ticks[k:] for k in range(4)), strict=False):
        if first["alive"] == second["alive"] == now["alive"]:
            spent += np.subtract(after["clock"], now["clock"])
            taken += (after["step"] - now["step"]) * now["alive"]
    return (spent / taken).tolist() if taken else [None, None]


def study(model, data, kelvin, options):
    """All seeds of a model at a temperature."""
    potential, params = jaxff.io.load(model)
    reference = data.positions[int(np.argmin(data.values["energy"]))]
    frames = data[data.splits["split_test_01"][: options.seeds]]
    systems = stack([System(x, data.numbers) for x in frames.positions])
    steps = round(1000 * options.picoseconds / TIMESTEP)
    clock = lambda: (time.perf_counter(), time.process_time())  # noqa: E731
    ticks = [{"step": 0, "alive": options.seeds, "clock": clock()}]

    def progress(step, alive):
        ticks.append({"step": step, "alive": len(alive), "clock": clock()})
        now = step * TIMESTEP / 1000
        print(f"{model.stem}, {kelvin:g} K, {now:g} ps: {len(alive)} go on", flush=True)

    found = analysis.lifetimes(
        bind(potential, params), systems, steps=steps, segment=SEGMENT, every=EVERY,
        ensemble=dynamics.langevin(TIMESTEP, kelvin, FRICTION), chunk=SEGMENT,
        key=jax.random.key(round(kelvin)), judge=partial(failure, reference=reference),
        progress=progress,
    )  # fmt: skip
    pairs = bonds_of(data.numbers, reference)
    lengths = distances(reference, pairs)
    sound = [  # without the first tenth, in which the runs come to their temperature
        (run, (run.times > 0.1 * when) & (run.times < when))
        for run, when in zip(found.trajectories, found.times, strict=True)
    ]
    hotness = [
        float(run.half_step_temperature[part].mean()) if part.any() else None for run, part in sound
    ]
    expected = distance_density(data.positions)
    densities = [distance_density(run.positions[part]) for run, part in sound if part.any()]
    apart = [float(np.abs(h - expected).sum() * REACH / BINS) for h in densities]
    wall, cpu = pace(ticks)
    picoseconds = found.times / 1000
    return {
        "picoseconds": options.picoseconds,
        "time_to_failure_ps": [
            float(t) if bad else None for t, bad in zip(picoseconds, found.failed, strict=True)
        ],
        "exploded": found.exploded.tolist(), "failures": int(found.failed.sum()),
        "mean_time_ps": float(picoseconds.mean()),
        "standard_deviation_ps": float(picoseconds.std(ddof=1)) if len(picoseconds) > 1 else None,
        "mean_share_sound": float(picoseconds.mean() / options.picoseconds),
        "temperatures_k": hotness,
        "distance_density_difference": apart,
        "distance_density": np.round(np.mean(densities, axis=0), 5).tolist() if densities else None,
        "largest_deviations_angstrom": [
            largest_deviations(run, pairs, lengths, steps) for run in found.trajectories
        ],
        "wall_s_per_step_of_a_replica": wall, "cpu_s_per_step_of_a_replica": cpu,
        "wall_s": ticks[-1]["clock"][0] - ticks[0]["clock"][0],
        "date": date.today().isoformat(), "load": os.getloadavg()[0],
        "machine": f"{platform.machine()}, {jax.devices()[0].device_kind}, 1 of {os.cpu_count()} "
        "cores",
        "versions": {p: version(p) for p in ("jaxff", "jax", "numpy")},
    }  # fmt: skip


def draw(record, file):
    """Bonds along the runs and distances of atoms, a row for each temperature."""
    kelvins = sorted({float(k) for model in record["models"].values() for k in model["runs"]})
    figure = canvas.new_figure(10, 0.6 + 2.6 * len(kelvins))
    panels = figure.subplots(len(kelvins), 2, squeeze=False, width_ratios=(1, 1.2))
    centers = (np.arange(BINS) + 0.5) * REACH / BINS
    for (left, right), kelvin in zip(panels, kelvins, strict=True):
        right.fill_between(
            centers, record["distance_density_of_data"], color="0.85", label="data, 500 K"
        )
        for color, (name, model) in zip(COLORS, record["models"].items(), strict=False):
            run = model["runs"].get(f"{kelvin:g}")
            if run is None:
                continue
            label = name.replace("_", " ")
            times = (np.arange(BLOCKS) + 0.5) * run["picoseconds"] / BLOCKS
            for row in run["largest_deviations_angstrom"]:
                seen = np.array([np.nan if x is None else x for x in row], float)
                left.plot(times, seen, color=color, lw=0.8, alpha=0.8, label=label)
                label = None
            if run["distance_density"]:
                right.plot(centers, run["distance_density"], color=color, lw=1)
        left.axhline(DEVIATION, color=canvas.GREY, ls="--", lw=1)
        left.set(ylabel=f"{kelvin:g} K\nlargest deviation of a bond (Å)", yscale="log")
        right.set(ylabel="h(r) (1/Å)", xlim=(0.8, None), ylim=(0, None))
        for axes in (left, right):
            canvas.tidy(axes)
            axes.legend(fontsize=7, frameon=False)
    panels[-1, 0].set_xlabel("time (ps)")
    panels[-1, 1].set_xlabel("distance of two atoms (Å)")
    used = np.flatnonzero(np.array(record["distance_density_of_data"]) > 0)
    for axes in panels[:, 1]:
        axes.set_xlim(0.8, centers[used[-1]] + 0.3)
    canvas.save(file, figure, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--data", default=os.environ.get("JAXFF_DATA", "../shared/data"))
    parser.add_argument("--molecule", default="ethanol")
    parser.add_argument("--temperatures", nargs="+", type=float, default=[300.0, 500.0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--picoseconds", type=float, default=50.0)
    parser.add_argument("--record", type=Path, help="another file for the record")
    parser.add_argument("--again", action="store_true", help="run parts that are there, too")
    parser.add_argument("--draw-only", action="store_true")
    options = parser.parse_args()
    file = options.record or HERE.with_name(f"{HERE.stem}_{options.molecule}.json")
    record = json.loads(file.read_text()) if file.exists() else {"models": {}}
    path = Path(options.data, "rmd17", f"rmd17_{options.molecule}.npz")
    data = jaxff.data.npz.read(path, energy_key="E_md17", forces_key="F_md17")
    record |= {
        "molecule": options.molecule, "timestep_fs": TIMESTEP, "friction_per_fs": FRICTION,
        "largest_deviation_angstrom": DEVIATION,
        "distance_density_of_data": np.round(distance_density(data.positions), 5).tolist(),
    }  # fmt: skip
    for model in () if options.draw_only else options.models:
        mine = record["models"].setdefault(model.stem, {"runs": {}})
        tested = model.with_suffix(".json")
        mine["test_errors"] = json.loads(tested.read_text())["errors"] if tested.exists() else None
        for kelvin in options.temperatures:
            done = mine["runs"].get(f"{kelvin:g}")
            wanted = (options.seeds, options.picoseconds)
            if done and not options.again:
                if (len(done["exploded"]), done["picoseconds"]) == wanted:
                    continue
                parser.error(f"{file} holds other runs at {kelvin:g} K: --again, or --record FILE")
            mine["runs"][f"{kelvin:g}"] = found = study(model, data, kelvin, options)
            shown = {k: v for k, v in found.items() if not k.startswith(("distance", "largest"))}
            print(model.stem, kelvin, json.dumps(shown), flush=True)
            file.write_text(json.dumps(record, indent=1) + "\n")
    draw(record, file.with_suffix(".png"))


if __name__ == "__main__":
    main()
