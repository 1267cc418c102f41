"""SO3krates and SO3LR beside the originals: energies with forces through ASE, and dynamics.

    python experiments/benchmarks/so3krates.py SYSTEM.xyz ... --weights so3lr_weights.npz
        [--peer-python PATH --peer-weights FOLDER] [--rounds 3]

SO3krates in the size of the papers (132 features, 3 layers, degrees 1 to 3, 5 Å, random weights,
energies small enough that atoms stay together), and the pretrained SO3LR with a long-range cutoff
of 12 Å; float32, one thread of the same core, in
turns, both sides with an allocator that keeps freed memory. Ethanol (9 atoms) is added to the given
geometries. CPU seconds, medians. The original, if there is one, is timed through its own ASE
calculator (``../peers/so3krates_speed.py``), lists included. Ours, by name:

* ``ase``: through :class:`JaxffCalculator`, atoms moved by about 0.01 Å each time, as there; its
  list has a skin of 0.2 Å and so holds for all of them, where the original makes one in each call;
* ``ase_table``: likewise with tabulated radial filters (:func:`jaxff.networks.tabulated`);
* ``dynamics``, ``dynamics_table``: a step of constant energy in the compiled loop, lists renewed
  inside: the difference between runs of N and 2 N steps.

``force_error`` is the largest difference of forces with tabulated filters from those without,
relative to the largest force. ``limit`` is the time of the multiplications of the network, from its
sizes and the numbers of atoms and edges, at the rate of a large matrix product of the same core.
The record goes to ``so3krates.json``.
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
import jax.numpy as jnp
import numpy as np
from ase.build import molecule
from ase.io import read

from jaxff import bind, dynamics, energy_and_forces, neighbor_list, scale_shift
from jaxff.allocation import keep_freed_memory
from jaxff.interfaces import so3lr
from jaxff.interfaces.ase import JaxffCalculator, system_of
from jaxff.networks import so3krates, tabulated

ALLOCATION = {
    "MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "268435456",
    "MALLOC_TRIM_THRESHOLD_": "2147483647", "MALLOC_TOP_PAD_": "67108864",
}  # fmt: skip
HERE = Path(__file__).resolve().parent
PEER = HERE.parent / "peers" / "so3krates_speed.py"
BUDGET, MOVED = 3.0, 0.01  # seconds of each measurement, Å
LISTS = {"skin": 0.2, "capacity": 1.1}  # Å, room as a multiple of the pairs
SMALL = 1e-3  # factor of the energies of random weights
KINDS = ("so3krates", "so3lr")


def models(kind, atoms, weights):
    """System; bound potentials with computed and with tabulated filters; their arguments."""
    totals = {"charge": 0.0, "spin": 0.0} if kind == "so3lr" else {}
    system = system_of(atoms, dtype=np.float32, **totals)
    if kind == "so3lr":
        potential, params = so3lr.load(weights, long_range_cutoff=12.0)
    else:
        potential = so3krates(5.0, cutoff_function="cosine")
        neighbors = neighbor_list(potential.cutoffs).allocate(system)
        params = potential.init(jax.random.key(0), system, neighbors)
    both = {"": (potential, params), "_table": tabulated(potential, params)}
    sizes = {name: own.spec.arguments for name, (own, _) in both.items()}
    if kind == "so3krates":
        both = {name: (scale_shift(own, SMALL, 0.0), given) for name, (own, given) in both.items()}
    made = {name: bind(*own) for name, own in both.items()}
    return system, made, sizes


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
    if energy_fn.uses:
        atoms.info.update(charge=0, unpaired_electrons=0)
    atoms.calc = JaxffCalculator(energy_fn, dtype=np.float32, **LISTS)
    start, draw = atoms.positions.copy(), np.random.default_rng(0)

    def step():
        atoms.positions = start + draw.normal(0.0, MOVED, start.shape)
        return atoms.get_forces()

    return lambda: median_cpu(step)


def in_the_loop(energy_fn, system):
    steps = max(10, 20000 // system.atom_count)
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


def force_error(made, system):
    predict = jax.jit(lambda energy_fn, *given: energy_and_forces(energy_fn)(*given)[1])
    neighbors = neighbor_list(made[""].cutoffs).allocate(system)
    exact, found = (np.asarray(predict(e, system, neighbors)) for e in made.values())
    return float(np.abs(found - exact).max() / np.abs(exact).max())


def matrix_rate(size=2048):
    """Multiplications and additions per second."""
    left = jnp.ones((size, size), jnp.float32)
    product = jax.jit(jnp.matmul)
    return 2.0 * size**3 / median_cpu(lambda: product(left, left).block_until_ready())


def operations(options, system):
    """Of the products of the network and of their derivative by the positions.

    Filters are computed once per edge; the derivative by the positions costs as much again.
    """
    size, degrees, layers = options["features"], len(options["degrees"]), options["layers"]
    near = neighbor_list(options["cutoff"]).allocate(system).within(options["cutoff"])
    edges = int(np.sum(np.asarray(near.others) < near.atoms)) // 2
    table = options["radial_table"]
    radial = table[1] * size if table else (options["radial_functions"] + size) * size
    spherical = (degrees + size) * (size // 4)
    heads = size * (3 * size // options["heads"] + 2 * size // degrees)
    mixed = (size + degrees) ** 2 + (2 * size**2 if options["layer_norm"] == "post" else 0)
    per_layer = edges * 2 * (radial + spherical) + system.atom_count * (heads + mixed)
    return 2.0 * 2.0 * (layers * per_layer + system.atom_count * size**2)


def peer(options, kind, paths):
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "peer.json")
        arguments = [kind, *paths, "--weights", options.peer_weights, "--json", output]
        subprocess.run(
            [options.peer_python, PEER, *arguments, "--budget", str(BUDGET)],
            check=True, env={**os.environ, **ALLOCATION},
        )  # fmt: skip
        return json.loads(output.read_text())


def summary(rounds):
    """Medians of the ratios of both in each turn."""
    return {
        system: {
            name: statistics.median(
                theirs[system] / mine[system][name]
                for mine, theirs in zip(rounds["jaxff"], rounds["original"], strict=True)
            )
            for name in rounds["jaxff"][0][system]
        }
        for system in rounds["original"][0]
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("systems", nargs="*")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--peer-python")
    parser.add_argument("--peer-weights")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    kept = keep_freed_memory()
    rate = matrix_rate()
    record = {
        "kept_freed_memory": kept, "date": date.today().isoformat(), "load": os.getloadavg()[0],
        "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
        "versions": {p: version(p) for p in ("jaxff", "jax", "flax", "numpy", "ase")},
        "rounds": options.rounds, "lists": LISTS, "matrix_product_gflops": rate / 1e9,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        ethanol = Path(folder, "ethanol_9.xyz")
        molecule("CH3CH2OH").write(ethanol)
        paths = [ethanol, *map(Path, options.systems)]
        for kind in KINDS:
            record[kind] = compare(kind, paths, options, rate)
            (HERE / "so3krates.json").write_text(json.dumps(record, indent=1) + "\n")


def compare(kind, paths, options, rate):
    calls, found = {}, {"force_error": {}, "limit": {}, "jaxff": [], "original": []}
    for path in paths:
        atoms = read(path)
        atoms.info.clear()
        system, made, sizes = models(kind, atoms, options.weights)
        found["force_error"][path.stem] = force_error(made, system)
        found["limit"][path.stem] = {
            f"network{name}": operations(own, system) / rate for name, own in sizes.items()
        }
        calls[path.stem] = {f"ase{n}": through_ase(e, atoms) for n, e in made.items()}
        calls[path.stem] |= {f"dynamics{n}": in_the_loop(e, system) for n, e in made.items()}
    for _ in range(options.rounds):
        found["jaxff"].append({s: {n: c() for n, c in own.items()} for s, own in calls.items()})
        if options.peer_python:
            found["original"].append(peer(options, kind, paths))
    if options.peer_python:
        found["ratio"] = summary(found)
        print(kind, json.dumps(found["ratio"], indent=1), flush=True)
    return found


if __name__ == "__main__":
    main()
