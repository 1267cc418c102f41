r"""Hydrogen hops in palladium: classical against quantum, a model potential against kernels.

    python experiments/hydrogen_hopping.py profile
    python experiments/hydrogen_hopping.py reference [--kelvin 400 500 600 800 1000] [--beads 1 8]
        [--picoseconds 200] [--isotopes 1 2]
    python experiments/hydrogen_hopping.py kernel [--sizes 10 20 50] [--lengthscale 4]

32 palladium atoms in a cubic cell hold one hydrogen atom. ``profile``: least energies on the way
from an octahedral site through the window to a tetrahedral one. ``reference``: diffusion by
ring-polymer dynamics with the thermostat on the internal modes (one bead is classical Langevin
dynamics), from the mean square displacement of the centroid and from the count of hops between
octahedral sites (less noise, but hops that turn back count), and the Arrhenius fits of both;
hydrogen and, with ``--isotopes 2``, deuterium. ``kernel``: kernels with no symmetry, the
translations and the whole group, fitted to forces of frames of a classical run of the model
potential, their errors on later frames and their profile. Record and figure:
``hydrogen_hopping.json``, ``.png``; stages are renewed one by one, runs of the reference that are
on record are not done again.

The metal is the second-moment potential of Cleri & Rosato, Phys. Rev. B 48, 22 (1993),
doi:10.1103/PhysRevB.48.22 (five shells there; here switched off behind the third, which leaves
99.9 % of the cohesive energy). Hydrogen repels it by :math:`B e^{-r/\rho}`, whose two numbers are
our own: the vibration in the octahedral site takes 69 meV, as experiments find, and the barrier
with the metal relaxed is 0.25 eV, where they find 0.23 eV (Alefeld & Völkl (eds.), Hydrogen in
Metals I, Springer, 1978, doi:10.1007/3-540-08705-2). It is a model whose answers are known, no
model of palladium hydride.
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

import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize

from jaxff import Potential, System, analysis, bind, dynamics, forces, gdml, units
from jaxff.descriptors import smooth_images
from jaxff.kernels import Kernel, host_group, matern52
from jaxff.kernels.abelian import elements
from jaxff.linalg import solvers
from jaxff.neighbors import displacements, neighbor_list, sum_pairs
from jaxff.radial.cutoffs import switching
from jaxff.report import canvas
from jaxff.system import sum_atoms
from jaxff.training import predict

HERE = Path(__file__).resolve()
METAL = {"A": 0.1746, "xi": 1.718, "p": 10.867, "q": 3.742, "r0": 3.887 / np.sqrt(2.0)}
HYDROGEN = {"B": 48.0, "rho": 0.3}  # eV, Å
CONSTANT, ONSET, CUTOFF, REPEATS = 3.888, 4.95, 5.35, 2  # Å
TIMESTEP, EVERY, CENTROID = 1.0, 10, 1000.0  # fs, steps, fs
REGULARIZATION, TESTED = 1e-10, 100
SYMMETRIES = ("none", "translations", "full")


def _energy(params, system, neighbors=None):
    pairs = neighbors.within(CUTOFF)
    vectors, mask = displacements(system, pairs)
    r = jnp.sqrt(jnp.sum(vectors**2, axis=1))
    fade = jnp.where(mask, switching(r, ONSET, CUTOFF), 0.0)
    ends = (system.numbers[jnp.where(mask, i, 0)] for i in (pairs.centers, pairs.others))
    light = sum((end == 1).astype(r.dtype) for end in ends)  # of the two atoms
    metal, mixed = fade * (light == 0), fade * (light == 1)
    stretch = r / params["r0"] - 1.0
    repulsion = metal * params["A"] * jnp.exp(-params["p"] * stretch)
    repulsion += 0.5 * mixed * params["B"] * jnp.exp(-r / params["rho"])
    bond = sum_pairs(pairs, metal * params["xi"] ** 2 * jnp.exp(-2.0 * params["q"] * stretch))
    bound = bond > 0.0
    band = jnp.where(bound, jnp.sqrt(jnp.where(bound, bond, 1.0)), 0.0)
    return {"energy": sum_atoms(system, sum_pairs(pairs, repulsion) - band)}


def _init(key=None, system=None, neighbors=None, **named):
    del key, system, neighbors
    return {name: jnp.asarray(value) for name, value in named.items()}


MODEL = Potential(_init, _energy, (CUTOFF,))


def reference_model():
    return bind(MODEL, MODEL.init(**METAL, **HYDROGEN))


def crystal(constant=CONSTANT):
    """The metal with hydrogen, last, in the octahedral site in the middle of the first cell."""
    shifts = np.stack([axis.ravel() for axis in np.indices((REPEATS,) * 3)], axis=1)
    centres = np.array([(0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0)])
    places = (shifts[:, None] + centres).reshape(-1, 3)
    places = np.concatenate([places, [[0.5, 0.5, 0.5]]])
    numbers = np.append(np.full(len(places) - 1, 46), 1)
    return System(
        jnp.asarray(constant * places), jnp.asarray(numbers), jnp.eye(3) * REPEATS * constant
    )


def profile(energy_fn, points=9):
    """Least energy with hydrogen held between the octahedral and the tetrahedral site, in eV.

    The centre of the metal is held too, which would follow hydrogen for nothing.
    """
    ideal = crystal()
    middle, metal = np.asarray(ideal.positions[-1]), np.asarray(ideal.positions[:-1])
    lists = neighbor_list(energy_fn.cutoffs, skin=1.0) if energy_fn.cutoffs else None

    @jax.jit
    def energy(energy_fn, moved, hydrogen, pairs):
        moved = moved - jnp.mean(moved, axis=0) + metal.mean(axis=0)
        positions = jnp.concatenate([moved, hydrogen[None]])
        return energy_fn(ideal.replace(positions=positions), pairs)

    slope = jax.jit(jax.value_and_grad(energy, argnums=1))
    shares = np.linspace(0.0, 1.0, points)
    found, start = [], metal
    for share in shares:
        hydrogen = middle + 0.25 * CONSTANT * share  # to (3/4, 3/4, 3/4), through the window
        here = ideal.replace(positions=jnp.asarray(np.concatenate([start, hydrogen[None]])))
        pairs = None if lists is None else lists.allocate(here)

        def function(flat, hydrogen=hydrogen, pairs=pairs):
            value, gradient = slope(energy_fn, flat.reshape(-1, 3), hydrogen, pairs)
            return float(value), np.asarray(gradient).ravel()

        least = minimize(function, start.ravel(), jac=True, method="L-BFGS-B")
        found.append(least.fun)
        start = least.x.reshape(-1, 3)
    return shares, np.array(found) - found[0]


def vibration(energy_fn):
    """Energy quantum of hydrogen in the octahedral site of a resting lattice, in meV."""
    ideal = crystal()
    pairs = neighbor_list(energy_fn.cutoffs).allocate(ideal) if energy_fn.cutoffs else None
    pull = jax.jit(lambda x: forces(energy_fn)(ideal.replace(positions=x), pairs)[-1, 0])
    step = np.zeros(ideal.positions.shape)
    step[-1, 0] = 1e-3
    curvature = float(pull(ideal.positions - step) - pull(ideal.positions + step)) / 2e-3
    mass = float(units.masses(np.array([1]))[0])
    return 1e3 * units.REDUCED_PLANCK / units.TIME * np.sqrt(curvature / mass)


def hopping(energy_fn, kelvin, beads, options, mass):
    """Diffusion of the centroid of hydrogen relative to the metal."""
    system = crystal()
    masses = np.array(units.masses(np.asarray(system.numbers)))
    masses[-1] = mass
    steps = round(options.picoseconds * 1000 / TIMESTEP)
    ensemble = dynamics.path_integral(
        TIMESTEP, kelvin, centroid_time=CENTROID, friction_scale=0.5
    )  # fmt: skip
    named = {
        "ensemble": ensemble, "replicas": beads, "every": EVERY, "chunk": 5000, "masses": masses,
    }  # fmt: skip
    first = dynamics.run(
        energy_fn, system, steps=steps // 10, key=jax.random.key(beads), **named
    )  # to equilibrium
    start = time.process_time()
    run = dynamics.run(energy_fn, system, steps=steps, restart=first.restart, **named)
    spent = time.process_time() - start
    middle = analysis.centroids(run)
    metal = np.arange(system.atom_count) < system.atom_count - 1
    drift = np.average(middle.positions, axis=1, weights=masses * metal)
    path = middle.positions[:, -1:] - drift[:, None]
    found = analysis.diffusion(path, EVERY * TIMESTEP, window=(0.02, 0.2), blocks=5)
    radius = analysis.radius_of_gyration(run)[:, -1]
    return {
        "kelvin": kelvin, "beads": beads, "mass": mass, "picoseconds": options.picoseconds,
        "diffusion_ang2_per_fs": found.coefficient, "standard_error": found.standard_error,
        "hops": hops_of(path[:, 0]),
        "radius_of_gyration_ang": float(np.sqrt(np.mean(radius**2))),
        "cpu_s": spent, "cpu_us_per_step": 1e6 * spent / steps,
    }  # fmt: skip


def hops_of(path):
    """Changes of octahedral site; on the way the last site counts until another is within 0.6 Å."""
    scaled = 2.0 * (path - path[0]) / CONSTANT
    # Sites are where the halves of the lattice constant add up to an even number.
    nearest = np.round(scaled)
    near = np.linalg.norm(scaled - nearest, axis=1) < 1.2 / CONSTANT
    sites = nearest[near & (nearest.sum(axis=1) % 2 == 0)]
    return int(np.any(np.diff(sites, axis=0) != 0, axis=1).sum())


def by_displacement(run):
    """Diffusion from the mean square displacement."""
    return analysis.Diffusion(run["diffusion_ang2_per_fs"], run["standard_error"])


def by_hops(run):
    """Diffusion from the count of hops, as if each forgot the one before."""
    each = CONSTANT**2 / 2.0 / (6.0 * 1000.0 * run["picoseconds"])
    return analysis.Diffusion(each * run["hops"], each * np.sqrt(run["hops"]))


def fits(runs, diffusion_of):
    """Arrhenius fits of runs at several temperatures, by isotope and number of beads."""
    found = {}
    for mass, beads in sorted({(run["mass"], run["beads"]) for run in runs}):
        own = [run for run in runs if (run["mass"], run["beads"]) == (mass, beads)]
        all_of_them = [(run["kelvin"], diffusion_of(run)) for run in own]
        moving = [(t, d) for t, d in all_of_them if d.coefficient > 2 * d.standard_error]
        if len({kelvin for kelvin, _ in moving}) < 2:
            continue
        line = analysis.arrhenius(*map(list, zip(*moving, strict=True)))
        found[f"mass {mass:.0f}, {beads} beads"] = line._asdict()
    return found


def kernels(energy_fn, options):
    """Kernels fitted to frames of a classical run, and how far they are off."""
    ideal = crystal()
    steps = round(options.picoseconds * 1000 / TIMESTEP)
    run = dynamics.run(
        energy_fn, ideal, steps=steps, every=max(1, steps // (max(options.sizes) + TESTED)),
        ensemble=dynamics.langevin(TIMESTEP, options.kelvin[-1], friction=0.01),
        key=jax.random.key(7),
    )  # fmt: skip
    frames = np.random.default_rng(0).permutation(np.arange(1, len(run.positions)))
    cells = jnp.tile(ideal.cell, (len(frames), 1, 1))
    systems = System(jnp.asarray(run.positions[frames]), ideal.numbers, cells)
    labels = {"forces": run.forces[frames], "energy": run.potential_energy[frames]}
    part = lambda which: jax.tree.map(  # noqa: E731
        lambda leaf: leaf if leaf is ideal.numbers else leaf[which], systems
    )
    host = ideal.atom_count - 1
    group = host_group(ideal, np.arange(host))
    descriptor, found = smooth_images(systems), []
    for symmetry in SYMMETRIES:
        rows = {
            "none": (None, None),
            "translations": (elements(group.translations), group.translations),
            "full": (group.permutations, group.translations),
        }[symmetry]
        potential = gdml.potential(Kernel(descriptor, matern52, *rows))
        for size in options.sizes:
            train, test = np.arange(size), np.arange(max(options.sizes), len(frames))
            hyper = {"lengthscale": options.lengthscale}
            params = potential.init(jax.random.key(0), part(train), hyper=hyper)
            begin = time.process_time()
            params, _ = gdml.fit(
                potential, params, {"forces": labels["forces"][train]}, solver=solvers.auto(),
                regularization=REGULARIZATION, relative=True,
            )  # fmt: skip
            spent = time.process_time() - begin
            params, _ = gdml.fit_constant(potential, params, labels["energy"][train])
            model = bind(potential, params)
            off = predict(model, part(test), ("energy", "forces"))
            apart = np.asarray(off["forces"]) - labels["forces"][test]
            way = profile(model)[1].tolist() if size == max(options.sizes) else None
            found.append({
                "symmetry": symmetry, "order": potential.kernel.order, "size": size,
                "forces_rmse_mev_per_ang": 1e3 * float(np.sqrt(np.mean(apart**2))),
                "hydrogen_forces_rmse_mev_per_ang":
                    1e3 * float(np.sqrt(np.mean(apart[:, -1] ** 2))),
                "energy_mae_mev_per_atom": 1e3 * float(
                    np.mean(np.abs(np.asarray(off["energy"]) - labels["energy"][test]))
                ) / ideal.atom_count,
                "profile_ev": way, "cpu_s_fit": spent,
            })  # fmt: skip
            print(json.dumps(found[-1]), flush=True)
    return {
        "kelvin": options.kelvin[-1], "group": str(group), "lengthscale": options.lengthscale,
        "fits": found,
    }  # fmt: skip


def draw(record, path):
    figure = canvas.new_figure(9.0, 3.6)
    left, right = figure.subplots(1, 2)
    colors = (canvas.GREY, canvas.BLUE, canvas.ORANGE, canvas.GREEN, canvas.PURPLE)
    if "profile" in record:
        left.plot(
            record["profile"]["shares"], record["profile"]["ev"], color="black", label="model"
        )
    for fit, color in zip(
        [f for f in record.get("kernel", {}).get("fits", []) if f["profile_ev"]], colors,
        strict=False,
    ):  # fmt: skip
        left.plot(
            record["profile"]["shares"], fit["profile_ev"], "o--", ms=3, color=color,
            label=f"{fit['symmetry']} ({fit['order']}), {fit['size']} frames",
        )  # fmt: skip
    left.set(xlabel="octahedral (0) to tetrahedral site (1)", ylabel="energy / eV")
    runs = record.get("reference", {}).get("runs", [])
    keys = sorted({(run["mass"], run["beads"]) for run in runs})
    for (mass, beads), color in zip(keys, colors[1:], strict=False):
        own = [run for run in runs if (run["mass"], run["beads"]) == (mass, beads)]
        kind = "classical" if beads == 1 else f"{beads} beads"
        label = f"{'H' if mass < 1.5 else 'D'}, {kind}"
        for find, marker, named in ((by_hops, "o", {"label": label}), (by_displacement, "x", {})):
            kelvin, value, error = np.array([[r["kelvin"], *find(r)] for r in own]).T
            right.errorbar(
                1000 / kelvin, 0.1 * value, 0.1 * error, fmt=marker, ms=4, capsize=2, color=color,
                **named,
            )  # fmt: skip
        line = record["reference"]["arrhenius_of_hops"].get(f"mass {mass:.0f}, {beads} beads")
        if line:
            ends = np.array([kelvin.min(), kelvin.max()])
            slope = np.exp(-line["activation_energy"] / (units.BOLTZMANN * ends))
            right.plot(1000 / ends, 0.1 * line["prefactor"] * slope, lw=0.8, color=color)
    right.set(yscale="log", xlabel="1000 K / T", ylabel="diffusion / cm²/s",
              title="by hops (o) and displacements (x)")  # fmt: skip
    for axes in (left, right):
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8)
        canvas.tidy(axes)
    canvas.save(path, figure, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("stages", nargs="+", choices=["profile", "reference", "kernel"])
    parser.add_argument("--kelvin", type=float, nargs="+", default=[400, 500, 600, 800, 1000])
    parser.add_argument("--beads", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--isotopes", type=int, nargs="+", default=[1], choices=[1, 2])
    parser.add_argument("--picoseconds", type=float, default=200.0)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 20, 50])
    parser.add_argument("--lengthscale", type=float, default=4.0, help="of the kernels, in 1/Å")
    parser.add_argument("--record", type=Path, default=HERE.with_suffix(".json"))
    options = parser.parse_args()
    record = json.loads(options.record.read_text()) if options.record.exists() else {}
    record |= {
        "date": date.today().isoformat(), "load": os.getloadavg()[0],
        "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
        "versions": {p: version(p) for p in ("jaxff", "jax", "numpy")},
        "model": {**METAL, **HYDROGEN, "constant_ang": CONSTANT},
    }  # fmt: skip
    energy_fn = reference_model()
    write = lambda: options.record.write_text(json.dumps(record, indent=1) + "\n")  # noqa: E731
    if "profile" in options.stages:
        shares, way = profile(energy_fn)
        record["profile"] = {
            "shares": shares.tolist(), "ev": way.tolist(), "barrier_ev": float(way.max()),
            "tetrahedral_ev": float(way[-1]), "vibration_mev": vibration(energy_fn),
        }  # fmt: skip
        write()
        print(json.dumps(record["profile"]), flush=True)
    if "reference" in options.stages:
        runs = record.setdefault("reference", {"runs": []})["runs"]
        done = {(run["mass"], run["kelvin"], run["beads"], run["picoseconds"]) for run in runs}
        for isotope in options.isotopes:
            mass = {1: 1.008, 2: 2.014}[isotope]
            for kelvin in options.kelvin:
                for beads in options.beads:
                    if (mass, kelvin, beads, options.picoseconds) in done:
                        continue
                    run = hopping(energy_fn, kelvin, beads, options, mass)
                    record["reference"]["runs"].append(run)
                    write()
                    print(json.dumps(run), flush=True)
        record["reference"] |= {"arrhenius": fits(runs, by_displacement),
                                "arrhenius_of_hops": fits(runs, by_hops)}  # fmt: skip
        write()
    if "kernel" in options.stages:
        record["kernel"] = kernels(energy_fn, options)
        write()
    draw(record, options.record.with_suffix(".png"))


if __name__ == "__main__":
    main()
