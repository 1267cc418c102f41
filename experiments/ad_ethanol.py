"""Ethanol by GDML and sGDML with Gaussian kernels: the errors of Schmitz, Müller and Chmiela.

    python experiments/ad_ethanol.py [--data FOLDER] [--draws 10]

J. Phys. Chem. Lett. 13, 10183 (2022), doi:10.1021/acs.jpclett.2c02632, and the notebooks that its
authors publish beside it: inverse distances in 1/Å, a kernel exp(-d²/2l²), averaged over the
permutations, 1e-10 on its diagonal. Here the kernel is summed, so that the same fit needs 1e-10
times the number of permutations. Their labels are those of MD17; here the MD17 labels of the frames
of rMD17 (FOLDER/rmd17/rmd17_ethanol.npz), of which each draw takes others. Each printed value comes
from one draw of training points and one small set of test points, so that five such sets are tested
per draw and their spread is given. Errors at the training points tell fits apart more sharply. The
record goes to ``ad_ethanol.json``.
"""

import argparse
import json
import os
import platform
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np

import jaxff
from jaxff import bind, energy_and_forces, gdml, units
from jaxff.descriptors import inverse_distances
from jaxff.kernels import Kernel, rbf
from jaxff.linalg import solvers

KCAL = units.to_ev("kcal/mol")
REGULARIZATION = 1e-10
# Rotations of the methyl group, and reflections that also exchange the hydrogens of CH2.
METHYL = [(5, 6, 7), (6, 7, 5), (7, 5, 6), (5, 7, 6), (7, 6, 5), (6, 5, 7)]
GROUP = np.array([[0, 1, 2, *((3, 4) if k < 3 else (4, 3)), *h, 8] for k, h in enumerate(METHYL)])
SETS = 5
# Length scale, training points, test points of one set, permutations.
CASES = {
    "l=10, 100 points, 6 permutations": (10.0, 100, 200, GROUP),
    "l=10, 100 points, no symmetry": (10.0, 100, 200, None),
    "l=5, 160 points, no symmetry": (5.0, 160, 40, None),
    "l=5, 160 points, 6 permutations": (5.0, 160, 40, GROUP),
}
# kcal/mol, kcal/mol/Å and its square.
PUBLISHED = {
    "l=10, 100 points, 6 permutations": {
        "forces MAE": 1.4508, "forces MSE": 4.1461, "energy MAE": 0.4635,
    },
    "l=10, 100 points, no symmetry": {
        "forces MAE": 2.1647, "forces MSE": 9.1974, "energy MAE": 0.6558,
    },
    "l=5, 160 points, no symmetry": {
        "forces MAE": 2.1908, "energy MAE": 0.4103,
        "training forces MAE": 0.1412, "training energy MAE": 0.2323,
    },
    "l=5, 160 points, 6 permutations": {
        "forces MAE": 0.7700, "energy MAE": 0.1587,
        "training forces MAE": 0.4456, "training energy MAE": 0.2094,
    },
}  # fmt: skip


predict = jax.jit(lambda energy_fn, systems: energy_and_forces(energy_fn)(systems))


def errors(data, lengthscale, train, tests, group):
    """Errors of one fit in the units of the table: one number, or one per test set."""
    kernel = Kernel(inverse_distances, rbf, group)
    potential, frames = gdml.potential(kernel), data[train]
    params = potential.init(jax.random.key(0), frames.systems, hyper={"lengthscale": lengthscale})
    params, _ = gdml.fit(
        potential, params, frames.labels("forces"),
        solver=solvers.cholesky(), regularization=REGULARIZATION * kernel.order,
    )  # fmt: skip
    params, _ = gdml.fit_constant(potential, params, frames.values["energy"])
    energy_fn = bind(potential, params)

    def of(chosen):
        frames = data[chosen]
        energy, forces = predict(energy_fn, frames.systems)
        energy, forces = energy - frames.values["energy"], forces - frames.values["forces"]
        return np.asarray(energy) / KCAL, np.asarray(forces) / KCAL

    energy, forces = of(train)
    tested = [of(test) for test in tests]
    return {
        "forces MAE": [np.abs(f).mean() for _, f in tested],
        "forces MSE": [(f**2).mean() for _, f in tested],
        "energy MAE": [np.abs(e).mean() for e, _ in tested],
        "training forces MAE": [np.abs(forces).mean()],
        "training energy MAE": [np.abs(energy).mean()],
    }


def summary(found, published):
    """Means over draws, their spread, and ratios to the printed values."""
    table = {}
    for name in found[0]:
        values = np.array([draw[name] for draw in found])
        first = values[:, 0]
        table[name] = {"mean": first.mean(), "standard deviation": first.std(ddof=1)}
        if values.shape[1] > 1:
            table[name][f"mean of {SETS} sets per draw"] = values.mean()
        if name in published:
            ratio = first.mean() / published[name]
            table[name] |= {
                "printed": published[name], "ratio": ratio,
                "within 15 %": bool(abs(ratio - 1) <= 0.15),
                "share of sets not above the printed": (values <= published[name]).mean(),
            }  # fmt: skip
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("JAXFF_DATA", "../shared/data"))
    )
    parser.add_argument("--draws", type=int, default=10)
    options = parser.parse_args()
    data = jaxff.data.npz.read(
        options.data / "rmd17" / "rmd17_ethanol.npz", energy_key="E_md17", forces_key="F_md17"
    )
    start = time.process_time()
    results = {}
    for name, (lengthscale, points, tested, group) in CASES.items():
        found = []
        for draw in range(options.draws):
            frames = np.random.default_rng(draw).permutation(len(data))
            train, rest = frames[:points], frames[points : points + SETS * tested]
            found.append(errors(data, lengthscale, train, np.split(rest, SETS), group))
        results[name] = summary(found, PUBLISHED[name])
        print(name, json.dumps(results[name]), flush=True)
    record = {
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
        "versions": {name: version(name) for name in ("jaxff", "jax", "numpy", "scipy")},
        "unit": "kcal/mol, kcal/mol/Ang", "draws": options.draws,
        "cpu_s": time.process_time() - start, "results": results,
    }  # fmt: skip
    Path(__file__).with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
