"""The embedded ethanol data agree with themselves, and with the engine where it is installed."""

import hashlib

import numpy as np
import pytest

from jaxff.data import embedded

MASS = {1: 1.008, 6: 12.011, 8: 15.999}  # amu
BOLTZMANN = 8.617333262e-5  # eV/K
METHYL_TURNS = [[0, 1, 2, 3, 4, 5, *turn] for turn in ((6, 7, 8), (7, 8, 6), (8, 6, 7))]
WAVENUMBER = 521.4709  # cm^-1 per sqrt(eV / Å² / amu)


@pytest.fixture(scope="module")
def data():
    with np.load(embedded.ethanol_path(), allow_pickle=False) as file:
        return dict(file)


def align(frame, forces, target):
    """Frame and forces, rotated (never reflected) onto the target; the residual distance in Å."""
    u, _, vt = np.linalg.svd((frame - frame.mean(0)).T @ (target - target.mean(0)))
    turn = u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt
    moved = (frame - frame.mean(0)) @ turn + target.mean(0)
    return moved, forces @ turn, np.linalg.norm(moved - target)


def test_shapes_and_texts(data):
    assert data["z"].tolist() == [6, 6, 8, 1, 1, 1, 1, 1, 1]
    assert data["R"].shape == data["F"].shape == (2000, 9, 3)
    assert data["E"].shape == data["temperature"].shape == (2000,)
    assert all(data[key].dtype == np.float64 for key in ("R", "E", "F", "minimum_H"))
    assert np.unique(data["temperature"], return_counts=True)[1].tolist() == [500] * 4
    texts = [data[key].item() for key in ("type", "name", "theory", "r_unit", "e_unit")]
    assert texts == ["d", "ethanol", "GFN2-xTB (tblite)", "Ang", "eV"]
    assert embedded.ethanol_path().stat().st_size < 1.1e6


def test_fingerprint_and_statistics(data):
    digests = [hashlib.md5(data[key].tobytes()).digest() for key in ("z", "R", "E", "F")]
    assert data["md5"] == hashlib.md5(b"".join(digests)).hexdigest().encode()
    for key in ("E", "F"):
        for name in ("min", "max", "mean", "var"):
            np.testing.assert_allclose(data[f"{key}_{name}"], getattr(data[key], name)())


def test_net_force_and_torque_vanish(data):
    assert np.abs(data["F"].sum(axis=1)).max() < 1e-8
    assert np.abs(np.cross(data["R"], data["F"]).sum(axis=1)).max() < 1e-7


def test_no_two_frames_are_alike(data):
    i, j = np.triu_indices(9, 1)
    distances = np.linalg.norm(data["R"][:, i] - data["R"][:, j], axis=-1)
    assert np.abs(distances[1:] - distances[:-1]).max(axis=1).min() > 0.05
    assert len(np.unique(data["E"])) == 2000


def test_energy_above_minimum_follows_the_temperature(data):
    for temperature in np.unique(data["temperature"]):
        excess = data["E"][data["temperature"] == temperature] - embedded.minimum().energy
        assert excess.min() > 0
        harmonic = 21 / 2 * BOLTZMANN * temperature
        assert 0.95 < excess.mean() / harmonic < 1.25  # the torsions add to the harmonic value


def test_virial_gives_the_temperature(data):
    """In the canonical ensemble the mean of -sum(F . R) is (3 atoms - 3) kT."""
    ratio = -np.sum(data["F"] * data["R"], axis=(1, 2)) / (24 * BOLTZMANN * data["temperature"])
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / np.sqrt(len(ratio)) < 0.5


def test_energies_follow_from_forces_and_hessian(data):
    """E - E(minimum) on the straight line to a frame, from the Hessian here and the forces there.

    The slope along the line is taken as a s + b s² (no force at s = 0), which gives the energy up
    to fourth order in the displacement: small for the cold frames that lie near the minimum.
    """
    minimum = embedded.minimum()
    errors = []
    for frame, forces, energy in zip(data["R"][:500], data["F"], data["E"], strict=False):
        images = [align(frame[p], forces[p], minimum.positions) for p in METHYL_TURNS]
        moved, turned, far = min(images, key=lambda image: image[2])
        if far < 0.3:
            d = (moved - minimum.positions).ravel()
            predicted = d @ minimum.hessian @ d / 6 - turned.ravel() @ d / 3
            errors.append(predicted / (energy - minimum.energy) - 1)
    assert len(errors) > 30
    assert abs(np.median(errors)) < 0.01
    assert np.max(np.abs(errors)) < 0.15


def test_hessian_is_that_of_a_free_molecule():
    minimum = embedded.minimum()
    np.testing.assert_array_equal(minimum.hessian, minimum.hessian.T)
    rigid = [np.tile(axis, 9) for axis in np.eye(3)]
    rigid += [np.cross(axis, minimum.positions).ravel() for axis in np.eye(3)]
    assert np.abs(minimum.hessian @ np.transpose(rigid)).max() < 1e-6


def test_frequencies_follow_from_the_hessian():
    """Without projection: the six smallest eigenvalues are the translations and rotations."""
    minimum = embedded.minimum()
    root = np.sqrt(np.repeat([MASS[z] for z in minimum.numbers.tolist()], 3))
    values = np.linalg.eigvalsh(minimum.hessian / np.outer(root, root))
    assert np.abs(values[:6]).max() < 1e-6
    assert minimum.frequencies.shape == (21,)
    np.testing.assert_allclose(minimum.frequencies, WAVENUMBER * values[6:] ** 0.5, rtol=1e-6)


def test_engine_gives_the_stored_labels(data):
    tblite = pytest.importorskip("tblite.ase", reason="needs the extra 'reference'")
    ase = pytest.importorskip("ase")
    minimum = embedded.minimum()
    frames = [(data["R"][k], data["E"][k], data["F"][k]) for k in (0, 777, 1999)]
    for positions, energy, forces in [*frames, (minimum.positions, minimum.energy, 0.0)]:
        atoms = ase.Atoms(minimum.numbers, positions)
        atoms.calc = tblite.TBLite(method="GFN2-xTB", accuracy=1e-6, verbosity=0)
        assert abs(atoms.get_potential_energy() - energy) < 1e-6
        assert np.abs(atoms.get_forces() - forces).max() < 2e-6


def test_missing_file_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(embedded.resources, "files", lambda name: tmp_path)
    with pytest.raises(FileNotFoundError, match=r"ethanol_gfn2\.npz"):
        embedded.ethanol_path()
