"""Reports of runs: what they say is computed here again from the files."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxff import System, dynamics, hessian, report, units
from jaxff.vibrations import find_peaks, modes_of, normal_modes

SPRING = 100.0  # eV/Å²


def bond(system, neighbors=None):
    vector = system.positions[1] - system.positions[0]
    return 0.5 * SPRING * (jnp.sqrt(jnp.sum(vector**2)) - 1.2) ** 2


MOLECULE = System(np.array([[0.0, 0, 0], [1.2, 0, 0]]), [6, 8])


def make(folder, ensemble=None, steps=3000, every=2, replicas=None, format="xyz"):
    ensemble = dynamics.nve(1.0) if ensemble is None else ensemble
    with dynamics.Writer(folder, format=format, replicas=replicas) as writer:
        return dynamics.run(
            bond, MOLECULE, ensemble=ensemble, steps=steps, key=jax.random.key(0),
            temperature=300.0, every=every, replicas=replicas, writer=writer,
        )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    return path, make(path)


def test_reads_what_was_written(folder):
    path, run = folder
    found = report.read_run(path)
    np.testing.assert_array_equal(found.times, run.times)
    np.testing.assert_array_equal(found.columns["total_energy_eV"][0], run.total_energy)
    np.testing.assert_allclose(found.velocities[0], run.velocities, atol=1e-8)
    np.testing.assert_array_equal(found.numbers, [6, 8])
    assert (found.interval, found.timestep, found.steps) == (2.0, 1.0, 3000)
    assert found.degrees_of_freedom == run.degrees_of_freedom == 1


def test_long_trajectories_are_read_from_their_end(folder, monkeypatch):
    path, run = folder
    monkeypatch.setattr("jaxff.report.recorded._LINES", 400)
    found = report.read_run(path)
    count = found.velocities.shape[1]
    assert 190 <= count < 300
    np.testing.assert_allclose(found.velocities[0], run.velocities[-count:], atol=1e-8)


def test_page_of_a_run(folder):
    path, run = folder
    modes = modes_of(bond, MOLECULE)
    written = report.write_run(path, about={"Command": "jaxff <md>"}, modes=modes)
    assert written == path / "report.html"
    page = written.read_text()
    assert "jaxff &lt;md&gt;" in page
    assert not re.search(r"(?:src|href)=\"(?!data:)|https?:|@import|<script", page)
    assert page.count("data:image/png;base64,") == 2
    drift = dynamics.energy_drift(run.times, run.total_energy, 2)
    assert f"{drift.slope:.2e}" in page
    assert f"{modes.frequencies[0]:.1f}" in page
    for words in ("meV/atom/ps", "cm⁻¹", "standard error", "3000 steps of 1 fs, 3 ps", "jax "):
        assert words in page


def test_spectrum_peak_is_at_the_mode(folder):
    """The molecule vibrates at 1990 cm⁻¹; at 1 fs Verlet alone would show it 12 cm⁻¹ higher."""
    from jaxff.report.run import _spectrum

    (mode,) = modes_of(bond, MOLECULE).frequencies
    seen = _spectrum(report.read_run(folder[0]))
    (peak,) = find_peaks(seen).wavenumbers
    assert peak == pytest.approx(mode, abs=3.0)
    assert np.trapezoid(seen.density, seen.wavenumbers) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("format", ["xyz", "hdf5"])
def test_replicas_of_a_thermostat(tmp_path, format):
    if format == "hdf5":
        pytest.importorskip("h5py")
    run = make(tmp_path, dynamics.langevin(1.0, 300.0, 0.01), 400, 4, 3, format)
    found = report.read_run(tmp_path)
    assert found.replicas == 3
    np.testing.assert_allclose(found.velocities, run.velocities, atol=1e-8)
    page = report.write_run(tmp_path, target=300.0).read_text()
    assert "conserved energy of the ensemble, replica 2" in page
    assert '<td class="name">Replicas</td>' in page


def test_short_runs_and_fast_modes(tmp_path):
    make(tmp_path / "two", steps=2)
    page = report.write_run(tmp_path / "two").read_text()
    assert "Averages" in page
    assert "Vibrational spectrum" not in page
    make(tmp_path / "coarse", steps=16_000, every=10)
    matrix = jax.jit(hessian(bond))(MOLECULE)
    modes = normal_modes(matrix, units.masses([6, 8]), MOLECULE.positions)
    page = report.write_run(tmp_path / "coarse", modes=modes).read_text()
    assert "show vibrations up to 1" in page
    assert "1 mode is faster" in page


def test_refuses_what_is_no_run(folder, tmp_path):
    with pytest.raises(FileNotFoundError):
        report.write_run(tmp_path)
    path = tmp_path / "broken"
    path.mkdir()
    for name in ("restart.npz", "log.csv"):
        (path / name).write_bytes((folder[0] / name).read_bytes())
    (path / "trajectory.xyz").write_text("nothing\n")
    with pytest.raises(ValueError, match=r"trajectory\.xyz is not the trajectory"):
        report.write_run(path)


def test_tables_are_escaped_and_aligned():
    table = report.Table(("what", "a (eV)"), (("<x>", "1.5e-3"), ("y", "–")))
    page = report.page("t", [report.Section("s", table=table)])
    assert "&lt;x&gt;" in page
    assert '<td class="number">1.5e-3</td>' in page
    words = report.page("t", [report.Section("s", table=report.facts({"Length": "3 ps"}))])
    assert "<td>3 ps</td>" in words
