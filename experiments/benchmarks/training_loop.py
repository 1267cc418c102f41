"""What the loop of ``training.fit`` adds to a bare compiled step, in CPU time of the host.

Both run the same compiled program on the same batches; it is so small that the host is what takes
time. CPU time, not wall time, is compared, so that other processes of the machine disturb little.

    python experiments/benchmarks/training_loop.py [--json training_loop.json]
"""

import argparse
import json
import os
import platform
import time
from datetime import date

import jax
import numpy as np
import optax

jax.config.update("jax_enable_x64", True)

import jaxff
from jaxff import System, neighbor_list, training
from jaxff.physics import lennard_jones
from jaxff.training.epochs import Shuffled
from jaxff.training.run import Plan, Run

STEPS, REPEATS, STEP_OF_NETWORK = 3000, 5, 5e-3


def batch(seed):
    """Two argon dimers."""
    rng = np.random.default_rng(seed)
    positions = np.zeros((4, 3))
    positions[1::2, 0] = rng.uniform(3.3, 4.5, 2)
    structure = np.array([0, 0, 1, 1])
    system = System(positions, np.full(4, 18), structure=structure, structure_mask=np.ones(2, bool))
    return jax.tree.map(
        np.asarray,
        training.Batch(
            system,
            neighbor_list(6.0, capacity=2.0).allocate(system),
            {"energy": rng.normal(size=2), "forces": rng.normal(size=(4, 3))},
            {"energy": np.ones(2, bool), "forces": np.ones(2, bool)},
        ),
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--json")
    arguments = parser.parse_args()
    steps = training.trainer(
        lennard_jones("Ar", 6.0), training.weighted(energy=1.0, forces=1.0), optax.adam(1e-6),
        ema=0.99, clip=10.0,
    )  # fmt: skip
    batches = [batch(seed) for seed in range(8)]
    start = {"epsilon": np.array([0.01]), "sigma": np.array([3.4])}

    def fresh():
        return steps.init(jax.random.key(0), batches[0], start)

    def bare(count):
        state, before = fresh(), time.process_time()
        for index in range(count):
            state, info = steps.step(state, batches[index % 8])
            if index % 3 == 2:
                jax.block_until_ready(info.loss)
        jax.block_until_ready(state)
        return time.process_time() - before

    def loop(count):
        plan = Plan(
            steps, Shuffled(batches, 0), None, None, count, None, 10**9, "loss", None, None, None,
            10**9, {}, 0,
        )  # fmt: skip
        run, before = Run(plan, fresh()), time.process_time()
        run.finish(None, False)
        return time.process_time() - before

    bare(100), loop(100)
    found = [(bare(STEPS), loop(STEPS)) for _ in range(REPEATS)]
    plain, looped = (float(np.median(column)) / STEPS * 1e6 for column in zip(*found, strict=True))
    record = {
        "date": date.today().isoformat(),
        "load": os.getloadavg()[0],
        "machine": f"{platform.machine()}, 1 of 2 cores",
        "versions": {
            "jaxff": jaxff.__version__,
            "jax": jax.__version__,
            "optax": optax.__version__,
        },
        "bare_us_per_step": plain,
        "fit_us_per_step": looped,
        "overhead_us_per_step": looped - plain,
        "overhead_of_a_step_of_5_ms": (looped - plain) * 1e-6 / STEP_OF_NETWORK,
    }
    print(json.dumps(record, indent=1))
    if arguments.json:
        with open(arguments.json, "w") as file:
            file.write(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
