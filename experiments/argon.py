"""864 argon atoms at constant temperature and pressure, beside closed forms and LAMMPS.

    python experiments/argon.py nvt|npt|squeeze [--lammps-python PATH]

Rahman's liquid: 94.4 K, 1.374 g/cm³, Lennard-Jones atoms cut and shifted at 2.5 σ. ``nvt`` is
Langevin dynamics: the distribution of the kinetic energy is compared with the Gamma distribution,
mean potential energy and pressure with LAMMPS. ``npt`` runs at the pressure that ``nvt`` gave: its
volume must be the one of ``nvt``, the mean instantaneous pressure the one that was set, and volume,
its variance and enthalpy those of LAMMPS. ``squeeze`` compresses and expands the liquid until
lists are made anew, and compares every frame with lists built from scratch. PATH is the Python of
an environment that holds ``lammps``. Standard errors are those of means over blocks. The record
goes to ``argon.json``, one part for each command.

Reference: Rahman, Phys. Rev. 136, A405 (1964), doi:10.1103/PhysRev.136.A405.
"""

import argparse
import json
import os
import platform
import subprocess
import tempfile
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import numpy as np
from scipy import stats

from jaxff import System, bind, dynamics, energy_and_forces, neighbor_list, physics, units, virial
from jaxff.dynamics.neighbor_update import allocate, update_neighbors

HERE = Path(__file__).resolve().parent
EPSILON, SIGMA, MASS = 0.0104, 3.405, 39.948
TAU = SIGMA * units.TIME * np.sqrt(MASS / EPSILON)  # fs
KELVIN, SIDE, TIMESTEP = 94.4, 10.229 * SIGMA, 10.0
THERMAL = units.BOLTZMANN * KELVIN
CUTOFF = 2.5 * SIGMA
LISTS = neighbor_list(CUTOFF, skin=1.2)
BLOCKS = 20
FRICTION = 1 / 500  # 1/fs


def argon():
    potential = physics.lennard_jones("Ar", CUTOFF, truncation="shifted")
    return bind(potential, potential.init(epsilon=EPSILON, sigma=SIGMA))


def lattice(cells=6):
    base = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    grid = np.stack(np.meshgrid(*[np.arange(cells)] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
    points = (grid + base).reshape(-1, 3) * SIDE / cells
    return System(points, [18] * len(points), np.eye(3) * SIDE)


def run(energy_fn, system, ensemble, steps, seed, **named):
    return dynamics.run(
        energy_fn, system, ensemble=ensemble, steps=steps, key=jax.random.key(seed),
        neighbors=LISTS, masses=np.full(system.atom_count, MASS), **named,
    )  # fmt: skip


def langevin(kelvin=KELVIN):
    return dynamics.langevin(TIMESTEP, kelvin, FRICTION)


def melted(energy_fn, steps=4000):
    """The liquid at 94.4 K, from a lattice that is first heated."""
    system = lattice()
    for seed, (kelvin, part) in enumerate(((300.0, steps // 2), (KELVIN, steps))):
        last = run(energy_fn, system, langevin(kelvin), part, seed, every=part, temperature=kelvin)
        system = system.replace(positions=jnp.asarray(last.positions[-1]))
    return system


def mean(series):
    """Mean and the standard error of means over blocks."""
    series = np.asarray(series)
    blocks = series[: len(series) // BLOCKS * BLOCKS].reshape(BLOCKS, -1).mean(axis=1)
    return {
        "mean": float(series.mean()),
        "standard_error": float(blocks.std(ddof=1) / np.sqrt(BLOCKS)),
    }  # fmt: skip


def variance(series):
    return mean((series - np.mean(series)) ** 2)


def deviation(one, other):
    """Difference of two means in standard errors; a number has none."""
    if not isinstance(other, dict):
        other = {"mean": other, "standard_error": 0.0}
    error = np.hypot(one["standard_error"], other["standard_error"])
    return float((one["mean"] - other["mean"]) / error)


def pressures(energy_fn, system, trajectory):
    """Instantaneous pressure of frames with a fixed cell, in eV/Å³."""

    @jax.jit
    def one(positions, neighbors):
        moved = system.replace(positions=positions)
        neighbors = update_neighbors(moved, neighbors)
        return jnp.trace(virial(energy_fn)(moved, neighbors)), neighbors.overflow

    neighbors = allocate(neighbor_list(CUTOFF, capacity=1.6), system)
    values = []
    for positions in trajectory.positions:
        value, overflow = one(jnp.asarray(positions), neighbors)
        if overflow:
            raise RuntimeError("the list has too few slots for a frame")
        values.append(float(value))
    size = float(trajectory.volume)
    return (2.0 * trajectory.half_step_kinetic_energy + np.array(values)) / (3.0 * size)


def lammps(python, ensemble, system, steps, pressure=0.0):
    """Series of LAMMPS in eV and Å."""
    with tempfile.TemporaryDirectory() as folder:
        start, result = Path(folder, "start.npz"), Path(folder, "result.npz")
        np.savez(
            start, positions=np.asarray(system.positions) / SIGMA, side=SIDE / SIGMA,
            timestep=TIMESTEP / 2 / TAU, temperature=THERMAL / EPSILON, steps=steps,
            pressure=pressure * SIGMA**3 / EPSILON, equilibration=20_000, every=20,
        )  # fmt: skip
        library = str(Path(python).absolute().parents[1] / "lib")
        script = HERE / "peers" / "lammps_argon.py"
        subprocess.run(
            [python, script, start, ensemble, result], check=True,
            env={**os.environ, "LD_LIBRARY_PATH": library},
        )  # fmt: skip
        with np.load(result) as file:
            return {
                "potential": file["pe"] * EPSILON, "kinetic": file["ke"] * EPSILON,
                "pressure": file["press"] * EPSILON / SIGMA**3, "volume": file["vol"] * SIGMA**3,
                "cpu_s": float(file["cpu_s"]), "version": int(file["version"]),
            }  # fmt: skip


def nvt(energy_fn, options):
    system = melted(energy_fn)
    start = time.process_time()
    found = run(energy_fn, system, langevin(), options.steps, 7, every=10, chunk=2000)
    cpu = time.process_time() - start
    atoms, freedom = system.atom_count, found.degrees_of_freedom
    kinetic = found.half_step_kinetic_energy
    # Frames farther apart than velocities remember; a test needs independent samples.
    thinned = kinetic[:: round(3 / (FRICTION * TIMESTEP * 10))] / THERMAL
    record = {
        "steps": options.steps, "picoseconds": options.steps * TIMESTEP / 1000, "cpu_s": cpu,
        "degrees_of_freedom": freedom,
        "kinetic_temperature_k": mean(2 * kinetic / (freedom * units.BOLTZMANN)),
        "kinetic_variance_over_closed_form": variance(kinetic / THERMAL * np.sqrt(2 / freedom)),
        "kinetic_gamma_test": {
            "samples": len(thinned),
            "p": float(stats.kstest(thinned, stats.gamma(freedom / 2).cdf).pvalue),
        },
        "potential_mev_per_atom": mean(found.potential_energy / atoms * 1000),
        "pressure_mpa": mean(pressures(energy_fn, system, found) / units.GIGAPASCAL * 1000),
        "conserved_drift_mev_per_atom_ps": dynamics.energy_drift(
            found.times, found.conserved_energy, atoms
        )._asdict(),
    }  # fmt: skip
    record["deviations"] = {
        "kinetic_temperature": deviation(record["kinetic_temperature_k"], KELVIN),
        "kinetic_variance": deviation(record["kinetic_variance_over_closed_form"], 1.0),
    }
    if options.lammps_python:
        theirs = lammps(options.lammps_python, "nvt", system, 4 * options.steps)
        record["lammps"] = {
            "steps": 4 * options.steps, "timestep_fs": TIMESTEP / 2,
            "cpu_s": theirs["cpu_s"], "version": theirs["version"],
            "potential_mev_per_atom": mean(theirs["potential"] / atoms * 1000),
            "pressure_mpa": mean(theirs["pressure"] / units.GIGAPASCAL * 1000),
        }  # fmt: skip
        for name in ("potential_mev_per_atom", "pressure_mpa"):
            record["deviations"][name] = deviation(record[name], record["lammps"][name])
    return record


def npt(energy_fn, options):
    before = json.loads(HERE.joinpath("argon.json").read_text())["nvt"]["pressure_mpa"]
    pressure = before["mean"] / 1000 * units.GIGAPASCAL
    system = melted(energy_fn)
    ensemble = dynamics.npt(TIMESTEP, KELVIN, pressure, FRICTION, barostat_time=1000.0)
    begin = run(energy_fn, system, ensemble, 2000, 3, every=2000)
    start = time.process_time()
    found = run(
        energy_fn, system, ensemble, options.steps, 0, every=10, chunk=2000, restart=begin.restart
    )
    cpu, atoms = time.process_time() - start, system.atom_count
    record = {
        "steps": options.steps, "picoseconds": options.steps * TIMESTEP / 1000, "cpu_s": cpu,
        "set_pressure_mpa": before["mean"],
        **volumes(found.volume, found.potential_energy, found.pressure, pressure, atoms),
        "kinetic_temperature_k": mean(found.half_step_temperature),
        "conserved_drift_mev_per_atom_ps": dynamics.energy_drift(
            found.times, found.conserved_energy, atoms
        )._asdict(),
    }  # fmt: skip
    # The error of the pressure that was set, as one of the volume.
    modulus = THERMAL * SIDE**3 / record["volume_variance_a6"]["mean"] / units.GIGAPASCAL * 1000
    error = before["standard_error"] / modulus * SIDE**3
    record["isothermal_bulk_modulus_gpa"] = modulus / 1000
    record["deviations"] = {
        "volume_from_nvt": deviation(
            record["volume_a3"], {"mean": SIDE**3, "standard_error": error}
        ),
        "mean_pressure_from_set": deviation(record["pressure_mpa"], before["mean"]),
        "kinetic_temperature": deviation(record["kinetic_temperature_k"], KELVIN),
    }
    if options.lammps_python:
        theirs = lammps(options.lammps_python, "npt", system, 4 * options.steps, pressure)
        series = [theirs[name] for name in ("volume", "potential", "pressure")]
        record["lammps"] = {"cpu_s": theirs["cpu_s"], **volumes(*series, pressure, atoms)}
        for name in ("volume_a3", "volume_variance_a6", "enthalpy_mev_per_atom"):
            record["deviations"][name] = deviation(record[name], record["lammps"][name])
    return record


def volumes(volume, potential, pressure, set_pressure, atoms):
    # The kinetic part is left out of the enthalpy: it is known, and LAMMPS keeps the whole at rest.
    return {
        "volume_a3": mean(volume), "volume_variance_a6": variance(volume),
        "density_g_cm3": mean(atoms * MASS * units.AMU_KILOGRAM * 1e27 / volume),
        "pressure_mpa": mean(pressure / units.GIGAPASCAL * 1000),
        "enthalpy_mev_per_atom": mean((potential + set_pressure * volume) / atoms * 1000),
    }  # fmt: skip


def squeeze(energy_fn, options):
    """Compression at 3 GPa and 300 K, expansion, compression: lists agree with fresh ones."""
    system, record = melted(energy_fn), {}
    evaluate = jax.jit(lambda s, n: energy_and_forces(energy_fn)(s, n))
    for name, gigapascal in (("compression", 3.0), ("expansion", 0.01), ("recompression", 0.5)):
        plans = []
        ensemble = dynamics.npt(
            TIMESTEP, 300.0, gigapascal * units.GIGAPASCAL, 1 / 100, barostat_time=2000.0
        )
        found = run(
            energy_fn, system, ensemble, 4000, 5, every=100, chunk=500, temperature=300.0,
            progress=lambda part, plans=plans: plans.append(part.restart.plan),
        )  # fmt: skip
        energy, force = 0.0, 0.0
        for index in range(len(found)):
            here = system.replace(
                positions=jnp.asarray(found.positions[index]),
                cell=jnp.asarray(found.frame_cell(index)),
            )
            fresh = evaluate(here, neighbor_list(CUTOFF).allocate(here))
            energy = max(energy, abs(float(fresh[0]) - found.potential_energy[index]))
            force = max(force, float(np.abs(fresh[1] - found.forces[index]).max()))
        record[name] = {
            "pressure_gpa": gigapascal, "steps": 4000,
            "volume_a3": [float(found.volume[0]), float(found.volume[-1])],
            "layouts": len(set(plans)), "frames": len(found),
            "largest_energy_difference_ev": energy,
            "largest_force_difference_ev_per_a": force,
        }  # fmt: skip
        system = here
    return record


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("part", choices=("nvt", "npt", "squeeze"))
    parser.add_argument("--lammps-python")
    parser.add_argument("--steps", type=int, default=30_000)
    options = parser.parse_args()
    path = HERE / "argon.json"
    record = json.loads(path.read_text()) if path.exists() else {}
    part = {"nvt": nvt, "npt": npt, "squeeze": squeeze}[options.part](argon(), options)
    common = {
        "atoms": 864, "kelvin": KELVIN, "side_a": SIDE, "timestep_fs": TIMESTEP, "blocks": BLOCKS,
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {p: version(p) for p in ("jaxff", "jax", "numpy")},
    }  # fmt: skip
    record = record | common | {options.part: part}
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(part, indent=1))


if __name__ == "__main__":
    main()
