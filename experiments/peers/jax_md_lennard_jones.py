"""Time jax-md's own neighbour-list loop on a Lennard-Jones liquid, in reduced units.

    python experiments/peers/jax_md_lennard_jones.py START.npz --format OrderedSparse

START holds ``positions``, ``velocities``, ``side`` and ``timestep``. The loop is the one of
jax-md's examples: every step first updates the list, then applies the integrator. A line with the
potential energy comes first; after that, each line on standard input is a part to time and a number
of calls, and is answered by a line with the wall and CPU seconds of one call.
"""

import argparse
import json
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import numpy as np
from jax_md import energy, partition, quantity, simulate, space

CUTOFF, SKIN, ONSET = 2.5, 0.3, 2.2


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("start")
    parser.add_argument("--format", choices=("Dense", "Sparse", "OrderedSparse"), required=True)
    options = parser.parse_args()
    with np.load(options.start) as file:
        positions, velocities = jnp.asarray(file["positions"]), jnp.asarray(file["velocities"])
        side, timestep = float(file["side"]), float(file["timestep"])
    displacement, shift = space.periodic(side)
    list_fns, energy_fn = energy.lennard_jones_neighbor_list(
        displacement, side, r_cutoff=CUTOFF, r_onset=ONSET, dr_threshold=SKIN,
        format=partition.NeighborListFormat[options.format],
    )  # fmt: skip
    positions = positions % side
    neighbors = list_fns.allocate(positions, extra_capacity=12)
    begin, apply = simulate.nve(energy_fn, shift, dt=timestep)
    state = begin(jax.random.PRNGKey(0), positions, kT=1.0, neighbor=neighbors)
    state = state.set(momentum=velocities * state.mass)
    force_fn = quantity.force(energy_fn)

    def step(_, carry):
        state, neighbors = carry
        neighbors = neighbors.update(state.position)
        return apply(state, neighbor=neighbors), neighbors

    def forces(_, carry):
        state, neighbors = carry
        force = force_fn(state.position, neighbor=neighbors)
        return state.set(position=state.position + 1e-30 * force), neighbors

    def renewal(_, carry):
        state, neighbors = carry
        # A reference far away makes the list old, so that it is built anew each time.
        old = neighbors.set(reference_position=state.position + 1.0)
        return state, old.update(state.position)

    parts = {
        name: jax.jit(lambda carry, count, body=body: jax.lax.fori_loop(0, count, body, carry))
        for name, body in (("step", step), ("forces", forces), ("renewal", renewal))
    }
    carry = (state, neighbors)
    print(json.dumps({"energy": float(energy_fn(positions, neighbor=neighbors))}), flush=True)
    while line := input_or_none():
        name, count = line.split()
        wall, cpu = time.perf_counter(), time.process_time()
        result = jax.block_until_ready(parts[name](carry, int(count)))
        times = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
        if name == "step":
            carry = result
        record = {key: value / int(count) for key, value in times.items()}
        print(json.dumps(record | {"overflow": bool(result[1].did_buffer_overflow)}), flush=True)


def input_or_none():
    try:
        return input()
    except EOFError:
        return None


if __name__ == "__main__":
    main()
