"""The pretrained SO3LR at work: a dipeptide for 100 ps at constant energy, water for 10 ps.

    python experiments/pretrained.py dipeptide|water [--weights PATH] [--steps N]

Without PATH the published weights are fetched. ``dipeptide`` starts at a geometry of the SPICE
dipeptides (``$JAXFF_DATA/spice_dipeptides/test.xyz``), in the gas phase, all pairs: 5 ps of
Langevin dynamics at 300 K, then constant energy without motion of the whole; the drift is the
slope of a straight line through the total energy. ``water`` starts at a frame of 64 molecules in a
cell of 12.44 Å (``$JAXFF_DATA/water_pbe0ts/water_192.npz``): Langevin dynamics at 300 K, of which
the first fifth does not count, with electrostatics up to 12 Å or, with ``--ewald``, of all images.
Positions are in float64 around the network in float32. A run is sound if it comes to its end and no
bond of the first frame is stretched or pressed by half. The record goes to ``pretrained.json``, one
part for each run.
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

import ase.io
import jax.numpy as jnp
import numpy as np

import jaxff
from jaxff import System, bind, dynamics, neighbor_list, units
from jaxff.analysis.geometry import bonds_of, distances
from jaxff.analysis.radial import radial_distribution
from jaxff.dynamics.velocities import remove_rotation, remove_translation
from jaxff.interfaces import so3lr
from jaxff.physics import ewald_plan

KELVIN, TIMESTEP, FRICTION, EVERY, CHUNK = 300.0, 0.5, 0.01, 20, 2000  # K, fs, 1/fs, steps, steps
WARM_UP, SKIN = 10_000, 1.0  # steps, Å
STEPS = {"dipeptide": 200_000, "water": 20_000}
OXYGEN = (8, 8)
HERE = Path(__file__).resolve()


def timed(energy_fn, system, steps, **options):
    """A run with what it took, and its incident if it had one."""
    failure, start = None, (time.perf_counter(), time.process_time())
    try:
        run = dynamics.run(
            energy_fn, system, steps=steps, every=EVERY, chunk=CHUNK,
            neighbors=neighbor_list(energy_fn.cutoffs, skin=SKIN), **options,
        )  # fmt: skip
    except dynamics.UnstableRunError as problem:
        failure, run = str(problem), problem.trajectory
    wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
    periodic = (system.cell, None) if system.cell is not None else (None, None)
    pairs = bonds_of(np.asarray(system.numbers), np.asarray(system.positions), *periodic)
    first = distances(np.asarray(system.positions, float), pairs, *periodic)
    ratios = distances(np.asarray(run.positions, float), pairs, *periodic) / first
    return run, {
        "picoseconds": run.restart.step * TIMESTEP / 1000, "failure": failure,
        "bonds": len(pairs), "shortest_bond": float(ratios.min()),
        "longest_bond": float(ratios.max()),
        "sound": bool(failure is None and ratios.min() > 0.5 and ratios.max() < 1.5),
        "mean_temperature_k": float(np.mean(run.half_step_temperature)),
        "largest_temperature_k": float(np.max(run.temperature)),
        "wall_s": wall, "cpu_s": cpu, "steps_per_cpu_s": run.restart.step / cpu,
    }  # fmt: skip


def langevin():
    return dynamics.langevin(TIMESTEP, KELVIN, FRICTION)


def dipeptide(options):
    """Constant energy in the gas phase."""
    atoms = ase.io.read(Path(options.data, "spice_dipeptides", "test.xyz"), "0")
    energy_fn = bind(*so3lr.load(options.weights, long_range_cutoff=None))
    system = System(atoms.positions, atoms.numbers, charge=0.0, spin=0.0)
    last = dynamics.run(
        energy_fn, system, ensemble=langevin(), steps=options.warm_up, key=jax.random.key(0),
        every=1000, keep_frames=False,
    ).restart  # fmt: skip
    masses = np.asarray(units.masses(np.asarray(system.numbers)))
    still = remove_translation(last.velocities, masses)
    still = np.asarray(remove_rotation(last.positions, still, masses))
    system = system.replace(positions=jnp.asarray(last.positions))
    run, found = timed(
        energy_fn, system, options.steps, ensemble=dynamics.nve(TIMESTEP), velocities=still
    )
    total = np.asarray(run.total_energy, np.float64)
    drift = dynamics.energy_drift(np.asarray(run.times), total, system.atom_count)
    return {
        "formula": atoms.get_chemical_formula(), "atoms": len(atoms), **found,
        "drift_mev_per_atom_ps": drift.slope, "standard_error": drift.standard_error,
        "rms_mev_per_atom": float(np.std(total) * 1000 / system.atom_count),
    }  # fmt: skip


def water(options):
    """A thermostat, and how oxygen surrounds oxygen."""
    data = jaxff.data.npz.read(Path(options.data, "water_pbe0ts", "water_192.npz"))
    system = System(
        data.positions[0], data.numbers, data.cell[0], np.ones(3, bool), charge=0.0, spin=0.0
    )
    plan = ewald_plan(system.cell, width=4.0, accuracy=1e-6) if options.ewald else None
    energy_fn = bind(*so3lr.load(options.weights, ewald=plan))
    run, found = timed(energy_fn, system, options.steps, ensemble=langevin(), key=jax.random.key(0))
    keep = np.asarray(run.steps) > options.steps // 5
    half = np.asarray(run.half_step_temperature)[keep]
    blocks = half[: len(half) // 10 * 10].reshape(10, -1).mean(axis=1)
    around = radial_distribution(
        np.asarray(run.positions)[keep], np.asarray(system.numbers), np.asarray(system.cell),
        elements=OXYGEN, cutoff=6.0, bins=120,
    )  # fmt: skip
    near = around.distances < 3.3  # the first shell
    peak = int(np.argmax(np.where(near, around.values, 0.0)))
    return {
        "molecules": system.atom_count // 3, **found,
        "half_step_temperature_k": float(half.mean()),
        "standard_error_of_10_blocks_k": float(blocks.std(ddof=1) / np.sqrt(10)),
        "first_peak_ang": float(around.distances[peak]),
        "height_of_first_peak": float(around.values[peak]),
        "neighbours_within_3.3_ang": float(around.counts[near][-1]),
        "radial_distribution": np.round(around.values, 4).tolist(),
        "bin_ang": float(around.distances[1] - around.distances[0]),
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=sorted(STEPS))
    parser.add_argument("--weights", type=Path, help="npz file, or folder of the published files")
    parser.add_argument("--data", default=os.environ.get("JAXFF_DATA", "../shared/data"))
    parser.add_argument("--steps", type=int)
    parser.add_argument("--warm-up", type=int, default=WARM_UP)
    parser.add_argument("--ewald", action="store_true", help="water: charges of all images")
    parser.add_argument("--record", type=Path, default=HERE.with_suffix(".json"))
    options = parser.parse_args()
    options.steps = options.steps or STEPS[options.what]
    options.weights = options.weights or so3lr.download()
    found = {"dipeptide": dipeptide, "water": water}[options.what](options)
    found |= {
        "timestep_fs": TIMESTEP, "date": date.today().isoformat(), "load": os.getloadavg()[0],
        "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
        "versions": {p: version(p) for p in ("jaxff", "jax", "numpy")},
    }  # fmt: skip
    name = f"{options.what}_ewald" if options.ewald else options.what
    record = json.loads(options.record.read_text()) if options.record.exists() else {}
    options.record.write_text(json.dumps(record | {name: found}, indent=1) + "\n")
    print(json.dumps({k: v for k, v in found.items() if k != "radial_distribution"}, indent=1))


if __name__ == "__main__":
    main()
