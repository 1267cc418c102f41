"""Inverse interatomic distances: the descriptor of GDML and sGDML."""

import warnings
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.cell import images, minimum_image
from jaxff.system import System
from jaxff.types import Array, Float

__all__ = ["InverseDistances", "inverse_distances", "misplaced_fraction", "pair_index"]


def pair_index(atoms: int) -> np.ndarray:
    """Symmetric table of pair numbers, ``-1`` on the diagonal.

    Pairs run (1,0), (2,0), (2,1), (3,0), …
    """
    rows, columns = np.tril_indices(atoms, -1)
    table = np.full((atoms, atoms), -1)
    table[rows, columns] = table[columns, rows] = np.arange(len(rows))
    return table


@dataclass(frozen=True)
class InverseDistances:
    r"""Descriptor :math:`x_{ab} = 1/\lVert r_a - r_b\rVert` of all pairs, in 1/Å.

    With a cell, fractional displacements are rounded to half a cell along the periodic directions,
    as in sGDML. In orthogonal cells this is the nearest image, with a kink where a pair crosses
    half a cell. In others it is not: there the descriptor, and with it the energy, jumps, and
    ``nearest_images`` or ``smooth_images`` are the ones to take.

    Reference:
        Chmiela et al., Sci. Adv. 3, e1603015 (2017), doi:10.1126/sciadv.1603015.
    """

    name = "inverse_distances"

    def __call__(self, system: System, neighbors: Any = None) -> Float[Array, " pairs"]:
        """Features of one system, lower triangle row by row."""
        del neighbors  # all pairs are used
        displacements = _displacements(system)
        if system.cell is not None:
            pbc = jnp.ones(3, bool) if system.pbc is None else system.pbc
            displacements = minimum_image(displacements, system.cell, pbc)
        return 1.0 / jnp.sqrt(jnp.sum(displacements**2, axis=-1))

    def inspect(self, systems: System) -> None:
        """Warn of reference systems in which rounding misses nearest images.

        Warns:
            UserWarning: If there are some.
        """
        fraction = np.ravel(misplaced_fraction(systems))
        worst = int(np.argmax(fraction))
        if fraction[worst] > 0.0:
            warnings.warn(
                f"in the oblique cell of geometry {worst} rounding misses the nearest image of "
                f"{100 * fraction[worst]:.2g} % of the pairs: nearby the energy jumps. Take "
                "nearest_images or smooth_images",
                UserWarning,
                stacklevel=3,
            )

    def pairs(self, atoms: int) -> tuple[np.ndarray, np.ndarray]:
        """The two atoms on whose displacement alone each feature depends."""
        return np.tril_indices(atoms, -1)

    def permute(self, permutations: np.ndarray) -> np.ndarray:
        """Feature indices ``(perms, pairs)`` of permuted atoms: ``x(r[p]) = x(r)[permute(p)]``."""
        rows, columns = np.tril_indices(permutations.shape[-1], -1)
        table = pair_index(permutations.shape[-1])
        return table[permutations[..., rows], permutations[..., columns]]


inverse_distances = InverseDistances()


def misplaced_fraction(system: System, tolerance: float = 1e-3) -> Float[np.ndarray, "*batch"]:
    """Fraction of the pairs that rounding does not bring to their nearest image.

    Args:
        system: A single system or a stack; without a cell there are none.
        tolerance: How much nearer the nearest image is, in Å.
    """
    if system.cell is None or _is_orthogonal(system):
        return np.zeros(system.batch_shape)
    one = partial(_misplaced_fraction, tolerance=tolerance)
    for _ in system.batch_shape:
        one = partial(jax.lax.map, one)  # one at a time, as there are 27 images of each pair
    return np.asarray(jax.jit(one)(system))


def _is_orthogonal(system: System) -> bool:
    assert system.cell is not None
    pbc = np.ones(3, bool) if system.pbc is None else np.asarray(system.pbc)
    kept = np.where(pbc[..., None], np.asarray(system.cell), 0.0)
    products = kept @ np.swapaxes(kept, -1, -2)
    off = products * (1.0 - np.eye(3))
    return bool(np.abs(off).max() <= 1e-9 * np.abs(products).max())


def _misplaced_fraction(system: System, tolerance: float) -> Array:
    displacements = _displacements(system)
    assert system.cell is not None
    pbc = jnp.ones(3, bool) if system.pbc is None else system.pbc
    rounded = minimum_image(displacements, system.cell, pbc)
    nearest, _ = images(displacements, system.cell, pbc)
    lengths = [jnp.sqrt(jnp.sum(vectors**2, axis=-1)) for vectors in (rounded, nearest)]
    return jnp.mean((lengths[0] - lengths[1] > tolerance).astype(displacements.dtype))


def _displacements(system: System) -> Float[Array, "pairs 3"]:
    rows, columns = np.tril_indices(system.atom_count, -1)
    return system.positions[rows] - system.positions[columns]
