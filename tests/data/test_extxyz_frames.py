"""Extended XYZ of mixed compositions: lazy, units, missing labels, damage."""

import ase
import ase.io
import numpy as np
import pytest
from mixed_frames import assert_same, mixed

from jaxff import units
from jaxff.data import batches, read_frames
from jaxff.data.extxyz import format_frame

KEYS = {"energy_key": "energy", "forces_key": "forces"}


def text(frame):
    info = {"charge": frame.charge, "name": frame.group.replace(" ", "_")}
    return format_frame(
        frame.numbers, frame.positions, frame.labels, cell=frame.cell, pbc=frame.pbc, info=info
    )


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mixed.xyz"
    path.write_text("".join(text(frame) for frame in mixed(cells=True)))
    return path


def test_frames_of_any_kind_are_read_back(file):
    frames = read_frames(file, **KEYS, labels={"dipole": ("dipole", "e*Ang")}, group_key="name")
    assert len(frames) == 11
    assert frames.counts == {"energy": 7, "forces": 11, "dipole": 2}
    for index, expected in enumerate(mixed(cells=True)):
        found = frames[index]
        assert found.group == expected.group.replace(" ", "_")
        assert_same(found, type(found)(**{**vars(expected), "group": found.group}))


def test_units_and_voigt(tmp_path):
    path = tmp_path / "a.xyz"
    atoms = ase.Atoms("OH", [[0, 0, 0], [0, 0, 1.0]], cell=np.eye(3) * 5, pbc=True)
    atoms.info["E"], atoms.info["S"] = 2.0, np.arange(6.0)
    atoms.arrays["F"] = np.ones((2, 3))
    ase.io.write(path, [atoms], format="extxyz")
    frame = read_frames(
        *(path,),
        energy_key="E",
        forces_key="F",
        stress_key="S",
        energy_unit="hartree",
        length_unit="bohr",
    )[0]
    assert frame.labels["energy"] == pytest.approx(2 * units.HARTREE)
    assert frame.labels["forces"] == pytest.approx(np.full((2, 3), units.HARTREE / units.BOHR))
    assert frame.labels["stress"][0, 1] == pytest.approx(5 * units.HARTREE / units.BOHR**3)
    assert frame.positions[1, 2] == pytest.approx(units.BOHR)
    assert frame.cell[0, 0] == pytest.approx(5 * units.BOHR)
    assert frame.charge is None
    with pytest.raises(ValueError, match="unknown unit 'furlong'"):
        read_frames(path, **KEYS, energy_unit="furlong")


def test_a_key_that_no_frame_has_is_an_error(file):
    with pytest.raises(
        ValueError, match=r"'REF_energy' \(energy\) is in none of 11 frames.*forces"
    ):
        read_frames(file, energy_key="REF_energy", forces_key="forces")
    frames = read_frames(file, energy_key=None, forces_key="forces")
    with pytest.raises(ValueError, match=r"'energy' is in none of the 11 frames.*forces \(11\)"):
        batches(frames, batch_size=2, labels=("energy", "forces"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: t[: t.rindex("\n", 0, -2)], "frame 1 is cut short: 4 of 5 atoms"),
        (lambda t: t.replace("\n5\n", "\nfive\n"), "frame 1: expected the number of atoms"),
        (lambda t: "", "no frames"),
        (lambda t: t.replace("\nC ", "\nXx "), "frame 1: not readable.*Xx"),
        (lambda t: t.replace("energy=", "energy=nan was="), "frame 1: energy not finite"),
        (lambda t: t.replace("charge=0.0", "charge=many"), "frame 1: 'charge' must be a number"),
        (lambda t: t.replace("forces:R:3", "forces:R:2:more:R:1"), "must be numbers of shape"),
    ],
)
def test_damage_names_file_and_frame(tmp_path, damage, message):
    path = tmp_path / "bad.xyz"
    path.write_text(damage("".join(text(frame) for frame in mixed(2))))
    with pytest.raises(ValueError, match=r"bad\.xyz: .*" + message):
        list(read_frames(path, **KEYS))
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_frames(tmp_path / "absent.xyz", **KEYS)
    with pytest.raises(ValueError, match=r"no reader for '\.pdb'"):
        read_frames(tmp_path / "a.pdb")


@pytest.mark.golden
def test_dipeptides(data_dir):
    frames = read_frames(
        data_dir / "spice_dipeptides/val.xyz",
        energy_key="energy",
        forces_key="force",
        labels={"dipole": ("dipole", "e*Ang"), "partial_charges": ("mbi_charges", "e")},
    )
    assert len(frames) == 55
    assert {len(frame) for frame in frames} <= set(range(26, 61))
    # the dipole is that of the charges, up to atomic dipoles: its unit is right
    frame = frames[0]
    estimate = frame.labels["partial_charges"] @ frame.positions
    assert np.linalg.norm(estimate - frame.labels["dipole"]) < 0.7
