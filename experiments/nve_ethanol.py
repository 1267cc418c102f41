"""Energy conservation of ethanol with a fitted sGDML model: 1 ns at constant energy, in float64.

    python experiments/nve_ethanol.py MODEL.npz [--steps 2000000] [--seeds 1] [--halving-only]

MODEL is an sGDML model file of ethanol (``experiments/rmd17.py --models FOLDER`` writes one). Each
run starts at a geometry of the test set, spends 10 ps at 300 K under Langevin dynamics, loses the
motion of the whole, and goes on at constant energy. The drift is the slope of a straight line
through the total energy, and through the shadow energy, which velocity Verlet conserves to fourth
order: free of the second-order exchange between vibrations, it shows a drift much earlier. Averages
over hundredths of the run are recorded, too.

Then the time step is halved twice, from the same eight states for 20 ps each: the fluctuation of
the total energy must fall by four each time, that of the shadow energy by sixteen.

The record goes to ``nve_ethanol.json``.
"""

import argparse
import itertools
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
from jaxff import System, bind, dynamics, units
from jaxff.dynamics.velocities import remove_rotation, remove_translation
from jaxff.interfaces import sgdml

TIMESTEP, TEMPERATURE, FRICTION = 0.5, 300.0, 0.01
EQUILIBRATION = 20_000  # steps
REPLICAS, HALVINGS, LENGTH = 8, (1.0, 0.5, 0.25), 20_000.0  # runs side by side, fs, fs
RECORD = Path(__file__).with_suffix(".json")


SERIES = ("times", "total_energy", "shadow_energy", "temperature", "half_step_temperature")


def recorded(run):
    """A run's result and the numbers of each frame, not the frames: they would not fit."""
    chunks = []
    result = run(lambda chunk: chunks.append({n: getattr(chunk, n) for n in SERIES}))
    return result, {n: np.concatenate([c[n] for c in chunks], axis=-1) for n in SERIES}


def equilibrated(energy_fn, system, seed):
    """Positions and velocities after 10 ps at 300 K, without motion of the whole."""
    ensemble = dynamics.langevin(TIMESTEP, TEMPERATURE, FRICTION)
    last = dynamics.run(
        energy_fn, system, ensemble=ensemble, steps=EQUILIBRATION, key=jax.random.key(seed),
        every=1000, keep_frames=False,
    ).restart  # fmt: skip
    masses = np.asarray(units.masses(np.asarray(system.numbers).reshape(-1, system.atom_count)[0]))

    def still(position, velocity):
        return remove_rotation(position, remove_translation(velocity, masses), masses)

    if system.batch_shape:
        still = jax.vmap(still)
    velocities = np.asarray(still(last.positions, last.velocities))
    return system.replace(positions=jax.numpy.asarray(last.positions)), velocities


def slope(times, energy, atoms):
    drift = dynamics.energy_drift(times, energy, atoms)
    return {
        "mev_per_atom_ps": drift.slope, "standard_error": drift.standard_error,
        "rms_mev_per_atom": float(np.std(energy) * 1000 / atoms),
    }  # fmt: skip


def block_means(energy, atoms, blocks=100):
    energy = energy[: len(energy) // blocks * blocks].reshape(blocks, -1).mean(axis=1)
    return [round(float(x), 7) for x in (energy - energy.mean()) * 1000 / atoms]


def long_run(energy_fn, system, seed, steps):
    system, velocities = equilibrated(energy_fn, system, seed)
    start = time.perf_counter(), time.process_time()
    result, series = recorded(
        lambda writer: dynamics.run(
            energy_fn, system, ensemble=dynamics.nve(TIMESTEP), steps=steps, velocities=velocities,
            every=50, chunk=50_000, shadow=True, keep_frames=False, writer=writer,
        )
    )  # fmt: skip
    wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
    times, total, shadow = (series[name] for name in SERIES[:3])
    first, atoms = times <= 100_000.0, system.atom_count
    return {
        "seed": seed, "picoseconds": steps * TIMESTEP / 1000,
        "drift": slope(times, total, atoms), "shadow_drift": slope(times, shadow, atoms),
        "drift_of_first_100_ps": slope(times[first], total[first], atoms),
        "shadow_drift_of_first_100_ps": slope(times[first], shadow[first], atoms),
        "block_means_mev_per_atom": block_means(total, atoms),
        "shadow_block_means_mev_per_atom": block_means(shadow, atoms),
        "degrees_of_freedom": result.degrees_of_freedom,
        "mean_half_step_temperature_k": float(series["half_step_temperature"].mean()),
        "largest_temperature_k": float(series["temperature"].max()),
        "wall_s": wall, "cpu_s": cpu, "steps_per_cpu_s": steps / cpu,
    }  # fmt: skip


def halving(energy_fn, systems):
    """Fluctuations at three time steps, and their ratios with jackknife errors over replicas."""
    systems, velocities = equilibrated(energy_fn, systems, 100)
    variances = {}
    for timestep in HALVINGS:
        _, series = recorded(
            lambda writer, timestep=timestep: dynamics.run(
                energy_fn, systems, ensemble=dynamics.nve(timestep),
                steps=round(LENGTH / timestep), velocities=velocities,
                every=round(10.0 / timestep), chunk=10_000, shadow=True, keep_frames=False,
                writer=writer,
            )
        )  # fmt: skip
        for name in ("total_energy", "shadow_energy"):
            variances[name, timestep] = np.var(series[name], axis=-1)
    record = {"replicas": REPLICAS, "picoseconds": LENGTH / 1000, "timesteps_fs": HALVINGS}
    for name in ("total_energy", "shadow_energy"):
        found = [variances[name, timestep] for timestep in HALVINGS]
        record[name] = {
            "rms_mev": [float(1000 * np.sqrt(v.mean())) for v in found],
            "ratios": [ratio(*pair) for pair in itertools.pairwise(found)],
        }
    return record


def ratio(coarse, fine):
    def of(keep):
        return float(np.sqrt(coarse[keep].mean() / fine[keep].mean()))

    count = len(coarse)
    left_out = np.array([of(np.arange(count) != i) for i in range(count)])
    error = np.sqrt((count - 1) * np.mean((left_out - left_out.mean()) ** 2))
    return {"ratio": of(np.arange(count)), "standard_error": float(error)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", default=os.environ.get("JAXFF_DATA", "../shared/data"))
    parser.add_argument("--steps", type=int, default=2_000_000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--halving-only", action="store_true", help="renew that part of the record")
    options = parser.parse_args()
    potential, params = sgdml.load(options.model)
    energy_fn = bind(potential, params)
    path = Path(options.data, "rmd17", "rmd17_ethanol.npz")
    data = jaxff.data.npz.read(path, energy_key="E_md17", forces_key="F_md17")
    frames = data[data.splits["split_test_01"]]
    record = {
        "model": options.model.name, "references": int(params["expansion"]["features"].shape[0]),
        "permutations": potential.kernel.order, "timestep_fs": TIMESTEP, "precision": "float64",
        "temperature_k": TEMPERATURE, "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
        "versions": {p: version(p) for p in ("jaxff", "jax", "numpy")}, "runs": [],
    }  # fmt: skip
    if options.halving_only:
        record = json.loads(RECORD.read_text())
    else:
        for seed in range(options.seeds):
            system = System(frames.positions[seed], frames.numbers)
            record["runs"].append(long_run(energy_fn, system, seed, options.steps))
            print(json.dumps(record["runs"][-1]), flush=True)
            RECORD.write_text(json.dumps(record, indent=1) + "\n")
    stack = jax.tree.map(lambda leaf: leaf[:REPLICAS], frames.systems)
    record["halving"] = halving(energy_fn, stack)
    print(json.dumps(record["halving"]), flush=True)
    RECORD.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
