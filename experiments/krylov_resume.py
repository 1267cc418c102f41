"""Kill an iterative fit at random moments and let it go on: how much work does each kill cost?

    python experiments/krylov_resume.py [--molecule aspirin] [--train 500] [--kills 4]

The same ``jaxff fit --solver cg --checkpoint`` runs once without interruption, and once killed
(SIGKILL) at random moments and started again with the same command, until it ends before it is
killed. What both took in all tells what a kill costs: work since the last checkpoint, reading the
data, permutations, compilation and another preconditioner. The forces of both models on test frames
are compared. The record goes to ``krylov_resume.json``.
"""

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np

import jaxff
from jaxff import bind, forces, units
from jaxff.interfaces import sgdml

RECORD = Path(__file__).with_suffix(".json")


def run(arguments, most=None):
    """Seconds it ran, and whether it came to its end."""
    start = time.perf_counter()
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        _, complaint = process.communicate(timeout=most)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return time.perf_counter() - start, False
    if process.returncode:
        raise SystemExit(complaint.decode())
    return time.perf_counter() - start, True


def fit(options, folder, moments):
    """Seconds of every start, the model, and what its solve took."""
    folder.mkdir()
    model, told = folder / "model.npz", folder / "fit.json"
    arguments = [
        sys.executable, "-m", "jaxff", "fit", path(options), "--output", model, "--json", told,
        "--energy-key", "E_md17", "--forces-key", "F_md17", "--train", str(options.train),
        "--lengthscale", str(options.lengthscale), "--solver", "cg",
        "--checkpoint", folder / "checkpoint.npz",
    ]  # fmt: skip
    seconds = []
    for moment in moments:
        spent, done = run(arguments, moment)
        seconds.append(spent)
        if done:  # so much had been kept
            break
    else:
        seconds.append(run(arguments)[0])
    return seconds, model, json.loads(told.read_text())


def path(options):
    return Path(options.data, "rmd17", f"rmd17_{options.molecule}.npz")


def difference(options, models):
    """Largest difference of forces on 100 test frames, kcal/mol/Å."""
    data = jaxff.data.npz.read(path(options), energy_key="E_md17", forces_key="F_md17")
    systems = data[data.splits["split_test_01"][:100]].systems
    one, other = (np.asarray(forces(bind(*sgdml.load(m)))(systems)) for m in models)
    return float(np.abs(one - other).max() / units.to_ev("kcal/mol"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--molecule", default="aspirin")
    parser.add_argument("--train", type=int, default=500)
    parser.add_argument("--lengthscale", type=float, default=20.0)
    parser.add_argument("--kills", type=int, default=4)
    parser.add_argument("--data", default=os.environ.get("JAXFF_DATA", "../shared/data"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        whole, model, told = fit(options, Path(folder, "whole"), ())
        draw = random.Random(0)
        # From the second half of the run, where there is most to lose.
        moments = [draw.uniform(0.5, 0.95) * whole[0] for _ in range(options.kills)]
        parts, resumed, _ = fit(options, Path(folder, "killed"), moments)
        record = {
            "date": date.today().isoformat(), "load": os.getloadavg()[0],
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "versions": {p: version(p) for p in ("jaxff", "jax", "numpy")},
            "molecule": options.molecule, "train": options.train, "uninterrupted_s": whole[0],
            "solve": told, "kills": len(parts) - 1, "starts_s": parts,
            "lost_per_kill_s": (sum(parts) - whole[0]) / (len(parts) - 1),
            "largest_difference_of_forces_kcal_mol_A": difference(options, (model, resumed)),
        }  # fmt: skip
    text = json.dumps(record, indent=1)
    RECORD.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
