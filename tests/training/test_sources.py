"""The data of a configuration: which frames, from where, in which batches; nothing is compiled."""

import ase.io
import numpy as np
import pytest
from ase import Atoms

from jaxff.data.frames import where
from jaxff.training.config import read_config
from jaxff.training.sources import open_parts
from jaxff.training.workflow import prepare

COUNT = 40
TEXT = """
[model]
name = "schnet"
cutoff = 3.0
features = 4
[loss]
energy = 1
forces = 1
[training]
epochs = 1
seed = 5
[data]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Water in an npz file with index arrays and two sets of labels, and mixed frames as XYZ."""
    path, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    places = np.array([[0.0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]])
    places = places + 0.05 * rng.normal(size=(COUNT, 3, 3))
    np.savez(
        path / "water.npz", type="d", z=np.array([8, 1, 1]), R=places, E=np.arange(COUNT) - 100.0,
        F=0 * places, E_other=np.arange(COUNT) / 2, F_other=1 + 0 * places, e_unit="kcal/mol",
        r_unit="Ang", split_a=np.array([7, 3, 11]), split_b=np.arange(3, 30),
        split_mask=np.arange(COUNT) >= 37,
    )  # fmt: skip
    np.savez(path / "splits.npz", few=np.array([1, 0]))
    frames = [Atoms("OHH", places[i]) if i % 2 else Atoms("CO", places[i, :2]) for i in range(6)]
    for i, frame in enumerate(frames):
        frame.info["my_energy"] = -float(i)
        frame.arrays["my_forces"] = 0 * frame.positions
    ase.io.write(path / "mixed.xyz", frames, format="extxyz")
    return path


def config(folder, data, text=TEXT):
    (folder / "run.toml").write_text(text + data)
    return read_config(folder / "run.toml")


def parts(folder, data):
    made = config(folder, data)
    return open_parts(made.data, made.folder)


def numbers(frames):
    """Frames of the file, whatever they were taken through."""
    return [int(where(frames, i).rpartition(" ")[2]) for i in range(len(frames))]


def test_parts_are_named_drawn_and_disjoint(folder):
    found = parts(
        folder,
        'path = "water.npz"\ntrain = {split = "split_a"}\nvalid = {split = "split_b", count = 9}\n'
        "test = 0.2\nseed = 3",
    )
    assert numbers(found.train) == [7, 3, 11]
    # As numpy draws from those of the split that no other part names.
    pool = np.setdiff1d(np.arange(3, 30), [7, 3, 11])
    np.testing.assert_array_equal(
        numbers(found.valid), np.random.default_rng(3).permutation(pool)[:9]
    )
    assert len(found.test) == 8
    assert not set(numbers(found.test)) & {*numbers(found.train), *numbers(found.valid)}
    masked = parts(folder, 'path = "water.npz"\ntrain = 12\ntest = {split = "split_mask"}')
    assert numbers(masked.test) == [37, 38, 39]
    assert len(set(numbers(masked.train)) - {37, 38, 39}) == 12
    assert masked.units == {"energy": "kcal/mol", "forces": "kcal/mol/Ang"}
    other = parts(folder, 'path = "water.npz"\ntrain = 12\nseed = 1')
    assert other.valid is None
    assert numbers(other.train) != numbers(masked.train)


def test_files_of_their_own_inherit_and_override(folder, monkeypatch):
    monkeypatch.setenv("MIXED", str(folder))
    found = parts(
        folder,
        'energy_key = "E_other"\nforces_key = "F_other"\n'
        'train = {path = ["water.npz", "water.npz"]}\n'
        'valid = {path = "$MIXED/mixed.xyz", energy_key = "my_energy", forces_key = "my_forces"}\n'
        'test = {path = "water.npz", energy_key = "E", forces_key = "F", split = "few", '
        'index_file = "splits.npz"}',
    )
    assert [len(part) for part in found[:3]] == [2 * COUNT, 6, 2]
    assert found.train[COUNT + 4].labels["energy"] == pytest.approx(2.0 / 23.060548, rel=1e-6)
    assert (found.valid[3].labels["energy"], len(found.valid[2].numbers)) == (-3.0, 2)
    assert numbers(found.test) == [1, 0]
    assert found.test[0].labels["energy"] == pytest.approx(-99.0 / 23.060548, rel=1e-6)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("valid = 3", "needs train: a count, a fraction, a path, or a table"),
        ("train = 3", r"\[data\] train needs a path"),
        ("train = true", r"\[data\] train must be a table, got True"),
        ('train = "absent.npz"', "absent.npz: no such file"),
        ('train = "$NOWHERE/a.npz"', r"\$NOWHERE/a.npz: an environment variable .* not set"),
        ('train = "water.txt"', "no reader for '.txt'"),
        ('path = "water.npz"\ntrain = 39\nvalid = 2', "train 39, valid 2 .* but there are 40"),
        ('path = "water.npz"\ntrain = 3\nvalid = {}', "train and valid are of one file: say a"),
        ('path = "water.npz"\ntrain = 1.5', "fraction must lie between 0 and 1, got 1.5"),
        ('path = "water.npz"\ntrain = {count = 1, fraction = 0.1}', "count or fraction, not both"),
        ('path = "water.npz"\ntrain = {cuont = 1}', r"option 'cuont' \(did you mean 'count'"),
        ('path = "water.npz"\ntrain = {split = "split_c"}', r"'split_c' in .*did you mean 'split_"),
        ('train = {path = "mixed.xyz", split = "a"}', "only npz files hold index arrays"),
        (
            'path = "water.npz"\ntrain = {split = "few", index_file = "water.npz"}',
            r"water.npz: no array 'few'",
        ),
        (
            'path = "water.npz"\ntrain = {split = "split_a"}\nvalid = {split = "split_b"}',
            "train and valid must be disjoint, but share 3 frames",
        ),
        (
            'path = "water.npz"\ntrain = {split = "split_a"}\n'
            'test = {split = "split_b", energy_key = "E_other", forces_key = "F_other"}',
            "train and test must be disjoint, but share 3 frames",
        ),
        (
            'train = {path = "water.npz"}\ntest = {path = "./water.npz"}',
            "train and test must be disjoint, but share 40 frames",
        ),
        (
            'path = "water.npz"\ntrain = {split = "split_a", count = 4}',
            "4 frames of 'split_a' asked for, 3 left",
        ),
        ('path = "water.npz"\nstress_key = "s"\ntrain = 3', r"stress_key has no meaning for .npz"),
        ('path = "water.npz"\nlabels = {dipole = ["mu"]}\ntrain = 3', r"must be \[key, unit\]"),
        ('path = "water.npz"\ntrain = 3\ndraw = "randm"', "did you mean 'random'"),
        ('path = "water.npz"\ntrain = 3\nbatchsize = 3', "did you mean 'batch_size'"),
        ('train = "mixed.xyz"', r"\[data\] train: label 'energy' is in none of the 6 frames"),
    ],
)
def test_what_is_wrong_with_the_data_is_named(folder, data, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        prepare(config(folder, data + "\nreference_energies = false"))


def test_frames_that_make_errors_look_small_or_have_no_pairs_are_told_of(folder):
    copied = np.load(folder / "water.npz")
    np.savez(folder / "copy.npz", **{name: copied[name] for name in copied})
    data = 'train = {path = "water.npz", count = 30}\ntest = {path = "copy.npz", count = 20}'
    with (
        pytest.warns(UserWarning, match="frames repeat training frames") as said,
        pytest.warns(UserWarning, match="30 of 30 training frames of several atoms have no pair"),
    ):
        job = prepare(config(folder, data, TEXT.replace("3.0", "0.1")))
    places = [sorted(numbers(getattr(job, name)._prepared.frames)) for name in ("train", "test")]
    repeats = len(set(places[0]) & set(places[1]))
    assert str(said[0].message).startswith(f"{repeats} validation or test frames")


def test_elements_that_the_network_cannot_know_are_refused(folder):
    known = np.load(folder / "water.npz")
    np.savez(folder / "other.npz", **{**known, "z": np.array([6, 1, 1])})
    data = 'train = {path = "water.npz", count = 30}\ntest = "other.npz"\n'
    data += "reference_energies = false"
    with pytest.raises(ValueError, match=r"test has the atomic numbers \[6\], which no training"):
        prepare(config(folder, data))
    small = TEXT.replace("features = 4", "features = 4\nmax_number = 7")
    with pytest.raises(ValueError, match=r"train has the atomic numbers \[8\], for which the netw"):
        prepare(config(folder, data, small))


def test_batches_follow_from_the_configuration(folder):
    data = 'path = "water.npz"\ntrain = 20\nvalid = 7\nbatch_size = 5\nvalid_batch_size = 7\n'
    job = prepare(config(folder, data))
    again = prepare(config(folder, data + "seed = 0"))
    assert (len(job.train), len(job.valid), job.test, job.steps) == (4, 1, None, 4)
    batch, same = job.train.batch(1, 2), again.train.batch(1, 2)
    np.testing.assert_array_equal(batch.indices, same.indices)
    np.testing.assert_array_equal(batch.labels["energy"], same.labels["energy"])
    order = np.random.default_rng((5, 1)).permutation(20)  # the seed of [training], the epoch
    np.testing.assert_array_equal(batch.indices, order[10:15])
    assert batch.system.is_packed
    assert batch.neighbors.cutoffs == (3.0,)
    frames = open_parts(job.config.data, folder).train
    energies = [frames[int(i)].labels["energy"] for i in batch.indices]
    offsets = job.reference.values[8] + 2 * job.reference.values[1]
    np.testing.assert_allclose(batch.labels["energy"], np.array(energies) - offsets)
    assert job.model.spec.builder == "scale_shift"
    given = config(folder, data + "reference_energies = {O = -3.0}\nprefetch = 0")
    assert prepare(given).reference.values[8] == -3.0
    bare = prepare(config(folder, data + "reference_energies = false"))
    assert bare.reference is None
    assert bare.model is bare.network
    with pytest.raises(ValueError, match="names no test frames"):
        job.test_errors({})


def test_potentials_without_cutoffs_get_stacks_and_parts_come_together(folder):
    data = 'train = {path = "mixed.xyz", energy_key = "my_energy", forces_key = "my_forces"}\n'
    text = TEXT.replace('"schnet"\ncutoff = 3.0\n', '"geomatt"\nfilters = 8\nlayers = 1\n')
    text = text.replace("seed = 5", "seed = 5\naccumulate = 2")
    job = prepare(config(folder, data + "batch_size = 2", text))
    batch = job.train.batch(0, 0)
    assert batch.system.positions.shape == (2, 2, 3, 3)  # parts, structures, atoms
    assert batch.neighbors is None
    assert job.parameters() > 1000
