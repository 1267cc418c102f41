"""Host work per training batch, and which layout of pairs compiled code prefers on a CPU.

    python experiments/benchmarks/batches.py

Batches of rMD17 ethanol (10 per batch), SPICE dipeptides (16) and cells of carbon, silicon and
water, within 5 Å. Times are CPU times of this process on one core, the least of the repeats, as the
machine is shared: of putting a batch together from frames in memory, of handing it to a compiled
function, of reading frames once and finding their pairs, of reading frames from a file, and of the
gradient of a sum over messages of 64 features in both layouts of the pairs, run in turn. The record
goes to ``batches.json``.
"""

import json
import os
import platform
import tempfile
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))
os.environ["XLA_FLAGS"] = (
    "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1 "
    + os.environ.get("XLA_FLAGS", "")
)
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.data import batches, read_frames, reference_energies, write_hdf5
from jaxff.neighbors import displacements, sum_pairs

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("JAXFF_DATA", HERE.parents[1] / "../shared/data"))
XYZ = {"energy_key": "energy", "forces_key": "force"}
SETS = {
    "ethanol": ("rmd17/rmd17_ethanol.npz", {}, 10),
    "dipeptides": ("spice_dipeptides/train.xyz", XYZ, 16),
    "carbon": ("carbon_gap17/carbon_reduced_100.xyz", XYZ, 16),
    "silicon": ("mlearn/Si_aimd_64_0.npz", {}, 4),
    "water": ("water_pbe0ts/water_192.npz", {}, 2),
}
CUTOFF, FEATURES = 5.0, 64


def cpu(*functions, repeats=9):
    """Least CPU time of each in ms, run in turn."""
    least = [float("inf")] * len(functions)
    for _ in range(repeats):
        for index, function in enumerate(functions):
            start = time.process_time()
            function()
            least[index] = min(least[index], time.process_time() - start)
    return [1e3 * seconds for seconds in least]


def messages(positions, weights, batch):
    """Sum over neighbours of filters times features, twice, as a message-passing network has it."""
    system = batch.system.replace(positions=positions)
    pairs = batch.neighbors.within(CUTOFF)
    vectors, mask = displacements(system, pairs)
    squares = jnp.sum(vectors**2, axis=-1, keepdims=True)
    radial = jnp.exp(-squares * jnp.linspace(0.1, 2.0, 20))
    filters = jnp.where(mask[:, None], jnp.tanh(radial @ weights[:20]), 0.0)
    atoms = weights[20 + system.numbers]
    for _ in range(2):
        atoms = jnp.tanh(sum_pairs(pairs, filters * jnp.take(atoms, pairs.others, 0, mode="clip")))
    return jnp.sum(atoms)


def step(loader):
    """A compiled gradient on the first batch."""
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(120, FEATURES)), jnp.float32)
    batch = jax.tree.map(jnp.asarray, loader.batch(0, 0))
    gradient = jax.jit(jax.grad(messages, argnums=(0, 1)))

    def run():
        jax.block_until_ready(gradient(batch.system.positions, weights, batch))

    run()
    return run


def measure(name):
    path, options, size = SETS[name]
    frames = read_frames(DATA / path, **options)[:400]
    reference = reference_energies(frames).values
    common = {"batch_size": size, "cutoffs": (CUTOFF,), "seed": 0, "reference_energies": reference}
    start = time.process_time()
    loader = batches(frames, **common, labels=("energy", "forces"), prefetch=0)
    row = {
        "frames": len(frames),
        "batch": size,
        "survey_ms_per_frame": 1e3 * (time.process_time() - start) / len(frames),
        "shapes": len(loader.buckets.shapes),
        "fill": loader.buckets.fill,
    }
    count = min(len(loader), 40)
    row["assemble_ms_per_batch"] = (
        cpu(lambda: [loader.batch(1, i) for i in range(count)])[0] / count
    )
    transfer = jax.jit(lambda batch: batch)
    made = [loader.batch(0, i) for i in range(count)]
    [transfer(batch) for batch in made]
    row["transfer_ms_per_batch"] = cpu(lambda: [transfer(batch) for batch in made])[0] / count
    row["frames_per_s"] = size * 1e3 / (row["assemble_ms_per_batch"] + row["transfer_ms_per_batch"])
    both = [
        batches(frames, **common, layout=layout, max_compilations=1) for layout in ("rows", "flat")
    ]
    times = cpu(*(step(own) for own in both), repeats=25)
    for layout, own, least in zip(("rows", "flat"), both, times, strict=True):
        used = own.buckets.fill[f"pairs within {CUTOFF:g} Å"]
        row[layout] = {"fill": used, "gradient_ms": least}
    return row


def reading():
    """Time per frame of dipeptides, read one by one."""
    path, options, _ = SETS["dipeptides"]
    text = read_frames(DATA / path, **options)
    with tempfile.TemporaryDirectory() as folder:
        write_hdf5(Path(folder) / "a.h5", text)
        binary = read_frames(Path(folder) / "a.h5")
        picked = np.random.default_rng(0).permutation(len(text))[:100].tolist()
        return {
            "extxyz_ms_per_frame": cpu(lambda: [text[i] for i in picked])[0] / 100,
            "hdf5_ms_per_frame": cpu(lambda: [binary[i] for i in picked])[0] / 100,
        }


def main():
    record = {
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores, shared",
        "versions": {name: version(name) for name in ("jax", "numpy", "vesin", "h5py", "ase")},
        "cutoff_A": CUTOFF,
        "sets": {name: measure(name) for name in SETS},
        "reading": reading(),
    }
    (HERE / "batches.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps(record, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
