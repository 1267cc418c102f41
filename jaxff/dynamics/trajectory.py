"""Trajectories in memory, and the exact state at their end."""

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from jaxtyping import UInt32

from jaxff.dynamics.observables import temperature
from jaxff.types import Float, Int

__all__ = ["Restart", "Trajectory", "join"]


@dataclass(frozen=True)
class Restart:
    """The exact state of a run: continuing from it gives the same numbers as not stopping.

    Attributes:
        step: Steps done.
        numbers: Atomic numbers.
        positions: Positions in Å.
        velocities: Velocities in Å/fs.
        key: Random key data.
        ensemble: Name of the ensemble.
        timestep: Time step in fs.
        leaves: Arrays of the integrator's state.
        cell: Cell in Å from which the strain in the state counts, or ``None``.
        list_positions: Positions in Å at which the neighbour list was built; ``None`` without one.
        list_strain: Strain of the cell then, where it moves.
        plan: How the list is laid out, as JSON; empty without one.
    """

    step: int
    numbers: Int[np.ndarray, "*replicas atoms"]
    positions: Float[np.ndarray, "*replicas atoms 3"]
    velocities: Float[np.ndarray, "*replicas atoms 3"]
    key: UInt32[np.ndarray, "*replicas words"]
    ensemble: str
    timestep: float
    leaves: tuple[np.ndarray, ...]
    cell: Any = None
    list_positions: Any = None
    list_strain: Any = None
    plan: str = ""

    def take(self, index: Any) -> "Restart":
        """The state of one replica (an integer), or of several, from which they go on alone.

        Raises:
            ValueError: If it is that of a single run.
        """
        if self.positions.ndim != 3:
            raise ValueError("this is the state of a single run: there are no replicas to take")
        held = {name: getattr(self, name) for name in _OF_REPLICAS}
        taken = {n: None if v is None else np.asarray(v[index]) for n, v in held.items()}
        return replace(self, **taken, leaves=tuple(np.asarray(x[index]) for x in self.leaves))


_OF_REPLICAS = (
    "numbers", "positions", "velocities", "key", "cell", "list_positions", "list_strain",
)  # fmt: skip
"""Fields of a restart that have a leading axis for replicas."""


@dataclass(frozen=True)
class Trajectory:
    """Frames of a run, on the host, and the state at its end.

    Arrays of several replicas have one more leading axis; :meth:`replica` takes one out.

    Attributes:
        steps: Step of each frame.
        times: Time in fs.
        positions: Positions in Å, not wrapped into the cell.
        velocities: Velocities in Å/fs.
        forces: Forces in eV/Å.
        potential_energy: Potential energy in eV.
        kinetic_energy: Kinetic energy in eV.
        temperature: Kinetic temperature in K, of ``degrees_of_freedom``.
        numbers: Atomic numbers.
        masses: Masses in amu.
        cell: Lattice vectors as rows in Å, ``(3, 3)``, or ``(frames, 3, 3)`` where the cell moves,
            or ``None``.
        pbc: Periodic directions, or ``None``.
        degrees_of_freedom: What the temperature is divided by; one number for each replica.
        restart: State after the last step.
        half_step_kinetic_energy: Mean of the kinetic energies half a step before and after, in eV:
            its average is that of the ensemble up to the fourth order in the time step.
        conserved_energy: What the ensemble conserves, in eV
            (:meth:`jaxff.dynamics.Ensemble.conserved`).
        shadow_energy: What velocity Verlet conserves to fourth order in the time step, in eV, if
            asked for.
        pressure: Instantaneous pressure in eV/Å³, where the cell moves.
    """

    steps: Int[np.ndarray, " frames"]
    times: Float[np.ndarray, " frames"]
    positions: Float[np.ndarray, "*replicas frames atoms 3"]
    velocities: Float[np.ndarray, "*replicas frames atoms 3"]
    forces: Float[np.ndarray, "*replicas frames atoms 3"]
    potential_energy: Float[np.ndarray, "*replicas frames"]
    kinetic_energy: Float[np.ndarray, "*replicas frames"]
    temperature: Float[np.ndarray, "*replicas frames"]
    numbers: Int[np.ndarray, " atoms"]
    masses: Float[np.ndarray, " atoms"]
    cell: Any
    pbc: Any
    degrees_of_freedom: Any
    restart: Restart
    half_step_kinetic_energy: Any = None
    conserved_energy: Any = None
    shadow_energy: Any = None
    pressure: Any = None

    @property
    def total_energy(self) -> Float[np.ndarray, "*replicas frames"]:
        """Potential and kinetic energy together in eV, which a run at constant energy conserves."""
        return self.potential_energy + self.kinetic_energy

    @property
    def half_step_temperature(self) -> Float[np.ndarray, "*replicas frames"]:
        """Temperature in K of ``half_step_kinetic_energy``."""
        return _temperature(self.half_step_kinetic_energy, self.degrees_of_freedom)

    @property
    def replicas(self) -> int | None:
        """Number of replicas, or ``None`` for a single run."""
        return self.positions.shape[0] if self.positions.ndim == 4 else None

    @property
    def volume(self) -> Any:
        """Volume in Å³ of each frame, or of all if the cell is fixed; ``None`` without a cell."""
        return None if self.cell is None else np.abs(np.linalg.det(self.cell))

    def frame_cell(self, index: int) -> Any:
        """Cell in Å of a frame, or ``None``."""
        if self.cell is None or self.cell.ndim == 2:
            return self.cell
        return self.cell[index]

    def replica(self, index: int) -> "Trajectory":
        """One of several replicas, with its own last state in ``restart``.

        Raises:
            ValueError: If there is no such replica.
        """
        if self.replicas is None or not 0 <= index < self.replicas:
            raise ValueError(f"expected a replica of {self.replicas}, got {index}")
        chosen = {n: getattr(self, n) for n in _PER_FRAME if n not in ("steps", "times")}
        chosen = {n: None if v is None else v[index] for n, v in chosen.items()}
        cell = None if self.cell is None else self.cell[index]
        return replace(
            self,
            **chosen,
            cell=cell,
            degrees_of_freedom=int(self.degrees_of_freedom[index]),
            restart=self.restart.take(index),
        )

    def __len__(self) -> int:
        return len(self.steps)


_PER_FRAME = (
    "steps",
    "times",
    "positions",
    "velocities",
    "forces",
    "potential_energy",
    "kinetic_energy",
    "temperature",
    "half_step_kinetic_energy",
    "conserved_energy",
    "shadow_energy",
    "pressure",
)


def _temperature(kinetic: np.ndarray, freedom: Any) -> Float[np.ndarray, "*replicas frames"]:
    if np.ndim(freedom) == 0:
        return temperature(kinetic, int(freedom))
    return np.stack([temperature(k, int(f)) for k, f in zip(kinetic, freedom, strict=True)])


def join(parts: list[Trajectory]) -> Trajectory:
    """One trajectory from consecutive pieces; everything but the frames is the last piece's."""
    last = {f.name: getattr(parts[-1], f.name) for f in fields(Trajectory)}
    axis = 0 if parts[-1].replicas is None else 1
    names = [n for n in _PER_FRAME if last[n] is not None]
    joined = {
        n: np.concatenate([getattr(p, n) for p in parts], 0 if n in ("steps", "times") else axis)
        for n in names
    }
    if last["cell"] is not None and last["cell"].ndim == axis + 3:
        joined["cell"] = np.concatenate([p.cell for p in parts], axis)
    return Trajectory(**{**last, **joined})
