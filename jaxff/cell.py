"""Geometry of periodic cells; rows are lattice vectors."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.numerics import safe_norm
from jaxff.types import Array, Bool, Float

__all__ = [
    "complete",
    "fractional",
    "heights",
    "images",
    "lattice_norms",
    "minimum_image",
    "reciprocal",
    "reduced",
    "volume",
]


def complete(
    cell: Float[Array, "*batch 3 3"], pbc: Bool[Array, "*batch 3"]
) -> Float[Array, "*batch 3 3"]:
    """Replace zero lattice vectors of non-periodic directions by unit vectors normal to the others.

    Slabs and wires are often stored with empty vectors; the completed cell is invertible and leaves
    periodic directions untouched.
    """
    # Which normals they get has no derivative, and one body for the three is faster to compile.
    fixed = jax.lax.stop_gradient(cell)
    empty = ~pbc & (jnp.sum(fixed**2, axis=-1) == 0.0)
    axes = jnp.broadcast_to(jnp.eye(3, dtype=cell.dtype), cell.shape)

    def fill(k: Array, vectors: Array) -> Array:
        # With one vector missing the cross product of the others serves; with more, Cartesian axes
        # made orthogonal.
        own, b, c = (jnp.take(vectors, (k + i) % 3, axis=-2) for i in range(3))
        cross = jnp.cross(b, c)
        norm = safe_norm(cross)[..., None]
        unit = jnp.where(norm > 0, cross / jnp.where(norm > 0, norm, 1.0), _normal(b, c, axes))
        new = jnp.where(jnp.take(empty, k, axis=-1)[..., None], unit, own)
        return jax.lax.dynamic_update_index_in_dim(vectors, new, k, axis=-2)

    return jnp.where(empty[..., None], jax.lax.fori_loop(0, 3, fill, fixed), cell)


def _normal(first: Array, second: Array, axes: Array) -> Array:
    """A unit vector normal to the longer of two vectors of which at least one vanishes."""
    longest = first + second
    norm = safe_norm(longest)[..., None]
    direction = jnp.where(norm > 0, longest / jnp.where(norm > 0, norm, 1.0), axes[..., 0, :])
    least = jnp.argmin(jnp.abs(direction), axis=-1)
    axis = jnp.take_along_axis(axes, least[..., None, None], axis=-2)[..., 0, :]
    normal = axis - jnp.sum(axis * direction, axis=-1, keepdims=True) * direction
    return normal / safe_norm(normal)[..., None]


def volume(cell: Float[Array, "*batch 3 3"]) -> Float[Array, "*batch"]:
    """Volume in Å³, positive for left- and right-handed cells."""
    return jnp.abs(jnp.linalg.det(cell))


def _dual(cell: Float[Array, "*batch 3 3"]) -> Float[Array, "*batch 3 3"]:
    """Dual vectors as rows, ``cell @ dual.T = 1``, in closed form: fast to compile."""
    a, b, c = (cell[..., i, :] for i in range(3))
    normals = jnp.stack([jnp.cross(b, c), jnp.cross(c, a), jnp.cross(a, b)], axis=-2)
    return normals / jnp.sum(a * normals[..., 0, :], axis=-1)[..., None, None]


def reciprocal(cell: Float[Array, "*batch 3 3"]) -> Float[Array, "*batch 3 3"]:
    """Reciprocal vectors as rows, with the factor 2π: ``cell @ reciprocal.T = 2π``."""
    return 2.0 * jnp.pi * _dual(cell)


def fractional(
    positions: Float[Array, "*batch points 3"], cell: Float[Array, "*batch 3 3"]
) -> Float[Array, "*batch points 3"]:
    """Coordinates in units of the lattice vectors."""
    return positions @ jnp.swapaxes(_dual(cell), -1, -2)


def heights(cell: Float[Array, "*batch 3 3"]) -> Float[Array, "*batch 3"]:
    """Distances between opposite faces in Å: lists without images need twice the cutoff."""
    return 1.0 / safe_norm(_dual(cell))


def minimum_image(
    displacements: Float[Array, "*batch points 3"],
    cell: Float[Array, "*batch 3 3"],
    pbc: Bool[Array, "*batch 3"],
) -> Float[Array, "*batch points 3"]:
    """Subtract the nearest whole lattice vector along each periodic direction.

    This is the nearest image only in cells that are orthogonal or well reduced and for pairs closer
    than half the smallest height; elsewhere it is one consistent image, as in sGDML. Vectors along
    directions that do not repeat mean nothing.
    """
    kept = jnp.where(pbc[..., None], cell, 0.0)
    # Whole numbers have no derivative: it need not be traced, nor be compiled. The dual vectors of
    # one to three lattice vectors come from their Gram matrix; those of the others are null.
    fixed = jax.lax.stop_gradient(kept)
    ones = jnp.where(pbc[..., None], 0.0, jnp.eye(3, dtype=cell.dtype))
    dual = _dual(fixed @ jnp.swapaxes(fixed, -1, -2) + ones) @ fixed
    shifts = jnp.round(jax.lax.stop_gradient(displacements) @ jnp.swapaxes(dual, -1, -2))
    return displacements - shifts @ kept


_FAR = 1e4
"""Length in Å of vectors that stand for directions that do not repeat."""

_PAIRS = tuple(itertools.combinations(range(4), 2))


def _selling_steps() -> np.ndarray:
    """Of each pair i < j with an acute angle: i turns round, the two others take it up."""
    steps = np.tile(np.eye(4), (len(_PAIRS), 1, 1))
    for step, (i, j) in zip(steps, _PAIRS, strict=True):
        step[:, i] += [k not in (i, j) for k in range(4)]
        step[i, i] = -1.0
    return steps


_STEPS = _selling_steps()
_SUBSETS = np.array([s for s in itertools.product([0.0, 1.0], repeat=4) if s[0] and not all(s)])
"""One of each pair of opposite sums of superbase vectors: seven."""

_AROUND = np.array(
    sorted(itertools.product([-1.0, 0.0, 1.0], repeat=3), key=lambda n: np.dot(n, n))
)
"""Cells around one, itself first."""


def reduced(cell: Float[Array, "3 3"], pbc: Bool[Array, "3"]) -> Float[Array, "3 3"]:
    """The shortest vectors that span the same lattice, as rows.

    They depend on the lattice alone, not on the vectors that it was given by, and follow a strain;
    which ones they are has no derivative. Directions that do not repeat get a vector normal to the
    others, so long that no image along it is ever near.

    Reference:
        Selling's reduction to a superbase without acute angles, the seven sums of which hold the
        shortest vectors: Conway & Sloane, Proc. R. Soc. A 436, 55 (1992),
        doi:10.1098/rspa.1992.0004.
    """
    full, sums = _shortest(cell, pbc)
    # Coefficients are whole numbers: a plane holds three of them if their determinant is zero.
    normal = jnp.cross(sums[0], sums[1])
    third = sums[jnp.argmax(jnp.abs(sums @ normal) > 0.5)]
    return jnp.stack([sums[0], sums[1], third]) @ full


def lattice_norms(cell: Float[Array, "3 3"], pbc: Bool[Array, "3"]) -> Float[Array, "7"]:
    """Squares of the seven shortest classes of lattice vectors in Å², in their order.

    They are the same for any vectors of one lattice and however it is turned, and change with it
    continuously; those with a part along a direction that does not repeat are very large. They have
    no derivative.

    Reference:
        The squared lengths of Voronoi vectors: Conway & Sloane, as in :func:`reduced`.
    """
    full, sums = _shortest(cell, pbc)
    return jnp.sum((sums @ jax.lax.stop_gradient(full)) ** 2, axis=1)


def _shortest(cell: Array, pbc: Array) -> tuple[Array, Array]:
    """The cell, completed, and in its units the sums of an obtuse superbase, shortest first."""
    full = complete(jnp.where(pbc[:, None], cell, 0.0), pbc)
    full = jnp.where(pbc[:, None], full, _FAR * full)
    fixed = jax.lax.stop_gradient(full)
    rounding = 16.0 * jnp.finfo(cell.dtype).eps
    i, j = np.array(_PAIRS).T

    def angles(superbase: Array) -> Array:
        vectors = superbase @ fixed
        sizes = jnp.sqrt(jnp.sum(vectors**2, axis=1))
        return jnp.sum(vectors[i] * vectors[j], axis=1) - rounding * sizes[i] * sizes[j]

    def turn(superbase: Array) -> Array:
        return jnp.asarray(_STEPS, cell.dtype)[jnp.argmax(angles(superbase))] @ superbase

    start = jnp.asarray(np.concatenate([np.eye(3), -np.ones((1, 3))]), cell.dtype)
    superbase = jax.lax.while_loop(lambda s: jnp.max(angles(s)) > 0.0, turn, start)
    sums = jnp.asarray(_SUBSETS, cell.dtype) @ superbase
    return full, sums[jnp.argsort(jnp.sum((sums @ fixed) ** 2, axis=1))]


def images(
    displacements: Float[Array, "points 3"], cell: Float[Array, "3 3"], pbc: Bool[Array, "3"]
) -> tuple[Float[Array, "points 3"], Float[Array, "points 27"]]:
    """The nearest image of each displacement, and how much larger the squares of others are, in Å².

    This is the nearest image in a cell of any shape. Its own entry, zero, comes first of the 27,
    which hold all images that can be nearest where a displacement changes a little.

    Reference:
        Coefficients of a nearest lattice vector are at most one after rounding to shortest vectors:
        Nguyen & Stehlé, ACM Trans. Algorithms 5, 46 (2009), doi:10.1145/1597036.1597050.
    """
    basis = reduced(cell, pbc)
    around = jnp.asarray(_AROUND, cell.dtype) @ basis
    sizes = jnp.sum(around**2, axis=1)
    still = jax.lax.stop_gradient
    rounded = jnp.round(still(displacements) @ _dual(still(basis)).T)
    near = displacements - rounded @ basis
    best = jnp.argmin(still(2.0 * near @ around.T + sizes), axis=1)
    nearest = near + around[best]
    return nearest, 2.0 * nearest @ around.T + sizes
