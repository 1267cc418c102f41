"""HDF5: both layouts, round trips of anything, units that somebody says, damage."""

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mixed_frames import assert_same, mixed

from jaxff import units
from jaxff.data import hdf5_flat, read_frames, write_hdf5
from jaxff.data.frame import Frame

SPICE = {"energy_key": "dft_total_energy", "gradient_key": "dft_total_gradient"}
UNITS = {
    "conformations": "bohr",
    "dft_total_energy": "hartree",
    "dft_total_gradient": "hartree/bohr",
}


def grouped(path, stated=UNITS):
    """Two molecules, 2 and 3 conformations, in atomic units."""
    rng = np.random.default_rng(5)
    with h5py.File(path, "w") as file:
        for name, numbers, count in (("ammonia", [7, 1, 1, 1], 2), ("water", [8, 1, 1], 3)):
            group = file.create_group(name)
            shape = (count, len(numbers), 3)
            group["atomic_numbers"] = numbers
            group["conformations"] = rng.normal(size=shape)
            group["dft_total_energy"] = rng.normal(size=count)
            group["dft_total_gradient"] = rng.normal(size=shape)
            group["mbis_charges"] = rng.normal(size=(*shape[:2], 1))
            group["total_charge"] = [1]
            for key, unit in stated.items():
                group[key].attrs["units"] = unit
    return h5py.File(path, "r")


def test_groups_are_read_in_the_units_of_the_file(tmp_path):
    path = tmp_path / "spice.hdf5"
    raw = grouped(path)
    options = {"labels": {"partial_charges": ("mbis_charges", "e")}, "charge_key": "total_charge"}
    frames = read_frames(path, **SPICE, **options)
    assert len(frames) == 5
    assert frames.counts == {"energy": 5, "forces": 5, "partial_charges": 5}
    frame, group = frames[3], raw["water"]
    assert frame.group == "water"
    assert frame.charge == 1.0
    assert frames.kind(3)[0].tolist() == [8, 1, 1]
    assert frame.positions == pytest.approx(group["conformations"][1] * units.BOHR)
    assert frame.labels["energy"] == pytest.approx(group["dft_total_energy"][1] * units.HARTREE)
    gradient = group["dft_total_gradient"][1] * units.HARTREE / units.BOHR
    assert frame.labels["forces"] == pytest.approx(-gradient)
    assert frame.labels["partial_charges"] == pytest.approx(group["mbis_charges"][1, :, 0])
    assert "frame 3 ('water', conformation 1)" in frames.where(3)
    with pytest.raises(
        ValueError, match=r"'dft_total_energy'.* in 'hartree' by the file and in 'eV'"
    ):
        read_frames(path, **SPICE, energy_unit="eV")[0]
    with pytest.raises(ValueError, match=r"keys.*|'E' \(energy\) is in no group; the first has"):
        read_frames(path, energy_key="E")
    with pytest.raises(ValueError, match="forces_key or gradient_key"):
        read_frames(path, **SPICE, forces_key="F")


def test_units_that_nobody_says_are_not_guessed(tmp_path):
    path = tmp_path / "bare.h5"
    raw = grouped(path, stated={})
    with pytest.raises(
        ValueError, match=r"bare\.h5: 'dft_total_energy' .* has no unit in the file"
    ):
        read_frames(path, **SPICE, length_unit="bohr")[0]
    with pytest.raises(ValueError, match="'conformations' of 'ammonia' has no unit"):
        read_frames(path)[0]
    frame = read_frames(path, **SPICE, energy_unit="hartree", length_unit="bohr")[0]
    gradient = raw["ammonia/dft_total_gradient"][0] * units.HARTREE / units.BOHR
    assert frame.labels["forces"] == pytest.approx(-gradient)
    with pytest.raises(ValueError, match="unknown unit 'furlong'"):
        read_frames(path, **SPICE, energy_unit="furlong")


def test_labels_that_are_not_numbers_are_errors_or_missing(tmp_path):
    path = tmp_path / "nan.h5"
    grouped(path).close()
    with h5py.File(path, "r+") as file:
        file["water/dft_total_energy"][1] = np.nan
    with pytest.raises(ValueError, match=r"nan\.h5: frame 3 .*energy not finite"):
        read_frames(path, **SPICE)[3]
    frames = read_frames(path, **SPICE, nan_is_missing=True)
    assert set(frames[3].labels) == {"forces"}
    assert set(frames[2].labels) == {"energy", "forces"}


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(hdf5_flat, "_BLOCK", 3)


@pytest.mark.usefixtures("small_blocks")
def test_any_frames_are_written_and_read_back(tmp_path):
    """Labels come and go between blocks; the first and the last lack some."""
    frames = mixed(11, cells=True)
    for index in (4, 5, 10):
        atoms = len(frames[index])
        frames[index].labels["hessian"] = np.random.default_rng(index).normal(
            size=(atoms, 3, atoms, 3)
        )
        frames[index].labels["partial_charges"] = np.arange(1.0, atoms + 1)
    path = tmp_path / "all.h5"
    write_hdf5(path, frames)
    again = tmp_path / "again.h5"
    write_hdf5(again, read_frames(path))
    for source in (path, again):
        found = read_frames(source)
        assert len(found) == 11
        assert found.counts["hessian"] == 3
        for index, frame in enumerate(frames):
            assert_same(found[index], frame)
            assert found.kind(index)[1] == frame.group
    with pytest.raises(ValueError, match="keys and units are in the file"):
        read_frames(path, energy_unit="eV")
    write_hdf5(path, frames[:1])  # replaces
    assert len(read_frames(path)) == 1


@pytest.mark.usefixtures("small_blocks")
@settings(max_examples=15)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=8),
    data=st.data(),
)
def test_which_frames_have_labels_is_kept(sizes, data, tmp_path_factory):
    names = st.sets(st.sampled_from(["energy", "forces", "stress", "dipole", "partial_charges"]))
    shapes = {"energy": (), "stress": (3, 3), "dipole": (3,)}
    frames = []
    for size in sizes:
        own = {**shapes, "forces": (size, 3), "partial_charges": (size,)}
        labels = {name: np.full(own[name], 0.5) for name in data.draw(names)}
        positions = np.arange(3.0 * size).reshape(size, 3)
        frames.append(Frame(np.full(size, 18), positions, labels, spin=float(size)))
    path = tmp_path_factory.mktemp("h") / "a.h5"
    write_hdf5(path, frames)
    found = read_frames(path)
    for one, other in zip(found, frames, strict=True):
        assert_same(one, other)


def test_damage_names_the_file(tmp_path):
    path = tmp_path / "a.h5"
    write_hdf5(path, mixed(5))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"a\.h5: not an intact HDF5 file"):
        read_frames(path)
    path.write_bytes(whole)
    with h5py.File(path, "r+") as file:
        file["positions"].resize(2, axis=0)
    with pytest.raises(ValueError, match=r"a\.h5: not intact: 5 frames of 14 atoms .* 2 positions"):
        read_frames(path)
    path.write_bytes(whole)
    with h5py.File(path, "r+") as file:
        file["labels/energy"].attrs["units"] = "hartree"
    with pytest.raises(ValueError, match=r"a\.h5: not intact .energy is in 'hartree'"):
        read_frames(path)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1.0
    with pytest.raises(ValueError, match=r"neither .* nor groups with 'conformations'; it has x"):
        read_frames(tmp_path / "other.h5")
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_frames(tmp_path / "absent.h5")


def test_nothing_is_left_of_a_file_that_could_not_be_written(tmp_path):
    frames = mixed(3)
    frames[2].labels["energy"] = np.asarray(np.inf)
    with pytest.raises(ValueError, match="energy not finite"):
        write_hdf5(tmp_path / "a.h5", frames)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="no frames to write"):
        write_hdf5(tmp_path / "a.h5", [])
