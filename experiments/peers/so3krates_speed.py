"""Time the original SO3krates and SO3LR through ASE: energies with forces, lists included.

    python so3krates_speed.py so3krates|so3lr SYSTEM.xyz ... --weights FOLDER --json OUT

Each call moves the atoms by about 0.01 Å, so that nothing is taken from a cache; lists are renewed
in every call, as the calculator does. Float32, one thread. FOLDER is ``so3lr/params`` of the
package so3lr. ``so3krates`` is its short-range network in the size of the papers (132 features, 3
layers, degrees 1 to 3, cutoff 5 Å) with random weights, without charges, spin and long-range terms.
Needs mlff (branch v1.0), glp (branch electrostatics_neighbourlist) and jax 0.5.3 on the path; two
annotations ``Sequence[[str]]`` there are refused by Python and must read ``Sequence[str]``.
"""

import argparse
import json
import os
import statistics
import sys
import time
import types
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"
os.environ["XLA_FLAGS"] = (
    "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1 "
    + os.environ.get("XLA_FLAGS", "")
)
os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

import jax
import numpy as np
from ase.io import read

# Of no use here, but imported there; and a name that flax and mlff still take from jax.
sys.modules["comms"] = types.ModuleType("comms")
sys.modules["comms"].Comms = lambda prefix: None  # type: ignore
sys.modules["wandb"] = types.ModuleType("wandb")
jax.tree_map = jax.tree_util.tree_map

from mlff.config import from_config
from mlff.md import mlffCalculatorSparse
from mlff.mdx.potential import mlff_potential_sparse as loading

PARSER = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
PARSER.add_argument("kind", choices=("so3krates", "so3lr"))
PARSER.add_argument("systems", nargs="+")
PARSER.add_argument("--weights", required=True)
PARSER.add_argument("--json", required=True)
PARSER.add_argument("--budget", type=float, default=5.0, help="seconds per system")
OPTIONS = PARSER.parse_args()
SMALL = {
    "num_features": 132, "num_features_head": 33, "degrees": [1, 2, 3], "num_layers": 3,
    "cutoff": 5.0, "radial_basis_fn": "physnet", "cutoff_fn": "cosine",
    "energy_regression_dim": 132, "layer_normalization_1": False, "layer_normalization_2": False,
    "residual_mlp_1": False, "message_normalization": "sqrt_num_features",
    "use_charge_embed": False, "use_spin_embed": False, "zbl_repulsion_bool": False,
    "electrostatic_energy_bool": False, "dispersion_energy_bool": False,
    "energy_learn_atomic_type_scales": False, "energy_learn_atomic_type_shifts": False,
}  # fmt: skip


def random_network(folder):
    """The configuration of the papers and random weights, in place of what the folder holds."""
    cfg = loading.load_hyperparameters(folder)
    with cfg.unlocked():
        cfg.model.update(SMALL)
        cfg.model.cutoff_lr = None
        cfg.model.dispersion_energy_cutoff_lr_damping = None
        cfg.neighborlist_format_lr = "sparse"
        cfg.output_intermediate_quantities = None
    net = from_config.make_so3krates_sparse_from_config(cfg)
    inputs = {
        "positions": np.eye(3, dtype=np.float32), "displacements": None,
        "atomic_numbers": np.array([8, 1, 1]), "idx_i": np.array([0, 1]),
        "idx_j": np.array([1, 0]), "cell": None, "cell_offset": None, "total_charge": np.zeros(1),
        "num_unpaired_electrons": np.zeros(1), "batch_segments": np.zeros(3, int),
        "node_mask": np.ones(3, bool), "graph_mask": np.ones(1, bool),
        "graph_mask_expanded": np.ones((1, 1), bool), "i_pairs": None, "j_pairs": None,
        "idx_i_lr": None, "idx_j_lr": None, "d_ij_lr": None,
    }  # fmt: skip
    return cfg, net, net.init(jax.random.PRNGKey(0), jax.tree.map(jax.numpy.asarray, inputs))


def calculator():
    settings = {"ckpt_dir": OPTIONS.weights, "lr_cutoff": 12.0, "from_file": True,
                "dispersion_energy_cutoff_lr_damping": 2.0, "dtype": np.float32}  # fmt: skip
    if OPTIONS.kind == "so3krates":
        cfg, net, params = random_network(OPTIONS.weights)
        loading.load_hyperparameters = lambda workdir: cfg
        loading.load_model_from_workdir = lambda **settings: (net, params)
    return mlffCalculatorSparse.create_from_ckpt_dir(**settings)


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
    record = {}
    for path in OPTIONS.systems:
        atoms = read(path)
        atoms.info.clear()
        atoms.calc = calculator()
        start, draw = atoms.positions.copy(), np.random.default_rng(0)

        def step(atoms=atoms, start=start, draw=draw):
            atoms.positions = start + draw.normal(0.0, 0.01, start.shape)
            return atoms.get_forces()

        record[Path(path).stem] = median_cpu(step)
        energy = atoms.get_potential_energy()
        print(path, record[Path(path).stem], float(np.ravel(energy)[0]), flush=True)
    Path(OPTIONS.json).write_text(json.dumps(record))


if __name__ == "__main__":
    main()
