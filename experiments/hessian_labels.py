"""What Hessian labels buy: learning curves of ethanol, from forces, energies and Hessians.

    python experiments/hessian_labels.py label                 (needs tblite; made once)
    python experiments/hessian_labels.py fit [--sizes 5 10 20] [--labels forces energies hessians]
    python experiments/hessian_labels.py figure

Geometries are the frames at 500 K of the embedded GFN2-xTB data. ``label`` computes Hessians of 125
of them at the same level, by four-point differences of analytic forces: 108 of these each. ``fit``
fits sGDML (Matérn 5/2, six permutations) to forces; to forces and energies; to forces and
Hessians; length scales are chosen on forces of 50 other frames (with Hessians, up to 20
geometries). Tested on held-out frames: forces and energies of 125, Hessians of 25, and the 21
harmonic frequencies at the engine's own minimum. The record ``hessian_labels.json`` keeps what
earlier runs found of other sizes; ``figure`` draws it.
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

from jaxff import System, bind, data, gdml, observe, units
from jaxff.descriptors import inverse_distances
from jaxff.kernels import Kernel, matern52, permutations
from jaxff.linalg import solvers
from jaxff.vibrations import normal_modes

RECORD = Path(__file__).with_suffix(".json")
HESSIANS = Path(__file__).with_suffix("") / "hessians.npz"
STEP = 2e-3  # Å, of the differences
SCALES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
LARGEST_TUNED = 20  # with Hessians; larger sets take the length scale of this one
OPTIONS = {"solver": solvers.cholesky(), "regularization": 1e-10}
LABELS = {
    "forces": ("forces",),
    "energies": ("forces", "energy"),
    "hessians": ("forces", "hessian"),
}
# Of the shuffled frames at 500 K: references (Hessians of the first 100), tests, validation.
REFERENCES, CURVED, VALID, TEST = slice(300), slice(300, 325), slice(325, 375), slice(375, 500)
WITH_HESSIAN = np.r_[0:100, 300:325]


def frames():
    """The frames at 500 K in an order of chance that never changes."""
    ethanol = data.npz.read(data.embedded.ethanol_path())
    warm = np.flatnonzero(np.asarray(ethanol.per_frame["temperature"]) == 500.0)
    return ethanol[np.random.default_rng(0).permutation(warm)]


def label():
    """Hessians of GFN2-xTB, float32, upper triangles."""
    from ase import Atoms
    from tblite.ase import TBLite

    chosen = frames()[WITH_HESSIAN]
    upper, asymmetry = [], 0.0
    for positions in chosen.positions:
        engine = TBLite(method="GFN2-xTB", accuracy=1e-6, verbosity=0)
        atoms = Atoms(chosen.numbers, positions, calculator=engine)
        rows = []
        for shift in np.eye(27).reshape(27, 9, 3) * STEP:
            forces = {}
            for steps in (-2, -1, 1, 2):
                atoms.positions = positions + steps * shift
                forces[steps] = atoms.get_forces().ravel()
            near, far = (forces[-k] - forces[k] for k in (1, 2))
            rows.append((8 * near - far) / (12 * STEP))
        matrix = np.array(rows)
        asymmetry = max(asymmetry, np.abs(matrix - matrix.T).max())
        upper.append((0.5 * (matrix + matrix.T))[np.triu_indices(27)])
    HESSIANS.parent.mkdir(exist_ok=True)
    about = {"indices": chosen.indices, "asymmetry": asymmetry, "tblite": version("tblite")}
    np.savez_compressed(HESSIANS, upper=np.array(upper, np.float32), step=STEP, **about)
    print(f"{len(upper)} Hessians, largest asymmetry {asymmetry:.1e} eV/Å²")


def hessians(ethanol):
    """Of the frames that have one ``(125, 9, 3, 9, 3)`` in eV/Å²."""
    with np.load(HESSIANS, allow_pickle=False) as file:
        if not np.array_equal(file["indices"], ethanol[WITH_HESSIAN].indices):
            raise ValueError(f"{HESSIANS} belongs to other frames: label them again")
        full = np.zeros((len(WITH_HESSIAN), 27, 27))
        full[:, *np.triu_indices(27)] = file["upper"]
    full += full.swapaxes(1, 2) * (1 - np.eye(27))
    return full.reshape(-1, 9, 3, 9, 3)


predict = jax.jit(lambda fn, systems, names: observe(fn, names)(systems), static_argnums=2)


def errors(energy_fn, ethanol, curved):
    """Mean absolute errors; frequencies at the minimum of the engine."""
    minimum, test = data.embedded.minimum(), ethanol[TEST]
    found = predict(energy_fn, test.systems, ("energy", "forces"))
    positions = np.concatenate([ethanol[CURVED].positions, minimum.positions[None]])
    numbers = np.tile(minimum.numbers, (len(positions), 1))
    hessian = predict(energy_fn, System(positions, numbers), ("hessian",))["hessian"]
    modes = normal_modes(hessian[-1], units.masses(minimum.numbers), minimum.positions)
    off = modes.frequencies - minimum.frequencies
    mean = lambda name: float(np.abs(np.asarray(found[name]) - test.values[name]).mean())  # noqa: E731
    return {
        "forces meV/A": 1e3 * mean("forces"), "energies meV": 1e3 * mean("energy"),
        "hessians eV/A^2": float(np.abs(np.asarray(hessian[:-1]) - curved).mean()),
        "frequencies 1/cm": float(np.abs(off).mean()),
        "worst frequency 1/cm": float(np.abs(off).max()),
    }  # fmt: skip


def fit(sizes, kinds):
    ethanol = frames()
    curvatures = hessians(ethanol)
    kernel = Kernel(inverse_distances, matern52, permutations.recover(ethanol[REFERENCES].systems))
    potential = gdml.potential(kernel)
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {"curves": {}}
    record |= {
        "mean |Hessian| of the test eV/A^2": float(np.abs(curvatures[100:]).mean()),
        "permutations": kernel.order, "regularization": OPTIONS["regularization"],
    }  # fmt: skip

    def labels(kind, size):
        every = {**ethanol[:size].values, "hessian": curvatures[:100][:size]}
        return ethanol[:size].systems, {name: every[name] for name in LABELS[kind]}

    for kind in kinds:
        curve = record["curves"].setdefault(kind, {"points": {}})
        for size in sorted(sizes):
            if kind == "hessians" and size > 100:
                continue  # no more have Hessians
            systems, given = labels(kind, size)
            if kind == "hessians" and size > LARGEST_TUNED:
                scales = [curve["points"][str(LARGEST_TUNED)]["lengthscale"]]
            else:
                scales = SCALES
            valid = ethanol[VALID]
            tuning = gdml.tune(
                potential, systems, given, valid.systems, valid.values["forces"],
                lengthscales=scales, **OPTIONS,
            )  # fmt: skip
            params, info = tuning.params, tuning.best.info
            if "energy" not in given:
                energies = ethanol[:size].values["energy"]
                params, _ = gdml.fit_constant(potential, params, energies)
            curve["points"][str(size)] = {
                "labels": info.size, "solve seconds": round(info.seconds, 2),
                "lengthscale": tuning.best.lengthscale,
                "validation RMSE eV/A": {f"{t.lengthscale:g}": t.rmse for t in tuning.trials},
                **errors(bind(potential, params), ethanol, curvatures[100:]),
                "date": date.today().isoformat(),
                "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
                "versions": {p: version(p) for p in ("jaxff", "jax", "numpy", "scipy")},
            }  # fmt: skip
            print(kind, size, curve["points"][str(size)], flush=True)
            RECORD.write_text(json.dumps(record, indent=1) + "\n")


def figure():
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, StrMethodFormatter

    curves = json.loads(RECORD.read_text())["curves"]
    panels = {
        "forces meV/A": "forces / (meV/Å)", "energies meV": "energies / meV",
        "hessians eV/A^2": "Hessians / (eV/Å²)",
        "frequencies 1/cm": "harmonic frequencies / cm⁻¹",
    }  # fmt: skip
    names = {"forces": "forces", "energies": "forces + energies", "hessians": "forces + Hessians"}
    _, axes = plt.subplots(2, 2, figsize=(8.5, 7), sharex=True, layout="constrained")
    for axis, (name, label) in zip(axes.flat, panels.items(), strict=True):
        for (kind, curve), style in zip(curves.items(), ("o-", "s--", "^-"), strict=False):
            points = sorted((int(n), point[name]) for n, point in curve["points"].items())
            axis.loglog(*zip(*points, strict=True), style, label=names[kind])
        axis.set_ylabel(f"mean absolute error,\n{label}")
        axis.grid(which="both", alpha=0.3)
        axis.set_xticks([5, 10, 20, 50, 100, 275], ["5", "10", "20", "50", "100", "275"])
        axis.minorticks_off()
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    for axis in axes[1]:
        axis.set_xlabel("training geometries")
    axes[0, 0].legend()
    plt.suptitle("ethanol, GFN2-xTB, 500 K: sGDML with and without Hessian labels")
    plt.savefig(RECORD.with_suffix(".png"), dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("label", "fit", "figure"))
    parser.add_argument("--sizes", type=int, nargs="+", default=[5, 10, 20])
    parser.add_argument("--labels", nargs="+", choices=tuple(LABELS), default=list(LABELS))
    options = parser.parse_args()
    if options.command == "fit":
        fit(options.sizes, options.labels)
    else:
        {"label": label, "figure": figure}[options.command]()


if __name__ == "__main__":
    main()
