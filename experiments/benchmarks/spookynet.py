"""The pretrained SpookyNet beside the original: energies with forces through ASE, and dynamics.

    python experiments/benchmarks/spookynet.py SYSTEM.xyz ... --weights spookynet_weights.npz
        [--peer-python PATH --peer-weights parameters.pth] [--rounds 3]

Neutral molecules, all pairs; float32, one thread of the same core, in turns. Ethanol (9 atoms) is
added to the given geometries. CPU seconds, medians. The original is timed through its own ASE
calculator (``../peers/spookynet_speed.py``), and its energies are compared. Ours, by name: ``ase``,
through :class:`JaxffCalculator`, atoms moved by about 0.01 Å each time, as there; ``dynamics``, a
step of constant energy in the compiled loop, the difference between runs of N and 2 N steps.
``without_terms`` is one call of the network alone (repulsion, electrostatics and D4 dispersion left
out), ``with_terms`` of all: what the terms of known form cost. The record goes to
``spookynet.json``.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
os.environ.update(dict.fromkeys(THREADS, "1"))
os.environ["XLA_FLAGS"] = (
    "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1 "
    + os.environ.get("XLA_FLAGS", "")
)
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

import jax
import numpy as np
from ase.build import molecule
from ase.io import read

from jaxff import bind, dynamics, energy_and_forces, neighbor_list, networks
from jaxff.allocation import keep_freed_memory
from jaxff.interfaces import spookynet
from jaxff.interfaces.ase import JaxffCalculator, system_of

ALLOCATION = {
    "MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "268435456",
    "MALLOC_TRIM_THRESHOLD_": "2147483647", "MALLOC_TOP_PAD_": "67108864",
}  # fmt: skip
HERE = Path(__file__).resolve().parent
PEER = HERE.parent / "peers" / "spookynet_speed.py"
BUDGET, MOVED = 3.0, 0.01  # seconds of each measurement, Å
LISTS = {"skin": 0.3, "capacity": 1.1}  # Å, room as a multiple of the pairs


def median_cpu(function):
    for _ in range(3):
        function()
    times, end = [], time.perf_counter() + BUDGET
    while time.perf_counter() < end or len(times) < 5:
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return statistics.median(times)


def through_ase(energy_fn, atoms):
    atoms = atoms.copy()
    atoms.info.update(charge=0, unpaired_electrons=0)
    atoms.calc = JaxffCalculator(energy_fn, dtype=np.float32, **LISTS)
    start, draw = atoms.positions.copy(), np.random.default_rng(0)

    def step():
        atoms.positions = start + draw.normal(0.0, MOVED, start.shape)
        return atoms.get_forces()

    def energy():
        atoms.positions = start
        return float(atoms.get_potential_energy())

    return (lambda: median_cpu(step)), energy


def in_the_loop(energy_fn, system):
    steps = max(10, 10000 // system.atom_count)
    settings = {
        "ensemble": dynamics.nve(timestep=0.25), "temperature": 100.0, "key": jax.random.key(0),
        "neighbors": neighbor_list(energy_fn.cutoffs, **LISTS), "every": steps, "chunk": steps,
    }  # fmt: skip

    def seconds(count):
        start = time.process_time()
        dynamics.run(energy_fn, system, steps=count, **settings)
        return time.process_time() - start

    def measure():
        short = seconds(steps)
        return (seconds(2 * steps) - short) / steps

    seconds(steps)
    return measure


def one_call(energy_fn, system):
    evaluate = jax.jit(lambda function, *given: energy_and_forces(function)(*given))
    neighbors = neighbor_list(energy_fn.cutoffs, **LISTS).allocate(system)
    return lambda: median_cpu(lambda: jax.block_until_ready(evaluate(energy_fn, system, neighbors)))


def network_alone(potential, params):
    """The same network without the terms of known form; parameters of these are not read."""
    arguments = dict(potential.spec.arguments)
    arguments |= {"repulsion": False, "electrostatics": False, "dispersion": False}
    arguments["dispersion_tables"] = None
    return bind(networks.spookynet(**arguments), params)


def peer(options, paths):
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "peer.json")
        subprocess.run(
            [options.peer_python, PEER, *paths, "--weights", options.peer_weights, "--json",
             output, "--budget", str(BUDGET)],
            check=True, env={**os.environ, **ALLOCATION},
        )  # fmt: skip
        return json.loads(output.read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("systems", nargs="*")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--peer-python")
    parser.add_argument("--peer-weights")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    kept = keep_freed_memory()
    potential, params = spookynet.load(options.weights)
    energy_fn, alone = bind(potential, params), network_alone(potential, params)
    record = {
        "kept_freed_memory": kept, "date": date.today().isoformat(), "load": os.getloadavg()[0],
        "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
        "versions": {p: version(p) for p in ("jaxff", "jax", "flax", "numpy", "ase")},
        "rounds": options.rounds, "lists": LISTS, "jaxff": [], "original": [],
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        ethanol = Path(folder, "ethanol_9.xyz")
        molecule("CH3CH2OH").write(ethanol)
        paths = [ethanol, *map(Path, options.systems)]
        calls, energies = {}, {}
        for path in paths:
            atoms = read(path)
            atoms.info.clear()
            system = system_of(atoms, dtype=np.float32, charge=0.0, spin=0.0)
            ase, energies[path.stem] = through_ase(energy_fn, atoms)
            calls[path.stem] = {
                "ase": ase, "dynamics": in_the_loop(energy_fn, system),
                "with_terms": one_call(energy_fn, system), "without_terms": one_call(alone, system),
            }  # fmt: skip
        for _ in range(options.rounds):
            record["jaxff"].append(
                {s: {n: c() for n, c in own.items()} for s, own in calls.items()}
            )
            if options.peer_python:
                record["original"].append(peer(options, paths))
    medians = {
        s: {n: statistics.median(r[s][n] for r in record["jaxff"]) for n in own}
        for s, own in calls.items()
    }
    record["share_of_terms"] = {
        s: 1.0 - own["without_terms"] / own["with_terms"] for s, own in medians.items()
    }
    if options.peer_python:
        record["energy_difference_ev"] = {
            s: energies[s]() - record["original"][0][s]["energy"] for s in calls
        }
        record["ratio"] = {
            s: {
                n: statistics.median(
                    theirs[s]["seconds"] / mine[s][n]
                    for mine, theirs in zip(record["jaxff"], record["original"], strict=True)
                )
                for n in ("ase", "dynamics", "with_terms")
            }
            for s in calls
        }  # fmt: skip
    print(json.dumps({k: v for k, v in record.items() if k not in ("jaxff", "original")}, indent=1))
    (HERE / "spookynet.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
