"""Error of a trained PaiNN, read from SchNetPack's arrays, on the revised labels of ethanol.

    python experiments/painn_rmd17.py [--frames 500]

The model and its weights are those of SchNetPack's example (commit 4c967da8), the frames the first
of ``split_test_01``, which it may have seen in training: its own split is not known. Folders are
named by ``JAXFF_REFERENCE`` and ``JAXFF_DATA``. The record goes to ``painn_rmd17.json``.
"""

import argparse
import json
import os
import platform
from datetime import date
from importlib.metadata import version
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np

from jaxff import System, bind, energy_and_forces, neighbor_list, pack, units
from jaxff.interfaces.schnetpack import from_state_dict

HERE = Path(__file__).resolve().parent
BATCH = 50


def main(frames):
    reference = np.load(Path(os.environ["JAXFF_REFERENCE"]) / "painn_rmd17_ethanol.npz")
    data = np.load(Path(os.environ["JAXFF_DATA"]) / "rmd17" / "rmd17_ethanol.npz")
    arrays = {k[7:]: reference[k] for k in reference.files if k.startswith("params/")}
    unit = units.factor("kcal/mol", energy=1)
    evaluate = jax.jit(lambda function, system, lists: energy_and_forces(function)(system, lists))
    chosen = data["split_test_01"][:frames]
    results = {}
    for dtype in ("float64", "float32"):
        potential, params = from_state_dict(arrays, energy_unit="kcal/mol", dtype=dtype)
        energy_fn = bind(potential, params)
        lists = neighbor_list(potential.cutoffs, capacity=1.0)
        energies, forces = [], []
        for start in range(0, len(chosen) - BATCH + 1, BATCH):
            own = chosen[start : start + BATCH]
            system = pack([System(data["R"][i], data["z"]) for i in own])
            found = lists.allocate(system)
            energy, force = evaluate(energy_fn, system, found)
            energies.append(energy / unit - data["E"][own])
            forces.append(force.reshape(BATCH, -1, 3) / unit - data["F"][own])
        energies, forces = np.concatenate(energies), np.concatenate(forces)
        results[dtype] = {
            "frames": len(energies),
            "energy_mae_kcal_mol": float(np.abs(energies).mean()),
            "energy_mae_without_mean_kcal_mol": float(np.abs(energies - energies.mean()).mean()),
            "forces_mae_kcal_mol_A": float(np.abs(forces).mean()),
            "energy_mae_mev": float(np.abs(energies).mean() * unit * 1e3),
            "forces_mae_mev_A": float(np.abs(forces).mean() * unit * 1e3),
        }
    return {
        "date": str(date.today()),
        "machine": f"{platform.machine()}, 1 of 2 cores",
        "versions": {name: version(name) for name in ("jax", "flax", "numpy")},
        "frames": "first of split_test_01",
        "labels": "rMD17 (PBE/def2-SVP)",
        "errors": results,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=500)
    record = main(parser.parse_args().frames)
    (HERE / "painn_rmd17.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record["errors"], indent=1))
