"""Errors of networks trained at 300 K on geometries sampled at 600 K and 1200 K (3BPA).

    python experiments/networks.py experiments/extrapolation/so3krates_3bpa.toml
    python experiments/extrapolation.py experiments/extrapolation/so3krates_3bpa.safetensors ...

Models are those of ``experiments/extrapolation/*.toml``, trained on the 500 geometries at 300 K of
BOTNet's data set (Kovács et al., J. Chem. Theory Comput. 17, 7696 (2021)). Its test files are not
among the data here; its other training file holds 167, 167 and 166 geometries at 300 K, 600 K and
1200 K one after the other, as energies and forces show, of which 31 at 300 K are in the first file
too and are left out. Some 160 geometries a temperature leave a standard error, which is recorded;
published errors (Batatia et al., arXiv:2206.07697) are of the test files. The record goes to
``extrapolation.json``, the figure to ``extrapolation.png``.
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
from matplotlib.ticker import LogLocator

import jaxff
from jaxff import bind, energy_and_forces
from jaxff.neighbors import neighbor_list
from jaxff.report import canvas

HERE = Path(__file__).resolve()
PARTS = {"300": slice(0, 167), "600": slice(167, 334), "1200": slice(334, 500)}  # K


def rms(values):
    """Root mean square over frames (first axis) and its standard error."""
    squares = (values**2).reshape(len(values), -1).mean(axis=1)
    root = np.sqrt(squares.mean())
    return float(root), float(squares.std(ddof=1) / np.sqrt(len(values)) / (2 * root))


@jax.jit
def predict(energy_fn, systems, neighbors):
    return energy_and_forces(energy_fn)(systems, neighbors)


def errors(energy_fn, data, batch=20):
    """Errors of energies (meV) and forces (meV/Å), frame by frame."""
    systems = data.systems
    inputs = systems, neighbor_list(energy_fn.cutoffs).allocate_stack(systems)
    energies, forces = [], []
    for first in range(0, len(data), batch):
        last = min(first + batch, len(data))
        part = np.arange(max(0, last - batch), last)  # one shape for all
        e, f = predict(energy_fn, *jax.tree.map(lambda x, part=part: x[part], inputs))
        energies.append(np.asarray(e)[first - last :])
        forces.append(np.asarray(f)[first - last :])
    return (
        1e3 * (np.concatenate(energies) - data.values["energy"]),
        1e3 * (np.concatenate(forces) - data.values["forces"]),
    )


def judge(model, known, mixed):
    energy_errors, force_errors = errors(bind(*jaxff.io.load(model)), mixed)
    repeated, found = np.isin(mixed.values["energy"], known.values["energy"]), {}
    for name, part in PARTS.items():
        frames = np.arange(len(mixed))[part]
        frames = frames[~repeated[frames]]
        energy, forces = energy_errors[frames], force_errors[frames]
        found[name] = {
            "frames": len(frames), "repeated_and_left_out": int(repeated[part].sum()),
            "mean_energy_of_data_ev": float(np.mean(mixed.values["energy"][frames])),
            "energy_mae_mev": float(np.abs(energy).mean()),
            "forces_mae_mev_per_angstrom": float(np.abs(forces).mean()),
            **dict(zip(("energy_rmse_mev", "energy_standard_error"), rms(energy), strict=True)),
            **dict(zip(("forces_rmse_mev_per_angstrom", "forces_standard_error"), rms(forces),
                       strict=True)),
        }  # fmt: skip
    return found


def draw(record, file):
    figure = canvas.new_figure(8.5, 3.6)
    kelvins = [int(name) for name in PARTS]
    colors = (canvas.BLUE, canvas.ORANGE, canvas.GREEN, canvas.PURPLE)
    columns = ("energy_rmse_mev", "forces_rmse_mev_per_angstrom")
    labels = ("energy, RMSE (meV)", "forces, RMSE (meV/Å)")
    for place, axes in enumerate(figure.subplots(1, 2)):
        for color, (name, found) in zip(colors, record["models"].items(), strict=False):
            values = [found[part][columns[place]] for part in PARTS]
            axes.loglog(kelvins, values, "o-", color=color, label=name.replace("_", " "))
        axes.set(xlabel="temperature of the test geometries (K)", ylabel=labels[place])
        axes.set_xticks(kelvins, [str(k) for k in kelvins])
        axes.minorticks_off()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_xlim(270, 1700)
        axes.legend(frameon=False, fontsize=8, loc="upper left")
        canvas.tidy(axes)
    canvas.save(file, figure, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--data", default=os.environ.get("JAXFF_DATA", "../shared/data"))
    parser.add_argument("--record", type=Path, help="another file for the record")
    options = parser.parse_args()
    file = options.record or HERE.with_suffix(".json")
    record = json.loads(file.read_text()) if file.exists() else {"models": {}}
    known, mixed = (
        jaxff.data.extxyz.read(
            Path(options.data, "3bpa", f"train_{name}.xyz"), energy_key="energy",
            forces_key="forces", energy_unit="eV", length_unit="Ang",
        )
        for name in ("300K", "mixedT")
    )  # fmt: skip
    means = [float(np.mean(mixed.values["energy"][part])) for part in PARTS.values()]
    if not means[0] + 0.5 < means[1] < means[2] - 1.0:
        raise ValueError(f"the parts do not lie where they should: mean energies {means}")
    for model in options.models:
        record["models"][model.stem] = judge(model, known, mixed)
        print(model.stem, json.dumps(record["models"][model.stem]), flush=True)
    record |= {
        "date": date.today().isoformat(), "load": os.getloadavg()[0],
        "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
        "versions": {p: version(p) for p in ("jaxff", "jax", "numpy")},
    }  # fmt: skip
    file.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    draw(record, file.with_suffix(".png"))


if __name__ == "__main__":
    main()
