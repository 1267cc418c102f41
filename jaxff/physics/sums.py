"""Energies of atoms in pairs with others: what terms with charges or other atomic inputs share."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxff.neighbors import Pairs, displacements, sum_pairs
from jaxff.numerics import safe_norm
from jaxff.system import System
from jaxff.types import Array, Bool, Float

__all__ = ["pair_sums"]


def pair_sums(
    function: Callable[..., Array], system: System, pairs: Pairs | None, *per_atom: Any
) -> Float[Array, " atoms"]:
    r"""Half of the energies in which each atom takes part, in eV.

    :math:`\frac12\sum_j u(r_{ij}, a_i, a_j)`.

    Args:
        function: ``(distances in Å, *of the atoms, *of the others) -> energies``, elementwise and
            symmetric; it takes the energy to zero at its cutoff itself.
        system: A single system or a pack.
        pairs: The pairs, both directions; ``None`` for every two atoms of one molecule. Where a
            list is not much shorter than that, it is not used.
        *per_atom: What the function is to know of each atom, pytrees of leaves ``(atoms,)``; must
            be harmless for padding atoms.

    Raises:
        ValueError: If all pairs of a periodic system are asked for, or pairs of a stack.
    """
    if pairs is None or _matrix_is_cheaper(system, pairs):
        return _dense(function, system, per_atom)
    vectors, mask = displacements(system, pairs)
    centers, others = (jnp.where(mask, index, 0) for index in (pairs.centers, pairs.others))
    first, second = (_at(per_atom, index) for index in (centers, others))
    energies = function(safe_norm(vectors), *first, *second)
    return 0.5 * sum_pairs(pairs, jnp.where(mask, energies, 0.0))


def _matrix_is_cheaper(system: System, pairs: Pairs) -> bool:
    """Whether all pairs of a molecule, in no order, cost less than those listed, gathered."""
    fits = pairs.atoms == system.atom_count and system.positions.ndim == 2
    alone = system.cell is None and system.structure is None
    return fits and alone and system.atom_count**2 <= 2 * len(pairs.centers)


def _at(per_atom: tuple, index: Array) -> tuple:
    return jax.tree.map(lambda leaf: leaf[index], per_atom)


def _dense(function: Callable[..., Array], system: System, per_atom: tuple) -> Array:
    """All pairs of molecules as a matrix: neither gathered nor scattered."""
    if system.positions.ndim != 2:
        raise ValueError(
            f"a stack of shape {system.batch_shape} has no common pairs: use pack, or jax.vmap"
        )
    if system.cell is not None:
        raise ValueError(
            "without a cutoff only molecules can be computed, and this system has a cell: give "
            "pairs within a cutoff, or remove the cell"
        )
    mask = _of_one_molecule(system)
    vectors = system.positions[None, :, :] - system.positions[:, None, :]
    distances = jnp.where(mask, safe_norm(jnp.where(mask[..., None], vectors, 1.0)), 1.0)
    first = jax.tree.map(lambda leaf: leaf[:, None], per_atom)
    second = jax.tree.map(lambda leaf: leaf[None, :], per_atom)
    energies = function(distances, *first, *second)
    return 0.5 * jnp.sum(jnp.where(mask, energies, 0.0), axis=1)


def _of_one_molecule(system: System) -> Bool[Array, "atoms atoms"]:
    real = system.numbers > 0
    mask = real[:, None] & real[None, :] & ~jnp.eye(system.atom_count, dtype=bool)
    if system.structure is not None:
        mask &= system.structure[:, None] == system.structure[None, :]
    return mask
