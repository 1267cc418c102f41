"""SchNet and PaiNN beside schnetpack 2.0.4: energies with forces, and steps of training.

    python experiments/benchmarks/networks.py [--peer-python PATH] [--rounds 3]

The same sizes on both sides (128 features, 20 Gaussians, cosine cutoff of 5 Å; 6 interactions of
SchNet, 3 of PaiNN), float32, random weights, lists made before the clock starts, one thread of the
same core, in turns, both sides with an allocator that keeps freed memory. SchNet is there twice:
with filters between the nodes of an interpolation, as by default, and with filter networks at every
distance (``schnet_exact``); how far their forces on water differ, from each other and from double
precision, stands beside. Inference: ethanol (9 atoms), a dipeptide (42), liquid water (192).
Training: steps of AdamW on batches of 10 of ethanol, and of 10 molecules of the eight of rMD17
(mean of eight batches; ours are padded to shapes of which there are at most six). CPU seconds,
medians. The peer is run by the Python at PATH. The record goes to ``networks.json``.
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
import optax

from jaxff import bind, energy_and_forces
from jaxff.allocation import keep_freed_memory
from jaxff.data import as_frames, batches, read_frames, reference_energies
from jaxff.networks import painn, schnet
from jaxff.training import trainer, weighted

# What keep_freed_memory does, for the peer.
ALLOCATION = {
    "MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "268435456",
    "MALLOC_TRIM_THRESHOLD_": "2147483647", "MALLOC_TOP_PAD_": "67108864",
}  # fmt: skip
HERE = Path(__file__).resolve().parent
PEER = HERE.parent / "peers" / "schnetpack_speed.py"
CUTOFF, MIXED, BUDGET = 5.0, 8, 3.0  # Å, batches, seconds of each measurement
COMMON = {"features": 128, "radial_functions": 20, "radial_basis": "gaussian",
          "cutoff_function": "cosine"}  # fmt: skip
NETWORKS = {
    "schnet": lambda: schnet(CUTOFF, interactions=6, **COMMON),
    "schnet_exact": lambda: schnet(CUTOFF, interactions=6, filter_nodes=None, **COMMON),
    "painn": lambda: painn(CUTOFF, interactions=3, **COMMON),
}
MOLECULES = (
    "aspirin", "azobenzene", "benzene", "ethanol", "malonaldehyde", "naphthalene", "toluene",
    "uracil",
)  # fmt: skip


def loaders(folder):
    """Batches by name: one structure each for inference, ten for training."""
    xyz = {"energy_key": "energy", "forces_key": "force"}
    molecules = [read_frames(folder / "rmd17" / f"rmd17_{name}.npz") for name in MOLECULES]
    peptides = read_frames(folder / "spice_dipeptides" / "train.xyz", **xyz)
    small = next(i for i in range(len(peptides)) if len(peptides[i].numbers) == 42)
    ethanol = molecules[MOLECULES.index("ethanol")]
    draw = np.random.default_rng(0)
    mixed = as_frames([m[draw.choice(len(m), 100, replace=False)] for m in molecules])
    water = read_frames(folder / "water_pbe0ts" / "water_192.npz")
    made = {"9": ethanol[:1], "42": peptides[[small]], "192": water[:1]}
    found = {name: loader(frames, 1) for name, frames in made.items()}
    return found | {"train": loader(ethanol[:200], 10), "train_mixed": loader(mixed, 10, seed=0)}


def loader(frames, size, seed=None):
    reference = reference_energies(frames).values
    return batches(
        frames, batch_size=size, cutoffs=(CUTOFF,), labels=("energy", "forces"), seed=seed,
        reference_energies=reference, max_compilations=6, prefetch=0,
    )  # fmt: skip


def plain(batch):
    """A batch as the peer takes it: no padding, Cartesian offsets of images."""
    system, pairs = batch.system, batch.neighbors.within(CUTOFF)
    atoms, real = np.asarray(system.numbers) > 0, np.asarray(pairs.others) < pairs.atoms
    centers, others = np.asarray(pairs.centers)[real], np.asarray(pairs.others)[real]
    place = np.cumsum(atoms) - 1
    structure = np.asarray(system.structure)
    offsets = np.zeros((len(centers), 3))
    if system.cell is not None:
        shifts, cells = np.asarray(pairs.shifts)[real], np.asarray(system.cell)
        offsets = np.einsum("pa,pab->pb", shifts, cells[structure[centers]])
    return {
        "numbers": np.asarray(system.numbers)[atoms],
        "positions": np.asarray(system.positions)[atoms],
        "structure": structure[atoms], "centers": place[centers], "others": place[others],
        "offsets": offsets, "forces": np.asarray(batch.labels["forces"])[atoms],
        "energy": np.asarray(batch.labels["energy"])[np.asarray(system.structure_mask)],
    }  # fmt: skip


def median_cpu(function, budget=BUDGET):
    for _ in range(3):
        function()
    times, end = [], time.perf_counter() + budget
    while time.perf_counter() < end or len(times) < 5:
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return statistics.median(times)


def ours(potential, found):
    """Functions to be timed, by name."""
    calls = {}
    predict = jax.jit(lambda energy_fn, *given: energy_and_forces(energy_fn)(*given))
    for name, batched in found.items():
        first = jax.tree.map(np.asarray, batched.batch(0, 0))
        if name.startswith("train"):
            calls[name] = training(potential, batched, MIXED if name == "train_mixed" else 1)
            continue
        energy_fn = bind(
            potential, potential.init(jax.random.key(0), first.system, first.neighbors)
        )
        calls[name] = lambda e=energy_fn, b=first: jax.block_until_ready(
            predict(e, b.system, b.neighbors)
        )
    return calls


def training(potential, batched, count):
    steps = trainer(potential, weighted(energy=0.01, forces=0.99), optax.adamw(1e-3))
    given = [batched.batch(0, i) for i in range(count)]
    states = [steps.init(jax.random.key(0), given[0])]

    def run():
        for batch in given:
            states[0], info = steps.step(states[0], batch)
        info.loss.block_until_ready()

    return run


def peer(python, kind, arrays):
    with tempfile.TemporaryDirectory() as folder:
        given, output = Path(folder, "batches.npz"), Path(folder, "peer.json")
        np.savez(given, **arrays)
        arguments = [kind, given, "--json", output, "--budget", str(BUDGET)]
        subprocess.run([python, PEER, *arguments], check=True, env={**os.environ, **ALLOCATION})
        found = json.loads(output.read_text())
    mixed = [found.pop(name) for name in list(found) if name.startswith("train_mixed")]
    return found | {"train_mixed": sum(mixed)}


def force_differences(batch):
    """Largest differences between the forces of three SchNets with the same weights, relative."""
    exact = {"filter_nodes": None}
    options = {"interpolated": {}, "exact": exact, "reference": {**exact, "dtype": "float64"}}
    forces, params = {}, None
    for name, more in options.items():
        potential = schnet(CUTOFF, interactions=6, **COMMON, **more)
        if params is None:
            params = potential.init(jax.random.key(0), batch.system, batch.neighbors)
        dtype = more.get("dtype", "float32")
        energy_fn = bind(potential, jax.tree.map(lambda leaf, d=dtype: leaf.astype(d), params))
        found = jax.jit(energy_and_forces(energy_fn))(batch.system, batch.neighbors)
        forces[name] = np.asarray(found[1], float)
    largest = np.abs(forces["reference"]).max()
    return {
        f"{one} from {other}": float(np.abs(forces[one] - forces[other]).max() / largest)
        for one, other in (("interpolated", "exact"), ("interpolated", "reference"),
                           ("exact", "reference"))
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peer-python")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", default=os.environ.get("JAXFF_DATA", "../shared/data"))
    options = parser.parse_args()
    kept = keep_freed_memory()
    found = loaders(Path(options.data))
    arrays = {}
    for name, batched in found.items():
        for i in range(MIXED if name == "train_mixed" else 1):
            own = f"{name}_{i}" if name == "train_mixed" else name
            arrays |= {f"{own}/{k}": v for k, v in plain(batched.batch(0, i)).items()}
    record = {
        "kept_freed_memory": kept, "date": date.today().isoformat(), "load": os.getloadavg()[0],
        "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
        "versions": {p: version(p) for p in ("jaxff", "jax", "flax", "numpy")},
        "rounds": options.rounds, "mixed_batches": MIXED,
        "shapes_of_mixed_batches": len(found["train_mixed"].buckets.shapes),
        "fill_of_mixed_batches": found["train_mixed"].buckets.fill,
    }  # fmt: skip
    with jax.enable_x64(True):
        record["force_differences"] = force_differences(found["192"].batch(0, 0))
    for kind, make in NETWORKS.items():
        calls = ours(make(), found)
        rounds = record[kind] = {"jaxff": [], "schnetpack": []}
        for turn in range(options.rounds):
            rounds["jaxff"].append({name: median_cpu(call) for name, call in calls.items()})
            if options.peer_python:
                known = kind == "schnet_exact" and record["schnet"]["schnetpack"][turn]
                rounds["schnetpack"].append(known or peer(options.peer_python, kind, arrays))
        if options.peer_python:
            ratios = {
                name: [
                    theirs[name] / mine[name]
                    for mine, theirs in zip(rounds["jaxff"], rounds["schnetpack"], strict=True)
                ]
                for name in calls
            }
            rounds["ratio"] = {n: statistics.median(r) for n, r in ratios.items()}
            print(kind, rounds["ratio"], flush=True)
        (HERE / "networks.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
