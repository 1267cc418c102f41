"""What curvature adds to the training of a network: SchNet with and without Hessian labels.

    python experiments/curvature_training.py [--steps 3000]

The data are those of ``hessian_labels.py``: ethanol at 500 K, GFN2-xTB, of which 100 geometries
with Hessians serve for training. SchNet without a cutoff is trained on energies and forces, and on
energies, forces and Hessians, which enter by products with one random direction per geometry and
step: no Hessian of the network is ever formed. A third run has as many steps more without Hessians
as those products cost, measured in CPU time. Tested on frames not seen, as there: forces and
energies of 125, Hessians of 25, the 21 harmonic frequencies at the engine's own minimum. The record
goes to ``curvature_training.json``.
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

import numpy as np
from hessian_labels import errors, frames, hessians

from jaxff import bind, scale_shift, training
from jaxff.data import as_frames, reference_energies
from jaxff.networks import schnet

RECORD = Path(__file__).with_suffix(".json")
SIZE, LEARNT = 10, 100  # geometries of a batch, and in all
TERMS = {"energy": 0.01, "forces": 0.99}
CURVATURE = 1e-3  # Å²: weight of the mean squared error of the elements of the Hessian


def stacks(data, reference, curvatures=None):
    """Batches of stacks, with the energies of the elements taken off."""
    made = []
    for begin in range(0, len(data), SIZE):
        part = data[np.arange(begin, min(begin + SIZE, len(data)))]
        labels = {**part.values, "energy": part.values["energy"] - reference[part.numbers].sum()}
        labels = {name: labels[name] for name in TERMS}
        if curvatures is not None:
            labels["hessian"] = curvatures[begin : begin + SIZE]
        labels = {name: np.asarray(value, np.float32) for name, value in labels.items()}
        made.append(training.Batch(part.systems, None, labels, {}))
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=3000)
    options = parser.parse_args()
    ethanol = frames()
    curvatures = hessians(ethanol)
    data = ethanol[:LEARNT]
    reference = reference_energies(as_frames(data)).values
    network = schnet(
        None, cutoff_function=None, features=64, interactions=2, radial_functions=32,
        radial_centers=np.linspace(0.5, 5.5, 32), radial_widths=np.full(32, 0.2),
    )  # fmt: skip
    model = scale_shift(network, 1.0, reference)
    record = {
        "mean |Hessian| of the test eV/A^2": float(np.abs(curvatures[LEARNT:]).mean()),
        "training geometries": LEARNT, "weights": {**TERMS, "hessian": CURVATURE},
        "date": date.today().isoformat(), "load": os.getloadavg()[0],
        "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
        "versions": {p: version(p) for p in ("jaxff", "jax", "flax", "optax", "numpy")},
    }  # fmt: skip

    def learn(name, steps, **terms):
        labels = curvatures[:LEARNT] if "hessian" in terms else None
        begin = time.process_time()
        found = training.fit(
            network, stacks(data, reference, labels), loss=training.weighted(**terms), steps=steps,
            learning_rate={"name": "cosine_decay", "init_value": 2e-3, "decay_steps": steps},
            ema=0.99,
        )  # fmt: skip
        spent = time.process_time() - begin
        energy_fn = bind(model, found.params)
        record[name] = {
            "steps": steps, "cpu_s": spent, **errors(energy_fn, ethanol, curvatures[LEARNT:])
        }  # fmt: skip
        print(name, json.dumps(record[name]), flush=True)
        RECORD.write_text(json.dumps(record, indent=1) + "\n")
        return spent

    plain = learn("energies and forces", options.steps, **TERMS)
    curved = learn("with Hessians", options.steps, **TERMS, hessian=CURVATURE)
    longer = round(options.steps * curved / plain)
    learn("energies and forces, same time", longer, **TERMS)


if __name__ == "__main__":
    main()
