"""Learning curves of crystals without symmetry, with translations, and with the whole group.

    python experiments/bigdml_curves.py Li Mo Si CO2 [--splits 5] [--sizes 3 6]
    python experiments/bigdml_curves.py graphene benzene [--folder FOLDER]

Forces are fitted, energies fix the constant.  Of the frames at 300 K (of CO2 on Ni(100): of all),
some are for training, and those that no size trains on for the test; hotter frames are tested
separately.  Frames of graphene and benzene follow each other by 10 fs: those to train on are drawn
from the first two thirds of the run, and the last third is the test.  The length scale is chosen by
fits of two thirds of the training frames (of the first 60 if there are more) tested on the other
third, then all are fitted.  ``Li``, ``Mo``, ``Si`` (mlearn) and ``CO2`` are read from
``JAXFF_DATA``, the others from the folder of ``bigdml/generate.py``.  What is on record is not done
again; record and figure are ``bigdml_curves.json`` and ``bigdml_curves.png``.

Data: Zuo et al., J. Phys. Chem. A 124, 731 (2020), doi:10.1021/acs.jpca.9b08723 (mlearn); Zhang,
Xia & Jiang, J. Chem. Phys. 156, 114801 (2022), doi:10.1063/5.0080766 (CO2 on Ni(100)).
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
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import jax

jax.config.update("jax_enable_x64", True)

import ase.io
import numpy as np
from ase.build import bulk

from jaxff import bind, gdml
from jaxff.data import npz
from jaxff.descriptors import smooth_images
from jaxff.interfaces.ase import system_of
from jaxff.kernels import Kernel, crystal_group, host_group, in_order_of, matern52, permutations
from jaxff.kernels.abelian import elements
from jaxff.linalg import solvers
from jaxff.report import canvas
from jaxff.system import System
from jaxff.training import predict

HERE = Path(__file__).resolve()
DATA = Path(os.environ.get("JAXFF_DATA", HERE.parents[2] / "shared" / "data"))
SIZES = {
    "Li": (3, 6, 12), "Mo": (3, 6, 12, 30), "Si": (3, 7, 14), "CO2": (25, 50, 100, 200),
    "graphene": (10, 20, 50, 100, 200), "benzene": (10, 20, 50, 100, 200),
}  # fmt: skip
FILES = {
    "Li": "mlearn/Li_aimd_54_0.npz", "Mo": "mlearn/Mo_aimd_54_0.npz",
    "Si": "mlearn/Si_aimd_64_0.npz", "CO2": "co2_ni100/co2_ni100_val.npz",
}  # fmt: skip
BULK = {"Li": ("bcc", 3), "Mo": ("bcc", 3), "Si": ("diamond", 2)}
LENGTHS = tuple(2.0**power for power in range(-1, 9))  # 1/Å
# Relative to the mean diagonal, which falls with the length scale.
REGULARIZATION = {"regularization": 1e-10, "relative": True}
MOST_SEARCHED, MOST_TESTED = 60, 300
SYMMETRIES = ("none", "translations", "full")


def ideal_of(name, data, folder):
    """The ideal structure in the order of the data, and its group."""
    systems = data.systems
    if name in BULK:
        kind, repeats = BULK[name]
        side = float(data.cell[0, 0, 0]) / repeats
        ideal = bulk(name, kind, a=side, cubic=True).repeat(repeats)
        ideal = in_order_of(system_of(ideal), systems)
        return ideal, crystal_group(ideal)
    if name == "CO2":
        slab = nickel(data)
        return slab, host_group(slab, np.arange(3, 39), own=np.array([[0, 1, 2], [1, 0, 2]]))
    ideal = system_of(ase.io.read(folder / f"{name}_ideal.xyz"))
    if name == "graphene":
        return ideal, crystal_group(ideal)
    carbon, ring = np.arange(50), data.positions[:, 50:]
    flat = ideal.replace(positions=flattened(np.asarray(ideal.positions), np.asarray(ideal.cell)))
    own = permutations.recover(System(ring, data.numbers[50:]))
    return flat, host_group(flat, carbon, own=own)


def flattened(positions, cell):
    """The first fifty atoms on the sites of an ideal sheet, as they were before the relaxation."""
    fractions = positions[:50] @ np.linalg.inv(cell)
    sites = np.round(15 * (fractions - fractions[0])) / 15
    middle = np.mean(fractions - sites, axis=0)
    return np.concatenate([(sites + middle) @ cell, positions[50:]])


def nickel(data):
    """Lateral sites of the ideal surface and mean heights of the four layers."""
    cell, frames = data.cell[0], data.positions
    step = (frames - frames[0]) @ np.linalg.inv(cell)
    mean = frames[0] + (step - np.round(step)).mean(axis=0) @ cell
    metal = mean[3:] @ np.linalg.inv(cell)
    sites = metal.copy()
    sites[:, :2] = np.round(6 * (metal[:, :2] - metal[0, :2])) / 6
    sites[:, :2] += np.mean(metal[:, :2] - sites[:, :2], axis=0)
    order = np.argsort(metal[:, 2])
    for layer in order.reshape(4, 9):
        sites[layer, 2] = metal[layer, 2].mean()
    places = np.concatenate([mean[:3], sites @ cell])
    return System(places, data.numbers, cell)


def kernel_of(symmetry, group, systems):
    descriptor = smooth_images(systems)
    if symmetry == "none":
        return Kernel(descriptor, matern52)
    moves = elements(group.translations)
    rows = group.permutations if symmetry == "full" else moves
    return Kernel(descriptor, matern52, rows, group.translations)


def fitted(kernel, data, scales):
    """A model of all frames, its length scale chosen within them."""
    potential = gdml.potential(kernel)
    named = {"solver": solvers.auto(), **REGULARIZATION}
    searched = min(len(data), MOST_SEARCHED)
    inner = max(1, searched // 3)
    some, rest = data[np.arange(inner, searched)], data[np.arange(inner)]
    chosen = gdml.tune(
        potential, some.systems, some.labels("forces"), rest.systems,
        rest.labels("forces")["forces"], lengthscales=scales, **named,
    )  # fmt: skip
    scale = chosen.best.lengthscale
    params = potential.init(jax.random.key(0), data.systems, hyper={"lengthscale": scale})
    params, info = gdml.fit(potential, params, data.labels("forces"), **named)
    params, _ = gdml.fit_constant(potential, params, data.labels("energy")["energy"])
    return bind(potential, params), scale, info


def errors_of(model, data):
    """Mean absolute errors, and that of the energy relative to the spread of the energies."""
    found = predict(model, data.systems, ("energy", "forces"))
    labels = data.labels("energy", "forces")
    off = np.asarray(found["energy"]) - labels["energy"]
    apart = np.asarray(found["forces"]) - labels["forces"]
    return {
        "frames": len(data), "energy_mev_per_atom": 1e3 * np.abs(off).mean() / len(data.numbers),
        "energy_relative_to_spread": float(np.abs(off).mean() / labels["energy"].std()),
        "forces_mev_per_ang": float(1e3 * np.abs(apart).mean()),
        "forces_rmse_mev_per_ang": float(1e3 * np.sqrt(np.mean(apart**2))),
    }  # fmt: skip


def parts(name, data, split):
    """Frames to train on and for the test, in random order, and hotter ones by temperature."""
    kelvin = data.per_frame.get("temperature", np.full(len(data), 300))
    hot = {int(t): np.flatnonzero(kelvin == t) for t in np.unique(kelvin) if t != 300}
    rng, cold = np.random.default_rng(split), np.flatnonzero(kelvin == 300)
    if name in FILES:
        cold = rng.permutation(cold)
        return cold[: max(SIZES[name])], cold[max(SIZES[name]) :], hot
    border = 2 * len(cold) // 3
    return rng.permutation(cold[:border]), rng.permutation(cold[border:]), hot


def one(name, data, group, symmetry, size, split):
    train, test, hot = parts(name, data, split)
    test = test[:MOST_TESTED]
    start = time.process_time()
    kernel = kernel_of(symmetry, group, data.systems)
    model, scale, info = fitted(kernel, data[train[:size]], LENGTHS)
    spent = time.process_time() - start
    return {
        "symmetry": symmetry, "order": kernel.order, "size": size, "split": split,
        "lengthscale": scale, "residual": info.residual_norm, "method": info.method,
        "cpu_s_of_all_fits": spent, "test": errors_of(model, data[test]),
        "hot": {str(t): errors_of(model, data[index]) for t, index in hot.items()},
    }  # fmt: skip


def draw(record, path):
    figure = canvas.new_figure(3.1 * len(record), 5.4)
    panels = figure.subplots(2, len(record), squeeze=False)
    colors = dict(zip(SYMMETRIES, (canvas.GREY, canvas.ORANGE, canvas.BLUE), strict=True))
    rows = (("energy_mev_per_atom", "energy / meV/atom"), ("forces_mev_per_ang", "forces / meV/Å"))
    for column, (name, found) in enumerate(record.items()):
        for axes, (key, label) in zip(panels[:, column], rows, strict=True):
            for symmetry, color in colors.items():
                runs = [run for run in found["runs"] if run["symmetry"] == symmetry]
                sizes = sorted({run["size"] for run in runs})
                values = [[r["test"][key] for r in runs if r["size"] == n] for n in sizes]
                order = max((run["order"] for run in runs), default=0)
                axes.errorbar(
                    sizes, [np.mean(v) for v in values], [np.std(v) for v in values],
                    marker="o", ms=4, capsize=2, color=color, label=f"{symmetry} ({order})",
                )  # fmt: skip
            axes.set(xscale="log", yscale="log", xlabel="training geometries", ylabel=label)
            axes.set_xticks(sizes, [str(size) for size in sizes])
            axes.minorticks_off()
            canvas.tidy(axes)
        panels[0, column].set_title(name, fontsize=10)
        top = panels[0, column]
        top.set_ylim(top=20.0 * top.get_ylim()[1])
        top.legend(frameon=False, fontsize=8, loc="upper right")
    canvas.save(path, figure, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="+", choices=list(SIZES))
    parser.add_argument("--folder", type=Path, default=HERE.with_name("bigdml"))
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+")
    parser.add_argument("--record", type=Path, default=HERE.with_suffix(".json"))
    options = parser.parse_args()
    record = json.loads(options.record.read_text()) if options.record.exists() else {}
    for name in options.names:
        data = npz.read(DATA / FILES[name] if name in FILES else options.folder / f"{name}.npz")
        _, group = ideal_of(name, data, options.folder)
        entry = record.setdefault(name, {"runs": []})
        entry |= {
            "group": str(group), "date": date.today().isoformat(),
            "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
            "versions": {p: version(p) for p in ("jaxff", "jax", "numpy", "spglib")},
        }  # fmt: skip
        print(name, group, flush=True)
        done = {(run["symmetry"], run["size"], run["split"]) for run in entry["runs"]}
        asked = [
            (symmetry, size, split) for split in range(options.splits)
            for size in options.sizes or SIZES[name] for symmetry in SYMMETRIES
        ]  # fmt: skip
        for each in asked:
            if each in done:
                continue
            entry["runs"].append(one(name, data, group, *each))
            options.record.write_text(json.dumps(record, indent=1) + "\n")
            last = entry["runs"][-1]
            print(json.dumps({k: v for k, v in last.items() if k != "hot"}), flush=True)
    draw(record, options.record.with_suffix(".png"))


if __name__ == "__main__":
    main()
