"""Trajectories of every format, mapped as a configuration says."""

from pathlib import Path

import numpy as np
import pytest

from jaxff import units
from jaxff.coarse.beads import files_of, map_beads, read_trajectory
from jaxff.coarse.config import Config
from jaxff.coarse.sections import Map, Trajectory, Variables
from jaxff.data import Dataset, extxyz, npz
from jaxff.data.hdf5_flat import write_hdf5

KELVIN, STIFF = 300.0, 2.0
NUMBERS = np.array([6, 1, 8, 7, 1])


@pytest.fixture(scope="module")
def atoms():
    """Atoms on springs to places of their own: their virial is that of equipartition."""
    rng = np.random.default_rng(0)
    places = 1.5 * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]])
    moved = np.sqrt(units.BOLTZMANN * KELVIN / STIFF) * rng.normal(size=(400, 5, 3))
    return Dataset(NUMBERS, places + moved, {"forces": -STIFF * moved}, name="springs")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, atoms):
    folder = tmp_path_factory.mktemp("formats")
    npz.write(folder / "run.npz", atoms, energy_unit="kcal/mol", length_unit="Ang")
    extxyz.write(folder / "run.xyz", atoms)
    write_hdf5(folder / "run.h5", atoms)
    other = Dataset(NUMBERS[:4], atoms.positions[:, :4], {"forces": atoms.values["forces"][:, :4]})
    npz.write(folder / "other.npz", other)
    extxyz.write(folder / "bare.xyz", Dataset(NUMBERS, atoms.positions))
    return folder


@pytest.mark.parametrize(
    ("name", "options"),
    [("run.npz", {}), ("run.xyz", {}), ("run.xyz", {"forces_key": "forces"}), ("run.h5", {})],
)
def test_formats_are_read_alike(folder, atoms, name, options):
    found = read_trajectory(Trajectory(path=name, **options), folder)
    np.testing.assert_array_equal(found.numbers, NUMBERS)
    np.testing.assert_allclose(found.positions, atoms.positions, rtol=1e-12)
    np.testing.assert_allclose(found.values["forces"], atoms.values["forces"], rtol=1e-12)
    assert (found.per_frame["weights"] == 1.0).all()


def test_files_one_after_another_must_be_of_one_molecule(folder):
    twice = read_trajectory(Trajectory(path=("run.npz", "run.npz")), folder)
    assert len(twice) == 800
    with pytest.raises(ValueError, match=r"other.npz holds .* files must be of one molecule"):
        read_trajectory(Trajectory(path=("run.npz", "other.npz")), folder)
    with pytest.raises(ValueError, match=r"bare.xyz.*forces"):
        read_trajectory(Trajectory(path="bare.xyz"), folder)


def test_trajectories_in_a_cell_are_refused(folder, atoms):
    boxed = Dataset(
        NUMBERS, atoms.positions[:3], {"forces": atoms.values["forces"][:3]},
        cell=np.repeat(9.0 * np.eye(3)[None], 3, axis=0), pbc=(True, True, True),
    )  # fmt: skip
    npz.write(folder / "boxed.npz", boxed)
    extxyz.write(folder / "boxed.xyz", boxed)
    for name in ("boxed.npz", "boxed.xyz"):
        with pytest.raises(ValueError, match=rf"{name}: frames have a cell"):
            read_trajectory(Trajectory(path=name), folder)


def test_weights_are_one_per_frame(folder, atoms):
    for name, values, words in (
        ("short", np.ones(7), "one per frame, got shape"), ("zero", np.zeros(400), "not all zero"),
        ("negative", -np.ones(400), "none negative"),
    ):  # fmt: skip
        np.savez(
            folder / f"{name}.npz", type="d", z=NUMBERS, R=atoms.positions, bias=values,
            F=atoms.values["forces"], e_unit="eV", r_unit="Ang",
        )  # fmt: skip
        with pytest.raises(ValueError, match=words):
            read_trajectory(Trajectory(path=f"{name}.npz", weights_key="bias"), folder)


def test_options_that_a_format_of_md_programs_ignores_are_refused(folder):
    section = Trajectory(path="run.trr", topology="run.gro", forces_unit="kcal/mol/Ang")
    with pytest.raises(ValueError, match=r"forces_unit has no meaning with a topology"):
        read_trajectory(section, folder)


def test_files_are_known_by_what_they_were_when_they_were_read(folder):
    section = Trajectory(path="run.*z")
    found = files_of(section, folder)
    assert [Path(each["path"]).name for each in found] == ["run.npz", "run.xyz"]
    assert found[0]["bytes"] == (folder / "run.npz").stat().st_size
    with pytest.raises(FileNotFoundError, match=r"none.npz: no such file"):
        files_of(Trajectory(path="none.npz"), folder)


def mapped(folder: Path, section: Map):
    data, variables = Trajectory(path="run.npz"), Variables(dihedrals=((0, 1, 2, 3),))
    return map_beads(Config(KELVIN, data, variables, {}, map=section, folder=folder))


def test_groups_are_centres_of_mass_and_their_forces_sums(folder, atoms):
    made = mapped(folder, Map(groups=((0, 1), (2,), (3, 4)), forces="basic"))
    own = units.masses(NUMBERS)
    center = (own[0] * atoms.positions[:, 0] + own[1] * atoms.positions[:, 1]) / own[:2].sum()
    np.testing.assert_allclose(made.data.positions[:, 0], center, rtol=1e-12)
    forces = atoms.values["forces"]
    np.testing.assert_allclose(
        made.data.values["forces"][:, 2], forces[:, 3] + forces[:, 4], rtol=1e-10
    )
    np.testing.assert_allclose(made.masses, [own[:2].sum(), own[2], own[3:].sum()])
    assert made.data.numbers.tolist() == [1, 2, 3]
    ratio, error = made.equipartition
    assert abs(ratio - 1.0) < 4 * error < 0.5


def test_maps_that_fit_no_molecule_are_named(folder):
    with pytest.raises(ValueError, match=r"\[map\] of .*run.npz: atoms are counted from 0 to 4"):
        mapped(folder, Map(atoms=(0, 7)))
    with pytest.raises(ValueError, match="either atoms or groups"):
        Map(atoms=(0,), groups=((1,),))
    with pytest.raises(ValueError, match="optimal or basic"):
        Map(atoms=(0,), forces="best")
