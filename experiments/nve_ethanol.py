"""100 ps of energy-conserving dynamics of ethanol from a fitted sGDML model, in float64.

    python experiments/nve_ethanol.py MODEL.npz [--steps 200000] [--replicas 3]

MODEL is an sGDML model file of ethanol (``experiments/rmd17.py --models FOLDER`` writes one). Runs
start at a geometry of the training data set with velocities of 300 K; the drift is the slope of a
straight line through the total energy, and through the shadow energy that velocity Verlet conserves
to fourth order, which is free of the second-order exchange between vibrations. The record goes to
``nve_ethanol.json``.
"""

import argparse
import json
import os
import platform
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np

import jaxff
from jaxff import System, bind, dynamics
from jaxff.interfaces import sgdml

TIMESTEP, TEMPERATURE = 0.5, 300.0


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", default=os.environ.get("JAXFF_DATA", "../shared/data"))
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--replicas", type=int, default=3)
    options = parser.parse_args()
    potential, params = sgdml.load(options.model)
    energy_fn = bind(potential, params)
    path = Path(options.data, "rmd17", "rmd17_ethanol.npz")
    data = jaxff.data.npz.read(path, energy_key="E_md17", forces_key="F_md17")
    frames = data[data.splits["split_test_01"]]
    runs = []
    for seed in range(options.replicas):
        system = System(frames.positions[seed], frames.numbers)
        start = time.perf_counter(), time.process_time()
        run = dynamics.run(
            energy_fn, system, ensemble=dynamics.nve(TIMESTEP), steps=options.steps,
            temperature=TEMPERATURE, key=jax.random.key(seed), every=20, chunk=10_000,
        )  # fmt: skip
        wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
        drift = dynamics.energy_drift(run.times, run.total_energy, len(frames.numbers))
        conserved = dynamics.shadow_energy(energy_fn, system, run, timestep=TIMESTEP)
        shadow = dynamics.energy_drift(run.times, conserved, len(frames.numbers))
        runs.append({
            "shadow_drift_mev_per_atom_ps": shadow.slope,
            "shadow_drift_standard_error": shadow.standard_error,
            "shadow_rms_mev": float(np.std(conserved) * 1000),
            "seed": seed, "drift_mev_per_atom_ps": drift.slope,
            "drift_standard_error": drift.standard_error,
            "energy_rms_mev": float(np.std(run.total_energy) * 1000),
            "mean_temperature_k": float(np.mean(run.temperature)),
            "wall_s": wall, "cpu_s": cpu, "steps_per_cpu_s": options.steps / cpu,
        })  # fmt: skip
        print(json.dumps(runs[-1]), flush=True)
    record = {
        "model": options.model.name, "references": int(params["expansion"]["features"].shape[0]),
        "permutations": potential.kernel.order, "steps": options.steps, "timestep_fs": TIMESTEP,
        "picoseconds": options.steps * TIMESTEP / 1000, "runs": runs,
        "date": date.today().isoformat(), "load": os.getloadavg()[0],
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {p: version(p) for p in ("jaxff", "jax", "jax-md", "numpy")},
    }  # fmt: skip
    Path(__file__).with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
