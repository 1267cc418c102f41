import itertools

import hypothesis.extra.numpy as arrays
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from jaxff import cell as geometry

CELL = np.array([[4.0, 0.3, -0.2], [1.1, 3.5, 0.4], [-0.6, 0.8, 5.0]])
MASKS = list(itertools.product([True, False], repeat=3))
complete = jax.jit(geometry.complete)
minimum_image = jax.jit(geometry.minimum_image)
derivative = jax.jit(jax.jacrev(geometry.complete))


@pytest.mark.parametrize("pbc", MASKS)
def test_complete_fills_missing_vectors(pbc):
    pbc = np.array(pbc)
    cell = np.where(pbc[:, None], CELL, 0.0)
    full = np.asarray(complete(jnp.asarray(cell), jnp.asarray(pbc)))
    np.testing.assert_array_equal(full[pbc], CELL[pbc])
    added = full[~pbc]
    np.testing.assert_allclose(added @ added.T, np.eye(len(added)), atol=1e-14)
    np.testing.assert_allclose(added @ CELL[pbc].T, 0.0, atol=1e-14)
    assert abs(np.linalg.det(full)) > 0.5


def test_complete_leaves_given_vectors():
    pbc = jnp.asarray([True, False, False])
    np.testing.assert_array_equal(complete(jnp.asarray(CELL), pbc), CELL)


@pytest.mark.parametrize("pbc", MASKS)
def test_complete_has_finite_derivatives(pbc):
    pbc = jnp.asarray(pbc)
    cell = jnp.where(pbc[:, None], CELL, 0.0)
    assert np.isfinite(derivative(cell, pbc)).all()


def test_volume_of_either_hand():
    np.testing.assert_allclose(geometry.volume(jnp.asarray(CELL)), abs(np.linalg.det(CELL)))
    np.testing.assert_allclose(geometry.volume(jnp.asarray(CELL[::-1])), abs(np.linalg.det(CELL)))


def test_reciprocal_and_heights():
    reciprocal = np.asarray(geometry.reciprocal(jnp.asarray(CELL)))
    np.testing.assert_allclose(CELL @ reciprocal.T, 2 * np.pi * np.eye(3), atol=1e-13)
    areas = np.linalg.norm(np.cross(CELL[[1, 2, 0]], CELL[[2, 0, 1]]), axis=1)
    heights = abs(np.linalg.det(CELL)) / areas
    np.testing.assert_allclose(geometry.heights(jnp.asarray(CELL)), heights)


def test_fractional():
    points = np.random.default_rng(0).normal(size=(5, 3))
    fractions = geometry.fractional(jnp.asarray(points), jnp.asarray(CELL))
    np.testing.assert_allclose(fractions @ CELL, points, atol=1e-14)


@pytest.mark.parametrize("pbc", [m for m in MASKS if any(m) and not all(m)])
def test_vectors_along_open_directions_mean_nothing(pbc):
    """Not even if they depend on the others."""
    mask, points = np.array(pbc), np.random.default_rng(3).normal(scale=9.0, size=(6, 3))
    empty = np.where(mask[:, None], CELL, 0.0)
    expected = minimum_image(points, empty, mask)
    for other in (CELL, np.where(mask[:, None], CELL, CELL[mask].sum(axis=0)), 3.0 * CELL[::-1]):
        cell = np.where(mask[:, None], CELL, other)
        np.testing.assert_allclose(minimum_image(points, cell, mask), expected, atol=1e-12)


@pytest.mark.parametrize("pbc", MASKS)
def test_minimum_image_is_that_of_the_completed_cell(pbc):
    mask = np.array(pbc)
    points = jnp.asarray(np.random.default_rng(4).normal(scale=9.0, size=(8, 3)))
    cell = jnp.asarray(np.where(mask[:, None], CELL, 0.0))
    full = complete(cell, jnp.asarray(mask))
    shifts = jnp.round(geometry.fractional(points, full)) * mask
    expected = points - shifts @ full
    found, slope = derivatives_of_image(points, cell, jnp.asarray(mask))
    np.testing.assert_allclose(found, expected, atol=1e-12)
    # Shifts are whole: they stay while points and cell move.
    np.testing.assert_allclose(slope, 0.3 - 0.7 * shifts @ cell, atol=1e-12)


@jax.jit
def derivatives_of_image(points, cell, pbc):
    return jax.jvp(
        lambda r, c: geometry.minimum_image(r, c, pbc),
        (points, cell),
        (jnp.full_like(points, 0.3), 0.7 * cell),
    )


finite = st.floats(-20, 20, allow_subnormal=False)


@settings(max_examples=50)
@given(arrays.arrays(float, (4, 3), elements=finite), st.sampled_from(MASKS))
def test_minimum_image_is_the_nearest_for_short_vectors(vectors, pbc):
    mask = np.array(pbc)
    cell = np.where(mask[:, None], CELL, 0.0)
    result = np.asarray(minimum_image(jnp.asarray(vectors), jnp.asarray(cell), jnp.asarray(pbc)))
    whole = (vectors - result) @ np.linalg.inv(np.where(mask[:, None], CELL, np.eye(3)))
    images = np.array(list(itertools.product(*([-1, 0, 1] if p else [0] for p in pbc)))) @ cell
    nearest = np.linalg.norm(result[:, None] + images, axis=-1).min(axis=1)
    full = complete(jnp.asarray(cell), jnp.asarray(pbc))
    short = nearest < 0.49 * np.asarray(geometry.heights(full))[mask].min(initial=np.inf)
    np.testing.assert_allclose(np.linalg.norm(result, axis=-1)[short], nearest[short], atol=1e-9)
    if mask.all():
        np.testing.assert_allclose(whole, np.round(whole), atol=1e-9)
    if not mask.any():
        np.testing.assert_array_equal(result, vectors)


@settings(max_examples=30)
@given(arrays.arrays(float, (3, 3), elements=st.floats(-5, 5)))
def test_volume_is_the_product_of_height_and_area(cell):
    assume(abs(np.linalg.det(cell)) > 1.0)
    area = np.linalg.norm(np.cross(cell[0], cell[1]))
    height = geometry.heights(jnp.asarray(cell))[2]
    np.testing.assert_allclose(geometry.volume(jnp.asarray(cell)), area * height, rtol=1e-9)


def test_batches():
    cells = jnp.stack([CELL, 2 * CELL])
    pbc = jnp.asarray([[True, True, False], [True, False, False]])
    cells = jnp.where(pbc[..., None], cells, 0.0)
    vectors = jnp.asarray(np.random.default_rng(1).normal(size=(2, 6, 3)) * 6)
    batch = minimum_image(vectors, cells, pbc)
    loop = [minimum_image(*item) for item in zip(vectors, cells, pbc, strict=True)]
    np.testing.assert_allclose(batch, jnp.stack(loop), atol=1e-13)


nearest = jax.jit(geometry.images)


@settings(max_examples=40)
@given(
    arrays.arrays(float, (3, 3), elements=st.floats(-3, 3, allow_subnormal=False)),
    arrays.arrays(int, (3,), elements=st.integers(-3, 3)),
    st.sampled_from([m for m in MASKS if any(m)]),
)
def test_images_in_cells_of_any_shape(noise, shear, pbc):
    """Against all images within reach, for lattices given by long and skewed vectors."""
    lattice = np.diag([3.0, 4.0, 5.0]) + 0.4 * noise
    skew = np.eye(3)
    skew[1, 0], skew[2, 0], skew[2, 1] = shear
    mask = np.array(pbc)
    if mask.all():
        given_cell = skew @ lattice
    else:
        given_cell, lattice = lattice, np.where(mask[:, None], lattice, 0.0)
    points = 0.8 * np.random.default_rng(1).normal(size=(6, 3)) @ (lattice + np.diag(~mask * 1.0))
    found, further = nearest(jnp.asarray(points), jnp.asarray(given_cell), jnp.asarray(mask))
    shifts = np.array(list(itertools.product(*(range(-6, 7) if p else [0] for p in pbc))))
    squares = np.sum((points[:, None] + shifts @ lattice) ** 2, axis=-1)
    np.testing.assert_allclose(np.sum(found**2, axis=1), squares.min(axis=1), atol=1e-9)
    assert further.shape == (6, 27)
    np.testing.assert_array_equal(further[:, 0], 0.0)
    second = np.sort(squares, axis=1)[:, 1] - squares.min(axis=1)
    np.testing.assert_allclose(np.sort(further, axis=1)[:, 1], second, atol=1e-9)


@settings(max_examples=20)
@given(arrays.arrays(int, (3,), elements=st.integers(-9, 9)))
def test_reduced_vectors_are_the_shortest_of_the_lattice(shear):
    skew = np.eye(3)
    skew[1, 0], skew[2, 0], skew[2, 1] = shear
    found = jax.jit(geometry.reduced)(jnp.asarray(skew @ CELL), jnp.ones(3, bool))
    whole = found @ np.linalg.inv(CELL)
    np.testing.assert_allclose(whole, np.round(whole), atol=1e-9)
    np.testing.assert_allclose(abs(np.linalg.det(whole)), 1.0, rtol=1e-9)
    lengths = np.linalg.norm(found, axis=1)
    shifts = np.array(list(itertools.product(range(-3, 4), repeat=3)))
    everything = np.sort(np.linalg.norm(shifts @ CELL, axis=1))
    np.testing.assert_allclose(lengths[:2], everything[[1, 3]], atol=1e-9)
    assert np.all(np.diff(lengths) >= -1e-9)
    single = jax.jit(geometry.reduced)(jnp.asarray(skew @ CELL, jnp.float32), jnp.ones(3, bool))
    np.testing.assert_allclose(np.linalg.norm(single, axis=1), lengths, rtol=1e-4)
