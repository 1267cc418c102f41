"""The fast path of radial kernels beside the general path by differentiation, and dense AD.

    python experiments/benchmarks/kernel_paths.py

Ethanol of the embedded data, 100 references, inverse distances, Matérn 5/2, permutations as found:
forces of 10 geometries and one product with the kernel matrix, by both paths; and forces with the
Jacobian of each pair of systems formed, as differentiation without contraction would. Median of
timed calls after the first. The record goes to ``kernel_paths.json``.
"""

import json
import os
import platform
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import numpy as np

from jaxff import bind, data, forces, gdml
from jaxff.descriptors import inverse_distances
from jaxff.gdml.generic import GenericOperator
from jaxff.gdml.jets import Expanded, expand_compiled
from jaxff.gdml.operator import GdmlOperator
from jaxff.kernels import Kernel, matern52, permutations
from jaxff.linalg import solvers

REPEATS = 7


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
    train, queries = ethanol[:100], ethanol[100:110].systems
    kernel = Kernel(inverse_distances, matern52, permutations.recover(train.systems))
    potential = gdml.potential(kernel)
    params = potential.init(jax.random.key(0), train.systems, hyper={"lengthscale": 3.0})
    params, _ = gdml.fit(
        potential, params, train.labels("forces"),
        solver=solvers.cholesky(), regularization=1e-10,
    )  # fmt: skip
    hyper, references = params["hyper"], params["references"]
    jets = expand_compiled(kernel, hyper, references, params["coefficients"])
    models = {"fast": bind(potential, params), "general": Expanded(kernel, hyper, jets)}
    predict = jax.jit(lambda energy_fn, systems: forces(energy_fn)(systems))
    dense = jax.jit(
        lambda p, q: dense_forces(
            kernel, p["hyper"], p["references"], p["coefficients"]["forces"], q
        )
    )
    found = {name: np.asarray(predict(model, queries)) for name, model in models.items()}
    found["dense"] = np.asarray(dense(params, queries))
    vector = jnp.asarray(np.random.default_rng(0).normal(size=references.positions.size))
    operators = {
        "fast": GdmlOperator(kernel, hyper, references),
        "general": GenericOperator(kernel, hyper, references, ("forces",)),
    }
    record = {
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
        "versions": {name: version(name) for name in ("jax", "numpy")},
        "permutations": kernel.order,
        "forces_of_10_geometries_ms": {
            **{name: median_ms(predict, model, queries) for name, model in models.items()},
            "dense": median_ms(dense, params, queries),
        },
        "product_with_the_matrix_ms": {
            name: median_ms(operator.matvec, vector) for name, operator in operators.items()
        },
        "largest_relative_difference": {
            name: float(np.abs(found[name] - found["fast"]).max() / np.abs(found["fast"]).max())
            for name in ("general", "dense")
        },
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
