import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from models import crystal, molecule

from jaxff.neighbors import Neighbors, Pairs, displacements, neighbor_list
from jaxff.system import System, pack, stack, strain

SKEW = np.array([[3.0, 0.0, 0.0], [1.5, 2.598, 0.0], [1.5, 0.866, 2.449]])


def edges(pairs: Pairs) -> list[tuple[int, ...]]:
    """The real pairs as sorted tuples (center, other, shifts)."""
    real = np.asarray(pairs.centers) < pairs.atoms
    table = np.column_stack([pairs.centers, pairs.others, pairs.shifts])[real]
    return sorted(map(tuple, table.tolist()))


def brute_force(system: System, cutoff: float) -> list[tuple[int, ...]]:
    """All pairs by trying every image that can possibly be near."""
    positions, cell, pbc = np.asarray(system.positions), np.zeros((3, 3)), [False] * 3
    if system.cell is not None:
        cell, pbc = np.asarray(system.cell), np.asarray(system.pbc)
    span = np.ptp(positions, axis=0)
    rows = cell[pbc]
    # Coefficients of a point d in terms of the lattice are bounded by |d| times the dual vectors.
    reach = np.zeros(3, int)
    reach[pbc] = np.ceil(
        (cutoff + np.linalg.norm(span)) * np.linalg.norm(np.linalg.pinv(rows), axis=0)
    )
    found = []
    for shift in itertools.product(*(range(-n, n + 1) for n in reach)):
        vectors = positions[None] + shift @ cell - positions[:, None]
        near = np.linalg.norm(vectors, axis=-1) < cutoff
        if not any(shift):
            np.fill_diagonal(near, False)
        found += [(i, j, *shift) for i, j in np.argwhere(near).tolist()]
    return sorted(found)


def points(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 3, (count, 3))


SYSTEMS = {
    "molecule": molecule(atoms=6),
    "molecule with a cell": System(points(5), [1] * 5, np.eye(3) * 2, [False] * 3),
    "cubic": System(points(6), [1] * 6, np.eye(3) * 7.0),
    "60 degree skew": System(points(4), [1] * 4, SKEW),
    "strong skew": System(points(3), [1] * 3, [[3.0, 0, 0], [8.0, 3.0, 0], [0, -7.0, 3.0]]),
    "one atom": System([[0.1, 0.2, 0.3]], [29], [[0, 1.8, 1.8], [1.8, 0, 1.8], [1.8, 1.8, 0]]),
    "smaller than the cutoff": System(points(2), [1] * 2, np.diag([1.2, 3.0, 2.0])),
    "slab": System(points(5), [1] * 5, SKEW, [True, True, False]),
    "slab, empty vector": System(points(5), [1] * 5, SKEW * [[1], [1], [0]], [1, 1, 0]),
    "slab, dependent vector": System(points(5), [1] * 5, SKEW[[0, 1, 0]], [True, True, False]),
    "wire": System(points(5), [1] * 5, SKEW, [True, False, False]),
    "wire, empty vectors": System(points(5), [1] * 5, np.diag([0, 0, 2.0]), [False, False, True]),
    "unwrapped": crystal(1),
    "far outside": System(points(3) + 1e3, [1] * 3, SKEW),
    "left-handed": System(points(3), [1] * 3, SKEW[::-1]),
    "on faces": System(
        np.array(list(itertools.product([0.0, 0.5, 1.0], [0.0, 1.0], [0.0]))) * 4.0 + 1e-13,
        [1] * 6,
        np.eye(3) * 4.0,
    ),
    "coincident": System(np.zeros((2, 3)), [1, 1], np.eye(3) * 4.0),
}


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("cutoff", [1.9, 4.1])
def test_pairs_are_those_of_brute_force(name, cutoff):
    system = SYSTEMS[name]
    found = edges(neighbor_list([cutoff]).allocate(system).within(cutoff))
    assert found == brute_force(system, cutoff)


@pytest.mark.parametrize("name", SYSTEMS)
def test_pairs_are_those_of_ase(name):
    from ase.neighborlist import primitive_neighbor_list

    system = SYSTEMS[name]
    cell = np.zeros((3, 3)) if system.cell is None else np.asarray(system.cell)
    pbc = [False] * 3 if system.pbc is None else np.asarray(system.pbc)
    cell = np.where(np.asarray(pbc)[:, None], cell, 0.0)
    if name.startswith("molecule"):
        cell = np.eye(3)
    else:
        from ase.geometry import complete_cell

        cell = complete_cell(cell)
    i, j, shifts = primitive_neighbor_list(
        "ijS", pbc, cell, np.asarray(system.positions), 3.3, self_interaction=False
    )
    expected = sorted(map(tuple, np.column_stack([i, j, shifts]).tolist()))
    assert edges(neighbor_list(3.3).allocate(system).within(3.3)) == expected


@settings(max_examples=60)
@given(
    st.integers(0, 10**6),
    st.integers(1, 5),
    st.floats(0.5, 4.0),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
def test_random_cells(seed, atoms, cutoff, pbc):
    rng = np.random.default_rng(seed)
    cell = rng.normal(size=(3, 3)) * 2.0
    assume(np.linalg.svd(cell, compute_uv=False)[-1] > 0.8)
    system = System(rng.uniform(-1.5, 2.5, (atoms, 3)) @ cell, [1] * atoms, cell, pbc)
    found = edges(neighbor_list([cutoff]).allocate(system).within(cutoff))
    assert found == brute_force(system, cutoff)


def test_layout():
    neighbors = neighbor_list([2.5, 4.0], capacity=1.25).allocate(crystal())
    for cutoff in (2.5, 4.0):
        pairs = neighbors.within(cutoff)
        count = len(edges(pairs))
        centers = np.asarray(pairs.centers)
        assert (np.diff(centers) >= 0).all()
        assert 1.25 * count <= len(centers) <= 1.25 * 1.25 * count + 8
        assert (centers[count:] == 3).all()
        assert (np.asarray(pairs.others)[count:] == 3).all()
        assert not np.asarray(pairs.shifts)[count:].any()
        reverse = sorted((j, i, -x, -y, -z) for i, j, x, y, z in edges(pairs))
        assert reverse == edges(pairs)
    assert not neighbors.overflow


def test_similar_counts_share_a_shape():
    lengths = {
        len(neighbor_list(3.0).allocate(molecule(seed, 12)).within(3.0).centers)
        for seed in range(20)
    }
    assert len(lengths) <= 3


def test_skin_and_capacity_of_each_cutoff():
    system = crystal()
    both = neighbor_list([2.0, 3.0], skin=[0.5, 0.0], capacity=[1.0, 3.0]).allocate(system)
    assert edges(both.within(2.0)) == brute_force(system, 2.5)
    assert edges(both.within(3.0)) == brute_force(system, 3.0)
    assert len(both.within(3.0).centers) >= 3 * len(brute_force(system, 3.0))
    assert both.skins == (0.5, 0.0)


def test_no_pairs_and_no_cutoffs():
    alone = neighbor_list(2.0).allocate(System(np.zeros((1, 3)), [1])).within(2.0)
    assert edges(alone) == []
    assert len(alone.centers) > 0
    assert neighbor_list(()).allocate(molecule()).pairs == ()


def test_molecules_take_any_cutoff():
    """The search by cells would take a minute for 1000 Å around one atom, and hours for this."""
    for atoms in (1, 5):
        pairs = neighbor_list(1e5).allocate(molecule(0, atoms)).pairs[0]
        assert np.sum(np.asarray(pairs.centers) < atoms) == atoms * (atoms - 1)


def test_within_names_what_there_is():
    neighbors = neighbor_list([2.0, 4.5]).allocate(molecule())
    with pytest.raises(ValueError, match=r"cutoff of 3.0 Å: available are \(2.0, 4.5\)"):
        neighbors.within(3.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cutoffs": [0.0]}, "cutoffs must be positive"),
        ({"cutoffs": [np.inf]}, "cutoffs must be positive"),
        ({"cutoffs": [1.0], "skin": -0.1}, "skin must be finite and at least 0"),
        ({"cutoffs": [1.0], "capacity": 0.9}, "capacity must be finite and at least 1"),
        ({"cutoffs": [1.0], "skin": [0.1, 0.2]}, "skin must be one number or one per cutoff"),
    ],
)
def test_bad_settings(arguments, message):
    with pytest.raises(ValueError, match=message):
        neighbor_list(**arguments)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_positions_that_are_not_finite(bad):
    positions = points(4)
    positions[2, 1] = bad
    with pytest.raises(ValueError, match="atom 2 is at"):
        neighbor_list(2.0).allocate(System(positions, [1] * 4))
    # The place of padding means nothing.
    neighbor_list(2.0).allocate(System(positions, [1, 1, 0, 1]))


@pytest.mark.parametrize(
    ("cell", "pbc", "message"),
    [
        (np.zeros((3, 3)), True, "must be independent"),
        (SKEW[[0, 1, 0]], True, "must be independent"),
        (SKEW[[0, 0, 1]], [True, True, False], "must be independent"),
        (SKEW * np.nan, True, "cell must be finite"),
    ],
)
def test_impossible_cells(cell, pbc, message):
    with pytest.raises(ValueError, match=message):
        neighbor_list(2.0).allocate(System(points(2), [1, 1], cell, pbc))
    both = pack([System(points(2), [1, 1], c, pbc) for c in (SKEW, cell)])
    with pytest.raises(ValueError, match="structure 1"):
        neighbor_list(2.0).allocate(both)


def test_stacks_and_traces_are_refused():
    with pytest.raises(ValueError, match="use pack"):
        neighbor_list(2.0).allocate(stack([molecule(), molecule()]))
    with pytest.raises(TypeError, match="outside jit"):
        jax.jit(neighbor_list(2.0).allocate)(molecule())


def test_pack_joins_the_lists_of_its_structures():
    systems = [crystal(0), crystal(1, 1), crystal(2, 2)]
    packed = neighbor_list(3.0).allocate(pack(systems)).within(3.0)
    offsets = [0, 3, 4]
    expected = [
        (i + offset, j + offset, *shift)
        for system, offset in zip(systems, offsets, strict=True)
        for i, j, *shift in brute_force(system, 3.0)
    ]
    assert edges(packed) == sorted(expected)


def test_pack_of_mixed_periodicity_with_padding():
    slab = System(points(3), [1] * 3, SKEW, [True, True, False])
    bulk = System(points(2), [1] * 2, SKEW)
    packed = pack([slab, bulk])
    numbers = np.asarray(packed.numbers).copy()
    numbers[4] = 0
    mask = jnp.asarray([True, False])
    pairs = neighbor_list(3.1).allocate(packed.replace(numbers=jnp.asarray(numbers))).within(3.1)
    images = [edge[:2] for edge in edges(pairs) if edge[0] > 2]
    assert images == [(3, 3)] * 12
    assert edges(pairs)[:-12] == brute_force(slab, 3.1)
    only = neighbor_list(2.9).allocate(packed.replace(structure_mask=mask)).within(2.9)
    assert edges(only) == brute_force(slab, 2.9)


def test_structures_may_interleave():
    both = System(points(6), [1] * 6, structure=[0, 1, 0, 1, 1, 0], structure_mask=[True, True])
    pairs = neighbor_list(9.0).allocate(both).within(9.0)
    assert (np.diff(np.asarray(pairs.centers)) >= 0).all()
    groups = ({0, 2, 5}, {1, 3, 4})
    expected = [(i, j) for g in groups for i, j in itertools.permutations(g, 2)]
    assert [e[:2] for e in edges(pairs)] == sorted(expected)


@pytest.mark.parametrize("name", SYSTEMS)
def test_displacements(name):
    system = SYSTEMS[name]
    pairs = neighbor_list(2.9).allocate(system).within(2.9)
    vectors, mask = jax.jit(displacements)(system, pairs)
    vectors, mask = np.asarray(vectors), np.asarray(mask)
    assert mask.sum() == len(brute_force(system, 2.9))
    assert (np.linalg.norm(vectors[mask], axis=1) < 2.9).all()
    np.testing.assert_allclose(np.linalg.norm(vectors[~mask], axis=1), 1.0)
    cell = np.zeros((3, 3)) if system.cell is None else np.asarray(system.cell)
    positions = np.asarray(system.positions)
    expected = [positions[j] + s @ cell - positions[i] for i, j, *s in brute_force(system, 2.9)]
    np.testing.assert_allclose(vectors[mask], np.reshape(expected, (-1, 3)), atol=1e-12)


def test_displacements_follow_the_strain():
    deformation = jnp.asarray([[0.1, 0.02, 0.0], [0.02, -0.05, 0.03], [0.0, 0.03, 0.2]])
    for system in (crystal(), pack([crystal(0), crystal(1, 1)])):
        pairs = neighbor_list(3.0).allocate(system).within(3.0)
        before, mask = jax.jit(displacements)(system, pairs)
        after, _ = jax.jit(displacements)(strain(system, deformation), pairs)
        expected = before @ (jnp.eye(3) + deformation)
        np.testing.assert_allclose(after[mask], expected[mask], atol=1e-12)


def test_displacements_have_finite_gradients():
    system = System(np.zeros((2, 3)), [1, 1], np.eye(3) * 2.0)
    pairs = neighbor_list(2.1).allocate(system).within(2.1)

    def total(system):
        vectors, mask = displacements(system, pairs)
        return jnp.sum(jnp.where(mask, jnp.exp(-jnp.sum(vectors**2, axis=-1)), 0.0))

    gradient = jax.jit(jax.grad(total, allow_int=True))(system)
    assert np.isfinite(gradient.positions).all()
    assert np.isfinite(gradient.cell).all()
    assert np.abs(gradient.cell).max() > 0


def test_displacements_refuse_what_does_not_belong():
    pairs = neighbor_list(2.0).allocate(molecule()).within(2.0)
    with pytest.raises(ValueError, match="allocated for 5 atoms, the system has 4"):
        displacements(molecule(atoms=4), pairs)
    with pytest.raises(ValueError, match=r"stack of shape \(2,\)"):
        displacements(stack([molecule(), molecule()]), pairs)


def test_neighbors_are_a_pytree():
    neighbors = neighbor_list([2.0, 3.0]).allocate(molecule())
    leaves, tree = jax.tree.flatten(neighbors)
    assert len(leaves) == 7
    rebuilt = tree.unflatten([object()] * 7)
    assert isinstance(rebuilt, Neighbors)
    assert rebuilt.cutoffs == (2.0, 3.0)
    jitted = jax.jit(lambda n: n.within(3.0))(neighbors)
    assert edges(jitted) == edges(neighbors.within(3.0))
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), neighbors)
    both = stack([molecule(), molecule()])
    vectors, _ = jax.vmap(lambda s, n: displacements(s, n.within(3.0)))(both, stacked)
    assert vectors.shape[0] == 2
    paths = jax.tree_util.tree_leaves_with_path(neighbors)
    assert jax.tree_util.keystr(paths[0][0]) == ".pairs[0].centers"


def test_buffers_of_another_length_hold_the_same_pairs():
    """Of rows with gaps too: what is cut off is padding, never a pair."""
    shifts = jnp.asarray([[0, 0, 0], [1, 0, 0], [0, 0, 0], [0, 2, 0]], jnp.int32)
    centers, others = (jnp.asarray(x, jnp.int32) for x in ([0, 0, 1, 1], [2, 1, 2, 0]))
    rows = Pairs(centers, others, shifts, atoms=2, width=2)  # an empty slot leads each row
    for room in (2, 3, 7):
        found = rows.resized(room)
        assert len(found.centers) == len(found.others) == len(found.shifts) == room
        assert edges(found) == [(0, 1, 1, 0, 0), (1, 0, 0, 2, 0)]
    assert rows.resized(1) is rows


def test_a_stack_has_the_lists_of_its_systems_in_rows():
    systems = stack([System(points(3, seed), [1, 6, 1], SKEW) for seed in range(4)])
    lists = neighbor_list((2.0, 3.5), skin=0.2)
    found = lists.allocate_stack(systems)
    assert found.overflow.shape == (4,)
    for i in range(4):
        own = lists.allocate(jax.tree.map(lambda leaf, i=i: leaf[i], systems))
        for pairs, expected in zip(found.pairs, own.pairs, strict=True):
            mine = jax.tree.map(lambda leaf, i=i: leaf[i], pairs)
            assert mine.width is not None
            assert mine.centers.tolist() == np.repeat(np.arange(3), mine.width).tolist()
            assert rows_of(mine) == rows_of(expected)
    most = max(np.bincount([row[0] for row in rows_of(p)]).max() for p in own.pairs)
    assert found.pairs[1].width >= most
    nested = jax.tree.map(lambda leaf: leaf.reshape(2, 2, *leaf.shape[1:]), systems)
    assert lists.allocate_stack(nested).pairs[0].shifts.shape[:2] == (2, 2)


def rows_of(pairs):
    real = np.asarray(pairs.others) < pairs.atoms
    table = np.concatenate([np.asarray(x).reshape(len(real), -1) for x in (
        pairs.centers, pairs.others, pairs.shifts)], axis=1)[real]  # fmt: skip
    return table.tolist()


def test_stacks_have_leading_axes():
    with pytest.raises(ValueError, match="use allocate"):
        neighbor_list(2.0).allocate_stack(molecule())
    both = stack([molecule(), molecule()])
    with pytest.raises(TypeError, match="outside jit"):
        jax.jit(neighbor_list(2.0).allocate_stack)(both)
    far = both.replace(positions=100.0 * both.positions)
    assert neighbor_list(2.0).allocate_stack(far).pairs[0].width == 1
