"""``sgdml`` 1.0.3 on the frames, permutations and length scales of the records of ``rmd17.py``.

    python experiments/rmd17_peer.py --peer-python PYTHON --models FOLDER MOLECULE ...

PYTHON is that of an environment with ``"numpy<2.4" torch sgdml==1.0.3``. Every fit of the records
``rmd17/table_MOLECULE.json`` and ``curve_MOLECULE.json`` is repeated there, its matrix in one copy
(as much memory as the matrix, twice what ours takes), and tested on the same frames. Models that
FOLDER holds already are not trained again. ``rmd17/sgdml_MOLECULE.json`` holds the errors in
kcal/mol and kcal/mol/Å, and ours divided by them.
"""

import argparse
import json
import os
import platform
import subprocess
import tempfile
from datetime import date
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np

import jaxff
from jaxff.kernels import permutations

HERE = Path(__file__).resolve().parent
KEYS = ("--energy-key", "E_md17", "--forces-key", "F_md17")


def call(python, *arguments, keys=KEYS):
    script = str(HERE / "peers" / "sgdml_reference.py")
    run = [str(python), script, *map(str, arguments), *keys, "--threads", "1"]
    return json.loads(subprocess.run(run, check=True, stdout=subprocess.PIPE, text=True).stdout)


def group_file(path, folder):
    """The group that is recovered from the training frames, as the peer reads it."""
    data = jaxff.data.npz.read(path, energy_key="E_md17", forces_key="F_md17")
    group = permutations.recover(data[data.splits["split_train_01"]].systems)
    np.savez(folder / "group.npz", perms=group)
    return folder / "group.npz", len(group)


def is_trained(model, count, scale):
    if not model.exists():
        return False
    with np.load(model) as file:
        return file["sig"] == scale and len(file["R_desc"].T) == count


def repeat(python, data, group, model, fit, scale):
    count, record = fit["train"], {}
    if not is_trained(model, count, scale):
        trained = call(
            python, "train", data, "--frames", "split_train_01", "--count", count, "--perms", group,
            "--lengthscale", f"{scale:g}", "-o", model, "--in-place",
        )  # fmt: skip
        record = {"train_cpu_s": trained["train"]["cpu_s"], "peak_gb": trained["peak_gb"]}
    tested = call(python, "predict", data, "--frames", "split_test_01", "-m", model)
    errors = {"energy": tested["E"], "forces": tested["F"]}
    ratios = {n: fit["errors"][n]["mae"] / e["mae"] for n, e in errors.items()}
    return {"train": count, "lengthscale": scale, "errors": errors, "ratio": ratios, **record}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peer-python", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("JAXFF_DATA", "../shared/data")) / "rmd17"
    )
    parser.add_argument("molecules", nargs="+")
    options = parser.parse_args()
    for molecule in options.molecules:
        found = []
        with tempfile.TemporaryDirectory() as folder:
            data = options.data.resolve() / f"rmd17_{molecule}.npz"
            group, order = group_file(data, Path(folder))
            for kind in ("table", "curve"):
                ours = HERE / "rmd17" / f"{kind}_{molecule}.json"
                record = json.loads(ours.read_text()) if ours.exists() else {"fits": []}
                for fit in record["fits"]:
                    scale = record["lengthscale"]
                    model = options.models / f"sgdml_{molecule}_{fit['train']}_{scale:g}.npz"
                    made = repeat(options.peer_python, data, group, model, fit, scale)
                    found.append(made)
                    print(molecule, json.dumps(made), flush=True)
        result = {
            "molecule": molecule, "unit": "kcal/mol, kcal/mol/Ang", "group_order": order,
            "fits": found, "date": date.today().isoformat(),
            "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
            "versions": {"sgdml": "1.0.3"},
        }  # fmt: skip
        path = HERE / "rmd17" / f"sgdml_{molecule}.json"
        path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
