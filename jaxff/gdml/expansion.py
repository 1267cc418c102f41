r"""Kernel energies as an expansion in reference features: the fast path of prediction and solvers.

With features :math:`x`, references :math:`x_j`, contracted Jacobians :math:`w_j = J_j\beta_j` and
energy coefficients :math:`b_j`, a radial kernel :math:`h(s)`, :math:`s = \lVert d\rVert^2/\ell^2`,
:math:`d = x_p - x_j`, gives

.. math:: E = c + \sum_{jp} f h'(s)\, d\cdot w_j + h(s)\, b_j ,\qquad f = 2/\ell^2 .

Coefficients of second derivatives along directions :math:`e_m` with weights :math:`\lambda_m`, to
which those of Hessians are brought, add

.. math:: \sum_{jpm} \lambda_m \left( f^2 h''(s)\, (d\cdot u_m)^2 + f h'(s)\, u_m\cdot u_m\right),
   \qquad u_m = J_j e_m,

and :math:`-\lambda_m D^2x_j[e_m, e_m]` to :math:`w_j`. In a sum over atoms of the same element
each atom has a row of its own, and pairs of different elements do not count.

The descriptor is differentiated once per reference (a Jacobian-vector product) and once per query
(a vector-Jacobian product); all pair work is matrix products between centred features. Centring
keeps the product form of the distance as accurate as direct differences.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxff.gdml import fourier
from jaxff.gdml.labels import Adjoint, adjoint, moved, squares, value_weights
from jaxff.gdml.orbits import invariant_center
from jaxff.kernels.algebra import Scaled, Sum, part
from jaxff.kernels.base import BaseKernel
from jaxff.kernels.kernel import Kernel
from jaxff.kernels.symmetrized import AtomicSum
from jaxff.system import System
from jaxff.types import Array

__all__ = [
    "Expansion",
    "RadialKernel",
    "assemble",
    "assemble_for",
    "contract",
    "expand",
    "expand_compiled",
    "lowered",
    "supports",
]

Expansion = dict[str, Array]
RadialKernel = Kernel | AtomicSum


def supports(kernel: Any) -> bool:
    """Whether this path holds for a kernel: others take that of :mod:`jaxff.gdml.jets`.

    Its products round the distance of coincident points to some 1e-16, of which kernels that are
    only just smooth enough for forces see the square root.
    """
    if isinstance(kernel, Sum):
        return all(supports(part) for part in kernel.kernels)
    if isinstance(kernel, Scaled):
        return supports(kernel.kernel)
    return (
        isinstance(kernel, Kernel | AtomicSum)
        and isinstance(kernel.base, BaseKernel)
        and kernel.base.smoothness >= 4
    )


def expand(
    kernel: Any,
    hyper: dict[str, Array],
    references: System,
    coefficients: dict[str, Any],
    directions: Array | None = None,
) -> dict[str, Any]:
    """Features of the references and their contraction with the coefficients.

    Args:
        kernel: Kernel.
        hyper: Its hyperparameters.
        references: Stack of N systems.
        coefficients: Packed, by label, leading axis N: see :mod:`jaxff.gdml.labels`.
        directions: Of ``hessian_vector``, ``(N, directions, atoms, 3)``.

    Returns:
        See :func:`assemble`; of a sum of kernels one for each part, by name.
    """
    given = references, coefficients, directions
    if isinstance(kernel, Sum):
        return {name: expand(own, part(hyper, name), *given) for name, own in kernel.parts}
    if isinstance(kernel, Scaled):
        return expand(kernel.kernel, kernel.own_hyper(hyper), *given)
    energy_weights = value_weights(coefficients)
    if set(coefficients) <= {"forces", "energy"} and "forces" in coefficients:
        features, weights = contract(kernel, hyper, references, coefficients["forces"])
        if isinstance(kernel, AtomicSum):
            return _assemble_atoms(references.numbers, features, weights, energy_weights, None)
        return assemble_for(kernel, features, weights, energy_weights)

    def one(system: System, own: dict[str, Any], along: Array | None) -> tuple:
        return _contract_any(kernel, hyper, system, adjoint(system, own, along))

    features, weights, bends = jax.vmap(one)(references, coefficients, directions)
    if isinstance(kernel, AtomicSum):
        return _assemble_atoms(references.numbers, features, weights, energy_weights, bends)
    if bends is None:
        return assemble_for(kernel, features, weights, energy_weights)
    return assemble(features, weights, energy_weights, bends)


def _contract_any(
    kernel: RadialKernel, hyper: dict[str, Array], system: System, own: Adjoint
) -> tuple:
    """Features, their contraction, and pairs of u and λ for coefficients of any labels."""

    def features(shift: dict[str, Array]) -> Array:
        return kernel.features(hyper, moved(system, shift))

    point = kernel.features(hyper, system)
    weights = jnp.zeros_like(point)
    if own.along:
        zero = jax.tree.map(jnp.zeros_like, own.along)
        weights -= jax.jvp(features, (zero,), (own.along,))[1]
    if own.pairs is None:
        return point, weights, None

    def along(direction: Array) -> tuple[Array, Array]:
        def slope(positions: Array) -> Array:
            at, tangent = {"positions": positions}, {"positions": direction}
            return jax.jvp(features, (at,), (tangent,))[1]

        return jax.jvp(slope, (jnp.zeros_like(direction),), (direction,))

    directions, signs = squares(*own.pairs)
    axes, curvatures = jax.vmap(along)(directions)
    return point, weights - jnp.tensordot(signs, curvatures, 1), (axes, signs)


def contract(
    kernel: RadialKernel, hyper: dict[str, Array], references: System, tangents: Array
) -> tuple[Array, Array]:
    """Features of the references and their derivatives along the tangents, leading axis: N."""

    def one(system: System, tangent: Array) -> tuple[Array, Array]:
        def features(positions: Array) -> Array:
            return kernel.features(hyper, system.replace(positions=positions))

        return jax.jvp(features, (system.positions,), (tangent,))

    return jax.vmap(one)(references, tangents)


expand_compiled = jax.jit(expand, static_argnums=0)
"""The same, compiled once per kernel and shape."""


def assemble_for(
    kernel: Kernel, features: Array, weights: Array, energy_weights: Array | None = None
) -> Expansion:
    """Expansion of a kernel, with the spectra of its references if it has translations.

    Args:
        kernel: Kernel.
        features: Raw features, ``(N, D)``.
        weights: Contracted Jacobians, ``(N, D)``.
        energy_weights: Energy coefficients, ``(N,)``.
    """
    if kernel.translations is None:
        return assemble(features, weights, energy_weights)
    center = invariant_center(kernel, jnp.mean(features, axis=0))
    expansion = assemble(features, weights, energy_weights, center=center)
    return expansion | fourier.transformed(kernel, expansion["features"], weights)


def assemble(
    features: Array,
    weights: Array,
    energy_weights: Array | None = None,
    bends: tuple[Array, Array] | None = None,
    center: Array | None = None,
) -> Expansion:
    """Expansion from raw features and contracted Jacobians, both ``(N, D)``.

    Holds ``center (D,)``, ``features`` and ``weights (N, D)`` and, if given, ``energy_weights`` and
    for second derivatives ``axes (N, M, D)`` with ``signs (N, M)``, the vectors u and their λ.
    Transposes and inner products that every prediction needs are kept beside them. Without a center
    it is the mean of the features.
    """
    center = jnp.mean(features, axis=0) if center is None else center
    features = features - center
    expansion = {
        "center": center,
        "features": features,
        "weights": weights,
        "features_t": features.T,
        "weights_t": weights.T,
        "squares": jnp.sum(features**2, axis=1),
        "offsets": jnp.sum(features * weights, axis=1),
    }
    if energy_weights is not None:
        expansion["energy_weights"] = energy_weights
    if bends is not None:
        axes, signs = bends
        expansion["axes"], expansion["signs"] = axes, signs
        expansion["axes_t"] = axes.reshape(-1, axes.shape[-1]).T
        expansion["axis_offsets"] = jnp.einsum("nmd,nd->nm", axes, features)
        expansion["offsets"] -= jnp.sum(signs * jnp.sum(axes**2, axis=-1), axis=-1)
    return expansion


def _assemble_atoms(
    numbers: Array,
    features: Array,
    weights: Array,
    energy_weights: Array | None,
    bends: tuple[Array, Array] | None,
) -> Expansion:
    """Expansion with a row for each atom, and the ``species (N, atoms)`` of all rows."""
    count, atoms, size = features.shape
    if energy_weights is not None:
        energy_weights = jnp.repeat(energy_weights, atoms)
    if bends is not None:
        axes, signs = bends
        bends = (
            jnp.swapaxes(axes, 1, 2).reshape(count * atoms, -1, size),
            jnp.repeat(signs, atoms, 0),
        )
    rows = features.reshape(-1, size), weights.reshape(-1, size)
    return assemble(*rows, energy_weights, bends) | {"species": numbers.astype(features.dtype)}


def lowered(expansion: Expansion) -> Expansion:
    """The same in float32, but for the center, so that queries are centred before they are rounded.

    All work on pairs then runs in float32.
    """
    kept = {"center": expansion["center"]}
    return {name: leaf.astype(jnp.float32) for name, leaf in expansion.items()} | kept
