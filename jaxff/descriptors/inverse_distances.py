"""Inverse interatomic distances: the descriptor of GDML and sGDML."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxff.cell import minimum_image
from jaxff.system import System
from jaxff.types import Array, Float

__all__ = ["InverseDistances", "inverse_distances", "pair_index"]


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

    With a cell, displacements are taken to the minimum image along the periodic directions: exact
    for orthogonal or well reduced cells, with a kink where a pair crosses half a cell.

    Reference:
        Chmiela et al., Sci. Adv. 3, e1603015 (2017), doi:10.1126/sciadv.1603015.
    """

    name = "inverse_distances"

    def __call__(self, system: System, neighbors: Any = None) -> Float[Array, " pairs"]:
        """Features of one system, lower triangle row by row."""
        del neighbors  # all pairs are used
        rows, columns = np.tril_indices(system.atom_count, -1)
        displacements = system.positions[rows] - system.positions[columns]
        if system.cell is not None:
            pbc = jnp.ones(3, bool) if system.pbc is None else system.pbc
            displacements = minimum_image(displacements, system.cell, pbc)
        return 1.0 / jnp.sqrt(jnp.sum(displacements**2, axis=-1))

    def pairs(self, atoms: int) -> tuple[np.ndarray, np.ndarray]:
        """The two atoms on whose displacement alone each feature depends."""
        return np.tril_indices(atoms, -1)

    def permute(self, permutations: np.ndarray) -> np.ndarray:
        """Feature indices ``(perms, pairs)`` of permuted atoms: ``x(r[p]) = x(r)[permute(p)]``."""
        rows, columns = np.tril_indices(permutations.shape[-1], -1)
        table = pair_index(permutations.shape[-1])
        return table[permutations[..., rows], permutations[..., columns]]


inverse_distances = InverseDistances()
