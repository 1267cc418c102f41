"""Paths between points of high symmetry, and the figure of bands along them."""

import numpy as np
import pytest
from crystals import fcc, graphene

from jaxff import report
from jaxff.kernels import primitive_cell
from jaxff.vibrations import PhononModes, band_path, through_points

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
    with pytest.raises(ValueError, match=r"no path 'GQ' in the lattice.* points G K L U W X"):
        band_path(FCC, "GQ")
    with pytest.raises(ValueError, match="at least 2 points"):
        band_path(FCC, points=1)


def test_further_points_are_met_on_the_way():
    """Of the points of 2 × 2 × 2 primitive cells, in any zone, halves of the way are met."""
    way = band_path(FCC, "XG,LG", points=8)
    halves = np.indices((2, 2, 2)).reshape(3, -1).T / 2.0 - 1.0
    quarter = 0.5 * way.points[:1]
    more = through_points(way, np.concatenate([halves, quarter + np.array([1.0, 0.0, -1.0])]))
    assert len(more.points) == len(way.points) + 1
    (index,) = np.flatnonzero(np.isclose(more.points, quarter).all(axis=1))
    np.testing.assert_allclose(more.distances[index], 0.5 * way.places[1], rtol=1e-6)
    assert np.all(np.diff(more.distances) >= 0)
    np.testing.assert_array_equal(more.places, way.places)


def test_lines_end_where_the_path_jumps():
    way = band_path(FCC, "XG,LG", points=12)
    modes = PhononModes(
        way.points, np.ones((12, 1)), np.ones((12, 1, 1, 3), complex), np.zeros(12, bool)
    )
    (axes,) = report.bands(modes, way).axes
    lines = [line.get_xdata() for line in axes.lines[:2]]
    assert lines[0][-1] == lines[1][0] == way.places[1]
    assert sum(map(len, lines)) == 12
    assert [each.get_text() for each in axes.get_xticklabels()] == ["X", "Γ|L", "Γ"]


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
