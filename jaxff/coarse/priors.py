r"""Prior energies of beads: what keeps a model sensible where there are no data.

Bonds and angles of beads are stiff, and where they are never sampled no forces are known. Simple
terms are subtracted from the labels before a fit (:func:`subtract`) and added back to the model
(:func:`restore`).

Reference:
    Wang et al., ACS Cent. Sci. 5, 755 (2019), doi:10.1021/acscentsci.8b00913; Wang et al., J. Chem.
    Phys. 152, 194106 (2020), doi:10.1063/5.0007276.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxff import units
from jaxff.analysis.geometry import angles as angles_of
from jaxff.analysis.geometry import distances as distances_of
from jaxff.gdml.fit import residual_labels
from jaxff.numerics import safe_norm
from jaxff.potential import Bound, Potential, Spec, add, bind
from jaxff.system import System
from jaxff.types import Array, Float, Outputs, Params

__all__ = [
    "fit_prior",
    "harmonic_angles",
    "harmonic_bonds",
    "invert_angles",
    "invert_bonds",
    "repulsion",
    "restore",
    "subtract",
    "torsions",
]


def harmonic_bonds(bonds: Sequence[Sequence[int]]) -> Potential:
    r"""Springs :math:`\tfrac12 k (b - b_0)^2` between pairs of beads.

    ``init`` takes ``length`` :math:`b_0` (Å) and ``stiffness`` k (eV/Å²) by name, one number per
    bond or one for all; :func:`invert_bonds` finds them.

    Raises:
        ValueError: For bonds that are not two different beads each.
    """
    return _terms("harmonic_bonds", "bonds", bonds, 2, ("length", "stiffness"), _bonds)


def harmonic_angles(angles: Sequence[Sequence[int]]) -> Potential:
    r"""Springs :math:`\tfrac12 k (\theta - \theta_0)^2` on the angles at the middle of triples.

    ``init`` takes ``angle`` :math:`\theta_0` (rad) and ``stiffness`` k (eV/rad²) by name.

    Raises:
        ValueError: For angles that are not three different beads each.
    """
    return _terms("harmonic_angles", "angles", angles, 3, ("angle", "stiffness"), _angles)


def repulsion(pairs: Sequence[Sequence[int]], *, power: int = 6) -> Potential:
    r"""Repulsion :math:`\varepsilon (\sigma/d)^p` of pairs of beads.

    ``init`` takes ``diameter`` :math:`\sigma` (Å) and ``strength`` :math:`\varepsilon` (eV) by
    name.

    Raises:
        ValueError: For pairs that are not two different beads each, or a power below 1.
    """
    if power < 1:
        raise ValueError(f"power must be at least 1, got {power}")

    def energy(positions: Array, pairs: np.ndarray, params: Params) -> Array:
        distance = _lengths(positions, pairs)
        return params["strength"] * (params["diameter"] / distance) ** power

    names = ("diameter", "strength")
    return _terms("repulsion", "pairs", pairs, 2, names, energy, power=power)


def torsions(dihedrals: Sequence[Sequence[int]], order: int) -> Potential:
    r"""Fourier series :math:`\sum_{n=1}^{N} a_n \cos n\varphi + b_n \sin n\varphi` of dihedrals.

    ``init`` takes ``cosine`` :math:`a_n` and ``sine`` :math:`b_n` (eV) by name,
    ``(dihedrals, order)`` each or one row for all. As a term of a model it also serves as a bias
    that helps it over a barrier, whose frames then count with :math:`e^{U/k_BT}`. The sign of
    :math:`\varphi` is that of :func:`jaxff.analysis.dihedrals`; a dihedral at a straight angle
    does not exist, and forces on it are 0.

    Raises:
        ValueError: For dihedrals that are not four different beads each, or an order below 1.
    """
    if order < 1:
        raise ValueError(f"order must be at least 1, got {order}")
    multiples = np.arange(1, order + 1)

    def energy(positions: Array, dihedrals: np.ndarray, params: Params) -> Array:
        turns = multiples * _turns(positions, dihedrals)[..., None]
        series = params["cosine"] * jnp.cos(turns) + params["sine"] * jnp.sin(turns)
        return jnp.sum(series, axis=-1)

    names = ("cosine", "sine")
    return _terms("torsions", "dihedrals", dihedrals, 4, names, energy, (order,), order=order)


def _terms(
    builder: str,
    kind: str,
    items: Sequence[Sequence[int]],
    width: int,
    names: tuple[str, ...],
    energy: Callable[[Array, np.ndarray, Params], Array],
    shape: tuple[int, ...] = (),
    **settings: Any,
) -> Potential:
    """A sum over items of beads, each with parameters of its own, of a shape."""
    full = (len(items), *shape)
    index = np.asarray(items, int)
    if index.ndim != 2 or index.shape[1] != width or (index < 0).any():
        raise ValueError(f"{kind} must be rows of {width} beads, got {items}")
    if any(len(set(row)) < width for row in index.tolist()):
        raise ValueError(f"{kind} must be {width} different beads each, got {index.tolist()}")

    def init(key: Array, system: System, neighbors: Any = None, **named: Any) -> Params:
        del key, system, neighbors
        if set(named) != set(names):
            raise TypeError(f"{builder} takes {' and '.join(names)} by name, got {sorted(named)}")
        return {k: jnp.broadcast_to(jnp.asarray(v, float), full) for k, v in named.items()}

    def apply(params: Params, system: System, neighbors: Any = None) -> Outputs:
        del neighbors
        if system.is_packed or system.cell is not None or index.max() >= system.atom_count:
            raise ValueError(
                f"{builder} takes single molecules, or stacks of them, without a cell and of at "
                f"least {index.max() + 1} beads, got positions of shape {system.positions.shape}"
            )
        cast = {k: v.astype(system.positions.dtype) for k, v in params.items()}
        return {"energy": jnp.sum(energy(system.positions, index, cast), axis=-1)}

    spec = Spec(builder, {kind: index.tolist(), **settings})
    return Potential(init, apply, spec=spec, padding=False)


def _lengths(positions: Array, pairs: np.ndarray) -> Float[Array, "*frames pairs"]:
    return safe_norm(positions[..., pairs[:, 1], :] - positions[..., pairs[:, 0], :])


def _bonds(positions: Array, pairs: np.ndarray, params: Params) -> Array:
    return 0.5 * params["stiffness"] * (_lengths(positions, pairs) - params["length"]) ** 2


def _angles(positions: Array, triples: np.ndarray, params: Params) -> Array:
    first = positions[..., triples[:, 0], :] - positions[..., triples[:, 1], :]
    last = positions[..., triples[:, 2], :] - positions[..., triples[:, 1], :]
    angle = jnp.arctan2(safe_norm(jnp.cross(first, last)), jnp.sum(first * last, axis=-1))
    return 0.5 * params["stiffness"] * (angle - params["angle"]) ** 2


def _turns(positions: Array, dihedrals: np.ndarray) -> Float[Array, "*frames dihedrals"]:
    a, b, c = (
        positions[..., dihedrals[:, k + 1], :] - positions[..., dihedrals[:, k], :]
        for k in range(3)
    )
    first, second = jnp.cross(a, b), jnp.cross(b, c)
    sine = jnp.sum(first * c, axis=-1) * safe_norm(b)
    cosine = jnp.sum(first * second, axis=-1)
    straight = (sine == 0.0) & (cosine == 0.0)
    return jnp.arctan2(sine, jnp.where(straight, 1.0, cosine))


def invert_bonds(
    positions: Any, bonds: Any, temperature: float, *, volume: bool = True, weights: Any = None
) -> dict[str, Float[np.ndarray, " bonds"]]:
    r"""Springs that have the sampled means and variances, :math:`k = k_BT/\mathrm{var}(b)`.

    Args:
        positions: ``(frames, beads, 3)`` in Å.
        bonds: Pairs of beads.
        temperature: K.
        volume: Whether frames are weighted by :math:`b^{-2}`: a spring at equilibrium in space has
            lengths distributed as :math:`b^2 e^{-\beta U}`. Published constants are without.
        weights: Of frames of a biased trajectory.

    Returns:
        ``length`` in Å and ``stiffness`` in eV/Å², for :func:`harmonic_bonds`.

    Raises:
        ValueError: For bonds that do not move.
    """
    values = distances_of(np.asarray(positions, float), bonds)
    mean, variance = _moments(values, values**-2.0 if volume else np.ones_like(values), weights)
    return {"length": mean, "stiffness": units.BOLTZMANN * temperature / variance}


def invert_angles(
    positions: Any, angles: Any, temperature: float, *, volume: bool = True, weights: Any = None
) -> dict[str, Float[np.ndarray, " angles"]]:
    r"""As :func:`invert_bonds`, for :func:`harmonic_angles`; weights are :math:`1/\sin\theta`."""
    values = np.radians(angles_of(np.asarray(positions, float), angles))
    inner = 1.0 / np.sin(values) if volume else np.ones_like(values)
    mean, variance = _moments(values, inner, weights)
    return {"angle": mean, "stiffness": units.BOLTZMANN * temperature / variance}


_RIGID = 1e-6
"""Relative standard deviation of a coordinate that counts as fixed."""


def _moments(
    values: np.ndarray, inner: np.ndarray, outer: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean and variance of each column."""
    weights = inner if outer is None else inner * np.asarray(outer)[:, None]
    weights = weights / weights.sum(axis=0)
    mean = np.sum(weights * values, axis=0)
    variance = np.sum(weights * (values - mean) ** 2, axis=0)
    if not (variance > (_RIGID * mean) ** 2).all():
        raise ValueError(
            f"coordinate {int(np.argmin(variance))} does not move in these frames, so that its "
            "stiffness is not known: give more frames, or leave it out"
        )
    return mean, variance


def fit_prior(
    systems: System,
    temperature: float,
    *,
    bonds: Sequence[Sequence[int]] = (),
    angles: Sequence[Sequence[int]] = (),
    repulsive: Sequence[Sequence[int]] = (),
    volume: bool = True,
    weights: Any = None,
) -> Bound:
    """Bonds and angles by Boltzmann inversion, and repulsion below the shortest sampled distance.

    At the shortest distance that a repulsive pair was found at, it has the thermal energy.

    Args:
        systems: Stack of frames.
        temperature: K.
        bonds: Pairs of beads on springs.
        angles: Triples of beads.
        repulsive: Pairs that repel.
        volume: See :func:`invert_bonds`.
        weights: Of frames of a biased trajectory, ``(frames,)``.

    Raises:
        ValueError: If there are no terms, or one does not move.
    """
    positions = np.asarray(systems.positions)
    parts: list[tuple[Potential, dict[str, Any]]] = []
    if len(bonds):
        found = invert_bonds(positions, bonds, temperature, volume=volume, weights=weights)
        parts.append((harmonic_bonds(bonds), found))
    if len(angles):
        found = invert_angles(positions, angles, temperature, volume=volume, weights=weights)
        parts.append((harmonic_angles(angles), found))
    if len(repulsive):
        diameter = distances_of(positions, repulsive).min(axis=0)
        thermal = np.full(len(diameter), units.BOLTZMANN * temperature)
        parts.append((repulsion(repulsive), {"diameter": diameter, "strength": thermal}))
    if not parts:
        raise ValueError("a prior needs bonds, angles or repulsive pairs, got none")
    params = tuple({k: jnp.asarray(v) for k, v in values.items()} for _, values in parts)
    return bind(add(*(potential for potential, _ in parts)), params)


def subtract(prior: Bound | None, systems: System, forces: Any) -> Float[np.ndarray, "..."]:
    """Forces in eV/Å that a model on top of a prior has to learn.

    Raises:
        ValueError: If there is no force for each position, or one is not finite.
    """
    forces = np.asarray(forces, np.float64)
    if forces.shape != systems.positions.shape or not np.isfinite(forces).all():
        raise ValueError(
            f"forces must be finite and of the shape of the positions, {systems.positions.shape}, "
            f"got {forces.shape}"
        )
    if prior is None:
        return forces
    return residual_labels(prior, systems, {"forces": forces})["forces"]


def restore(prior: Bound | None, potential: Potential, params: Params) -> Bound:
    """The model with its prior."""
    if prior is None:
        return bind(potential, params)
    return bind(add(prior.potential, potential), (prior.params, params))
