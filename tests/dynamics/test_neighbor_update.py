import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import crystal, lennard_jones, molecule
from test_neighbor_search import check, edges_of, planned, update
from test_neighbors import SKEW, brute_force, points

from jaxff.derivatives import energy_and_forces
from jaxff.dynamics.neighbor_update import allocate, is_stale, update_neighbors
from jaxff.neighbors import neighbor_list
from jaxff.potential import bind
from jaxff.system import System, pack, stack


@pytest.mark.parametrize("link", [False, True])
@pytest.mark.parametrize("pbc", [(1, 1, 1), (1, 1, 0), (0, 0, 0)])
def test_renewed_lists_are_fresh_ones(link, pbc):
    rng = np.random.default_rng(3)
    cell = SKEW * 2.5
    start = rng.uniform(-0.5, 1.5, (60, 3)) @ cell
    system = System(start, [1] * 60, cell, pbc)
    neighbors = planned(system, 2.4, link, capacity=2.0)
    for step in range(1, 4):
        walk = start + step * rng.normal(size=start.shape) * 0.3
        strain = np.eye(3) + 0.02 * rng.normal(size=(3, 3))
        moved = system.replace(
            positions=jnp.asarray(walk @ strain), cell=jnp.asarray(cell @ strain)
        )
        renewed = update(moved, neighbors)
        assert not renewed.overflow
        check(moved, renewed, 2.4)
        assert jax.tree.structure(renewed) == jax.tree.structure(neighbors)


@pytest.mark.parametrize("link", [False, True])
def test_overflow_when_density_rises(link):
    rng = np.random.default_rng(1)
    system = System(rng.uniform(0, 1, (80, 3)) * 9.0, [1] * 80, np.eye(3) * 9.0)
    neighbors = planned(system, 2.5, link)
    assert not neighbors.overflow

    def squeezed(by):
        return system.replace(positions=system.positions * by, cell=system.cell * by)

    assert not update(squeezed(1.0), neighbors).overflow
    assert update(squeezed(0.7), neighbors).overflow
    # It stays raised until the lists are allocated anew.
    assert update(system, update(squeezed(0.7), neighbors)).overflow


def test_overflow_when_atoms_gather():
    # The cell stays, but all atoms come into one corner: slots, or room in a linked cell.
    rng = np.random.default_rng(1)
    spread = System(rng.uniform(0, 12, (60, 3)), [1] * 60, np.eye(3) * 12.0)
    corner = spread.replace(positions=spread.positions * 0.3)
    for link in (False, True):
        assert update(corner, planned(spread, 2.5, link)).overflow
    roomy = planned(spread, 2.5, True, capacity=3.0)
    wide = (dataclasses.replace(roomy.plan[0], width=59, most=None),)
    roomy = allocate(neighbor_list(2.5, capacity=3.0), spread, previous=with_plan(roomy, wide))
    assert roomy.plan[0].width == 59
    assert update(corner, roomy).overflow


@pytest.mark.parametrize("link", [False, True])
def test_overflow_when_there_are_more_pairs_than_promised(link):
    system = System(points(20) * 2, [1] * 20, np.eye(3) * 9.0)
    neighbors = planned(system, 2.5, link)
    count = len(edges_of(neighbors.pairs[0]))
    assert count < neighbors.plan[0].most <= len(neighbors.pairs[0].others)
    for most in (count, count - 1):
        plan = (dataclasses.replace(neighbors.plan[0], most=most),)
        renewed = update(system, with_plan(neighbors, plan))
        assert bool(renewed.overflow) == (most < count)
        assert renewed.pairs[0].room == most


@pytest.mark.parametrize("link", [False, True])
def test_room_grows_only_where_the_plan_does_not_serve(link):
    system = System(points(40) * 2, [1] * 40, np.eye(3) * 12.0)
    lists = neighbor_list(2.0)
    neighbors = allocate(lists, system, link=link)
    again = allocate(lists, system, previous=neighbors, link=link, growth=3.0)
    assert again.plan == neighbors.plan
    dense = system.replace(positions=system.positions * 0.7)
    grown = allocate(lists, dense, previous=neighbors, link=link, growth=3.0)
    rows = np.bincount([i for i, *_ in edges_of(grown.pairs[0])])
    assert grown.plan[0].width >= min(3.0 * rows.max(), 39)
    assert grown.plan[0].most >= min(3.0 * rows.sum(), 40 * 39)


def with_plan(neighbors, plan):
    return dataclasses.replace(neighbors, plan=plan)


@pytest.mark.parametrize("link", [False, True])
def test_overflow_when_the_cell_is_too_thin_for_the_plan(link):
    # Few atoms and many slots: only the images are missing.
    system = System(points(2), [1] * 2, np.eye(3) * 6.0)
    neighbors = planned(system, 2.9, link)
    wide = (dataclasses.replace(neighbors.plan[0], width=50, room=50 * link, most=None),)
    neighbors = update(system, allocate_like(neighbors, wide, system))
    assert not neighbors.overflow
    assert not update(system.replace(cell=system.cell * 0.985), neighbors).overflow
    assert update(system.replace(cell=system.cell * 0.9), neighbors).overflow
    assert update(
        system.replace(cell=system.cell * jnp.asarray([1.0, 0.5, 1.0])), neighbors
    ).overflow
    assert update(system.replace(cell=system.cell * jnp.nan), neighbors).overflow


def allocate_like(neighbors, plan, system):
    return allocate(neighbor_list(neighbors.cutoffs), system, previous=with_plan(neighbors, plan))


def test_overflow_when_other_directions_repeat():
    system = System(points(3), [1] * 3, np.eye(3) * 9.0, [True, True, False])
    neighbors = planned(system, 2.0)
    assert update(system.replace(pbc=jnp.asarray([True, True, True])), neighbors).overflow


def test_atoms_may_leave_where_nothing_repeats():
    system = System(points(40) * 2, [1] * 40)
    neighbors = planned(system, 2.0, True, capacity=2.0)
    moved = system.replace(positions=system.positions.at[3].add(jnp.asarray([30.0, -5.0, 9.0])))
    renewed = update(moved, neighbors)
    if not renewed.overflow:
        check(moved, renewed, 2.0)
    far = system.replace(positions=system.positions.at[3].set(1e6))
    renewed = update(far, neighbors)
    assert renewed.overflow or edges_of(renewed.pairs[0]) == brute_force(far, 2.0)


@pytest.mark.slow
def test_compression_and_expansion_agree_with_fresh_lists():
    rng = np.random.default_rng(5)
    grid = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), -1).reshape(-1, 3)
    system = System(grid * 1.9 + rng.normal(size=(64, 3)) * 0.1, [18] * 64, np.eye(3) * 7.6)
    potential = lennard_jones(3.0)
    energy_fn = bind(potential, potential.init(None, system))
    evaluate = jax.jit(lambda s, n: energy_and_forces(energy_fn)(s, n))
    lists = neighbor_list(3.0, skin=0.5)
    neighbors, allocations = allocate(lists, system), 0
    for scale in (1.0, 0.95, 0.9, 0.85, 0.8, 0.9, 1.0, 1.1, 1.3):
        moved = system.replace(positions=system.positions * scale, cell=system.cell * scale)
        renewed = update(moved, neighbors)
        if renewed.overflow:
            allocations += 1
            renewed = allocate(lists, moved, previous=neighbors)
        neighbors = renewed
        assert not neighbors.overflow
        fresh = lists.allocate(moved)
        for value, expected in zip(evaluate(moved, neighbors), evaluate(moved, fresh), strict=True):
            np.testing.assert_allclose(value, expected, rtol=0, atol=1e-10)
    assert 1 <= allocations <= 3


def test_refusals():
    lists = neighbor_list(2.0)
    for many in (stack([molecule(), molecule()]), pack([molecule(), molecule()])):
        with pytest.raises(ValueError, match="single system"):
            allocate(lists, many)
    with pytest.raises(ValueError, match="have no plan"):
        update_neighbors(molecule(), lists.allocate(molecule()))
    with pytest.raises(ValueError, match="for 5 atoms, the system has 4"):
        update_neighbors(molecule(atoms=4), allocate(lists, molecule()))
    with pytest.raises(TypeError, match="outside jit"):
        jax.jit(lambda s: allocate(lists, s))(molecule())
    with pytest.raises(ValueError, match="same cutoffs"):
        allocate(lists, molecule(), previous=allocate(neighbor_list([1.0, 2.0]), molecule()))


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.floats(0.0, 0.12), st.floats(0.0, 0.06))
def test_lists_that_are_not_stale_have_every_pair(seed, displacement, strain):
    rng = np.random.default_rng(seed)
    system = System(points(6, seed), [1] * 6, SKEW)
    neighbors = planned(system, 2.0, skin=0.5)
    deformation = np.eye(3) + strain * rng.normal(size=(3, 3))
    positions = np.asarray(system.positions) @ deformation
    positions += displacement * rng.normal(size=(6, 3)) + rng.normal(size=3)
    moved = system.replace(positions=jnp.asarray(positions), cell=system.cell @ deformation)
    if not is_stale(moved, system, neighbors):
        assert set(brute_force(moved, 2.0)) <= set(edges_of(neighbors.pairs[0]))


def test_when_lists_are_stale():
    system = crystal()
    neighbors = planned(system, 2.0, skin=0.5)
    apart = system.positions.at[0, 0].add(0.24).at[1, 0].add(-0.24)
    assert not is_stale(system.replace(positions=apart), system, neighbors)
    assert not is_stale(system.replace(positions=apart + 50.0), system, neighbors)
    farther = system.positions.at[0, 0].add(0.26).at[1, 0].add(-0.26)
    assert is_stale(system.replace(positions=farther), system, neighbors)
    assert is_stale(system.replace(positions=apart * jnp.nan), system, neighbors)
    # Scaled together, positions far from the origin move a lot, but pairs hardly do.
    far = system.replace(positions=system.positions + 40 * system.cell[0])
    scaled = far.replace(positions=far.positions * 1.02, cell=far.cell * 1.02)
    assert not is_stale(scaled, far, neighbors)
    assert is_stale(far.replace(cell=far.cell * 1.2), far, neighbors)
