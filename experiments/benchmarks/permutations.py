"""Time the recovery of permutation groups, alone or beside the reference package.

    python experiments/benchmarks/permutations.py [--molecules ethanol aspirin] [--peer-python PATH]

Both sides see the same frames (``split_train_01`` of rMD17) and run on one thread.  The record is
printed and written to ``permutations.json`` beside this script.  PATH is the Python of an
environment that holds ``sgdml`` 1.0.3 (see ``experiments/peers/sgdml_reference.py``).
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

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
os.environ.update(dict.fromkeys(THREADS, "1"))  # before NumPy is imported

import jax
import numpy as np

from jaxff.kernels import permutations
from jaxff.system import System

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PEER = HERE.parent / "peers" / "sgdml_reference.py"
REPEATS = 3


def timed(systems):
    """The group, and the best wall and CPU seconds of a few runs."""
    wall, cpu = [], []
    for _ in range(REPEATS):
        start = time.perf_counter(), time.process_time()
        group = permutations.recover(systems)
        wall.append(time.perf_counter() - start[0])
        cpu.append(time.process_time() - start[1])
    return group, {"wall_s": min(wall), "cpu_s": min(cpu)}


def peer(python, path):
    """Group and times of the reference package for the same frames."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "peer.json")
        command = [python, PEER, "recover", path, "--frames", "split_train_01", "--json", output]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        record = json.loads(output.read_text())
    return np.unique(record["perms"], axis=0), record["recover"]


def compare(path, python):
    with np.load(path, allow_pickle=False) as file:
        systems = System(file["R"][file["split_train_01"]], file["z"])
    permutations.recover(System(systems.positions[:5], systems.numbers[:5]))  # imports SciPy
    group, times = timed(systems)
    record = {"frames": len(systems.positions), "order": len(group), "jaxff": times}
    if python:
        other, record["sgdml"] = peer(python, path)
        record["same_group"] = np.array_equal(group, other)
        record["cpu_ratio"] = record["sgdml"]["cpu_s"] / times["cpu_s"]
        record["wall_ratio"] = record["sgdml"]["wall_s"] / times["wall_s"]
    return record


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--molecules", nargs="+", default=["ethanol", "aspirin"])
    parser.add_argument("--peer-python", help="Python of an environment with sgdml 1.0.3")
    parser.add_argument("--data", default=os.environ.get("JAXFF_DATA", ROOT / "../shared/data"))
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    record = {
        "date": date.today().isoformat(), "load": os.getloadavg()[0],
        "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
        "versions": {p: version(p) for p in ("jaxff", "jax", "numpy", "scipy")},
    }  # fmt: skip
    for name in options.molecules:
        path = Path(options.data, "rmd17", f"rmd17_{name}.npz").resolve()
        record[name] = compare(path, options.peer_python)
    text = json.dumps(record, indent=1)
    (HERE / "permutations.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
