"""Free energies over dihedrals against distributions in closed form."""

import numpy as np
import pytest

from jaxff import analysis, units
from jaxff.analysis.free_energy import Surface

KELVIN = 300.0
THERMAL = units.BOLTZMANN * KELVIN
BINS = 12
CENTERS = -180 + 360 / BINS * (np.arange(BINS) + 0.5)
PHI, PSI = np.meshgrid(np.radians(CENTERS), np.radians(CENTERS), indexing="ij")
EXACT = THERMAL * (np.cos(PHI - 1.0) + 0.7 * np.cos(2.0 * (PSI + 0.4)))
SHARE = np.exp(-EXACT / THERMAL) / np.exp(-EXACT / THERMAL).sum()


@pytest.fixture(scope="module")
def values():
    """Independent frames, anywhere in the bins."""
    rng = np.random.default_rng(0)
    bins = rng.choice(BINS**2, 40_000, p=SHARE.ravel())
    centers = np.stack([CENTERS[bins // BINS], CENTERS[bins % BINS]], axis=1)
    return centers + rng.uniform(-15, 15, centers.shape)


@pytest.fixture(scope="module")
def surface(values):
    return analysis.free_energy_surface(values, KELVIN, bins=BINS, blocks=50)


def test_a_surface_and_its_errors(values, surface):
    np.testing.assert_allclose(surface.centers[0], CENTERS)
    expected = THERMAL * np.sqrt((1 - SHARE) / (len(values) * SHARE))  # of independent frames
    np.testing.assert_allclose(surface.error, expected, rtol=0.5)
    assert abs(np.mean(surface.error / expected) - 1.0) < 0.05
    shift = np.mean(surface.free_energy - EXACT)
    deviation = (surface.free_energy - EXACT - shift) / surface.error
    assert np.sqrt(np.mean(deviation**2)) == pytest.approx(1.0, abs=0.25)
    assert surface.free_energy.min() == 0.0


def test_correlated_frames_have_larger_errors(values, surface):
    held = np.repeat(values[:4000], 10, axis=0)
    found = analysis.free_energy_surface(held, KELVIN, bins=BINS, blocks=50)
    assert np.nanmedian(found.error / surface.error) == pytest.approx(np.sqrt(10), rel=0.2)
    replicas = analysis.free_energy_surface(values.reshape(50, -1, 2), KELVIN, bins=BINS)
    np.testing.assert_allclose(replicas.error, surface.error)
    assert np.isnan(analysis.free_energy_surface(values, KELVIN, bins=3, blocks=1).error).all()


def test_a_bias_is_weighted_out(surface):
    rng = np.random.default_rng(1)
    flat = rng.uniform(-180, 180, (60_000, 2))
    place = ((flat + 180) // (360 / BINS)).astype(int)
    weights = SHARE[tuple(place.T)]
    found = analysis.free_energy_surface(flat, KELVIN, bins=BINS, weights=weights, blocks=20)
    both = np.sqrt(found.error**2 + surface.error**2)
    assert np.all(np.abs(found.free_energy - surface.free_energy) < 5 * both)
    assert analysis.mean_squared_difference(found, surface) < (0.1 * THERMAL) ** 2


def made(probability):
    probability = np.asarray(probability, float)
    with np.errstate(divide="ignore"):
        free = -THERMAL * np.log(probability)
    centers = tuple(np.arange(n, dtype=float) for n in probability.shape)
    return Surface(centers, probability, free - free.min(), np.zeros_like(free), KELVIN)


def test_divergences_in_closed_form():
    p, q = made([0.5, 0.5, 0.0]), made([0.25, 0.75, 0.0])
    expected = 0.5 * np.log(2.0) + 0.5 * np.log(2.0 / 3.0)
    assert analysis.kullback_leibler(p, q) == pytest.approx(expected)
    assert analysis.kullback_leibler(p, p) == 0.0
    middle = np.array([0.375, 0.625])
    expected = 0.5 * np.sum([0.5, 0.5] * np.log([0.5, 0.5] / middle))
    expected += 0.5 * np.sum([0.25, 0.75] * np.log([0.25, 0.75] / middle))
    assert analysis.jensen_shannon(p, q) == pytest.approx(expected)
    apart = made([0.0, 0.0, 1.0])
    assert analysis.jensen_shannon(p, apart) == pytest.approx(np.log(2.0))
    assert analysis.kullback_leibler(p, apart) == np.inf
    # Differences ±kT ln(3)/2 about their mean.
    assert analysis.mean_squared_difference(p, q) == pytest.approx((THERMAL * np.log(3) / 2) ** 2)
    # Of three bins, the reference has one at kT ln 4 above the two others.
    rare, other = made([4 / 9, 4 / 9, 1 / 9]), made([0.5, 0.25, 0.25])
    assert analysis.mean_squared_difference(other, rare, below=THERMAL) == pytest.approx(
        (THERMAL * np.log(2) / 2) ** 2
    )
    with pytest.raises(ValueError, match="in common"):
        analysis.mean_squared_difference(p, apart)
    with pytest.raises(ValueError, match="different grids"):
        analysis.jensen_shannon(p, made([0.5, 0.5]))


def test_minima_wells_about_the_end_of_the_period():
    found = analysis.minima(made(SHARE), radius=2)
    # cos(φ - 1) is least at 1 - π, the other at -0.4 ± π/2.
    assert len(found) == 2
    grid = [tuple(np.radians(CENTERS[[int(i) for i in m.place]])) for m in found]
    for phi, psi in grid:
        assert abs(phi - (1.0 - np.pi)) < np.radians(16)
        assert min(abs(psi - (-0.4 + s * np.pi / 2)) for s in (-1, 1)) < np.radians(16)
    assert found[0].free_energy == 0.0


def test_populations_with_errors(values):
    states = {"left": [(-180, 0), (-180, 180 - 1e-9)], "about": [(150, -150), (-180, 179.999)]}
    found = analysis.populations(values, states, blocks=50)
    share = SHARE[:6].sum()
    assert abs(found["left"].share - share) < 4 * found["left"].error
    expected = np.sqrt(share * (1 - share) / len(values))
    assert found["left"].error == pytest.approx(expected, rel=0.4)
    share = SHARE[[0, -1]].sum()
    assert abs(found["about"].share - share) < 4 * found["about"].error
    with pytest.raises(ValueError, match="2 intervals"):
        analysis.populations(values, {"left": [(0, 1)]})
    inside = analysis.populations([[0.2], [0.7]], {"low": [(0.0, 0.5)]}, period=None, blocks=2)
    assert inside["low"].share == 0.5


def test_a_state_may_be_everything(values):
    everything, half = (-180, 180), (-180, 0)
    found = analysis.populations(values, {"all": [everything] * 2, "half": [half, everything]})
    assert found["all"] == (1.0, 0.0)
    assert found["half"].share == np.mean(values[:, 0] < 0)
    for odd in ((0.0, 0.0), (-180.0, 400.0), (np.nan, 10.0)):
        with pytest.raises(ValueError, match="state 'odd' has the interval"):
            analysis.populations(values, {"odd": [odd, everything]})
    with pytest.raises(ValueError, match="two different"):
        analysis.populations([[0.2]], {"odd": [(0.5, 0.1)]}, period=None, blocks=1)


def test_a_plateau_is_one_minimum():
    i, j = np.indices((BINS, BINS))
    far = [np.hypot(np.minimum(abs(i - a), BINS - abs(i - a)), j - b) for a, b in ((0, 4), (6, 9))]
    flat = 1.0 / (1.0 + np.minimum(*far))
    flat[0, 3:6] = flat[-1, 4] = 3.0  # one, across the end of the period
    flat[6, 9] = 2.0
    found = analysis.minima(made(flat / flat.sum()), radius=2)
    assert len(found) == 2
    assert found[0].free_energy == 0.0


def test_too_many_bins_are_refused_before_they_are_counted():
    with pytest.raises(MemoryError, match=r"999 × 999 × 999 × 999 × 999 bins in 2 blocks"):
        analysis.free_energy_surface(np.zeros((2, 5)), 300.0, bins=999, blocks=2)


def test_mirror_images_of_a_centre_are_counted():
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * 0.6
    tetrahedron = np.concatenate([[[0.0, 0.0, 0.0]], corners])
    found = analysis.chirality(tetrahedron, (0, 1, 2, 3))
    assert abs(found) == pytest.approx(4 / 3**1.5)
    assert analysis.chirality(tetrahedron * [1, 1, -1], (0, 1, 2, 3)) == pytest.approx(-found)
    series = np.array([[0.7, 0.1, -0.1, 0.6, -0.7, -0.6, 0.1, -0.5, 0.8], [0.7] * 9])
    assert analysis.inversions(series).tolist() == [2, 0]
    assert analysis.inversions(series[0], 0.0) == 6
    for center in ((0, 1, 2), (0, 1, 2, -1), (0, 1, 2, 5)):
        with pytest.raises(ValueError, match="three neighbours are needed, of beads 0 to 4"):
            analysis.chirality(tetrahedron, center)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: analysis.free_energy_surface(np.zeros(5), 300.0), "frames, variables"),
        (lambda: analysis.free_energy_surface([[181.0]], 300.0, blocks=1), "outside"),
        (lambda: analysis.free_energy_surface([[1.0]], 300.0, blocks=2), "blocks"),
        (lambda: analysis.free_energy_surface([[1.0]], 300.0, bins=0, blocks=1), "bins must be"),
        (lambda: analysis.free_energy_surface([[1.0]], 300.0, weights=[-1.0]), "weights"),
    ],
)
def test_surfaces_refuse(call, message):
    with pytest.raises(ValueError, match=message):
        call()
