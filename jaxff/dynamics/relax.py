"""Relaxation of atoms and cells to a minimum: :func:`relax`."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxff import units
from jaxff.dynamics import descent as loop
from jaxff.dynamics.minimizers import Fire, Lbfgs, Minimizer
from jaxff.neighbors import NeighborListFns, lists_to_keep
from jaxff.potential import EnergyFn, as_pytree
from jaxff.system import System
from jaxff.types import Array, Float

__all__ = ["Relaxation", "relax"]

_CAPACITY = 500  # evaluations between two looks of the host
_MINIMIZERS = {"lbfgs": Lbfgs(), "fire": Fire()}
_PATIENCE = {"lbfgs": 60, "fire": 300}


@dataclass(frozen=True)
class Relaxation:
    """The best geometry that a relaxation found, and how it got there.

    Attributes:
        system: The relaxed system.
        energy: Its energy in eV.
        forces: Its forces in eV/Å; zero on fixed atoms.
        stress: Its stress in eV/Å³, positive under tension; ``None`` where the cell was fixed.
        converged: Whether the tolerances were met.
        reason: Why it stopped: ``"converged"``, ``"step limit"``, or ``"no further progress"``,
            where the precision of the energy function allows no better.
        steps: Evaluations of energy and forces after the first.
        max_force: Largest force on an atom in eV/Å.
        max_stress: Largest component of stress plus external pressure in GPa, of what may relax.
        energies: Energy (plus pressure times volume) of each evaluation in eV.
        max_forces: Largest force of each evaluation in eV/Å.
    """

    system: System
    energy: float
    forces: Float[np.ndarray, "atoms 3"]
    stress: Any
    converged: bool
    reason: str
    steps: int
    max_force: float
    max_stress: float | None
    energies: Float[np.ndarray, " evaluations"]
    max_forces: Float[np.ndarray, " evaluations"]

    def __str__(self) -> str:
        stress = "" if self.max_stress is None else f", stress {self.max_stress:.2g} GPa"
        return (
            f"{self.reason} after {self.steps} steps: largest force {self.max_force:.2g} "
            f"eV/Å{stress}, energy {self.energy:.8g} eV"
        )


def relax(
    energy_fn: EnergyFn,
    system: System,
    *,
    optimizer: str | Minimizer = "lbfgs",
    max_force: float = 1e-3,
    max_steps: int = 1000,
    cell: str = "fixed",
    max_stress: float = 0.01,
    pressure: float = 0.0,
    fixed: Any = None,
    max_step: float = 0.2,
    patience: int | None = None,
    neighbors: NeighborListFns | None = None,
    progress: Callable[[int, float, float], None] | None = None,
) -> Relaxation:
    """Relax atoms, and if asked the cell, to a minimum of the energy (enthalpy under pressure).

    All steps are compiled together. The result is the best state seen, never a worse later one; a
    relaxation that rounding keeps from its tolerances ends by itself and says what it reached. The
    precision is that of ``system.positions``.

    Args:
        energy_fn: Energy function of ``(system, neighbors)``.
        system: A single system; positions in Å.
        optimizer: ``"lbfgs"``, ``"fire"``, or a minimiser with its own settings.
        max_force: Largest force in eV/Å that any atom may keep.
        max_steps: Evaluations of energy and forces after the first.
        cell: ``"fixed"``; ``"full"`` strains the cell without turning it, along its periodic
            directions; ``"isotropic"`` scales it.
        max_stress: Largest component in GPa that stress and external pressure may leave together.
        pressure: External pressure in GPa, for a cell periodic in all three directions.
        fixed: True for each atom that stays (in a relaxing cell: keeps its fractional coordinates).
        max_step: Farthest that an atom moves in one step, in Å.
        patience: Evaluations without progress after which it ends; by default 60 (300 for FIRE).
        neighbors: How to build pair lists, with a positive skin; by default
            ``neighbor_list(energy_fn.cutoffs, skin=1.0)`` where the potential has cutoffs.
        progress: Called with evaluations, energy and largest force whenever the host looks.

    Raises:
        ValueError: If arguments contradict each other or the system is no single system.
        FloatingPointError: If energy or forces of the first geometry are not finite.

    Reference:
        Tadmor et al., Phys. Rev. B 59, 235 (1999), doi:10.1103/PhysRevB.59.235 (strain as a
        coordinate of the relaxation).
    """
    if system.batch_shape or system.is_packed:
        raise ValueError("relax takes a single system, got a stack or a pack")
    for name, value in (
        ("max_force", max_force),
        ("max_stress", max_stress),
        ("max_step", max_step),
    ):
        if not 0 < value < float("inf"):
            raise ValueError(f"{name} must be positive and finite, got {value}")
    if max_steps < 0:
        raise ValueError(f"max_steps must not be negative, got {max_steps}")
    minimizer = _MINIMIZERS.get(optimizer) if isinstance(optimizer, str) else optimizer
    if minimizer is None:
        raise ValueError(f"optimizer must be one of {sorted(_MINIMIZERS)}, got {optimizer!r}")
    if patience is None:
        patience = _PATIENCE.get(optimizer, 300) if isinstance(optimizer, str) else 300
    space = _space(system, cell, pressure, fixed)
    kind = system.positions.dtype
    limits = loop.Limits(
        jnp.asarray(max_force, kind),
        jnp.asarray(max_stress * units.GIGAPASCAL, kind),
        jnp.asarray(max_step, kind),
        jnp.asarray(patience, jnp.int32),
        jnp.asarray(max_steps + 1, jnp.int32),
    )
    lists = lists_to_keep(getattr(energy_fn, "cutoffs", ()), neighbors)
    found, history = _run(as_pytree(energy_fn), space, lists, limits, minimizer, progress)
    return _result(space, found, history)


def _space(system: System, cell: str, pressure: float, fixed: Any) -> loop.Space:
    if cell not in ("fixed", "isotropic", "full"):
        raise ValueError(f"cell must be 'fixed', 'isotropic' or 'full', got {cell!r}")
    atoms, kind = system.atom_count, system.positions.dtype
    stays = np.zeros(atoms, bool) if fixed is None else np.asarray(fixed)
    if stays.shape != (atoms,) or stays.dtype != bool:
        raise ValueError(
            f"fixed must be True or False for each of {atoms} atoms, got {stays.dtype} of shape "
            f"{stays.shape}"
        )
    projector, scale = np.eye(3), 1.0
    pbc = np.zeros(3, bool) if system.pbc is None else np.asarray(system.pbc)
    if cell != "fixed":
        if not pbc.any():
            raise ValueError(f"cell={cell!r} needs a periodic system, got pbc {pbc.tolist()}")
        vectors = np.asarray(system.cell, np.float64)
        basis = np.linalg.qr(vectors[pbc].T)[0]
        projector = basis @ basis.T
        # A strain moves atoms by about their spacing, and there are as many of them as add up.
        scale = np.sqrt(atoms) * (abs(np.linalg.det(vectors)) / atoms) ** (1 / 3)
        if not scale > 0:
            raise ValueError(
                "a cell that relaxes needs a volume: give directions that do not repeat a lattice "
                "vector, too"
            )
    if pressure and (cell == "fixed" or not pbc.all()):
        raise ValueError(
            f"an external pressure needs cell='full' or 'isotropic' and a system periodic in all "
            f"directions, got cell={cell!r}, pbc {pbc.tolist()}"
        )
    return loop.Space(
        system,
        jnp.asarray(~stays & (np.asarray(system.numbers) > 0), kind),
        jnp.asarray(projector, kind),
        jnp.asarray(scale, kind),
        jnp.asarray(pressure * units.GIGAPASCAL, kind),
        cell,
    )


def _run(
    energy_fn: EnergyFn,
    space: loop.Space,
    lists: NeighborListFns | None,
    limits: loop.Limits,
    minimizer: Minimizer,
    progress: Callable[[int, float, float], None] | None,
) -> tuple[loop.Descent, np.ndarray]:
    """Drive the compiled loop: build pair lists, collect the history."""
    rows = space.system.positions
    if space.cell != "fixed":
        rows = jnp.concatenate([rows, jnp.zeros((3, 3), rows.dtype)])
    listed = _list(lists, space, rows, None)
    found = loop.begin(energy_fn, space, listed, limits, minimizer=minimizer, capacity=_CAPACITY)
    history = []
    while int(found.status) in (loop.RUNNING, loop.STALE, loop.FULL):
        if int(found.done) >= int(limits.evaluations):
            break
        found, pending = loop.descend(energy_fn, space, listed, found, limits, minimizer=minimizer)
        if progress is not None:
            best = found.best
            progress(int(found.done) - 1, float(best.point.value), float(best.max_force))
        if int(found.status) == loop.STALE:
            listed = _list(lists, space, pending, listed)
        if int(found.status) == loop.FULL:
            history.append(np.asarray(found.history))
            found = found._replace(filled=jnp.zeros_like(found.filled))
    if int(found.status) == loop.BROKEN:
        raise FloatingPointError(
            "energy or forces of the initial geometry are not finite: check its positions and that "
            "the potential knows its elements"
        )
    history.append(np.asarray(found.history)[: int(found.filled)])
    return found, np.concatenate(history)


def _list(
    lists: NeighborListFns | None, space: loop.Space, rows: Array, old: loop.Listed | None
) -> loop.Listed:
    if lists is None:
        return loop.Listed(None, rows)
    found = lists.allocate(loop.place(space, rows))
    if old is not None:
        # Buffers of the old length where they have room: another length would be compiled again.
        both = zip(found.pairs, old.neighbors.pairs, strict=True)
        found = replace(found, pairs=tuple(new.resized(len(last.centers)) for new, last in both))
    return loop.Listed(found, rows)


def _result(space: loop.Space, found: loop.Descent, history: np.ndarray) -> Relaxation:
    best = found.best
    reason = {loop.CONVERGED: "converged", loop.STALLED: "no further progress"}
    relaxing = space.cell != "fixed"
    return Relaxation(
        system=loop.place(space, best.point.x),
        energy=float(best.energy),
        forces=np.asarray(best.forces),
        stress=np.asarray(best.stress) if relaxing else None,
        converged=int(found.status) == loop.CONVERGED,
        reason=reason.get(int(found.status), "step limit"),
        steps=int(found.done) - 1,
        max_force=float(best.max_force),
        max_stress=float(best.max_stress) / units.GIGAPASCAL if relaxing else None,
        energies=history[:, 0],
        max_forces=history[:, 1],
    )
