"""ASE databases: rows of any kind, units that somebody says, damage."""

import ase
import ase.db
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from mixed_frames import assert_same, mixed

from jaxff import units
from jaxff.data import read_frames

SCHNET = {"energy_key": "U", "forces_key": "F"}


def write(path, frames, *, metadata=None, results=False):
    with ase.db.connect(path) as database:
        for frame in frames:
            atoms = ase.Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc)
            names = {"energy": "U", "forces": "F", "dipole": "mu"}
            data = {names[name]: np.atleast_1d(value) for name, value in frame.labels.items()}
            if results:
                own = {k: v for k, v in frame.labels.items() if k != "dipole"}
                own["energy"] = float(own.get("energy", 0.0))
                atoms.calc = SinglePointCalculator(atoms, **own)
                data.clear()
            data["charge"] = frame.charge
            database.write(atoms, data=data, key_value_pairs={"molecule": frame.group})
    if metadata is not None:
        ase.db.connect(path).metadata = metadata


UNITS = {
    "_property_unit_dict": {"U": "hartree", "F": "hartree/bohr"},
    "_distance_unit": "bohr",
}


@pytest.mark.parametrize("suffix", ["db", "json"])
def test_rows_are_read_in_the_units_of_the_metadata(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    frames = mixed(6, cells=True)
    write(path, frames, metadata=UNITS)
    found = read_frames(
        path, **SCHNET, labels={"dipole": ("mu", "Debye")}, group_key="molecule", spin_key="spin"
    )
    assert len(found) == 6
    hartree, bohr = units.HARTREE, units.BOHR
    factors = {"energy": hartree, "forces": hartree / bohr, "dipole": units.DEBYE}
    for index, frame in enumerate(frames):
        expected = type(frame)(
            **{
                **vars(frame),
                "positions": frame.positions * bohr,
                "cell": None if frame.cell is None else frame.cell * bohr,
                "labels": {name: v * factors[name] for name, v in frame.labels.items()},
            }
        )
        assert_same(found[index], expected, tolerance=1e-9)
    contradiction = {**SCHNET, "energy_unit": "kcal/mol", "length_unit": "bohr"}
    with pytest.raises(ValueError, match=r"'U' \(energy\) is in 'hartree' by the file and"):
        read_frames(path, **contradiction)[1]
    with pytest.raises(ValueError, match="the length is in 'bohr' by the file and in 'Ang'"):
        read_frames(path, **SCHNET, length_unit="Ang")


def test_results_of_calculators_are_in_ase_units(tmp_path):
    path = tmp_path / "a.db"
    frames = mixed(3)
    write(path, frames, results=True)
    found = read_frames(path, energy_key="energy", forces_key="forces", energy_unit="hartree")
    assert found[1].labels["energy"] == pytest.approx(float(frames[1].labels["energy"]))
    assert found[1].labels["forces"] == pytest.approx(frames[1].labels["forces"])


def test_a_charge_that_ase_makes_up_is_not_taken(tmp_path):
    path = tmp_path / "a.db"
    with ase.db.connect(path) as database:  # ASE reads this charge back as zero
        database.write(ase.Atoms("H"), data={"U": 1.0}, key_value_pairs={"charge": -1.0})
        database.write(ase.Atoms("H"), data={"U": 1.0})
    frames = read_frames(path, energy_key="U", forces_key=None, energy_unit="eV")
    assert frames[0].charge is None
    assert frames[1].charge is None


def test_units_that_nobody_says_are_not_guessed(tmp_path):
    path = tmp_path / "a.db"
    write(path, mixed(2))
    with pytest.raises(ValueError, match=r"a\.db: 'F' \(forces\) has no unit in the file: pass"):
        read_frames(path, **SCHNET)[0]
    frame = read_frames(path, **SCHNET, energy_unit="kcal/mol")[1]
    assert frame.labels["energy"] == pytest.approx(
        mixed(2)[1].labels["energy"] * units.KCAL_PER_MOL
    )
    with pytest.raises(ValueError, match="unknown unit 'eV/parsec'"):
        read_frames(path, **SCHNET, energy_unit="eV", length_unit="parsec")


def test_deleted_rows_and_damage(tmp_path):
    path = tmp_path / "a.db"
    write(path, mixed(4), metadata=UNITS)
    database = ase.db.connect(path)
    database.delete([2])
    frames = read_frames(path, **SCHNET)
    assert len(frames) == 3
    assert frames[1].numbers.tolist() == [1]
    assert frames.where(1).endswith("frame 1 (id 3)")
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_frames(tmp_path / "b.db", **SCHNET)
    for name, content in {"cut.db": path.read_bytes()[:3000], "none.json": b"{"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}.*(not an intact ASE database|has no rows)"):
            read_frames(tmp_path / name, **SCHNET)
    bad = mixed(1)[0]
    bad.labels["forces"][0, 0] = np.nan
    write(tmp_path / "nan.db", [bad], metadata=UNITS)
    with pytest.raises(ValueError, match=r"nan\.db: frame 0 \(id 1\): forces not finite"):
        read_frames(tmp_path / "nan.db", **SCHNET)[0]
