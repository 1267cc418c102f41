"""Sums over a crystal's translations: by Fourier transform against one by one.

    python experiments/benchmarks/bigdml_fft.py ["graphene 5x5" ...]

One thread, CPU time, the two in turns, medians.  Products of the kernel matrix with a vector, and
energies with forces of some geometries, of ideal supercells with Gaussian noise; labels do not
matter.  Beside the times stands by how much less arithmetic the transform would be faster if every
operation took the same time, exponentials left out; it may gain more, as direct sums also have to
gather permuted features.  The dense matrix, which is made of products over orbits of atoms, is
compared with as many products by transforms as it has columns.  Counted are also the pairs of the
ideal crystal with two nearest images.  About three minutes, 1.5 GB.
Printed, and written to ``bigdml_fft.json``.
"""

import json
import os
import platform
import sys
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
os.environ.update(dict.fromkeys(THREADS, "1"))
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)

from jaxff import gdml
from jaxff.derivatives import energy_and_forces
from jaxff.descriptors import inverse_distances, tied_fraction
from jaxff.gdml.expansion import expand_compiled
from jaxff.gdml.operator import GdmlOperator
from jaxff.kernels import Kernel, crystal_group, matern52
from jaxff.kernels.abelian import elements, orbits
from jaxff.potential import bind
from jaxff.system import System

CENTRES = np.array([(0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0)])
SHEET = [[2.46, 0, 0], [-1.23, 2.46 * 0.75**0.5, 0], [0, 0, 20.0]]
CRYSTALS = {
    "graphene 5x5": (SHEET, [(1 / 3, 2 / 3, 0), (2 / 3, 1 / 3, 0)], 6, (5, 5, 1), 24),
    "fcc 32 atoms": (3.9 * np.eye(3), CENTRES, 46, (2, 2, 2), 10),
    "Si 64 atoms": (5.47 * np.eye(3), [*CENTRES, *(CENTRES + 0.25)], 14, (2, 2, 2), 8),
    "bcc 54 atoms": (3.15 * np.eye(3), [(0, 0, 0), (0.5,) * 3], 42, (3, 3, 3), 6),
}
"""Primitive or conventional cell, basis, element, repeats, and number of references."""
BARS = {"graphene 5x5": 1.8, "fcc 32 atoms": 2.2, "Si 64 atoms": 5.0, "bcc 54 atoms": 7.0}
BOUNDS = {"graphene 5x5": 2.6, "fcc 32 atoms": 3.2, "Si 64 atoms": 9.3, "bcc 54 atoms": 12.4}
QUERIES, REPEATS = 4, 7


def crystal(cell, basis, number, repeats):
    shifts = np.stack([axis.ravel() for axis in np.indices(repeats)], axis=1)
    places = (shifts[:, None] + np.asarray(basis)).reshape(-1, 3)
    cell = np.asarray(cell)
    return System(places @ cell, np.full(len(places), number), cell * np.array(repeats)[:, None])


def frames(reference, count, seed):
    noise = 0.08 * np.random.default_rng(seed).normal(size=(count, *reference.positions.shape))
    cells = np.tile(reference.cell, (count, 1, 1))
    return System(np.asarray(reference.positions) + noise, reference.numbers, cells)


def in_turns(functions):
    """Medians of CPU times, and their results, of functions that are called in turns."""
    results = {name: jax.block_until_ready(function()) for name, function in functions.items()}
    seconds = {name: [] for name in functions}
    for _ in range(REPEATS):
        for name, function in functions.items():
            start = time.process_time()
            jax.block_until_ready(function())
            seconds[name].append(time.process_time() - start)
    return {name: float(np.median(own)) for name, own in seconds.items()}, results


def compare(functions):
    seconds, results = in_turns(functions)
    pairs = zip(*(jax.tree.leaves(results[name]) for name in ("direct", "fourier")), strict=True)
    return {
        "direct_s": seconds["direct"],
        "fourier_s": seconds["fourier"],
        "speed_up": seconds["direct"] / seconds["fourier"],
        "largest_relative_difference": max(
            float(jnp.abs(a - b).max() / jnp.abs(a).max()) for a, b in pairs
        ),
    }


def dense(operator, vector, product_s):
    operator.dense()
    start = time.process_time()
    matrix = operator.dense()
    spent = time.process_time() - start
    expected = np.asarray(operator.matvec(vector))
    return {
        "size": operator.size,
        "blocks_s": spent,
        "products_s": operator.size * product_s,
        "speed_up": operator.size * product_s / spent,
        "largest_relative_difference": float(
            np.abs(matrix @ np.asarray(vector) - expected).max() / np.abs(expected).max()
        ),
    }


def less_arithmetic(group, references):
    """Operations per pair of geometries and permutation, all four products and transforms."""
    atoms = group.permutations.shape[1]
    features, order = atoms * (atoms - 1) / 2, len(group) // len(group.cosets)
    images = inverse_distances.permute(elements(group.translations))
    signals = len(orbits(images).weights) * order  # more than features: orbits passed through twice
    direct = 8.0 * features
    products = 4 * 4.0 * signals / order
    transforms = 4 * 2.0 * order + 2 * 2.0 * signals / references
    return direct / (products + transforms)


def measure(name):
    *parts, count = CRYSTALS[name]
    reference = crystal(*parts)
    group = crystal_group(reference)
    kernels = {
        "direct": Kernel(inverse_distances, matern52, group.permutations),
        "fourier": Kernel(inverse_distances, matern52, group.permutations, group.translations),
    }
    systems, queries = frames(reference, count, 0), frames(reference, QUERIES, 1)
    hyper = {"lengthscale": jnp.asarray(1.0)}
    vector = jnp.asarray(np.random.default_rng(2).normal(size=count * 3 * reference.atom_count))
    operators = {name: GdmlOperator(kernel, hyper, systems) for name, kernel in kernels.items()}
    training = compare(
        {name: lambda own=own: own.matvec(vector) for name, own in operators.items()}
    )
    matrix = dense(operators["fourier"], vector, training["fourier_s"])
    evaluate = jax.jit(lambda energy_fn, systems: energy_and_forces(energy_fn)(systems))
    models = {}
    for key, kernel in kernels.items():
        potential = gdml.potential(kernel)
        params = potential.init(None, systems, hyper=hyper)
        coefficients = {"forces": vector.reshape(systems.positions.shape)}
        expansion = expand_compiled(kernel, hyper, systems, coefficients, None)
        models[key] = bind(potential, params | {"expansion": expansion})
    prediction = compare(
        {key: lambda model=model: evaluate(model, queries) for key, model in models.items()}
    )
    return {
        "group": str(group), "tied_fraction_of_ideal": float(tied_fraction(reference)),
        "references": count, "queries": QUERIES,
        "training_product": training, "prediction": prediction, "matrix": matrix,
        "less_arithmetic_here": less_arithmetic(group, count),
        "bar": BARS[name], "bound": BOUNDS[name],
    }  # fmt: skip


def main():
    record = {
        "date": date.today().isoformat(),
        "load": os.getloadavg()[0],
        "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
        "versions": {name: version(name) for name in ("jax", "numpy", "scipy", "spglib")},
        "crystals": {},
    }
    for name in sys.argv[1:] or CRYSTALS:
        record["crystals"][name] = measure(name)
        print(name, json.dumps(record["crystals"][name], indent=1, ensure_ascii=False), flush=True)
        text = json.dumps(record, indent=1, ensure_ascii=False)
        Path(__file__).with_suffix(".json").write_text(text + "\n")


if __name__ == "__main__":
    main()
