"""Single precision: energy drift of classical potentials, and what a kernel model loses.

    python experiments/float32.py [--model MODEL.npz] [--only lennard_jones morse zbl kernel]

Crystals of 108 atoms with neighbour lists run at constant energy in float32 and, from the same
state, in float64: argon by Lennard-Jones, copper by Morse, and argon by Lennard-Jones with the
repulsion of screened nuclei added. The drift is that of the total energy. For a kernel model (sGDML
of ethanol) the error of forces in float32 is measured, by which a run is refused. The record,
renewed part by part, goes to ``float32.json``.
"""

import argparse
import json
import os
import platform
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

import jaxff
from jaxff import System, add, bind, dynamics, physics
from jaxff.interfaces import sgdml
from jaxff.neighbors import neighbor_list

STEPS, EVERY = 50_000, 10
RECORD = Path(__file__).with_suffix(".json")


def fcc(number, length):
    grid = np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
    basis = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    positions = (grid + basis).reshape(-1, 3) * length
    return System(positions, np.full(108, number), 3 * length * np.eye(3))


def lennard_jones():
    potential = physics.lennard_jones("Ar", 7.6, truncation="switched", onset=6.8)
    return potential, potential.init(epsilon=0.0104, sigma=3.4), fcc(18, 5.3), 2.0, 160.0


def morse():
    # Copper of Girifalco & Weizer, Phys. Rev. 114, 687 (1959), doi:10.1103/PhysRev.114.687.
    potential = physics.morse("Cu", 5.3, truncation="switched", onset=4.7)
    params = potential.init(depth=0.3429, width=1.3588, length=2.866)
    return potential, params, fcc(29, 3.62), 1.0, 1200.0


def zbl():
    # So hot that atoms come nearer than the radius where the repulsion begins.
    attraction, params, system, timestep, kelvin = *lennard_jones()[:3], 1.0, 8000.0
    repulsion = physics.zbl(3.0, onset=2.0)
    potential = add(attraction, repulsion)
    return potential, (params, repulsion.init()), system, timestep, kelvin


CLASSICAL = {"lennard_jones": lennard_jones, "morse": morse, "zbl": zbl}


def narrow(tree):
    def one(leaf):
        array = np.asarray(leaf)
        return np.asarray(array, np.float32) if array.dtype == np.float64 else leaf

    return jax.tree.map(one, tree)


def classical(name):
    potential, params, system, timestep, kelvin = CLASSICAL[name]()
    record = {"timestep_fs": timestep, "picoseconds": STEPS * timestep / 1000, "atoms": 108}
    pairs = neighbor_list(potential.cutoffs, skin=0.8)
    for precision in ("float32", "float64"):
        chosen = (lambda tree: tree) if precision == "float64" else narrow
        here, energy_fn = chosen(system), bind(potential, chosen(params))
        run = dynamics.run(
            energy_fn, here, ensemble=dynamics.nve(timestep), steps=STEPS, temperature=kelvin,
            key=jax.random.key(0), every=EVERY, chunk=5000, neighbors=pairs,
        )  # fmt: skip
        drift = dynamics.energy_drift(run.times, run.total_energy, 108)
        record[precision] = {
            "drift_mev_per_atom_ps": drift.slope, "standard_error": drift.standard_error,
            "rms_mev_per_atom": float(np.std(run.total_energy) * 1000 / 108),
            "mean_temperature_k": float(run.temperature.mean()),
        }  # fmt: skip
        if precision == "float32":
            relative, absolute = dynamics.single_precision_error(energy_fn, here, pairs)
            record["force_error_relative"], record["force_error_ev_per_a"] = relative, absolute
    return record


def refusal(energy_fn, system):
    """Error of forces in float32 at one geometry, and whether a run there is begun."""
    single, here = narrow(energy_fn), narrow(system)
    relative, absolute = dynamics.single_precision_error(single, here)
    try:
        dynamics.run(
            single, here, ensemble=dynamics.nve(0.5), steps=1, temperature=300.0,
            key=jax.random.key(0),
        )  # fmt: skip
        message = None
    except ValueError as error:
        message = str(error)
    return {"force_error_relative": relative, "force_error_ev_per_a": absolute, "refusal": message}


def kernel(model, folder):
    path = Path(folder, "rmd17", "rmd17_ethanol.npz")
    data = jaxff.data.npz.read(path, energy_key="E_md17", forces_key="F_md17")
    frame = data.splits["split_test_01"][0]
    potential, params = sgdml.load(model)
    found = refusal(bind(potential, params), System(data.positions[frame], data.numbers))
    return {"model": model.name, **found}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--data", default=os.environ.get("JAXFF_DATA", "../shared/data"))
    parser.add_argument("--only", nargs="+", default=[*CLASSICAL, "kernel"])
    options = parser.parse_args()
    for name in options.only:
        if name == "kernel" and options.model is None:
            continue
        found = classical(name) if name in CLASSICAL else kernel(options.model, options.data)
        print(name, json.dumps(found), flush=True)
        record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
        record |= {
            name: found, "date": date.today().isoformat(), "machine": platform.machine(),
            "versions": {p: version(p) for p in ("jaxff", "jax", "numpy")},
        }  # fmt: skip
        RECORD.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
