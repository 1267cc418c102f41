r"""Nonlocal attention of SpookyNet: error of random features, and time of both forms.

    python experiments/benchmarks/attention.py [--weights spookynet_weights.npz] [--again]

Errors: outputs of attention by positive orthogonal random features (FAVOR+) against exact ones,
root mean square relative to that of the exact ones, median and quartiles over seeds of the random
directions; float64, 64 features. Queries, keys and values are normal numbers with
:math:`|q|^2 = |k|^2 = 10` on average, and, with the pretrained weights at hand, those of each of
its modules for a molecule. ``rate`` is the slope of log error against log number, expected -1/2.
The floor that is added to features stays as it is in the library.

Times: CPU seconds of one thread in float32, medians, of the attention alone (64 features, 64
random ones) with its gradient, and of energy and forces of a network (64 features, two modules, no
terms beside it) with either form and without attention, for 125 to 2000 atoms on a jittered grid of
2.5 Å. ``exponents`` are slopes of log time against log number between the last two sizes.
The record goes to ``attention.json``, part by part (what is there is not measured again without
``--again``), the figure to ``attention.png``.
"""

import argparse
import json
import os
import platform
import statistics
import time
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
os.environ.update(dict.fromkeys(THREADS, "1"))
os.environ["XLA_FLAGS"] = (
    "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1 "
    + os.environ.get("XLA_FLAGS", "")
)

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import numpy as np
from ase.build import molecule

from jaxff import System, bind, energy_and_forces, neighbor_list
from jaxff.allocation import keep_freed_memory
from jaxff.interfaces import spookynet as pretrained
from jaxff.interfaces.ase import system_of
from jaxff.networks import spookynet
from jaxff.networks.graph import graph
from jaxff.networks.spookynet import SpookyNet
from jaxff.networks.spookynet_blocks import Branches, Residuals
from jaxff.networks.spookynet_layers import (
    directions,
    exact_attention,
    feature_attention,
    together,
)
from jaxff.report import canvas

HERE = Path(__file__).resolve()
FEATURES = 64
COUNTS = tuple(2**k for k in range(4, 13))
SEEDS = 21
ATTENTION_SIZES = (60, 125, 250, 500, 1000, 2000)
NETWORK_SIZES = (125, 500, 2000)
MODULES = 2  # of the network that is timed: attention in the first sees no positions
SPACING, BUDGET = 2.5, 1.0  # Å, seconds of each measurement
TERMS = {"repulsion": False, "electrostatics": False, "dispersion": False}
FORMS = {"exact": canvas.BLUE, "features": canvas.ORANGE, "none": canvas.GREY}


def normal_inputs(atoms, dtype=np.float64):
    """Queries, keys and values."""
    draw = np.random.default_rng(0)
    scales = (np.sqrt(10.0 / FEATURES), np.sqrt(10.0 / FEATURES), 1.0)
    return [jnp.asarray(s * draw.normal(size=(atoms, FEATURES)), dtype) for s in scales]


def pretrained_inputs(weights, name):
    """Of each module of the pretrained model for a molecule."""
    potential, params = pretrained.load(weights, dtype="float64")
    own, network = potential.spec.arguments, params["network"]
    module = SpookyNet(
        own["cutoff"], own["features"], own["radial_functions"], own["modules"], own["residuals"],
        1.0, ("charge", "spin"), True, tuple(own["directions"]), (), own["max_number"],
    )  # fmt: skip
    system = system_of(molecule(name), charge=0.0, spin=0.0)
    pairs = neighbor_list(own["cutoff"]).allocate(system).within(own["cutoff"])
    edges = (graph(system, pairs, jnp.float64),)
    apply = jax.jit(partial(module.apply, mutable=["intermediates"]))
    seen = apply({"params": network}, system, edges)[1]["intermediates"]
    names = ("nuclei_embedded", "charge_embedded", "spin_embedded")
    x, found = sum(seen[part][0] for part in names), {}
    for index in range(own["modules"]):
        parts = network[f"module_{index}"]
        inner = Residuals(own["residuals"]).apply({"params": parts["before"]}, x)
        branches = Branches(3, own["residuals"], None)
        made = branches.apply({"params": parts["nonlocal"]["branches"]}, inner)
        found[f"module {index + 1}"] = [jnp.asarray(each) for each in made]
        x = seen[f"after_{index}"][0][0]
    return system, found


@jax.jit
def relative(table, system, inputs):
    expected = exact_attention(together(system), *inputs)
    found = feature_attention(system, *inputs, table)
    return jnp.linalg.norm(found - expected) / jnp.linalg.norm(expected)


def errors(cases):
    """By the number of random features, for each (system, inputs)."""
    found = {name: [] for name in cases}
    for count in COUNTS:
        tables = [directions(FEATURES, count, seed) for seed in range(SEEDS)]
        for name, case in cases.items():
            each = [float(relative(table, *case)) for table in tables]
            low, median, high = np.quantile(each, [0.25, 0.5, 0.75])
            row = {"random_features": count, "median": median, "quartiles": [low, high]}
            found[name].append(row)
    return {name: summary(rows, *cases[name][1][:2]) for name, rows in found.items()}


def summary(rows, query, key):
    last = rows[-5:]
    return {
        "errors": rows,
        "rate": slope([r["random_features"] for r in last], [r["median"] for r in last]),
        "mean_square_length": [float(jnp.mean(jnp.sum(x**2, axis=1))) for x in (query, key)],
    }


def slope(x, y):
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def median_cpu(function):
    for _ in range(2):
        jax.block_until_ready(function())
    times, end = [], time.perf_counter() + BUDGET
    while time.perf_counter() < end or len(times) < 5:
        start = time.process_time()
        jax.block_until_ready(function())
        times.append(time.process_time() - start)
    return statistics.median(times)


def attention_times(form):
    """Value and gradient of a sum of squares, as derivatives need them."""
    table = jnp.asarray(directions(FEATURES, FEATURES, 0), jnp.float32)
    rows = []
    for atoms in ATTENTION_SIZES:
        system = System(np.zeros((atoms, 3), np.float32), np.ones(atoms, int))

        def square(inputs, system=system):
            attend = (
                partial(exact_attention, together(system)) if form == "exact"
                else lambda *given: feature_attention(system, *given, table)
            )  # fmt: skip
            return jnp.sum(attend(*inputs) ** 2)

        inputs, both = normal_inputs(atoms, np.float32), jax.jit(jax.value_and_grad(square))
        rows.append({"atoms": atoms, "seconds": median_cpu(partial(both, inputs))})
    return rows


def grid(atoms):
    """A cube of atoms, shaken by 0.1 Å; hydrogen, carbon, nitrogen and oxygen in turn."""
    draw, side = np.random.default_rng(1), int(np.ceil(atoms ** (1 / 3)))
    places = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    positions = SPACING * places[:atoms] + draw.normal(0.0, 0.1, (atoms, 3))
    numbers = np.resize([1, 6, 7, 8], atoms)
    return System(positions.astype(np.float32), numbers, charge=0.0, spin=0.0)


def network_times():
    """Of all forms, with the same random weights."""
    evaluate = jax.jit(lambda function, *given: energy_and_forces(function)(*given))
    rows, params = {form: [] for form in FORMS}, None
    for form in FORMS:
        potential = spookynet(nonlocal_attention=form, modules=MODULES, **TERMS)
        for atoms in NETWORK_SIZES:
            system = grid(atoms)
            found = neighbor_list(potential.cutoffs).allocate(system)
            if params is None:
                params = random_params(potential, system, found)
            energy_fn = bind(potential, params)
            seconds = median_cpu(partial(evaluate, energy_fn, system, found))
            rows[form].append({"atoms": atoms, "seconds": seconds})
            print(form, rows[form][-1], flush=True)
    return rows


def random_params(potential, *given):
    """Those of the start take long to compile, and many are zero."""
    draw = np.random.default_rng(2)
    shapes = jax.eval_shape(potential.init, jax.random.key(0), *given)
    return jax.tree.map(
        lambda leaf: jnp.asarray(0.1 * draw.normal(size=leaf.shape), leaf.dtype), shapes
    )


def exponent(rows):
    last = rows[-2:]
    return slope([row["atoms"] for row in last], [row["seconds"] for row in last])


def measure_errors(weights):
    cases = {"normal": (System(np.zeros((12, 3)), np.ones(12, int)), normal_inputs(12))}
    if weights is not None:
        system, modules = pretrained_inputs(weights, "C7NH5")
        cases |= {f"pretrained, {name}": (system, own) for name, own in modules.items()}
    return errors(cases)


def complete(record, path, weights):
    """Measure what is not on record, and write the record after each part."""
    parts = {
        "errors": lambda: measure_errors(weights),
        "attention": lambda: {form: attention_times(form) for form in ("exact", "features")},
        "energy and forces": network_times,
    }
    for name, measured in parts.items():
        if name in record:
            continue
        record[name] = measured()
        record["exponents"] = {
            part: {form: exponent(rows) for form, rows in record[part].items()}
            for part in ("attention", "energy and forces")
            if part in record
        }
        record |= {
            "features": FEATURES, "seeds": SEEDS, "date": date.today().isoformat(),
            "load": os.getloadavg()[0],
            "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
            "versions": {p: version(p) for p in ("jaxff", "jax", "flax", "numpy")},
        }  # fmt: skip
        path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def draw(record):
    figure = canvas.new_figure(12.5, 3.7)
    left, *others = figure.subplots(1, 3)
    colors = (canvas.BLUE, canvas.ORANGE, canvas.GREEN, canvas.PURPLE)
    for color, (name, own) in zip(colors, record["errors"].items(), strict=False):
        counts = [row["random_features"] for row in own["errors"]]
        left.fill_between(
            counts, *zip(*[row["quartiles"] for row in own["errors"]], strict=True),
            color=color, alpha=0.2, lw=0,
        )  # fmt: skip
        left.loglog(counts, [row["median"] for row in own["errors"]], color=color, label=name)
    first = record["errors"]["normal"]["errors"][0]
    guide = [first["median"] * np.sqrt(first["random_features"] / n) for n in COUNTS]
    left.loglog(COUNTS, guide, color=canvas.GREY, ls=":", label="$m^{-1/2}$")
    left.set(xlabel="random features m", ylabel="relative error")
    for axes, part in zip(others, ("attention", "energy and forces"), strict=True):
        for form, rows in record[part].items():
            power = record["exponents"][part][form]
            axes.loglog(
                [row["atoms"] for row in rows], [1e3 * row["seconds"] for row in rows], "o-",
                color=FORMS[form], label=f"{form}, power {power:.2f}",
            )  # fmt: skip
        sizes = sorted({row["atoms"] for rows in record[part].values() for row in rows})
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.minorticks_off()
        axes.set(xlabel="atoms", ylabel="CPU time, ms", title=part)
    for axes in (left, *others):
        canvas.tidy(axes)
        axes.legend(fontsize=7)
    canvas.save(HERE.with_suffix(".png"), figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--weights", type=Path, help="pretrained model")
    parser.add_argument("--draw-only", action="store_true", help="draw the record that is there")
    parser.add_argument("--again", action="store_true", help="measure what is on record, too")
    options = parser.parse_args()
    path = HERE.with_suffix(".json")
    record = json.loads(path.read_text()) if path.exists() and not options.again else {}
    if not options.draw_only:
        keep_freed_memory()
        complete(record, path, options.weights)
    print({name: own["rate"] for name, own in record["errors"].items()}, record["exponents"])
    draw(record)


if __name__ == "__main__":
    main()
