"""Ethanol under thermostats: ten runs of 200 ps at 300 K and 500 K, sGDML, in float64.

    python experiments/thermostats_ethanol.py MODEL.npz [--steps 400000] [--only langevin-300 ...]

MODEL is an sGDML model file of ethanol (``experiments/rmd17.py --models FOLDER`` writes one). The
ten runs of a setting go side by side, from ten geometries of the test set; the first 20 ps are left
out. The temperature is that of the half steps, divided by the degrees of freedom that the ensemble
states: all 27 under Langevin dynamics, 21 under a Nosé-Hoover chain. Its standard error comes from
averages over blocks of every run; of all block lengths up to the whole run, the largest error
counts. The record, renewed setting by setting, goes to ``thermostats_ethanol.json``.
"""

import argparse
import json
import os
import platform
import time
from datetime import date
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
from jaxff import bind, dynamics
from jaxff.interfaces import sgdml

TIMESTEP, REPLICAS, EVERY, LEFT_OUT = 0.5, 10, 20, 20.0  # fs, runs, steps, ps
FRICTION, RELAXATION = 0.01, 50.0  # 1/fs, fs
ENSEMBLES = {
    "langevin": lambda kelvin: dynamics.langevin(TIMESTEP, kelvin, FRICTION),
    "nose-hoover": lambda kelvin: dynamics.nose_hoover(TIMESTEP, kelvin, RELAXATION),
}
SETTINGS = {
    f"{name}-{kelvin:.0f}": (name, kelvin) for kelvin in (300.0, 500.0) for name in ENSEMBLES
}
RECORD = Path(__file__).with_suffix(".json")


def error(series, length):
    """Standard error of the mean from blocks of so many frames of every run."""
    count = series.shape[1] // length
    blocks = series[:, : count * length].reshape(-1, length).mean(axis=1)
    return float(blocks.std(ddof=1) / np.sqrt(len(blocks)))


def average(series):
    """Mean with standard errors by block length in ps, and the independent frames it amounts to."""
    frames_per_ps = 1000.0 / (EVERY * TIMESTEP)
    lengths = [1, *(round(ps * frames_per_ps) for ps in (1, 2, 5, 10, 20, 45, 90))]
    lengths = [n for n in (*lengths, series.shape[1]) if n <= series.shape[1]]
    errors = {f"{n / frames_per_ps:g}": error(series, n) for n in lengths}
    largest = max(errors.values())
    return {
        "mean": float(series.mean()), "standard_error": largest,
        "standard_error_by_block_ps": errors, "of_each_run": series.mean(axis=1).tolist(),
        "independent_samples": float(series.var() / largest**2),
    }  # fmt: skip


def simulate(energy_fn, systems, name, kelvin, steps):
    kept = {"half_step_temperature": [], "temperature": [], "potential_energy": [],
            "conserved_energy": [], "times": []}  # fmt: skip

    def collect(chunk):
        for key, parts in kept.items():
            parts.append(np.asarray(getattr(chunk, key)))

    start = time.perf_counter(), time.process_time()
    failure, last = None, None
    try:
        last = dynamics.run(
            energy_fn, systems, ensemble=ENSEMBLES[name](kelvin), steps=steps,
            key=jax.random.key(round(kelvin)), every=EVERY, chunk=20_000, keep_frames=False,
            writer=collect,
        )  # fmt: skip
    except dynamics.UnstableRunError as problem:
        failure, last = str(problem), problem.trajectory
    wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
    series = {key: np.concatenate(parts, axis=-1) for key, parts in kept.items()}
    late = series["times"] > 1000.0 * LEFT_OUT
    half = average(series["half_step_temperature"][:, late])
    freedom = int(last.degrees_of_freedom[0])
    spread = float(series["temperature"][:, late].std())
    drifts = [
        dynamics.energy_drift(series["times"], energy, systems.atom_count).slope
        for energy in series["conserved_energy"]
    ]
    return {
        "failure": failure, "picoseconds": last.restart.step * TIMESTEP / 1000,
        "replicas": REPLICAS, "degrees_of_freedom": freedom, "half_step_temperature_k": half,
        "standard_errors_off": abs(half["mean"] - kelvin) / half["standard_error"],
        "whole_step_temperature_k": float(series["temperature"][:, late].mean()),
        "temperature_spread_k": spread,
        "canonical_spread_k": float(kelvin * np.sqrt(2.0 / freedom)),
        "potential_energy_ev": average(series["potential_energy"][:, late]),
        "largest_drift_of_conserved_mev_per_atom_ps": float(np.abs(drifts).max()),
        "wall_s": wall, "cpu_s": cpu, "steps_per_cpu_s": steps * REPLICAS / cpu,
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", default=os.environ.get("JAXFF_DATA", "../shared/data"))
    parser.add_argument("--steps", type=int, default=400_000)
    parser.add_argument("--only", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    options = parser.parse_args()
    potential, params = sgdml.load(options.model)
    energy_fn = bind(potential, params)
    path = Path(options.data, "rmd17", "rmd17_ethanol.npz")
    data = jaxff.data.npz.read(path, energy_key="E_md17", forces_key="F_md17")
    systems = data[data.splits["split_test_01"][:REPLICAS]].systems
    for setting in options.only:
        name, kelvin = SETTINGS[setting]
        found = simulate(energy_fn, systems, name, kelvin, options.steps)
        print(setting, json.dumps(found), flush=True)
        record = json.loads(RECORD.read_text()) if RECORD.exists() else {"settings": {}}
        record |= {
            "model": options.model.name, "timestep_fs": TIMESTEP, "friction_per_fs": FRICTION,
            "relaxation_time_fs": RELAXATION, "left_out_ps": LEFT_OUT,
            "date": date.today().isoformat(),
            "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
            "versions": {p: version(p) for p in ("jaxff", "jax", "numpy")},
        }  # fmt: skip
        record["settings"][setting] = found
        RECORD.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
