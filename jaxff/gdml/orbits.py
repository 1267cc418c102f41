r"""Blocks of the kernel matrix for large groups, by matrix products over orbits of atoms.

With a permutation :math:`g_A` that brings the first atom of an orbit to A, and the stabilizer S of
that atom, every permutation is :math:`p = g_A s g_a^{-1}` in one way for each A, where
:math:`p(a) = A`. Features :math:`x_{AB}` of pairs and their derivatives
:math:`f_{AB} = \partial x_{AB} / \partial r_A` then need no table of permuted pairs: with
:math:`\tilde f_{Ac} = f_{A,g_A(c)}` and :math:`z_{asc} = x_{a,g_a s(c)}`,

.. math::
   \sum_B f_{AB}\, x'_{p^{-1}(A)p^{-1}(B)} = \sum_c \tilde f_{Ac}\, z'_{a s^{-1} c}, \qquad
   h_{Aac} = \sum_s w_{g_A s g_a^{-1}}\, f_{A,g_A s(c)}

are two matrix products, of which the first gives the projections u and v of
:mod:`jaxff.gdml.blocks` and all distances, and the second what weights :math:`w_p` of the
permutations leave of :math:`\sum_p w_p J_{ip}^T J_j`: its entry between A and B is
:math:`\sum_a h_{A a g_a^{-1}(B)} \otimes f'_{Ba}`, to which B in the orbit of A adds
:math:`\sum_c h_{ABc} \otimes \tilde f'_{Bc}`. A block of M atoms takes about :math:`38\,P M^2`
operations, all of them in products of large matrices.
"""

import functools
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxff.gdml.blocks import features_and_jacobians, pair_field
from jaxff.kernels.groups import inverse
from jaxff.kernels.kernel import Kernel
from jaxff.system import System
from jaxff.types import Array, Float, Int

__all__ = ["Tables", "invariant_center", "prepare", "tables_of", "tile"]


class Orbit(NamedTuple):
    """Tables of an orbit of m atoms, with a stabilizer of s permutations.

    Attributes:
        atoms: The atoms A, ``(m,)``.
        carried: ``g_A(c)``, ``(m, atoms)``.
        back: Its inverse.
        images: ``g_A s(c)``, ``(m, s, atoms)``.
        which: The permutation ``g_A s g_a⁻¹`` at ``(A, a, s)``.
        place: Where the permutation p is found among the images of ``p(A)``, ``(m, P)``.
        place_inverse: The same of its inverse.
    """

    atoms: Int[Array, " m"]
    carried: Int[Array, "m atoms"]
    back: Int[Array, "m atoms"]
    images: Int[Array, "m s atoms"]
    which: Int[Array, "m m s"]
    place: Int[Array, "m perms"]
    place_inverse: Int[Array, "m perms"]


class Tables(NamedTuple):
    """Tables of a group.

    Attributes:
        orbits: One for each orbit of atoms.
        order: Where each atom is found in the orbits one after another.
    """

    orbits: tuple[Orbit, ...]
    order: Int[Array, " atoms"]


@functools.lru_cache(maxsize=16)
def tables_of(kernel: Kernel) -> Tables:
    """Tables of the group of a kernel."""
    group = kernel.permutations
    assert group is not None
    number = {row.tobytes(): index for index, row in enumerate(group)}
    opposite = np.array([number[row.tobytes()] for row in inverse(group)])
    firsts = group.min(axis=0)
    orbits = tuple(_orbit(group, number, opposite, first) for first in np.unique(firsts).tolist())
    order = np.argsort(np.concatenate([orbit.atoms for orbit in orbits]))
    return Tables(orbits, jnp.asarray(order))


def _orbit(group: np.ndarray, number: dict[bytes, int], opposite: np.ndarray, first: int) -> Orbit:
    atoms, carriers = np.unique(group[:, first], return_index=True)
    carried = group[carriers]
    back = inverse(carried)
    images = carried[:, group[group[:, first] == first]]
    size = images.shape[1]
    products = images[:, :, back].reshape(-1, group.shape[1])
    found = [number[row.tobytes()] for row in np.ascontiguousarray(products)]
    which = np.reshape(found, (len(atoms), size, len(atoms)))  # (A, s, a)
    place = np.empty((len(atoms), len(group)), int)
    for of in range(len(atoms)):
        place[of, which[:, :, of].ravel()] = np.arange(len(atoms) * size)
    which = which.swapaxes(1, 2)
    tables = atoms, carried, back, images, which, place, place[:, opposite]
    return Orbit(*(jnp.asarray(table) for table in tables))


def invariant_center(kernel: Kernel, center: Float[Array, " D"]) -> Float[Array, " D"]:
    """Features averaged over the group: differences from them permute as the features do."""
    classes, counts = _classes(kernel)
    return (jax.ops.segment_sum(center, classes, len(counts)) / counts)[classes]


@functools.lru_cache(maxsize=16)
def _classes(kernel: Kernel) -> tuple[np.ndarray, np.ndarray]:
    """Which features the group exchanges, and how many of each class there are."""
    permutations = kernel.feature_permutations
    assert permutations is not None
    first = permutations.min(axis=0)
    _, classes, counts = np.unique(first, return_inverse=True, return_counts=True)
    return classes.ravel(), counts


@partial(jax.jit, static_argnums=0)
def prepare(
    kernel: Kernel, hyper: Any, systems: System, center: Array, tables: Tables
) -> dict[str, Any]:
    """What blocks need of a reference; leading axis: reference.

    Args:
        kernel: A kernel of pairs.
        hyper: Its hyperparameters.
        systems: The references.
        center: From :func:`invariant_center`.
        tables: From :func:`tables_of`.
    """

    def one(system: System) -> dict[str, Any]:
        stack = jax.tree.map(lambda leaf: leaf[None], system)
        features, jacobian = features_and_jacobians(kernel, hyper, stack)
        atoms = system.atom_count
        field = pair_field(kernel, jacobian, atoms)[0]  # (M, M, 3)
        first, second = getattr(kernel.descriptor, "pairs")(atoms)  # noqa: B009
        centred = features[0] - center
        x = jnp.zeros((atoms, atoms), centred.dtype)
        x = x.at[first, second].set(centred).at[second, first].set(centred)
        # A fourth component beside the derivative gives the inner products of features.
        both = jnp.concatenate([jnp.swapaxes(field, 1, 2), 0.5 * x[:, None]], axis=1)
        return {
            "squares": jnp.sum(centred**2),
            "own": jnp.einsum("abx,ab->ax", field, x),
            "orbits": tuple(_of_orbit(orbit, x, both) for orbit in tables.orbits),
        }

    return jax.lax.map(one, systems)


def _of_orbit(orbit: Orbit, x: Array, both: Array) -> dict[str, Array]:
    """Parts of an orbit; ``both`` holds derivatives and features, ``(atoms, 4, atoms)``."""
    own = both[orbit.atoms]
    size, stabilizer, atoms = orbit.images.shape
    components = jnp.arange(3)[:, None]
    of = jnp.arange(size)[:, None, None]
    return {
        "carried": jnp.take_along_axis(own, orbit.carried[:, None], axis=2),
        "images": x[orbit.atoms[:, None, None], orbit.images].reshape(-1, atoms),
        "pulls": own[of[..., None], components, orbit.images[:, :, None]].reshape(
            size, stabilizer, -1
        ),
        "rows": own[:, :3],
    }


@partial(jax.jit, static_argnums=(0, 1))
def tile(
    kernel: Kernel,
    energies: bool,
    lengthscale: Array,
    columns: dict[str, Any],
    rows: dict[str, Any],
    tables: Tables,
) -> Array:
    """Tile ``(column references, block [+1], block [+1], row references)``, column label first."""

    def of_column(query: dict[str, Any]) -> Array:
        found = jax.lax.map(
            lambda row: _block(kernel, energies, lengthscale, query, row, tables), rows
        )
        return jnp.moveaxis(found, 0, -1)

    return jax.lax.map(of_column, columns)


def _block(
    kernel: Kernel,
    energies: bool,
    lengthscale: Array,
    query: dict[str, Any],
    row: dict[str, Any],
    tables: Tables,
) -> Array:
    """Block between one permuted reference and another, ``(block [+1], block [+1])``."""
    inner, lefts, rights = 0.0, [], []
    for orbit, own, other in zip(tables.orbits, query["orbits"], row["orbits"], strict=True):
        found = _projections(other["carried"], own["images"], orbit.place)
        inner += jnp.sum(found[:, 3], axis=0)
        rights.append(found[:, :3])
        lefts.append(_projections(own["carried"][:, :3], other["images"], orbit.place_inverse))
    scaled = (query["squares"] + row["squares"] - 2.0 * inner) / lengthscale**2
    slope = (2.0 / lengthscale**2) * kernel.base.derivative(1, scaled)
    curvature = (4.0 / lengthscale**4) * kernel.base.derivative(2, scaled)
    u = query["own"][..., None] - jnp.concatenate(lefts)[tables.order]
    v = jnp.concatenate(rights)[tables.order] - row["own"][..., None]
    u, v = u.reshape(-1, len(slope)), v.reshape(-1, len(slope))
    parts = [
        _laplacian(slope, orbit, own, other)
        for orbit, own, other in zip(tables.orbits, query["orbits"], row["orbits"], strict=True)
    ]
    pulled = jnp.concatenate(parts)[tables.order].reshape(len(u), -1)
    forces = -pulled - (curvature * u) @ v.T
    if not energies:
        return forces
    corner = jnp.sum(kernel.base.derivative(0, scaled))
    below = jnp.concatenate([v @ slope, corner[None]])
    return jnp.concatenate([jnp.concatenate([forces, -(u @ slope)[:, None]], axis=1), below[None]])


def _projections(carried: Array, images: Array, place: Array) -> Float[Array, "m components P"]:
    """Products of the carried rows of atoms with features under all permutations."""
    size, components, atoms = carried.shape
    products = (carried.reshape(-1, atoms) @ images.T).reshape(size, components, -1)
    return jnp.take_along_axis(products, place[:, None], axis=2)


def _laplacian(
    weights: Array, orbit: Orbit, own: dict[str, Array], other: dict[str, Array]
) -> Float[Array, "m 3 atoms 3"]:
    r"""Rows of an orbit of :math:`\sum_p w_p J_{ip}^T J_j`."""
    size, atoms = orbit.back.shape
    pulled = weights[orbit.which] @ own["pulls"]  # (A, a, 3 · c)
    pulled = pulled.reshape(size, size, 3, atoms)
    home = jnp.einsum("Aaxc,ayc->Axay", pulled, other["carried"][:, :3])
    # f'_{Ba} = -f'_{aB}
    moved = jnp.take_along_axis(pulled, orbit.back[None, :, None], axis=3)
    apart = jnp.einsum("AaxB,ayB->AxBy", moved, other["rows"])
    return (-apart).at[:, :, orbit.atoms].add(home)
