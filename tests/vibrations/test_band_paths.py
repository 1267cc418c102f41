"""Paths between points of high symmetry, and the figure of bands along them."""

import numpy as np
import pytest
from crystals import fcc, graphene

from jaxff import report
from jaxff.kernels import primitive_cell
from jaxff.vibrations import PhononModes, band_path

FCC = primitive_cell(fcc(1))


def test_points_of_face_centred_cubic():
    """|X| = 2π/a and |L| = √3π/a; the primitive cell is right-handed."""
    assert np.linalg.det(FCC) == pytest.approx(3.9**3 / 4)
    way = band_path(FCC, "XGL,XG", points=60)
    assert way.labels == ("X", "G", "L,X", "G")
    np.testing.assert_allclose(
        np.diff(way.places), 2 * np.pi / 3.9 * np.array([1, np.sqrt(0.75), 1])
    )
    cartesian = way.points @ np.linalg.inv(FCC).T
    corners = [np.argmin(np.abs(way.distances - place)) for place in way.places]
    np.testing.assert_allclose(
        3.9 * np.linalg.norm(cartesian[corners], axis=1), [1.0, 0.0, np.sqrt(0.75), 0.0], atol=1e-9
    )
    assert len(way.points) == 60
    assert "W" in "".join(band_path(FCC).labels)


def test_a_sheet_has_a_path_in_its_plane():
    cell = primitive_cell(graphene(2, 2, flat=True))
    way = band_path(cell, pbc=[True, True, False], points=40)
    assert way.labels == ("G", "M", "K", "G")
    np.testing.assert_array_equal(way.points[:, 2], 0.0)


def test_what_there_is_not_is_refused():
    with pytest.raises(ValueError, match="no path 'GQ' in the lattice"):
        band_path(FCC, "GQ")
    with pytest.raises(ValueError, match="at least 2 points"):
        band_path(FCC, points=1)


def test_bands_are_drawn():
    way = band_path(FCC, "GX", points=11)
    reach = np.linspace(0, 1, 11)
    modes = PhononModes(
        way.points,
        np.stack([np.sin(reach), 2 * reach], 1),
        np.ones((11, 2, 1, 3), complex),
        reach == 1.0,
    )
    (axes,) = report.bands(modes, way).axes
    _, second, exact, *_ = axes.lines
    np.testing.assert_allclose(second.get_ydata(), 2 * reach)
    np.testing.assert_allclose(exact.get_xdata(), way.distances[[-1]])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["Γ", "X"]
    with pytest.raises(ValueError, match="points of the path"):
        report.bands(modes, band_path(FCC, "GL", points=11))
