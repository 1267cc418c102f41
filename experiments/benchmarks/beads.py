"""Energies and forces of the beads of a ring polymer: all in one product against one by one.

    python experiments/benchmarks/beads.py [ethanol "graphene 5x5" ...]

One thread, CPU time, one geometry and ``BEADS`` of them in turns, medians. Ethanol has 1000
references and 6 permutations, crystals (those of ``bigdml_fft.py``) the whole group of their
supercell, translations by Fourier transform; references and coefficients are random, which changes
no time. Counted as operations are the products of matrices alone, four of references with queries
and four with the table of characters, not exponentials and gathers; with ``direct`` those that the
same sums would take without the transform. The rates beside them are those of one product of 2048
by 2048 matrices by XLA and by OpenBLAS (NumPy) in the same run. Printed, and written to
``beads.json``.
"""

import json
import os
import platform
import sys
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

import bigdml_fft as crystals  # switches to one thread and float64
import jax
import jax.numpy as jnp
import numpy as np

from jaxff import bind, gdml
from jaxff.derivatives import energy_and_forces
from jaxff.descriptors import inverse_distances
from jaxff.gdml.expansion import expand_compiled
from jaxff.kernels import Kernel, crystal_group, matern52
from jaxff.kernels.abelian import elements, orbits
from jaxff.system import System

BEADS, REPEATS, SIDE = 32, 15, 2048
COUNTS = {"graphene 5x5": 50, "fcc 32 atoms": 20, "Si 64 atoms": 14, "bcc 54 atoms": 12}
NUMBERS = np.array([6, 6, 8, 1, 1, 1, 1, 1, 1])
METHYL, METHYLENE = ((3, 4, 5), (4, 5, 3), (5, 3, 4)), ((6, 7), (7, 6))
PLACES = np.array([
    [-1.17, -0.40, 0.0], [0.05, 0.55, 0.0], [1.19, -0.28, 0.0], [-2.08, 0.20, 0.0],
    [-1.18, -1.04, 0.89], [-1.18, -1.04, -0.89], [0.02, 1.19, 0.89], [0.02, 1.19, -0.89],
    [1.95, 0.30, 0.0],
])  # fmt: skip


def ethanol():
    rows = np.array([(0, 1, 2, *three, *two, 8) for three in METHYL for two in METHYLENE])
    kernel = Kernel(inverse_distances, matern52, rows)
    return System(PLACES, NUMBERS), kernel, 1000, 8.0 * 36 * len(rows) * 1000


def crystal(name):
    """Reference, kernel, number of references, and operations for one geometry."""
    *parts, _ = crystals.CRYSTALS[name]
    reference = crystals.crystal(*parts)
    group = crystal_group(reference)
    kernel = Kernel(inverse_distances, matern52, group.permutations, group.translations)
    images = inverse_distances.permute(elements(group.translations))
    order = len(group) // len(group.cosets)
    signals = len(orbits(images).weights) * order  # more than features: orbits passed through twice
    count, cosets = COUNTS[name], len(group.cosets)
    transforms = 4.0 * order * cosets * (signals + 2 * count * order)
    return reference, kernel, count, 16.0 * signals * cosets * count + transforms


def jittered(reference, count, seed):
    noise = 0.05 * np.random.default_rng(seed).normal(size=(count, *reference.positions.shape))
    cells = None if reference.cell is None else np.tile(reference.cell, (count, 1, 1))
    return System(np.asarray(reference.positions) + noise, reference.numbers, cells)


def rates():
    """Gflop/s of a product of large matrices."""
    one = np.random.default_rng(0).normal(size=(SIDE, SIDE))
    other, product = jnp.asarray(one), jax.jit(jnp.matmul)
    seconds, _ = crystals.in_turns({
        "xla": lambda: product(other, other), "openblas": lambda: one @ one,
    })  # fmt: skip
    return {name: 2e-9 * SIDE**3 / each for name, each in seconds.items()}


def measure(name):
    reference, kernel, count, operations = ethanol() if name == "ethanol" else crystal(name)
    systems, queries = jittered(reference, count, 0), jittered(reference, BEADS, 1)
    potential, hyper = gdml.potential(kernel), {"lengthscale": jnp.asarray(1.0)}
    params = potential.init(None, systems, hyper=hyper)
    coefficients = {"forces": jax.random.normal(jax.random.key(2), systems.positions.shape)}
    expansion = expand_compiled(kernel, hyper, systems, coefficients, None)
    model = bind(potential, params | {"expansion": expansion})
    evaluate = jax.jit(lambda energy_fn, systems: energy_and_forces(energy_fn)(systems))
    single = System(queries.positions[0], reference.numbers, reference.cell)
    calls = max(1, round(2e8 / operations))  # of single geometries, some milliseconds

    def one_by_one():
        for _ in range(calls - 1):
            jax.block_until_ready(evaluate(model, single))
        return evaluate(model, single)

    seconds, found = crystals.in_turns({
        "single": one_by_one, "beads": lambda: evaluate(model, queries),
    })  # fmt: skip
    each, shared = seconds["single"] / calls, seconds["beads"] / BEADS
    first = float(np.abs(np.asarray(found["beads"][1][0] - found["single"][1])).max())
    return {
        "references": count, "permutations": kernel.order, "beads": BEADS,
        "single_us": 1e6 * each, "bead_us": 1e6 * shared, "bead_over_single": shared / each,
        "largest_difference_of_forces_over_largest":
            first / float(np.abs(np.asarray(found["single"][1])).max()),
        "gflop_per_geometry": 1e-9 * operations,
        "gflop_per_s": 1e-9 * operations / shared,
        "direct_gflop_per_s": 8e-9 * kernel.order * count * len(expansion["center"]) / shared,
    }  # fmt: skip


def main():
    crystals.REPEATS = REPEATS
    record = {
        "date": date.today().isoformat(), "load": os.getloadavg()[0],
        "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
        "versions": {name: version(name) for name in ("jaxff", "jax", "numpy", "spglib")},
        "systems": {},
    }  # fmt: skip
    for name in sys.argv[1:] or ("ethanol", *COUNTS):
        before = time.perf_counter()
        product, entry = rates(), measure(name)
        shares = {
            f"{ways}share_of_{kind}": entry[f"{ways}gflop_per_s"] / rate
            for kind, rate in product.items() for ways in ("", "direct_")
        }  # fmt: skip
        record["systems"][name] = entry | {"product_gflop_per_s": product} | shares
        print(name, json.dumps(record["systems"][name], indent=1), flush=True)
        print(f"{time.perf_counter() - before:.0f} s", flush=True)
        Path(__file__).with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
