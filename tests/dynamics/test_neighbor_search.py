import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from models import crystal, molecule
from test_neighbors import SKEW, SYSTEMS, brute_force, edges, points

from jaxff.dynamics.neighbor_update import SearchPlan, allocate, update_neighbors
from jaxff.neighbors import displacements, neighbor_list, sum_pairs
from jaxff.system import System, stack

update = jax.jit(update_neighbors)


def planned(system, cutoff, link=None, **named):
    return allocate(neighbor_list(cutoff, **named), system, link=link)


def check(system, neighbors, radius):
    """Rows of all pairs within the radius, in the promised layout."""
    (pairs,) = neighbors.pairs
    assert edges_of(pairs) == brute_force(system, radius)
    np.testing.assert_array_equal(pairs.centers, np.repeat(np.arange(pairs.atoms), pairs.width))
    others = np.asarray(pairs.others).reshape(pairs.atoms, pairs.width)
    real = others < pairs.atoms
    assert (others[~real] == pairs.atoms).all()
    assert not np.asarray(pairs.shifts)[~real.ravel()].any()
    # Padding comes last in every row.
    assert (np.diff(real.astype(int), axis=1) <= 0).all()


def edges_of(pairs):
    """Real pairs of a list with rows."""
    real = np.asarray(pairs.others) < pairs.atoms
    table = np.column_stack([pairs.centers, pairs.others, pairs.shifts])[real]
    return sorted(map(tuple, table.tolist()))


def generous(link, pbc, cell=True):
    """Lists of 6 atoms with a plan for thin cells and many neighbours."""
    system = System(points(6), [1] * 6, np.eye(3) if cell else None, pbc if cell else None)
    reach = tuple(5 if p else link for p in pbc)
    grid = tuple(link if p else 3 * link for p in pbc)
    plan = SearchPlan(2.1, 400, pbc, reach, grid, 6 * link)
    return dataclasses.replace(neighbor_list(2.1).allocate(system), plan=(plan,))


def to_six(system):
    """The system with padding atoms; some lie on real ones."""
    more = 6 - system.atom_count
    positions = jnp.concatenate([system.positions, jnp.tile(system.positions[:1], (more, 1))])
    return system.replace(positions=positions, numbers=jnp.pad(system.numbers, (0, more)))


@pytest.mark.parametrize("link", [False, True])
@pytest.mark.parametrize("name", SYSTEMS)
def test_rows_are_those_of_brute_force_and_of_the_host(name, link):
    system = SYSTEMS[name]
    pbc = (False,) * 3 if system.pbc is None else tuple(np.asarray(system.pbc).tolist())
    neighbors = update(to_six(system), generous(link, pbc, system.cell is not None))
    assert not neighbors.overflow
    check(system, neighbors, 2.1)
    assert edges_of(neighbors.pairs[0]) == edges(neighbor_list(2.1).allocate(system).pairs[0])


@pytest.mark.parametrize("link", [False, True])
@pytest.mark.parametrize("name", ["molecule", "60 degree skew", "slab, empty vector", "on faces"])
def test_planned_rows_are_those_of_brute_force(name, link):
    neighbors = planned(SYSTEMS[name], 4.1, link)
    assert not neighbors.overflow
    assert neighbors.plan[0].linked == link
    check(SYSTEMS[name], neighbors, 4.1)


@pytest.mark.parametrize("link", [False, True])
@pytest.mark.parametrize(
    "pbc", [pytest.param((True, True, True), marks=pytest.mark.slow), (True, True, False)]
)
def test_random_cells_give_all_pairs_or_overflow(link, pbc):
    neighbors = generous(link, pbc)

    @settings(max_examples=40)
    @given(st.integers(0, 10**6), st.floats(0.6, 4.0), st.integers(1, 6))
    def examine(seed, scale, real):
        rng = np.random.default_rng(seed)
        cell = rng.normal(size=(3, 3)) * scale
        assume(np.linalg.svd(cell, compute_uv=False)[-1] > 0.4 * scale)
        positions = rng.uniform(-2.5, 3.5, (real, 3)) @ cell
        system = System(positions, [1] * real, cell, pbc)
        renewed = update(to_six(system), neighbors)
        if not renewed.overflow:
            assert edges_of(renewed.pairs[0]) == brute_force(system, 2.1)

    examine()
    for scale, overflow in ((2.0, False), (0.3, True)):
        cell = SKEW / 2.0 * scale
        system = System(points(6) @ np.linalg.inv(SKEW) @ cell, [1] * 6, cell, pbc)
        assert update(system, neighbors).overflow == overflow


def test_grid_cells_are_used_where_they_pay():
    rng = np.random.default_rng(0)
    cell = np.eye(3) * 30.0
    system = System(rng.uniform(-10, 40, (2500, 3)), [18] * 2500, cell)
    neighbors = planned(system, 3.0)
    assert neighbors.plan[0].linked
    assert neighbors.plan[0].candidates(2500) < 600
    assert edges_of(neighbors.pairs[0]) == edges(neighbor_list(3.0).allocate(system).within(3.0))
    assert not planned(system, 12.0).plan[0].linked


@pytest.mark.slow
def test_blocks_change_nothing(monkeypatch):
    from jaxff.dynamics import neighbor_search

    system = System(points(23) * 2, [1] * 23, SKEW * 2)
    expected = [planned(system, 2.2, link).pairs[0] for link in (False, True)]
    monkeypatch.setattr(neighbor_search, "_BLOCK", 7 * 23 * 27)
    jax.clear_caches()
    for link, pairs in zip((False, True), expected, strict=True):
        again = planned(system, 2.2, link).pairs[0]
        for one, other in zip(jax.tree.leaves(pairs), jax.tree.leaves(again), strict=True):
            np.testing.assert_array_equal(one, other)
    jax.clear_caches()


@pytest.mark.parametrize("link", [False, True])
def test_padding_atoms_never_pair(link):
    system = System(points(6), [1, 0, 1, 1, 0, 1], SKEW)
    pairs = planned(system, 2.5, link).pairs[0]
    real = [0, 2, 3, 5]
    smaller = System(system.positions[np.array(real)], [1] * 4, SKEW)
    expected = [(real[i], real[j], *s) for i, j, *s in brute_force(smaller, 2.5)]
    assert edges_of(pairs) == sorted(expected)


def test_one_compilation_for_all_positions_and_cells():
    traces = []

    @jax.jit
    def count(system, neighbors):
        traces.append(1)
        return update_neighbors(system, neighbors)

    system = System(points(8), [1] * 8, SKEW * 1.5)
    neighbors = planned(system, 2.0, skin=0.4, capacity=2.0)
    for scale in (1.0, 1.01, 1.2):
        neighbors = count(
            system.replace(positions=system.positions * scale, cell=system.cell * scale), neighbors
        )
    # The plan of before serves, and compares equal.
    again = allocate(neighbor_list(2.0, skin=0.4, capacity=2.0), system, previous=neighbors)
    count(system, again)
    assert again.plan is neighbors.plan or again.plan == neighbors.plan
    assert len(traces) == 1


def test_within_scan_and_vmap():
    system = crystal()
    neighbors = planned(system, 2.5, skin=0.3, capacity=2.0)
    shifts = 0.05 * np.random.default_rng(0).normal(size=(4, 3, 3))

    def step(carry, shift):
        moved = system.replace(positions=system.positions + shift)
        renewed = update_neighbors(moved, carry)
        return renewed, renewed.pairs[0].others

    last, history = jax.jit(lambda n: jax.lax.scan(step, n, jnp.asarray(shifts)))(neighbors)
    check(system.replace(positions=system.positions + shifts[-1]), last, 2.8)
    many = stack([system.replace(positions=system.positions + s) for s in shifts])
    batched = jax.jit(jax.vmap(update_neighbors, in_axes=(0, None)))(many, neighbors)
    assert batched.overflow.shape == (4,)
    np.testing.assert_array_equal(batched.pairs[0].others, history)


def test_float32():
    system = System(points(30).astype(np.float32) * 2, [1] * 30, (SKEW * 2).astype(np.float32))
    neighbors = planned(system, 2.03)
    assert edges_of(neighbors.pairs[0]) == edges(neighbor_list(2.03).allocate(system).pairs[0])


def test_several_cutoffs():
    system = System(points(6), [1] * 6, SKEW)
    neighbors = allocate(neighbor_list([1.5, 3.05], skin=[0.2, 0.0]), system)
    assert edges_of(neighbors.within(1.5)) == brute_force(system, 1.7)
    assert edges_of(neighbors.within(3.05)) == brute_force(system, 3.05)


def test_no_cutoffs_and_no_neighbours():
    none = allocate(neighbor_list(()), molecule())
    assert update(molecule(), none).pairs == ()
    alone = planned(System(np.zeros((1, 3)), [1]), 2.0)
    assert alone.pairs[0].width == 1
    assert edges_of(alone.pairs[0]) == []


def test_sums_over_rows():
    system = SYSTEMS["60 degree skew"]
    rows, flat = planned(system, 3.0).pairs[0], neighbor_list(3.0).allocate(system).pairs[0]

    def total(pairs):
        vectors, mask = displacements(system, pairs)
        return sum_pairs(pairs, jnp.where(mask[:, None], vectors**2, 0.0))

    np.testing.assert_allclose(total(rows), total(flat), atol=1e-12)
    assert total(rows).shape == (4, 3)
