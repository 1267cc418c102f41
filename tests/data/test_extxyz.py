"""Extended XYZ: explicit keys, no missing labels, per-frame cells, exact round trips."""

import ase
import ase.io
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator

from jaxff import units
from jaxff.data import extxyz
from jaxff.data.dataset import Dataset

ALL = {"energy_key": "energy", "forces_key": "forces"}


def water(frames=4, cell=None):
    rng = np.random.default_rng(2)
    base = np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
    return [
        ase.Atoms("OHH", base + 0.05 * rng.normal(size=(3, 3)), cell=cell, pbc=cell is not None)
        for _ in range(frames)
    ]


def labelled(path, frames, place):
    """Write frames with labels through ASE, which decides where they go."""
    rng = np.random.default_rng(3)
    energies, forces = rng.normal(size=len(frames)), rng.normal(size=(len(frames), 3, 3))
    for atoms, energy, force in zip(frames, energies, forces, strict=True):
        if place == "calculator":
            atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=force)
        else:
            atoms.info["REF_energy"], atoms.arrays["REF_forces"] = energy, force
    ase.io.write(path, frames, format="extxyz")
    return energies, forces


@pytest.mark.parametrize(("place", "prefix"), [("calculator", ""), ("info", "REF_")])
def test_labels_are_found_where_ase_puts_them(tmp_path, place, prefix):
    path = tmp_path / "a.xyz"
    energies, forces = labelled(path, water(), place)
    data = extxyz.read(path, energy_key=f"{prefix}energy", forces_key=f"{prefix}forces")
    assert data.values["energy"] == pytest.approx(energies, abs=1e-12)
    assert data.values["forces"] == pytest.approx(forces, abs=1e-7)  # ASE writes eight decimals
    assert data.numbers.tolist() == [8, 1, 1]
    assert data.cell is None
    assert data.is_whole
    assert data.name == "a"
    only = extxyz.read(path, energy_key=f"{prefix}energy", forces_key=None, index="1:3")
    assert list(only.values) == ["energy"]
    assert len(only) == 2


def test_units(tmp_path):
    path = tmp_path / "a.xyz"
    energies, forces = labelled(path, water(cell=9 * np.eye(3)), "info")
    data = extxyz.read(
        path,
        energy_key="REF_energy",
        forces_key="REF_forces",
        energy_unit="hartree",
        length_unit="bohr",
    )
    assert data.values["energy"] == pytest.approx(energies * units.HARTREE)
    ratio = units.HARTREE / units.BOHR
    assert data.values["forces"] == pytest.approx(forces * ratio, abs=1e-6)
    assert data.cell[0] == pytest.approx(9 * units.BOHR * np.eye(3))
    frames = water(cell=9 * np.eye(3))
    for atoms in frames:
        atoms.info["S"] = np.arange(6.0)
    ase.io.write(path, frames, format="extxyz")
    options = {"energy_key": None, "forces_key": None, "stress_key": "S"}
    data = extxyz.read(path, **options, energy_unit="hartree", length_unit="bohr")
    voigt = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2.0]])
    assert data.values["stress"][0] == pytest.approx(voigt * units.HARTREE / units.BOHR**3)
    with pytest.raises(ValueError, match="unknown unit 'furlong'"):
        extxyz.read(path, **ALL, length_unit="furlong")


def test_missing_labels_name_the_frame(tmp_path):
    path = tmp_path / "a.xyz"
    frames = water()
    labelled(path, frames, "info")
    with pytest.raises(
        ValueError,
        match=r"a.xyz: 'energy' \(energy\) is missing in 4 of 4 frames, first frame 0; "
        r"labels in the file: REF_energy, REF_forces",
    ):
        extxyz.read(path, **ALL)
    del frames[2].arrays["REF_forces"]
    ase.io.write(path, frames, format="extxyz")
    with pytest.raises(ValueError, match=r"'REF_forces' .* in 1 of 4 frames, first frame 2"):
        extxyz.read(path, energy_key="REF_energy", forces_key="REF_forces")
    with pytest.raises(ValueError, match=r"'REF_energy' \(forces\) in frame 0 must be numbers"):
        extxyz.read(path, energy_key=None, forces_key="REF_energy")


@pytest.mark.parametrize(
    ("symbols", "message"),
    [
        ("OH", "frame 1 has 2 atoms, frame 0 has 3"),
        ("SHH", "frame 1 is SH2, frame 0 is OH2"),
        ("HOH", "frame 1 has the atoms in another order"),
    ],
)
def test_mixed_frames_are_refused(tmp_path, symbols, message):
    path = tmp_path / "a.xyz"
    other = ase.Atoms(symbols, np.arange(3.0 * len(ase.Atoms(symbols))).reshape(-1, 3))
    ase.io.write(path, [*water(1), other], format="extxyz")
    with pytest.raises(ValueError, match=message):
        extxyz.read(path, energy_key=None, forces_key=None)


def test_mixed_periodicity_is_refused(tmp_path):
    path = tmp_path / "a.xyz"
    ase.io.write(path, [*water(1), *water(1, cell=9 * np.eye(3))], format="extxyz")
    with pytest.raises(ValueError, match=r"frame 1 is periodic along \[True, True, True\]"):
        extxyz.read(path, energy_key=None, forces_key=None)


def test_unreadable_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.xyz"):
        extxyz.read(tmp_path / "absent.xyz", **ALL)
    path = tmp_path / "a.xyz"
    for content in ("", "hello\n", "3\n\nO 0 0 0\nH 1 0", "1\n\nO 0 0 x\n", "1\n\nQq 0 0 0\n"):
        path.write_text(content)
        with pytest.raises(ValueError, match=r"a\.xyz"):
            extxyz.read(path, **ALL)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "the file is empty"),
        ("9\n", "a frame is cut short"),
        ("1\n\nXx 0 0 0\n", "no element or column is called 'Xx'"),
    ],
)
def test_unreadable_files_are_explained(content, words, tmp_path):
    path = tmp_path / "a.xyz"
    path.write_text(content)
    with pytest.raises(ValueError, match=words):
        extxyz.read(path, **ALL)


def test_nan_is_named(tmp_path):
    path = tmp_path / "a.xyz"
    frames = water()
    frames[1].info["E"] = np.nan
    for atoms in (frames[0], *frames[2:]):
        atoms.info["E"] = 1.0
    ase.io.write(path, frames, format="extxyz")
    with pytest.raises(ValueError, match=r"a.xyz: energy not finite in frame 1"):
        extxyz.read(path, energy_key="E", forces_key=None)
    data = extxyz.read(path, energy_key="E", forces_key=None, skip_invalid=True)
    assert data.indices.tolist() == [0, 2, 3]
    assert data.skipped.tolist() == [1]


def full():
    rng = np.random.default_rng(4)
    positions = rng.normal(size=(3, 3, 3))
    symmetric = rng.normal(size=(3, 3, 3))
    symmetric = symmetric + symmetric.swapaxes(1, 2)
    return Dataset(
        numbers=np.array([8, 1, 1]),
        positions=positions,
        values={
            "energy": rng.normal(size=3) * 1e4,
            "forces": rng.normal(size=(3, 3, 3)),
            "stress": symmetric,
            "virial": -symmetric,
            "dipole": rng.normal(size=(3, 3)),
            "partial_charges": rng.normal(size=(3, 3)),
            "hessian": rng.normal(size=(3, 3, 3, 3, 3)),
            "polarizability": rng.normal(size=(3, 3, 3)),
        },
        cell=np.array([[9.0, 0, 0], [1, 8, 0], [2, 3, 7]])
        * (1 + 0.1 * np.arange(3))[:, None, None],
        pbc=[True, True, False],
        charge=-1.0,
        spin=[0.0, 2.0, 4.0],
    )


def test_round_trip_is_exact(tmp_path):
    path = tmp_path / "a.xyz"
    data = full()
    extxyz.write(path, data)
    others = {"dipole": "e*Ang", "partial_charges": "e", "hessian": "eV/Ang^2"}
    again = extxyz.read(
        path,
        **ALL,
        stress_key="stress",
        virial_key="virial",
        labels={
            **{name: (name, unit) for name, unit in others.items()},
            "polarizability": ("polarizability", "e Ang^2/V"),
            "charge": ("charge", "e"),
        },
    )
    for name, array in data.values.items():
        assert np.array_equal(again.values[name], array), name
    assert np.array_equal(again.positions, data.positions)
    assert np.array_equal(again.cell, data.cell)
    assert np.array_equal(again.pbc, data.pbc)
    assert np.array_equal(again.values["charge"], -np.ones(3))
    assert np.array_equal(again.charge, -np.ones(3))
    assert np.array_equal(again.spin, [0.0, 2.0, 4.0])
    assert extxyz.read(path, **ALL, charge_key=None, spin_key="absent").spin is None
    text = path.read_text()
    for word, message in (("charge=few", "must be a number, got 'few'"), ("", "missing in 1 of 3")):
        path.write_text(text.replace("charge=-1.0", word, 1))
        with pytest.raises(ValueError, match=f"'charge' .*{message}"):
            extxyz.read(path, **ALL)


def test_ase_reads_what_is_written(tmp_path):
    path = tmp_path / "a.xyz"
    data = full()
    extxyz.write(path, data)
    atoms = ase.io.read(path, index=1)
    assert np.array_equal(atoms.get_forces(), data.values["forces"][1])
    assert atoms.get_potential_energy() == data.values["energy"][1]
    assert np.array_equal(atoms.get_stress(voigt=False), data.values["stress"][1])
    assert np.array_equal(atoms.cell.array, data.cell[1])
    assert atoms.pbc.tolist() == [True, True, False]


def test_single_frame_text():
    text = extxyz.format_frame(
        np.array([1]),
        np.zeros((1, 3)),
        {"velocities": np.ones((1, 3))},
        info={"step": 5, "tag": "a b"},
    )
    assert text.splitlines() == [
        "1",
        'Properties=species:S:1:pos:R:3:velocities:R:3 step=5.0 tag="a b" pbc="F F F"',
        "H 0.0 0.0 0.0 1.0 1.0 1.0",
    ]


def test_published_files(data_dir):
    ethanol = extxyz.read(data_dir / "ethanol_botnet" / "test_MD.xyz", **ALL, index=":50")
    assert ethanol.cell is None  # a box of 50 Å that is not periodic means nothing
    assert ethanol.formula == "H6 C2 O1"
    carbon = data_dir / "carbon_gap17" / "carbon_reduced_100.xyz"
    data = extxyz.read(carbon, energy_key="energy", forces_key="force")
    assert len(np.unique(data.cell, axis=0)) > 1  # per-frame cells
    assert np.abs(data.values["forces"].sum(axis=1)).max() < 1e-6
    spice = extxyz.read(
        data_dir / "spice_dipeptides" / "test.xyz",
        energy_key="energy",
        forces_key="force",
        labels={"dipole": ("dipole", "e*Ang"), "partial_charges": ("mbi_charges", "e")},
    )
    assert spice.values["dipole"].shape == (50, 3)
    assert np.abs(spice.values["partial_charges"].sum(axis=1)).max() < 0.05
    for name, message in [
        ("spice_dipeptides/train.xyz", "frame 1 has 45 atoms, frame 0 has 48"),
        ("4g_hdnnp/Carbon_chain_4G.extxyz", "frame 3 has 13 atoms"),
        ("ethanol_botnet/test_H_removal.xyz", "missing in 60 of 60 frames"),
    ]:
        with pytest.raises(ValueError, match=message):
            extxyz.read(data_dir / name, **ALL)
