"""Sign, units and pairing of energies and forces, on a potential and on published data."""

import dataclasses

import numpy as np
import pytest

from jaxff import units
from jaxff.data import embedded, npz
from jaxff.data.consistency import consistency, implausible_lengths
from jaxff.data.dataset import Dataset


def tetrahedra(frames=300, spread=0.06, cell=None, pbc=None, seed=0):
    """Tetrahedra of Morse bonds around their minimum, with exact energies and forces."""
    rng = np.random.default_rng(seed)
    base = 1.1 / np.sqrt(8) * np.array([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    positions = base + spread * rng.normal(size=(frames, 4, 3))
    energy, forces = np.zeros(frames), np.zeros_like(positions)
    for i in range(4):
        for j in range(i):
            step = positions[:, i] - positions[:, j]
            distance = np.linalg.norm(step, axis=-1)
            decay = np.exp(-1.5 * (distance - 1.1))
            energy += 2.0 * (1 - decay) ** 2
            slope = 2.0 * 2 * (1 - decay) * 1.5 * decay
            forces[:, i] -= (slope / distance)[:, None] * step
            forces[:, j] += (slope / distance)[:, None] * step
    if cell is not None:  # every frame with other images
        directions = np.ones(3) if pbc is None else np.asarray(pbc, float)
        positions = positions + (rng.integers(-1, 2, (frames, 4, 3)) * directions) @ cell
    values = {"energy": energy, "forces": forces}
    return Dataset(numbers=np.full(4, 6), positions=positions, values=values, cell=cell, pbc=pbc)


@pytest.mark.parametrize(("factor", "plausible"), [(1.0, True), (0.529, False), (1.89, False)])
@pytest.mark.parametrize("pbc", [None, [True, True, False]])
def test_lengths_in_another_unit_are_noticed(factor, plausible, pbc):
    data = npz.read(embedded.ethanol_path())
    cell = None
    if pbc is not None:  # atoms beyond the faces have their neighbours on the other side
        cell = np.array([[12.0, 0, 0], [3, 11, 0], [0, 0, 20]])
    moved = data.positions * factor
    if cell is not None:
        moved = moved + np.arange(9)[:, None] * (cell[0] - 2 * cell[1])
    changed = dataclasses.replace(data, positions=moved, cell=cell, pbc=pbc)
    assert (implausible_lengths(changed) == "") == plausible


def test_noble_gases_have_no_bonds():
    data = tetrahedra(30)
    data = dataclasses.replace(data, numbers=np.full(4, 18), positions=3.0 * data.positions)
    assert implausible_lengths(data) == ""
    assert "times a bond apart" in implausible_lengths(
        dataclasses.replace(data, numbers=np.full(4, 6))
    )


def relabelled(data, **values):
    return dataclasses.replace(data, values={**data.values, **values})


def test_agreement():
    found = consistency(tetrahedra())
    assert found.verdict == "consistent"
    assert not found.is_contradiction
    assert found.slope == pytest.approx(1.0, abs=0.05)
    assert found.r2 > 0.95
    assert found.pairs >= 20


def test_wrong_sign():
    data = tetrahedra()
    found = consistency(relabelled(data, forces=-data.values["forces"]))
    assert found.verdict == "sign"
    assert "negate" in found.message
    assert found.is_contradiction


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (1 / units.KCAL_PER_MOL, "eV and kcal/mol"),
        (units.HARTREE, "eV and hartree"),
        (1 / units.BOHR, "bohr and Å"),
        (units.HARTREE / units.KCAL_PER_MOL, "hartree and kcal/mol"),
    ],
)
def test_wrong_units_are_named(ratio, words):
    data = tetrahedra()
    found = consistency(relabelled(data, energy=data.values["energy"] * ratio))
    assert found.verdict == "units"
    assert words in found.message
    assert "energy_unit" in found.message
    found = consistency(relabelled(data, forces=data.values["forces"] * ratio))
    assert found.verdict == "units"
    assert words in found.message


@pytest.mark.parametrize("name", ["energy", "forces"])
def test_shuffled_labels(name):
    data = tetrahedra()
    order = np.random.default_rng(5).permutation(len(data))
    found = consistency(relabelled(data, **{name: data.values[name][order]}))
    assert found.verdict == "contradictory"
    assert "do not follow" in found.message


def test_too_little_to_tell_is_no_error():
    data = tetrahedra()
    assert consistency(data[:3]).verdict == "undecided"
    assert consistency(data[[]]).verdict == "undecided"
    assert consistency(data[[0, 0, 0, 0, 0, 0, 0]]).verdict == "undecided"
    alone = dataclasses.replace(data, values={"energy": data.values["energy"]})
    assert consistency(alone).message == "no forces to compare"
    assert not consistency(tetrahedra(40, spread=0.5)).is_contradiction
    zero = relabelled(data, forces=np.zeros_like(data.values["forces"]))
    assert consistency(zero).message == "all forces are zero"


@pytest.mark.parametrize("pbc", [None, [True, True, False], [False, True, False]])
def test_images_of_atoms_do_not_matter(pbc):
    cell = np.array([[9.0, 0.0, 0.0], [2.0, 9.0, 0.0], [1.0, -2.0, 9.0]])
    found = consistency(tetrahedra(cell=cell, pbc=pbc))
    assert found.verdict == "consistent"
    assert found.slope == pytest.approx(consistency(tetrahedra()).slope, abs=0.05)


def test_cells_that_differ_are_not_compared():
    data = tetrahedra()
    cells = 9 * np.eye(3) * (1 + 0.001 * np.arange(len(data)))[:, None, None]
    assert consistency(dataclasses.replace(data, cell=cells)).verdict == "undecided"


@pytest.mark.parametrize(
    "name",
    ["rmd17/rmd17_ethanol", "mbgdml/1h2o-dset", "h3o2m/h3o2m_traindata", "mlearn/Si_aimd_64_0"],
)
def test_published_sets(data_dir, name):
    data = npz.read(data_dir / f"{name}.npz")
    assert consistency(data).verdict == "consistent"
    assert consistency(relabelled(data, forces=-data.values["forces"])).verdict == "sign"
    # the file of another unit: contradicts whatever is said
    wrong = relabelled(data, energy=data.values["energy"] / units.KCAL_PER_MOL)
    assert consistency(wrong).verdict == "units"
