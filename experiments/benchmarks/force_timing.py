"""Forces of 10 geometries from 1000 references: Jacobian blocks, contraction, and what jaxff does.

    python experiments/benchmarks/force_timing.py [--molecule ethanol] [--kernel FCHL19] ...

The table of Schmitz, Müller and Chmiela, J. Phys. Chem. Lett. 13, 10183 (2022),
doi:10.1021/acs.jpclett.2c02632 (theirs on a Titan RTX), for ethanol and aspirin of rMD17 and four
kernels: *dense* differentiates the kernel of each pair of geometries to a block of second
derivatives (``jacfwd`` of ``grad``) and multiplies it by the coefficients; *contraction* never
forms it (``jvp`` of ``grad``), their method; *black box* is the general path of jaxff for a kernel
that offers nothing but a call; *jaxff* is what a bound potential does for the kernel as it is.

CPU seconds, median of repeats, coefficients at random. Where the whole would take longer than
``--budget`` seconds, a part is timed and scaled by the number of pairs; the record says what part,
and what the time per pair was of the part before it. All ways are compared at a few references.
``force_timing.json`` keeps what earlier runs measured of other molecules and kernels.
"""

import argparse
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

import jaxff
from jaxff import bind, forces, gdml
from jaxff.descriptors import fchl19, inverse_distances
from jaxff.gdml import expansion, jets
from jaxff.kernels import AtomicSum, Kernel, matern52, permutations, rbf

REFERENCES, QUERIES = 1000, 10
SIZES = ((2, 1), (8, 2), (64, 5), (REFERENCES, QUERIES))
PUBLISHED = {  # seconds: dense, contraction
    "sGDML": {"ethanol": (0.0780, 0.0018), "aspirin": (0.2832, 0.0087)},
    "sGDML[RBF]": {"ethanol": (0.0800, 0.0015), "aspirin": (0.2811, 0.0074)},
    "FCHL19": {"ethanol": (57.9439, 0.9815), "aspirin": (414.0216, 10.1438)},
    "global FCHL19": {"ethanol": (57.5194, 0.9653), "aspirin": (458.5465, 10.0728)},
}
# Pairs that differentiation takes at once, the fastest of 1, 8 and 64: dense, contraction.
BATCHES = {"inverse distances": (8, 8), "FCHL19": (1, 1)}
LENGTHSCALES = {"sGDML": 20.0, "sGDML[RBF]": 10.0, "FCHL19": 0.5, "global FCHL19": 1.5}


class BlackBox(NamedTuple):
    """A kernel of which nothing is known but how to call it."""

    kernel: object
    hyper_names = ()
    order = 1

    def __call__(self, hyper, system, other):
        """The kernel of two systems."""
        return self.kernel(hyper, system, other)


def kernels(numbers, group):
    features = fchl19(sorted(set(numbers.tolist())))
    return {
        "sGDML": Kernel(inverse_distances, matern52, group),
        "sGDML[RBF]": Kernel(inverse_distances, rbf, group),
        "FCHL19": AtomicSum(features, rbf),
        "global FCHL19": Kernel(features, rbf),
    }


def by_pairs(kernel, hyper, contract, batch):
    """Forces by differentiating the kernel of each pair anew."""

    def predict(references, coefficients, queries):
        one = jax.tree.map(lambda leaf: leaf[0], references)

        def of_pair(first, second):
            return kernel(hyper, one.replace(positions=first), one.replace(positions=second))

        def forces_of(query):
            def contribution(pair):
                return contract(of_pair, query, *pair)

            pairs = (references.positions, coefficients)
            return jnp.sum(jax.lax.map(contribution, pairs, batch_size=batch), axis=0)

        return jax.lax.map(forces_of, queries.positions)

    return predict


def block(of_pair, query, reference, weights):
    hessian = jax.jacfwd(jax.grad(of_pair), argnums=1)(query, reference)
    return jnp.einsum("axby,by->ax", hessian, weights)


def contraction(of_pair, query, reference, weights):
    slope = lambda reference: jax.grad(of_pair)(query, reference)  # noqa: E731
    return jax.jvp(slope, (reference,), (weights,))[1]


predicted = jax.jit(lambda energy_fn, systems: forces(energy_fn)(systems))


def model_of(kernel, hyper, references, coefficients):
    """A bound potential with these coefficients."""
    potential = gdml.potential(kernel)
    params = potential.init(jax.random.key(0), references, hyper=hyper)
    expand = expansion.expand_compiled if expansion.supports(kernel) else jets.expand_compiled
    made = expand(kernel, params["hyper"], references, {"forces": coefficients})
    return bind(potential, {**params, "expansion": made})


def jets_of(kernel, hyper, references, coefficients):
    hyper = {name: jnp.asarray(value) for name, value in hyper.items()}
    made = jets.expand_compiled(kernel, hyper, references, {"forces": coefficients})
    return jets.Expanded(kernel, hyper, made)


def ways(kernel, hyper, batches):
    """Functions of references, coefficients and queries that return a call to be timed."""

    def by_differentiation(contract, batch):
        function = jax.jit(by_pairs(kernel, hyper, contract, batch))
        return lambda *arguments: lambda: function(*arguments)

    def by_model(make, kernel):
        def prepare(references, coefficients, queries):
            model = make(kernel, hyper, references, coefficients)
            return lambda: predicted(model, queries)

        return prepare

    found = {
        "dense": by_differentiation(block, batches[0]),
        "contraction": by_differentiation(contraction, batches[1]),
        "black box": by_model(jets_of, BlackBox(kernel)),
        "jaxff": by_model(model_of, kernel),
    }
    if expansion.supports(kernel):
        found["jaxff, general path"] = by_model(jets_of, kernel)
    return found


def cpu_seconds(call):
    """Median of three calls or of a fifth of a second, whichever is longer; a long call is one."""
    jax.block_until_ready(call())
    times = []
    while len(times) < 3 or sum(times) < 0.2:
        start = time.process_time()
        jax.block_until_ready(call())
        times.append(time.process_time() - start)
        if times[0] > 5.0:
            break
    return float(np.median(times))


def timed(prepare, pick, budget):
    """Seconds of the whole, measured, or scaled up from the largest part within the budget."""
    measured = []
    for count, (references, queries) in enumerate(SIZES):
        pairs = references * queries
        if count > 1 and measured[-1] * pairs > budget:
            break
        measured.append(cpu_seconds(prepare(*pick(references, queries))) / pairs)
    return {
        "seconds": measured[-1] * REFERENCES * QUERIES,
        "timed references and geometries": SIZES[len(measured) - 1],
        "per pair, relative to the part before": measured[-1] / measured[-2],
    }


def table(name, kernel, systems, coefficients, budget):
    """All ways for one kernel."""
    hyper = {"lengthscale": LENGTHSCALES[name]}
    batches = BATCHES["FCHL19" if "FCHL19" in name else "inverse distances"]

    def pick(references, queries):
        parts = slice(references), slice(REFERENCES, REFERENCES + queries)
        own, asked = (jax.tree.map(lambda leaf, p=p: leaf[p], systems) for p in parts)
        return own, coefficients[:references], asked

    available = ways(kernel, hyper, batches)
    found = {way: np.asarray(prepare(*pick(*SIZES[1]))()) for way, prepare in available.items()}
    size = np.abs(found["dense"]).max()
    result: dict = {"terms of the kernel": kernel.order}
    for way, prepare in available.items():
        result[way] = timed(prepare, pick, budget)
        difference = np.abs(found[way] - found["dense"]).max() / size
        result[way]["relative difference from dense"] = float(difference)
        print(f"  {way}: {result[way]}", flush=True)
    seconds = {way: result[way]["seconds"] for way in available}
    pairs = [("dense", "contraction"), ("dense", "jaxff"), ("contraction", "jaxff")]
    for slow, fast in [*pairs, ("black box", "jaxff")]:
        result[f"{slow} / {fast}"] = seconds[slow] / seconds[fast]
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("JAXFF_DATA", "../shared/data"))
    )
    parser.add_argument("--molecule", action="append", choices=("ethanol", "aspirin"))
    parser.add_argument("--kernel", action="append", choices=tuple(PUBLISHED))
    parser.add_argument("--budget", type=float, default=20.0)
    options = parser.parse_args()
    path = Path(__file__).with_suffix(".json")
    record = json.loads(path.read_text()) if path.exists() else {"molecules": {}}
    about = {
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
        "versions": {name: version(name) for name in ("jaxff", "jax", "numpy")},
    }
    record["references"], record["geometries"] = REFERENCES, QUERIES
    record["batches"] = BATCHES
    for molecule in options.molecule or ("ethanol", "aspirin"):
        data = jaxff.data.npz.read(options.data / "rmd17" / f"rmd17_{molecule}.npz")
        frames = np.random.default_rng(0).permutation(len(data))[: REFERENCES + QUERIES]
        systems = data[frames].systems
        group = permutations.recover(systems)
        shape = (REFERENCES, *systems.positions.shape[1:])
        coefficients = np.random.default_rng(1).normal(size=shape)
        tables = record["molecules"].setdefault(molecule, {})
        for name, kernel in kernels(data.numbers, group).items():
            if options.kernel and name not in options.kernel:
                continue
            print(molecule, name, flush=True)
            dense, contracted = PUBLISHED[name][molecule]
            tables[name] = {
                **about, **table(name, kernel, systems, jnp.asarray(coefficients), options.budget),
                "published seconds, Titan RTX": {
                    "dense": dense, "contraction": contracted, "ratio": dense / contracted,
                },
            }  # fmt: skip
            path.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
