"""A network in a cell that shrinks: lists overflow, are made anew, and give what fresh ones do."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxff import add, bind, dynamics, networks, physics, units
from jaxff.derivatives import energy_and_forces
from jaxff.neighbors import neighbor_list
from jaxff.system import System

CUTOFF = 5.0


def gas(count=3, side=15.0):
    """Argon on a grid, and a network on top of its repulsion."""
    grid = np.stack(np.meshgrid(*[np.arange(count)] * 3, indexing="ij"), -1).reshape(-1, 3)
    places = (grid + 0.1 * np.random.default_rng(0).normal(size=grid.shape)) * side / count
    system = System(places, [18] * count**3, np.eye(3) * side)
    network = networks.so3krates(
        CUTOFF, features=4, layers=1, heads=2, degrees=(1,), radial_functions=4, max_number=18,
        dtype="float64",
    )  # fmt: skip
    argon = physics.lennard_jones("Ar", CUTOFF)
    lists = neighbor_list(CUTOFF).allocate(system)
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), system, lists))
    rng = np.random.default_rng(1)
    weights = jax.tree.map(lambda leaf: jnp.asarray(0.4 * rng.normal(size=leaf.shape)), shapes)
    params = (argon.init(epsilon=0.0104, sigma=3.405), weights)
    return system, bind(add(argon, network), params)


@pytest.mark.slow
def test_compression_goes_on_with_the_energies_of_fresh_lists():
    system, energy_fn = gas()
    ensemble = dynamics.npt(4.0, 150.0, 2.0 * units.GIGAPASCAL, 0.02, barostat_time=150.0)
    layouts = []
    run = dynamics.run(
        energy_fn, system, ensemble=ensemble, steps=80, every=20, chunk=20,
        key=jax.random.key(0), neighbors=neighbor_list(CUTOFF, skin=0.5),
        progress=lambda part: layouts.append(part.restart.plan),
    )  # fmt: skip
    widths = [json.loads(plan)[0]["width"] for plan in dict.fromkeys(layouts)]
    assert len(widths) == 2
    assert run.volume[-1] < 0.8 * run.volume[0]
    frames = [
        system.replace(positions=jnp.asarray(run.positions[k]), cell=jnp.asarray(run.frame_cell(k)))
        for k in range(len(run))
    ]
    fresh = [neighbor_list(CUTOFF).allocate(frame) for frame in frames]
    room = max(len(lists.pairs[0].others) for lists in fresh)
    evaluate = jax.jit(lambda s, n: energy_and_forces(energy_fn)(s, n))
    for index, (frame, lists) in enumerate(zip(frames, fresh, strict=True)):
        same = dataclasses.replace(lists, pairs=(lists.pairs[0].resized(room),))
        energy, force = evaluate(frame, same)
        np.testing.assert_allclose(run.potential_energy[index], energy, rtol=0, atol=1e-10)
        np.testing.assert_allclose(run.forces[index], force, rtol=0, atol=1e-10)
