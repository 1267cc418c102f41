r"""Internal coordinates of molecules: bonds, angles and dihedrals.

Angles enter as :math:`\cos\theta`, which is smooth for straight angles too (where it does not
change to first order, as no bending coordinate can). Dihedrals enter as (cos, sin), so that nothing
jumps at ±180°; by default both are multiplied by the sines of the two angles that they span.
These products are polynomials of the directions of the bonds,

.. math::
    \sin\theta_1 \sin\theta_2 \cos\varphi = (u_1\times u_2)\cdot(u_2\times u_3), \qquad
    \sin\theta_1 \sin\theta_2 \sin\varphi = u_1\cdot(u_2\times u_3),

smooth wherever bonds have a length; a dihedral at a straight angle, which does not exist, gives
(0, 0). Without the sines a straight angle has no finite value.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxff.cell import minimum_image
from jaxff.descriptors.connectivity import angles_of, bonds_of, dihedrals_of, require_connected
from jaxff.numerics import safe_norm
from jaxff.system import System
from jaxff.types import Array, Float

__all__ = ["InternalCoordinates", "internal", "internal_from_geometry"]


@dataclass(frozen=True)
class InternalCoordinates:
    r"""Descriptor: bond lengths (Å), :math:`\cos\theta`, then (cos, sin) of each dihedral.

    Dihedrals are positive if, seen along the middle bond, the far bond is turned clockwise (IUPAC);
    their sines change sign in the mirror image. Bonds of no length give the direction zero: values
    and derivatives stay finite. With a cell, bonds reach to the minimum image.

    Attributes:
        bonds: Pairs of atoms.
        angles: Triples of atoms, the vertex in the middle.
        dihedrals: Quadruples of atoms in a chain.
        weighted: Whether dihedrals are multiplied by the sines of their angles.

    Reference:
        Wilson, Decius & Cross, Molecular Vibrations (1955), chapter 4.
    """

    bonds: tuple[tuple[int, int], ...] = ()
    angles: tuple[tuple[int, int, int], ...] = ()
    dihedrals: tuple[tuple[int, int, int, int], ...] = ()
    weighted: bool = True
    smoothness = math.inf

    def __call__(self, system: System, neighbors: Any = None) -> Float[Array, " features"]:
        """Features of one system.

        Raises:
            ValueError: If the system has fewer atoms than the coordinates name, or is no single
                system.
        """
        del neighbors  # the atoms are given
        last = max(max(item) for item in (*self.bonds, *self.angles, *self.dihedrals))
        if system.batch_shape or system.is_packed or last >= system.atom_count:
            raise ValueError(
                f"these coordinates are of one system with at least {last + 1} atoms, got "
                f"positions of shape {system.positions.shape}"
            )
        bond = partial(_bond, system)
        lengths = safe_norm(bond(self.bonds, 0, 1))
        first, second = _unit(bond(self.angles, 1, 0)), _unit(bond(self.angles, 1, 2))
        cosines = jnp.sum(first * second, axis=-1)
        chain = [_unit(bond(self.dihedrals, k, k + 1)) for k in range(3)]
        return jnp.concatenate([lengths, cosines, jnp.ravel(_turn(chain, self.weighted))])

    def permute(self, permutations: np.ndarray) -> np.ndarray:
        """Feature indices of permuted atoms: ``x(r[p]) = x(r)[permute(p)]``.

        Raises:
            ValueError: If a permutation takes a coordinate to one that is not listed.
        """
        rows = [self._permuted(p) for p in np.reshape(permutations, (-1, permutations.shape[-1]))]
        return np.array(rows).reshape(*permutations.shape[:-1], -1)

    def _permuted(self, permutation: np.ndarray) -> list[int]:
        index: list[int] = []
        for items, entries in ((self.bonds, 1), (self.angles, 1), (self.dihedrals, 2)):
            start = len(index)
            places = {min(item, item[::-1]): k for k, item in enumerate(items)}
            for item in items:
                image = tuple(int(permutation[a]) for a in item)
                place = places.get(min(image, image[::-1]))
                if place is None:
                    raise ValueError(
                        f"the permutation takes the coordinate {item} to {image}, which is not "
                        "listed: list all coordinates that are equal by symmetry"
                    )
                index += [start + entries * place + e for e in range(entries)]
        return index


def _bond(system: System, items: Sequence[tuple], start: int, end: int) -> Float[Array, "items 3"]:
    """Vectors in Å between two atoms of each item."""
    ends = np.array([(item[start], item[end]) for item in items], int).reshape(-1, 2)
    vectors = system.positions[ends[:, 1]] - system.positions[ends[:, 0]]
    if system.cell is None:
        return vectors
    pbc = jnp.ones(3, bool) if system.pbc is None else system.pbc
    return minimum_image(vectors, system.cell, pbc)


def _unit(vectors: Float[Array, "items 3"]) -> Float[Array, "items 3"]:
    square = jnp.sum(vectors**2, axis=-1, keepdims=True)
    return vectors / jnp.sqrt(jnp.where(square == 0.0, 1.0, square))


def _turn(chain: list[Array], weighted: bool) -> Float[Array, "items 2"]:
    """Cosine and sine of the turn about the middle of three unit vectors."""
    normals = jnp.cross(chain[0], chain[1]), jnp.cross(chain[1], chain[2])
    cosine = jnp.sum(normals[0] * normals[1], axis=-1)
    sine = jnp.sum(chain[0] * normals[1], axis=-1)
    if not weighted:
        # Both normals, not the root of cos² + sin²: a middle bond of no length must not divide.
        size = safe_norm(normals[0]) * safe_norm(normals[1])
        cosine, sine = cosine / size, sine / size
    return jnp.stack([cosine, sine], axis=-1)


def internal(
    bonds: Sequence[Sequence[int]] = (),
    angles: Sequence[Sequence[int]] = (),
    dihedrals: Sequence[Sequence[int]] = (),
    *,
    weighted: bool = True,
) -> InternalCoordinates:
    """Internal coordinates of given atoms; see :class:`InternalCoordinates`.

    Raises:
        ValueError: If there are none, or an item has another number of atoms, names one twice, or
            is listed twice.
    """
    if not (len(bonds) or len(angles) or len(dihedrals)):
        raise ValueError("internal coordinates need at least one bond, angle or dihedral, got none")
    return InternalCoordinates(
        _items("bonds", bonds, 2),
        _items("angles", angles, 3),
        _items("dihedrals", dihedrals, 4),
        weighted,
    )


def _items(name: str, items: Sequence[Sequence[int]], width: int) -> Any:
    listed = [tuple(int(a) for a in item) for item in items]
    for item in listed:
        if len(item) != width or len(set(item)) < width or min(item) < 0:
            raise ValueError(f"{name} must be {width} different atoms each, got {item}")
    if len({min(item, item[::-1]) for item in listed}) < len(listed):
        raise ValueError(f"{name} must be listed once each, got {listed}")
    return tuple(listed)


def internal_from_geometry(
    system: System, *, scale: float = 1.25, straight: float = 175.0, weighted: bool = True
) -> InternalCoordinates:
    """Internal coordinates of all bonds, angles and chains of four bonded atoms of a molecule.

    Args:
        system: One geometry; with a cell, bonds reach to the minimum image.
        scale: Atoms are bonded if closer than this multiple of the sum of their covalent radii.
        straight: Dihedrals with an angle beyond this one (degrees) in the geometry are left out:
            they do not exist for a straight angle.
        weighted: Whether dihedrals are multiplied by the sines of their angles.

    Raises:
        ValueError: If bonds do not join all atoms: bonds, angles and dihedrals would not say where
            the parts are.
    """
    bonds = bonds_of(system, scale)
    require_connected(bonds, system.atom_count)
    angles = angles_of(bonds)
    bent = angles[_degrees(system, angles) <= straight]
    dihedrals = dihedrals_of(bonds, bent)
    return internal(bonds.tolist(), angles.tolist(), dihedrals.tolist(), weighted=weighted)


def _degrees(system: System, angles: np.ndarray) -> np.ndarray:
    items = [tuple(item) for item in angles.tolist()]
    first, second = (_unit(_bond(system, items, 1, end)) for end in (0, 2))
    cosines = np.clip(np.sum(np.asarray(first) * np.asarray(second), axis=-1), -1.0, 1.0)
    return np.degrees(np.arccos(cosines))
