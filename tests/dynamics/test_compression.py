"""Cells that shrink and grow during a run: lists are made anew and stay right."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxff import dynamics, physics, units
from jaxff.derivatives import energy_and_forces
from jaxff.neighbors import neighbor_list
from jaxff.potential import bind
from jaxff.system import System

CUTOFF = 7.0


def argon():
    base = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    grid = np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
    points = (grid + base).reshape(-1, 3) * 5.6
    system = System(points, [18] * 108, np.eye(3) * 16.8)
    potential = physics.lennard_jones("Ar", CUTOFF)
    return system, bind(potential, potential.init(epsilon=0.0104, sigma=3.405))


@pytest.mark.slow
def test_compression_and_expansion_agree_with_fresh_lists():
    system, energy_fn = argon()
    layouts = []

    def run(gigapascal, **named):
        # Equal programs: the pressure is data.
        ensemble = dynamics.npt(
            5.0, 150.0, gigapascal * units.GIGAPASCAL, 0.02, barostat_time=500.0
        )
        return dynamics.run(
            energy_fn,
            system,
            ensemble=ensemble,
            steps=300,
            every=100,
            chunk=100,
            neighbors=neighbor_list(CUTOFF, skin=0.5),
            progress=lambda part: layouts.append(part.restart.plan),
            **named,
        )

    squeezed = run(2.0, key=jax.random.key(0))
    assert squeezed.volume[-1] < 0.85 * squeezed.volume[0]
    widths = [json.loads(plan)[0]["width"] for plan in dict.fromkeys(layouts)]
    assert len(widths) > 1
    assert widths == sorted(widths)
    released = run(0.0, restart=squeezed.restart)
    assert released.volume[-1] > 1.1 * squeezed.volume[-1]

    evaluate = jax.jit(lambda s, n: energy_and_forces(energy_fn)(s, n))
    for part in (squeezed, released):
        for index in range(len(part)):
            here = system.replace(
                positions=jnp.asarray(part.positions[index]),
                cell=jnp.asarray(part.frame_cell(index)),
            )
            energy, force = evaluate(here, neighbor_list(CUTOFF).allocate(here))
            np.testing.assert_allclose(part.potential_energy[index], energy, rtol=0, atol=1e-10)
            np.testing.assert_allclose(part.forces[index], force, rtol=0, atol=1e-10)


@pytest.mark.slow
def test_a_collapsing_cell_is_named():
    """Twenty gigapascal on a light piston: the cell jumps, and no list is to blame."""
    system, energy_fn = argon()
    ensemble = dynamics.npt(5.0, 150.0, 20 * units.GIGAPASCAL, 0.02, barostat_time=20.0)
    with pytest.raises(dynamics.UnstableRunError, match="or the cell by more than 50%"):
        dynamics.run(energy_fn, system, ensemble=ensemble, steps=50, key=jax.random.key(0))
