r"""Inverse distances of all pairs in a supercell of any shape, sharp and smooth.

The published descriptor of periodic systems takes the nearest image of each pair. Where two images
are equally near, on a half-cell plane, it has a kink: forces jump. In an ideal crystal many pairs
lie exactly there. The smooth one is a lattice sum without such planes.
"""

import math
import warnings
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.cell import images, reduced
from jaxff.descriptors.inverse_distances import InverseDistances
from jaxff.system import System
from jaxff.types import Array, Bool, Float

__all__ = [
    "NearestImages",
    "SmoothImages",
    "nearest_images",
    "smooth_images",
    "smoothest",
    "tied_fraction",
    "warn_of_ties",
]

_NEGLIGIBLE = 30.0
"""Natural logarithm of how little images that are left out may weigh: 1e-13."""


@dataclass(frozen=True)
class NearestImages(InverseDistances):
    r"""Descriptor :math:`x_{ab} = 1/\min_L\lVert r_a - r_b + L\rVert` of all pairs, in 1/Å.

    The nearest image is found in cells of any shape, where ``inverse_distances`` rounds fractional
    coordinates, as sGDML does. Both are the same in orthogonal cells; in others the latter jumps.

    Reference:
        Sauceda et al., Nat. Commun. 13, 3733 (2022), doi:10.1038/s41467-022-31093-x.
    """

    name = "nearest_images"

    def __call__(self, system: System, neighbors: Any = None) -> Float[Array, " pairs"]:
        """Features of one system, lower triangle row by row."""
        del neighbors  # all pairs are used
        nearest, _ = images(*_displacements(system))
        return 1.0 / jnp.sqrt(jnp.sum(nearest**2, axis=-1))

    def inspect(self, systems: System) -> None:
        """Warn of reference systems with pairs on a half-cell plane."""
        warn_of_ties(systems)


@dataclass(frozen=True)
class SmoothImages(InverseDistances):
    r"""Inverse of a smooth minimum over the images of a pair, in 1/Å.

    .. math:: x_{ab}^{-2} = -\frac1\beta \ln \sum_L e^{-\beta\lVert r_a - r_b + L\rVert^2}

    with lattice vectors L: infinitely often differentiable by positions and cell, and invariant to
    all symmetries of the lattice, as it depends on the lattice alone. It tends to the nearest image
    with large β, and differs from it by :math:`\ln(2)/2\beta d` on a half-cell plane and, by a
    factor :math:`e^{-2\beta L\delta}`, less at a distance δ from it.

    Images are summed that are next to the nearest one. Those left out weigh less than
    :math:`e^{-\beta a^2}`, with the shortest lattice vector a: :func:`smooth_images` sees to it
    that this is beyond working precision.

    Attributes:
        sharpness: β in 1/Å². A constant, so that a strain derivative is that of the images.
    """

    sharpness: float
    name = None

    def __call__(self, system: System, neighbors: Any = None) -> Float[Array, " pairs"]:
        """Features of one system, lower triangle row by row."""
        del neighbors  # all pairs are used
        nearest, further = images(*_displacements(system))
        soft = jnp.log(jnp.sum(jnp.exp(-self.sharpness * further), axis=-1)) / self.sharpness
        return 1.0 / jnp.sqrt(jnp.sum(nearest**2, axis=-1) - soft)

    def inspect(self, systems: System) -> None:
        """Refuse cells so small that neglected images would be seen.

        Raises:
            ValueError: If there are such.
        """
        least = smoothest(systems)
        if self.sharpness < (1.0 - 1e-3) * least:  # cells that breathe a little may pass
            raise ValueError(
                f"the sharpness must be at least {least:.3g} 1/Å² in a cell with such short "
                f"lattice vectors, got {self.sharpness:.3g}: take smooth_images(systems), or a "
                "larger cell"
            )


nearest_images = NearestImages()


def smooth_images(systems: System | None = None, *, sharpness: float | None = None) -> SmoothImages:
    """Smooth descriptor of all pairs in a supercell, see :class:`SmoothImages`.

    Args:
        systems: Systems in the cells that are to be described, for the least sharpness that leaves
            the sum over images exact to rounding.
        sharpness: β in 1/Å² itself.

    Raises:
        ValueError: If not exactly one is given, or the sharpness is not positive and finite.
    """
    if (systems is None) == (sharpness is None):
        raise ValueError("smooth_images takes systems, or a sharpness, one of the two")
    if systems is not None:
        sharpness = smoothest(systems)
    assert sharpness is not None
    if not 0.0 < sharpness < math.inf:
        raise ValueError(f"sharpness must be positive and finite, got {sharpness}")
    return SmoothImages(float(sharpness))


_reduced = jax.jit(jax.vmap(reduced))


def smoothest(systems: System) -> float:
    """The least sharpness in 1/Å² for the cells of some systems.

    Raises:
        ValueError: If they have no cell.
    """
    if systems.cell is None:
        raise ValueError("the systems have no cell: for molecules use inverse_distances")
    cells = jnp.reshape(systems.cell, (-1, 3, 3))
    shortest = jnp.sum(_reduced(cells, jnp.reshape(_pbc(systems), (-1, 3))) ** 2, 2)
    return float(_NEGLIGIBLE / jnp.min(shortest))


def tied_fraction(system: System, tolerance: float = 1e-6) -> Float[Array, "*batch"]:
    """Fraction of the pairs with two images that are nearest, to a tolerance in Å.

    Args:
        system: A single system or a stack, with a cell.
        tolerance: Largest difference of the two distances.

    Raises:
        ValueError: If there is no cell.
    """
    one = partial(_tied_fraction, tolerance=tolerance)
    for _ in system.batch_shape:
        one = jax.vmap(one)
    return jax.jit(one)(system)


def _tied_fraction(system: System, tolerance: float) -> Array:
    nearest, further = images(*_displacements(system))
    square = jnp.sum(nearest**2, axis=-1)[:, None]
    tied = jnp.sqrt(square + further) - jnp.sqrt(square) < tolerance
    return jnp.mean((jnp.sum(tied, axis=1) > 1).astype(square.dtype))


def warn_of_ties(systems: System) -> None:
    """Warn if pairs lie on a half-cell plane, where the nearest image has no derivative.

    Warns:
        UserWarning: If there are some.
    """
    if systems.cell is None:
        return
    fraction = np.ravel(tied_fraction(systems))
    worst = int(np.argmax(fraction))
    if fraction[worst] > 0.0:
        warnings.warn(
            f"{100 * fraction[worst]:.0f} % of the pairs of geometry {worst} have two nearest "
            "images to within 1e-6 Å, as in an ideal lattice: there the descriptor has no "
            "derivative, and forces jump nearby. Use smooth_images",
            UserWarning,
            stacklevel=3,
        )


def _pbc(system: System) -> Bool[Array, "*batch 3"]:
    return jnp.ones((*system.batch_shape, 3), bool) if system.pbc is None else system.pbc


def _displacements(system: System) -> tuple[Array, Array, Array]:
    """Displacements of all pairs, cell and periodic directions of a single system.

    Raises:
        ValueError: For a stack or a pack, or without a cell.
    """
    if system.batch_shape or system.is_packed:
        raise ValueError(
            "distances of all pairs are those of one system: use jax.vmap for the stack of shape "
            f"{system.batch_shape}"
        )
    if system.cell is None:
        raise ValueError("the system has no cell: for molecules use inverse_distances")
    rows, columns = np.tril_indices(system.atom_count, -1)
    return system.positions[rows] - system.positions[columns], system.cell, _pbc(system)
