"""Trajectories of MD programs, written and read by MDAnalysis."""

import warnings

import numpy as np
import pytest

from jaxff import units
from jaxff.data.md_files import read_md

NAMES = ["C1", "N2", "H3"]


@pytest.fixture
def files(tmp_path):
    """A structure, a trajectory with forces and one without; what they hold."""
    mda = pytest.importorskip("MDAnalysis")
    rng = np.random.default_rng(0)
    places, forces = rng.uniform(0, 9, (4, 3, 3)), rng.normal(size=(4, 3, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what a .gro file lacks
        made = mda.Universe.empty(3, trajectory=True, forces=True, velocities=True)
        made.add_TopologyAttr("name", NAMES)
        made.add_TopologyAttr("resname", ["ALA"])
        made.atoms.positions = places[0]
        made.atoms.write(str(tmp_path / "start.gro"))
        for name, with_forces in (("run.trr", True), ("bare.xtc", False)):
            with mda.Writer(str(tmp_path / name), 3) as writer:
                for place, force in zip(places, forces, strict=True):
                    made.atoms.positions = place
                    if with_forces:
                        made.atoms.forces = force
                    writer.write(made.atoms)
    return tmp_path, places, forces


@pytest.mark.filterwarnings("ignore:::MDAnalysis", "ignore::DeprecationWarning")
def test_positions_and_forces_come_in_the_units_of_jaxff(files):
    folder, places, forces = files
    data = read_md(folder / "run.trr", folder / "start.gro")
    assert data.numbers.tolist() == [6, 7, 1]
    np.testing.assert_allclose(data.positions, places, atol=1e-5)
    np.testing.assert_allclose(data.values["forces"], forces * units.KJ_PER_MOL, atol=1e-7)
    with pytest.raises(ValueError, match=r"bare.xtc: frame 0 has no forces"):
        read_md(folder / "bare.xtc", folder / "start.gro")
    with pytest.raises(FileNotFoundError, match=r"none.trr: no such file"):
        read_md(folder / "none.trr", folder / "start.gro")


@pytest.mark.filterwarnings("ignore:::MDAnalysis", "ignore::DeprecationWarning")
def test_molecules_that_the_box_cuts_are_refused(files):
    """Two atoms 1.5 Å apart walk over the edge of a box of 12 Å, first whole, then wrapped."""
    mda = pytest.importorskip("MDAnalysis")
    folder, _, _ = files
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = mda.Universe(str(folder / "start.gro"), str(folder / "run.trr"))
        for name, wrap in (("whole", False), ("cut", True)):
            with mda.Writer(str(folder / f"{name}.trr"), 3) as writer:
                for step in range(4):
                    places = np.array([[9.0 + step, 1.0, 1.0], [7.5 + step, 1.0, 1.0], [5, 1, 1]])
                    made.atoms.positions = places % 12.0 if wrap else places
                    made.dimensions = [12.0, 12.0, 12.0, 90.0, 90.0, 90.0]
                    writer.write(made.atoms)
    assert len(read_md(folder / "whole.trr", folder / "start.gro")) == 4
    with pytest.raises(ValueError, match=r"cut.trr: in frame 3 atoms 0 and 1 .* -pbc whole"):
        read_md(folder / "cut.trr", folder / "start.gro")


@pytest.mark.filterwarnings("ignore:::MDAnalysis", "ignore::DeprecationWarning")
def test_every_frame_needs_forces_of_a_known_unit(files):
    folder, places, _ = files
    mda = pytest.importorskip("MDAnalysis")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = mda.Universe.empty(3, trajectory=True, forces=True)
        bare = mda.Universe.empty(3, trajectory=True)
        with mda.Writer(str(folder / "late.trr"), 3) as writer:
            for universe in (made, bare):
                universe.atoms.positions = places[0]
                writer.write(universe.atoms)
    with pytest.raises(ValueError, match=r"late.trr: frame 1 has no forces"):
        read_md(folder / "late.trr", folder / "start.gro")
    dump = "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n3\nITEM: BOX BOUNDS pp pp pp\n"
    dump += "0 20\n" * 3 + "ITEM: ATOMS id type x y z fx fy fz\n"
    dump += "".join(f"{i} 1 {i} 0 0 1 2 3\n" for i in (1, 2, 3))
    (folder / "run.lammpsdump").write_text(dump)
    with pytest.raises(ValueError, match=r"run.lammpsdump: (the unit of the forces|frame 0 has)"):
        read_md(folder / "run.lammpsdump", folder / "start.gro")
    (folder / "junk.gro").write_text("nothing of the kind\n" * 9)
    with pytest.raises(ValueError, match=r"run.trr with .*junk.gro: MDAnalysis cannot read"):
        read_md(folder / "run.trr", folder / "junk.gro")
