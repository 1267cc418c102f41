"""Hyperparameters by descent: length scale, power of the distances and noise, beside a grid.

    python experiments/hyperparameters.py [--geometries 50] [--steps 35]

Ethanol of the embedded GFN2-xTB data (500 K), forces, Matérn 5/2 on distances to a power (the power
-1 makes inverse distances). From three starts Adam moves length scale and power, once with the
amplitude of the kernel up the marginal likelihood, and once with the noise down the force error of
50 validation geometries; both differentiate through the solve. A grid of length scales and powers
is fitted for comparison. Errors before and after are those of 200 test geometries, in meV/Å. The
record goes to ``hyperparameters.json``, the figure to ``hyperparameters.png``.

On the likelihood the noise stays at 0.01 eV/Å, and the amplitude is a hyperparameter that starts at
the squared length scale. In the figure a cross is a start, a dot the best step of its descent, with
which errors "after" are those of; the star is the best point of the grid.

Reference: Rasmussen & Williams, Gaussian Processes for Machine Learning (2006), section 5.4;
the descent on validation errors: Schmitz, Müller & Chmiela, J. Phys. Chem. Lett. 13, 10183 (2022),
doi:10.1021/acs.jpclett.2c02632.
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
import optax

from jaxff import bind, data, forces, gdml
from jaxff.descriptors import distance_powers
from jaxff.kernels import Kernel, Scaled, matern52
from jaxff.linalg import solvers

STARTS = ((0.3, -1.0), (3.0, -2.5), (30.0, -0.5))  # length scale, power
REGULARIZATION, RATE = 1e-10, 0.1  # on scaled labels; of Adam
NOISE = {"likelihood": 0.01, "validation": 0.001}  # eV/Å
GRID = np.geomspace(0.1, 100.0, 10), (-0.5, -1.0, -1.5, -2.0, -3.0, -4.0)
PLAIN = Kernel(distance_powers, matern52)
POTENTIAL, WITH_AMPLITUDE = gdml.potential(PLAIN), gdml.potential(Scaled(PLAIN))


def parts(count):
    """References, validation and test frames at 500 K."""
    ethanol = data.npz.read(data.embedded.ethanol_path())
    warm = np.flatnonzero(np.asarray(ethanol.per_frame["temperature"]) == 500.0)
    order = np.random.default_rng(1).permutation(warm)
    return [ethanol[own] for own in np.split(order[: count + 250], [count, count + 50])]


predicted = jax.jit(lambda energy_fn, systems: forces(energy_fn)(systems))


def errors(train, others, hyper, noise=None):
    """RMSE of forces in meV/Å for each of some sets of frames; NaN where there is no fit."""
    params = POTENTIAL.init(jax.random.key(0), train.systems, hyper=hyper)
    try:
        params, _ = gdml.fit(
            POTENTIAL, params, train.labels("forces"), solver=solvers.cholesky(),
            regularization=REGULARIZATION, noise=noise,
        )  # fmt: skip
    except np.linalg.LinAlgError:
        return [float("nan")] * len(others)
    model = bind(POTENTIAL, params)
    off = [predicted(model, own.systems) - own.values["forces"] for own in others]
    return [1e3 * float(np.sqrt(np.mean(np.asarray(d) ** 2))) for d in off]


def recording(optimizer):
    """The same optimizer, and a list that fills with what it was given."""
    seen = []

    def update(gradient, state, moving):
        seen.append({name: float(value) for name, value in moving.items()})
        return optimizer.update(gradient, state, moving)

    return optax.GradientTransformation(optimizer.init, update), seen


def descent(train, valid, test, start, criterion, steps):
    """One descent: its trace, where it ends, and the errors at both ends."""
    likelihood = criterion == "likelihood"
    hyper = dict(zip(("lengthscale", "power"), start, strict=True))
    if likelihood:
        hyper["scale"] = hyper["lengthscale"] ** 2
    potential = WITH_AMPLITUDE if likelihood else POTENTIAL
    params = potential.init(jax.random.key(0), train.systems, hyper=hyper)
    optimizer, seen = recording(optax.adam(RATE))
    clock = time.process_time()
    found = gdml.descend(
        gdml.problem(potential, params, train.labels("forces")), hyper, optimizer=optimizer,
        steps=steps, regularization=REGULARIZATION, noise={"forces": NOISE[criterion]},
        fixed=("regularization", *(("noise",) if likelihood else ())),
        validation=None if likelihood else (valid.systems, valid.values["forces"]),
        amplitude=1.0 if likelihood else None,
    )  # fmt: skip
    seconds = time.process_time() - clock
    ends = [
        {**hyper, "noise eV/A": NOISE[criterion]},
        {**{k: float(v) for k, v in found.hyper.items()}, "noise eV/A": found.noise["forces"]},
    ]
    tested = [at_end(train, (valid, test), **end) for end in ends]
    return {
        "start": ends[0], "end": ends[1],
        "validation before, after": [own[0] for own in tested],
        "test before, after": [own[1] for own in tested],
        "cpu seconds": round(seconds, 1),
        "loss": found.history.tolist(),
        "lengthscale": [float(np.exp(s["hyper lengthscale"])) for s in seen],
        "power": [s["hyper power"] for s in seen],
    }  # fmt: skip


def at_end(train, others, lengthscale, power, scale=1.0, **noise):
    """Errors of a fit; an amplitude divides the variance of the noise."""
    level = {"forces": noise["noise eV/A"] / np.sqrt(scale)}
    return errors(train, others, {"lengthscale": lengthscale, "power": power}, level)


def grid(train, valid, test):
    table = {}
    for power in GRID[1]:
        for scale in GRID[0]:
            hyper = {"lengthscale": float(scale), "power": power}
            table[f"{scale:.3g}, {power:g}"] = [
                *hyper.values(), *errors(train, (valid, test), hyper)
            ]  # fmt: skip
    rows = list(table.values())
    names = "lengthscale", "power", "validation", "test"
    least = min((row for row in rows if np.isfinite(row[2])), key=lambda row: row[2])
    return {"columns": names, "rows": rows, "best": dict(zip(names, least, strict=True))}


def figure(record, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plot, axes = plt.subplots(1, 3, figsize=(15, 4.6), layout="constrained", width_ratios=(5, 3, 3))
    scales, powers, valid, _ = np.array(record["grid"]["rows"]).T
    shape = (len(GRID[1]), len(GRID[0]))
    plane, best = axes[0], record["grid"]["best"]
    levels = np.log10(valid.reshape(shape))
    shades = plane.contourf(scales.reshape(shape), powers.reshape(shape), levels, 20, cmap="bone")
    plot.colorbar(shades, ax=plane, label="log₁₀ of validation RMSE / (meV/Å)")
    plane.plot(best["lengthscale"], best["power"], "*", color="w", markersize=14, zorder=3)
    plane.set(xscale="log", xlabel="length scale / Å^power", ylabel="power of the distance")
    plane.set(title="paths over the grid (none beyond it: white)", ylim=(-4.0, 0.0))
    panels = (
        ("likelihood", "-log likelihood per label", 1.0, "-"),
        ("validation", "validation RMSE / (meV/Å)", 1e3, "--"),
    )
    for axis, (name, unit, factor, style) in zip(axes[1:], panels, strict=True):
        for number, run in enumerate(record[name], 1):
            color, losses = f"C{number}", factor * np.array(run["loss"])
            ends = [[run[end][key] for end in ("start", "end")] for key in ("lengthscale", "power")]
            label = f"{name}, start {number}"
            plane.plot(run["lengthscale"], run["power"], style, color=color, label=label)
            plane.plot(ends[0][0], ends[1][0], "x", color=color)
            plane.plot(ends[0][1], ends[1][1], "o", color=color, markeredgecolor="w")
            axis.plot(losses, style, color=color, label=f"start {number}")
            axis.plot(np.argmin(losses), losses.min(), "o", color=color)
        axis.set(xlabel="step", ylabel=unit, title=f"descent on {name}")
        axis.legend()
    axes[1].set_yscale("symlog", linthresh=1.0)
    plane.legend(loc="lower right", fontsize="small")
    plot.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--geometries", type=int, default=50)
    parser.add_argument("--steps", type=int, default=35)
    parser.add_argument("--figure", action="store_true", help="only draw the record again")
    options = parser.parse_args()
    path = Path(__file__).with_suffix(".json")
    if options.figure:
        figure(json.loads(path.read_text()), path.with_suffix(".png"))
        return
    train, valid, test = parts(options.geometries)
    record = {
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
        "versions": {name: version(name) for name in ("jaxff", "jax", "numpy", "scipy", "optax")},
        "geometries": len(train), "regularization": REGULARIZATION,
        "grid": grid(train, valid, test),
    }  # fmt: skip
    print("grid", record["grid"]["best"], flush=True)
    for criterion in ("likelihood", "validation"):
        record[criterion] = []
        for start in STARTS:
            run = descent(train, valid, test, start, criterion, options.steps)
            record[criterion].append(run)
            shown = {k: v for k, v in run.items() if k not in ("loss", "lengthscale", "power")}
            print(criterion, shown, flush=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
    figure(record, path.with_suffix(".png"))


if __name__ == "__main__":
    main()
