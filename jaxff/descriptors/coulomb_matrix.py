"""Coulomb matrices: nuclear repulsion of all pairs, and their eigenvalues."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.descriptors.distances import pair_distances
from jaxff.system import System
from jaxff.types import Array, Float

__all__ = ["CoulombEigenvalues", "CoulombMatrix", "coulomb_eigenvalues", "coulomb_matrix"]


def matrix(system: System) -> Float[Array, "atoms atoms"]:
    r"""Coulomb matrix: :math:`\tfrac12 Z_a^{2.4}` on the diagonal, :math:`Z_a Z_b/d_{ab}` off it.

    In e²/Å; rows of padding atoms vanish; with a cell, distances are those of the minimum image.
    """
    distances, real = pair_distances(system)
    rows, columns = np.tril_indices(system.atom_count, -1)
    charges = system.numbers.astype(distances.dtype)
    # atoms in one place repel without bound: infinity, as the inverse distance has it
    pairs = jnp.where(real, charges[rows] * charges[columns] / distances, 0.0)
    lower = jnp.zeros((system.atom_count,) * 2, distances.dtype).at[rows, columns].set(pairs)
    return lower + lower.T + jnp.diag(0.5 * charges**2.4)


@dataclass(frozen=True)
class CoulombMatrix:
    """Descriptor: upper triangle of the unsorted Coulomb matrix, row by row, in e²/Å.

    The diagonal, which no motion changes, is part of it. Sorting rows would make it independent of
    the order of atoms, but discontinuous: declare a permutation group to the kernel instead.

    Reference:
        Rupp et al., Phys. Rev. Lett. 108, 058301 (2012), doi:10.1103/PhysRevLett.108.058301.
    """

    name = "coulomb_matrix"
    smoothness = math.inf

    def __call__(self, system: System, neighbors: Any = None) -> Float[Array, " entries"]:
        """Features of one system."""
        del neighbors  # all pairs are used
        return matrix(system)[np.triu_indices(system.atom_count)]

    def permute(self, permutations: np.ndarray) -> np.ndarray:
        """Feature indices of permuted equal atoms: ``x(r[p]) = x(r)[permute(p)]``."""
        atoms = permutations.shape[-1]
        rows, columns = np.triu_indices(atoms)
        table = np.zeros((atoms, atoms), int)
        table[rows, columns] = table[columns, rows] = np.arange(len(rows))
        return table[permutations[..., rows], permutations[..., columns]]


@dataclass(frozen=True)
class CoulombEigenvalues:
    """Descriptor: eigenvalues of the Coulomb matrix by falling absolute value, in e²/Å.

    A baseline only. Independent of the order of atoms, but *not smooth*: where two eigenvalues
    cross, or their absolute values do, entries swap and the slope jumps (``smoothness`` is 0);
    symmetric molecules are such points. Values and derivatives stay finite there: each is that of
    one of the branches, and couplings of equal eigenvalues are left out of second derivatives.
    Distinct molecules may share a spectrum.

    Attributes:
        size: Number of entries, those beyond the number of atoms zero; ``None`` for one per atom.

    Reference:
        Rupp et al., Phys. Rev. Lett. 108, 058301 (2012), doi:10.1103/PhysRevLett.108.058301;
        Montavon et al., New J. Phys. 15, 095003 (2013), doi:10.1088/1367-2630/15/9/095003.
    """

    size: int | None = None
    smoothness = 0

    def __call__(self, system: System, neighbors: Any = None) -> Float[Array, " entries"]:
        """Features of one system.

        Raises:
            ValueError: If the system has more atoms than ``size``.
        """
        del neighbors  # all pairs are used
        atoms = system.atom_count
        size = atoms if self.size is None else self.size
        if size < atoms:
            raise ValueError(f"size must be at least the number of atoms, {atoms}; got {size}")
        values = _eigh(matrix(system))[0]
        order = jnp.argsort(-jnp.abs(jax.lax.stop_gradient(values)), stable=True)
        return jnp.pad(values[order], (0, size - atoms))

    def permute(self, permutations: np.ndarray) -> np.ndarray:
        """Feature indices of permuted equal atoms: all stay where they are."""
        size = permutations.shape[-1] if self.size is None else self.size
        return np.broadcast_to(np.arange(size), (*permutations.shape[:-1], size))


@jax.custom_jvp
def _eigh(symmetric: Array) -> tuple[Array, Array]:
    """Eigenvalues and -vectors whose derivatives stay finite where eigenvalues coincide."""
    vectors, values = jax.lax.linalg.eigh(symmetric, symmetrize_input=True)
    return values, vectors


@_eigh.defjvp
def _eigh_tangent(primals: Any, tangents: Any) -> tuple[Any, Any]:
    values, vectors = _eigh(*primals)
    inner = vectors.T @ tangents[0] @ vectors
    gaps = values[None, :] - values[:, None]
    close = 8 * jnp.finfo(values.dtype).eps * jnp.max(jnp.abs(values))
    distinct = jnp.abs(gaps) > len(values) * close
    mixing = jnp.where(distinct, inner / jnp.where(distinct, gaps, 1.0), 0.0)
    return (values, vectors), (jnp.diagonal(inner), vectors @ mixing)


coulomb_matrix = CoulombMatrix()


def coulomb_eigenvalues(size: int | None = None) -> CoulombEigenvalues:
    """See :class:`CoulombEigenvalues`.

    Raises:
        ValueError: If the size is not positive.
    """
    if size is not None and size < 1:
        raise ValueError(f"size must be positive or None, got {size}")
    return CoulombEigenvalues(size)
