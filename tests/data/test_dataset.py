"""Dataset: validation names frames, subsets keep their provenance."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxff.data.dataset import Dataset


def water(frames=6, **fields):
    rng = np.random.default_rng(0)
    base = np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
    fields.setdefault("positions", base + 0.05 * rng.normal(size=(frames, 3, 3)))
    fields.setdefault(
        "values", {"energy": rng.normal(size=frames), "forces": rng.normal(size=(frames, 3, 3))}
    )
    return Dataset(numbers=fields.pop("numbers", np.array([8, 1, 1])), **fields)


def test_fields_are_read_only_and_typed():
    data = water(numbers=[8, 1, 1])
    assert len(data) == 6
    assert data.numbers.dtype == np.int64
    assert data.formula == "H2 O1"
    assert data.is_whole
    assert "6 frames" in repr(data)
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.name = "x"
    with pytest.raises(ValueError, match="read-only"):
        data.positions[0] = 0.0
    with pytest.raises(TypeError):
        data.values["energy"] = None


def test_labels():
    data = water()
    assert set(data.labels()) == {"energy", "forces"}
    assert data.labels("forces")["forces"] is data.values["forces"]
    with pytest.raises(ValueError, match="no label 'stress'; there are: energy, forces"):
        data.labels("stress")
    with pytest.raises(ValueError, match="unknown quantity 'force'"):
        data.labels("force")


@given(st.lists(st.integers(-6, 5), max_size=9))
def test_subset_keeps_provenance(index):
    data = water(
        cell=10 * np.eye(3),
        pbc=[True, True, False],
        charge=np.arange(6.0),
        per_frame={"temperature": np.arange(6) * 100},
        splits={"split_train_01": np.array([0, 5])},
        fingerprint="abc",
    )
    part = data[index]
    assert len(part) == len(index)
    assert np.array_equal(part.indices, np.arange(6)[index])
    assert np.array_equal(part.per_frame["temperature"], 100 * part.indices)
    assert np.array_equal(part.charge, part.indices)
    assert np.array_equal(part.positions, data.positions[part.indices])
    assert np.array_equal(part.values["energy"], data.values["energy"][part.indices])
    assert part.cell.shape == (len(index), 3, 3)
    assert part.fingerprint == "abc"
    assert part.source_length == 6
    assert np.array_equal(part.splits["split_train_01"], [0, 5])
    nested = part[::-1]
    assert np.array_equal(nested.indices, part.indices[::-1])


def test_slices_masks_and_drop():
    data = water()
    assert np.array_equal(data[1:4].indices, [1, 2, 3])
    assert np.array_equal(data[np.arange(6) % 2 == 0].indices, [0, 2, 4])
    assert np.array_equal(data[-1].indices, [5])
    assert np.array_equal(data.drop([1, -1]).indices, [0, 2, 3, 4])
    assert not data.drop(0).is_whole
    with pytest.raises(IndexError, match="frame 6 asked for"):
        data[[0, 6]]
    with pytest.raises(ValueError, match="one entry per frame: 6, got 2"):
        data[np.array([True, False])]
    with pytest.raises(ValueError, match="picked by"):
        data[[0.5]]


def test_systems_are_a_stack():
    data = water(cell=10 * np.eye(3), charge=-1.0)
    systems = data.systems
    assert systems.positions.shape == (6, 3, 3)
    assert systems.numbers.shape == (6, 3)
    assert systems.cell.shape == (6, 3, 3)
    assert np.array_equal(systems.pbc, np.ones((6, 3), bool))
    assert np.array_equal(systems.charge, -np.ones(6))
    assert np.array_equal(systems.positions, data.positions)
    assert systems.positions.dtype == np.float64
    assert water().systems.cell is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"numbers": np.array([8, 1])}, "positions have 3 atoms, numbers name 2"),
        ({"numbers": np.array([0, 1, 1])}, r"must be 1 to 118, got \[0\]"),
        ({"numbers": np.array([200, 1, 1])}, r"must be 1 to 118, got \[200\]"),
        ({"numbers": np.array([8.0, 1.0, 1.0])}, "numbers must hold numbers"),
        ({"positions": np.zeros((6, 9))}, r"expected positions of shape \(frames, atoms, 3\)"),
        ({"positions": np.array(["a"])}, "positions must hold numbers"),
        ({"values": {"energy": np.zeros(5)}}, r"energy must have shape \(6,\), got \(5,\)"),
        ({"values": {"energy": np.zeros((6, 1))}}, r"energy must have shape \(6,\)"),
        ({"values": {"force": np.zeros((6, 3, 3))}}, "unknown quantity 'force'"),
        ({"cell": np.eye(2)}, "cell must have shape"),
        ({"cell": np.zeros((3, 3))}, "cell without volume in frame 0"),
        ({"pbc": [True, True, True]}, "pbc is given without a cell"),
        ({"pbc": [1.5]}, "pbc must be three booleans"),
        ({"indices": [0, 1]}, "indices must be 6"),
        ({"indices": [-1, 1, 2, 3, 4, 5]}, "non-negative"),
        ({"permutations": [[0, 1]]}, r"shape \(perms, 3\)"),
        ({"permutations": [[0, 1, 1]]}, "permutation 0 is not an order"),
        ({"permutations": [[0, 1, 2], [1, 0, 2]]}, "permutation 1 exchanges different elements"),
        ({"per_frame": {"temperature": np.zeros(2)}}, "temperature must have 6 rows"),
    ],
)
def test_what_does_not_fit_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        water(**fields)


def test_slab_with_a_zero_third_vector_is_fine():
    data = water(cell=np.diag([9.0, 9.0, 0.0]), pbc=[True, True, False])
    assert data.cell.shape == (6, 3, 3)


def test_invalid_frames_are_named_by_source_index():
    data = water()
    forces = data.values["forces"].copy()
    forces[[2, 4], 1, 0] = [np.nan, np.inf]
    indices = np.array([10, 11, 12, 13, 14, 15])
    with pytest.raises(ValueError, match=r"set.npz: forces not finite in frame 12, 14; .*drop"):
        water(values={"forces": forces}, indices=indices, source="set.npz")
    positions = data.positions.copy()
    positions[3, 2] = positions[3, 0] + 1e-8
    with pytest.raises(ValueError, match="two atoms at one point in frame 3"):
        water(positions=positions)
    positions[0] = np.inf
    with pytest.raises(ValueError, match=r"positions not finite in frame 0; two atoms .* frame 3"):
        water(positions=positions)


def test_one_atom_one_frame_and_none():
    atom = Dataset(numbers=np.array([18]), positions=np.zeros((2, 1, 3)))
    assert np.array_equal(atom.duplicates, [[0, 1]])
    assert len(atom[[]]) == 0
    assert atom[[]].systems.positions.shape == (0, 1, 3)
    with pytest.raises(ValueError, match="at least one"):
        Dataset(numbers=np.zeros(0, int), positions=np.zeros((2, 0, 3)))


def test_planar_and_close_atoms_are_not_coincident():
    plane = np.zeros((1, 25, 3))
    plane[0, :, :2] = np.stack(np.meshgrid(np.arange(5.0), np.arange(5.0)), -1).reshape(-1, 2)
    Dataset(numbers=np.full(25, 6), positions=plane)


def test_duplicates():
    data = water()
    positions = data.positions.copy()
    positions[4] = positions[1]
    positions[5] = positions[1]
    assert np.array_equal(water(positions=positions).duplicates, [[1, 4], [1, 5]])
    assert data.duplicates.shape == (0, 2)
