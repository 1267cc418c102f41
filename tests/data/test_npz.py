"""sGDML data sets: keys, fingerprint, units; damaged and hostile files are refused by name."""

import contextlib
import hashlib
import io
import os
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib import format as npy

from jaxff import units
from jaxff.data import archive, npz
from jaxff.data.dataset import Dataset
from jaxff.data.npz_safety import read_objects

KCAL = units.KCAL_PER_MOL


def arrays(frames=5, **changes):
    """A small data set as a file has it."""
    rng = np.random.default_rng(1)
    base = np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
    result = {
        "type": "d",
        "name": "water",
        "theory": "toy",
        "R": base + 0.1 * rng.normal(size=(frames, 3, 3)),
        "z": np.array([8, 1, 1], np.uint8),
        "E": rng.normal(size=frames),
        "F": rng.normal(size=(frames, 3, 3)),
        "e_unit": "kcal/mol",
        "r_unit": "Ang",
    }
    result.update(changes)
    return {k: v for k, v in result.items() if v is not None}


@pytest.fixture
def save(tmp_path):
    def save(frames=5, **changes):
        np.savez_compressed(tmp_path / "set.npz", **arrays(frames, **changes))
        return tmp_path / "set.npz"

    return save


def test_read_converts_once(save):
    path, raw = save(), arrays()
    data = npz.read(path)
    assert np.array_equal(data.positions, raw["R"])
    assert data.values["energy"] == pytest.approx(raw["E"] * KCAL, rel=1e-15)
    assert data.values["forces"] == pytest.approx(raw["F"] * KCAL, rel=1e-15)
    assert (data.name, data.theory, data.energy_unit, data.length_unit) == (
        "water",
        "toy",
        "kcal/mol",
        "Ang",
    )
    assert data.source == str(path)
    assert np.array_equal(data.indices, np.arange(5))
    assert data.is_whole
    assert data.fingerprint == npz.fingerprint(raw["z"], raw["R"], raw["E"], raw["F"])


def test_bohr_and_hartree(save):
    raw = arrays()
    data = npz.read(save(e_unit="au", r_unit="au"))
    assert data.positions == pytest.approx(raw["R"] * units.BOHR)
    assert data.values["forces"] == pytest.approx(raw["F"] * units.HARTREE / units.BOHR)
    mixed = npz.read(save(e_unit="hartree", r_unit="Ang"), forces_unit="hartree/bohr")
    assert np.array_equal(mixed.positions, raw["R"])
    assert mixed.values["forces"] == pytest.approx(raw["F"] * units.HARTREE / units.BOHR)


def test_fingerprint_is_the_published_rule():
    raw = arrays()
    parts = b"".join(hashlib.md5(raw[k].tobytes()).digest() for k in ("z", "R", "E", "F"))
    assert (
        npz.fingerprint(*(raw[k] for k in ("z", "R", "E", "F"))) == hashlib.md5(parts).hexdigest()
    )
    # number types count, memory order does not, absent energies are left out
    as_int64 = npz.fingerprint(raw["z"].astype(int), raw["R"], raw["E"], raw["F"])
    assert as_int64 != hashlib.md5(parts).hexdigest()
    fortran = npz.fingerprint(raw["z"], np.asfortranarray(raw["R"]), raw["E"], raw["F"])
    assert fortran == hashlib.md5(parts).hexdigest()
    no_energy = b"".join(hashlib.md5(raw[k].tobytes()).digest() for k in ("z", "R", "F"))
    assert npz.fingerprint(raw["z"], raw["R"], None, raw["F"]) == hashlib.md5(no_energy).hexdigest()


def test_fingerprints_of_published_files(data_dir):
    water = npz.read(data_dir / "mbgdml" / "1h2o-dset.npz")
    assert water.fingerprint == "cd18188f38933a680a4184a5ae68e055"
    assert water.unread == ("r_prov_ids",)
    path = data_dir / "ethanol_ccsdt" / "ethanol_ccsd_t-train.npz"
    with pytest.raises(ValueError, match=r"does not say its unit \(e_unit\); pass energy_unit"):
        npz.read(path)
    ethanol = npz.read(path, energy_unit="kcal/mol", length_unit="Ang")
    # column energies, bytes as text, one-byte atomic numbers: the md5 stored by the original
    assert ethanol.fingerprint == npz.text(ethanol.metadata["md5"])
    assert ethanol.values["energy"].shape == (1000,)
    assert ethanol.name == "ethanol_ccsd"


def test_rmd17_labels_and_splits(data_dir):
    path = data_dir / "rmd17" / "rmd17_ethanol.npz"
    revised = npz.read(path)
    original = npz.read(path, energy_key="E_md17", forces_key="F_md17")
    assert original.unread == ("E", "F")
    assert set(original.splits) == {
        f"split_{k}_0{i}" for k in ("train", "test") for i in range(1, 6)
    }
    assert "idx_md17" in original.per_frame
    assert revised.fingerprint != original.fingerprint
    with np.load(path) as file:
        assert original.values["forces"] == pytest.approx(file["F_md17"].astype(float) * KCAL)
        assert revised.values["energy"] == pytest.approx(file["E"] * KCAL, rel=1e-14)
    with pytest.raises(ValueError, match="would mix two sets of labels"):
        npz.read(path, energy_key="E_md17")
    with pytest.raises(ValueError, match="no array 'E_MD17'; present: type, name"):
        npz.read(path, energy_key="E_MD17", forces_key="F_md17")


def test_periodic_files(data_dir):
    silicon = npz.read(data_dir / "mlearn" / "Si_aimd_64_0.npz")
    assert silicon.cell.shape == (100, 3, 3)
    assert silicon.pbc.all()
    with np.load(data_dir / "mlearn" / "Si_aimd_64_0.npz") as file:
        assert np.array_equal(silicon.cell[7], file["lattice"].T)
    assert set(silicon.splits) == {"is_train"}
    assert silicon.systems.cell.shape == (100, 3, 3)


def test_models_are_not_data(data_dir, save):
    for name in ("mbgdml/1h2o-model-gdml.npz", "h3o2m/h3o2m_sgdml_model.npz"):
        with pytest.raises(ValueError, match=r"trained model: load models with jaxff.interfaces"):
            npz.read(data_dir / name)
    model = npz.read_archive(data_dir / "mbgdml" / "1h2o-model-gdml.npz")
    assert model["f_err"].item()["mae"] == pytest.approx(2.663e-4, rel=1e-3)
    assert model["md5_test"].item() is None
    npz.check_type(model, "m", "x")
    with pytest.raises(ValueError, match="expected a trained model, but the file is a data set"):
        npz.check_type(npz.read_archive(save()), "m", "x")
    with pytest.raises(ValueError, match="of unknown type 'q'"):
        npz.read(save(type="q"))
    with pytest.raises(ValueError, match="a training task"):
        npz.read(save(type="t"))


def test_units_are_never_guessed(save):
    with pytest.raises(ValueError, match=r"set.npz.*energy_unit="):
        npz.read(save(e_unit=None))
    with pytest.raises(ValueError, match="length_unit="):
        npz.read(save(r_unit=None))
    with pytest.raises(ValueError, match="energy_unit="):
        npz.read(save(e_unit="unknown"))
    with pytest.raises(ValueError, match=r"e_unit: unknown unit 'kcals'; known: eV"):
        npz.read(save(e_unit="kcals"))
    with pytest.raises(ValueError, match=r"energy_unit='eV' contradicts the file.*'kcal/mol'"):
        npz.read(save(), energy_unit="eV")
    with pytest.raises(ValueError, match="length_unit='bohr' contradicts"):
        npz.read(save(), length_unit="bohr")
    agreed = npz.read(save(), energy_unit="kcal mol-1", length_unit="Angstrom")
    given = npz.read(save(e_unit=None, r_unit=None), energy_unit="kcal/mol", length_unit="Å")
    assert np.array_equal(agreed.values["energy"], given.values["energy"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"R": np.zeros((5, 9))}, r"R must have shape \(frames, atoms, 3\), got \(5, 9\)"),
        ({"E": np.zeros(4)}, r"E \(energy\) must have shape \(5,\), got \(4,\)"),
        ({"E": np.zeros((5, 2))}, r"E \(energy\) must have shape"),
        ({"F": np.zeros((5, 2, 3))}, r"F \(forces\) must have shape \(5, 3, 3\)"),
        ({"F": np.zeros((5, 3, 3), complex)}, "F must hold numbers"),
        ({"z": np.array([8, 1])}, "positions have 3 atoms, numbers name 2"),
        ({"z": np.array([[8, 1, 1]] * 4 + [[1, 8, 1]])}, "frame 4 has other elements"),
        ({"z": np.array(["O", "H", "H"])}, "numbers must hold numbers"),
        ({"R": None}, "no array 'R'; present: type"),
        ({"E": None, "F": None}, "no labels: neither 'E' nor 'F'"),
        ({"lattice": np.eye(2)}, "lattice must have shape"),
        ({"lattice": np.zeros((3, 3))}, "cell without volume"),
        (
            {"lattice": np.eye(3) + np.eye(3, k=1), "cell": np.eye(3) + np.eye(3, k=1)},
            "cell must be the transpose",
        ),
        ({"perms": np.array([[1, 0, 2]])}, "permutation 0 exchanges different elements"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_file_name(save, changes, message):
    with pytest.raises(ValueError, match=r"set\.npz.*" + message):
        npz.read(save(**changes))


def test_invalid_frames_and_their_remedies(save):
    forces = arrays()["F"]
    forces[3] = np.nan
    path = save(F=forces)
    with pytest.raises(ValueError, match=r"forces not finite in frame 3; .*skip_invalid"):
        npz.read(path)
    for options in ({"drop": [3]}, {"skip_invalid": True}):
        data = npz.read(path, **options)
        assert np.array_equal(data.indices, [0, 1, 2, 4])
        assert np.array_equal(data.skipped, [3])
        assert not data.is_whole
        assert data.source_length == 5
        # the fingerprint is that of the file, so that indices keep their meaning
        assert data.fingerprint == npz.fingerprint(
            arrays()["z"], arrays()["R"], arrays()["E"], forces
        )
    with pytest.raises(ValueError, match=r"drop names frames outside 0 to 4: \[5\]"):
        npz.read(path, drop=[5])


def test_missing_labels_and_extra_labels(save):
    assert list(npz.read(save(E=None)).values) == ["forces"]
    assert list(npz.read(save(F=None)).values) == ["energy"]
    dipole = np.ones((5, 3))
    data = npz.read(save(mu=dipole), labels={"dipole": ("mu", "Debye")})
    assert data.values["dipole"] == pytest.approx(dipole * units.DEBYE)
    assert "dipole" not in npz.read(save(dipole=dipole)).values  # no unit is said
    tagged = npz.read(save(dipole=dipole, dipole_unit="e*bohr"))
    assert tagged.values["dipole"] == pytest.approx(dipole * units.BOHR)
    with pytest.raises(ValueError, match="unknown quantity 'mu'"):
        npz.read(save(mu=dipole), labels={"mu": ("mu", "Debye")})
    charged = npz.read(save(charge=-1))
    assert np.array_equal(charged.charge, -np.ones(5))


def full(**changes):
    raw = arrays()
    fields = {
        "numbers": raw["z"],
        "positions": raw["R"],
        "values": {"energy": raw["E"], "forces": raw["F"], "dipole": raw["R"][:, 0]},
        "cell": np.array([[9.0, 0, 0], [1, 9, 0], [2, 3, 9]]),
        "permutations": [[0, 1, 2], [0, 2, 1]],
        "splits": {"split_train_01": np.array([0, 3])},
        "per_frame": {"temperature": np.arange(5)},
        "metadata": {"kT": np.array(0.6)},
        "name": "water",
        "theory": "toy",
    }
    return Dataset(**(fields | changes))


def test_written_file_has_every_key_of_the_format(tmp_path):
    path = tmp_path / "out.npz"
    data = full()
    npz.write(path, data, energy_unit="kcal/mol")
    with np.load(path, allow_pickle=False) as file:
        raw = dict(file)
    assert raw["type"].dtype == "<U1"
    assert raw["type"] == "d"
    assert str(raw["code_version"]).startswith("jaxff")
    assert raw["md5"].dtype == "S32"
    assert raw["md5"].item().decode() == npz.fingerprint(*(raw[k] for k in ("z", "R", "E", "F")))
    assert raw["E"].shape == (5,)
    assert raw["E"] == pytest.approx(data.values["energy"] / KCAL)
    assert np.array_equal(raw["lattice"], data.cell[0].T)  # columns
    assert np.array_equal(raw["perms"], [[0, 1, 2], [0, 2, 1]])
    for key in "EF":
        for what in ("min", "max", "mean", "var"):
            assert raw[f"{key}_{what}"].shape == ()
            assert raw[f"{key}_{what}"] == getattr(np, what)(raw[key])
    assert (str(raw["e_unit"]), str(raw["r_unit"])) == ("kcal/mol", "Ang")


def test_round_trip_is_exact_in_internal_units(tmp_path):
    path = tmp_path / "out.npz"
    data = full()
    npz.write(path, data)
    again = npz.read(path)
    assert np.array_equal(again.positions, data.positions)
    assert set(again.values) == {"energy", "forces", "dipole"}
    for name, array in data.values.items():
        assert np.array_equal(again.values[name], array)
    for name in ("numbers", "cell", "permutations"):
        assert np.array_equal(getattr(again, name), getattr(data, name))
    assert np.array_equal(again.splits["split_train_01"], [0, 3])
    assert np.array_equal(again.per_frame["temperature"], np.arange(5))
    assert again.metadata["kT"] == 0.6
    first = path.read_bytes()
    npz.write(path, data)
    assert path.read_bytes() == first


def test_subset_is_written_without_splits(tmp_path):
    npz.write(tmp_path / "part.npz", full()[[4, 1]])
    part = npz.read(tmp_path / "part.npz")
    assert not part.splits
    assert np.array_equal(part.per_frame["temperature"], [4, 1])
    assert np.array_equal(part.positions, full().positions[[4, 1]])


def test_real_file_survives_a_round_trip(data_dir, tmp_path):
    data = npz.read(data_dir / "h3o2m" / "h3o2m_traindata.npz")
    npz.write(tmp_path / "copy.npz", data)
    with np.load(tmp_path / "copy.npz") as copy, np.load(data.source) as original:
        for key in ("R", "E", "F"):
            np.testing.assert_allclose(copy[key], original[key], rtol=4e-16, atol=0)
        assert str(copy["e_unit"]) == "au"
        assert copy["charge"][0] == -1


def test_write_refuses_what_the_format_cannot_hold(tmp_path):
    path = tmp_path / "no.npz"
    cells = np.tile(9 * np.eye(3), (5, 1, 1))
    cells[2, 0, 0] = 10
    with pytest.raises(ValueError, match=r"one lattice, but the cell of frame 2"):
        npz.write(path, full(cell=cells))
    with pytest.raises(ValueError, match="at least one frame with forces"):
        npz.write(path, full(values={"energy": arrays()["E"]}))
    with pytest.raises(ValueError, match="at least one frame"):
        npz.write(path, full()[[]])
    assert not list(tmp_path.iterdir())


def test_interrupted_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "out.npz"
    npz.write(path, full())
    before = path.read_bytes()

    def fail(*_):
        raise OSError("disk is full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk is full"):
        npz.write(path, full()[:2])
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["out.npz"]


# --- damaged and hostile files ------------------------------------------------------------------


class Payload:
    """Runs a command when unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (os.mkdir, (str(self.target),))


def test_malicious_pickles_do_not_run(tmp_path):
    target = tmp_path / "executed"
    objects = np.array({"mae": Payload(target)}, dtype=object)
    path = tmp_path / "evil.npz"
    np.savez(path, **arrays(), f_err=objects, forces=arrays()["F"])
    with pytest.raises(ValueError, match=r"evil.npz: 'f_err': pickled objects, refused: .*mkdir"):
        npz.read_archive(path)
    assert npz.read(path).unread == ("f_err",)
    with pytest.raises(ValueError, match="'f_err' is an array of pickled objects: not read"):
        npz.read(path, energy_key="f_err", forces_key="forces")
    assert not target.exists()
    with np.load(path, allow_pickle=True) as file:
        assert isinstance(file["f_err"], np.ndarray)
    assert target.exists()  # the payload is real


HOSTILE = [
    b"cos\nsystem\n(S'true'\ntR.",
    b"c__builtin__\neval\n(S'1'\ntR.",
    b"\x80\x04\x8c\x08builtins\x94\x8c\x04eval\x94\x93\x94\x8c\x031+1\x94\x85\x94R\x94.",
    b"\x80\x04cnumpy\nload\n(S'x'\ntR.",
    b"cnumpy\nndarray\n(tR.",
    b"cnumpy\ndtype\n(S'O8'\ntR.",
    b"cnumpy\ndtype\nN}b.",
    b"]\x94(h\x00h\x00e.",  # a list that contains itself
    b"(lp0\ng0\na.",
    b"N.",
    b".",
    b"",
    b"\x80\x04K",
    b"\x80\x02R.",
    b"\x80\x02P1\n.",
    b"\x80\x02\x82\x01.",
]


@pytest.mark.parametrize("stream", HOSTILE)
def test_hostile_streams_are_refused(stream):
    with pytest.raises(ValueError, match=r"."):
        read_objects(stream)


def test_exponential_expansion_is_refused():
    value = [0]
    for _ in range(14):
        value = [value] * 10
    with pytest.raises(ValueError, match="without end"):
        read_objects(pickle.dumps(np.array({"a": value}, dtype=object)))


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(PLAIN, st.integers(2, 4))
def test_plain_objects_are_read_as_pickle_would(value, protocol):
    box = np.empty((), dtype=object)
    box[()] = {"value": value, "scalar": np.float64(0.5), "array": np.arange(3.0)}
    found = read_objects(pickle.dumps(box, protocol=protocol)).item()
    assert found["value"] == value
    assert found["scalar"] == 0.5
    assert np.array_equal(found["array"], np.arange(3.0))


@given(st.binary(max_size=60))
def test_any_bytes_are_plain_or_refused(stream):
    with contextlib.suppress(ValueError):
        assert isinstance(read_objects(stream), np.ndarray)


def test_not_an_archive(tmp_path, save):
    with pytest.raises(FileNotFoundError, match="absent"):
        npz.read(tmp_path / "absent.npz")
    for content in (b"", b"not a zip", b"\x93NUMPY\x01\x00"):
        (tmp_path / "x.npz").write_bytes(content)
        with pytest.raises(ValueError, match=r"x.npz: not an .npz archive, or cut off"):
            npz.read(tmp_path / "x.npz")
    whole = save().read_bytes()
    for length in (len(whole) // 2, len(whole) - 1):
        (tmp_path / "x.npz").write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"x\.npz"):
            npz.read(tmp_path / "x.npz")


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=4))
def test_flipped_bytes_give_data_or_a_value_error(tmp_path_factory, flips):
    path = tmp_path_factory.mktemp("flip") / "x.npz"
    np.savez_compressed(path, **arrays())
    content = bytearray(path.read_bytes())
    for position, mask in flips:
        content[position % len(content)] ^= mask
    path.write_bytes(content)
    with contextlib.suppress(ValueError):
        npz.read(path)


def header(shape, descr="<f8"):
    stream = io.BytesIO()
    npy.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def zipped(path, content, **options):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in content.items():
            file.writestr(name, data, **options)


def test_announced_sizes_must_be_true(tmp_path):
    path = tmp_path / "bomb.npz"
    for shape in ((10**13,), (-1, -5), (2,)):
        zipped(path, {"R.npy": header(shape) + bytes(40)})
        with pytest.raises(ValueError, match=r"bomb.npz: 'R' announces shape"):
            npz.read(path)
    zipped(path, {"R.npy": header((5,)) + bytes(40), "readme.txt": b"hello"})
    with pytest.raises(ValueError, match=r"'readme.txt' is not an array"):
        npz.read(path)
    zipped(path, {"R.npy": header((5,), "|O") + b"N."})
    with pytest.raises(ValueError, match="no labels"):
        npz.read(path)


def test_bombs_are_refused_before_unpacking(tmp_path, monkeypatch):
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, **arrays(), zeros=np.zeros(10**6))
    with pytest.raises(ValueError, match=r"would unpack to \d+, more than the limit of 1000"):
        npz.read(path, max_bytes=1000)
    monkeypatch.setattr(archive, "_MIN_LIMIT", 10**5)
    with pytest.raises(ValueError, match="pass max_bytes if the file is trusted"):
        npz.read(path)
    assert npz.read(path, max_bytes=10**8).metadata["zeros"].shape == (10**6,)


def test_duplicate_members_and_odd_headers(tmp_path):
    path = tmp_path / "x.npz"
    body = header((1,)) + bytes(8)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("R.npy", body)
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("R.npy", body)
    with pytest.raises(ValueError, match="members occur twice: R"):
        archive.members(path)
    zipped(path, {"R.npy": b"\x93NUMPY\x09\x00" + bytes(30)})
    with pytest.raises(ValueError, match="'R' has no readable header"):
        archive.members(path)
    with pytest.raises(ValueError, match="objects must be"):
        npz.read_archive(path, objects="pickle")
