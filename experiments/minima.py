"""Conformers of ethanol that a trained network finds by itself, and the barriers between them.

    python experiments/minima.py MODEL.safetensors [--hops 60] [--energies PBE.json] [--draw-only]

MODEL is a network of ethanol as ``experiments/networks.py`` writes it; it runs in float64. Minima
hopping starts from a geometry of the test set. Each minimum is named by the dihedral angle of its
hydroxyl group and relaxed tightly, its harmonic frequencies must be real. Saddle points are found
by Newton's method from geometries relaxed with a dihedral angle held, and must have one imaginary
frequency. All go to ``minima_MODEL.xyz``; the engine that ``experiments/peers/pyscf_energies.py``
runs on this file gives the energies to compare with (MD17 itself is PBE with
Tkatchenko-Scheffler dispersion, which the engine lacks). The record goes to
``minima_MODEL.json``, the figure to ``minima_MODEL.png``.
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
os.environ["XLA_FLAGS"] = (
    "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1 "
    + os.environ.get("XLA_FLAGS", "")
)

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import numpy as np

import jaxff
from jaxff import System, add, analysis, bind, dynamics, elements, units
from jaxff.analysis.geometry import bonds_of
from jaxff.neighbors import neighbor_list
from jaxff.potential import Potential
from jaxff.report import canvas
from jaxff.vibrations import normal_modes

HERE = Path(__file__).resolve()
HOLD = 20.0  # eV: a held dihedral angle costs HOLD (1 - cos)
TIGHT = 1e-5  # eV/Å
KCAL = 1.0 / units.KCAL_PER_MOL


@jax.jit
def curvature(energy_fn, system, neighbors):
    return jaxff.observe(energy_fn, ("energy", "forces", "hessian"))(system, neighbors)


def holder(quadruple):
    """A potential that holds one dihedral angle at ``params["angle"]`` (radians)."""

    def apply(params, system, neighbors=None):
        a, b, c = jnp.diff(system.positions[np.array(quadruple)], axis=0)
        first, second = jnp.cross(a, b), jnp.cross(b, c)
        sine = jnp.sum(first * c) * jnp.sqrt(jnp.sum(b**2))
        angle = jnp.arctan2(sine, jnp.sum(first * second))
        return {"energy": HOLD * (1.0 - jnp.cos(angle - params["angle"]))}

    return Potential(lambda *_: {"angle": jnp.zeros(())}, apply)


def quadruple_of(system, pattern):
    """The first dihedral angle whose atoms have these atomic numbers."""
    numbers = np.asarray(system.numbers)
    for row in analysis.topology(numbers, np.asarray(system.positions))["dihedrals"]:
        for way in (row, row[::-1]):
            if numbers[way].tolist() == list(pattern):
                return tuple(int(i) for i in way)
    raise ValueError(f"no dihedral angle of the elements {pattern}")


def held(potential, params, system, quadruple, degrees):
    """The geometry relaxed with a dihedral angle held."""
    both = add(potential, holder(quadruple))
    angle = {"angle": jnp.asarray(np.radians(degrees))}
    found = dynamics.relax(bind(both, (params, angle)), system, max_force=1e-3, max_steps=2000)
    return found.system


def stationary(energy_fn, system, steps=30):
    """The stationary point next to a geometry, by Newton's method without rigid motions."""
    listed = neighbor_list(energy_fn.cutoffs, skin=1.0)
    for _ in range(steps):
        seen = curvature(energy_fn, system, listed.allocate(system))
        force = np.asarray(seen["forces"]).ravel()
        if np.abs(force).max() < TIGHT:
            return system
        values, vectors = np.linalg.eigh(np.asarray(seen["hessian"]).reshape(len(force), -1))
        keep = np.argsort(np.abs(values))[6:]  # the six softest are motions of the whole
        step = vectors[:, keep] @ ((vectors[:, keep].T @ force) / values[keep])
        step *= min(1.0, 0.1 / np.abs(step).max())
        system = system.replace(positions=system.positions + step.reshape(-1, 3))
    raise RuntimeError(f"no stationary point within {steps} steps")


def described(energy_fn, system, quadruple):
    seen = curvature(energy_fn, system, neighbor_list(energy_fn.cutoffs, skin=1.0).allocate(system))
    masses = units.masses(np.asarray(system.numbers))
    modes = normal_modes(seen["hessian"], masses, system.positions, forces=seen["forces"])
    torsion = analysis.dihedrals(np.asarray(system.positions), [quadruple])
    return {
        "energy_ev": float(seen["energy"]), "dihedral_degrees": float(torsion[0]),
        "wavenumbers_per_cm": modes.frequencies.tolist(),
        "imaginary": int(np.sum(modes.frequencies < 0)),
        "zero_point_energy_ev": modes.zero_point_energy,
    }  # fmt: skip


def conformer(degrees):
    return "trans" if abs(degrees) > 120 else "gauche" if abs(degrees) > 20 else "cis"


def search(energy_fn, start, hops, torsion):
    """Minima hopping, and each minimum relaxed tightly."""
    bonds = bonds_of(start.numbers, start.positions).tolist()

    def sound(system):
        return bonds_of(system.numbers, system.positions).tolist() == bonds

    begin = time.process_time()
    found = dynamics.minima_hopping(
        energy_fn, start, hops=hops, key=jax.random.key(0), sound=sound, temperature=600.0,
        threshold=0.1, progress=lambda hop: print(hop, flush=True),
    )  # fmt: skip
    spent, points = time.process_time() - begin, {}
    for one in found.ranked:
        tight = dynamics.relax(energy_fn, one.system, max_force=TIGHT)
        degrees = analysis.dihedrals(np.asarray(tight.system.positions), [torsion])[0]
        name = conformer(float(degrees))
        if name in points:
            raise RuntimeError(f"two different minima are called {name}")
        points[name] = tight.system
    return points, {
        "hops": hops, "cpu_s": spent, "accepted": sum(hop.accepted for hop in found.hops),
        "refused_as_unsound": sum(hop.minimum is None for hop in found.hops),
        "visits": {name: one.visits for name, one in zip(points, found.ranked, strict=True)},
        "hops_until_all_were_found":
            1 + max([k for k, hop in enumerate(found.hops) if hop.new], default=-1),
    }  # fmt: skip


def run(model, options):
    potential, params = jaxff.io.load(model, dtype="float64")
    energy_fn = bind(potential, params)
    path = Path(options.data, "rmd17", "rmd17_ethanol.npz")
    data = jaxff.data.npz.read(path, energy_key="E_md17", forces_key="F_md17")
    start = System(data.positions[data.splits["split_test_01"][0]], data.numbers)
    torsion, methyl = (quadruple_of(start, p) for p in ((1, 8, 6, 6), (1, 6, 6, 8)))
    points, hopping = search(energy_fn, start, options.hops, torsion)
    trans = points["trans"]
    profile = []
    system = trans
    for degrees in range(180, -1, -15):
        system = held(potential, params, system, torsion, degrees)
        listed = neighbor_list(energy_fn.cutoffs).allocate(system)
        profile.append([degrees, float(energy_fn(system, listed))])
        if degrees == 120:
            points["trans to gauche"] = stationary(energy_fn, system)
    points["gauche to gauche"] = stationary(energy_fn, system)
    across = held(potential, params, trans, methyl, 0.0)
    points["methyl turns"] = stationary(energy_fn, across)
    found = {name: described(energy_fn, one, torsion) for name, one in points.items()}
    for name, one in found.items():
        if one["imaginary"] != (name not in ("trans", "gauche")):
            print(f"{name}: {one['imaginary']} imaginary frequencies", flush=True)
    names, lines = elements.symbols(np.asarray(start.numbers)), []
    for name, one in points.items():
        rows = zip(names, np.asarray(one.positions).tolist(), strict=True)
        lines += [str(len(names)), name, *(f"{n} {x:.10f} {y:.10f} {z:.10f}"
                                           for n, (x, y, z) in rows)]  # fmt: skip
    HERE.with_name(f"minima_{model.stem}.xyz").write_text("\n".join([*lines, ""]))
    return {
        "model": model.name, "precision": "float64", "hopping": hopping, "points": found,
        "profile_degrees_ev": profile, "date": date.today().isoformat(),
        "load": os.getloadavg()[0], "cpu_s": time.process_time(),
        "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
        "versions": {p: version(p) for p in ("jaxff", "jax", "numpy")},
    }  # fmt: skip


def compare(record, energies):
    """Energies above trans in kcal/mol of the model and of the engine."""
    lowest = record["points"]["trans"]["energy_ev"]
    zero = energies and energies["frames"]["trans"]["energy_ev"]
    record["above_trans_kcal_per_mol"] = {
        name: {
            "model": KCAL * (point["energy_ev"] - lowest),
            **({} if not energies else {
                "engine": KCAL * (energies["frames"][name]["energy_ev"] - zero),
                "engine_max_force_ev_per_angstrom":
                    energies["frames"][name]["max_force_ev_per_angstrom"],
            }),
        }
        for name, point in record["points"].items()
    }  # fmt: skip
    if energies:
        record["engine"] = {name: energies[name] for name in ("method", "program")}


def draw(record, file):
    figure = canvas.new_figure(6.4, 4.0)
    axes = figure.subplots()
    lowest = record["points"]["trans"]["energy_ev"]
    angles, energies = np.array(record["profile_degrees_ev"]).T
    both = np.concatenate([-angles, angles[-2::-1]])
    values = KCAL * (np.concatenate([energies, energies[-2::-1]]) - lowest)
    axes.plot(both, values, color=canvas.BLUE, label="model, relaxed scan")
    for name, pair in record["above_trans_kcal_per_mol"].items():
        if name == "methyl turns":
            continue
        for side in (1, -1):
            place = side * abs(record["points"][name]["dihedral_degrees"])
            first = name == "trans" and side == 1
            axes.plot(place, pair["model"], "o", color=canvas.BLUE, ms=6,
                      label="model, stationary points" if first else None)  # fmt: skip
            if "engine" in pair:
                axes.plot(place, pair["engine"], "x", color=canvas.ORANGE, ms=7,
                          label=record["engine"]["method"] if first else None)  # fmt: skip
    axes.set(xlabel="dihedral angle H-O-C-C (degrees)", ylabel="energy above trans (kcal/mol)",
             xticks=range(-180, 181, 60))  # fmt: skip
    axes.legend(frameon=False, fontsize=8, loc="upper center")
    axes.set_ylim(None, 1.6 * values.max())
    canvas.tidy(axes)
    canvas.save(file, figure, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", default=os.environ.get("JAXFF_DATA", "../shared/data"))
    parser.add_argument("--hops", type=int, default=60)
    parser.add_argument("--energies", type=Path, help="of the engine, at the points that are there")
    parser.add_argument("--draw-only", action="store_true", help="compare and draw what is there")
    options = parser.parse_args()
    file = HERE.with_name(f"minima_{options.model.stem}.json")
    record = json.loads(file.read_text()) if options.draw_only else run(options.model, options)
    compare(record, options.energies and json.loads(options.energies.read_text()))
    file.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record["above_trans_kcal_per_mol"], indent=1), flush=True)
    draw(record, file.with_suffix(".png"))


if __name__ == "__main__":
    main()
