"""Geometry of periodic cells; rows are lattice vectors."""

import jax
import jax.numpy as jnp

from jaxff.numerics import safe_norm
from jaxff.types import Array, Bool, Float

__all__ = ["complete", "fractional", "heights", "minimum_image", "reciprocal", "volume"]


def complete(
    cell: Float[Array, "*batch 3 3"], pbc: Bool[Array, "*batch 3"]
) -> Float[Array, "*batch 3 3"]:
    """Replace zero lattice vectors of non-periodic directions by unit vectors normal to the others.

    Slabs and wires are often stored with empty vectors; the completed cell is invertible and leaves
    periodic directions untouched.
    """
    a, b, c = (cell[..., i, :] for i in range(3))
    empty = ~pbc & (jnp.sum(cell**2, axis=-1) == 0.0)

    def unit(vector, fallback):
        norm = safe_norm(vector)[..., None]
        return jnp.where(norm > 0, vector / jnp.where(norm > 0, norm, 1.0), fallback)

    axes = jnp.broadcast_to(jnp.eye(3, dtype=cell.dtype), cell.shape)
    # With one vector missing the cross product of the others serves; with more, Cartesian axes made
    # orthogonal.
    a = jnp.where(empty[..., 0:1], unit(jnp.cross(b, c), _normal(b, c, axes)), a)
    b = jnp.where(empty[..., 1:2], unit(jnp.cross(c, a), _normal(a, c, axes)), b)
    c = jnp.where(empty[..., 2:3], unit(jnp.cross(a, b), _normal(a, b, axes)), c)
    return jnp.stack([a, b, c], axis=-2)


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
