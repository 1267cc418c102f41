"""Time SchNet and PaiNN of schnetpack 2.0.4: energies with forces, and training steps.

    python schnetpack_speed.py schnet|painn BATCHES.npz --json OUT

BATCHES holds for each batch ``NAME/numbers, NAME/positions`` (Å), ``NAME/structure`` (index of the
structure of each atom), ``NAME/centers, NAME/others, NAME/offsets`` (pairs, Å), ``NAME/energy``
(eV) and ``NAME/forces`` (eV/Å). Lists are ready before the clock starts; float32, random weights,
one thread. Names that begin with ``train`` are timed as steps of AdamW on energies and forces,
others as energies with forces. Run it with the Python of an environment with schnetpack and torch.
"""

import argparse
import json
import os
import statistics
import time
import typing

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"
os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

import numpy as np
import torch
import torch.utils.data.dataloader

# schnetpack 2.0.4 imports this name, which torch 2.13 no longer has.
torch.utils.data.dataloader.T_co = typing.TypeVar("T_co", covariant=True)  # type: ignore

import schnetpack
import schnetpack.properties as names
from schnetpack import atomistic
from schnetpack.nn import CosineCutoff, GaussianRBF

PARSER = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
PARSER.add_argument("kind", choices=("schnet", "painn"))
PARSER.add_argument("batches")
PARSER.add_argument("--json", required=True)
PARSER.add_argument("--budget", type=float, default=5.0, help="seconds per batch")
OPTIONS = PARSER.parse_args()
CUTOFF, FEATURES, RADIAL = 5.0, 128, 20
LAYERS = {"schnet": 6, "painn": 3}


def model():
    torch.manual_seed(0)
    kinds = {"schnet": schnetpack.representation.SchNet, "painn": schnetpack.representation.PaiNN}
    representation = kinds[OPTIONS.kind](
        n_atom_basis=FEATURES, n_interactions=LAYERS[OPTIONS.kind],
        radial_basis=GaussianRBF(RADIAL, CUTOFF), cutoff_fn=CosineCutoff(CUTOFF),
    )  # fmt: skip
    return schnetpack.model.NeuralNetworkPotential(
        representation, input_modules=[atomistic.PairwiseDistances()],
        output_modules=[atomistic.Atomwise(n_in=FEATURES, output_key="energy"), atomistic.Forces()],
    )  # fmt: skip


def inputs(batch):
    count = int(batch["structure"].max()) + 1
    single, whole = torch.float32, torch.int64
    return {
        names.Z: torch.tensor(batch["numbers"], dtype=whole),
        names.R: torch.tensor(batch["positions"], dtype=single),
        names.idx_i: torch.tensor(batch["centers"], dtype=whole),
        names.idx_j: torch.tensor(batch["others"], dtype=whole),
        names.offsets: torch.tensor(batch["offsets"], dtype=single),
        names.idx_m: torch.tensor(batch["structure"], dtype=whole),
        names.n_atoms: torch.tensor(np.bincount(batch["structure"])),
        names.cell: torch.zeros(count, 3, 3),
        names.pbc: torch.zeros(3 * count, dtype=torch.bool),
    }


def inference(network, batch):
    ready = inputs(batch)
    return lambda: network(dict(ready))["forces"]


def training(network, batch):
    ready = inputs(batch)
    energy, forces = (torch.tensor(batch[k], dtype=torch.float32) for k in ("energy", "forces"))
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)

    def step():
        optimizer.zero_grad()
        out = network(dict(ready))
        loss = 0.01 * ((out["energy"] - energy) ** 2).mean()
        loss = loss + 0.99 * ((out["forces"] - forces) ** 2).mean()
        loss.backward()
        optimizer.step()

    return step


def median_cpu(function):
    for _ in range(3):
        function()
    times, end = [], time.perf_counter() + OPTIONS.budget
    while time.perf_counter() < end or len(times) < 5:
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return statistics.median(times)


def main():
    torch.set_num_threads(1)
    with np.load(OPTIONS.batches, allow_pickle=False) as file:
        arrays = dict(file)
    record = {}
    for name in dict.fromkeys(key.partition("/")[0] for key in arrays):
        batch = {k.partition("/")[2]: v for k, v in arrays.items() if k.startswith(name + "/")}
        make = training if name.startswith("train") else inference
        record[name] = median_cpu(make(model(), batch))
    with open(OPTIONS.json, "w") as file:
        json.dump(record, file)


if __name__ == "__main__":
    main()
