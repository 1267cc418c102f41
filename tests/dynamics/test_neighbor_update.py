import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from models import crystal, lennard_jones, molecule
from test_neighbors import SKEW, SYSTEMS, brute_force, edges, points

from jaxff.derivatives import energy_and_forces
from jaxff.dynamics.neighbor_update import SearchPlan, allocate, is_stale, update_neighbors
from jaxff.neighbors import displacements, neighbor_list, sum_pairs
from jaxff.potential import bind
from jaxff.system import System, pack, stack

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
@pytest.mark.parametrize("pbc", [(True, True, True), (True, True, False)])
def test_random_cells_give_all_pairs_or_overflow(link, pbc):
    neighbors = generous(link, pbc)
    seen = []

    @settings(deadline=None, max_examples=40)
    @given(st.integers(0, 10**6), st.floats(0.6, 4.0), st.integers(1, 6))
    def examine(seed, scale, real):
        rng = np.random.default_rng(seed)
        cell = rng.normal(size=(3, 3)) * scale
        assume(np.linalg.svd(cell, compute_uv=False)[-1] > 0.4 * scale)
        positions = rng.uniform(-2.5, 3.5, (real, 3)) @ cell
        system = System(positions, [1] * real, cell, pbc)
        renewed = update(to_six(system), neighbors)
        seen.append(bool(renewed.overflow))
        if not renewed.overflow:
            assert edges_of(renewed.pairs[0]) == brute_force(system, 2.1)

    examine()
    assert 0 < np.mean(seen) < 0.8  # both happen


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


def test_grid_cells_are_used_where_they_pay():
    rng = np.random.default_rng(0)
    cell = np.eye(3) * 30.0
    system = System(rng.uniform(-10, 40, (2500, 3)), [18] * 2500, cell)
    neighbors = planned(system, 3.0)
    assert neighbors.plan[0].linked
    assert neighbors.plan[0].candidates(2500) < 600
    assert edges_of(neighbors.pairs[0]) == edges(neighbor_list(3.0).allocate(system).within(3.0))
    assert not planned(system, 12.0).plan[0].linked


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
    wide = (dataclasses.replace(roomy.plan[0], width=59),)
    roomy = allocate(neighbor_list(2.5, capacity=3.0), spread, previous=with_plan(roomy, wide))
    assert roomy.plan[0].width == 59
    assert update(corner, roomy).overflow


def with_plan(neighbors, plan):
    return dataclasses.replace(neighbors, plan=plan)


@pytest.mark.parametrize("link", [False, True])
def test_overflow_when_the_cell_is_too_thin_for_the_plan(link):
    # Few atoms and many slots: only the images are missing.
    system = System(points(2), [1] * 2, np.eye(3) * 6.0)
    neighbors = planned(system, 2.9, link)
    wide = (dataclasses.replace(neighbors.plan[0], width=50, room=50 * link),)
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
    neighbors = allocate(neighbor_list([1.5, 3.0], skin=[0.2, 0.0]), system)
    assert edges_of(neighbors.within(1.5)) == brute_force(system, 1.7)
    assert edges_of(neighbors.within(3.0)) == brute_force(system, 3.0)


def test_no_cutoffs_and_no_neighbours():
    none = allocate(neighbor_list(()), molecule())
    assert update(molecule(), none).pairs == ()
    alone = planned(System(np.zeros((1, 3)), [1]), 2.0)
    assert alone.pairs[0].width == 1
    assert edges_of(alone.pairs[0]) == []


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


def test_sums_over_rows():
    system = SYSTEMS["60 degree skew"]
    rows, flat = planned(system, 3.0).pairs[0], neighbor_list(3.0).allocate(system).pairs[0]

    def total(pairs):
        vectors, mask = displacements(system, pairs)
        return sum_pairs(pairs, jnp.where(mask[:, None], vectors**2, 0.0))

    np.testing.assert_allclose(total(rows), total(flat), atol=1e-12)
    assert total(rows).shape == (4, 3)


@settings(deadline=None, max_examples=40)
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
