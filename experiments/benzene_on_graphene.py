"""Benzene on graphene, classical and quantum: does it move less where nuclei are waves?

    python experiments/benzene_on_graphene.py --lengthscale 8 [--frames 30] [--beads 1 16]
        [--picoseconds 20] [--seeds 2] [--engine]

A kernel with the host's translations and point operations times the twelve permutations of benzene
is fitted to frames of ``bigdml/benzene.npz`` (see ``bigdml_curves.py``, whose record says which
length scale is best).  Ring polymers with the PILE-L thermostat at 300 K; one bead is classical
dynamics with the same thermostat.  Of the middle of the ring of carbon, relative to that of the
sheet and averaged over the beads: mean square displacement along the sheet, height, tilt of the
molecule, and how it shares its time out over the hollow sites of graphene, the tops of atoms and
the bridges.  With ``--engine`` some beads are computed again by the engine that made the data.  The
record, renewed run by run, goes to ``benzene_on_graphene.json``, the figure beside it.

System and question: Sauceda et al., Nat. Commun. 13, 3733 (2022), doi:10.1038/s41467-022-31093-x.
"""

import argparse
import json
import os
import platform
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

import bigdml_curves as curves  # switches to one thread and float64
import jax
import numpy as np
import path_integrals

from jaxff import analysis, bind, dynamics, gdml, units
from jaxff.analysis.motion import mean_square_displacement
from jaxff.data import npz
from jaxff.linalg import solvers
from jaxff.report import canvas

HERE = Path(__file__).resolve()
KELVIN, TIMESTEP, CENTROID, EVERY, CHUNK = 300.0, 0.5, 1000.0, 20, 2000  # K, fs, fs, steps, steps
THERMAL = 1e3 * units.BOLTZMANN * KELVIN  # meV
SHEET, RING, GUEST, REPEATS = slice(0, 50), slice(50, 56), slice(50, 62), 5
HOLLOWS, TOPS = np.array([[0.0, 0.0]]), np.array([[1 / 3, 2 / 3], [2 / 3, 1 / 3]])
BRIDGES = np.array([[0.5, 0.0], [0.0, 0.5], [0.5, 0.5]])
REACH = 0.35  # Å, around a site
LAGS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # ps
COUNTED = 20  # beads that are computed again


def fitted(options):
    """A model, an ideal structure, and the errors on the test."""
    data = npz.read(options.folder / "benzene.npz")
    ideal, group = curves.ideal_of("benzene", data, options.folder)
    pool, test, _ = curves.parts("benzene", data, 0)
    train = data[pool[: options.frames]]
    potential = gdml.potential(curves.kernel_of("full", group, data.systems))
    hyper = {"lengthscale": options.lengthscale}
    params = potential.init(jax.random.key(0), train.systems, hyper=hyper)
    params, _ = gdml.fit(
        potential, params, train.labels("forces"), solver=solvers.auto(), **curves.REGULARIZATION
    )
    params, _ = gdml.fit_constant(potential, params, train.labels("energy")["energy"])
    model = bind(potential, params)
    start = ideal.replace(positions=train.positions[0])
    return model, start, ideal, str(group), curves.errors_of(model, data[test[:100]])


def moved(run, ideal):
    """Middle of the guest relative to the sheet in Å, its fractions from a hollow, its tilt."""
    places = analysis.centroids(run).positions
    middle, sheet = places[:, RING].mean(axis=1), places[:, SHEET].mean(axis=1)
    ring = places[:, RING] - middle[:, None]
    normal = np.linalg.svd(ring)[2][:, -1]
    tilt = np.degrees(np.arccos(np.clip(np.abs(normal[:, 2]), 0.0, 1.0)))
    unit = np.asarray(ideal.cell)[:2, :2] / REPEATS
    still = np.asarray(ideal.positions)[SHEET, :2]
    hollow = still[0] - TOPS[0] @ unit
    fractions = (middle - sheet)[:, :2] + still.mean(axis=0) - hollow
    return middle - sheet, fractions @ np.linalg.inv(unit), tilt


def shares(fractions, unit):
    """Free energies in meV relative to the least, by the time within ``REACH`` of a site."""
    found = {}
    for name, places in {"hollow": HOLLOWS, "top": TOPS, "bridge": BRIDGES}.items():
        apart = fractions[:, None] - places
        around = apart - np.round(apart)
        neighbours = around[:, :, None] + np.array(
            [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        )  # fmt: skip
        distances = np.linalg.norm(neighbours @ unit, axis=-1).min(axis=-1)
        found[name] = float((distances < REACH).sum() / len(places) / len(fractions))
    largest = max(found.values())
    return {
        name: {"share_per_site": share,
               "mev": None if share == 0.0 else -THERMAL * float(np.log(share / largest))}
        for name, share in found.items()
    }  # fmt: skip


def measured(model, start, ideal, beads, seed, options):
    ensemble = dynamics.path_integral(TIMESTEP, KELVIN, centroid_time=CENTROID)
    named = {"ensemble": ensemble, "replicas": beads, "every": EVERY, "chunk": CHUNK}
    steps = round(1000 * options.picoseconds / TIMESTEP)
    first = dynamics.run(model, start, steps=steps // 5, key=jax.random.key(seed), **named)
    begin = time.process_time()
    run = dynamics.run(model, start, steps=steps, restart=first.restart, **named)
    spent = time.process_time() - begin
    apart, fractions, tilt = moved(run, ideal)
    flat = apart.copy()
    flat[:, 2] = 0.0
    lags = mean_square_displacement(flat[:, None])
    interval = EVERY * TIMESTEP / 1000
    numbers, radius = np.asarray(ideal.numbers)[GUEST], analysis.radius_of_gyration(run) ** 2
    masses = units.masses(np.asarray(ideal.numbers))
    return {
        "beads": beads, "seed": seed, "picoseconds": options.picoseconds,
        "lateral_displacement_ang2": {
            f"{ps} ps": float(lags[round(ps / interval)])
            for ps in LAGS if ps / interval < len(lags)
        },
        "height_ang": [float(apart[:, 2].mean()), float(apart[:, 2].std())],
        "tilt_degrees": [float(tilt.mean()), float(tilt.std())],
        "sites": shares(fractions, np.asarray(ideal.cell)[:2, :2] / REPEATS),
        "radius_of_gyration_ang": {
            str(z): float(np.sqrt(radius[:, GUEST][:, numbers == z].mean())) for z in (1, 6)
        },
        "temperature_k": path_integrals.settled(np.mean(run.half_step_temperature, axis=0)),
        "engine": path_integrals.again(model, run, ideal, COUNTED) if options.engine else None,
        "path_ang": apart[:: max(1, len(apart) // 500)].round(3).tolist(),
        "cpu_s": spent, "mass_of_guest": float(masses[GUEST].sum()),
    }  # fmt: skip


def draw(record, path):
    figure = canvas.new_figure(9.5, 3.4)
    left, right = figure.subplots(1, 2)
    colors = dict(zip(
        sorted({run["beads"] for run in record["runs"]}),
        (canvas.GREY, canvas.BLUE, canvas.ORANGE, canvas.GREEN), strict=False,
    ))  # fmt: skip
    labelled = set()
    for run in record["runs"]:
        beads = run["beads"]
        label = "classical" if beads == 1 else f"{beads} beads"
        named = {"color": colors[beads], "label": None if beads in labelled else label}
        labelled.add(beads)
        x, y, _ = np.array(run["path_ang"]).T
        left.plot(x - x[0], y - y[0], lw=0.6, **named)
        lags = [float(name.split()[0]) for name in run["lateral_displacement_ang2"]]
        right.plot(lags, list(run["lateral_displacement_ang2"].values()), "o-", ms=3, **named)
    left.set(xlabel="x / Å", ylabel="y / Å", aspect="equal", title="path of the molecule")
    right.set(xscale="log", yscale="log", xlabel="time / ps",
              ylabel="mean square displacement / Å²")  # fmt: skip
    for axes in (left, right):
        axes.legend(frameon=False, fontsize=8)
        canvas.tidy(axes)
    canvas.save(path, figure, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--lengthscale", type=float, required=True)
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--beads", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--picoseconds", type=float, default=20.0)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--engine", action="store_true", help="compute some beads again (tblite)")
    parser.add_argument("--folder", type=Path, default=HERE.with_name("bigdml"))
    parser.add_argument("--record", type=Path, default=HERE.with_suffix(".json"))
    options = parser.parse_args()
    model, start, ideal, group, errors = fitted(options)
    record = json.loads(options.record.read_text()) if options.record.exists() else {"runs": []}
    record |= {
        "group": group, "frames": options.frames, "lengthscale": options.lengthscale,
        "test": errors, "date": date.today().isoformat(), "load": os.getloadavg()[0],
        "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
        "versions": {p: version(p) for p in ("jaxff", "jax", "numpy")},
    }  # fmt: skip
    print(group, json.dumps(errors), flush=True)
    for seed in range(options.seeds):
        for beads in options.beads:
            own = measured(model, start, ideal, beads, seed, options)
            others = [r for r in record["runs"] if (r["beads"], r["seed"]) != (beads, seed)]
            record["runs"] = sorted([*others, own], key=lambda r: (r["beads"], r["seed"]))
            options.record.write_text(json.dumps(record, indent=1) + "\n")
            print(json.dumps({k: v for k, v in own.items() if k != "path_ang"}), flush=True)
    draw(record, options.record.with_suffix(".png"))


if __name__ == "__main__":
    main()
