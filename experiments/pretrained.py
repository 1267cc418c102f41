"""Pretrained models at work: a peptide for 100 ps at constant energy, water for 10 ps.

    python experiments/pretrained.py peptide GEOMETRY.xyz [--weights PATH] [--steps N]
    python experiments/pretrained.py water [--weights PATH] [--steps N] [--ewald]
    python experiments/pretrained.py peptide GEOMETRY.xyz --model spookynet [--weights PATH]
        [--charge 0] [--spin 0]

The model is SO3LR or SpookyNet, whose published weights are fetched without PATH. ``peptide``
starts at any molecule, neutral and without unpaired electrons unless said otherwise, for example
the Ac-Ala3-NHMe of MD22, in the gas phase, all pairs: 5 ps of Langevin dynamics at 300 K, then
constant energy without motion of the whole; the drift is the slope of a straight line through the
total energy. In a molecule with a salt bridge, as are the dipeptides of SPICE, a proton may cross
over, which is counted as a broken bond. ``water`` starts at a frame of 64 molecules in a
cell of 12.44 Å (``$JAXFF_DATA/water_pbe0ts/water_192.npz``): Langevin dynamics at 300 K, of which
the first fifth does not count, with electrostatics up to 12 Å or, with ``--ewald``, of all images.
Positions are in float64 around the network in float32. A run is sound if it comes to its end and no
bond of the first frame is stretched or pressed by half. Frames go to ``pretrained/`` as they come:
the same command goes on with a run that was interrupted. The record goes to ``pretrained.json``,
one part for each run; names of runs of SpookyNet hold that of the geometry.
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
from jaxff.interfaces import so3lr, spookynet
from jaxff.physics import ewald_plan

KELVIN, TIMESTEP, FRICTION, EVERY, CHUNK = 300.0, 0.5, 0.01, 20, 2000  # K, fs, 1/fs, steps, steps
WARM_UP, SKIN = 10_000, 0.5  # steps, Å
STEPS = {"peptide": 200_000, "water": 20_000}
FAR = 12.0  # Å, of electrostatics and dispersion in cells
OXYGEN = (8, 8)
HERE = Path(__file__).resolve()


def timed(energy_fn, system, folder, steps, **options):
    """The frames of a run, by name, with what it took, and its incident if it had one.

    A run that stands in the folder goes on where it was left.
    """
    restart, failure = None, None
    if (folder / "restart.npz").exists():
        restart = dynamics.read_restart(folder / "restart.npz")
        options.pop("velocities", None)
    done = 0 if restart is None else restart.step
    clock = (time.perf_counter(), time.process_time())
    with dynamics.Writer(folder, format="hdf5", resume=restart is not None) as writer:
        try:
            dynamics.run(
                energy_fn, system, steps=steps - done, every=EVERY, chunk=CHUNK, restart=restart,
                neighbors=neighbor_list(energy_fn.cutoffs, skin=SKIN, capacity=1.1), writer=writer,
                keep_frames=False, **options,
            )  # fmt: skip
        except dynamics.UnstableRunError as problem:
            failure = str(problem)
    wall, cpu = time.perf_counter() - clock[0], time.process_time() - clock[1]
    frames = dynamics.read_hdf5(folder / "trajectory.h5")
    log = dynamics.read_log(folder / "log.csv")
    last = int(frames["steps"][-1])
    periodic = (system.cell, None) if system.cell is not None else (None, None)
    pairs = bonds_of(np.asarray(system.numbers), np.asarray(system.positions), *periodic)
    first = distances(np.asarray(system.positions, float), pairs, *periodic)
    ratios = distances(np.asarray(frames["positions"], float), pairs, *periodic) / first
    return frames | {"half_step_temperature": log["half_step_temperature_K"]}, {
        "picoseconds": last * TIMESTEP / 1000, "failure": failure,
        "bonds": len(pairs), "shortest_bond": float(ratios.min()),
        "longest_bond": float(ratios.max()),
        "sound": bool(failure is None and ratios.min() > 0.5 and ratios.max() < 1.5),
        "mean_temperature_k": float(np.mean(log["half_step_temperature_K"])),
        "largest_temperature_k": float(np.max(frames["temperature"])),
        "timed_steps": last - done, "wall_s": wall, "cpu_s": cpu,
        "steps_per_cpu_s": (last - done) / cpu,
    }  # fmt: skip


def langevin():
    return dynamics.langevin(TIMESTEP, KELVIN, FRICTION)


def peptide(options):
    """Constant energy in the gas phase."""
    atoms = ase.io.read(options.geometry)
    load = {"so3lr": so3lr.load, "spookynet": spookynet.load}[options.model]
    energy_fn = bind(*load(options.weights, long_range_cutoff=None))
    system = System(atoms.positions, atoms.numbers, charge=options.charge, spin=options.spin)
    folder = options.folder / options.name
    if (folder / "start.npz").exists():
        start = np.load(folder / "start.npz")
        positions, velocities = start["positions"], start["velocities"]
    else:
        last = dynamics.run(
            energy_fn, system, ensemble=langevin(), steps=options.warm_up, key=jax.random.key(0),
            every=1000, keep_frames=False,
        ).restart  # fmt: skip
        masses = np.asarray(units.masses(np.asarray(system.numbers)))
        positions = np.asarray(last.positions)
        velocities = remove_translation(last.velocities, masses)
        velocities = np.asarray(remove_rotation(positions, velocities, masses))
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / "start.npz", positions=positions, velocities=velocities)
    system = system.replace(positions=jnp.asarray(positions))
    run, found = timed(
        energy_fn, system, folder, options.steps, ensemble=dynamics.nve(TIMESTEP),
        velocities=velocities,
    )  # fmt: skip
    total = run["potential_energy"].astype(np.float64) + run["kinetic_energy"]
    drift = dynamics.energy_drift(run["times"], total, system.atom_count)
    return {
        "formula": atoms.get_chemical_formula(), "atoms": len(atoms), "charge": options.charge,
        "unpaired_electrons": options.spin, **found,
        "drift_mev_per_atom_ps": drift.slope, "standard_error": drift.standard_error,
        "rms_mev_per_atom": float(np.std(total) * 1000 / system.atom_count),
    }  # fmt: skip


def water(options):
    """A thermostat, and how oxygen surrounds oxygen."""
    data = jaxff.data.npz.read(Path(options.data, "water_pbe0ts", "water_192.npz"))
    system = System(
        data.positions[0], data.numbers, data.cell[0], np.ones(3, bool), charge=0.0, spin=0.0
    )
    # Charges of SO3LR are Gaussian, those of SpookyNet points.
    load, shape = {
        "so3lr": (so3lr.load, {"width": 4.0}), "spookynet": (spookynet.load, {"cutoff": FAR}),
    }[options.model]  # fmt: skip
    plan = ewald_plan(system.cell, **shape, accuracy=1e-6) if options.ewald else None
    energy_fn = bind(*load(options.weights, long_range_cutoff=FAR, ewald=plan))
    folder = options.folder / options.name
    run, found = timed(
        energy_fn, system, folder, options.steps, ensemble=langevin(), key=jax.random.key(0)
    )
    keep = run["steps"] > options.steps // 5
    half = run["half_step_temperature"][keep]
    blocks = half[: len(half) // 10 * 10].reshape(10, -1).mean(axis=1)
    around = radial_distribution(
        run["positions"][keep], np.asarray(system.numbers), np.asarray(system.cell),
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


def run_name(options):
    """Of the run, in the record and as a folder."""
    parts = [options.what] + (["ewald"] if options.ewald else [])
    if options.model != "so3lr":
        parts = [options.model, *parts] + ([options.geometry.stem] if options.geometry else [])
    if options.charge or options.spin:
        parts += [f"{options.charge:+g}", f"{options.spin:g}_unpaired"]
    return "_".join(parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=sorted(STEPS))
    parser.add_argument("geometry", type=Path, nargs="?", help="of the peptide")
    parser.add_argument("--model", choices=("so3lr", "spookynet"), default="so3lr")
    parser.add_argument("--weights", type=Path, help="npz file, or folder of the published files")
    parser.add_argument("--charge", type=float, default=0.0, help="peptide: total charge, e")
    parser.add_argument("--spin", type=float, default=0.0, help="peptide: unpaired electrons")
    parser.add_argument("--data", default=os.environ.get("JAXFF_DATA", "../shared/data"))
    parser.add_argument("--steps", type=int)
    parser.add_argument("--warm-up", type=int, default=WARM_UP)
    parser.add_argument("--folder", type=Path, default=HERE.with_suffix(""), help="of the frames")
    parser.add_argument("--ewald", action="store_true", help="water: charges of all images")
    parser.add_argument("--record", type=Path, default=HERE.with_suffix(".json"))
    options = parser.parse_args()
    if (options.what == "peptide") != (options.geometry is not None):
        parser.error("a geometry belongs to the peptide, and to nothing else")
    options.steps = options.steps or STEPS[options.what]
    if options.what == "water" and (options.charge or options.spin):
        parser.error("water is neutral and has no unpaired electrons")
    options.weights = (
        options.weights or {"so3lr": so3lr, "spookynet": spookynet}[options.model].download()
    )
    options.name = run_name(options)
    found = {"peptide": peptide, "water": water}[options.what](options)
    found |= {
        "timestep_fs": TIMESTEP, "date": date.today().isoformat(), "load": os.getloadavg()[0],
        "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
        "versions": {p: version(p) for p in ("jaxff", "jax", "numpy")},
    }  # fmt: skip
    record = json.loads(options.record.read_text()) if options.record.exists() else {}
    options.record.write_text(json.dumps(record | {options.name: found}, indent=1) + "\n")
    print(json.dumps({k: v for k, v in found.items() if k != "radial_distribution"}, indent=1))


if __name__ == "__main__":
    main()
