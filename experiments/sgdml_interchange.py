"""Models fitted here, predicted by the package ``sgdml`` 1.0.3, and models of the package here.

``sgdml_interchange.py PEER_PYTHON REFERENCE [-o RESULT]``: PEER_PYTHON is the interpreter of an
environment with ``"numpy<2.4" torch sgdml==1.0.3``, REFERENCE a folder with ``sgdml_{name}.npz``
(``train_*``, ``test_*``, ``z``, ``perms``, ``lattice``, in the unit of ``sgdml_{name}_model.npz``).
Each data set is fitted, written as an sGDML model and read by the package; the result holds the
largest differences of energies and forces on the test geometries in the unit of the data, beside
those of the package's own model read by jaxff. Exits with 1 if one exceeds 1e-6.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np

from jaxff import System, bind, energy_and_forces, gdml, units
from jaxff.descriptors import inverse_distances
from jaxff.interfaces import sgdml
from jaxff.kernels import Kernel, matern52
from jaxff.linalg import solvers

PEER = Path(__file__).parent / "peers" / "sgdml_reference.py"
NAMES = ("ethanol_200", "malonaldehyde_200", "si64_periodic")
LIMIT = 1e-6


def fit(data, unit, lengthscale=20.0, regularization=1e-10):
    cell = data["lattice"].T if "lattice" in data else None
    potential = gdml.potential(Kernel(inverse_distances, matern52, data["perms"]))
    systems = System(data["train_R"], data["z"], cell=cell)
    params = potential.init(jax.random.key(0), systems, hyper={"lengthscale": lengthscale})
    labels = {"forces": data["train_F"] * unit}
    params, info = gdml.fit(
        potential, params, labels, solver=solvers.cholesky(), regularization=regularization
    )
    params, _ = gdml.fit_constant(potential, params, data["train_E"] * unit)
    return potential, params, info


def predict(potential, params, data, unit):
    cell = data["lattice"].T if "lattice" in data else None
    systems = System(data["test_R"], data["z"], cell=cell)
    function = jax.jit(lambda energy_fn, s: energy_and_forces(energy_fn)(s))
    return [np.asarray(value) / unit for value in function(bind(potential, params), systems)]


def peer_predict(python, folder, data, model):
    """What the package predicts from a model file on the test geometries."""
    arrays = {"R": data["test_R"], "F": data["test_F"], "E": data["test_E"], "z": data["z"]}
    arrays |= {"lattice": data["lattice"]} if "lattice" in data else {}
    np.savez(folder / "data.npz", **arrays)
    command = [python, PEER, "predict", folder / "data.npz", "-m", model, "-o", folder / "out.npz"]
    subprocess.run([*map(str, command)], check=True, stdout=subprocess.DEVNULL)
    with np.load(folder / "out.npz") as out:
        return {key: out[key] for key in ("E_np", "F_np", "E_torch", "F_torch")}


def largest(first, second):
    return float(np.abs(np.asarray(first) - np.asarray(second)).max())


def exchange(name, python, reference, folder):
    with np.load(reference / f"sgdml_{name}.npz") as file:
        data = dict(file)
    original = sgdml.read(reference / f"sgdml_{name}_model.npz")
    unit = units.to_ev(original.provenance.energy_unit)
    potential, params, info = fit(data, unit)
    about = sgdml.Provenance(
        dataset_name=name, energy_unit=original.provenance.energy_unit, scale=info.scale
    )
    path = folder / f"{name}.npz"
    sgdml.save(path, potential, params, about)
    theirs, ours = peer_predict(python, folder, data, path), predict(potential, params, data, unit)
    # The peer script gives no lattice to the PyTorch predictor of the package.
    predictors = ("np",) if "lattice" in data else ("np", "torch")
    energies, forces = predict(original.potential, original.params, data, unit)
    return {
        "unit": about.energy_unit,
        **{f"our_model_{key}_energy": largest(theirs[f"E_{key}"], ours[0]) for key in predictors},
        **{f"our_model_{key}_forces": largest(theirs[f"F_{key}"], ours[1]) for key in predictors},
        "their_model_energy": largest(energies, data["test_E"]),
        "their_model_forces": largest(forces, data["test_F"]),
        "refit_energy": largest(ours[0], data["test_E"]),
        "refit_forces": largest(ours[1], data["test_F"]),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("peer_python", type=Path)
    parser.add_argument("reference", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("sgdml_interchange.json"))
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    with tempfile.TemporaryDirectory() as folder:
        results = {
            name: exchange(name, options.peer_python, options.reference, Path(folder))
            for name in NAMES
        }
    checked = [
        v for r in results.values() for k, v in r.items() if k.endswith(("energy", "forces"))
    ]
    exchanged = [v for r in results.values() for k, v in r.items() if "model" in k]
    text = json.dumps({"limit": LIMIT, "largest": max(exchanged), "sets": results}, indent=1)
    options.output.write_text(text + "\n")
    print(text)
    sys.exit(int(max(exchanged) >= LIMIT or max(checked) >= 10 * LIMIT))


if __name__ == "__main__":
    main()
