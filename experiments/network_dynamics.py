"""Ethanol with trained networks: 100 ps at constant energy, and 100 ps under a thermostat at 500 K.

    python experiments/network_dynamics.py MODEL.safetensors ... [--steps 200000]

Models are networks of ethanol in float32, with the reference energy in the file, as
``experiments/networks.py`` writes them. Each starts at a geometry of the test set. Runs at
constant energy follow 5 ps of Langevin dynamics at 300 K and lose the motion of the whole; the
drift is the slope of a straight line through the total energy. There are two of them from the same
state: with positions in float64 around the network in float32, as everywhere in the library, and
with all in float32. The run at 500 K is one of Langevin dynamics; its first 5 ps do not count in
the averages. A run is sound if it comes to its end, and no bond of the first frame is stretched or
pressed by half. The record of a model goes to ``network_dynamics_KIND.json``, run by run.
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
from jaxff import System, bind, dynamics, units
from jaxff.analysis.geometry import bonds_of, distances
from jaxff.dynamics.velocities import remove_rotation, remove_translation

TIMESTEP, EVERY, CHUNK = 0.5, 20, 10_000  # fs, steps, steps
WARM_UP, FRICTION, HOT = 10_000, 0.01, 500.0  # steps, 1/fs, K
RUNS = ("nve_float32_network", "nve_float32_throughout", "nvt_500_k")
HERE = Path(__file__).resolve()


def equilibrated(energy_fn, system):
    """Positions and velocities after 5 ps at 300 K, without motion of the whole."""
    last = dynamics.run(
        energy_fn, system, ensemble=dynamics.langevin(TIMESTEP, 300.0, FRICTION), steps=WARM_UP,
        key=jax.random.key(0), every=1000, keep_frames=False,
    ).restart  # fmt: skip
    masses = np.asarray(units.masses(np.asarray(system.numbers)))
    still = remove_translation(last.velocities, masses)
    return np.asarray(last.positions), np.asarray(remove_rotation(last.positions, still, masses))


def timed(energy_fn, system, **options):
    """A run with what it took, and its incident if it had one."""
    failure, start = None, (time.perf_counter(), time.process_time())
    try:
        run = dynamics.run(energy_fn, system, every=EVERY, chunk=CHUNK, **options)
    except dynamics.UnstableRunError as problem:
        failure, run = str(problem), problem.trajectory
    wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
    pairs = bonds_of(np.asarray(system.numbers), np.asarray(system.positions))
    lengths = distances(np.asarray(run.positions, float), pairs)
    ratios = lengths / distances(np.asarray(system.positions, float), pairs)
    return run, {
        "picoseconds": run.restart.step * TIMESTEP / 1000, "failure": failure,
        "shortest_bond": float(ratios.min()), "longest_bond": float(ratios.max()),
        "sound": bool(failure is None and ratios.min() > 0.5 and ratios.max() < 1.5),
        "largest_temperature_k": float(np.max(run.temperature)),
        "wall_s": wall, "cpu_s": cpu, "steps_per_cpu_s": run.restart.step / cpu,
    }  # fmt: skip


def constant_energy(energy_fn, system, velocities, steps, dtype):
    system = system.replace(positions=jax.numpy.asarray(system.positions, dtype))
    run, found = timed(
        energy_fn, system, ensemble=dynamics.nve(TIMESTEP), steps=steps,
        velocities=velocities.astype(dtype),
    )  # fmt: skip
    total = np.asarray(run.total_energy, np.float64)
    drift = dynamics.energy_drift(np.asarray(run.times), total, system.atom_count)
    return {
        **found, "positions": str(run.positions.dtype), "drift_mev_per_atom_ps": drift.slope,
        "standard_error": drift.standard_error,
        "rms_mev_per_atom": float(np.std(total) * 1000 / system.atom_count),
        "mean_temperature_k": float(np.mean(run.temperature)),
    }  # fmt: skip


def thermostatted(energy_fn, system, steps):
    run, found = timed(
        energy_fn, system, ensemble=dynamics.langevin(TIMESTEP, HOT, FRICTION), steps=steps,
        key=jax.random.key(1),
    )  # fmt: skip
    half = np.asarray(run.half_step_temperature)[np.asarray(run.times) > WARM_UP * TIMESTEP]
    blocks = half[: len(half) // 10 * 10].reshape(10, -1).mean(axis=1)
    return {
        **found, "half_step_temperature_k": float(half.mean()),
        "standard_error_of_10_blocks_k": float(blocks.std(ddof=1) / np.sqrt(10)),
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--data", default=os.environ.get("JAXFF_DATA", "../shared/data"))
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--only", nargs="+", choices=RUNS, default=RUNS)
    parser.add_argument("--record", type=Path, help="another file for the record")
    options = parser.parse_args()
    path = Path(options.data, "rmd17", "rmd17_ethanol.npz")
    data = jaxff.data.npz.read(path, energy_key="E_md17", forces_key="F_md17")
    start = data[data.splits["split_test_01"][:1]]
    for model in options.models:
        kind = model.stem.partition("_")[0]
        file = options.record or HERE.with_name(f"{HERE.stem}_{kind}.json")
        record = json.loads(file.read_text()) if file.exists() else {}
        potential, params = jaxff.io.load(model)
        energy_fn = bind(potential, params)
        # Ethanol is neutral, and has no unpaired electrons.
        known = {name: 0.0 for name in ("charge", "spin") if name in energy_fn.uses}
        first = System(start.positions[0], start.numbers, **known)
        positions, velocities = equilibrated(energy_fn, first)
        system = System(positions, start.numbers, **known)
        found = record.setdefault(model.stem, {})
        found |= {
            "model": potential.spec.arguments["potentials"][0].builder,
            "timestep_fs": TIMESTEP, "friction_per_fs": FRICTION,
            "date": date.today().isoformat(), "load": os.getloadavg()[0],
            "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
            "versions": {p: version(p) for p in ("jaxff", "jax", "numpy")},
        }  # fmt: skip
        cold, steps = (energy_fn, system, velocities), options.steps
        runs = {
            "nve_float32_network": partial(constant_energy, *cold, steps, np.float64),
            "nve_float32_throughout": partial(constant_energy, *cold, steps, np.float32),
            "nvt_500_k": partial(thermostatted, energy_fn, system, steps),
        }
        for name in options.only:
            found[name] = runs[name]()
            print(model.stem, name, json.dumps(found[name]), flush=True)
            file.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
