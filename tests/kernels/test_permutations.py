"""Recovery of permutation groups from synthetic frames and from the rMD17 molecules."""

import itertools

import numpy as np
import pytest

from jaxff.kernels.matching import distance_matrices
from jaxff.kernels.permutations import _ranges_meet, inverse, is_group, recover
from jaxff.system import System

PHI = (1.0 + 5.0**0.5) / 2.0
SIGNS = (1.0, -1.0)
TETRAHEDRON = 0.63 * np.array([(0, 0, 0), (1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)])
OCTAHEDRON = 2.5 * np.concatenate([np.eye(3), -np.eye(3)])
ICOSAHEDRON = 2.0 * np.array(
    [(0, 0, 0)]
    + [np.roll((0, s, t * PHI), n) for s, t, n in itertools.product(SIGNS, SIGNS, range(3))]
)
COVALENT = {1: 0.31, 6: 0.76, 7: 0.71, 8: 0.66}  # Å


def rattled(positions, frames, amplitude=0.1, seed=0):
    shape = (frames, *np.shape(positions))
    return positions + amplitude * np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize(
    ("positions", "numbers", "order"),
    [(TETRAHEDRON, [6, 1, 1, 1, 1], 24), (OCTAHEDRON, [18] * 6, 48), (ICOSAHEDRON, [18] * 13, 120)],
    ids=["methane", "octahedron", "icosahedron"],
)
@pytest.mark.parametrize("frames", [20, 200])
def test_symmetric_structures(positions, numbers, order, frames):
    group = recover(System(rattled(positions, frames), np.array(numbers)))
    assert len(group) == order
    assert is_group(group)
    # Every element maps the structure that was rattled to itself.
    distances = distance_matrices(positions[None])[0]
    for p in group:
        np.testing.assert_allclose(distances[p][:, p], distances, atol=1e-12)


def test_gas_of_seven_equal_atoms_has_all_5040():
    systems = System(2.0 * np.random.default_rng(0).normal(size=(100, 7, 3)), np.full(7, 18))
    group = recover(systems)
    assert group.shape == (5040, 7)
    np.testing.assert_array_equal(group[0], np.arange(7))


def test_too_large_a_group_is_refused_with_advice():
    systems = System(2.0 * np.random.default_rng(0).normal(size=(60, 8, 3)), np.full(8, 18))
    with pytest.raises(ValueError, match=r"more than max_order = 10000 .*raise max_order"):
        recover(systems)
    assert len(recover(systems, max_order=None)) == 40320


def test_translations_and_point_group_of_a_crystal():
    grid = np.array(list(itertools.product(range(3), repeat=3)))
    systems = System(rattled(3.0 * grid, 20), np.full(27, 29), 9.0 * np.eye(3))
    group = recover(systems)
    assert len(group) == 27 * 48
    rows = {tuple(p) for p in group}
    for shift in grid:
        assert tuple(np.ravel_multi_index(((grid + shift) % 3).T, (3, 3, 3))) in rows
    # Without the periodic directions only the point group of the cube is left.
    cluster = System(rattled(3.0 * grid, 20), np.full(27, 29))
    assert len(recover(cluster)) == 48


def test_rock_salt_of_64_atoms():
    face = np.array([(0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0)])
    unit = np.concatenate([face, face + 1])
    cells = 2 * np.array(list(itertools.product(range(2), repeat=3)))
    positions = 2.8 * (cells[:, None] + unit).reshape(-1, 3)
    numbers = np.tile([11] * 4 + [17] * 4, 8)
    group = recover(System(rattled(positions, 12), numbers, 11.2 * np.eye(3)))
    assert len(group) == 32 * 48
    assert (numbers[group] == numbers).all()


def test_a_rotation_seen_once_brings_its_inverse():
    frame = np.random.default_rng(0).normal(size=(6, 3))
    turn = np.array([0, 1, 3, 4, 2, 5])
    group = recover(System(np.stack([frame, frame[turn]]), np.array([6, 8, 1, 1, 1, 7])))
    assert len(group) == 3
    rows = {tuple(p) for p in group}
    assert {tuple(turn), tuple(inverse(turn))} <= rows


def test_ranges_that_do_not_meet_refuse_a_permutation():
    # Two bonds of 1 and 2 Å to the first atom, then one that stretches from the one to the other.
    bonds = np.stack([np.full(5, 1.0), np.full(5, 2.0), np.linspace(1.0, 2.0, 5)], axis=1)
    positions = np.zeros((5, 4, 3))
    positions[:, [1, 2, 3], [0, 1, 2]] = bonds
    swaps = np.array([[0, 2, 1, 3], [0, 3, 2, 1], [0, 1, 3, 2]])
    distances = distance_matrices(positions)
    np.testing.assert_array_equal(_ranges_meet(distances, swaps, 0.1), [False, True, True])
    assert _ranges_meet(distances, swaps, 1.0).all()


@pytest.mark.parametrize(
    ("positions", "numbers"),
    [
        (np.zeros((1, 1, 3)), [6]),
        (np.random.default_rng(0).normal(size=(3, 3)), [8, 1, 1]),
        (np.random.default_rng(0).normal(size=(1, 5, 3)), [6, 1, 1, 1, 1]),
        (np.random.default_rng(0).normal(size=(9, 3, 3)), [6, 7, 8]),
        (np.tile(TETRAHEDRON, (4, 1, 1)), [6, 1, 1, 1, 1]),
        (np.zeros((3, 2, 3)), [1, 1]),
    ],
    ids=["atom", "single", "one frame", "all different", "equal frames", "coincident atoms"],
)
def test_nothing_to_exchange_gives_the_identity(positions, numbers):
    group = recover(System(positions, np.array(numbers)))
    np.testing.assert_array_equal(group, np.arange(len(numbers))[None])


def test_results_are_reproducible_and_subsets_are_drawn():
    systems = System(rattled(TETRAHEDRON, 400), np.array([6, 1, 1, 1, 1]))
    first = recover(systems, max_geometries=50, seed=3)
    np.testing.assert_array_equal(first, recover(systems, max_geometries=50, seed=3))
    assert len(first) == 24
    assert len(recover(systems, max_geometries=1)) == 1


def frames_with(change):
    positions, numbers = rattled(TETRAHEDRON, 6), np.tile([6, 1, 1, 1, 1], (6, 1))
    change(positions, numbers)
    return System(positions, numbers)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r, z: r.__setitem__((4, 2, 0), np.nan), r"frame 4 is not \(1 such frames\)"),
        (lambda r, z: r.__setitem__((2, 2, 0), np.inf), "frame 2 is not"),
        (lambda r, z: z.__setitem__((3, 1), 9), "frame 3 has other atoms than frame 0"),
        (lambda r, z: z.__setitem__((slice(None), 4), 0), "padding"),
    ],
    ids=["nan", "infinite", "mixed", "padded"],
)
def test_bad_frames_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        recover(frames_with(change))


def test_bad_arguments():
    systems = System(rattled(TETRAHEDRON, 3), np.array([6, 1, 1, 1, 1]))
    with pytest.raises(ValueError, match="max_geometries must be at least 1"):
        recover(systems, max_geometries=0)
    with pytest.raises(ValueError, match="frames, atoms, 3"):
        recover(System(np.zeros((0, 5, 3)), np.array([6, 1, 1, 1, 1])))
    pack = System(
        np.zeros((2, 3)), np.array([1, 1]), structure=np.array([0, 1]), structure_mask=[True, True]
    )
    with pytest.raises(ValueError, match="got a pack"):
        recover(pack)


def molecule(data_dir, name):
    with np.load(data_dir / "rmd17" / f"rmd17_{name}.npz", allow_pickle=False) as file:
        return file["R"], file["z"], file["split_train_01"]


def keeps_bonds(group, positions, numbers):
    """Whether each permutation is an automorphism of the graph of the (mean) bonds."""
    radii = np.array([COVALENT[int(z)] for z in numbers])
    bonded = distance_matrices(positions).mean(axis=0) < 1.3 * (radii[:, None] + radii)
    return all((bonded[p][:, p] == bonded).all() for p in group)


ORDERS = {
    "ethanol": 6,
    "malonaldehyde": 4,
    "uracil": 1,
    "benzene": 12,
    "toluene": 12,
    "aspirin": 6,
    "naphthalene": 4,
    "azobenzene": 8,
}


@pytest.mark.parametrize("name", ORDERS)
def test_groups_of_molecules(name, data_dir):
    positions, numbers, train = molecule(data_dir, name)
    group = recover(System(positions[train], numbers))
    assert len(group) == ORDERS[name]
    assert (numbers[group] == numbers).all()
    assert keeps_bonds(group, positions[train], numbers)


@pytest.mark.parametrize("name", ["ethanol", "malonaldehyde", "benzene", "aspirin", "azobenzene"])
@pytest.mark.parametrize("frames", [60, 200])
def test_small_subsets_give_no_false_elements(name, frames, data_dir):
    positions, numbers, train = molecule(data_dir, name)
    whole = {tuple(p) for p in recover(System(positions[train[:300]], numbers))}
    for seed in range(2):
        index = np.random.default_rng(seed).choice(len(positions), frames, replace=False)
        group = recover(System(positions[index], numbers), seed=seed)
        assert {tuple(p) for p in group} <= whole
        assert len(group) == ORDERS[name] or (name == "azobenzene" and frames == 60)


def test_frames_of_one_well_give_a_subgroup(data_dir):
    # The methyl group has not turned in the first 60 of the frames, which are ordered in time.
    positions, numbers, _ = molecule(data_dir, "ethanol")
    assert len(recover(System(positions[:60], numbers))) == 2


@pytest.mark.golden
@pytest.mark.parametrize("name", ["ethanol", "malonaldehyde"])
def test_same_group_as_sgdml(name, reference_dir):
    path = reference_dir / f"sgdml_{name}_200.npz"
    with np.load(path, allow_pickle=False) as file:
        group = recover(System(file["train_R"], file["z"]))
        np.testing.assert_array_equal(group, np.unique(file["perms"], axis=0))
