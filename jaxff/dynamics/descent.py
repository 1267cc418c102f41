"""The compiled part of a relaxation: coordinates that a minimiser moves, and its loop.

Coordinates are rows: the atoms as they would be in the first cell, and where the cell relaxes three
more, its symmetric strain times a length that makes it about as stiff as an atom.
Numbers of steps and tolerances are data, not shapes: another limit runs the same program.
"""

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxff.cell import reciprocal, volume
from jaxff.derivatives import observe
from jaxff.dynamics.minimizers import Minimizer, Point
from jaxff.neighbors import Neighbors
from jaxff.potential import EnergyFn
from jaxff.system import System
from jaxff.types import Array, Bool, Float

__all__ = [
    "BROKEN",
    "CONVERGED",
    "FULL",
    "RUNNING",
    "STALE",
    "STALLED",
    "Descent",
    "Limits",
    "Listed",
    "Space",
    "begin",
    "descend",
    "place",
]

RUNNING, CONVERGED, STALLED, STALE, FULL, BROKEN = range(6)
"""State of a descent.

STALE asks for a pair list at the coordinates to be tried, FULL for an empty history; BROKEN means
that nothing finite was found.
"""


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["system", "movable", "strains", "scale", "pressure"],
    meta_fields=["cell"],
)
@dataclass(frozen=True)
class Space:
    """What may move.

    Attributes:
        system: Where the relaxation begins.
        movable: Which atoms move; the others keep their place in the cell.
        strains: Projector ``(3, 3)`` on the span of the periodic lattice vectors.
        scale: Å of a row of coordinates in a unit of strain.
        pressure: External pressure in eV/Å³.
        cell: ``"fixed"``, ``"isotropic"`` or ``"full"`` (static).
    """

    system: Any
    movable: Any
    strains: Any
    scale: Any
    pressure: Any
    cell: str


class Limits(NamedTuple):
    """Tolerances in eV/Å and eV/Å³, the longest step in Å, and when to give up."""

    max_force: Any
    max_stress: Any
    max_step: Any
    patience: Any
    evaluations: Any


class Evaluated(NamedTuple):
    """What is known of a point; ``measure`` is 1 where the tolerances are just met."""

    point: Point
    energy: Any
    forces: Any
    stress: Any
    max_force: Any
    max_stress: Any
    measure: Any


class Listed(NamedTuple):
    """A pair list and the coordinates for which it was built."""

    neighbors: Any
    rows: Any


class Descent(NamedTuple):
    """What goes from evaluation to evaluation."""

    state: Any
    point: Point
    best: Evaluated
    since: Any
    """Evaluations since the last progress."""
    done: Any
    """Evaluations so far."""
    filled: Any
    history: Any
    """Energy, largest force and stress of the latest evaluations, ``(capacity, 3)``."""
    status: Any


def place(space: Space, rows: Float[Array, "rows 3"]) -> System:
    """The system at some coordinates."""
    atoms = space.system.atom_count
    if space.cell == "fixed":
        return space.system.replace(positions=rows)
    deform = _deformation(space, rows)
    return space.system.replace(positions=rows[:atoms] @ deform, cell=space.system.cell @ deform)


def _deformation(space: Space, rows: Array) -> Float[Array, "3 3"]:
    strain = _allowed(space, rows[space.system.atom_count :] / space.scale)
    return jnp.eye(3, dtype=rows.dtype) + strain


def _inverse(matrix: Float[Array, "3 3"]) -> Float[Array, "3 3"]:
    return reciprocal(matrix).T / (2.0 * jnp.pi)


def _allowed(space: Space, matrix: Array) -> Array:
    """The part of a 3×3 matrix that the cell may follow: symmetric, along periodic directions."""
    p = space.strains
    if space.cell == "isotropic":
        return p * jnp.sum(p * matrix) / jnp.sum(p * p)
    return p @ (0.5 * (matrix + matrix.T)) @ p


def evaluate(
    energy_fn: EnergyFn, space: Space, neighbors: Neighbors | None, rows: Array, limits: Limits
) -> Evaluated:
    """Enthalpy, its gradient by the coordinates, forces and stress."""
    system = place(space, rows)
    relaxing = space.cell != "fixed"
    names = ("energy", "forces", "stress") if relaxing else ("energy", "forces")
    found = observe(energy_fn, names)(system, neighbors)
    forces = found["forces"] * space.movable[:, None]
    max_force = jnp.sqrt(jnp.max(jnp.sum(forces**2, axis=-1)))
    if not relaxing or system.cell is None:
        zero = jnp.zeros((), rows.dtype)
        point = Point(rows, found["energy"].astype(rows.dtype), -forces)
        measure = max_force / limits.max_force
        return Evaluated(point, found["energy"], forces, None, max_force, zero, measure)
    size = volume(system.cell)
    excess = _allowed(space, found["stress"] + space.pressure * jnp.eye(3, dtype=rows.dtype))
    max_stress = jnp.max(jnp.abs(excess))
    deform = _deformation(space, rows)
    # The stress is the derivative by a strain on top of the deformation.
    by_strain = _allowed(space, _inverse(deform).T @ (size * excess))
    gradient = jnp.concatenate([-forces @ deform.T, by_strain / space.scale])
    enthalpy = (found["energy"] + space.pressure * size).astype(rows.dtype)
    measure = jnp.maximum(max_force / limits.max_force, max_stress / limits.max_stress)
    point = Point(rows, enthalpy, gradient)
    energy, stress = found["energy"], found["stress"]
    return Evaluated(point, energy, forces, stress, max_force, max_stress, measure)


def begin(
    energy_fn: EnergyFn,
    space: Space,
    listed: Listed,
    limits: Limits,
    *,
    minimizer: Minimizer,
    capacity: int,
) -> Descent:
    """The state before anything is evaluated: at rest, and infinitely high.

    The first trial is so the first point itself, evaluated by the same program as all others.
    """
    rows = listed.rows
    shapes = jax.eval_shape(evaluate, energy_fn, space, listed.neighbors, rows, limits)
    unknown = jax.tree.map(lambda leaf: jnp.full(leaf.shape, jnp.inf, leaf.dtype), shapes)
    point = Point(rows, jnp.full((), jnp.inf, rows.dtype), jnp.zeros_like(rows))
    state = minimizer.init(point, limits.max_step)
    history = jnp.zeros((capacity, 3), rows.dtype)
    none = jnp.zeros((), jnp.int32)
    return Descent(state, point, unknown._replace(point=point), none, none, none, history, none)


@functools.partial(jax.jit, static_argnames="minimizer")
def descend(
    energy_fn: EnergyFn,
    space: Space,
    listed: Listed,
    descent: Descent,
    limits: Limits,
    *,
    minimizer: Minimizer,
) -> tuple[Descent, Float[Array, "rows 3"]]:
    """Go on until the tolerances are met, nothing helps any more, or the host is needed.

    Returns:
        The descent, and the coordinates that it wants to try next.
    """

    def proposed(descent: Descent) -> Array:
        return minimizer.propose(descent.state, descent.point, limits.max_step)

    def one(descent: Descent) -> Descent:
        rows = proposed(descent)
        trial = evaluate(energy_fn, space, listed.neighbors, rows, limits)
        after = _digest(minimizer, limits, descent, trial)
        stale = _stale(space, listed, rows)
        unchanged = descent._replace(status=jnp.full_like(descent.status, STALE))
        return jax.tree.map(lambda a, b: jnp.where(stale, a, b), unchanged, after)

    descent = descent._replace(status=jnp.full_like(descent.status, RUNNING))
    descent = jax.lax.while_loop(
        lambda d: (d.status == RUNNING) & (d.done < limits.evaluations), one, descent
    )
    return descent, proposed(descent)


def _digest(minimizer: Minimizer, limits: Limits, descent: Descent, trial: Evaluated) -> Descent:
    noise = _noise(trial.point)
    state, point = minimizer.digest(
        descent.state, descent.point, trial.point, noise, limits.max_step
    )
    best, since = _better(descent, trial, noise)
    history = descent.history.at[descent.filled].set(_row(trial))
    filled = descent.filled + 1
    status = jnp.where(filled == len(history), FULL, RUNNING)
    status = jnp.where(since >= limits.patience, STALLED, status)
    status = jnp.where(jnp.isfinite(best.measure), status, BROKEN)
    status = jnp.where(best.measure <= 1.0, CONVERGED, status).astype(jnp.int32)
    return Descent(state, point, best, since, descent.done + 1, filled, history, status)


def _better(descent: Descent, trial: Evaluated, noise: Array) -> tuple[Evaluated, Array]:
    """The best point so far: lowest, and among those that rounding cannot tell apart most at rest.

    Progress is a lower value, or a measure that falls by a hundredth.
    """
    best = descent.best
    lower = trial.point.value < best.point.value - noise
    level = trial.point.value <= best.point.value + noise
    calmer = level & (trial.measure < best.measure)
    progress = lower | (level & (trial.measure < 0.99 * best.measure))
    finite = jnp.isfinite(trial.point.value) & jnp.isfinite(trial.measure)
    kept = jax.tree.map(lambda a, b: jnp.where(finite & (lower | calmer), a, b), trial, best)
    return kept, jnp.where(finite & progress, 0, descent.since + 1).astype(jnp.int32)


def _noise(point: Point) -> Float[Array, ""]:
    """What rounding may leave uncertain of a value in eV; kernels sum large terms that cancel.

    Within it gradients decide, so that more than need be does no harm.
    """
    scale = jnp.maximum(jnp.abs(point.value), float(len(point.x)))
    return jnp.maximum(500.0 * jnp.finfo(point.x.dtype).eps * scale, 1e-7)


def _row(found: Evaluated) -> Array:
    return jnp.stack([found.point.value, found.max_force, found.max_stress])


def _stale(space: Space, listed: Listed, rows: Array) -> Bool[Array, ""]:
    """Whether pairs could be missing from the list at these coordinates.

    A pair within a cutoff c was at most :math:`|A| (c + 2 d)` apart when the list was built, where
    d is the farthest move of an atom apart from the cell and A undoes the strain since then; with
    a fixed cell this is the usual half of the skin.
    """
    neighbors = listed.neighbors
    if neighbors is None or not neighbors.cutoffs:
        return jnp.zeros((), bool)
    atoms = space.system.atom_count
    moved, norm = rows[:atoms] - listed.rows[:atoms], 1.0
    if space.cell != "fixed":
        deform, before = _deformation(space, rows), _deformation(space, listed.rows)
        moved = moved @ deform
        undo = _inverse(deform) @ before - jnp.eye(3, dtype=rows.dtype)
        norm = 1.0 + jnp.sqrt(jnp.sum(undo**2))
    far = jnp.sqrt(jnp.max(jnp.sum(moved**2, axis=-1)))
    cutoffs, skins = jnp.asarray(neighbors.cutoffs), jnp.asarray(neighbors.skins)
    return ~jnp.all(norm * (cutoffs + 2.0 * far) <= cutoffs + skins)  # NaN counts as stale
