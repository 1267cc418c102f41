"""The fast path of radial kernels beside the general path by differentiation, and dense AD.

    python experiments/benchmarks/kernel_paths.py

Ethanol of the embedded data, 1000 references, inverse distances, Matérn 5/2, permutations as found,
coefficients at random. Forces of 10 geometries and one product with the kernel matrix are computed
by the *fast* path; by the *general* one, which differentiates the comparison of features; and of
the kernel as a *black box*, of which only the call is known, so that everything is left to
differentiation. *Dense* forms the block of second derivatives of each pair of systems, as
differentiation without contraction would. Median of timed calls after the first. The record goes to
``kernel_paths.json``.
"""

import json
import os
import platform
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import numpy as np

from jaxff import data, forces
from jaxff.descriptors import inverse_distances
from jaxff.gdml import expansion, jets
from jaxff.gdml.generic import GenericOperator
from jaxff.gdml.operator import GdmlOperator
from jaxff.gdml.prediction import Predicted
from jaxff.kernels import Kernel, matern52, permutations

REFERENCES, REPEATS = 1000, 7


class BlackBox(NamedTuple):
    """A kernel of which nothing is known but how to call it."""

    kernel: Kernel
    hyper_names = ("lengthscale",)
    order = 1

    def __call__(self, hyper, system, other):
        """The kernel of two systems."""
        return self.kernel(hyper, system, other)


def median_ms(function, *arguments):
    jax.block_until_ready(function(*arguments))
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append(time.perf_counter() - start)
    return round(1e3 * float(np.median(times)), 3)


def dense_forces(kernel, hyper, references, coefficients, queries):
    """Sum over references of full blocks of second derivatives times coefficients."""

    def of_pair(first, second):
        one, other = (jax.tree.map(lambda leaf: leaf[0], references) for _ in range(2))
        return kernel(hyper, one.replace(positions=first), other.replace(positions=second))

    def forces_of(query):
        def contribution(reference, weights):
            block = jax.jacfwd(jax.grad(of_pair), argnums=1)(query, reference)
            return jnp.einsum("axby,by->ax", block, weights)

        return jnp.sum(jax.vmap(contribution)(references.positions, coefficients), axis=0)

    return jax.lax.map(forces_of, queries.positions)


def main():
    ethanol = data.npz.read(data.embedded.ethanol_path())
    references, queries = ethanol[:REFERENCES].systems, ethanol[REFERENCES:][:10].systems
    kernel = Kernel(inverse_distances, matern52, permutations.recover(references))
    box, hyper = BlackBox(kernel), {"lengthscale": jnp.asarray(3.0)}
    vector = jnp.asarray(np.random.default_rng(0).normal(size=references.positions.size))
    given = hyper, references, {"forces": vector.reshape(references.positions.shape)}
    models = {
        "fast": Predicted(kernel, hyper, expansion.expand_compiled(kernel, *given)),
        "general": jets.Expanded(kernel, hyper, jets.expand_compiled(kernel, *given)),
        "black box": jets.Expanded(box, hyper, jets.expand_compiled(box, *given)),
    }
    predict = jax.jit(lambda energy_fn, systems: forces(energy_fn)(systems))
    dense = jax.jit(lambda c, q: dense_forces(kernel, hyper, references, c, q))
    weights = given[2]["forces"]
    found = {name: np.asarray(predict(model, queries)) for name, model in models.items()}
    found["dense"] = np.asarray(dense(weights, queries))
    operators = {
        "fast": GdmlOperator(kernel, hyper, references),
        "general": GenericOperator(kernel, hyper, references, ("forces",)),
        "black box": GenericOperator(box, hyper, references, ("forces",)),
    }
    forces_ms = {name: median_ms(predict, model, queries) for name, model in models.items()}
    forces_ms["dense"] = median_ms(dense, weights, queries)
    product_ms = {name: median_ms(operator.matvec, vector) for name, operator in operators.items()}
    record = {
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
        "versions": {name: version(name) for name in ("jax", "numpy")},
        "permutations": kernel.order,
        "references": REFERENCES,
        "forces_of_10_geometries_ms": forces_ms,
        "product_with_the_matrix_ms": product_ms,
        "ratio_to_fast": {
            what: {name: round(ms / times["fast"], 1) for name, ms in times.items()}
            for what, times in (("forces", forces_ms), ("product", product_ms))
        },
        "largest_relative_difference": {
            name: float(np.abs(found[name] - found["fast"]).max() / np.abs(found["fast"]).max())
            for name in ("general", "black box", "dense")
        },
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
