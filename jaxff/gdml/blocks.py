r"""Blocks of the kernel matrix between one reference, as the permuted query, and many others.

With features :math:`x`, Jacobians :math:`J`, differences :math:`d_p = x_{ip} - x_j` and
:math:`u_p = J_{ip}^T d_p`, :math:`v_p = J_j^T d_p`, a force-force block is

.. math:: B_{ij} = -\sum_p \frac{4 h''}{\ell^4}\, u_p v_p^T + \frac{2 h'}{\ell^2}\, J_{ip}^T J_j .

For any descriptor this is one matrix product over features and permutations together. If every
feature depends on one pair of atoms, as inverse distances do, :math:`J_{ip}^T J_j` is a sum over
pairs of outer products of two three-vectors: about :math:`60\,P M^2` operations per block of M
atoms in place of :math:`9 M^4`.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.kernels.kernel import Kernel
from jaxff.system import System
from jaxff.types import Array, Float

__all__ = [
    "Tile",
    "blocks",
    "columns_of",
    "even_tiles",
    "features_and_jacobians",
    "finish",
    "is_pairwise",
    "pair_field",
    "permutes_features",
    "prepare_columns",
    "prepare_rows",
    "terms",
    "tile_blocks",
    "tile_columns",
    "tile_rows",
    "tile_terms",
]


def prepare_columns(kernel: Kernel, hyper: Any, systems: System, center: Array) -> dict[str, Array]:
    """What the blocks need of the references that act as queries; leading axis: reference."""
    if permutes_features(kernel):
        return columns_of(kernel, *features_and_jacobians(kernel, hyper, systems), center)
    return _columns(*jax.vmap(lambda s: _permuted_jacobian(kernel, hyper, s))(systems), center)


def columns_of(
    kernel: Kernel,
    x: Float[Array, "I D"],
    jacobian: Float[Array, "I D components"],
    center: Float[Array, " D"],
) -> dict[str, Array]:
    """The same from features and Jacobians, for kernels with :func:`permutes_features`."""
    # Features permute exactly, so their Jacobian is gathered instead of differentiated P times.
    index = kernel.feature_permutations
    index = np.arange(x.shape[1])[None] if index is None else index
    columns = _columns(x[:, index], jacobian[:, index], center)
    if is_pairwise(kernel):
        atoms = jacobian.shape[2] // 3
        perms = _permutations(kernel, atoms)
        field = pair_field(kernel, jacobian, atoms)  # (I, M, M, 3)
        # g_p[a, c] = ∂x_{a p(c)}/∂r_a with the vector component before the column atom.
        columns["pairs"] = jnp.swapaxes(field[:, :, perms], 1, 2).swapaxes(3, 4)
        atoms, _, members = _homes(perms)
        # A column atom c at home in row atom a = p(c) collects the pairs (a, p(b)) for those p.
        home = field[:, atoms[:, None, None], perms[None]] * members[:, :, None, None]
        columns["home"] = jnp.moveaxis(home, 2, 4)  # (I, homes, M, 3, P)
    return columns


def _columns(x: Array, jacobian: Array, center: Array) -> dict[str, Array]:
    x, jacobian = x - center, jnp.swapaxes(jacobian, 2, 3)  # (I, P, D), (I, P, 3M, D)
    projection = jnp.einsum("ipad,ipd->ipa", jacobian, x)
    # With one more feature, u and v are single matrix products: see `terms`.
    return {"x": x, "jacobian": jnp.concatenate([jacobian, projection[..., None]], axis=3)}


def prepare_rows(kernel: Kernel, hyper: Any, systems: System, center: Array) -> dict[str, Array]:
    """What the blocks need of the other references; *last* axis: reference."""
    x, jacobian = jax.vmap(lambda s: _jacobian(kernel, hyper, s))(systems)
    field = pair_field(kernel, jacobian, systems.atom_count) if is_pairwise(kernel) else None
    x = (x - center).T
    jacobian = jnp.moveaxis(jacobian, 0, -1)  # (D, 3M, J)
    projection = jnp.einsum("daj,dj->aj", jacobian, x)
    rows = {"x": x, "jacobian": jnp.concatenate([jacobian, -projection[None]])}
    if field is not None:
        perms = _permutations(kernel, systems.atom_count)
        field = jnp.moveaxis(field, 0, -1)  # (M, M, 3, J)
        inverse = np.argsort(perms, axis=1)
        # q_p[a, c] = ∂x_{c p⁻¹(a)}/∂r_c
        rows["pairs"] = jnp.stack([field[:, p].swapaxes(0, 1) for p in inverse])
        rows["home"] = field[_homes(perms)[1]]  # (homes, M, 3, J)
    return rows


def terms(
    kernel: Kernel, energies: bool, lengthscale: Array, query: dict[str, Array], rows: dict
) -> dict[str, Array]:
    """Small factors of the blocks of one query with all rows; last axis: row.

    To be computed apart from :func:`blocks`: fused into it, they would be evaluated anew for every
    entry.

    Args:
        kernel: The kernel.
        energies: Whether energies are labels, which adds one entry after the forces.
        lengthscale: Length scale.
        query: One entry of :func:`prepare_columns`.
        rows: From :func:`prepare_rows`.
    """
    x, row_x = query["x"], rows["x"]
    scaled = jnp.sum(x**2, 1)[:, None] + jnp.sum(row_x**2, 0) - 2.0 * (x @ row_x)
    scaled = scaled / lengthscale**2
    slope = (2.0 / lengthscale**2) * kernel.base.derivative(1, scaled)
    curvature = (4.0 / lengthscale**4) * kernel.base.derivative(2, scaled)
    # u_p = J_p^T (x_p - x_j) and v_p = J_j^T (x_p - x_j); both (P, 3M, J).
    extended = jnp.concatenate([-row_x, jnp.ones_like(row_x[:1])])
    u = jnp.einsum("pad,dj->paj", query["jacobian"], extended)
    extended = jnp.concatenate([x, jnp.ones_like(x[:, :1])], axis=1)
    v = jnp.einsum("pd,daj->paj", extended, rows["jacobian"])
    result = {"weights": -slope, "left": -curvature[:, None] * u, "right": v}
    if "home" in query:
        result["home"] = query["home"] @ -slope  # (homes, b, α, j)
    if energies:
        # Observing the row's forces of a kernel centred on the query's energy, and the reverse.
        result["below"] = jnp.einsum("pj,paj->aj", slope, v)
        result["beside"] = -jnp.einsum("pj,paj->aj", slope, u)
        result["corner"] = jnp.sum(kernel.base.derivative(0, scaled), axis=0)
    return result


def blocks(
    kernel: Kernel, query: dict[str, Array], rows: dict[str, Array], terms: dict[str, Array]
) -> Array:
    """Blocks of one query with all rows, ``(block [+1], block [+1], rows)``, column label first."""
    found = (_pairwise if is_pairwise(kernel) else _dense)(kernel, query, rows, terms)
    if "corner" not in terms:
        return found
    below = jnp.concatenate([terms["below"], terms["corner"][None]])
    found = jnp.concatenate([found, terms["beside"][:, None]], axis=1)
    return jnp.concatenate([found, below[None]])


def _dense(kernel: Kernel, query: dict, rows: dict, terms: dict) -> Array:
    """Any descriptor: one product over features and permutations for each pair of references."""
    del kernel
    weighted = jnp.einsum("pj,pad->jad", terms["weights"], query["jacobian"][:, :, :-1])
    lefts = jnp.concatenate([weighted, jnp.transpose(terms["left"], (2, 1, 0))], axis=2)
    rights = jnp.concatenate(
        [jnp.moveaxis(rows["jacobian"][:-1], 2, 0), jnp.transpose(terms["right"], (2, 0, 1))],
        axis=1,
    )
    return jnp.einsum("jak,jkb->abj", lefts, rights)


def _pairwise(kernel: Kernel, query: dict, rows: dict, terms: dict) -> Array:
    """Features of single pairs: outer products of vectors, contiguous over the row references."""
    permutations, size, count = terms["right"].shape
    atoms = size // 3
    weighted = terms["weights"][:, None, None, None] * rows["pairs"]
    pairs = query["pairs"][:, :, :, :, None, None] * weighted[:, :, None]
    dyads = terms["left"][:, :, None] * terms["right"][:, None]
    found = jnp.sum(pairs.reshape(permutations, size, size, count) + dyads, axis=0)
    home = jnp.sum(terms["home"][:, :, :, None] * rows["home"][:, :, None], axis=1)
    at, of, _ = _homes(_permutations(kernel, atoms))
    found = found.reshape(atoms, 3, atoms, 3, count).at[at, :, of].add(home)
    return found.reshape(size, size, count)


def is_pairwise(kernel: Kernel) -> bool:
    """Whether every feature depends on one pair of atoms, and permutes with the atoms."""
    return hasattr(kernel.descriptor, "pairs") and permutes_features(kernel)


def _permutations(kernel: Kernel, atoms: int) -> np.ndarray:
    return np.arange(atoms)[None] if kernel.permutations is None else kernel.permutations


def _homes(perms: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct ``(p(c), c)`` as two index arrays; which permutations ``(homes, P)`` give each."""
    atoms = perms.shape[1]
    codes = perms * atoms + np.arange(atoms)
    distinct = np.unique(codes)
    members = (codes[None] == distinct[:, None, None]).any(axis=2)
    return distinct // atoms, distinct % atoms, members.astype(float)


def _jacobian(kernel: Kernel, hyper: Any, system: System) -> tuple[Array, Array]:
    """Features ``(D,)`` and their Jacobian ``(D, 3M)``."""

    def features(flat: Array) -> Array:
        return kernel.features(hyper, system.replace(positions=flat.reshape(-1, 3)))

    flat = system.positions.ravel()
    return features(flat), jax.jacfwd(features)(flat)


def features_and_jacobians(
    kernel: Kernel, hyper: Any, systems: System
) -> tuple[Float[Array, "I D"], Float[Array, "I D components"]]:
    """Features of some systems, without permutations, and their Jacobians."""
    return jax.vmap(lambda system: _jacobian(kernel, hyper, system))(systems)


def permutes_features(kernel: Kernel) -> bool:
    """Whether features of permuted systems are permuted features."""
    return kernel.permutations is None or kernel.feature_permutations is not None


def _permuted_jacobian(kernel: Kernel, hyper: Any, system: System) -> tuple[Array, Array]:
    """Features ``(P, D)`` and Jacobian ``(P, D, 3M)`` under every permutation."""

    def features(flat: Array) -> Array:
        return kernel.permuted_features(hyper, system.replace(positions=flat.reshape(-1, 3)))

    flat = system.positions.ravel()
    return features(flat), jax.jacfwd(features)(flat)


def pair_field(kernel: Kernel, jacobian: Array, atoms: int) -> Array:
    """Field ``[i, a, b, x] = ∂x_ab/∂r_a`` of the references i, from Jacobians ``(I, D, 3M)``."""
    first, second = getattr(kernel.descriptor, "pairs")(atoms)  # noqa: B009  declared by some
    split = jacobian.reshape(len(jacobian), len(first), atoms, 3)
    vectors = split[:, np.arange(len(first)), first]
    field = jnp.zeros((len(jacobian), atoms, atoms, 3), jacobian.dtype)
    return field.at[:, first, second].set(vectors).at[:, second, first].set(-vectors)


tile_columns = jax.jit(prepare_columns, static_argnums=0)
tile_rows = jax.jit(prepare_rows, static_argnums=0)


@partial(jax.jit, static_argnums=(0, 1))
def tile_terms(
    kernel: Kernel, energies: bool, lengthscale: Array, columns: Any, rows: Any
) -> dict[str, Array]:
    """Factors of the blocks of a tile; leading axis: column reference."""
    return jax.vmap(lambda query: terms(kernel, energies, lengthscale, query, rows))(columns)


@partial(jax.jit, static_argnums=0)
def tile_blocks(kernel: Kernel, columns: Any, rows: Any, found: dict[str, Array]) -> Array:
    """Tile of the matrix, ``(column references, block [+1], block [+1], row references)``."""
    return jax.vmap(lambda query, found: blocks(kernel, query, rows, found))(columns, found)


class Tile(NamedTuple):
    """Part of the matrix, ``values (columns, block [+1], block [+1], rows)``, with its ranges."""

    rows: tuple[int, int]
    columns: tuple[int, int]
    values: np.ndarray


def even_tiles(count: int, most: int) -> int:
    """Side of equal tiles, so that the last wastes little; whole vector registers if possible."""
    side = -(-count // -(-count // most))
    return min(count, -(-side // 8) * 8)


def finish(rows: tuple[int, int], columns: tuple[int, int], values: Array) -> Tile:
    """Wait for a tile and cut its padding."""
    cut = np.asarray(values)[: columns[1] - columns[0], ..., : rows[1] - rows[0]]
    return Tile(rows, columns, cut)
