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
    with pytest.raises(ValueError, match=r"bare.xtc: the trajectory has no forces"):
        read_md(folder / "bare.xtc", folder / "start.gro")
    with pytest.raises(FileNotFoundError, match=r"none.trr: no such file"):
        read_md(folder / "none.trr", folder / "start.gro")
