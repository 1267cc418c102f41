import re

import numpy as np
import pytest

from jaxff import report, units
from jaxff.analysis import free_energy_surface
from jaxff.dynamics import Drift


@pytest.fixture
def frames():
    rng = np.random.default_rng(0)
    labels = {"energy": -4000.0 + rng.normal(size=50), "forces": rng.normal(size=(50, 3, 3))}
    predicted = {k: v + 0.01 * rng.normal(size=v.shape) for k, v in labels.items()}
    predicted["energy"][0] = labels["energy"][0] + 1.0
    return predicted, labels


def texts(axes):
    legend = axes.get_legend()
    return [axes.get_xlabel(), axes.get_ylabel(), *(t.get_text() for t in legend.get_texts())]


def test_parity_shows_units_errors_identity_and_residuals(frames):
    predicted, labels = frames
    units = {"energy": "kcal/mol", "forces": "kcal/mol/Ang"}
    energy, forces, energy_residual, forces_residual = report.parity(predicted, labels, units).axes
    mae = np.mean(np.abs(predicted["energy"] - labels["energy"])) * 23.060548
    words = " ".join(texts(energy))
    assert f"MAE {mae:.3g} kcal/mol" in words
    assert "identity" in words
    assert "reference energy − mean (kcal/mol)" in words
    assert "kcal/mol/Å" in " ".join(texts(forces))
    low, high = energy.get_xlim()
    line = energy.get_lines()[0].get_xydata()
    np.testing.assert_allclose(line, [[low, low], [high, high]])
    assert energy.get_ylim() == (low, high)
    assert "residual" in energy_residual.get_xlabel()
    counted = sum(bar.get_height() for bar in forces_residual.patches)
    assert 0.99 * 450 <= counted <= 450


def test_parity_shows_the_points_that_it_is_given(frames):
    predicted, labels = frames
    axes = report.parity({"energy": predicted["energy"]}, {"energy": labels["energy"]}).axes[0]
    points = np.asarray(axes.collections[0].get_offsets())
    mean = labels["energy"].mean()
    np.testing.assert_allclose(points[:, 0], labels["energy"] - mean)
    np.testing.assert_allclose(points[:, 1], predicted["energy"] - mean)


def test_many_points_are_shown_by_density():
    rng = np.random.default_rng(0)
    forces = rng.normal(size=(600, 3, 3))
    figure = report.parity({"forces": forces + 0.1}, {"forces": forces})
    counted = figure.axes[0].collections[0].get_array().sum()
    assert counted == forces.size


def test_parity_of_exact_and_of_constant_labels():
    labels = {"energy": np.zeros(3)}
    report.parity(labels, labels).canvas.draw()
    with pytest.raises(ValueError, match="at least one"):
        report.parity({"energy": np.zeros(0)}, {"energy": np.zeros(0)})
    with pytest.raises(ValueError, match="at least one"):
        report.parity({}, {})


def test_frequencies():
    reference = np.array([-100.0, 500.0, 3000.0])
    shift = np.array([1.0, -2.0, 3.0])
    above, below = report.frequencies(reference, reference + shift, "x").axes
    assert above.get_ylabel() == "wavenumber (cm⁻¹)"
    assert "MAE 2 cm⁻¹" in texts(below)
    heights = [bar.get_height() for bar in below.patches]
    np.testing.assert_allclose(heights, shift)
    with pytest.raises(ValueError, match="as many modes"):
        report.frequencies(reference, reference[1:])


def test_conservation_in_mev_per_atom():
    times = np.arange(10) * 100.0
    total = 5.0 + 1e-3 * times  # eV: 1 eV/ps
    figure = report.conservation(times, 0 * times, total, 300 + 0 * times, 2, Drift(500.0, 0.5))
    energy, _, temperature = figure.axes
    (fluctuation, line) = (curve.get_xydata() for curve in energy.get_lines())
    np.testing.assert_allclose(fluctuation, line, atol=1e-9)
    assert "drift (5e+02 ± 0.5) meV/atom/ps" in texts(energy)
    assert "mean 300 K" in texts(temperature)
    assert temperature.get_xlabel() == "time (ps)"


def test_page_needs_no_other_file(frames):
    sections = [
        report.Section("A < B", "text & more", table="a  b", figure=report.parity(*frames)),
        report.Section("Second"),
    ]
    page = report.page("<script>", sections)
    assert "<script>" not in page
    assert "A &lt; B" in page
    assert "text &amp; more" in page
    assert not re.search(r"(?:src|href)=\"(?!data:)", page)
    assert page.count("data:image/png;base64,iVBOR") == 1


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_save(frames, tmp_path, suffix):
    path = tmp_path / f"figure.{suffix}"
    report.save(path, report.frequencies([1.0], [2.0]))
    assert path.stat().st_size > 1000
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_save_refuses_other_formats(tmp_path):
    with pytest.raises(ValueError, match=r"\.png"):
        report.save(tmp_path / "figure.jpeg", report.frequencies([1.0], [2.0]))
    assert not list(tmp_path.iterdir())


def test_free_energies_and_distributions_of_ensembles():
    rng = np.random.default_rng(0)
    values = rng.uniform(-180, 180, (4, 500, 2))
    both = free_energy_surface(values, 300.0, bins=12)
    one = free_energy_surface(values[..., :1], 300.0, bins=12)
    figure = report.free_energies({"trajectory": both, "a": both, "b": both, "c": both}, ("φ", "ψ"))
    shown = [axes for axes in figure.axes if axes.get_visible() and axes.get_title()]
    assert [axes.get_title() for axes in shown] == ["trajectory", "a", "b", "c"]
    curves = report.free_energies({"trajectory": one, "a": one}, ("φ",)).axes[0]
    np.testing.assert_allclose(
        curves.lines[1].get_ydata(), one.free_energy / (units.BOLTZMANN * 300.0)
    )
    lengths = rng.normal(1.5, 0.05, (4, 300))
    figure = report.distributions(
        {"trajectory": (lengths, np.ones(300)), "a": (lengths, np.ones(300))}, list("wxyz"), "Å"
    )
    assert [axes.get_title() for axes in figure.axes if axes.get_visible()] == list("wxyz")
    for empty in (lambda: report.free_energies({}, ("φ",)),
                  lambda: report.distributions({}, (), "Å")):  # fmt: skip
        with pytest.raises(ValueError, match="needs"):
            empty()
