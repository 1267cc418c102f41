"""Time molecular dynamics of ethanol, sGDML of 1000 points: ``dynamics.run`` beside sgdml and ASE.

    python experiments/benchmarks/dynamics.py MODEL.npz [--peer-python PATH]

MODEL is a model of ethanol in the format of sgdml, used by both sides. Both run at constant energy
from the same state on one thread of the same core, in turns; the fastest setting of the peer
(``experiments/peers/sgdml_dynamics.py``, run by the Python at PATH, with sgdml 1.0.3 and ASE)
counts. The loop is also compared with the same number of bare calls of forces (and of energy and
forces) in a compiled loop that does nothing else; and the programs compiled in 100,000 steps are
counted. The record goes to ``dynamics.json``.
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

jax.config.update("jax_enable_x64", True)

import numpy as np

import jaxff
from jaxff import System, bind, dynamics, energy_and_forces, forces
from jaxff.interfaces import sgdml

HERE = Path(__file__).resolve().parent
PEER = HERE.parent / "peers" / "sgdml_dynamics.py"
TIMESTEP, STEPS, REPEATS, REPLICAS = 0.5, 5000, 3, 10


def cpu(function):
    start = time.process_time()
    function()
    return time.process_time() - start


def bare(energy_fn, system):
    """Compiled loops of calls alone; each geometry depends on the forces before, as in a run."""

    def repeat(call):
        def body(_, positions):
            force = call(system.replace(positions=positions))
            return positions + 1e-7 * force

        return jax.jit(lambda x: jax.lax.fori_loop(0, STEPS, body, x))

    def both(moved):
        energy, force = energy_and_forces(energy_fn)(moved)
        return force + 1e-30 * energy  # so that the energy is not left out

    loops = {"forces": repeat(forces(energy_fn)), "energy_and_forces": repeat(both)}
    for loop in loops.values():
        loop(system.positions).block_until_ready()
    return {
        name: lambda loop=loop: loop(system.positions).block_until_ready()
        for name, loop in loops.items()
    }


def runs(energy_fn, system, velocities):
    def simulate(every, replicas=None):
        chunk = STEPS // (replicas or 1)
        dynamics.run(
            energy_fn, system, ensemble=dynamics.nve(TIMESTEP), steps=chunk, every=every,
            velocities=velocities, chunk=chunk, replicas=replicas, key=jax.random.key(0),
        )  # fmt: skip

    found = {
        "run": lambda: simulate(STEPS),
        "run_frames_every_10": lambda: simulate(10),
        "run_of_ten_replicas": lambda: simulate(STEPS, REPLICAS),
    }
    for function in found.values():
        function()
    return found


def peer(python, model, start):
    with tempfile.TemporaryDirectory() as folder:
        state, output = Path(folder, "start.npz"), Path(folder, "peer.json")
        np.savez(state, **start)
        subprocess.run(
            [python, PEER, model, state, "--json", output],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        return json.loads(output.read_text())


def compilations(energy_fn, system):
    """Names of the programs compiled in a run of 100,000 steps, its start included."""
    names = []

    def listen(event, duration, **fields):
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(fields.get("fun_name"))

    jax.clear_caches()
    jax.monitoring.register_event_duration_secs_listener(listen)
    dynamics.run(
        energy_fn, system, ensemble=dynamics.nve(TIMESTEP), steps=100_000, temperature=300.0,
        key=jax.random.key(1), every=100,
    )  # fmt: skip
    jax.monitoring.unregister_event_duration_listener(listen)
    return names


def state(energy_fn, folder):
    """Geometry and velocities after 2 ps at 300 K."""
    path = Path(folder, "rmd17", "rmd17_ethanol.npz")
    data = jaxff.data.npz.read(path, energy_key="E_md17", forces_key="F_md17")
    first = data.splits["split_test_01"][0]
    last = dynamics.run(
        energy_fn, System(data.positions[first], data.numbers), keep_frames=False, steps=4000,
        ensemble=dynamics.langevin(TIMESTEP, 300.0, 0.01), key=jax.random.key(0), every=1000,
    ).restart  # fmt: skip
    return System(last.positions, data.numbers), last.velocities


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--peer-python")
    parser.add_argument("--data", default=os.environ.get("JAXFF_DATA", "../shared/data"))
    options = parser.parse_args()
    potential, params = sgdml.load(options.model)
    energy_fn = bind(potential, params)
    system, velocities = state(energy_fn, options.data)
    start = {
        "positions": np.asarray(system.positions), "velocities": velocities,
        "numbers": np.asarray(system.numbers),
    }  # fmt: skip
    ours = {**bare(energy_fn, system), **runs(energy_fn, system, velocities)}
    seconds, theirs = {name: [] for name in ours}, []
    for _ in range(REPEATS):
        for name, function in ours.items():
            seconds[name].append(cpu(function))
        if options.peer_python:
            theirs.append(peer(options.peer_python, options.model.resolve(), start))
    best = {name: min(values) for name, values in seconds.items()}
    record = {
        "date": date.today().isoformat(), "load": os.getloadavg()[0], "steps": STEPS,
        "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
        "versions": {p: version(p) for p in ("jaxff", "jax", "numpy")}, "repeats": REPEATS,
        "permutations": potential.kernel.order,
        "references": int(params["expansion"]["features"].shape[0]),
        "steps_per_cpu_s": {
            name: {"median": STEPS / statistics.median(v), "best": STEPS / min(v)}
            for name, v in seconds.items()
        },
        "loop_over_forces": best["run"] / best["forces"] - 1,
        "loop_over_energy_and_forces": best["run"] / best["energy_and_forces"] - 1,
    }  # fmt: skip
    if theirs:
        speeds = {n: [r[n]["steps_per_cpu_s"] for r in theirs] for n in theirs[0]}
        fastest = max(speeds, key=lambda n: statistics.median(speeds[n]))
        medians = record["steps_per_cpu_s"]["run_frames_every_10"]["median"]
        record["sgdml_ase"] = {
            "fastest_setting": fastest, "each": theirs,
            "steps_per_cpu_s": {
                "median": statistics.median(speeds[fastest]), "best": max(speeds[fastest]),
            },
        }  # fmt: skip
        record["ratio"] = medians / statistics.median(speeds[fastest])
        best_ours = record["steps_per_cpu_s"]["run_frames_every_10"]["best"]
        record["ratio_of_best"] = best_ours / max(speeds[fastest])
    record["compiled_in_100000_steps"] = compilations(energy_fn, system)
    text = json.dumps(record, indent=1)
    (HERE / "dynamics.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
