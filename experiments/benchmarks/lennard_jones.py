"""Time dynamics of a Lennard-Jones liquid beside jax-md and LAMMPS, on one thread of one core.

    python experiments/benchmarks/lennard_jones.py [--lammps-python PATH] [--long 100000]

1000 atoms of argon near the triple point (reduced density 0.8442, temperature 0.72), cut at 2.5 σ
with a margin of 0.3 σ, time step 0.005 τ, constant energy, float64. All programs go on from the
same liquid and are timed in turn, so that other load falls on all alike. PATH is the Python of an
environment that holds ``lammps`` (and ``mpich``, for its libraries). Besides whole steps the parts
are timed: the bare call of energy and forces, steps that need no new list, the making of a list. A
long run counts compilations. The record goes to ``lennard_jones.json``.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import numpy as np

from jaxff import System, bind, dynamics, energy_and_forces, neighbor_list, physics, units
from jaxff.dynamics import loop
from jaxff.dynamics.neighbor_update import allocate, is_stale, update_neighbors

HERE = Path(__file__).resolve().parent
PEERS = HERE.parent / "peers"
EPSILON, SIGMA, MASS = 0.0104, 3.405, 39.948
TAU = SIGMA * units.TIME * np.sqrt(MASS / EPSILON)  # fs
DENSITY, TEMPERATURE, TIMESTEP = 0.8442, 0.72, 0.005
CUTOFF, SKIN = 2.5 * SIGMA, 0.3 * SIGMA
LISTS = neighbor_list(CUTOFF, skin=SKIN)
FORMATS = ("OrderedSparse", "Sparse", "Dense")


def argon():
    potential = physics.lennard_jones("Ar", CUTOFF, truncation="shifted")
    return bind(potential, potential.init(epsilon=EPSILON, sigma=SIGMA))


def liquid(energy_fn, count):
    """A melted lattice, at rest as a whole: the system and the last state of its run."""
    edge = round(count ** (1 / 3))
    side = SIGMA * (edge**3 / DENSITY) ** (1 / 3)
    grid = np.stack(np.meshgrid(*[np.arange(edge)] * 3, indexing="ij"), -1).reshape(-1, 3)
    system = System((grid + 0.5) * side / edge, [18] * edge**3, np.eye(3) * side)
    kelvin = TEMPERATURE * EPSILON / units.BOLTZMANN
    for seed, factor in enumerate((2.0, 1.0)):
        ensemble = dynamics.csvr(TIMESTEP * TAU, factor * kelvin, 0.1 * TAU)
        run = dynamics.run(
            energy_fn, system, ensemble=ensemble, steps=1500, every=1500, neighbors=LISTS,
            key=jax.random.key(seed), masses=np.full(edge**3, MASS),
        )  # fmt: skip
        system = system.replace(positions=jnp.asarray(run.positions[-1]))
    return system, run.velocities[-1]


class Engine:
    """A program in a process of its own, on the same core, that times what it is asked to."""

    def __init__(self, *command):
        folder = Path(command[0]).absolute().parents[1] / "lib"
        environment = {**os.environ, "LD_LIBRARY_PATH": str(folder)}
        self.process = subprocess.Popen(
            [str(c) for c in command], text=True, env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.first = json.loads(self.process.stdout.readline())

    def time(self, part, count):
        """Wall and CPU seconds of one of ``count`` calls."""
        print(part, count, file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())


class Jaxff:
    """The same questions put to jaxff, in this process."""

    def __init__(self, energy_fn, system, velocities):
        self.energy_fn, self.system, self.velocities = energy_fn, system, velocities
        self.neighbors = allocate(LISTS, system)
        self.masses = np.full(system.atom_count, MASS)
        evaluate = energy_and_forces(energy_fn)

        def call(_, carry):
            # Each call depends on the one before, by less than rounding, so that all are made.
            system, energy, neighbors = carry
            energy, force = evaluate(system, neighbors)
            return system.replace(positions=system.positions + 1e-30 * force), energy, neighbors

        def renewal(_, carry):
            system, energy, neighbors = carry
            moved = system.replace(positions=system.positions + 1e-30 * neighbors.overflow)
            return moved, energy, update_neighbors(moved, neighbors)

        self.parts = {
            name: jax.jit(lambda carry, count, body=body: jax.lax.fori_loop(0, count, body, carry))
            for name, body in (("call", call), ("renewal", renewal))
        }

    def run(self, steps, timestep=TIMESTEP * TAU, every=None, **named):
        """A run at constant energy from the liquid."""
        return dynamics.run(
            self.energy_fn, self.system, ensemble=dynamics.nve(timestep), steps=steps,
            velocities=self.velocities, masses=self.masses, neighbors=LISTS,
            every=every or 1000, **named,
        )  # fmt: skip

    def time(self, part, count):
        """Wall and CPU seconds of one of ``count`` calls."""
        marks = []

        def mark(_=None):
            marks.append((time.perf_counter(), time.process_time()))

        if part in self.parts:
            mark()
            jax.block_until_ready(self.parts[part]((self.system, 0.0, self.neighbors), count))
            mark()
        else:
            # On one list: the same program, but atoms hardly move. The start is not counted.
            timestep = TIMESTEP * TAU if part == "step" else 1e-6
            self.run(count, timestep, count, chunk=count, progress=mark)
        wall, cpu = np.subtract(marks[-1], marks[0]) / count
        return {"wall_s": float(wall), "cpu_s": float(cpu)}

    def steps_per_list(self, steps=1000):
        """How long lists serve in the run, replayed with its own criterion."""
        frames = self.run(steps, every=1).positions
        stale = jax.jit(is_stale)
        built, last = 0, self.system
        for frame in frames[1:]:
            moved = self.system.replace(positions=jnp.asarray(frame))
            if stale(moved, last, self.neighbors):
                built, last = built + 1, moved
        return steps / max(built, 1)


def interleaved(engines, parts, repeats):
    """Medians over rounds in which every part of every engine has its turn."""
    times = {key: [] for key in parts}
    for _ in range(repeats + 1):
        for (name, part), count in parts.items():
            times[name, part].append(engines[name].time(part, count))
    result = {}
    for (name, part), rounds in times.items():
        rounds = rounds[1:]  # the first compiles
        cpu = [r["cpu_s"] for r in rounds]
        record = {"cpu_s": statistics.median(cpu), "best_cpu_s": min(cpu)}
        record["wall_s"] = statistics.median(r["wall_s"] for r in rounds)
        record |= {f"per_{k}": 1 / record[k] for k in ("cpu_s", "wall_s")}
        if any(r.get("overflow") for r in rounds):
            record["overflow"] = True
        result.setdefault(name, {})[part] = record
    return result


def overhead(energy_fn, count, repeats):
    """What the loop adds to the bare call, by ratios of neighbouring rounds."""
    engine = Jaxff(energy_fn, *liquid(energy_fn, count))
    calls, ratios = round(5e5 / count), []
    for _ in range(repeats + 1):
        bare, steps = engine.time("call", calls), engine.time("step on one list", calls)
        ratios.append(steps["cpu_s"] / bare["cpu_s"])
    return {
        "atoms": engine.system.atom_count, "loop_over_call": statistics.median(ratios[1:]),
        "call_s": bare["cpu_s"], "ratios": ratios[1:],
    }  # fmt: skip


def compilations(energy_fn, count, steps):
    """Programs that a long run compiles: the two of the loop, and any after its first chunk."""
    engine = Jaxff(energy_fn, *liquid(energy_fn, count))
    jax.clear_caches()
    compiled, after_first, chunks = [], [], []

    def listen(event, duration, **named):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(duration)

    def look(part):
        chunks.append(len(part))
        after_first.append(len(compiled))

    jax.monitoring.register_event_duration_secs_listener(listen)
    energies = engine.run(steps, every=100, progress=look).total_energy
    return {
        "atoms": engine.system.atom_count, "steps": steps,
        "advance": loop.advance._cache_size(), "start": loop.start._cache_size(),
        "all_programs_after_the_first_chunk": after_first[-1] - after_first[0],
        "energy_rms_mev_per_atom": float(np.std(energies)) * 1000 / engine.system.atom_count,
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--lammps-python")
    parser.add_argument("--jax-md-python", default=sys.executable)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--long", type=int, default=100_000)
    options = parser.parse_args()
    energy_fn = argon()
    system, velocities = liquid(energy_fn, 1000)
    engines = {"jaxff": Jaxff(energy_fn, system, velocities)}
    parts = {("jaxff", p): n for p, n in (
        ("step", 1000), ("step on one list", 500), ("call", 500), ("renewal", 20),
    )}  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "start.npz")
        np.savez(
            path, positions=np.asarray(system.positions) / SIGMA, timestep=TIMESTEP,
            velocities=velocities * TAU / SIGMA, side=float(system.cell[0, 0]) / SIGMA,
        )  # fmt: skip
        script = PEERS / "jax_md_lennard_jones.py"
        for name in FORMATS:
            engines[name] = Engine(options.jax_md_python, script, path, "--format", name)
            parts |= {(name, p): n for p, n in (("step", 50), ("forces", 20), ("renewal", 10))}
        if options.lammps_python:
            engines["lammps"] = Engine(
                options.lammps_python, PEERS / "lammps_lennard_jones.py", path
            )
            parts["lammps", "step"] = 1000
    times = interleaved(engines, parts, options.repeats)
    ours = times["jaxff"]["step"]["cpu_s"]
    lasting = engines["jaxff"].steps_per_list()
    record = {
        "date": date.today().isoformat(), "load": os.getloadavg()[0],
        "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
        "versions": {p: version(p) for p in ("jaxff", "jax", "jax-md", "numpy")},
        "atoms": system.atom_count, "pair_slots": engines["jaxff"].neighbors.pairs[0].width,
        "mean_neighbours": float(np.mean(np.asarray(
            jnp.sum(engines["jaxff"].neighbors.pairs[0].others < 1000) / 1000
        ))),
        "times": times,
        "jaxff_over_jax_md": min(times[f]["step"]["cpu_s"] for f in FORMATS) / ours,
        "steps_per_list": lasting,
        "renewal_share": times["jaxff"]["renewal"]["cpu_s"] / lasting / ours,
        "overhead": [overhead(energy_fn, n, options.repeats) for n in (125, 1000)],
    }  # fmt: skip
    if options.lammps_python:
        lammps = engines["lammps"].first
        energy, forces = energy_and_forces(energy_fn)(system, engines["jaxff"].neighbors)
        theirs = np.asarray(lammps["forces"]) * EPSILON / SIGMA
        record["versions"]["lammps"] = lammps["version"]
        record["lammps_over_jaxff"] = ours / times["lammps"]["step"]["cpu_s"]
        record["energy_differs"] = abs(float(energy) - lammps["energy"] * EPSILON)
        record["forces_differ"] = float(np.abs(np.asarray(forces) - theirs).max())
    record["compilations"] = compilations(energy_fn, 125, options.long)
    text = json.dumps(record, indent=1)
    (HERE / "lennard_jones.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
